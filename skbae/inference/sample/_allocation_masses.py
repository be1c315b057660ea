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
from skbae.inference.sample._allocation_modes import distances_between
from skbae.inference.sample._allocation_search import challenge
from skbae.inference.sample._allocation_starts import shared_cluster_labels
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.inference.evidence._unpinning import PinnedModels

# Sweeps of chains from allocations that no search has touched, and to other models of a mode.
_N_SWEEPS, _N_AWAY = 20, 12
# Models drawn for an estimate of the mass around an allocation.
_N_DRAWS = 4
# Largest difference, in nats, between estimates from within and from without a mode.
_MOST_SPREAD = 40.0
# Nats by which such estimates may be wrong: starts are drawn by ``exp(estimate / _NATS)``.
_NATS = 4.0
# Chains that look for mass that has been missed: so many times as many in many columns, and least.
_MOST_SHARES, _FEWEST_CHAINS = 4, 16
# Share of the posterior that does not count.
_NEGLIGIBLE = 0.02
# Allocations are far from given ones if they are so many times, and by this share of the rows,
# farther from these than any of these from the nearest other one.
_FARTHER, _CLOSE = 1.25, 0.02
# Share of the posterior that single allocations must have to count, and how many are kept.
LARGE_SHARE, _POOL_SIZE = 0.1, 8


def mass_around(
    models: PinnedModels, labels: Labels, rng: np.random.Generator, n_draws: int = _N_DRAWS
) -> Array:
    """Return estimates of the log of the posterior's mass around allocations (S, N), (S,).

    The mean of ``p(X, m) / p(m | X, z)`` over models m drawn given the allocation z: by Bayes' rule
    ``p(X, z)`` over the probability of z given m. Its expectation is the evidence; from few draws
    it is the mass of the models near these, and rather too low. It is multiplied by the number of
    relabellings of z, as if each had models of its own: too much by that number at most, where
    models near one are near others too, since components share a cluster.

    Parameters
    ----------
    models : PinnedModels
    labels : ndarray of int of shape (S, N)
    rng : Generator
    n_draws : int
        Models drawn for each allocation.
    """
    gains = _gains_of_draws(models, labels, rng, n_draws)
    return _log_mass(models, labels) + log_mean_exp(gains, axis=0)


def mass_of_modes(models: PinnedModels, labels: Labels, rng: np.random.Generator) -> Array:
    """Return estimates of the log of the mass of the modes that allocations (S, N) are in, (S,).

    Of the log ratios of :func:`mass_around`, those of models drawn given the allocation are too
    low, and those of models drawn from the mode are too high: were they normal, both by half their
    variance. So the middle between both means is taken. The mode's models are those that a chain
    from the allocation comes to.

    Parameters
    ----------
    models : PinnedModels
    labels : ndarray of int of shape (S, N)
    rng : Generator
    """
    low = _gains_of_draws(models, labels, rng, _N_DRAWS).mean(axis=0)
    later, high = labels, np.zeros(len(labels))
    for number in range(_N_AWAY):
        log_f = models.log_f(models.draw(*models.mixture.sums(later), rng))
        later, log_sums = _collapsed.draw_and_sum(log_f, rng)
        if number >= _N_AWAY - _N_DRAWS:
            high += _gain(log_f, log_sums, labels) / _N_DRAWS
    # chains that have left the mode are farther off than those within
    spread = np.clip(high - low, 0.0, _MOST_SPREAD)
    return _log_mass(models, labels) + low + 0.5 * spread


def _log_mass(models: PinnedModels, labels: Labels) -> Array:
    """Return ``log p(X, z)`` of allocations and all their relabellings, (S,)."""
    mixture = models.mixture
    return mixture.log_joint(labels) + mixture.log_multiplicity(mixture.sums(labels)[0])


def _gain(log_f: Array, log_sums: Array, labels: Labels) -> Array:
    """Return minus the log probability of allocations (S, N) given models' ``log f``, (S,).

    ``log_sums`` (S, N) are the logs of the sums over components of ``f``.
    """
    own = np.take_along_axis(log_f, labels[:, None], axis=1)[:, 0]
    return (log_sums - own).sum(axis=1)


def _gains_of_draws(
    models: PinnedModels, labels: Labels, rng: np.random.Generator, n_draws: int
) -> Array:
    """Return such numbers of models drawn given the allocations, (n_draws, S)."""
    counts, sums = models.mixture.sums(labels)
    gains = np.empty((n_draws, len(labels)))
    for gain in gains:
        log_f = models.log_f(models.draw(counts, sums, rng))
        gain[:] = _gain(log_f, tempered_logsumexp(log_f, 1.0, axis=1), labels)
    return gains


def starts_by_mass(
    models: PinnedModels, given: tuple[Labels, Labels], n: int, rng: np.random.Generator
) -> tuple[Labels, Labels]:
    """Return n allocations, drawn by the mass around them, for each island.

    They are drawn from given ones and from as many others. Half of the others are children of
    given ones (two components merge, one splits), half have components that share clusters or are
    empty; chains start from both. Half as many are children of the heaviest of all these.

    Parameters
    ----------
    models : PinnedModels
    given : tuple of ndarrays of int of shape (S, N)
        Allocations of each island.
    n : int
    rng : Generator

    Returns
    -------
    tuple of ndarrays of int of shape (n, N)
        Those from the same start are next to each other.
    """
    labels = np.concatenate(given)
    labels = np.concatenate([labels, _elsewhere(models, labels, len(labels), rng)])
    log_mass = mass_of_modes(models, labels, rng)
    parents = labels[_drawn(log_mass, -(-len(labels) // 4), rng)]
    breeding = Breeding.of(models.mixture)
    children = _wander(models, breeding.children(parents, rng), rng)
    labels = np.concatenate([labels, children])
    log_mass = np.concatenate([log_mass, mass_of_modes(models, children, rng)])
    first, second = (labels[_drawn(log_mass, n, rng)] for _ in given)
    return first, second


def missed_mass(
    models: PinnedModels,
    given: Labels,
    log_evidence: float,
    n_chains: int,
    rng: np.random.Generator,
) -> tuple[Labels, Array]:
    """Return allocations, and the log mass around them, that are far from where chains have been.

    Chains start from children of given allocations, and elsewhere; more chains in more columns.
    What they come to counts if the mass around it is not negligible, and if it is farther from all
    given allocations than any of these is from the others.

    Parameters
    ----------
    models : PinnedModels
    given : ndarray of int of shape (S, N)
        Allocations drawn from the posterior, as far as it is known.
    log_evidence : float
        As far as it is known.
    n_chains : int
        Chains that look for mass; more in more columns.
    rng : Generator

    Returns
    -------
    labels : ndarray of int of shape (F, N)
    log_mass : ndarray of shape (F,)
    """
    n_components = models.mixture.n_components
    share = min(1 + models.mixture.columns.shape[1] // 2, _MOST_SHARES)
    labels = _elsewhere(models, given, max(_FEWEST_CHAINS, n_chains * share), rng)
    log_mass = mass_around(models, labels, rng)
    heavy = log_mass > log_evidence + np.log(_NEGLIGIBLE)
    labels, log_mass = labels[heavy], log_mass[heavy]
    if not len(labels):
        return labels, log_mass
    among = distances_between(given, given, n_components)
    np.fill_diagonal(among, models.mixture.n_rows)
    reach = _FARTHER * among.min(axis=1).max() + max(1.0, _CLOSE * models.mixture.n_rows)
    far = distances_between(labels, given, n_components).min(axis=1) > reach
    return labels[far], log_mass[far]


def missed_modes(
    models: PinnedModels,
    given: Labels,
    log_evidence: float,
    n_children: int,
    rng: np.random.Generator,
) -> tuple[Labels, Array]:
    """Return single allocations, and their log mass, that chains have not come to.

    They are children of given allocations, refined. Few rows that leave a component together may
    separate modes that are not far from each other. An allocation counts if it alone has a tenth of
    the posterior, which some fifty draws do not miss by chance, and is near none of these.

    Parameters
    ----------
    models : PinnedModels
    given : ndarray of int of shape (S, N)
        Allocations drawn from the posterior, as far as it is known.
    log_evidence : float
        As far as it is known.
    n_children : int
        0: nothing is found.
    rng : Generator

    Returns
    -------
    labels : ndarray of int of shape (F, N)
    log_mass : ndarray of shape (F,)
    """
    mixture = models.mixture
    if not n_children:
        return given[:0], np.empty(0)
    pool = challenge(mixture, given, n_children, _POOL_SIZE, rng)
    heavy = pool.log_mass > log_evidence + np.log(LARGE_SHARE)
    labels, log_mass = pool.labels[heavy], pool.log_mass[heavy]
    if not len(labels):
        return labels, log_mass
    nearest = distances_between(labels, given, mixture.n_components).min(axis=1)
    missed = nearest > max(1.0, _CLOSE * mixture.n_rows)
    return labels[missed], log_mass[missed]


def doubts_about_missed(log_mass: Array) -> tuple[str, ...]:
    """Return a doubt if chains from other starts came to such log masses, (F,), that none has."""
    if not len(log_mass):
        return ()
    return (
        f"chains from other starts came to models of log mass {log_mass.max():.1f} or more, far "
        "from all that were drawn",
    )


def _elsewhere(models: PinnedModels, given: Labels, n: int, rng: np.random.Generator) -> Labels:
    """Return where chains from n other allocations than given ones have come to."""
    mixture = models.mixture
    parents = given[rng.integers(len(given), size=-(-n // 2))]
    shared = shared_cluster_labels(mixture.columns, mixture.n_components, n // 2, rng)
    children = Breeding.of(mixture).children(parents, rng)
    return _wander(models, np.concatenate([children, shared]), rng)


def _wander(models: PinnedModels, labels: Labels, rng: np.random.Generator) -> Labels:
    """Return where chains of models from allocations have come to."""
    for _ in range(_N_SWEEPS):
        params = models.draw(*models.mixture.sums(labels), rng)
        labels = _collapsed.draw_labels(models.log_f(params), rng)
    return labels


def _drawn(log_mass: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return n indices, drawn by estimates of log masses that may be a few nats wrong."""
    return systematic_resample(log_mass / _NATS, n, rng)
