"""Where chains start: at allocations around which there is mass, whatever their own density.

Searches find the allocations of highest density. Where components overlap, or share a cluster, a
mode is spread over so many allocations that each is far below the best one of a narrow mode, and
most of the posterior may be where no search looks. So allocations that searches have not touched
are made too, and chains of models go from there to where there is room; then all are compared by
an estimate of the mass around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array
from skbae.energies._allocations import Labels
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_children import Breeding
from skbae.inference.sample._allocation_modes import matched_distances
from skbae.inference.sample._allocation_starts import shared_cluster_labels
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.inference.evidence._unpinning import PinnedModels

# Sweeps of chains from allocations that no search has touched.
_N_SWEEPS = 20
# Models drawn for an estimate of the mass around an allocation.
_N_DRAWS = 4
# Nats by which such estimates may be wrong: starts are drawn by ``exp(estimate / _NATS)``.
_NATS = 4.0
# Share of the posterior that does not count, and share of the rows by which chains may be farther
# from given ones than these from each other, and still be near them.
_NEGLIGIBLE, _CLOSE = 0.02, 0.02


def mass_around(
    models: PinnedModels, labels: Labels, rng: np.random.Generator, n_draws: int = _N_DRAWS
) -> Array:
    """Return estimates of the log of the posterior's mass around allocations (S, N), (S,).

    The mean of ``p(X, m) / p(m | X, z)`` over models m drawn given the allocation z: by Bayes' rule
    ``p(X, z)`` over the probability of z given m. Its expectation is the evidence; from few draws
    it is that of the models near these, and rather too low. All relabellings of an allocation are
    counted.

    Parameters
    ----------
    models : PinnedModels
    labels : ndarray of int of shape (S, N)
    rng : Generator
    n_draws : int
        Models drawn for each allocation.
    """
    mixture = models.mixture
    counts, sums = mixture.sums(labels)
    gains = np.empty((n_draws, len(labels)))
    for gain in gains:
        log_f = models.log_f(models.draw(counts, sums, rng))
        own = np.take_along_axis(log_f, labels[:, None], axis=1)[:, 0]
        gain[:] = (tempered_logsumexp(log_f, 1.0, axis=1) - own).sum(axis=1)
    log_mass = mixture.log_joint(labels) + mixture.log_multiplicity(counts)
    return log_mass + log_mean_exp(gains, axis=0)


def starts_by_mass(models: PinnedModels, given: Labels, n: int, rng: np.random.Generator) -> Labels:
    """Return n allocations, drawn by the mass around them from given ones and from others.

    As many others are made as are given: half are children of given ones (two components merge, one
    splits), half have components that share clusters or are empty. Chains start from both.

    Parameters
    ----------
    models : PinnedModels
    given : ndarray of int of shape (S, N)
    n : int
    rng : Generator

    Returns
    -------
    ndarray of int of shape (n, N)
        Those from the same start are next to each other.
    """
    labels = np.concatenate([given, _elsewhere(models, given, rng)])
    return labels[_drawn(mass_around(models, labels, rng), n, rng)]


def doubts_about_elsewhere(
    models: PinnedModels, given: Labels, log_evidence: float, rng: np.random.Generator
) -> tuple[str, ...]:
    """Return a doubt if chains that start elsewhere come to mass that is far from given chains.

    Far is farther than any given chain is from the others.

    Parameters
    ----------
    models : PinnedModels
    given : ndarray of int of shape (S, N)
        Late allocations of all chains.
    log_evidence : float
        As estimated from the given chains.
    rng : Generator
    """
    labels = _elsewhere(models, given, rng)
    log_mass = mass_around(models, labels, rng)
    heavy = np.flatnonzero(log_mass > log_evidence + np.log(_NEGLIGIBLE))
    if not len(heavy):
        return ()
    n_components = models.mixture.n_components
    nearest = [
        np.delete(matched_distances(each, given, n_components), index).min()
        for index, each in enumerate(given)
    ]
    reach = max(nearest) + max(1, round(_CLOSE * models.mixture.n_rows))
    far = [
        index
        for index in heavy
        if matched_distances(labels[index], given, n_components).min() > reach
    ]
    if not far:
        return ()
    return (
        f"chains from other starts came to models of log mass {log_mass[far].max():.1f} or more "
        "that no group of modes accounts for",
    )


def _elsewhere(models: PinnedModels, given: Labels, rng: np.random.Generator) -> Labels:
    """Return where chains from about as many other allocations as are given have come to."""
    mixture = models.mixture
    breeding = Breeding.of(mixture)
    parents = rng.permutation(len(given))[: -(-len(given) // 2)]
    children = np.stack([breeding.child(given[parent], rng) for parent in parents])
    shared = shared_cluster_labels(mixture.columns, mixture.n_components, len(parents), rng)
    labels = np.concatenate([children, shared])
    for _ in range(_N_SWEEPS):
        labels = _sweep(models, labels, rng)
    return labels


def _drawn(log_mass: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return n indices, drawn by estimates of log masses that may be a few nats wrong."""
    return systematic_resample(log_mass / _NATS, n, rng)


def _sweep(models: PinnedModels, labels: Labels, rng: np.random.Generator) -> Labels:
    """Draw models given allocations, and allocations given these."""
    params = models.draw(*models.mixture.sums(labels), rng)
    return _collapsed.draw_labels(models.log_f(params), rng)
