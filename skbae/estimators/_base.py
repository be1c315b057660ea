"""Base class of the estimators: fit, codes, scores and persistence."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skbae._version import __version__
from skbae.energies._base import SmoothBoundEnergy, require
from skbae.energies._capabilities import NoisyEnergy
from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.estimators._checks import (
    check_codes,
    check_integer,
    check_real,
    check_sample_weight,
    supports_partial_fit,
)
from skbae.estimators._fitted import (
    DetailsT,
    Fit,
    FittedState,
    RowSummary,
    copied,
    equal,
)
from skbae.estimators._plans import SamplerPlans
from skbae.estimators._progress import CALLBACK_STATE, CallbackSupportMixin, with_callbacks
from skbae.estimators._settings import Given, Settings
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._random import as_generator
from skbae.operators._tempered import log_mean_exp, tempered_softmax, tilted_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows
    from skbae.energies._base import BoundEnergy, Energy

# Layout of the pickled state; raised when a change makes older files unreadable.
_STATE_FORMAT = 3

SettingsT = TypeVar("SettingsT", bound=Settings)


class BayesianAutoEncoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    BaseEstimator,
    Generic[SettingsT, DetailsT],
):
    """Base of the estimators; the subclass of a family provides what differs between families.

    A subclass stores its constructor's parameters, names the classes of its settings and of its
    codes' distributions and the fitted attributes that define its reference model, and implements
    the fit (:meth:`_check_data`, :meth:`_fit_rows`), the energy of fitted models (:meth:`_energy`,
    :meth:`_parameters`) and the computation of codes (:meth:`_transform_rows` and the methods after
    it). The public methods validate input, call these, and cast results to the precision of the
    input.

    Fitted state is written at once, after the computation has succeeded: the public attributes,
    and ``_fitted``, a frozen record of everything else that methods need.
    """

    _settings_class: ClassVar[type[Settings]]
    _code_class: ClassVar[type[Distribution]]
    _plans: ClassVar[SamplerPlans] = SamplerPlans()
    _reference_names: ClassVar[tuple[str, ...]]
    _instead_of_editing: ClassVar[str] = ""

    n_jobs: int | None
    random_state: Any
    verbose: int
    models_: Any
    _fitted: FittedState[DetailsT]

    # -- implemented by families -------------------------------------------------------------------

    def _check_parameters(self) -> SettingsT:
        """Return the settings: the constructor's parameters, read once and checked."""
        given = Given(self.get_params(deep=False))
        return self._settings_class.read(type(self).__name__, given, self._plans)  # type: ignore[return-value]

    @abstractmethod
    def _check_data(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        """Check settings against the size of the data, before any work is done."""

    def _check_warm_start(self, settings: SettingsT, n_features: int) -> None:
        """Raise ValueError unless a fit with these settings can continue from the fitted model."""

    def _make_rows(
        self, settings: SettingsT, X: NDArray[Any], weights: Array | None, runner: RowRunner
    ) -> Rows:
        """Return validated rows with their mean and scale; a family may add other statistics."""
        return make_rows(X, weights)

    @abstractmethod
    def _fit_rows(
        self, settings: SettingsT, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[DetailsT]:
        """Fit the models to rows; return the fitted attributes and details."""

    @abstractmethod
    def _energy(self) -> Energy:
        """Return the energy as configured at fit."""

    @abstractmethod
    def _parameters(self) -> Any:
        """Return the kept models as the energy's parameters."""

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
            How many observations each row counts as. The posterior is that of as many observations
            as the weights sum to: weights that sum to one amount to a single observation.

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            If a parameter, `X` or `sample_weight` is invalid (checked before the computation
            starts), or if no model of the family fits the data; the message names the
            argument. The estimator is left as it was before the call.
        """
        with self._transaction():
            settings = self._check_parameters()
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
            self._work_on(settings, X, sample_weight, self._fit_rows, self._check_before_fit)
        return self

    def _check_before_fit(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        self._check_data(settings, n_rows, n_features)
        if self._continues(settings):
            self._check_warm_start(settings, n_features)

    def _continues(self, settings: SettingsT) -> bool:
        """Return whether a fit continues from the fitted model (``warm_start=True``)."""
        return settings.warm_start and hasattr(self, "models_")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Restore the estimator if anything is raised within, KeyboardInterrupt included."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _work_on(
        self,
        settings: SettingsT,
        X: NDArray[Any],
        sample_weight: Any,
        work: Callable[[SettingsT, Rows, np.random.Generator, RowRunner], Fit[DetailsT]],
        check: Callable[[SettingsT, int, int], None],
    ) -> None:
        """Check the data, run `work` on validated rows, and store the fitted state."""
        given, weights = X, check_sample_weight(sample_weight, len(X))
        if weights is not None and not weights.all():
            X, weights = X[weights > 0], weights[weights > 0]
        check(settings, *X.shape)
        rng = as_generator(self.random_state)
        with RowRunner(settings.n_threads) as runner:
            rows = self._make_rows(settings, X, weights, runner)
            if not (np.isfinite(rows.centre).all() and np.isfinite(rows.scale).all()):
                raise ValueError(
                    "X is too large: its variance overflows. Scale the columns (the largest "
                    f"entry is {np.abs(X).max():.3g})."
                )
            found = work(settings, rows, rng, runner)
        self._write(
            found,
            (settings.temperature, settings.model_temperature, settings.tilt),
            rows.frame,
            RowSummary.of(given, rows),
        )

    def _write(
        self,
        found: Fit[DetailsT],
        temperatures: tuple[float, float, float],
        frame: Frame,
        summary: RowSummary | None,
    ) -> None:
        """Replace the whole fitted state, removing all attributes of an earlier fit."""
        for name in [name for name in vars(self) if name.endswith("_") and name[0] != "_"]:
            if name not in ("n_features_in_", "feature_names_in_"):
                delattr(self, name)
        reference = self._copied_reference(found.attributes)
        state = FittedState(*temperatures, frame, summary, found.details, reference)
        self.__dict__.update(found.attributes, _fitted=state)

    def _adopt(self, found: Fit[DetailsT], frame: Frame, names: Any = None) -> Self:
        """Become the single model that `found` describes, which was fitted to no rows.

        Parameters
        ----------
        found : Fit
            Attributes of the reference model and ``models_``, and details.
        frame : Frame
            Where rows are expected: the mean and standard deviation of the model's density.
        names : array-like of shape (n_features,) or None, default=None
            Names of the columns.
        """
        settings = self._check_parameters()
        self.n_features_in_ = len(frame.centre)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        self._write(found, (settings.temperature, 0.0, settings.tilt), frame, None)
        return self

    def _copied_reference(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return copies of the fitted attributes that define the reference model."""
        names = [name for name in self._reference_names if name in attributes]
        return {name: copied(attributes[name]) for name in names}

    def _check_usable(self) -> None:
        """Raise unless the estimator is fitted, and its attributes are those of the fit."""
        check_is_fitted(self)
        for name, kept in self._fitted.reference.items():
            if not equal(getattr(self, name, None), kept):
                raise ValueError(
                    f"{name} of this {type(self).__name__} has been changed since the fit, but "
                    f"predictions follow models_, not {name}: they would not agree with it. "
                    f"{self._instead_of_editing}Fit again, or restore {name}."
                )

    # -- reading rows --------------------------------------------------------------------------

    def _read(self, X: Any) -> NDArray[Any]:
        """Return validated rows, float32 if they were given as float32, otherwise float64."""
        self._check_usable()
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _bound(self, X: NDArray[Any]) -> BoundEnergy:
        return self._energy().bind(self._parameters(), self._fitted.frame, X.dtype)

    def _map(self, function: Callable[..., Any], X: NDArray[Any], chunk_rows: int) -> Any:
        with RowRunner() as runner:
            return runner.map(function, X, chunk_rows)

    # -- codes ---------------------------------------------------------------------------------

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row, at the temperature of the fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_codes)
            The Notes of the class say what a code is, and which models it is computed from; float32
            for float32 rows.
        """
        X = self._read(X)
        return self._transform_rows(X).astype(X.dtype, copy=False)

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
        return self._encode_rows(self._read(X))

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
        return self._score_rows(self._read(X), self._fitted.temperature)

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
        X = self._read(X)
        if not self._has_density():
            return np.full((self._parameters().n_models, len(X)), -np.inf)
        bound = self._bound(X)
        return self._map(lambda chunk: bound.hmax(chunk, temperature).T, X, bound.chunk_rows).T

    def _was_fitted_to(self, X: Any) -> bool:
        """Return whether X has the size, mean and scale of the training rows, up to rounding."""
        rows = self._read(X)
        return self._fitted.training_rows is not None and self._fitted.training_rows.describes(rows)

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
        return self._gradient(self._parameters(), X, self._fitted.temperature)

    def _gradient(self, params: Any, X: NDArray[Any], temperature: float) -> Array:
        bound = self._energy().bind(params, self._fitted.frame, X.dtype)
        smooth = require(bound, SmoothBoundEnergy, "the gradient in x")

        def function(chunk: NDArray[Any]) -> Array:
            hmax, gradient = smooth.hmax_gradient(chunk, temperature)
            return np.einsum("sn,snd->nd", tempered_softmax(hmax, 1.0, axis=0), gradient)

        return self._map(function, X, bound.chunk_rows)

    def denoise(self, X: Any, noise_variance: float) -> NDArray[Any]:
        """Return the expected clean row given each noisy one, ``E[clean | noisy]``.

        Clean rows are assumed to have the density at T = 1, and the noise to be independent and
        normal. By Tweedie's identity the expectation is ``x + v grad log p_v(x)``, with ``p_v``
        the density convolved with the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        noise_variance : float
            Variance v of the noise of every feature, >= 0.

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
            # callbacks belong to the process that fitted the model: they are not pickled
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


class BatchAutoEncoder(BayesianAutoEncoder[SettingsT, DetailsT]):
    """Base of the estimators with ``partial_fit``."""

    @abstractmethod
    def _fit_batch(
        self,
        settings: SettingsT,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[DetailsT]:
        """Make one pass over rows, starting from the fitted model if there is one."""

    @abstractmethod
    def _check_same_shape(self, settings: SettingsT, n_features: int, what: str) -> None:
        """Raise ValueError unless the fitted model has the shape that the settings describe.

        `what` is the method or parameter that requires it, for the message.
        """

    def _check_warm_start(self, settings: SettingsT, n_features: int) -> None:
        self._check_same_shape(settings, n_features, "warm_start=True")

    def _check_before_batch(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        self._check_data(settings, n_rows, n_features)
        if hasattr(self, "models_"):
            self._check_same_shape(settings, n_features, "partial_fit")

    @available_if(supports_partial_fit)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Make one pass over a batch of rows, starting from the fitted model if there is one.

        Available with ``model_temperature=0`` only, since sampling needs all rows at once. The
        first call (or an earlier ``fit``) determines the centre and scale that later calls use, so
        its rows should be representative. The learning rate is constant, `learning_rate_init`, and
        no rows are held out. Attributes computed on training rows, such as `hmaxe_`, refer to the
        rows of the latest call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`. The estimator is left as it was before the call.
        """
        with self._transaction():
            settings = self._check_parameters()
            first = not hasattr(self, "models_")
            if not first:
                self._check_usable()
            X = validate_data(self, X, reset=first, dtype=[np.float64, np.float32])
            self._work_on(settings, X, sample_weight, self._fit_batch, self._check_before_batch)
        return self
