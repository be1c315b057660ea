"""The mass of the posterior around allocations: where chains start, and what they have missed."""

from __future__ import annotations

import numpy as np
import pytest
from _mixture_oracles import MixturePrior, conjugate_energy, enumerated_log_evidence
from scipy.special import logsumexp

from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.passes._rows import make_rows
from skbae.inference.sample._allocation_masses import (
    mass_around,
    mass_of_modes,
    missed_mass,
    starts_by_mass,
)
from skbae.inference.sample._allocation_starts import shared_cluster_labels
from skbae.inference.sample._collapsed import draw_labels


def pinned(X, prior, temperature=1.0):
    """Return models given allocations of rows."""
    energy = conjugate_energy(X, prior)
    mixture = energy.collapse(X, temperature)
    return PinnedModels(energy, mixture, X, make_rows(X, None).frame, temperature)


def corners(n_rows=40):
    """Return rows at the corners of a rectangle: two components divide it in one of two ways."""
    rng = np.random.default_rng(0)
    at = np.arange(n_rows) % 4
    X = np.stack([at % 2, 1.02 * (at // 2)], axis=1) * 6 + rng.normal(size=(n_rows, 2))
    return X, (at % 2).astype(np.intp), (at // 2).astype(np.intp)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_mass_is_the_density_of_a_model_over_its_density_given_the_allocation(kind, temperature):
    """By Bayes' rule, to rounding, where no other labelling of the model is near."""
    X, by_column, _ = corners()
    labels = np.stack([by_column, 1 - by_column])
    covariance = np.cov(X.T, bias=True)
    scale = np.diagonal(covariance).copy() if kind == "diag" else covariance
    prior = MixturePrior(kind, 2, X.mean(axis=0), 0.1 * scale)
    models = pinned(X, prior, temperature)
    found = mass_around(models, labels, np.random.default_rng(5), 1)
    conditional = models.conditional(*models.mixture.sums(labels))
    # the same draws
    params = models.draw(*models.mixture.sums(labels), np.random.default_rng(5))
    density = models.energy.log_prior(params)
    density += logsumexp(models.log_f(params), axis=1).sum(axis=1)
    # the package's conditionals are averages over both labellings, and both are counted here
    given = np.diagonal(models.energy.log_conditional(conditional, params))
    np.testing.assert_allclose(found, density - given, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_middle_estimates_are_nearer_to_the_mass_of_a_spread_mode(kind):
    """Overlapping components: the mode has nearly all of the evidence, which enumeration gives."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(14, 2))
    X[:7, 0] += 3.0
    covariance = np.cov(X.T, bias=True)
    scale = np.diagonal(covariance).copy() if kind == "diag" else covariance
    prior = MixturePrior(kind, 2, X.mean(axis=0), scale)
    exact = enumerated_log_evidence(X, prior)
    models, labels = pinned(X, prior), np.tile((np.arange(14) < 7).astype(np.intp), (256, 1))
    for _ in range(60):
        params = models.draw(*models.mixture.sums(labels), rng)
        labels = draw_labels(models.log_f(params), rng)
    low = np.median(mass_around(models, labels, rng))
    middle = np.median(mass_of_modes(models, labels, rng))
    assert low < exact - 1
    assert abs(middle - exact) < 1
    assert abs(middle - exact) < abs(low - exact)


def two_ways():
    """Return models of two components of the rows above, and allocations by either column."""
    X, first, second = corners()
    prior = MixturePrior("full", 2, X.mean(axis=0), 0.2 * np.cov(X.T, bias=True))
    return pinned(X, prior), first, second


def test_chains_from_elsewhere_find_the_other_way_to_divide_the_rows():
    models, first, second = two_ways()
    rng = np.random.default_rng(0)
    one = np.tile(first, (20, 1))
    mass = mass_around(models, np.stack([first, second]), rng, 50)
    assert abs(mass[0] - mass[1]) < 3  # both ways matter
    missed, log_mass = missed_mass(models, one, float(mass[0]), 32, rng)
    assert len(missed)
    assert all(min(np.sum(each != second), np.sum(each == second)) < 8 for each in missed)
    assert np.all(log_mass > mass[0] - 5)


def test_nothing_is_missed_where_both_ways_to_divide_the_rows_are_known():
    models, first, second = two_ways()
    rng = np.random.default_rng(0)
    both = np.concatenate([np.tile(first, (10, 1)), np.tile(second, (10, 1))])
    value = float(np.logaddexp(*mass_around(models, np.stack([first, second]), rng, 50)))
    assert not len(missed_mass(models, both, value, 32, rng)[0])


def test_starts_are_where_there_is_mass_in_both_islands():
    """From one way to divide the rows and from rows at random: both ways, for the most part."""
    models, first, second = two_ways()
    rng = np.random.default_rng(0)
    given = np.concatenate([np.tile(first, (8, 1)), rng.integers(2, size=(8, len(first)))])
    for starts in starts_by_mass(models, (given, given), 20, rng):
        assert starts.shape == (20, len(first))
        ways = [np.minimum((starts != way).sum(axis=1), (starts == way).sum(axis=1)) < 8
                for way in (first, second)]  # fmt: skip
        assert all(way.any() for way in ways)
        assert np.mean(ways[0] | ways[1]) > 0.5


def test_components_share_clusters_in_all_ways_in_turn():
    """So many clusters, each of one component or more, and the rest of the components empty."""
    X = np.repeat([[0.0], [100.0], [200.0]], 30, axis=0)
    X = X + np.random.default_rng(0).normal(size=X.shape)
    cluster = np.arange(90) // 30
    labels = shared_cluster_labels(X, 3, 60, np.random.default_rng(1))
    filled = np.array([len(np.unique(each)) for each in labels])
    # (1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3) take turns
    np.testing.assert_array_equal(np.bincount(filled)[1:], [10, 20, 30])
    apart = [all(len(np.unique(each[cluster == k])) == 1 for k in range(3)) for each in labels]
    shared = np.array([len(np.unique(each[:30])) > 1 for each in labels])
    assert sum(np.array(apart) & (filled == 3)) >= 5
    assert shared.sum() >= 20
