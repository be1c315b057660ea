"""Cooling a mixture from one component, which splits where its temperature is critical.

Above the highest critical temperature all components of a mixture are one. As the temperature
falls, components whose critical temperature is above it are split along the direction in which they
are unstable, and expectation maximisation moves the halves apart. Which rows belong together is
decided by the data in this way, and not by where a start happened to be.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import SplittableEnergy
from skbae.inference.optimise._em import expectation_maximisation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skbae._types import Array
    from skbae.energies._capabilities import Splits
    from skbae.inference._objective import Objective

# A component splits if its critical temperature is this far above the temperature, relatively: at
# temperatures that are critical, rounding errors decide.
_MARGIN = 1e-9
# A half with a smaller share of its parent's rows than this has collapsed.
_LEAST_SHARE = 1e-3
# Halves that differ by less, relatively, are one again.
_SAME = 1e-4
# Temperatures below this part of the highest are left out: the next is the lowest.
_COLDEST = 1e-3
# Attempts to find a temperature at which one component is stable.
_MOST_HEATED = 20


@dataclass(frozen=True)
class CoolingPlan:
    """How a mixture is cooled.

    Attributes
    ----------
    ratio : float, default=0.98
        From a critical temperature to the one at which its component is split.
    batch : float, default=1.0
        Components split together if their critical temperatures are at least this part of the
        highest.
    step : float, default=0.5
        By which halves are moved apart, in standard deviations of their component.
    tol : float, default=1e-4
        Of expectation maximisation at each temperature, in nats a row.
    max_iter : int, default=100
        Largest number of its iterations.
    fill : bool, default=False
        Split components at the lowest temperature, critical or not, until there are as many as
        asked for.
    """

    ratio: float = 0.98
    batch: float = 1.0
    step: float = 0.5
    tol: float = 1e-4
    max_iter: int = 100
    fill: bool = False


@dataclass(frozen=True)
class Node:
    """A component on the way down.

    Attributes
    ----------
    parent : int
        The node of which it is a half; -1 for the first.
    begins : float
        Temperature at which the parent was split; infinite for the first.
    critical : float
        Critical temperature where it was split, or where cooling ended.
    ends : float
        Temperature at which it was split; NaN for those that are left in the end.
    component : int
        Its number in the model at the end; -1 if it was split.
    share : float
        Of the rows, where it was split or cooling ended.
    centre : ndarray of shape (D,)
        Mean of its rows there.
    """

    parent: int
    begins: float
    critical: float
    ends: float
    component: int
    share: float
    centre: Array


@dataclass(frozen=True)
class Cooled:
    """Result of cooling.

    Attributes
    ----------
    params : ArrayRecord
        One model, at the lowest temperature.
    objective : float
        Its objective there.
    nodes : tuple of Node
        A node's halves come after it.
    n_passes : float
        Passes over the rows, each weighed by the number of its components.
    """

    params: Any
    objective: float
    nodes: tuple[Node, ...]
    n_passes: float


class _Tree:
    """The tree as it grows: nodes that ended, and the node of each component."""

    def __init__(self) -> None:
        self.parents, self.begins = [-1], [np.inf]
        self.at = [0]
        self.ended: dict[int, tuple[float, float, float, Array]] = {}

    def split(self, component: int, splits: Splits, temperature: float) -> None:
        node = self.at[component]
        self._end(node, component, splits, temperature)
        self.parents += [node, node]
        self.begins += [temperature, temperature]
        first = len(self.parents) - 2
        self.at[component] = first
        self.at.append(first + 1)

    def _end(self, node: int, component: int, splits: Splits, temperature: float) -> None:
        critical, share = float(splits.temperatures[component]), float(splits.shares[component])
        self.ended[node] = critical, temperature, share, splits.centres[component]

    def finish(self, splits: Splits) -> tuple[Node, ...]:
        for component, node in enumerate(self.at):
            self._end(node, component, splits, float("nan"))
        nodes = []
        for node, (parent, begins) in enumerate(zip(self.parents, self.begins, strict=True)):
            critical, ends, share, centre = self.ended[node]
            component = self.at.index(node) if node in self.at else -1
            nodes.append(Node(parent, begins, critical, ends, component, share, centre))
        return tuple(nodes)


@dataclass
class _Cooling:
    """A mixture on the way down, as an objective of its present number of components."""

    objective: Objective
    params: Any
    plan: CoolingPlan
    value: float = float("nan")
    n_passes: float = 0.0

    @property
    def size(self) -> int:
        """Number of components."""
        return int(self.params.weights.shape[1])

    def settle(self, temperature: float) -> Splits:
        """Fit at a temperature, and return where components split."""
        energy = self.objective.require(SplittableEnergy, "cooling").resized(self.size)
        objective = replace(self.objective, energy=energy, temperature=temperature)
        found = expectation_maximisation(
            objective,
            self.params,
            tol=self.plan.tol,
            max_iter=self.plan.max_iter,
            dtype=np.float64,
        )
        self.params, self.value = found.params, float(found.objective[0])
        rows = objective.rows
        self.n_passes += (float(found.n_iter[0]) + 1.0) * self.size
        X = rows.X.astype(np.float64, copy=False)
        return energy.critical_splits(self.params, X, rows.weights, rows.frame, temperature)

    def try_to_settle(self, temperature: float) -> Splits | None:
        """Return None if components have collapsed, otherwise as :meth:`settle`."""
        try:
            return self.settle(temperature)
        except ValueError:
            return None


def cool(
    objective: Objective,
    params: Any,
    n_components: int,
    *,
    temperatures: Sequence[float] | None = None,
    plan: CoolingPlan | None = None,
) -> Cooled:
    """Cool a mixture of one component to the objective's temperature.

    Parameters
    ----------
    objective : Objective
        Of a SplittableEnergy; without a tilt.
    params : ArrayRecord
        One model of one component.
    n_components : int
        Largest number of components.
    temperatures : sequence of float or None, default=None
        Decreasing temperatures on the way; None stands for those just below critical ones.
    plan : CoolingPlan or None, default=None

    Returns
    -------
    Cooled
    """
    plan = CoolingPlan() if plan is None else plan
    lowest, tree = objective.temperature, _Tree()
    state = _Cooling(objective, params, plan)
    if temperatures is None:
        temperature, splits = _heat(state, lowest)
        course = None
    else:
        course = [*temperatures, lowest]
        temperature = course.pop(0)
        splits = state.settle(temperature)
    coldest, whole = _COLDEST * temperature, frozenset[int]()
    while True:
        ready = _ready(splits, temperature, plan, fill=plan.fill and temperature <= lowest)
        ready = [k for k in ready if tree.at[k] not in whole][: n_components - state.size]
        if ready:
            before, grown = replace(state), deepcopy(tree)
            for component in ready:
                state.params = splits.halves[component](state.params, plan.step)
                grown.split(component, splits, temperature)
            after = state.try_to_settle(temperature)
            failed = ready if after is None else _not_apart(after, splits, ready)
            if after is None or failed:
                whole |= {tree.at[k] for k in failed}
                state.params, state.value = before.params, before.value
            else:
                tree, splits = grown, after
            continue
        if temperature <= lowest:
            return Cooled(state.params, state.value, tree.finish(splits), state.n_passes)
        whole = frozenset()
        if course is not None:
            temperature = course.pop(0)
        elif state.size == n_components:
            temperature = lowest
        else:
            below = plan.ratio * min(float(splits.temperatures.max()), temperature)
            temperature = lowest if below < coldest else max(lowest, below)
        splits = state.settle(temperature)


def _heat(state: _Cooling, lowest: float) -> tuple[float, Splits]:
    """Return a temperature at which the one component is stable, and where it splits."""
    temperature = max(lowest, 2.0 * state.objective.rows.X.shape[1])
    for _ in range(_MOST_HEATED):
        splits = state.settle(temperature)
        critical = float(splits.temperatures[0])
        if critical < temperature:
            break
        temperature = 1.05 * critical
    return temperature, splits


def _ready(splits: Splits, temperature: float, plan: CoolingPlan, fill: bool) -> list[int]:
    """Return the components that split, by decreasing critical temperature."""
    critical = splits.temperatures
    order = np.argsort(-critical, kind="stable")
    least = plan.batch * float(critical.max()) * (1 - _MARGIN)
    if not fill:
        least = max(temperature * (1 + _MARGIN), least)
    return [int(k) for k in order if critical[k] >= least and splits.shares[k] > 0]


def _not_apart(after: Splits, before: Splits, components: Sequence[int]) -> list[int]:
    """Return those of the split components whose halves are one again, or of which one is left."""
    failed = []
    first_new = len(before.shares)
    for number, component in enumerate(components):
        pair = [component, first_new + number]
        shares, critical = after.shares[pair], after.temperatures[pair]
        moved = np.abs(np.diff(after.centres[pair], axis=0)).max(initial=0.0)
        size = np.abs(before.centres - before.centres[component]).max()
        lost = shares.min() < _LEAST_SHARE * before.shares[component]
        same = np.ptp(critical) < _SAME * critical.max() and np.ptp(shares) < _SAME * shares.max()
        if lost or (same and moved <= _SAME * max(size, np.abs(before.centres[component]).max())):
            failed.append(component)
    return failed
