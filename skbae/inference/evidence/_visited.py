"""The evidence from the allocations that chains have visited, and a rigorous lower bound of it.

The joint density ``p(X, z)`` of an allocation is known, so its sum over any set of distinct
allocations is a lower bound of the evidence. The evidence is that sum divided by the share of the
posterior inside the set, which is estimated by the share of time that other chains spend there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skbae._types import Array
from skbae.energies._allocations import Labels
from skbae.inference.evidence._convergence import effective_sample_size
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The share of the posterior that was not visited enters the error with this factor, in nats.
_DOUBT = 0.5
# So many successive states of a chain count as one draw, at least, where the error is for
# allocations that chains have missed.
_UNSEEN = 5.0
# Type of labels that are kept.
_LABEL = np.int16
# Bits of the sums that fingerprints are made from, so that floats hold these exactly, and factors
# that spread them over 64 bits (Steele et al. 2014).
_BITS = 52
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def canonical_labels(labels: Labels, n_components: int) -> NDArray[np.int16]:
    """Return labels (S, N) renumbered in the order of their first appearance.

    Examples
    --------
    >>> canonical_labels(np.array([[2, 2, 0, 1]]), 3).tolist()
    [[0, 0, 1, 2]]
    """
    n_chains, n_rows = labels.shape
    first = np.full((n_chains, n_components), n_rows)
    for k in range(n_components):
        is_k = labels == k
        first[:, k] = np.where(is_k.any(axis=1), is_k.argmax(axis=1), n_rows + k)
    rank = np.argsort(np.argsort(first, axis=1), axis=1)
    return np.take_along_axis(rank, labels, axis=1).astype(_LABEL)


@lru_cache(maxsize=8)
def _row_numbers(n_rows: int) -> Array:
    """Return a random whole number for each row, the same for the same number of rows."""
    largest = 1 << (_BITS - n_rows.bit_length())
    return np.random.default_rng(n_rows).integers(1, largest, size=n_rows).astype(np.float64)


def fingerprints(labels: Labels, n_components: int) -> NDArray[np.uint64]:
    """Return numbers of 64 bits for allocations (S, N), equal for all their relabellings: (S,).

    Different allocations have the same number with a chance of some ``N^2 / 2^50``.

    Examples
    --------
    >>> first, second, third = fingerprints(np.array([[0, 1, 1], [2, 0, 0], [1, 1, 0]]), 3)
    >>> bool(first == second), bool(first == third)
    (True, False)
    """
    numbers = _row_numbers(labels.shape[1])
    codes = np.stack([(labels == k) @ numbers for k in range(n_components)], axis=1).astype(
        np.uint64
    )
    codes ^= codes >> np.uint64(30)
    codes *= _FIRST
    codes ^= codes >> np.uint64(27)
    codes *= _SECOND
    codes ^= codes >> np.uint64(31)
    return codes.sum(axis=1, dtype=np.uint64)


def log_sum(log_mass: Iterable[float]) -> float:
    """Return the log of the sum of masses given by their logs."""
    values = np.fromiter(log_mass, float)
    return float(log_mean_exp(values)) + float(np.log(len(values)))


class VisitedSet:
    """Distinct allocations, whatever their labels, with their log mass.

    Attributes
    ----------
    log_mass : dict
        From an allocation's fingerprint to ``log p(X, z)``, all relabellings together.
    labels : dict
        From an allocation's fingerprint to its labels (N,).
    """

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components
        self.log_mass: dict[int, float] = {}
        self.labels: dict[int, NDArray[np.int16]] = {}

    def add(self, labels: Labels, log_mass: Array) -> list[int]:
        """Add allocations (S, N) of log mass (S,); return their fingerprints."""
        keys: list[int] = fingerprints(labels, self.n_components).tolist()
        for key, each, mass in zip(keys, labels, log_mass.tolist(), strict=True):
            self.add_one(key, each, mass)
        return keys

    def add_one(self, key: int, labels: Labels, log_mass: float) -> None:
        """Add an allocation (N,) of known fingerprint."""
        if key not in self.log_mass:
            self.log_mass[key] = log_mass
            self.labels[key] = labels.astype(_LABEL)

    def log_sum(self) -> float:
        """Return the log of the sum over the set."""
        return log_sum(self.log_mass.values())


class KnownAllocations:
    """Distinct allocations of known mass, among which chains jump freely.

    A chain at one of them may move to any of them, drawn in proportion to their mass: a Metropolis
    step that is always accepted. A chain elsewhere stays.

    Parameters
    ----------
    sets : list of VisitedSet or KnownAllocations

    Attributes
    ----------
    log_mass, labels : dict
        As those of a VisitedSet.
    n_effective : float
        Effective number of allocations, ``(sum p)^2 / sum p^2`` (Kong 1992).
    log_sum : float
        Log of the mass of the set.
    """

    def __init__(self, sets: Sequence[VisitedSet | KnownAllocations]) -> None:
        self.n_components: int = sets[0].n_components
        self.log_mass: dict[int, float] = {}
        self.labels: dict[int, NDArray[np.int16]] = {}
        for each in sets:
            self.log_mass.update(each.log_mass)
            self.labels.update(each.labels)
        log_mass = np.fromiter(self.log_mass.values(), float)
        weights = np.exp(log_mass - log_mass.max())
        self.n_effective = float(weights.sum() ** 2 / (weights**2).sum())
        self._cumulative = np.cumsum(weights)
        self.log_sum = float(np.log(self._cumulative[-1]) + log_mass.max())
        self._keys = np.sort(np.fromiter(self.log_mass, np.uint64))
        self._rows = np.stack([self.labels[key] for key in self.log_mass])

    def draw(self, n: int, rng: np.random.Generator) -> Labels:
        """Draw n allocations in proportion to their mass, (n, N), labelled at random."""
        positions = rng.random(n) * self._cumulative[-1]
        chosen = np.searchsorted(self._cumulative, positions, side="right")
        rows = self._rows[np.minimum(chosen, len(self._rows) - 1)]
        labellings = np.argsort(rng.random((n, self.n_components)), axis=1)
        return labellings[np.arange(n)[:, None], rows]

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Return which allocations (S, N) are known."""
        return self.contains_keys(fingerprints(labels, self.n_components))

    def contains_keys(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which allocations are known by their fingerprints (S,)."""
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return self._keys[places] == keys

    def jump(
        self,
        labels: Labels,
        rng: np.random.Generator,
        moved: NDArray[np.bool_] | None = None,
    ) -> tuple[Labels, NDArray[np.bool_]]:
        """Move chains that are at known allocations; return labels (S, N) and which moved, (S,).

        Where it is clear already which are at known ones, these are `moved`.
        """
        if moved is None:
            moved = self.contains(labels)
        if moved.any():
            labels = labels.copy()
            labels[moved] = self.draw(int(moved.sum()), rng)
        return labels, moved


def log_union(sets: Sequence[VisitedSet | KnownAllocations]) -> float:
    """Return the log of the sum over all distinct allocations of several sets: a lower bound."""
    joined: dict[int, float] = {}
    for each in sets:
        joined.update(each.log_mass)
    return log_sum(joined.values())


def unseen_error(log_mass: Array) -> float:
    """Return an error, in nats, for allocations that no chain has visited.

    Parameters
    ----------
    log_mass : ndarray of shape (S, T)
        Of the states of the chains: their effective number counts, and at most a fifth of them.
    """
    return 2.0 / min(effective_sample_size(log_mass), log_mass.size / _UNSEEN)


def visited_estimate(
    sets: tuple[VisitedSet, VisitedSet], keys: tuple[list[list[int]], list[list[int]]]
) -> tuple[float, float, float]:
    """Return the log evidence from two independent islands of chains.

    The mass of what one has visited is divided by the share of time that the other spends there.

    Parameters
    ----------
    sets : tuple of VisitedSet
        What each island visited.
    keys : tuple of lists
        Keys of each island's recorded allocations: for each step a list, with one key a chain.

    Returns
    -------
    log_evidence, standard_error : float
        The error includes the spread over chains, half of the log of the share not visited, and a
        term for what none has seen.
    share : float
        The estimated share of the posterior that was visited, the smaller of the two.
    """
    inside = [
        np.array([[key in own.log_mass for key in row] for row in others]).T
        for own, others in zip(sets, keys[::-1], strict=True)
    ]
    value, error, share = visited_by_others(sets, (inside[1], inside[0]))
    if sets[0].n_components == 1:
        return value, error, share
    traces = [
        np.array([[own.log_mass[key] for key in row] for row in theirs]).T
        for own, theirs in zip(sets, keys, strict=True)
    ]
    return value, float(np.hypot(error, unseen_error(np.concatenate(traces)))), share


def visited_by_others(
    sets: Sequence[VisitedSet | KnownAllocations],
    inside: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[float, float, float]:
    """Return the log evidence from two sets of allocations and chains' time in the other's.

    Parameters
    ----------
    sets : sequence of VisitedSet or KnownAllocations
        By island.
    inside : tuple of ndarrays of bool of shape (S, T)
        For the chains of each island, whether they were in the *other* island's set.

    Returns
    -------
    log_evidence, standard_error, share : float
        As those of :func:`visited_estimate`, but for the term for what none has seen.
    """
    values, errors, shares = [], [], []
    for own, others in zip(sets, inside[::-1], strict=True):
        of_chains = others.mean(axis=1)
        share = max(float(of_chains.mean()), 0.5 / others.size)
        values.append(log_sum(own.log_mass.values()) - float(np.log(share)))
        errors.append(float(of_chains.std()) / np.sqrt(len(of_chains)) / share)
        shares.append(share)
    missing = -float(np.log(min(shares)))
    spread = 0.5 * abs(values[0] - values[1])
    error = float(np.linalg.norm([np.sqrt(np.mean(np.square(errors))), spread, _DOUBT * missing]))
    return float(log_mean_exp(np.array(values))), error, min(shares)
