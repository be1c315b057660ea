"""Annealed starts of mixtures: means that rows have settled on while the temperature fell.

Spherical components are cooled from one, which is all rows, and split where their temperature is
critical. They share a variance; where the variances of what results differ much, components with
variances of their own are cooled as well. A fit goes on from both. More components than asked for
are made and merged again, since a component that has split once too often is found easily, and one
that should have split is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.gaussian._mixture import gaussian_mixture
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators._checks import check_real
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._splitting import CoolingPlan, cool
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import distinct_rows

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.energies.gaussian._mixture import GaussianMixtureEnergy
    from skbae.inference.passes._rows import RowRunner

# Rows that are cooled: so many, and so many more for each component.
_ROWS, _ROWS_EACH = 500, 20
# Components that are made, relative to those asked for, and how many more.
_SURPLUS, _MORE = 1.25, 1
# Floor of variances, relative to that of all rows.
_FLOOR = 1e-6
# Components split at half their critical temperature, where halves double their distance in each
# step. A shared variance falls with each split, and critical temperatures rise with it; variances
# of their own are not known well while components are few rows.
_SHARED_PLAN = CoolingPlan(ratio=0.5, batch=0.6, tol=1e-3, max_iter=8, fill=True)
_OWN_PLAN = CoolingPlan(ratio=0.5, batch=0.7, tol=1e-2, max_iter=5, fill=True)
# Starts of warmer fits are cooled to this temperature: components of equal extent in all directions
# have critical temperatures of 1, and must split, too.
_COLDEST = 0.5
# The fit of the components that are left after mergers.
_TOL, _STEPS = 1e-3, 10


@dataclass(frozen=True)
class Annealing:
    """The parameter ``annealing``, checked.

    Attributes
    ----------
    temperatures : tuple of float or None
        Decreasing; None stands for those that are critical.
    """

    temperatures: tuple[float, ...] | None

    @classmethod
    def read(cls, value: Any, temperature: float) -> Annealing | None:
        """Return the parameter as given, checked; None where there is no annealing.

        Raises
        ------
        TypeError, ValueError
            Naming the parameter, what was given and what is allowed.

        Examples
        --------
        >>> Annealing.read([3.0, 2.0], 1.0)
        Annealing(temperatures=(3.0, 2.0))
        >>> Annealing.read([2.0, 3.0], 1.0)
        Traceback (most recent call last):
        ValueError: annealing must decrease to temperature=1 at least, got [2.0, 3.0]
        """
        if value is None:
            return None
        if isinstance(value, str):
            if value != "auto":
                raise ValueError(
                    f"annealing must be None, 'auto' or a list of temperatures, got {value!r}"
                )
            return cls(None)
        try:
            entries = list(value)
        except TypeError as error:
            raise TypeError(
                f"annealing must be None, 'auto' or a list of temperatures, got {value!r}"
            ) from error
        name = "each temperature of annealing"
        given = tuple(check_real(name, each, above=0) for each in entries)
        if not given:
            raise ValueError("annealing must hold a temperature at least, got an empty list")
        if np.any(np.diff(given) >= 0) or given[-1] < temperature:
            raise ValueError(
                f"annealing must decrease to temperature={temperature:g} at least, got {value!r}"
            )
        return cls(given)


def annealed_means(
    annealing: Annealing,
    n_components: int,
    equal_weights: bool,
    temperature: float,
    rows: Rows,
    runner: RowRunner,
) -> Array:
    """Return means (S, K, D) of one start or two.

    Parameters
    ----------
    annealing : Annealing
    n_components : int
    equal_weights : bool
    temperature : float
        T of the fit.
    rows : Rows
    runner : RowRunner
    """
    # of distinct rows, so that weights select the same ones as repeated rows
    distinct = make_rows(*distinct_rows(rows))
    sample = make_rows(*distinct_rows(distinct, _ROWS + _ROWS_EACH * n_components))
    coldest = min(temperature, _COLDEST)
    found = []
    for tied in (True, False):
        spheres = _spheres(1, sample, tied, equal_weights)
        objective = Objective(spheres, sample, runner, coldest)
        means, shares, variances = _cooled(annealing, n_components, spheres, objective)
        found.append(means)
        # what variances of their own gain, against the price of their number (Schwarz 1978)
        size, n_rows = means.shape[2], len(sample.X)
        gain = 0.5 * size * (np.log(shares @ variances) - shares @ np.log(variances))
        if gain <= 0.5 * (len(shares) - 1) * np.log(n_rows) / n_rows:
            break
    return np.concatenate(found)


def _spheres(n: int, rows: Rows, tied: bool, equal_weights: bool) -> GaussianMixtureEnergy:
    """Return the energy of n spherical components."""
    floor = _FLOOR * (float(np.mean(rows.scale**2)) or 1.0)
    kind = "tied_spherical" if tied else "spherical"
    return gaussian_mixture(n, rows.X.shape[1], kind, equal_weights, floor)


def _cooled(
    annealing: Annealing, n_components: int, energy: GaussianMixtureEnergy, objective: Objective
) -> tuple[Array, Array, Array]:
    """Return the means (1, K, D) of a mixture that was cooled, and its components' variances.

    These are those of rows about their component's mean, (k,), with the components' shares of the
    rows before them. `energy`, of one component, is the objective's.
    """
    rows, tied, shape = objective.rows, energy.family.tied, energy.family.shape
    variance = np.full((1, 1), float(np.mean(rows.scale**2)) or 1.0)
    whole = GaussianParameters(rows.centre[None, None], shape.factorise(variance))
    course = annealing.temperatures
    if course is not None and course[-1] == objective.temperature:
        course = course[:-1]
    cooled = cool(
        objective,
        MixtureParameters(np.ones((1, 1)), whole),
        int(np.ceil(_SURPLUS * n_components)) + _MORE if n_components > 1 else 1,
        temperatures=course or None,
        plan=_SHARED_PLAN if tied else _OWN_PLAN,
    ).params
    weights, means, variances = merged(
        cooled.weights[0],
        cooled.components.means[0],
        1.0 / np.square(np.broadcast_to(cooled.components.factors[0], cooled.weights.shape[1:])),
        n_components,
        tied,
    )
    kept = MixtureParameters(
        weights[None],
        GaussianParameters(means[None], shape.factorise(variances[None, : 1 if tied else None])),
    )
    settled = expectation_maximisation(
        replace(objective, energy=energy.resized(len(weights))),
        kept,
        tol=_TOL,
        max_iter=_STEPS,
        dtype=np.float64,
    ).params
    return _completed(settled, n_components), *_own_variances(objective, settled)


def _own_variances(objective: Objective, params: MixtureParameters) -> tuple[Array, Array]:
    """Return the share of each component that has rows, and the variance of these."""
    components, n = params.components, params.weights.shape[1]
    factors = np.broadcast_to(components.factors, params.weights.shape)
    own = MixtureParameters(params.weights, GaussianParameters(components.means, factors))
    spheres = _spheres(n, objective.rows, False, True)
    free = replace(objective, energy=spheres)
    statistics = free.expect(own)
    found = spheres.maximise(statistics, own, objective.temperature).components.factors
    used = statistics.counts > 0
    counts = statistics.counts[used]
    return counts / counts.sum(), 1.0 / np.square(found[used])


def merged(
    weights: Array, means: Array, variances: Array, n_components: int, tied: bool
) -> tuple[Array, Array, Array]:
    """Return spherical components merged in pairs until there are as many as asked for.

    The pair is that whose merger costs least: in squared distance for a shared variance (Ward
    1963), otherwise in log volume (Runnalls 2007).

    Parameters
    ----------
    weights : ndarray of shape (k,)
    means : ndarray of shape (k, D)
    variances : ndarray of shape (k,)
    n_components : int
    tied : bool

    Examples
    --------
    >>> weights, means, _ = merged(
    ...     np.full(3, 1 / 3), np.array([[0.0], [1.0], [9.0]]), np.ones(3), 2, True)
    >>> means.tolist()
    [[0.5], [9.0]]
    """
    weights, means, variances = weights.copy(), means.copy(), variances.copy()
    size = means.shape[1]
    while len(weights) > n_components:
        total = weights[:, None] + weights
        reduced = weights[:, None] * weights / np.where(total > 0, total, 1.0)
        square = ((means[:, None] - means) ** 2).sum(axis=2)
        if tied:
            cost = reduced * square
        else:
            own = weights * variances
            safe = np.where(total > 0, total, 1.0)
            joint = (own[:, None] + own + reduced * square / size) / safe
            logs = weights * np.log(variances)
            cost = total * np.log(np.where(joint > 0, joint, 1.0)) - logs[:, None] - logs
        np.fill_diagonal(cost, np.inf)
        i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
        if total[i, j] > 0:
            means[i] = (weights[i] * means[i] + weights[j] * means[j]) / total[i, j]
            variances[i] = variances[i] if tied else joint[i, j]
        weights[i] = total[i, j]
        weights, variances = np.delete(weights, j), np.delete(variances, j)
        means = np.delete(means, j, axis=0)
    return weights, means, variances


def _completed(params: MixtureParameters, n_components: int) -> Array:
    """Return K means (1, K, D): of components that would not split, several a little apart."""
    means = params.components.means[0]
    deviations = 1.0 / np.broadcast_to(params.components.factors[0], len(means))
    order = np.argsort(-params.weights[0], kind="stable")
    more = []
    for number in range(n_components - len(means)):
        k = order[number % len(order)]
        shift = np.zeros(means.shape[1])
        shift[number % len(shift)] = 0.5 * deviations[k]
        more.append(means[k] + shift)
    return np.concatenate([means, np.reshape(more, (-1, means.shape[1]))])[None]
