"""Modes of ``p(m)``, found from several starts, and normal densities fitted to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from skbae._types import Array, ArrayRecord
from skbae.energies._capabilities import ChartedEnergy, Charts
from skbae.inference.sample._normal_fits import NormalFits

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective

# Least curvature of the log density, in units of the prior's: the posterior is hardly ever much
# wider than the prior.
_LEAST_CURVATURE = 0.25
# Step of finite differences, in standard deviations of the prior.
_STEP = 1e-5
# Range of the factor by which differences over a posterior standard deviation may change
# curvatures.
_CORRECTION = (0.25, 4.0)
# Covariances of fits are inflated by 1 + 3 / P, so that the proposal covers heavier tails.
_INFLATION = 3.0
# Up to this many coordinates, the search for a mode is preconditioned by the curvature at the
# start.
_FEW_COORDINATES = 150
# With more coordinates, a start is not followed if its log likelihood is so many nats below the log
# evidence found, or below the largest log likelihood by as many and one for each coordinate: the
# share of its mode is then negligible.
_NEGLIGIBLE = 15.0
# A start whose log density is higher than that of a mode, by more than rounding and the change of
# charts can explain (nats), leads to another mode.
_HIGHER = 1.0
# Largest number of entries of the arrays of a batch of models.
_NUMBERS = 1 << 20


@dataclass(frozen=True)
class ModeStarts(ArrayRecord):
    """Models from which modes are searched, as diverse as possible.

    Attributes
    ----------
    params : ArrayRecord
        S models.
    empty : ndarray of bool of shape (S, B)
        Components that have no rows, and whose posterior is their prior. Models with such
        components can hold most of the probability without having a mode, since the prior is
        spread widely.
    origins : ndarray of int of shape (S,)
        Starts of the same origin, such as a search, do not confirm one another.
    """

    params: Any
    empty: NDArray[np.bool_]
    origins: NDArray[np.intp]

    @classmethod
    def independent(cls, params: Any, empty: NDArray[np.bool_]) -> ModeStarts:
        """Return starts that each have an origin of their own."""
        return cls(params, empty, np.arange(len(empty)))


class SharedStarts:
    """Starts of searches for modes of the same rows, which several model temperatures share.

    What a search has found at one temperature starts searches at its neighbours, too; farther away
    the search is made again, since modes differ.

    Parameters
    ----------
    reach : float
        Ratio of model temperatures up to which starts are shared.
    """

    def __init__(self, reach: float) -> None:
        self.reach = reach
        self._made: list[tuple[float, ModeStarts]] = []

    def at(self, model_temperature: float, make: Callable[[], ModeStarts]) -> ModeStarts:
        """Return the starts of the nearest temperature within reach, or make new ones."""
        ratios = [abs(np.log(tau / model_temperature)) for tau, _ in self._made]
        if not ratios or min(ratios) > np.log(self.reach):
            self._made.append((model_temperature, make()))
            return self._made[-1][1]
        return self._made[int(np.argmin(ratios))][1]


@dataclass(frozen=True)
class Modes:
    """Modes with normal fits.

    Attributes
    ----------
    fits : NormalFits
        One for each of J modes.
    found_once : ndarray of bool of shape (J,)
        Modes that starts of only one of several origins found; if there are any, others may be
        missing.
    n_lost : int
        Searches that ended where the density is not normal in the least, so that no fit represents
        what they led to, though it is not far below the best mode.
    """

    fits: NormalFits
    found_once: NDArray[np.bool_]
    n_lost: int = 0


class LocalTarget:
    """The log density of an energy's models in charts, with its gradient."""

    def __init__(self, objective: Objective, charts: Charts, power: float) -> None:
        self.objective, self.charts, self.power = objective, charts, power

    def __call__(self, local: Array) -> tuple[Array, Array]:
        """Return values (J, n) and gradients (J, n, P) at coordinates (J, n, P)."""
        # models far from the data may overflow; their value is then not finite
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean, gradient = self.objective.value_and_gradient(self.charts.theta_at(local))
            value, total = self.charts.log_prior(local)
            value = value + self.power * mean.reshape(value.shape)
            total = total + self.power * self.charts.pull_back(local, gradient)
        return value, total

    def value(self, local: Array) -> float:
        """Return the log density at one point, (P,), of the only chart."""
        return float(self(local[None, None])[0][0, 0])


@dataclass(frozen=True)
class _FittedMode:
    """A mode and the normal density fitted to it.

    Attributes
    ----------
    params : ArrayRecord
        One model.
    fit : NormalFits
    log_ratio : float
        Log density of the fit minus that of the prior, at the mode.
    log_density : float
        Log density of models at the mode.
    log_evidence : float
        Log of the mode's part of the evidence if the fit were exact (Laplace's method); minus
        infinity where components are empty, since a model far from all rows is then no mode.
    """

    params: Any
    fit: NormalFits
    log_ratio: float
    log_density: float
    log_evidence: float

    def covers(self, theta: Array, log_density: float) -> bool:
        """Return whether a model with this log density is within the bulk of the fit.

        A narrow mode may stand on the slope of a wide one: a model higher than the mode is not of
        it.
        """
        slack = 0.5 * self.fit.n_coordinates
        if not -slack < log_density - self.log_density < _HIGHER:
            return False
        return bool(self.log_ratio - self.fit.log_ratio(theta)[0] < slack)


def curvature(target: LocalTarget, local: Array, free: NDArray[np.intp], steps: Array) -> Array:
    """Return minus the second derivatives along steps of the free coordinates, by differences.

    Parameters
    ----------
    target : LocalTarget
        With a single chart.
    local : ndarray of shape (P,)
    free : ndarray of int of shape (F,)
    steps : ndarray of shape (F, F)
        One step in each row.

    Returns
    -------
    ndarray of shape (F, F)
    """
    chunk = max(1, _NUMBERS // len(local))
    rows = []
    for begin in range(0, len(steps), chunk):
        part = steps[begin : begin + chunk]
        moved = np.tile(local, (2 * len(part), 1))
        moved[: len(part), free] += part
        moved[len(part) :, free] -= part
        gradient = target(moved[None])[1][0][:, free]
        rows.append((gradient[len(part) :] - gradient[: len(part)]) / 2)
    products = np.matmul(np.concatenate(rows), steps.T)
    return 0.5 * (products + products.T)


def _principal_steps(target: LocalTarget, local: Array, free: NDArray[np.intp]) -> Array | None:
    """Return steps (F, F) of one standard deviation along the principal axes of the curvature."""
    raw = curvature(target, local, free, _STEP * np.eye(len(free))) / _STEP**2
    if not np.isfinite(raw).all():
        return None
    values, vectors = np.linalg.eigh(raw)
    return (vectors / np.sqrt(np.maximum(np.abs(values), _LEAST_CURVATURE))).T


def maximise_in_chart(
    target: LocalTarget, start: Array, free: NDArray[np.intp], max_iter: int
) -> Array:
    """Return the mode found from a start, in the coordinates of the only chart, (P,).

    Only free coordinates change. With few coordinates, L-BFGS is preconditioned by the curvature at
    the start.
    """
    axes = None
    if len(free) <= _FEW_COORDINATES:
        axes = _principal_steps(target, start, free)

    def moved(step: Array) -> Array:
        local = start.copy()
        local[free] += step if axes is None else step @ axes
        return local

    def negative_density(step: Array) -> tuple[float, Array]:
        value, gradient = target(moved(step)[None, None])
        own = gradient[0, 0, free]
        if not np.isfinite(value[0, 0]) or not np.isfinite(own).all():
            return 1e100, np.zeros_like(step)
        return -float(value[0, 0]), -own if axes is None else -axes @ own

    found = minimize(
        negative_density,
        np.zeros(len(free)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "ftol": 1e-10, "gtol": 1e-4},
    )
    return moved(found.x)


def fit_covariance(target: LocalTarget, local: Array, free: NDArray[np.intp]) -> Array:
    """Return a covariance (F, F) of the free coordinates that fits the log density about a mode.

    Curvatures are computed by small differences at the mode first, then corrected by differences
    over a posterior standard deviation either way, which include some of the non-quadratic terms.

    Raises
    ------
    FloatingPointError
        If the density has no finite curvature there.
    """
    steps = _principal_steps(target, local, free)
    if steps is None:
        raise FloatingPointError("the density about a mode has no finite curvature")
    wide = curvature(target, local, free, steps)
    values, inner = np.linalg.eigh(np.where(np.isfinite(wide), wide, np.eye(len(free))))
    axes = inner.T @ steps
    axes /= np.sqrt(np.clip(values, *_CORRECTION))[:, None]
    return axes.T @ axes


def _centre(charts: Charts, empty: NDArray[np.bool_]) -> Array:
    """Return the charts' centres (J, P), with empty components (J, B) moved away from all rows."""
    local = charts.centres.copy()
    if empty.any():
        end = charts.n_blocks * charts.block_size
        blocks = local[:, :end].reshape(*empty.shape, charts.block_size)
        blocks[empty] = charts.empty_component()[0]
        local[:, :end] = blocks.reshape(len(local), end)
    return local


def _free(charts: Charts, empty: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the coordinates of components that are not empty (B,), and the shared ones."""
    blocks = np.repeat(~empty, charts.block_size)
    return np.flatnonzero(np.concatenate([blocks, np.ones(charts.n_shared, dtype=bool)]))


@dataclass(frozen=True)
class _Search:
    """Search for modes from starts, with normal fits."""

    objective: Objective
    power: float
    max_iter: int

    @property
    def energy(self) -> ChartedEnergy:
        """The energy."""
        return self.objective.require(ChartedEnergy, "searching for modes")

    def around(self, params: Any) -> LocalTarget:
        """Return the log density in charts around models."""
        return LocalTarget(self.objective, self.energy.charts(params, self.power), self.power)

    def find_mode(self, params: Any, empty: NDArray[np.bool_]) -> tuple[Any, Array]:
        """Return a model and, in the chart around it, the coordinates (P,) of a mode.

        The search is made twice, since the mode depends on the chart: first in the chart around the
        start, then in the chart around the mode found there. The centre of that chart is the mode
        but for lengths that have almost vanished; where this costs more than it gains, the first
        search counts.
        """
        searched: list[tuple[float, Any, Array]] = []
        for _ in range(2):
            target = self.around(params)
            start, free = _centre(target.charts, empty[None])[0], _free(target.charts, empty)
            local = maximise_in_chart(target, start, free, self.max_iter)
            searched.append((target.value(local), params, local))
            params = self.energy.constrain(target.charts.theta_at(local[None, None]))
        (first, *_), (second, *_) = searched
        return searched[int(second > first - _HIGHER)][1:]

    def fit(self, params: Any, local: Array, empty: NDArray[np.bool_]) -> _FittedMode:
        """Fit a normal density; empty components get the moments of their prior.

        Raises
        ------
        FloatingPointError
            If the curvature is not finite, or that of some directions is lost to rounding.
        """
        target = self.around(params)
        charts, free = target.charts, _free(target.charts, empty)
        mean, covariance = local.copy(), np.zeros((len(local), len(local)))
        covariance[np.ix_(free, free)] = fit_covariance(target, local, free)
        if empty.any():
            _, means, variances = charts.empty_component()
            for block in np.flatnonzero(empty):
                part = block * charts.block_size + np.arange(charts.block_size)
                mean[part], covariance[part, part] = means, variances
        covariance *= 1 + _INFLATION / len(free)
        try:
            fit = NormalFits.from_covariances(charts, mean[None], covariance[None])
        except np.linalg.LinAlgError:
            raise FloatingPointError("the density about a mode has no finite curvature") from None
        log_ratio = float(fit.log_ratio(charts.theta_at(local[None, None]))[0])
        log_density = target.value(local)
        log_prior = float(charts.log_prior(local[None, None])[0][0, 0])
        log_evidence = -np.inf if empty.any() else log_density - log_prior - log_ratio
        return _FittedMode(params, fit, log_ratio, log_density, log_evidence)

    def distinct_modes(
        self, starts: ModeStarts, max_modes: int, known_evidence: float
    ) -> tuple[list[tuple[_FittedMode, int]], list[float]]:
        """Return the modes found, best starts first, and from how many origins each was found.

        Also return the log densities of models that no normal density could be fitted to.

        With many coordinates, starts that lead to a negligible share of the log evidence known
        before, or to far less than others do, are left out.
        """
        target = self.around(starts.params)
        local = _centre(target.charts, starts.empty)[:, None]
        values, theta = target(local)[0][:, 0], target.charts.theta_at(local)
        followed = np.isfinite(values)
        n_coordinates = local.shape[2]
        if n_coordinates > _FEW_COORDINATES and followed.any():
            log_likelihoods = values - target.charts.log_prior(local)[0][:, 0]
            highest = log_likelihoods[followed].max()
            least = max(known_evidence, highest - n_coordinates) - _NEGLIGIBLE
            followed &= log_likelihoods >= least
        found: list[_FittedMode] = []
        origins: list[set[int]] = []
        lost: list[float] = []

        def known(theta: Array, log_density: float, origin: int) -> bool:
            for number, mode in enumerate(found):
                if mode.covers(theta, log_density):
                    origins[number].add(origin)
                    return True
            return False

        order = np.argsort(-values, kind="stable")
        for index in order[followed[order]]:
            origin, empty = int(starts.origins[index]), starts.empty[index]
            if known(theta[[index]], values[index], origin):
                continue
            if len(found) == max_modes:
                # the remaining starts are not searched: which modes they would find is unknown
                return [(mode, 1) for mode in found], lost
            model, mode = self.find_mode(starts.params.take([index]), empty)
            around = self.around(model)
            if known(around.charts.theta_at(mode[None, None]), around.value(mode), origin):
                continue
            try:
                found.append(self.fit(model, mode, empty))
            except FloatingPointError:
                lost.append(around.value(mode))
            else:
                origins.append({origin})
        return [(mode, len(its)) for mode, its in zip(found, origins, strict=True)], lost


def find_modes(
    objective: Objective,
    starts: ModeStarts,
    model_temperature: float,
    *,
    max_modes: int = 64,
    max_iter: int = 300,
) -> Modes:
    """Find modes from starts, and fit a normal density to each.

    Parameters
    ----------
    objective : Objective
        Of a ChartedEnergy.
    starts : ModeStarts
    model_temperature : float
    max_modes : int
        Largest number of modes with the same number of empty components.
    max_iter : int
        Largest number of steps from each start.

    Returns
    -------
    Modes

    Raises
    ------
    FloatingPointError
        If no start has a finite density, or none leads to a mode.
    """
    search = _Search(objective, objective.power(model_temperature), max_iter)
    modes: list[_FittedMode] = []
    found_once: list[bool] = []
    lost: list[float] = []
    n_empty = starts.empty.sum(axis=1)
    for number in np.unique(n_empty):
        members = starts.take(np.flatnonzero(n_empty == number))
        several = len(np.unique(members.origins)) > 1
        known = max((mode.log_evidence for mode in modes), default=-np.inf)
        found, without_fit = search.distinct_modes(members, max_modes, known)
        lost += without_fit
        for mode, n_origins in found:
            modes.append(mode)
            found_once.append(n_origins == 1 and several)
    if not modes:
        raise FloatingPointError("no start leads to a mode of finite density and curvature")
    models = type(starts.params).concatenate([mode.params for mode in modes])
    first, *others = (mode.fit for mode in modes)
    charts = search.energy.charts(models, search.power)
    fits = first.with_charts(charts, others)
    least = max(mode.log_density for mode in modes) - fits.n_coordinates - _NEGLIGIBLE
    n_lost = sum(not value < least for value in lost)
    return Modes(fits, np.array(found_once), n_lost)
