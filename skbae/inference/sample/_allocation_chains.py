"""Chains of allocations from the modes that searches found, and the models drawn along them.

The chains form two islands that exchange nothing. First, a few chains start at every mode. Modes
between which chains travel are joined into one group. Then every group gets chains of its own. The
weight of a group relative to the others follows from its evidence, not from the chains, which do
not travel between groups.

Within a group, chains would keep the proportions of the modes they started at for a long time. So
they are restarted from visited allocations, in proportion to the known density of these. Where the
posterior is spread over too many allocations for that, they are restarted from the group's modes,
in proportion to an estimate of the modes' masses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skbae._types import Array
from skbae.energies._allocations import Allocations, CollapsedModel, Labels
from skbae.inference.evidence._convergence import split_rhat
from skbae.inference.evidence._visited import KnownAllocations, VisitedSet, fingerprints, log_sum
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_modes import Pool, distances_between
from skbae.operators._draws import systematic_resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae.inference.evidence._unpinning import PinnedModels

# Modes whose log mass is at most this many nats below that of the best are followed: they may be
# wide enough to have as much of the posterior.
_WINDOW = 12.0
# Effective number of visited allocations above which chains are restarted from these.
_FEW = 4.0
# Chains are restarted from visited allocations too if their log mass is at most this many nats
# below the estimated log mass of a mode.
_KNOWN = 1.0
# Two groups are joined if they have visited this share of the lighter one's mass in common.
_SHARED = 0.01
# Share of the rows by which chains may be farther from another mode's chains than these from each
# other, and still have met them.
_CLOSE = 0.02
# Chains from two modes are at the same height within so many nats, or two standard deviations.
_ALIKE = 3.0
# Chains are followed no further once their R-hat is at most this.
_MIXED = 1.03


@dataclass(frozen=True)
class ModeGroup:
    """Modes that chains travel between.

    Attributes
    ----------
    leader : ndarray of int of shape (N,)
        The best allocation.
    states : tuple of ndarrays of int of shape (n_chains, N)
        Where chains of the group may start, by island.
    known : tuple of KnownAllocations
        Visited allocations of the group, by island, among which chains may jump.
    share_known : float
        Share of their later time that chains of one island spend at allocations that the other has
        visited.
    log_mass : float
        Log mass of the leader.
    found_by : tuple of bool
        For each search, whether it found one of the group's modes from which chains come as high
        as from the others.
    """

    leader: Labels
    states: tuple[Labels, Labels]
    known: tuple[KnownAllocations, KnownAllocations]
    share_known: float
    log_mass: float
    found_by: tuple[bool, ...]


@dataclass(frozen=True)
class GroupRun:
    """Records of the chains of a group.

    Attributes
    ----------
    labels : ndarray of int of shape (S, T, N)
        Allocations along the chains; the first half of the chains is one island.
    visited : tuple of VisitedSet
        By island.
    keys : tuple of lists
        See :func:`~skbae.inference.evidence._visited.visited_estimate`.
    hmaxe : ndarray of shape (S, T)
        Of models drawn at each step.
    scores : ndarray of shape (S, T, P)
    params : ArrayRecord
        Models drawn at each step.
    acceptance : float
    log_mass : ndarray of shape (S, T)
    """

    labels: NDArray[np.int16]
    visited: tuple[VisitedSet, VisitedSet]
    keys: tuple[list[list[int]], list[list[int]]]
    hmaxe: Array
    scores: Array
    params: list[Any]
    acceptance: float
    log_mass: Array


def leading_modes(
    pools: list[Pool],
) -> tuple[Labels, Array, NDArray[np.bool_], NDArray[np.intp]]:
    """Return the distinct modes of several searches that may matter, and variants of them.

    Returns
    -------
    labels : ndarray of int of shape (L, N)
    log_mass : ndarray of shape (L,)
        Of the modes in decreasing order, then of the variants.
    found_by : ndarray of bool of shape (L, searches)
    of : ndarray of int of shape (L,)
        Index of the mode that each belongs to: its own, or that of the mode it is a variant of.
    """
    mixture = pools[0].mixture
    joined = Pool(mixture, sum(len(pool.log_mass) for pool in pools))
    for pool in pools:
        joined.add(pool.labels, pool.log_mass)
    for pool in pools:
        for variant, log_mass in pool.variants:
            if joined.nearest(variant) is not None:
                joined.add(variant[None], np.array([log_mass]))
    kept = joined.log_mass > joined.log_mass[0] - _WINDOW
    kept[[joined.nearest(pool.labels[0]) for pool in pools]] = True
    modes, masses = joined.labels[kept], joined.log_mass[kept]
    labels = np.vstack([modes, *(variant for variant, _ in joined.variants)])
    near = distances_between(labels[len(modes) :], modes, mixture.n_components).argmin(axis=1)
    of = np.r_[np.arange(len(modes)), near]
    masses = np.r_[masses, [log_mass for _, log_mass in joined.variants]]
    found_by = np.stack([pool.has(labels, slack=2) for pool in pools], axis=1)
    return labels, masses, found_by, of


def group_modes(
    mixture: CollapsedModel,
    pools: list[Pool],
    n_chains: int,
    n_steps: int,
    rng: np.random.Generator,
    on_step: Callable[[float], bool],
) -> list[ModeGroup]:
    """Run chains from all leading modes, and join modes between which chains travel.

    Parameters
    ----------
    mixture : CollapsedModel
    pools : list of Pool
    n_chains : int
        Chains of an island; at least one for each mode.
    n_steps : int
    rng : Generator
    on_step : callable
        Called with the best log joint density; true ends the run.

    Returns
    -------
    list of ModeGroup
        The heaviest leader first.
    """
    modes, log_mass, found_by, joined = leading_modes(pools)
    n_modes = len(modes)
    origins = np.arange(max(n_chains, n_modes)) % n_modes
    both = np.concatenate([origins, origins])
    state = _collapsed.init(mixture, modes[both])
    records = [_Record(mixture, n_modes) for _ in range(2)]
    for number in range(n_steps):
        state, _ = _collapsed.step(mixture, state, rng, adapt=True)
        stop = on_step(float(state.allocations.log_joint.max()))
        if stop or number >= n_steps // 3:
            for record, here in zip(records, _islands(state.allocations), strict=True):
                record.add(here, origins)
        if stop:
            break
        late = number >= n_steps // 3 and (number + 1) % 10 == 0
        if n_modes > 1 and (late or number == n_steps - 1):
            met = _modes_met(state.allocations.labels, both, modes, mixture)
            _join(joined, both, met)
    groups = []
    for root in np.unique(joined):
        members = np.flatnonzero(joined == root)
        best = members[np.argmax(log_mass[members])]
        known = [record.known(members) for record in records]
        first, second = (
            record.starts(members, allocations, n_chains, rng)
            for record, allocations in zip(records, known, strict=True)
        )
        high = members[_as_high([_late(records, int(mode)) for mode in members])]
        found = tuple(bool(found_by[high, search].any()) for search in range(len(pools)))
        share = 0.5 * sum(
            record.share_within(members, other)
            for record, other in zip(records, known[::-1], strict=True)
        )
        groups.append(
            ModeGroup(
                modes[best],
                (first, second),
                (known[0], known[1]),
                share,
                float(log_mass[best]),
                found,
            )
        )
    groups.sort(key=lambda group: -group.log_mass)
    return [group for group in groups if group.log_mass > log_mass.max() - _WINDOW]


def _late(records: list[_Record], mode: int) -> Array:
    """Return estimated log masses at the later steps of the chains from a mode, of all islands."""
    found = [record.guesses[mode][len(record.guesses[mode]) // 2 :] for record in records]
    return np.concatenate(found)


def _as_high(guesses: list[Array]) -> NDArray[np.bool_]:
    """Return from which modes chains have come as high as from the one that leads highest."""
    means = np.array([each.mean() if len(each) else -np.inf for each in guesses])
    top = int(np.argmax(means))
    return means >= means[top] - max(_ALIKE, 2 * float(guesses[top].std()))


class _Record:
    """Allocations that an island's chains visit, by the mode they started at."""

    def __init__(self, mixture: CollapsedModel, n_modes: int) -> None:
        self.mixture, self.n_modes = mixture, n_modes
        self.visited = [VisitedSet(mixture.n_components) for _ in range(n_modes)]
        self.keys: list[list[int]] = [[] for _ in range(n_modes)]
        self.latest: list[list[Labels]] = [[] for _ in range(n_modes)]
        self.guesses: list[list[float]] = [[] for _ in range(n_modes)]

    def add(self, here: Allocations, origins: NDArray[np.intp]) -> None:
        """Add allocations (S, N) of chains that started at modes `origins` (S,)."""
        log_mass = self.mixture.log_mass(here)
        guesses = (log_mass + mean_field_entropy(here.preferences)).tolist()
        keys = fingerprints(here.labels, self.mixture.n_components).tolist()
        found = zip(origins.tolist(), keys, here.labels, log_mass.tolist(), guesses, strict=True)
        for mode, key, labels, mass, guess in found:
            self.visited[mode].add_one(key, labels, mass)
            self.keys[mode].append(key)
            self.latest[mode].append(labels)
            self.guesses[mode].append(guess)

    def known(self, modes: NDArray[np.intp]) -> KnownAllocations:
        """Return the allocations that chains from a group of modes have visited."""
        return KnownAllocations([self.visited[mode] for mode in modes])

    def share_within(self, modes: NDArray[np.intp], known: KnownAllocations) -> float:
        """Return which share of the later allocations of a group's chains is known."""
        later = [key for mode in modes for key in self.keys[mode][len(self.keys[mode]) // 2 :]]
        return float(np.mean([key in known.log_mass for key in later])) if later else 0.0

    def starts(
        self, modes: NDArray[np.intp], known: KnownAllocations, n: int, rng: np.random.Generator
    ) -> Labels:
        """Return n allocations (n, N) for chains of a group of modes to start from."""
        met = [mode for mode in modes if self.guesses[mode]]
        masses = np.array([np.mean(self.guesses[mode]) for mode in met])
        if known.n_effective > _FEW or known.log_sum > masses.max() - _KNOWN:
            return known.draw(n, rng)
        chosen = systematic_resample(masses, n, rng)
        picked = []
        for index in chosen:
            latest = self.latest[met[index]]
            picked.append(latest[int(rng.integers(len(latest) // 2, len(latest)))])
        return np.stack(picked)


def mean_field_entropy(preferences: Array) -> Array:
    """Return the entropy of independent rows with leave-one-out probabilities (S, K, N), (S,).

    Approximately the difference between the log mass of a mode and that of its allocation, if few
    rows depend on each other.
    """
    log_probabilities = _collapsed.log_probabilities(preferences)
    return -(np.exp(log_probabilities) * log_probabilities).sum(axis=(1, 2))


def _modes_met(
    labels: Labels, origins: NDArray[np.intp], modes: Labels, mixture: CollapsedModel
) -> NDArray[np.intp]:
    """Return the mode that each chain has come to, (S,).

    That is the mode nearest to its allocation, if the allocation is also as close to a chain that
    started there as chains that started at one of the two modes are to each other. Otherwise the
    chain is elsewhere, and counts as at the mode where it started.
    """
    n_components, radius = mixture.n_components, max(1, round(_CLOSE * mixture.n_rows))
    nearest = distances_between(labels, modes, n_components).argmin(axis=1)
    spreads: dict[int, int] = {}

    def spread(mode: int) -> int:
        if mode not in spreads:
            own = labels[origins == mode]
            spreads[mode] = int(distances_between(own, own, n_components).max())
        return spreads[mode]

    away = nearest != origins
    for there in np.unique(nearest[away]).tolist():
        chains = np.flatnonzero(away & (nearest == there))
        gaps = distances_between(labels[chains], labels[origins == there], n_components).min(axis=1)
        reach = [max(spread(start), spread(there)) + radius for start in origins[chains].tolist()]
        elsewhere = chains[gaps > reach]
        nearest[elsewhere] = origins[elsewhere]
    return nearest


def _join(joined: NDArray[np.intp], first: NDArray[np.intp], second: NDArray[np.intp]) -> None:
    """Give the modes of each pair one number, in place."""
    for a, b in zip(first, second, strict=True):
        if joined[a] != joined[b]:
            joined[joined == joined[b]] = joined[a]


def run_group(
    models: PinnedModels,
    group: ModeGroup,
    n_steps: int,
    rng: np.random.Generator,
    on_step: Callable[[float], bool],
    max_lengths: int = 1,
) -> GroupRun:
    """Run the chains of a group, and draw a model at each step of each chain.

    Parameters
    ----------
    models : PinnedModels
    group : ModeGroup
    n_steps : int
    rng : Generator
    on_step : callable
    max_lengths : int, default=1
        The chains make `n_steps` at most so many times: again while they disagree.
    """
    mixture = models.mixture
    state = _collapsed.init(mixture, np.concatenate(group.states))
    for _ in range(n_steps // 4):
        state, _ = _collapsed.step(mixture, state, rng, adapt=True)
    visited = (VisitedSet(mixture.n_components), VisitedSet(mixture.n_components))
    keys: tuple[list[list[int]], list[list[int]]] = ([], [])
    traces: list[tuple[Array, Array, Array, Array]] = []
    params, accepted = [], []
    for number in range(max_lengths * n_steps):
        if number and number % n_steps == 0 and _have_mixed([each[1] for each in traces]):
            break
        state, info = _collapsed.step(mixture, _jump(mixture, state, group.known, rng), rng)
        accepted.append(info.accepted.mean())
        here = state.allocations
        for found, met, part in zip(keys, visited, _islands(here), strict=True):
            found.append(met.add(part.labels, mixture.log_mass(part)))
        drawn = models.draw(here.counts, here.sums, rng)
        hmaxe, scores = models.assess(drawn, rng)
        traces.append((here.labels.astype(np.int16), hmaxe, scores, mixture.log_mass(here)))
        params.append(drawn)
        if on_step(float(here.log_joint.max())):
            break
    labels, hmaxe, scores, log_mass = (np.stack(part, axis=1) for part in zip(*traces, strict=True))
    return GroupRun(
        labels, visited, keys, hmaxe, scores, params, float(np.mean(accepted)), log_mass
    )


def run_groups(
    models: PinnedModels,
    groups: list[ModeGroup],
    n_steps: int,
    rng: np.random.Generator,
    on_step: Callable[[float], bool],
    max_lengths: int = 1,
) -> tuple[list[ModeGroup], list[GroupRun]]:
    """Run the chains of all groups; groups whose chains meet are joined, and restarted.

    Otherwise what two groups have both visited would count twice in the sum of their evidences.

    Returns
    -------
    groups : list of ModeGroup
        The heaviest leader first.
    runs : list of GroupRun
    """
    runs = [run_group(models, group, n_steps, rng, on_step, max_lengths) for group in groups]
    while len(sets := _overlapping([run.visited for run in runs])) < len(groups):
        joined = []
        for members in sets:
            if len(members) == 1:
                joined.append((groups[members[0]], runs[members[0]]))
                continue
            group = _join_groups([groups[i] for i in members], [runs[i] for i in members], rng)
            run = run_group(models, group, n_steps, rng, on_step, max_lengths)
            joined.append((group, run))
        joined.sort(key=lambda pair: -pair[0].log_mass)
        groups, runs = [group for group, _ in joined], [run for _, run in joined]
    return groups, runs


def _overlapping(visited: list[tuple[VisitedSet, VisitedSet]]) -> list[list[int]]:
    """Return which groups have a share of their mass in common, directly or through others."""
    union = [{**first.log_mass, **second.log_mass} for first, second in visited]
    total = [log_sum(list(each.values())) for each in union]
    joined = np.arange(len(union))
    for i, first in enumerate(union):
        for j in range(i):
            common = [mass for key, mass in union[j].items() if key in first]
            if common and log_sum(common) > min(total[i], total[j]) + np.log(_SHARED):
                _join(joined, np.array([i]), np.array([j]))
    return [np.flatnonzero(joined == root).tolist() for root in np.unique(joined)]


def _join_groups(
    groups: list[ModeGroup], runs: list[GroupRun], rng: np.random.Generator
) -> ModeGroup:
    """Return one group, whose chains start from allocations that any of the groups' visited."""
    best = max(groups, key=lambda group: group.log_mass)
    first, second = (KnownAllocations([run.visited[island] for run in runs]) for island in range(2))
    n_chains = len(best.states[0])
    states = first.draw(n_chains, rng), second.draw(n_chains, rng)
    found = np.any([group.found_by for group in groups], axis=0)
    return replace(best, states=states, known=(first, second), found_by=tuple(found.tolist()))


def _have_mixed(trace: list[Array]) -> bool:
    """Return whether chains agree, given the values (S,) of their steps."""
    return split_rhat(np.stack(trace, axis=1)) <= _MIXED


def _islands(both: Allocations) -> tuple[Allocations, Allocations]:
    """Return the allocations of the chains of each island."""
    half = len(both.labels) // 2
    return both.take(slice(0, half)), both.take(slice(half, None))


def _jump(
    mixture: CollapsedModel,
    state: _collapsed.CollapsedState,
    known: tuple[KnownAllocations, KnownAllocations],
    rng: np.random.Generator,
) -> _collapsed.CollapsedState:
    """Move chains that are at allocations known to their island to random ones of these."""
    half = len(state.block) // 2
    parts = state.allocations.labels[:half], state.allocations.labels[half:]
    jumped = [each.jump(labels, rng) for each, labels in zip(known, parts, strict=True)]
    labels, moved = (np.concatenate(pair) for pair in zip(*jumped, strict=True))
    index = np.flatnonzero(moved)
    if not len(index):
        return state
    there = mixture.visit(labels[index])
    return replace(state, allocations=state.allocations.put(index, there))
