"""``Hmaxe`` of restricted Boltzmann machines around a fitted one, whatever the number of units.

Chains of machines move by Langevin steps. What a machine expects is estimated from states that
belong to its chain, and follow it by Gibbs steps. The partition functions of the machines that are
kept are compared with that of the fitted one by annealing states of the latter along the straight
line between both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.inference.evidence._convergence import split_rhat
from skbae.inference.sample._langevin import BatchTarget, LangevinPlan, sample_langevin
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.rbm._energy import RBMEnergy
    from skbae.energies.rbm._visible import RBMParameters

# R-hat of states of the fitted machine from which the comparison of partition functions starts.
_RHAT = 1.1
# Gibbs steps between states from which curvatures are estimated.
_APART = 20
# Largest number of entries of their gradients.
_NUMBERS = 2e7
# Least curvature along a direction, in units of the mean curvature.
_FLATTEST = 1e-3
# Relative error of the temperature of chains that values are corrected for; beyond it, chains run
# again by shorter steps.
_HEAT, _TRIES = 0.25, 2


_CHAINS = LangevinPlan(
    batch_size=512, n_burn=400, n_steps=1800, n_keep=200, step=0.15, friction=2.0
)


@dataclass(frozen=True)
class MachinePlan:
    """Numbers of chains, states and steps.

    Attributes
    ----------
    langevin : LangevinPlan
        Of the chains of machines.
    n_states : int
        States of each chain's machine, and of the fitted one.
    n_settle : int
        Gibbs steps of states of the fitted machine before the first are used.
    n_between : int
        Gibbs steps of the same between machines that they are annealed to.
    n_bridges : int
        Machines on the line from the fitted one to another.
    n_gradients : int
        States from which the curvature at the fitted machine is estimated, at most.
    """

    langevin: LangevinPlan = _CHAINS
    n_states: int = 512
    n_gradients: int = 4096
    n_settle: int = 500
    n_between: int = 5
    n_bridges: int = 16

    def slower(self) -> MachinePlan:
        """Return a plan of shorter steps, more of them, by which noise heats chains less."""
        plan = self.langevin
        langevin = replace(
            plan, step=plan.step / 3, n_burn=3 * plan.n_burn, n_steps=3 * plan.n_steps
        )
        return replace(self, langevin=langevin)


class Steps:
    """A linear map of steps whose target is about standard normal to steps of the coordinates.

    It is symmetric: a root of the inverse of the curvature, of low rank beside a multiple of the
    identity.

    Parameters
    ----------
    gradients : ndarray of shape (C, P)
        Of the log density of states of the fitted machine, whose covariance is the curvature of its
        ``Hmaxe`` at T = 1.
    power : float
        ``N / tau``.
    precision : float
        Of the normal density that holds chains.
    """

    def __init__(self, gradients: Array, power: float, precision: float) -> None:
        centred = (gradients - gradients.mean(axis=0)) / np.sqrt(len(gradients))
        least = _FLATTEST * float((centred**2).sum()) / centred.shape[1]
        _, roots, vectors = np.linalg.svd(centred, full_matrices=False)
        kept = roots**2 > least
        self.vectors = vectors[kept]
        self.other = 1 / np.sqrt(power * least + precision)
        self.more = 1 / np.sqrt(power * roots[kept] ** 2 + precision) - self.other

    def __call__(self, steps: Array) -> Array:
        """Return steps (S, P) of the coordinates; also turns gradients in these into the steps'."""
        return self.other * steps + ((steps @ self.vectors.T) * self.more) @ self.vectors

    def squares(self) -> Array:
        """Return the diagonal of the square of the map, (P,)."""
        inner = self.more**2 + 2 * self.other * self.more
        return np.asarray(self.other**2 + inner @ self.vectors**2)


class HeldMachines(BatchTarget):
    """Machines around a fitted one, under a normal density in place of the prior.

    Coordinates are steps from the fitted machine along directions that are about independent.

    Parameters
    ----------
    energy : RBMEnergy
    rows : Rows
    centre : ndarray of shape (P,)
        Coordinates of the fitted machine.
    steps : Steps
    states : ndarray of shape (S, C, D)
        Of the machine of each chain; those of the fitted one.
    temperature, precision : float
    scale : float
        N / tau.
    """

    def __init__(
        self,
        energy: RBMEnergy,
        rows: Rows,
        centre: Array,
        steps: Steps,
        states: Array,
        temperature: float,
        precision: float,
        scale: float,
    ) -> None:
        self.energy, self.rows, self.states = energy, rows, states
        self.centre, self.steps = centre, steps
        self.temperature, self.precision, self.scale = temperature, precision, scale
        self.n_rows = len(rows.X)
        self._weights = np.ones(self.n_rows) if rows.weights is None else rows.weights
        self._mean_weight = rows.total / self.n_rows

    def estimate(
        self, theta: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return ``Hmaxe`` up to the partition function, and its gradient; move the states."""
        machines = self.machines(theta)
        params = self.energy.constrain(machines)
        for s in range(len(theta)):
            self.states[s] = self.energy.advance(params.take([s]), self.states[s], rng)
        weights = self._weights[index] / (len(index) * self._mean_weight)
        value, gradient = self.energy.contrast_with_states(
            machines, params, self.rows.X[index], weights, self.states, self.temperature
        )
        return value, self.steps(gradient)

    def virial(self, theta: Array, states: Array) -> float:
        """Return ``- theta d(log target)/d theta`` of one machine, the mean over coordinates.

        On average this is the temperature of the chains: 1, but for the noise of gradients and the
        length of steps. `states` must be independent of the chain's own, whose noise it follows.
        """
        machine = self.machines(theta[None])
        _, gradient = self.energy.contrast_with_states(
            machine,
            self.energy.constrain(machine),
            self.rows.X,
            self._weights / self.rows.total,
            states[None],
            self.temperature,
        )
        total = self.scale * self.steps(gradient) + self.prior_gradient(theta[None])
        return -float((theta * total[0]).mean())

    def machines(self, theta: FloatArray) -> Array:
        """Return the energy's coordinates of machines."""
        return self.centre + self.steps(theta)

    def prior_gradient(self, theta: FloatArray) -> Array:
        """Return the gradient of the log of the normal density, (S, P)."""
        return -self.precision * self.steps(self.steps(theta))

    def prior_precision(self) -> Array:
        """Return its precision, (P,)."""
        return self.precision * self.steps.squares()


def unnormalised(params: RBMParameters) -> RBMParameters:
    """Return machines whose partition functions count as one."""
    return replace(params, log_partition=np.zeros(params.n_models))


def values_of_rows(
    energy: RBMEnergy, params: RBMParameters, rows: Rows, temperature: float
) -> Array:
    """Return the mean of ``Hmax_T + log Z`` over rows, (S,)."""
    found = []
    for s in range(params.n_models):
        bound = energy.bind(unnormalised(params.take([s])), rows.frame, np.float64)
        values = bound.hmax(rows.X, temperature)[0]
        found.append(np.average(values, weights=rows.weights))
    return np.array(found)


class States:
    """States of the fitted machine, which go on by Gibbs steps.

    Parameters
    ----------
    energy : RBMEnergy
    rows : Rows
        For their frame.
    theta : ndarray of shape (P,)
        The machine's coordinates.
    states : ndarray of shape (C, D)
    rng : Generator
    """

    def __init__(
        self, energy: RBMEnergy, rows: Rows, theta: Array, states: Array, rng: np.random.Generator
    ) -> None:
        self.energy, self.frame, self.theta, self.rng = energy, rows.frame, theta, rng
        self.states = states
        self.params = energy.constrain(theta[None])
        self.energies: list[Array] = []

    def go_on(self, n_steps: int) -> None:
        """Make Gibbs steps."""
        for _ in range(n_steps):
            self.states = self.energy.advance(self.params, self.states, self.rng)

    def gradients(self, n: int) -> Array:
        """Return gradients of the log density of some n states in the coordinates, (C, P)."""
        found: list[Array] = []
        while sum(map(len, found)) < n:
            self.go_on(_APART)
            found.append(self.energy.log_density_gradients(self.params, self.states))
        return np.concatenate(found)

    def _density(self, params: RBMParameters, states: Array) -> Array:
        return self.energy.bind(unnormalised(params), self.frame, np.float64).hmax(states, 1.0)[0]

    def anneal_to(self, theta: Array, n_bridges: int) -> tuple[float, Array]:
        """Return the log partition function of another machine, less that of this one; and states.

        By annealed importance sampling (Neal 2001) along the line between their coordinates.
        """
        states, log_weights = self.states, np.zeros(len(self.states))
        before = self._density(self.params, states)
        self.energies.append(before)
        for share in np.linspace(0, 1, n_bridges + 1)[1:]:
            params = self.energy.constrain((self.theta + share * (theta - self.theta))[None])
            log_weights += self._density(params, states) - before
            states = self.energy.advance(params, states, self.rng)
            before = self._density(params, states)
        chosen = systematic_resample(log_weights, len(states), self.rng)
        return float(log_mean_exp(log_weights)), states[chosen]

    def doubts(self) -> list[str]:
        """Return a doubt if the states mix too slowly."""
        found = split_rhat(np.stack(self.energies, axis=1))
        if found <= _RHAT:
            return []
        return [
            f"states of the fitted machine mix slowly (R-hat {found:.3g}, limit {_RHAT:g}): ratios "
            "of partition functions are uncertain"
        ]


def values_by_states(
    energy: RBMEnergy,
    rows: Rows,
    theta: Array,
    states: Array,
    temperature: float,
    precision: float,
    power: float,
    rng: np.random.Generator,
    plan: MachinePlan | None = None,
) -> tuple[Array, float, list[str]]:
    """Return ``Hmaxe`` of machines around one, its own, and doubts, all but for its own log Z.

    Parameters
    ----------
    energy : RBMEnergy
    rows : Rows
    theta : ndarray of shape (P,)
        Coordinates of the machine.
    states : ndarray of shape (C, D)
        From which its Gibbs chains start.
    temperature, precision, power : float
        T, the precision that holds chains, and N / tau.
    rng : Generator
    plan : MachinePlan or None

    Returns
    -------
    values : ndarray of shape (chains, draws)
    own : float
    doubts : list of str
    """
    plan = MachinePlan() if plan is None else plan
    chosen = rng.permutation(np.resize(np.arange(len(states)), plan.n_states))
    pool = States(energy, rows, theta, states[chosen], rng)
    pool.go_on(plan.n_settle)
    n_gradients = int(np.clip(_NUMBERS / len(theta), 64, plan.n_gradients))
    steps = Steps(pool.gradients(n_gradients)[:n_gradients], power, precision)
    own = float(values_of_rows(energy, pool.params, rows, temperature)[0])
    for _ in range(_TRIES):
        of_chains = np.repeat(pool.states[None], plan.langevin.n_chains, axis=0)
        target = HeldMachines(energy, rows, theta, steps, of_chains, temperature, precision, power)
        values, heat = _values_and_heat(target, pool, plan, rng)
        if abs(heat - 1) <= _HEAT:
            break
        plan = plan.slower()
    # losses grow with the temperature in proportion, whatever the order of the optimum
    values = own + (values - own) / heat
    doubts = pool.doubts()
    if not abs(heat - 1) <= _HEAT:
        doubts.append(
            f"chains of machines are at temperature {heat:.3g} instead of 1: the noise of what "
            "machines expect heats them"
        )
    return values, own, doubts


def _values_and_heat(
    target: HeldMachines, pool: States, plan: MachinePlan, rng: np.random.Generator
) -> tuple[Array, float]:
    """Run chains; return ``Hmaxe`` of machines (chains, draws) and the chains' temperature."""
    start = np.zeros_like(target.centre)
    run = sample_langevin(target, start, plan.langevin, rng, on_step=lambda *_: False)
    machines = target.machines(run.params)
    params = target.energy.constrain(machines)
    values = values_of_rows(target.energy, params, target.rows, target.temperature)
    virials = np.empty(len(machines))
    for index, machine in enumerate(machines):
        pool.go_on(plan.n_between)
        ratio, found = pool.anneal_to(machine, plan.n_bridges)
        values[index] -= ratio
        virials[index] = target.virial(run.params[index], found)
    return values.reshape(-1, plan.langevin.n_chains).T, float(virials.mean())
