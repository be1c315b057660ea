"""The evidence of one group of modes, estimated in ways that do not share their weaknesses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array
from skbae.inference.evidence._unpinning import ModeTile, PinnedModels, Unpinned, unpin
from skbae.inference.evidence._visited import unseen_error, visited_estimate
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from skbae.inference.sample._allocation_chains import GroupRun, ModeGroup

# Visited allocations give an estimate if they hold at least this share of the posterior.
LEAST_SHARE = 0.03
# The searches are in doubt if chains visit an allocation this many nats better than their best.
_BETTER = 5.0
# The two directions of annealing may differ by this many nats beyond their errors.
_SLACK = 0.2


def log_mean_and_error(values: Array) -> tuple[float, float]:
    """Return the log of the mean of ``exp(values)``, unbiased estimates, and its standard error."""
    weights = np.exp(values - values.max())
    error = float(weights.std(ddof=1) / weights.mean() / np.sqrt(len(values)))
    # the spread of few values is uncertain too: about the variance of a t distribution
    return float(log_mean_exp(values)), error * np.sqrt((len(values) - 1) / (len(values) - 3))


@dataclass
class GroupEvidence:
    """Estimates of the evidence of a group of modes, refined by further populations.

    Attributes
    ----------
    visited : tuple of float
        Log evidence, standard error and share of the posterior that was visited.
    batches : list of Unpinned
        Results of the populations that were sent.
    decentred : bool
        Whether the best allocation has turned out to be atypical of its mode.
    """

    group: ModeGroup
    run: GroupRun
    tile: ModeTile
    visited: tuple[float, float, float]
    batches: list[Unpinned] = field(default_factory=list)
    decentred: bool = False

    def send(
        self, models: PinnedModels, rng: np.random.Generator, n_populations: int, n_models: int
    ) -> None:
        """Anneal populations from the group's best allocation to the posterior, and back."""
        states = self.run.labels.reshape(-1, models.mixture.n_rows)
        size = n_populations * n_models
        picked = states[rng.permutation(len(states))[np.arange(size) % len(states)]]
        batch = unpin(
            models,
            self.tile,
            picked.astype(np.intp),
            rng,
            n_populations=n_populations,
            n_models=n_models,
        )
        if batch is None:
            self.decentred = True
        else:
            self.batches.append(batch)

    def both_ways(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return log evidence and error by annealing outward, and back."""
        return (
            log_mean_and_error(np.concatenate([each.outward for each in self.batches])),
            log_mean_and_error(np.concatenate([each.back for each in self.batches])),
        )

    def estimates(self) -> dict[str, tuple[float, float]]:
        """Return the log evidence and its error by each method that has an estimate."""
        value, error, share = self.visited
        found = {"visited": (value, error)} if share > LEAST_SHARE else {}
        if self.batches:
            value, error = log_mean_and_error(
                np.concatenate([each.log_evidence for each in self.batches])
            )
            out, back = self.both_ways()
            beyond = abs(out[0] - back[0]) - float(np.hypot(out[1], back[1]))
            # if one direction misses something, the evidence lies between the two; and populations
            # miss what the chains have not seen
            terms = (error, 0.5 * max(beyond, 0.0), unseen_error(self.run.log_mass))
            found["unpinned"] = (value, float(np.linalg.norm(terms)))
        return found

    def best(self) -> tuple[float, float]:
        """Return the estimate of smallest error; its error includes how others disagree."""
        found, chosen = self.estimates(), self._chosen()
        if chosen is None:
            value, error, _ = self.visited
            return value, max(error, 1.0)
        value, error = found[chosen]
        off = [abs(other - value) - its_error for other, its_error in found.values()]
        return value, float(np.hypot(error, max(0.0, *off)))

    def _chosen(self) -> str | None:
        """Return the name of the estimate of smallest error."""
        found = self.estimates()
        return min(found, key=lambda name: found[name][1]) if found else None

    def _ends_differ(self) -> bool:
        """Return whether populations and chains differ in their mean distance from z*."""
        origin = self.tile.origin
        ends = np.concatenate([each.distances for each in self.batches])
        n_chains = len(self.run.labels)
        step = max(1, self.run.labels.shape[1] // 10)
        chains = np.array(
            [(self.tile.relabel(part.astype(np.intp)) != origin).sum(axis=1).mean()
             for part in self.run.labels[:, ::step]]
        )  # fmt: skip
        gap = abs(ends.mean() - chains.mean())
        error = np.hypot(ends.std(ddof=1) / len(ends) ** 0.5, chains.std(ddof=1) / n_chains**0.5)
        return bool(gap > 4 * error + 0.01 * len(origin) + 0.5)

    def doubts(self) -> list[str]:
        """Return reasons not to trust the estimates."""
        reasons = []
        if self.decentred:
            reasons.append("the best allocation found in a mode is atypical of the draws from it")
        if self.batches and self._chosen() == "unpinned":
            out, back = self.both_ways()
            if abs(out[0] - back[0]) > _SLACK + 4 * np.hypot(out[1], back[1]):
                reasons.append(
                    f"annealing from the best allocation gives log evidence {out[0]:.2f}, and back "
                    f"to it {back[0]:.2f}, further apart than their errors"
                )
            if self._ends_differ():
                reasons.append(
                    "annealing from the best allocation has not reached the draws of the chains"
                )
        if self._highest() > self.group.log_mass + _BETTER:
            reasons.append("the chains found an allocation of higher density than the searches")
        return reasons

    def _highest(self) -> float:
        """Return the log mass of the best allocation that chains or populations have visited."""
        met = [max(each.log_mass.values()) for each in self.run.visited]
        return max(*met, *(each.highest for each in self.batches))


def group_evidences(
    models: PinnedModels, groups: list[ModeGroup], runs: list[GroupRun]
) -> list[GroupEvidence]:
    """Return the estimates of each group from its chains alone."""
    n_rows, n_components = models.mixture.n_rows, models.mixture.n_components
    evidences = []
    for number, (group, run) in enumerate(zip(groups, runs, strict=False)):
        rivals = [each.leader for i, each in enumerate(groups[: len(runs)]) if i != number]
        others = np.array(rivals, dtype=np.intp).reshape(-1, n_rows)
        tile = ModeTile(group.leader, others, n_components)
        evidences.append(GroupEvidence(group, run, tile, visited_estimate(run.visited, run.keys)))
    return evidences
