"""Gibbs sampling with long jumps, and the evidence that comes with it.

Gibbs sweeps (codes given the model, the model given codes) move quickly within a mode and hardly
ever between modes, so that the proportions in which chains sit in modes are an accident of their
starts. Conditionals given the codes of many chains, averaged over relabellings, make a proposal
that covers all modes the chains have found; draws of it are weighted and replace the chains, and
later, once the proposal is fixed, enter as independence Metropolis-Hastings steps between sweeps.
Every such step yields what bridge sampling needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.energies._capabilities import ConjugateEnergy
from skbae.inference.evidence._bridge import bridge_estimate
from skbae.inference.evidence._convergence import split_rhat
from skbae.inference.evidence._verdict import RHAT_LIMIT
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective


@dataclass(frozen=True)
class GibbsPlan:
    """How long to sample: see :func:`sample_conjugate`.

    Attributes
    ----------
    n_burn : int
        Sweeps before the first proposal is made.
    n_conditionals : int
        Conditionals averaged in a proposal, one proposal an island.
    n_rounds : int
        Times the chains are replaced by weighted draws of a proposal.
    n_between : int
        Sweeps after each replacement.
    n_sweeps : int
        Sweeps after the last replacement, whose draws are recorded.
    max_between_jumps : int
        Most sweeps between long jumps (Metropolis-Hastings steps); fewer where these are accepted
        often.
    max_jumps : int
        Most long jumps of a chain.
    max_lengths : int
        How many times `n_sweeps` are made, at most: more than once where chains still disagree.
    n_keep : int
        Models to keep.
    """

    n_burn: int = 100
    n_conditionals: int = 64
    n_rounds: int = 3
    n_between: int = 10
    n_sweeps: int = 600
    max_between_jumps: int = 10
    max_jumps: int = 300
    max_lengths: int = 4
    n_keep: int = 50

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        n_jumps = min(self.n_sweeps // 2 + 1, 2 * self.max_jumps)
        recorded = self.max_lengths * (self.n_sweeps + n_jumps)
        return self.n_burn + self.n_rounds * self.n_between + 1 + recorded


class _Chains:
    """S chains in two islands, and the moves that advance them.

    Islands never exchange draws. Each jumps by the proposal made of the *other*'s conditionals:
    were it its own, chains would sit where their own past had put proposal density, and the bridge
    would underestimate the evidence.
    """

    def __init__(self, objective: Objective, starts: Any, rng: np.random.Generator) -> None:
        self.energy = objective.require(ConjugateEnergy, "Gibbs sampling")
        self.objective, self.temperature, self.rng = objective, objective.temperature, rng
        self.power = objective.power(objective.temperature)
        self.seeds = np.random.SeedSequence(rng.integers(2**32, size=4).tolist())
        self.n_chains = starts.n_models
        half = self.n_chains // 2
        self.islands = (np.arange(half), np.arange(half, self.n_chains))
        self.params = starts
        self.hmaxe, self.log_target, self.conditional = self.visit(starts)

    def visit(self, params: Any) -> tuple[Array, Array, Any]:
        """Return ``Hmaxe``, the log target and the conditionals given fresh codes of models."""
        statistics = self.objective.sweep(params, self.seeds.spawn(1)[0])
        self.visited = statistics
        conditional = self.energy.conditional(statistics, self.temperature)
        log_target = self.energy.log_prior(params) + self.power * statistics.hmaxe
        return statistics.hmaxe, log_target, conditional

    def sweep(self) -> None:
        """Draw models given codes, then codes given models."""
        self.params = self.energy.draw_conditional(self.conditional, self.rng)
        self.hmaxe, self.log_target, self.conditional = self.visit(self.params)

    def scores(self) -> Array:
        """Return the total gradients at the models of the latest sweep, (S, P)."""
        return self.energy.scores(
            self.params, self.visited, self.temperature, self.objective.rows.total
        )

    def _draw(self, proposals: list[Any], sizes: list[int]) -> tuple[Any, Array]:
        """Draw from each proposal so many models; return all with their log densities."""
        parts, densities = [], []
        for proposal, size in zip(proposals, sizes, strict=True):
            which = self.rng.integers(proposal.n_models, size=size)
            drawn = self.energy.draw_conditional(proposal.take(which), self.rng)
            drawn = self.energy.relabel(drawn, self.rng)
            parts.append(drawn)
            densities.append(self._log_density(proposal, drawn))
        return type(parts[0]).concatenate(parts), np.concatenate(densities)

    def _log_density(self, proposal: Any, params: Any) -> Array:
        return log_mean_exp(self.energy.log_conditional(proposal, params), axis=1)

    def _put(self, index: NDArray[np.intp], params: Any, visited: tuple[Array, Array, Any]) -> None:
        hmaxe, log_target, conditional = visited
        self.params = self.params.put(index, params)
        self.conditional = self.conditional.put(index, conditional)
        self.hmaxe[index], self.log_target[index] = hmaxe, log_target

    def replace(self, proposals: list[Any]) -> None:
        """Replace each island by weighted draws of its own proposal."""
        sizes = [max(len(i), p.n_models) for i, p in zip(self.islands, proposals, strict=True)]
        drawn, log_q = self._draw(proposals, sizes)
        hmaxe, log_target, conditional = self.visit(drawn)
        start = 0
        for island, size in zip(self.islands, sizes, strict=True):
            part = slice(start, start + size)
            chosen = start + _resample(log_target[part] - log_q[part], len(island), self.rng)
            visited = (hmaxe[chosen], log_target[chosen], conditional.take(chosen))
            self._put(island, drawn.take(chosen), visited)
            start += size

    def jump(self, proposals: list[Any]) -> tuple[Array, Array, Array]:
        """Make a Metropolis-Hastings step; proposals come from the other island.

        Returns
        -------
        target_ratios, proposal_ratios : ndarrays of shape (S,)
            Log target minus log proposal at the chains and at the proposed models.
        accepted : ndarray of bool of shape (S,)
        """
        crossed = proposals[::-1]
        log_q = np.concatenate(
            [
                self._log_density(proposal, self.params.take(island))
                for proposal, island in zip(crossed, self.islands, strict=True)
            ]
        )
        target_ratios = self.log_target - log_q
        drawn, new_q = self._draw(crossed, [len(island) for island in self.islands])
        hmaxe, log_target, conditional = self.visit(drawn)
        proposal_ratios = log_target - new_q
        accepted = np.log(self.rng.random(self.n_chains)) < proposal_ratios - target_ratios
        index = np.flatnonzero(accepted)
        visited = (hmaxe[index], log_target[index], conditional.take(index))
        self._put(index, drawn.take(index), visited)
        return target_ratios, proposal_ratios, accepted


class _Pool:
    """The latest conditionals, from which proposals are made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Any] = []

    def add(self, conditional: Any, n_chains: int) -> None:
        self.kept = [*self.kept, conditional][-max(1, -(-2 * self.size // n_chains)) :]

    def proposals(self, islands: tuple[NDArray[np.intp], ...]) -> list[Any]:
        """Return one proposal an island, of `size` conditionals if there are so many."""
        made = []
        for island in islands:
            joined = type(self.kept[0]).concatenate([c.take(island) for c in self.kept])
            made.append(joined.take(slice(max(0, joined.n_models - self.size), None)))
        return made


def sample_conjugate(
    objective: Objective,
    starts: Any,
    rng: np.random.Generator,
    *,
    plan: GibbsPlan,
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample ``p(m)`` at T = tau from S starts.

    Parameters
    ----------
    objective : Objective
        Of a ConjugateEnergy, on rows with integer weights, if any; without a tilt, and at a
        temperature T = tau above zero.
    starts : ArrayRecord
        S models, as diverse as possible: the chains, an even number.
    rng : Generator
    plan : GibbsPlan
    on_step : callable or None
        Called with the number of the step and the best ``Hmaxe``; returning true ends the run as
        soon as there is something to report.

    Returns
    -------
    SamplingRun
    """
    chains = _Chains(objective, starts, rng)
    pool = _Pool(plan.n_conditionals)
    step, stopped = 0, False

    def report() -> None:
        nonlocal step, stopped
        step += 1
        if on_step is not None and on_step(step, float(chains.hmaxe.max())):
            stopped = True

    def sweeps(n: int) -> None:
        for _ in range(n):
            chains.sweep()
            pool.add(chains.conditional, chains.n_chains)
            report()
            if stopped:
                break

    sweeps(plan.n_burn)
    # Where the chains' starts led them, whatever its weight: a share of these conditionals stays in
    # the proposals, so that a region that holds little probability is not a trap without exit.
    spread = [p.take(slice(0, plan.n_conditionals // 4)) for p in pool.proposals(chains.islands)]
    for _ in range(plan.n_rounds):
        proposals = _join(pool.proposals(chains.islands), spread)
        chains.replace(proposals)
        sweeps(plan.n_between)
    proposals = _join(pool.proposals(chains.islands), spread)

    # the first jump only tells how often to jump; it is recorded like the others
    jumps = [chains.jump(proposals)]
    report()
    between = int(np.clip(2 / max(jumps[0][2].mean(), 0.01), 2, plan.max_between_jumps))
    between = max(between, plan.n_sweeps // plan.max_jumps)
    n_jumps = max(1, plan.n_sweeps // between)
    quota = min(chains.n_chains, -(-plan.n_keep // n_jumps))
    kept: list[Any] = []
    trace: list[Array] = []
    scores: list[Array] = []
    for length in range(plan.max_lengths):
        if length and (stopped or split_rhat(np.stack(trace, axis=1)) <= RHAT_LIMIT):
            break
        for _ in range(n_jumps):
            for _ in range(between):
                chains.sweep()
                report()
                trace.append(chains.hmaxe)
                scores.append(chains.scores())
            kept.append(chains.params.take(rng.permutation(chains.n_chains)[:quota]))
            if stopped:
                break
            jumps.append(chains.jump(proposals))
            report()
    target, proposed, accepted = (np.stack(parts, axis=1) for parts in zip(*jumps, strict=True))
    bridges = [bridge_estimate(proposed[i].ravel(), target[i]) for i in chains.islands]
    return SamplingRun(
        _thin(type(chains.params).concatenate(kept), plan.n_keep),
        np.stack(trace, axis=1),
        np.stack(scores, axis=1),
        np.array([value for value, _ in bridges]),
        np.array([error for _, error in bridges]),
        float(accepted.mean()),
        stopped,
        "gibbs",
        step,
    )


def _join(first: list[Any], second: list[Any]) -> list[Any]:
    """Join the proposals of each island with others."""
    return [type(a).concatenate([a, b]) for a, b in zip(first, second, strict=True)]


def _thin(params: Any, n: int) -> Any:
    """Return n of the models, evenly spaced in the order they were kept."""
    if params.n_models <= n:
        return params
    return params.take(np.linspace(0, params.n_models - 1, n).round().astype(int))


def _resample(log_weights: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return n indices in proportion to weights (systematic resampling, Kitagawa 1996)."""
    weights = np.exp(log_weights - log_weights.max())
    cumulative = np.cumsum(weights)
    positions = (rng.random() + np.arange(n)) / n * cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, positions), len(weights) - 1)
