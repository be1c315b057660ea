"""What all estimators share: checks, the course of a fit, persistence, averages over models."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skbae._version import __version__
from skbae.energies._base import SmoothBoundEnergy, require
from skbae.energies._capabilities import NoisyEnergy
from skbae.estimators._checks import (
    check_integer,
    check_real,
    check_sample_weight,
)
from skbae.estimators._progress import CALLBACK_STATE, CallbackSupportMixin, with_callbacks
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._random import as_generator
from skbae.operators._tempered import log_mean_exp, tempered_softmax, tilted_mean

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies._base import Energy

# Layout of the pickled state; raised when a change makes older files unreadable.
_STATE_FORMAT = 1


class BayesianAutoEncoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    BaseEstimator,
):
    """Base of the estimators: a family's shell says what is particular about it.

    A subclass stores its constructor's parameters and provides :meth:`_check_family`,
    :meth:`_fit_family`, :meth:`_energy` and :meth:`_parameters`. Fitted state is written in one go,
    after the work has succeeded.
    """

    # -- for the families ----------------------------------------------------------------------

    @abstractmethod
    def _check_family(self, n_rows: int | None, n_features: int | None) -> None:
        """Check the family's parameters; against the data when the numbers are given."""

    @abstractmethod
    def _fit_family(
        self, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> dict[str, Any]:
        """Do the work; return the fitted attributes, ``models_`` among them."""

    @abstractmethod
    def _energy(self) -> Energy:
        """Return the energy as configured at fit."""

    @abstractmethod
    def _parameters(self) -> Any:
        """Return the kept models as the energy's parameters."""

    def _make_rows(self, X: NDArray[Any], weights: Array | None, runner: RowRunner) -> Rows:
        """Bundle validated rows; a family that needs other sums as well may take them along."""
        return make_rows(X, weights)

    # -- fit -----------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the models to rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Dense, finite rows; float32 is kept as such.
        y : Ignored
            Present by convention.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How many rows each row stands for. Weights sum to the number of rows that the posterior
            believes in; weights that sum to one mean one row.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            If a parameter, `X` or `sample_weight` is not allowed, before any work is done, or if
            the data determine no model of the family; the message names the culprit. The
            estimator is then as it was before.
        """
        before = vars(self).copy()
        try:
            self._check_common()
            self._check_family(None, None)
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
            weights = check_sample_weight(sample_weight, len(X))
            given = X
            if weights is not None and not weights.all():
                X, weights = X[weights > 0], weights[weights > 0]
            self._check_family(len(X), X.shape[1])
            rng = as_generator(self.random_state)
            n_threads = None if self.n_jobs is None else effective_n_jobs(self.n_jobs)
            with RowRunner(n_threads) as runner:
                rows = self._make_rows(X, weights, runner)
                if not (np.isfinite(rows.centre).all() and np.isfinite(rows.scale).all()):
                    raise ValueError(
                        "X is too large: its variance overflows. Scale the columns (the largest "
                        f"entry is {np.abs(X).max():.3g})."
                    )
                fitted = self._fit_family(rows, rng, runner)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        for name in [name for name in vars(self) if name.endswith("_") and name in before]:
            if name not in ("n_features_in_", "feature_names_in_"):
                delattr(self, name)
        fitted["_frame"] = rows.frame
        fitted["_fit_temperature"] = float(self.temperature)
        fitted["_fit_model_temperature"] = self._resolved_model_temperature()
        fitted["_fit_tilt"] = float(self.tilt)
        plain = rows if weights is None else make_rows(given, None)
        fitted["_fit_rows"] = (len(given), plain.centre, plain.scale)
        self.__dict__.update(fitted)
        return self

    def _check_common(self) -> None:
        """Check the parameters that all families share."""
        check_real("temperature", self.temperature, at_least=0)
        check_real("model_temperature", self.model_temperature, at_least=0, optional=True)
        tilt = check_real("tilt", self.tilt)
        if tilt <= -1:
            raise ValueError(
                f"tilt must be > -1, got {self.tilt!r}: at -1 and below the best rows' energy "
                "grows without bound as a component collapses onto one of them"
            )
        check_integer("n_models", self.n_models, minimum=1)
        if self.n_jobs is not None and check_integer("n_jobs", self.n_jobs, -(2**31)) == 0:
            raise ValueError("n_jobs must be None or a non-zero integer, got 0")
        if not isinstance(self.verbose, (int, np.integer)):
            raise TypeError(f"verbose must be an integer or a bool, got {self.verbose!r}")
        if not isinstance(self.random_state, (np.random.Generator, np.random.RandomState)):
            as_generator(self.random_state)

    def _resolved_model_temperature(self) -> float:
        """Return tau: `model_temperature`, or `temperature` where that is None."""
        tau = self.temperature if self.model_temperature is None else self.model_temperature
        return float(tau)

    # -- reading rows --------------------------------------------------------------------------

    def _read(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _bound(self, X: NDArray[Any]) -> Any:
        return self._energy().bind(self._parameters(), self._frame, X.dtype)

    def _map(self, function: Any, X: NDArray[Any], chunk_rows: int) -> Any:
        with RowRunner() as runner:
            return runner.map(function, X, chunk_rows)

    def score_samples(self, X: Any) -> Array:
        """Return ``Hmax_T`` of each row, averaged over the kept models in probability.

        At ``temperature=1`` this is the log density (of the posterior predictive, if the models
        were sampled).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, ``log mean_m exp(Hmax_T(x, m))``.
        """
        return self._score_rows(self._read(X), self._fit_temperature)

    def _score_rows(self, X: NDArray[Any], temperature: float) -> Array:
        bound = self._bound(X)
        return self._map(
            lambda chunk: log_mean_exp(bound.hmax(chunk, temperature)), X, bound.chunk_rows
        )

    def _has_density(self) -> bool:
        """Return whether the kept models are densities; continuous codes at T = 0 leave none."""
        return True

    def _require_density(self, method: str) -> None:
        if not self._has_density():
            raise ValueError(
                f"{method} needs a density, which a {type(self).__name__} fitted at temperature=0 "
                "does not have, since its continuous codes are free there; fit it at temperature=1"
            )

    def _density_scores_by_model(self, X: Any, temperature: float = 1.0) -> Array:
        """Return ``Hmax_T`` under each kept model, (S, N): at T = 1 the log density.

        T is that of the comparison, not of the fit. Models without a density score ``-inf``.
        """
        X = self._read(X)
        if not self._has_density():
            return np.full((self._parameters().n_models, len(X)), -np.inf)
        bound = self._bound(X)
        return self._map(lambda chunk: bound.hmax(chunk, temperature).T, X, bound.chunk_rows).T

    def _was_fitted_to(self, X: Any) -> bool:
        """Return whether these are the training rows, in any order, up to rounding."""
        rows = make_rows(self._read(X), None)
        number, centre, scale = self._fit_rows
        rounding = 1e-5 * scale + 1e-6 * np.abs(centre)
        return (
            len(rows.X) == number
            and bool(np.all(np.abs(rows.centre - centre) <= rounding))
            and bool(np.all(np.abs(rows.scale - scale) <= rounding))
        )

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
        values = self.score_samples(X)
        weights = check_sample_weight(sample_weight, len(values))
        return float(tilted_mean(values, weights, 0.0))

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
        X = self._read(X)
        return self._gradient(self._parameters(), X, self._fit_temperature)

    def _gradient(self, params: Any, X: NDArray[Any], temperature: float) -> Array:
        bound = self._energy().bind(params, self._frame, X.dtype)
        smooth = require(bound, SmoothBoundEnergy, "the gradient in x")

        def function(chunk: NDArray[Any]) -> Array:
            hmax, gradient = smooth.hmax_gradient(chunk, temperature)
            return np.einsum("sn,snd->nd", tempered_softmax(hmax, 1.0, axis=0), gradient)

        return self._map(function, X, bound.chunk_rows)

    def denoise(self, X: Any, noise_variance: float) -> NDArray[Any]:
        """Return the expected clean row behind each noisy one, ``E[clean | noisy]``.

        The density at T = 1 is taken as that of clean rows, and the noise as independent and
        normal; then Tweedie's identity holds: the answer is ``x + v grad log p_v(x)``, with ``p_v``
        the density convolved with the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        noise_variance : float
            Variance v of the noise on every feature, not negative.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        variance = check_real("noise_variance", noise_variance, at_least=0)
        X = self._read(X)
        self._require_density("denoise")
        energy = require(self._energy(), NoisyEnergy, "denoise")
        noisy = energy.convolve(self._parameters(), variance)
        moved = X + variance * self._gradient(noisy, X, 1.0)
        return moved.astype(X.dtype, copy=False)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, Any]:
        """Draw rows and their codes from the density at T = 1.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : None, int, RandomState or Generator, default=None
            None draws differently at each call.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        codes : ndarray of shape (n_samples,) or (n_samples, n_codes)
        """
        check_is_fitted(self)
        self._require_density("sample")
        n_samples = check_integer("n_samples", n_samples, minimum=1)
        rng = as_generator(random_state)
        return self._energy().draw(self._parameters(), n_samples, rng)

    # -- scikit-learn's protocols --------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "models_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "models_" in state:
            # a model saved to disk outlives the callbacks of its fit
            for name in CALLBACK_STATE:
                state.pop(name, None)
        state["_skbae_state"] = {"format": _STATE_FORMAT, "version": __version__}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written = state.pop("_skbae_state", {"format": None, "version": "unknown"})
        if written["format"] != _STATE_FORMAT:
            raise ValueError(
                f"this {type(self).__name__} was saved by skbae {written['version']} (state format "
                f"{written['format']}); skbae {__version__} reads format {_STATE_FORMAT}. Load it "
                "with the version that saved it, or fit it again."
            )
        super().__setstate__(state)
