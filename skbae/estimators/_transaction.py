"""Fits as transactions: checked settings, work on validated rows, one frozen fitted state."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from skbae._version import __version__
from skbae.estimators._checks import check_known, check_range, check_sample_weight
from skbae.estimators._documented import Documented
from skbae.estimators._fitted import (
    DetailsT,
    Fit,
    FittedState,
    RowSummary,
    copied,
    equal,
    stored,
)
from skbae.estimators._plans import SamplerPlans
from skbae.estimators._progress import CALLBACK_STATE, CallbackSupportMixin, with_callbacks
from skbae.estimators._settings import Given, Settings
from skbae.estimators._stream import Stream
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.passes._sources import rows_where
from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows

# Layout of the pickled state; raised when a change makes older files unreadable.
_STATE_FORMAT = 4

SettingsT = TypeVar("SettingsT", bound=Settings)


@cache
def _parameter_names(estimator: Any) -> list[str]:
    """Return the names of the constructor's parameters, which take a while to find out."""
    return list(estimator._get_param_names())


class FitsInTransactions(
    Documented, CallbackSupportMixin, BaseEstimator, Generic[SettingsT, DetailsT]
):
    """An estimator whose fit either succeeds as a whole or leaves it as it was.

    A subclass stores its constructor's parameters, names the class of its settings and the fitted
    attributes that define its reference model, and implements the fit: :meth:`_check_data` and
    :meth:`_fit_rows`.

    Fitted state is written at once, after the computation has succeeded: the public attributes,
    and ``_fitted``, a frozen record of everything else that methods need.
    """

    _settings_class: ClassVar[type[Settings]]
    _plans: ClassVar[SamplerPlans] = SamplerPlans()
    _reference_names: ClassVar[tuple[str, ...]]
    _instead_of_editing: ClassVar[str] = ""

    n_jobs: int | None
    random_state: Any
    verbose: int
    models_: Any
    _fitted: FittedState[DetailsT]

    # -- implemented by families -------------------------------------------------------------------

    @property
    def _takes_missing(self) -> bool:
        """Whether NaN in X means that an entry is missing."""
        return False

    def _check_parameters(self) -> SettingsT:
        """Return the settings: the constructor's parameters, read once and checked."""
        kind: Any = type(self)
        given = Given({name: getattr(self, name) for name in _parameter_names(kind)})
        return self._settings_class.read(type(self).__name__, given, self._plans)  # type: ignore[return-value]

    @abstractmethod
    def _check_data(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        """Check settings against the size of the data, before any work is done."""

    def _check_warm_start(self, settings: SettingsT, n_features: int) -> None:
        """Raise ValueError unless a fit with these settings can continue from the fitted model."""

    def _make_rows(
        self, settings: SettingsT, X: Any, weights: Array | None, runner: RowRunner
    ) -> Rows:
        """Return validated rows with their mean and scale; a family may add other statistics."""
        return make_rows(X, weights)

    @abstractmethod
    def _fit_rows(
        self, settings: SettingsT, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[DetailsT]:
        """Fit the models to rows; return the fitted attributes and details."""

    # -- fit -----------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the models to rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite rows; float32 is kept as such. Mixtures and PCA take NaN for missing entries,
            which are assumed to be missing at random. With ``model_temperature=0`` they read tables
            on disk, such as memory maps, piece by piece.
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
            X = self._rows_to_fit(settings, X)
            settings = settings.of_rows(X)
            self._work_on(settings, X, sample_weight, self._fit_rows, self._check_before_fit)
        return self

    def _check_before_fit(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        self._check_data(settings, n_rows, n_features)
        if self._continues(settings):
            self._check_warm_start(settings, n_features)

    def _continues(self, settings: SettingsT) -> bool:
        """Return whether a fit continues from the fitted model (``warm_start=True``)."""
        return settings.warm_start and hasattr(self, "models_")

    def _rows_to_fit(self, settings: SettingsT, X: Any) -> Any:
        """Return validated rows, as an array or a RowSource."""
        finite = "allow-nan" if self._takes_missing else True
        return self._validated(X, ensure_min_samples=2, ensure_all_finite=finite)

    def _validated(self, X: Any, **kwargs: Any) -> NDArray[Any]:
        """Return rows as a dense, finite array of float64 or float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # a sum may overflow in a quick check
            return validate_data(self, X, dtype=[np.float64, np.float32], **kwargs)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Restore the estimator if anything is raised within, KeyboardInterrupt included."""
        before = vars(self).copy()
        try:
            with own_errors():
                yield
        except BaseException as error:
            self.__dict__.clear()
            self.__dict__.update(before)
            if isinstance(error, np.linalg.LinAlgError):
                raise ValueError(
                    f"{type(self).__name__} cannot be fitted to X, since a matrix is singular up "
                    f"to rounding ({error}); scale columns of X that are very large or small, and "
                    "drop those that are functions of others"
                ) from error
            raise

    def _work_on(
        self,
        settings: SettingsT,
        X: Any,
        sample_weight: Any,
        work: Callable[[SettingsT, Rows, np.random.Generator, RowRunner], Fit[DetailsT]],
        check: Callable[[SettingsT, int, int], None],
    ) -> None:
        """Check the data, run `work` on validated rows, and store the fitted state."""
        rng = as_generator(self.random_state)
        with RowRunner(settings.n_threads) as runner:
            rows = self._checked_rows(settings, X, sample_weight, runner, check)
            found = work(settings, rows, rng, runner)
        if settings.samples:
            priors = settings.fitted_priors(rows, found.attributes)
            found = replace(found, attributes={**found.attributes, **priors})
        stream = Stream.begin(rows) if found.stream is None else found.stream
        self._write(
            replace(found, stream=stream),
            (settings.temperature, settings.model_temperature, settings.tilt),
            stream.frame,
            RowSummary.of(X, rows),
        )

    def _checked_rows(
        self,
        settings: SettingsT,
        X: Any,
        sample_weight: Any,
        runner: RowRunner,
        check: Callable[[SettingsT, int, int], None],
    ) -> Rows:
        """Return the rows that count, once they have been checked."""
        weights = check_sample_weight(sample_weight, len(X))
        if weights is not None and not weights.all():
            X, weights = rows_where(X, weights > 0), weights[weights > 0]
        check(settings, *X.shape)
        rows = self._make_rows(settings, X, weights, runner)
        if rows.incomplete:
            check_known(rows, getattr(self, "feature_names_in_", None))
        check_range(rows, getattr(self, "feature_names_in_", None))
        return rows

    def _closed_log_evidence(
        self, X: Any, sample_weight: Any
    ) -> tuple[Callable[[float], float], float] | None:
        """Return the log evidence of rows as a function of ``N / tau``, and N.

        None where it has no closed form.
        """
        return None

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
        attributes = {name: stored(value) for name, value in found.attributes.items()}
        reference = self._copied_reference(attributes)
        details = stored(found.details)
        state = FittedState(*temperatures, frame, summary, details, reference, found.stream)
        self.__dict__.update(attributes, _fitted=state)

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

    # -- persistence --------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "models_")

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
        check_format(type(self), written["format"], written["version"])
        super().__setstate__(state)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # the format is read before the state, whose classes another version may not have
        return empty_estimator, (type(self), _STATE_FORMAT, __version__), self.__getstate__()


def check_format(kind: type, written: Any, version: Any) -> None:
    """Raise ValueError unless this version reads the format in which an estimator was saved."""
    if written == _STATE_FORMAT:
        return
    newer = isinstance(written, int) and written > _STATE_FORMAT
    raise ValueError(
        f"this {kind.__name__} was saved by skbae {version} (state format {written}); skbae "
        f"{__version__} reads format {_STATE_FORMAT}. "
        + ("Update skbae, load" if newer else "Load")
        + " it with the version that saved it, or fit it again."
    )


def empty_estimator(kind: type, written: Any, version: Any) -> Any:
    """Return an estimator without any state, which pickle sets next, if it can be read here."""
    check_format(kind, written, version)
    return object.__new__(kind)
