"""Codes at several temperatures: their energy, entropy and heat capacity, and what they keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from skbae.estimators._checks import check_choice, check_real, check_sample_weight
from skbae.estimators.pca._estimator import BayesianPCAAutoEncoder
from skbae.operators._floating import own_errors
from skbae.operators._tempered import tilted_mean
from skbae.thermodynamics._frames import ShowsColumns, frame
from skbae.thermodynamics._gradient import checked_kind

if TYPE_CHECKING:
    from skbae._types import Array

# Relative step of the temperature in second differences.
_STEP = 1e-2


@dataclass(frozen=True)
class CodeTemperatureCurve(ShowsColumns):
    """A family's best model at several temperatures T of its codes, in the order given.

    Attributes
    ----------
    temperatures : ndarray of shape (J,)
    hmaxe : ndarray of shape (J,)
        ``Hmaxe_T`` of the model fitted at T.
    code_entropy : ndarray of shape (J,)
        Mean entropy of a row's code, in nats; of a density if codes are continuous, in the units of
        ``transform``.
    code_heat_capacity : ndarray of shape (J,)
        ``T d^2 Hmaxe_T / dT^2`` of the model fitted at T: the mean variance of ``H / T`` over the
        codes of a row. What a continuous code of d dimensions has by itself, d / 2, is left out.
        NaN at T = 0.
    reconstruction_error : ndarray of shape (J,)
        Mean squared difference of rows from their reconstruction, per entry.
    models : tuple of estimators
        The fits.
    """

    temperatures: Array
    hmaxe: Array
    code_entropy: Array
    code_heat_capacity: Array
    reconstruction_error: Array
    models: tuple[Any, ...]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each temperature."""
        return frame(self._columns(), "point")

    def _columns(self) -> dict[str, Any]:
        names = ("hmaxe", "code_entropy", "code_heat_capacity", "reconstruction_error")
        return {
            "temperature": self.temperatures,
            **{name: getattr(self, name) for name in names},
        }


@own_errors()
def code_temperature_curve(
    estimator: Any,
    X: Any,
    temperatures: Any,
    *,
    start: str = "neighbour",
    sample_weight: Any = None,
) -> CodeTemperatureCurve:
    """Fit the best model at several temperatures of codes; return what codes do there.

    Parameters
    ----------
    estimator : estimator of skbae
        Fitted or not; its settings are used, with model_temperature 0, and it is left as it is.
    X : array-like of shape (n_samples, n_features)
    temperatures : array-like of shape (n_temperatures,)
        T >= 0. Their order is that of the fits: rising to heat, falling to cool.
    start : {"neighbour", "scratch"}, default="neighbour"
        Whether each fit goes on from that before it (adiabatically), or begins anew. Families
        without `warm_start` have a single optimum (PCA), or begin anew at each temperature
        (restricted Boltzmann machines, for which "neighbour" is refused).
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    CodeTemperatureCurve

    Notes
    -----
    Heated and cooled curves differ where a transition is of first order (hysteresis). Components of
    a mixture that have merged are equal and stay so when it is cooled: to cool, use
    ``start="scratch"`` with ``annealing="auto"``, which splits components.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.thermodynamics import code_temperature_curve
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[0.0], [4.0]], 100, axis=0) + rng.standard_normal((200, 1))
    >>> model = BayesianGMMAutoEncoder(
    ...     2, covariance_type="tied_spherical", tol=1e-8, max_iter=1000, random_state=0)
    >>> heated = code_temperature_curve(model, X, [0.0, 1.0, 3.0, 6.0])
    >>> bool(np.all(np.diff(heated.code_entropy) >= 0))
    True
    >>> round(float(heated.code_entropy[-1] / np.log(2)), 2)  # one bit: the code tells nothing
    1.0
    """
    kind = checked_kind(estimator, "code_temperature_curve")
    check_choice("start", start, ("neighbour", "scratch"))
    values = np.array(
        [check_real("temperatures", float(each), at_least=0) for each in temperatures]
    )
    if not len(values):
        raise ValueError("temperatures is empty")
    warms = hasattr(kind, "warm_start")
    has_one_optimum = isinstance(kind, BayesianPCAAutoEncoder)
    if start == "neighbour" and not (warms or has_one_optimum):
        raise ValueError(
            f"{type(kind).__name__} cannot go on from an earlier fit (it has no warm_start): set "
            "start='scratch'"
        )
    weights = check_sample_weight(sample_weight, len(X))
    models: list[Any] = []
    for temperature in values:
        model: Any = clone(kind)
        model.set_params(temperature=float(temperature), model_temperature=0.0)
        if warms:
            model.set_params(warm_start=False)
            if start == "neighbour" and models:
                model = _copy_of(models[-1]).set_params(
                    temperature=float(temperature), warm_start=True
                )
        models.append(model.fit(X, sample_weight=sample_weight))
    return CodeTemperatureCurve(
        values,
        np.array([model.hmaxe_ for model in models]),
        np.array([_mean(model.encode(X).entropy(), weights) for model in models]),
        np.array([_heat_capacity(model, X, weights) for model in models]),
        np.array([_error(model, X, weights) for model in models]),
        tuple(models),
    )


def _copy_of(model: Any) -> Any:
    """Return an estimator with the same parameters and fitted state."""
    fresh = clone(model)
    fresh.__dict__.update(vars(model))
    return fresh


def _mean(values: Array, weights: Array | None) -> float:
    return float(tilted_mean(np.asarray(values, dtype=np.float64), weights, 0.0))


def _heat_capacity(model: Any, X: Any, weights: Array | None) -> float:
    """Return ``T d^2 Hmaxe_T / dT^2`` of one model by central differences."""
    temperature = model._fitted.temperature
    if temperature == 0:
        return float("nan")
    X, step = model._read(X), _STEP * temperature
    low, middle, high = (
        _mean(model._hmax_by_model(X, temperature + sign * step)[0], weights) for sign in (-1, 0, 1)
    )
    return temperature * (low - 2 * middle + high) / step**2


def _error(model: Any, X: Any, weights: Array | None) -> float:
    squares = (model._read(X) - model.inverse_transform(model.transform(X))) ** 2
    return _mean(squares.mean(axis=1), weights)
