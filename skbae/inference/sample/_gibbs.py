"""Gibbs sampling with independence Metropolis-Hastings steps, and the evidence by bridge sampling.

Gibbs sweeps (codes given the model, the model given codes) move quickly within a mode and rarely
between modes, so that the number of chains in each mode depends on their starts. The conditionals
given the codes of many chains, averaged over relabellings, make a proposal that covers all modes
that the chains have found. First the chains are replaced by weighted draws of the proposal; then
the proposal is fixed, and independence Metropolis-Hastings steps ("jumps") with it alternate with
sweeps. The ratios of target to proposal at these steps are what bridge sampling needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord, SamplingRun
from skbae.energies._capabilities import ConjugateEnergy
from skbae.inference.evidence._bridge import bridge_estimate, importance_estimate
from skbae.inference.evidence._convergence import effective_sample_size, rhat, split_rhat
from skbae.inference.evidence._verdict import RHAT_LIMIT, combine_evidence, joint_error
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective

# Proposals of which importance weights must leave so many effective to tell the evidence.
_LEAST_EFFECTIVE = 50.0
# Proposals that are made anew, since chains have stuck, have so many times the conditionals.
_MORE = 4
# Sweeps between those after which scores are recorded.
_BETWEEN_SCORES = 3
# Sweeps between jumps, if all jumps are accepted.
_BETWEEN = 4.0
# More draws than are needed are made where an effective one takes fewer sweeps than this, and where
# there are fewer effective ones.
_CHEAP, _FEWEST = 10.0, 1000.0
# R-hat of log ratios of target to proposal from which on chains have stuck.
_STICKY = 1.1


@dataclass(frozen=True)
class GibbsPlan:
    """Numbers of sweeps and jumps: see :func:`sample_conjugate`.

    Attributes
    ----------
    n_burn : int
        Number of sweeps before the first proposal is made.
    n_conditionals : int
        Number of conditionals averaged in the proposal of each island.
    n_rounds : int
        How often the chains are replaced by weighted draws of a proposal.
    n_between : int
        Number of sweeps after each replacement.
    n_sweeps : int
        Number of sweeps after the last replacement, whose draws are recorded.
    max_between_jumps : int
        Largest number of sweeps between jumps; it is smaller if jumps are accepted often.
    max_jumps : int
        Largest number of jumps of a chain.
    min_lengths, max_lengths : int
        How often the `n_sweeps` are made at least and at most; in between, again while chains
        disagree, or while the evidence is less certain than `evidence_tol`.
    max_apart : int
        The same limit while chains disagree, if it is larger.
    n_effective : float
        With so many effective draws, `min_lengths` need not be reached.
    max_remakes : int
        How often proposals are made anew, at most, and of more conditionals, after `n_sweeps` in
        which chains stuck where the proposals have too little density.
    evidence_tol : float or None
        Largest error of the log evidence to be content with; None: any.
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
    min_lengths: int = 1
    max_lengths: int = 4
    max_apart: int = 0
    n_effective: float = np.inf
    max_remakes: int = 2
    evidence_tol: float | None = None
    n_keep: int = 50

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        n_jumps = min(self.n_sweeps // 2 + 1, 2 * self.max_jumps)
        recorded = max(self.max_lengths, self.max_apart) * (self.n_sweeps + n_jumps)
        return self.n_burn + self.n_rounds * self.n_between + 1 + recorded


@dataclass(frozen=True)
class GibbsState(ArrayRecord):
    """State of S chains.

    Attributes
    ----------
    params : ArrayRecord
        S models.
    hmaxe : ndarray of shape (S,)
        ``Hmaxe_T`` of the models.
    conditional : ArrayRecord
        ``p(m | X, codes)`` given codes drawn with these models.
    """

    params: Any
    hmaxe: Array
    conditional: Any


@dataclass(frozen=True)
class Jump(ArrayRecord):
    """A Metropolis-Hastings step of S chains.

    Attributes
    ----------
    target_ratios, proposal_ratios : ndarrays of shape (S,)
        Log target minus log proposal at the chains and at the proposed models.
    accepted : ndarray of bool of shape (S,)
    """

    target_ratios: Array
    proposal_ratios: Array
    accepted: NDArray[np.bool_]


@dataclass(frozen=True)
class GibbsMoves:
    """Moves of chains in two islands, from one state to the next.

    Islands never exchange draws. The jumps of each use the proposal made from the conditionals of
    the *other*: with its own, the chains would be where their own past has put proposal density,
    and bridge sampling would underestimate the evidence.

    Attributes
    ----------
    objective : Objective
        Of a ConjugateEnergy, at T = tau and without a tilt.
    islands : tuple of ndarrays of int
        Indices of the chains of each island.
    rng : Generator
    seeds : SeedSequence
        Source of the seeds of passes.
    """

    objective: Objective
    islands: tuple[NDArray[np.intp], NDArray[np.intp]]
    rng: np.random.Generator
    seeds: np.random.SeedSequence

    @classmethod
    def of(cls, objective: Objective, n_chains: int, rng: np.random.Generator) -> GibbsMoves:
        """Return the moves of `n_chains` chains, one half in each island."""
        seeds = np.random.SeedSequence(rng.integers(2**32, size=4).tolist())
        half = n_chains // 2
        return cls(objective, (np.arange(half), np.arange(half, n_chains)), rng, seeds)

    @property
    def energy(self) -> ConjugateEnergy:
        """The energy."""
        return self.objective.require(ConjugateEnergy, "Gibbs sampling")

    def init(self, params: Any) -> GibbsState:
        """Return the state of chains at S models, with codes drawn given these."""
        return self.visit(params)[0]

    def visit(self, params: Any) -> tuple[GibbsState, Any]:
        """Return the state of chains at S models, and the statistics of codes drawn with them."""
        temperature = self.objective.temperature
        statistics = self.objective.sweep(params, self.seeds.spawn(1)[0])
        conditional = self.energy.conditional(statistics, temperature)
        return GibbsState(params, statistics.hmaxe, conditional), statistics

    def log_target(self, state: GibbsState) -> Array:
        """Return ``log prior + (N / T) Hmaxe_T`` of the chains' models, (S,)."""
        power = self.objective.power(self.objective.temperature)
        return self.energy.log_prior(state.params) + power * state.hmaxe

    def step(self, state: GibbsState) -> tuple[GibbsState, Any]:
        """Draw models given codes, then codes given models; return the codes' statistics too."""
        return self.visit(self.energy.draw_conditional(state.conditional, self.rng))

    def scores(self, state: GibbsState, statistics: Any) -> Array:
        """Return the total gradients at the models, given statistics of codes drawn, (S, P)."""
        total, temperature = self.objective.rows.total, self.objective.temperature
        return self.energy.scores(state.params, statistics, temperature, total)

    def _draw(self, proposals: list[Any], sizes: list[int]) -> tuple[Any, Array]:
        """Draw `sizes` models from the proposals; return them with their log densities."""
        parts = [self._proposed(each, size) for each, size in zip(proposals, sizes, strict=True)]
        pairs = zip(proposals, parts, strict=True)
        densities = [self._log_density(proposal, drawn) for proposal, drawn in pairs]
        return type(parts[0]).concatenate(parts), np.concatenate(densities)

    def _proposed(self, proposal: Any, size: int) -> Any:
        """Draw models from a proposal."""
        which = self.rng.integers(proposal.n_models, size=size)
        drawn = self.energy.draw_conditional(proposal.take(which), self.rng)
        return self.energy.relabel(drawn, self.rng)

    def _log_density(self, proposal: Any, params: Any) -> Array:
        return log_mean_exp(self.energy.log_conditional(proposal, params), axis=1)

    def replace(self, state: GibbsState, proposals: list[Any]) -> GibbsState:
        """Replace each island by weighted draws of its own proposal."""
        sizes = [max(len(i), p.n_models) for i, p in zip(self.islands, proposals, strict=True)]
        params, log_q = self._draw(proposals, sizes)
        drawn = self.init(params)
        log_target = self.log_target(drawn)
        start = 0
        for island, size in zip(self.islands, sizes, strict=True):
            part = slice(start, start + size)
            log_weights = log_target[part] - log_q[part]
            chosen = start + systematic_resample(log_weights, len(island), self.rng)
            state = state.put(island, drawn.take(chosen))
            start += size
        return state

    def jump(self, state: GibbsState, proposals: list[Any]) -> tuple[GibbsState, Jump]:
        """Make a Metropolis-Hastings step; proposals come from the other island."""
        log_q, drawn = [], []
        for proposal, island in zip(proposals[::-1], self.islands, strict=True):
            drawn.append(self._proposed(proposal, len(island)))
            both = type(drawn[-1]).concatenate([state.params.take(island), drawn[-1]])
            log_q.append(self._log_density(proposal, both).reshape(2, -1))
        old_q, new_q = np.concatenate(log_q, axis=1)
        there = self.init(type(drawn[0]).concatenate(drawn))
        target_ratios = self.log_target(state) - old_q
        proposal_ratios = self.log_target(there) - new_q
        accepted = np.log(self.rng.random(len(target_ratios))) < (proposal_ratios - target_ratios)
        index = np.flatnonzero(accepted)
        return state.put(index, there.take(index)), Jump(target_ratios, proposal_ratios, accepted)


def sample_conjugate(
    objective: Objective,
    starts: Any,
    rng: np.random.Generator,
    *,
    plan: GibbsPlan,
    on_step: Callable[[int, float], bool] | None = None,
    moves: GibbsMoves | None = None,
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
        Called with the number of the step and the best ``Hmaxe``; returning true ends the run once
        the first draws are recorded.
    moves : GibbsMoves or None, default=None
        Of S chains; None: plain Gibbs moves.

    Returns
    -------
    SamplingRun

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    ValueError
        If the temperature is not positive, or there is a tilt.
    """
    if objective.tilt:
        raise ValueError(f"Gibbs sampling needs tilt=0, got {objective.tilt!r}")
    if moves is None:
        moves = GibbsMoves.of(objective, starts.n_models, rng)
    steps = _Steps(on_step)
    state, proposals, spread = _find_proposals(moves, moves.init(starts), plan, steps)
    # the acceptance of the first jump determines how often to jump; it is recorded like the others
    state, jump = moves.jump(state, proposals)
    steps.report(state)
    between = _BETWEEN / max(float(jump.accepted.mean()), 0.01)
    between = int(min(between, plan.max_between_jumps))
    between = max(between, plan.n_sweeps // plan.max_jumps)
    n_jumps = max(1, plan.n_sweeps // between)
    quota = min(starts.n_models, -(-plan.n_keep // n_jumps))
    jumps, kept = [jump], []
    trace: list[Array] = []
    scores: list[Array] = []
    latest = _Latest(_MORE * plan.n_conditionals, starts.n_models)
    for length in range(max(plan.max_lengths, plan.max_apart)):
        if length and (steps.stopped or (length >= plan.max_lengths and not _disagree(trace))):
            break
        if 0 < length <= plan.max_remakes and _chains_stick(jumps, moves):
            # where chains have stuck, the proposals to come have density
            proposals = _join(latest.proposals(moves.islands), spread)
            jumps = []
        elif length and _is_enough(trace, jumps, moves, plan, length):
            break
        for _ in range(n_jumps):
            for _ in range(between):
                state, statistics = moves.step(state)
                steps.report(state)
                if len(trace) % _BETWEEN_SCORES == 0:
                    scores.append(moves.scores(state, statistics))
                trace.append(state.hmaxe)
            latest.add(state.conditional)
            kept.append(state.params.take(rng.permutation(starts.n_models)[:quota]))
            if steps.stopped and jumps:
                break
            state, jump = moves.jump(state, proposals)
            jumps.append(jump)
            trace[-1] = state.hmaxe  # the recorded draw is the state after the jump
            steps.report(state)
    bridges = _bridges(jumps, moves)
    values, errors = np.array(bridges).T
    estimates = {"bridge": combine_evidence(values, errors)}
    proposed = np.concatenate([each.proposal_ratios for each in jumps])
    value, error, n_effective = importance_estimate(proposed)
    if n_effective >= _LEAST_EFFECTIVE:
        estimates["importance"] = value, error
    return SamplingRun(
        params=thin_models(type(state.params).concatenate(kept), plan.n_keep),
        hmaxe=np.stack(trace, axis=1),
        scores=np.stack(scores, axis=1),
        log_evidence=values,
        log_evidence_error=errors,
        acceptance=float(np.mean([each.accepted for each in jumps])),
        stopped=steps.stopped,
        method="gibbs",
        n_sweeps=steps.number,
        estimates=estimates,
    )


def _bridges(jumps: list[Jump], moves: GibbsMoves) -> list[tuple[float, float]]:
    """Return each island's log evidence and its standard error.

    The error is not below that from the difference of the chains' halves: chains that seldom leave
    a region show in it.
    """
    target = np.stack([each.target_ratios for each in jumps], axis=1)
    proposed = np.stack([each.proposal_ratios for each in jumps], axis=1)
    found, half = [], len(jumps) // 2
    for island in moves.islands:
        value, error = bridge_estimate(proposed[island].ravel(), target[island])
        if half:
            first, second = (
                bridge_estimate(proposed[island, part].ravel(), target[island, part])[0]
                for part in (slice(0, half), slice(half, None))
            )
            error = max(error, 0.5 * abs(first - second))
        found.append((value, error))
    return found


def _is_enough(
    trace: list[Array], jumps: list[Jump], moves: GibbsMoves, plan: GibbsPlan, length: int
) -> bool:
    """Return whether chains agree, and know the evidence as well as they are asked to."""
    if _disagree(trace):
        return False
    if length < plan.min_lengths:
        draws = np.stack(trace, axis=1)
        n_effective = effective_sample_size(draws)
        few = n_effective < _FEWEST or n_effective > draws.size / _CHEAP
        if few and n_effective < plan.n_effective:
            return False
    if plan.evidence_tol is None:
        return True
    values, errors = np.array(_bridges(jumps, moves)).T
    return joint_error(values, errors) <= plan.evidence_tol


def _disagree(trace: list[Array]) -> bool:
    """Return whether chains are further apart than the verdict allows."""
    return rhat(np.stack(trace, axis=1)) > RHAT_LIMIT


def _chains_stick(jumps: list[Jump], moves: GibbsMoves) -> bool:
    """Return whether chains of an island disagree on the ratio of target to proposal."""
    ratios = np.stack([each.target_ratios for each in jumps], axis=1)
    return any(split_rhat(ratios[island]) > _STICKY for island in moves.islands)


class _Steps:
    """Counts steps and reports them to a callback."""

    def __init__(self, on_step: Callable[[int, float], bool] | None) -> None:
        self.on_step, self.number, self.stopped = on_step, 0, False

    def report(self, state: GibbsState) -> None:
        """Report a step."""
        self.number += 1
        if self.on_step is not None and self.on_step(self.number, float(state.hmaxe.max())):
            self.stopped = True


class _Latest:
    """The latest conditionals of chains, about twice as many as a proposal is made from."""

    def __init__(self, size: int, n_chains: int) -> None:
        self.size, self.n_steps = size, max(1, -(-2 * size // n_chains))
        self.conditionals: list[Any] = []

    def add(self, conditional: Any) -> None:
        """Add those of all chains after a step."""
        self.conditionals.append(conditional)
        del self.conditionals[: -self.n_steps]

    def proposals(self, islands: tuple[NDArray[np.intp], ...]) -> list[Any]:
        """Return one proposal for each island, made from its latest conditionals."""
        made = []
        for island in islands:
            parts = [each.take(island) for each in self.conditionals]
            joined = type(parts[0]).concatenate(parts)
            made.append(joined.take(slice(max(0, joined.n_models - self.size), None)))
        return made


def _find_proposals(
    moves: GibbsMoves, state: GibbsState, plan: GibbsPlan, steps: _Steps
) -> tuple[GibbsState, list[Any], list[Any]]:
    """Return the chains after the replacements, one proposal for each island, and early parts.

    Proposals are made from the chains' latest conditionals, and from some of those before the first
    replacement, the early parts: so they also cover regions of little probability that chains
    reached from their starts, and jumps can leave these.
    """
    latest = _Latest(plan.n_conditionals, len(state.hmaxe))

    def sweeps(state: GibbsState, n: int) -> GibbsState:
        for _ in range(n):
            state, _ = moves.step(state)
            latest.add(state.conditional)
            steps.report(state)
            if steps.stopped:
                break
        return state

    state = sweeps(state, plan.n_burn)
    early = latest.proposals(moves.islands)
    spread = [each.take(_every(each.n_models, plan.n_conditionals // 4)) for each in early]
    for _ in range(plan.n_rounds):
        proposals = _join(latest.proposals(moves.islands), spread)
        state = sweeps(moves.replace(state, proposals), plan.n_between)
    return state, _join(latest.proposals(moves.islands), spread), spread


def _every(n: int, m: int) -> NDArray[np.intp]:
    """Return the indices of m of n items, evenly spaced: starts of a kind are adjacent."""
    return np.linspace(0, n - 1, min(n, m)).round().astype(np.intp)


def _join(first: list[Any], second: list[Any]) -> list[Any]:
    """Join the proposals of each island with others."""
    return [type(a).concatenate([a, b]) for a, b in zip(first, second, strict=True)]


def thin_models(params: Any, n: int) -> Any:
    """Return n of the models, evenly spaced in the order they were kept."""
    if params.n_models <= n:
        return params
    return params.take(np.linspace(0, params.n_models - 1, n).round().astype(int))
