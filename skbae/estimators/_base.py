"""Base class of the estimators: codes, scores and draws of fitted models."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED

from skbae.energies._base import SmoothBoundEnergy, require
from skbae.energies._capabilities import IncompleteEnergy, NoisyEnergy, SparseEnergy
from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.estimators._checks import (
    LARGEST,
    check_codes,
    check_integer,
    check_real,
    check_sample_weight,
)
from skbae.estimators._fitted import DetailsT
from skbae.estimators._pieces import by_pieces, sparse_or_as_given
from skbae.estimators._transaction import FitsInTransactions, SettingsT
from skbae.inference.passes._rows import RowRunner
from skbae.operators._floating import own_errors
from skbae.operators._gaps import has_gaps
from skbae.operators._random import as_generator
from skbae.operators._sparse import SparseRows
from skbae.operators._tempered import log_mean_exp, tempered_softmax, tilted_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._base import BoundEnergy, Energy


# Rows further from the centre, in standard deviations of the fit, are computed with in float64.
_FAR = 100.0


class BayesianAutoEncoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    FitsInTransactions[SettingsT, DetailsT],
):
    """Base of the estimators; the subclass of a family provides what differs between families.

    A subclass stores its constructor's parameters, names the classes of its settings and of its
    codes' distributions and the fitted attributes that define its reference model, and implements
    the fit (:meth:`_check_data`, :meth:`_fit_rows`), the energy of fitted models (:meth:`_energy`,
    :meth:`_parameters`) and the computation of codes (:meth:`_transform_rows` and the methods after
    it). The public methods validate input, call these, and cast results to the precision of the
    input.

    The fit itself is that of :class:`~skbae.estimators._transaction.FitsInTransactions`.
    """

    _code_class: ClassVar[type[Distribution]]
    __metadata_request__transform: ClassVar = {"out": UNUSED}  # for no other estimator to pass on

    # -- implemented by families -------------------------------------------------------------------

    @abstractmethod
    def _energy(self) -> Energy:
        """Return the energy as configured at fit."""

    @abstractmethod
    def _parameters(self) -> Any:
        """Return the kept models as the energy's parameters."""

    @abstractmethod
    def _reference(self) -> Any:
        """Return the reference model, that of the fitted attributes, as the energy's parameters."""

    # -- reading rows --------------------------------------------------------------------------

    def _read(self, X: Any) -> NDArray[Any]:
        """Return validated rows, float32 if they were given as float32, otherwise float64."""
        return self._read_within_range(X, ensure_all_finite=True)

    def _read_rows(self, X: Any) -> NDArray[Any]:
        """Return validated rows, with NaN for missing entries where the family takes these."""
        if not self._takes_missing:
            return self._read(X)
        return self._read_within_range(X, ensure_all_finite="allow-nan")

    def _read_within_range(self, X: Any, ensure_all_finite: Any) -> NDArray[Any]:
        self._check_usable()
        X = self._validated(X, reset=False, ensure_all_finite=ensure_all_finite)
        limit = LARGEST / np.sqrt(X.shape[1])
        flat = X.csr.data if isinstance(X, SparseRows) else X.ravel(order="K")
        with np.errstate(over="ignore"):
            total = float(np.dot(flat, flat))
        if total <= limit**2:
            return X  # one pass instead of two
        largest = max(
            float(np.fmax.reduce(flat, initial=0.0)), -float(np.fmin.reduce(flat, initial=0.0))
        )
        if largest > limit:
            raise ValueError(
                "X is too large: squares of rows overflow. Scale the columns (the largest entry is "
                f"{largest:.3g}, and may be {limit:.3g})."
            )
        return X

    def _energy_for(self, X: NDArray[Any]) -> Any:
        """Return the energy for rows X, which may be sparse or have missing entries."""
        energy = self._energy()
        if isinstance(X, SparseRows):
            return require(energy, SparseEnergy, "sparse rows").of_sparse_rows()
        if not (self._takes_missing and has_gaps(X)):
            return energy
        return require(energy, IncompleteEnergy, "missing entries of X").of_incomplete_rows()

    def _precision_for(self, X: NDArray[Any]) -> Any:
        """Return the precision of products with rows: double for float32 rows far from the fit.

        Bounds on rounding errors hold for rows about as far from the centre as those of the fit.
        """
        frame = self._fitted.frame
        if X.dtype == np.float64 or not len(X) or isinstance(X, SparseRows):
            return np.float64
        with np.errstate(over="ignore"):
            far = np.maximum(X.max(axis=0) - frame.centre, frame.centre - X.min(axis=0))
        return X.dtype if np.all(far <= _FAR * frame.scale) else np.float64

    def _bound(self, X: NDArray[Any]) -> BoundEnergy:
        energy = self._energy_for(X)
        return energy.bind(self._parameters(), self._fitted.frame, self._precision_for(X))

    def _map(self, function: Callable[..., Any], X: NDArray[Any], chunk_rows: int) -> Any:
        with RowRunner() as runner:
            return runner.map(function, X, chunk_rows)

    # -- codes ---------------------------------------------------------------------------------

    @by_pieces
    @own_errors()
    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row, at the temperature of the fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table on disk is read piece by piece.
        out : array-like of shape (n_samples, n_codes) or None, default=None
            What the codes are written into, piece by piece, and returned: a memory map, for
            instance.

        Returns
        -------
        ndarray of shape (n_samples, n_codes)
            The Notes of the class say what a code is, and which models it is computed from; float32
            for float32 rows.
        """
        X = self._read_rows(X)
        return self._transform_rows(X).astype(X.dtype, copy=False)

    @own_errors()
    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_codes)
            As from :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            float32 for float32 codes.
        """
        self._check_usable()
        Z = check_codes(Z, self._n_features_out, self)
        return self._expected_rows(Z).astype(Z.dtype, copy=False)

    def _check_reconstructions(self, caller: str) -> None:
        """Raise ValueError if squared errors of reconstructions mean nothing."""

    @own_errors()
    def encode(self, X: Any) -> Distribution:
        """Return the distribution of each row's code, whose mean is that of :meth:`transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        Distribution
            With ``mean``, ``variance``, ``covariance``, ``sample`` and ``entropy`` for each of the
            rows; its class is the family's.
        """
        return self._encode_rows(self._read_rows(sparse_or_as_given(X, self)))

    @own_errors()
    def decode(self, Z: Any) -> DistributionWithDensity:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_codes) or Distribution
            Codes, or the result of :meth:`encode`; in the latter case codes are summed (or
            integrated) out, which gives the distribution of the reconstruction.

        Returns
        -------
        DistributionWithDensity
            With ``mean``, ``variance``, ``covariance``, ``sample``, ``entropy`` and
            ``log_density``.
        """
        self._check_usable()
        if isinstance(Z, self._code_class):
            return self._decode_distribution(Z)
        if isinstance(Z, Distribution):
            raise TypeError(
                f"{type(self).__name__}.decode takes an array of codes or the "
                f"{self._code_class.__name__} that encode returns, got {type(Z).__name__}"
            )
        return self._decode_codes(check_codes(Z, self._n_features_out, self).astype(np.float64))

    @property
    @abstractmethod
    def _n_features_out(self) -> int:
        """Number of columns of :meth:`transform`."""

    @abstractmethod
    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return mean codes (N, n_codes) of rows (N, D)."""

    @abstractmethod
    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        """Return expected rows (N, D) for codes (N, n_codes)."""

    @abstractmethod
    def _encode_rows(self, X: NDArray[Any]) -> Distribution:
        """Return the distribution of the codes of rows (N, D)."""

    @abstractmethod
    def _decode_distribution(self, codes: Any) -> DistributionWithDensity:
        """Return the distribution of rows given the distribution of codes from ``encode``."""

    @abstractmethod
    def _decode_codes(self, Z: Array) -> DistributionWithDensity:
        """Return the distribution of rows given codes (N, n_codes)."""

    # -- scores --------------------------------------------------------------------------------

    @by_pieces
    @own_errors()
    def score_samples(self, X: Any) -> Array:
        """Return ``Hmax_T`` of each row, averaged over the kept models in probability.

        At ``temperature=1`` this is the log density (of the posterior predictive, if the models
        were sampled).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table on disk is read piece by piece.
        out : array-like of shape (n_samples,) or None, default=None
            What the values are written into, piece by piece, and returned.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, ``log mean_m exp(Hmax_T(x, m))``.
        """
        return self._score_rows(self._read_rows(X), self._fitted.temperature)

    def _score_rows(self, X: NDArray[Any], temperature: float) -> Array:
        bound = self._bound(X)
        return self._map(
            lambda chunk: log_mean_exp(bound.hmax(chunk, temperature)), X, bound.chunk_rows
        )

    def _has_density(self) -> bool:
        """Return whether the kept models have a density: with continuous codes, only for T > 0."""
        return True

    def _require_density(self, method: str) -> None:
        if not self._has_density():
            raise ValueError(
                f"{method} needs a density, and a {type(self).__name__} fitted with temperature=0 "
                "has none, since its continuous codes have no prior; fit it with temperature=1"
            )

    def _density_scores_by_model(self, X: Any, temperature: float = 1.0) -> Array:
        """Return ``Hmax_T`` under each kept model, (S, N): at T = 1 the log density.

        `temperature` is T of the comparison, not of the fit. Models without a density score
        ``-inf``.
        """
        X = self._read_rows(X)
        if not self._has_density():
            return np.full((self._parameters().n_models, len(X)), -np.inf)
        return self._hmax_by_model(X, temperature)

    def _hmax_by_model(self, X: NDArray[Any], temperature: float) -> Array:
        """Return ``Hmax_T`` of validated rows under each kept model, (S, N)."""
        bound = self._bound(X)
        return self._map(lambda chunk: bound.hmax(chunk, temperature).T, X, bound.chunk_rows).T

    def _was_fitted_to(self, X: Any) -> bool:
        """Return whether X has the size, mean and scale of the training rows, up to rounding."""
        rows = self._read_rows(X)
        return self._fitted.training_rows is not None and self._fitted.training_rows.describes(rows)

    @own_errors()
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the (weighted) mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        float
        """
        values = np.asarray(self.score_samples(X))
        weights = check_sample_weight(sample_weight, len(values))
        return float(tilted_mean(values, weights, 0.0))

    @own_errors()
    def score_gradient(self, X: Any) -> Array:
        """Return the gradient of :meth:`score_samples` in x (Fisher's identity).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In nats per unit of X; at ``temperature=1`` the score of the density.
        """
        X = self._read_rows(X)
        return self._gradient(self._parameters(), X, self._fitted.temperature)

    def _gradient(self, params: Any, X: NDArray[Any], temperature: float) -> Array:
        bound = self._energy_for(X).bind(params, self._fitted.frame, self._precision_for(X))
        smooth = require(bound, SmoothBoundEnergy, "the gradient in x")

        def function(chunk: NDArray[Any]) -> Array:
            hmax, gradient = smooth.hmax_gradient(chunk, temperature)
            return np.einsum("sn,snd->nd", tempered_softmax(hmax, 1.0, axis=0), gradient)

        return self._map(function, X, bound.chunk_rows)

    @own_errors()
    def denoise(self, X: Any, noise_variance: float) -> NDArray[Any]:
        """Return the expected clean row given each noisy one, ``E[clean | noisy]``.

        Clean rows are assumed to have the density at T = 1, and the noise to be independent and
        normal. By Tweedie's identity the expectation is ``x + v grad log p_v(x)``, with ``p_v``
        the density convolved with the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows. Missing entries, where the family takes them, are replaced by their
            expectation given the noisy known ones.
        noise_variance : float
            Variance v of the noise of every feature, >= 0.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        variance = check_real("noise_variance", noise_variance, at_least=0)
        X = self._read_rows(X)
        self._require_density("denoise")
        energy = require(self._energy(), NoisyEnergy, "denoise")
        noisy = energy.convolve(self._parameters(), variance)
        return self._expected_clean(noisy, X, variance).astype(X.dtype, copy=False)

    def _expected_clean(self, noisy: Any, X: NDArray[Any], variance: float) -> NDArray[Any]:
        """Return ``E[clean | noisy]`` of rows, given models of noisy rows (Tweedie's identity)."""
        return np.asarray(X + variance * self._gradient(noisy, X, 1.0))

    @own_errors()
    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, Any]:
        """Draw rows and their codes from the density at T = 1.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : None, int, RandomState or Generator, default=None
            With None, each call gives different draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        codes : ndarray of shape (n_samples,) or (n_samples, n_codes)
        """
        self._check_usable()
        self._require_density("sample")
        n_samples = check_integer("n_samples", n_samples, minimum=1)
        rng = as_generator(random_state)
        return self._energy().draw(self._parameters(), n_samples, rng)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
