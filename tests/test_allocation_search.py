"""What searches over allocations find, and what they would miss without some of their moves."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from _mixture_oracles import MixturePrior, conjugate_energy

from skbae.inference.sample import _allocation_children, _collapsed
from skbae.inference.sample._allocation_chains import leading_modes
from skbae.inference.sample._allocation_children import purify, tied_columns
from skbae.inference.sample._allocation_modes import (
    Pool,
    distances_between,
    matched_distances,
    share_components,
)
from skbae.inference.sample._allocation_search import SearchPlan, search


def collapsed(X, n_components, covariance):
    size = X.shape[1]
    prior = MixturePrior(
        "full", n_components, X.mean(axis=0), covariance, degrees_of_freedom=size + 2.0
    )
    return conjugate_energy(X, prior).collapse(X, 1.0)


@pytest.mark.parametrize("n", [3, 5])
def test_matched_distances_are_the_least_over_all_relabellings(n):
    rng = np.random.default_rng(0)
    labels, others = rng.integers(n, size=(2, 20)), rng.integers(n, size=(6, 20))
    least = [
        [min((np.array(order)[other] != each).sum() for order in permutations(range(n)))
         for other in others]
        for each in labels
    ]  # fmt: skip
    assert distances_between(labels, others, n).tolist() == least
    assert matched_distances(labels[1], others, n).tolist() == least[1]


# -- columns of few values -------------------------------------------------------------------------


def table_of_few_values(seed=0, n_rows=200, size=12):
    """Return standardised rows: four columns of whole numbers, and eight of zeros and ones."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_rows, 3)) @ rng.normal(size=(3, size))
    hidden += 0.7 * rng.normal(size=(n_rows, size))
    X = (hidden / hidden.std(axis=0) > rng.uniform(0.2, 1.6, size=size)).astype(float)
    X[:, :4] = np.round(hidden[:, :4])
    return (X - X.mean(axis=0)) / X.std(axis=0)


def best_of_searches(n_seeds):
    X = table_of_few_values()
    mixture = collapsed(X, 3, np.cov(X.T, bias=True) / 3 ** (2 / X.shape[1]))
    found = [search(mixture, SearchPlan(), np.random.default_rng(s)) for s in range(n_seeds)]
    return [pool.log_mass[0] for pool in found], found[0].labels[0], X


def test_modes_of_a_table_of_few_values_are_found():
    """The best mode known of ten times as long searches: two components have constant columns."""
    masses, labels, X = best_of_searches(3)
    assert sorted(masses)[1] > -2150.6, "two of three find it"
    constant = [(np.ptp(X[labels == k], axis=0) == 0).sum() for k in range(3)]
    assert sorted(constant) == [0, 4, 6]


def test_searches_of_the_usual_patience_miss_modes_of_a_table_of_few_values(monkeypatch):
    """Negative control: most end far from the best, four of five in the long run."""
    monkeypatch.setattr(_allocation_children, "tied_columns", lambda *_: np.array([], int))
    masses, _, _ = best_of_searches(13)
    assert sum(mass < -2153.0 for mass in masses) >= 7


def test_columns_with_a_common_value_are_tied():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    X[:, 1] = X[:, 1] > 1.0
    X[:12, 2] = 0.5
    assert tied_columns(X).tolist() == [1, 2]
    assert tied_columns(X[:, :1]).tolist() == []


def test_a_purified_component_loses_the_rows_of_rarer_values():
    X = table_of_few_values()
    mixture, rng = collapsed(X, 3, np.eye(12)), np.random.default_rng(0)
    labels, tied = rng.integers(3, size=len(X)), tied_columns(X)
    for _ in range(20):
        child = purify(mixture, labels, tied, rng)
        (one,) = np.unique(labels[child != labels])
        kept = X[child == one][:, tied][
            np.isin(np.flatnonzero(child == one), np.flatnonzero(labels == one))
        ]
        before = X[labels == one][:, tied]
        purer = (np.ptp(kept, axis=0) == 0) & (np.ptp(before, axis=0) > 0)
        assert purer.sum() >= 1
        # nobody joins it
        assert np.all(labels[child == one] == one)


# -- variants of a mode ----------------------------------------------------------------------------


def rows_with_two_small_groups(n=147):
    """Return rows in two large groups and two of three, and the shares of three components.

    All is mirrored, so that it makes no difference which of the small groups has a component.
    """
    rng = np.random.default_rng(0)
    left = np.arange(n) % 2
    large = rng.normal(size=(n, 2)) + 9.0 * left[:, None] * [1.0, 0.0]
    small = [4.5, 9.0] + 0.1 * rng.normal(size=(3, 2))
    mirror = np.array([1.0, -1.0])
    X = np.concatenate([small, small * mirror, large, large * mirror])
    first = np.concatenate([np.zeros(6, int), left, left])
    second = first.copy()
    first[:3], second[3:6] = 2, 2
    return X, first, second


def test_variants_of_a_mode_in_three_rows_are_kept():
    """Either small group has the third component; chains do not go from one to the other."""
    X, first, second = rows_with_two_small_groups()
    mixture = collapsed(X, 3, np.eye(2))
    labels = np.stack([first, second])
    masses = mixture.log_mass(mixture.visit(labels))
    assert np.ptp(masses) < 1e-6
    pool = Pool(mixture, 12)
    pool.add(labels, masses)
    assert len(pool.labels) == 1, "few rows differ"
    assert len(pool.variants) == 1
    modes, found, _, of = leading_modes([pool, pool])
    np.testing.assert_allclose(np.sort(found), np.sort(masses))
    assert of.tolist() == [0, 0]
    state = _collapsed.init(mixture, np.repeat(modes, 8, axis=0))
    rng = np.random.default_rng(0)
    for _ in range(100):
        state, _ = _collapsed.step(mixture, state, rng, adapt=True)
    for chains, mode in zip(state.allocations.labels.reshape(2, 8, -1), modes, strict=True):
        assert np.all(share_components(mode, chains, 3))


def test_what_differs_in_rows_of_large_components_is_no_variant():
    X, first, _ = rows_with_two_small_groups()
    mixture = collapsed(X, 3, np.eye(2))
    other = first.copy()
    other[10:13] = 1 - other[10:13]
    labels = np.stack([first, other])
    pool = Pool(mixture, 12)
    pool.add(labels, np.array([-10.0, -11.0]))
    assert (len(pool.labels), len(pool.variants)) == (1, 0)
