"""Sampling allocations with the models integrated out (collapsed Gibbs sampling), in blocks.

A step proposes new components for a random block of each chain's rows at once. Each row is drawn
from its exact probabilities given all other rows (leave-one-out), as if these kept their
components, and a Metropolis-Hastings test corrects for that. The reverse proposal's probabilities
are those at the new allocation, which the next step needs anyway. The size of the blocks is adapted
to the acceptance during burn-in. Without the test, the same step is a quick way to search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skbae._types import Array, ArrayRecord
from skbae.energies._allocations import Allocations, CollapsedModel, Labels
from skbae.operators._draws import cumulative_exponentials

# While blocks are adapted, an accepted step multiplies the size of a block by _GROW, and a rejected
# one by _SHRINK, which settles at an acceptance of 0.63.
_GROW, _SHRINK = 1.05, 0.92
# Smallest expected number of rows of a block.
_SMALLEST_BLOCK = 2.0


@dataclass(frozen=True)
class CollapsedState(ArrayRecord):
    """S chains of allocations, and the share of its rows (S,) that each redraws in a step."""

    allocations: Allocations
    block: Array


@dataclass(frozen=True)
class CollapsedInfo:
    """Which of the S chains accepted a step."""

    accepted: NDArray[np.bool_]


def init(mixture: CollapsedModel, labels: Labels, block: float = 0.3) -> CollapsedState:
    """Return chains that start from labels (S, N)."""
    return CollapsedState(mixture.visit(labels), np.full(len(labels), block))


def log_probabilities(preferences: Array) -> Array:
    """Return normalised leave-one-out log probabilities (S, K, N)."""
    peak = preferences.max(axis=1, keepdims=True)
    shifted = preferences - peak
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def draw_labels(preferences: Array, rng: np.random.Generator) -> Labels:
    """Draw every row's component from its leave-one-out probabilities: (S, N)."""
    return _draw(cumulative_exponentials(preferences)[1], rng)


def draw_and_sum(preferences: Array, rng: np.random.Generator) -> tuple[Labels, Array]:
    """Return the same draws, and the log of the sum over components of ``exp(preferences)``.

    Parameters
    ----------
    preferences : ndarray of shape (S, K, N)
    rng : Generator

    Returns
    -------
    labels : ndarray of int of shape (S, N)
    log_sums : ndarray of shape (S, N)
    """
    peak, cumulative = cumulative_exponentials(preferences)
    return _draw(cumulative, rng), np.log(cumulative[:, -1]) + peak


def _draw(cumulative: Array, rng: np.random.Generator) -> Labels:
    """Draw labels (S, N) with probabilities of which (S, K, N) are cumulative sums."""
    position = rng.random(cumulative[:, -1].shape)
    position *= cumulative[:, -1]
    labels = np.zeros(position.shape, dtype=np.intp)
    for k in range(cumulative.shape[1] - 1):
        labels += position >= cumulative[:, k]
    return labels


def redraw(
    mixture: CollapsedModel, state: CollapsedState, rng: np.random.Generator, block: float
) -> CollapsedState:
    """Redraw a share `block` of the rows without a Metropolis test: for searches only."""
    here = state.allocations
    proposed = draw_labels(here.preferences, rng)
    if block < 1:
        proposed = np.where(rng.random(proposed.shape) < block, proposed, here.labels)
    return replace(state, allocations=mixture.visit(proposed))


def step(
    mixture: CollapsedModel,
    state: CollapsedState,
    rng: np.random.Generator,
    adapt: bool = False,
    favour: Array | None = None,
) -> tuple[CollapsedState, CollapsedInfo]:
    """Make one step that leaves ``p(z | X)`` invariant.

    Parameters
    ----------
    mixture : CollapsedModel
    state : CollapsedState
    rng : Generator
    adapt : bool, default=False
        Adapt the size of the blocks. Only during burn-in: adapted steps do not leave the target
        exactly invariant.
    favour : ndarray of shape (K, N) or None, default=None
        Added to the log density for every row in its component: the target is
        ``p(z | X) exp(sum_i favour[z_i, i])``.
    """
    here = state.allocations

    def preferences(of: Allocations) -> Array:
        return of.preferences if favour is None else of.preferences + favour

    of_here = preferences(here)
    peak, cumulative = cumulative_exponentials(of_here)
    labels = _draw(cumulative, rng)
    redrawn = rng.random(labels.shape) < state.block[:, None]
    labels = np.where(redrawn, labels, here.labels)
    there = mixture.visit(labels)
    forward = _log_proposal(of_here, peak, cumulative, labels, redrawn)
    of_there = preferences(there)
    peak, cumulative = cumulative_exponentials(of_there)
    backward = _log_proposal(of_there, peak, cumulative, here.labels, redrawn)
    change = there.log_joint - here.log_joint + backward - forward
    if favour is not None:
        index = np.arange(labels.shape[1])
        change += (favour[labels, index] - favour[here.labels, index]).sum(axis=1)
    accepted = np.log(rng.random(len(labels))) < change
    index = np.flatnonzero(accepted)
    moved = there if len(index) == len(labels) else here.put(index, there.take(index))
    block = state.block
    if adapt:
        smallest = min(_SMALLEST_BLOCK / mixture.n_rows, 1.0)
        block = np.clip(block * np.where(accepted, _GROW, _SHRINK), smallest, 1.0)
    return CollapsedState(moved, block), CollapsedInfo(accepted)


def _log_proposal(
    preferences: Array, peak: Array, cumulative: Array, labels: Labels, redrawn: NDArray[np.bool_]
) -> Array:
    """Return the log probability of drawing labels (S, N) where rows are redrawn: (S,).

    The largest preferences and their cumulative exponentials are those of
    :func:`~skbae.operators._draws.cumulative_exponentials`.
    """
    chosen = np.take_along_axis(preferences, labels[:, None], axis=1)[:, 0]
    chosen -= peak
    chosen -= np.log(cumulative[:, -1])
    return np.where(redrawn, chosen, 0.0).sum(axis=1)
