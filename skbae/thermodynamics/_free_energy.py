"""Free energy of the models: how ``p(m)`` concentrates as the model temperature falls."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._report import html_report, html_table, number, text_report, text_table
from skbae.estimators._checks import check_real, check_sample_weight
from skbae.estimators._stacklevel import users_stacklevel
from skbae.operators._floating import own_errors
from skbae.thermodynamics._frames import frame
from skbae.thermodynamics._gradient import checked_kind
from skbae.thermodynamics._temperatures import only_around_best, sample_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skbae._types import Array

# Model temperatures of a curve by default.
_N_TEMPERATURES = 10
# Joint errors beyond which neighbouring points contradict each other.
_CONTRADICTION = 4.0
_LEVELS = ("ok", "suspect", "failed")
_TITLE = "Free energy of the models"


@dataclass(frozen=True)
class FreeEnergyCurve:
    """Functionals of a family at falling model temperatures tau, each with a standard error.

    ``F`` below is ``Hmaxe_T``, and ``N`` the sum of the rows' weights.

    Attributes
    ----------
    model_temperatures : ndarray of shape (J,)
        tau, in falling order.
    n_rows : float
        N.
    hmaxemax, hmaxemax_error : ndarrays of shape (J,)
        ``(tau / N) log E_prior[exp((N / tau) F)]``.
    internal_energy, internal_energy_error : ndarrays of shape (J,)
        G, the mean of F over ``p(m)``.
    information_gain, information_gain_error : ndarrays of shape (J,)
        Kullback-Leibler divergence of ``p(m)`` from the prior, ``(N / tau) (G - Hmaxemax)``, in
        nats.
    heat_capacity, heat_capacity_error : ndarrays of shape (J,)
        Of the models: the variance of ``(N / tau) F`` under ``p(m)``.
    status : tuple of {"ok", "suspect", "failed"}
        Of the sampling at each temperature; "suspect", too, where neighbouring points contradict
        each other.
    reasons : tuple of tuple of str
        Why a status is not "ok".
    """

    model_temperatures: Array
    n_rows: float
    hmaxemax: Array
    hmaxemax_error: Array
    internal_energy: Array
    internal_energy_error: Array
    information_gain: Array
    information_gain_error: Array
    heat_capacity: Array
    heat_capacity_error: Array
    status: tuple[str, ...]
    reasons: tuple[tuple[str, ...], ...]

    def integrated(self) -> tuple[Array, Array]:
        """Return differences of ``(N / tau) Hmaxemax`` between neighbours, integrated from G.

        The derivative of the log evidence in ``N / tau`` is G, and that of G the variance of F. So
        the integral of G over an interval is a second estimate of the difference of the log
        evidences at its ends. Between them, ``(N / tau) (G* - G)``, which is smooth, is
        interpolated by a cubic in log tau, with slopes from the heat capacity.

        Returns
        -------
        differences, errors : ndarrays of shape (J - 1,)
            Standard errors are those of sampling; where G changes fast between neighbours, as at a
            transition, the interpolation is worse than these.
        """
        power = self.n_rows / self.model_temperatures
        top = float(self.internal_energy.max())
        energy = power * (top - self.internal_energy)
        slope = energy - self.heat_capacity  # in log power
        step = np.diff(np.log(power))
        mean = 0.5 * (energy[:-1] + energy[1:]) + step / 12 * (slope[:-1] - slope[1:])
        of_ends = power * self.internal_energy_error
        return (
            top * np.diff(power) - step * mean,
            0.5 * step * np.hypot(of_ends[:-1], of_ends[1:]),
        )

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each temperature."""
        names = ("hmaxemax", "internal_energy", "information_gain", "heat_capacity")
        columns: dict[str, Any] = {"model_temperature": self.model_temperatures}
        for name in names:
            columns[name] = getattr(self, name)
            columns[f"{name}_error"] = getattr(self, f"{name}_error")
        return frame({**columns, "status": list(self.status)}, "point")

    def __str__(self) -> str:
        return text_report(_TITLE, *self._verdict(), {}) + "\n" + text_table(self._texts())

    def _repr_html_(self) -> str:
        """Return the curve as HTML, which notebooks show."""
        return html_report(_TITLE, *self._verdict(), {}, html_table(self._texts()))

    def _verdict(self) -> tuple[str, list[str]]:
        """Return the worst status, and the reasons by temperature."""
        reasons = [
            f"tau {number(tau)}: {reason}"
            for tau, each in zip(self.model_temperatures, self.reasons, strict=True)
            for reason in each
        ]
        return max(self.status, key=_LEVELS.index, default="ok"), reasons

    def _texts(self) -> dict[str, list[str]]:
        columns = {"tau": list(map(number, self.model_temperatures))}
        for name, values, errors in (
            ("Hmaxemax", self.hmaxemax, self.hmaxemax_error),
            ("G", self.internal_energy, self.internal_energy_error),
            ("information gain", self.information_gain, self.information_gain_error),
            ("heat capacity", self.heat_capacity, self.heat_capacity_error),
        ):
            columns[name] = list(map(number, values, errors))
        return {**columns, "status": list(self.status)}


@own_errors()
def free_energy_curve(
    estimator: Any, X: Any, model_temperatures: Any = None, sample_weight: Any = None
) -> FreeEnergyCurve:
    """Return Hmaxemax, G, information gain and heat capacity at several model temperatures.

    The models are sampled at each temperature by a fit of its own, with the estimator's settings:
    at the temperature of codes by the family's own sampler, and elsewhere from the modes of that
    temperature, so that no transition between phases has to be passed. High temperatures, at which
    sampling starts from the prior, are visited by one such run, and neighbouring temperatures share
    their searches for modes. Of one Gaussian component all is known in closed form.

    Parameters
    ----------
    estimator : estimator of skbae
        Fitted or not; its settings are used, and it is left as it is. Its sampler must estimate the
        evidence: networks are refused.
    X : array-like of shape (n_samples, n_features)
    model_temperatures : array-like of shape (n_temperatures,) or None, default=None
        Positive numbers. With None, ten from N, where ``p(m)`` knows as much as one row tells, down
        to the estimator's own (that of codes, if its model_temperature is 0), at equal ratios.
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    FreeEnergyCurve

    Raises
    ------
    TypeError
        If it is no estimator of skbae, or its sampler does not estimate the evidence, as that of
        networks and of machines of many units.
    ValueError
        If it has a tilt, or a temperature is not positive.

    Notes
    -----
    ``(N / tau) Hmaxemax`` is a convex function of ``N / tau`` with slope G. Neighbours that break
    this by more than four joint errors are "suspect"; a warning says which.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.thermodynamics import free_energy_curve
    >>> X = np.random.default_rng(0).standard_normal((100, 2))
    >>> model = BayesianGMMAutoEncoder(1, random_state=0)
    >>> curve = free_energy_curve(model, X, [100.0, 10.0, 1.0])
    >>> bool(np.all(np.diff(curve.internal_energy) > 0))  # G rises as the models cool
    True
    >>> bool(np.all(np.diff(curve.information_gain) > 0))
    True
    >>> round(float(curve.heat_capacity[-1]), 1)  # half the number of parameters, 5
    2.5
    """
    kind = checked_kind(estimator, "free_energy_curve")
    settings = kind._check_parameters()
    if only_around_best(kind, settings, *np.shape(X)):
        raise TypeError(
            "free_energy_curve needs a sampler that estimates the evidence, and that of "
            f"{type(kind).__name__} explores the surroundings of one optimum only (of machines, if "
            "they have many units); learning_coefficient serves it"
        )
    if settings.tilt:
        raise ValueError(f"free_energy_curve needs tilt=0, got tilt={settings.tilt:g}")
    weights = check_sample_weight(sample_weight, len(X))
    total = float(len(X) if weights is None else weights.sum())
    taus = _temperatures(settings, model_temperatures, total)
    found = sample_at(kind, X, taus, sample_weight, "free_energy_curve")
    samplings = [each.sampling for each in found]
    power = total / taus
    hmaxemax = np.array([each.log_evidence for each in samplings]) / power
    error = np.array([each.log_evidence_error for each in samplings]) / power
    internal = np.array([each.internal_energy for each in found])
    of_internal = np.array([each.hmaxe_error for each in samplings])
    status, reasons = checked_convexity(
        power,
        (power * hmaxemax, power * error),
        (internal, of_internal),
        [each.status for each in samplings],
        [each.reasons for each in samplings],
    )
    doubtful = [f"{tau:.4g}" for tau, each in zip(taus, status, strict=True) if each != "ok"]
    if doubtful:
        warnings.warn(
            f"free_energy_curve: sampling is not ok at model_temperature={', '.join(doubtful)}; "
            "status and reasons of the curve say why",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    return FreeEnergyCurve(
        taus,
        total,
        hmaxemax,
        error,
        internal,
        of_internal,
        power * (internal - hmaxemax),
        power * np.hypot(of_internal, error),
        power**2 * np.array([each.hmaxe_variance for each in samplings]),
        power**2 * np.array([each.hmaxe_variance_error for each in samplings]),
        status,
        reasons,
    )


def _temperatures(settings: Any, given: Any, total: float) -> Array:
    """Return model temperatures in falling order."""
    if given is not None:
        values = np.array(
            [check_real("model_temperatures", float(each), above=0) for each in given]
        )
        if not len(values):
            raise ValueError("model_temperatures is empty")
        return np.sort(values)[::-1]
    coldest = settings.model_temperature or settings.temperature
    if coldest == 0:
        raise ValueError(
            "the estimator has temperature=0 and model_temperature=0: give model_temperatures, "
            "which must be positive"
        )
    if coldest >= total:
        return np.array([coldest])
    return np.geomspace(total, coldest, _N_TEMPERATURES)


def checked_convexity(
    power: Array,
    log_evidence: tuple[Array, Array],
    internal: tuple[Array, Array],
    status: Sequence[str],
    reasons: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return status and reasons, with those of neighbours that no convex function passes through.

    The difference of two log evidences is between the step in power times G at its ends.

    Parameters
    ----------
    power : ndarray of shape (J,)
        ``N / tau``, increasing.
    log_evidence, internal : pairs of ndarrays of shape (J,)
        Values and standard errors.
    status : sequence of J str
    reasons : sequence of J tuples of str

    Examples
    --------
    >>> import numpy as np
    >>> power, errors = np.array([1.0, 2.0]), np.full(2, 0.01)
    >>> G, ok, none = (np.array([-3.0, -2.0]), errors), ["ok", "ok"], [(), ()]
    >>> checked_convexity(power, (np.array([-4.0, -6.5]), errors), G, ok, none)[0]
    ('ok', 'ok')
    >>> checked_convexity(power, (np.array([-4.0, -5.0]), errors), G, ok, none)[0]
    ('suspect', 'suspect')
    """
    level = [_LEVELS.index(each) for each in status]
    found = [list(each) for each in reasons]
    steps = np.diff(power)
    difference = np.diff(log_evidence[0])
    for j, step in enumerate(steps):
        for end, sign in ((j, 1.0), (j + 1, -1.0)):
            excess = sign * (step * internal[0][end] - difference[j])
            error = np.sqrt(
                (step * internal[1][end]) ** 2
                + log_evidence[1][j] ** 2
                + log_evidence[1][j + 1] ** 2
            )
            if excess <= _CONTRADICTION * error:
                continue
            for point in (j, j + 1):
                level[point] = max(level[point], 1)
                found[point].append(
                    f"log evidences at N / tau = {power[j]:.3g} and {power[j + 1]:.3g} differ by "
                    f"{difference[j]:.4g}, which G = {internal[0][end]:.4g} at {power[end]:.3g} "
                    "rules out"
                )
    return tuple(_LEVELS[each] for each in level), tuple(tuple(each) for each in found)
