"""A row of weight two is two rows, exactly: in the start, in every pass, in every score."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import INSTANCES, each_instance
from sklearn.datasets import load_iris

from skbae._types import Rows
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import (
    MAX_DISTINCT,
    distinct_rows,
    kmeans_plus_plus,
    random_rows,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

K = 4
SINGLE = ("gmm-full", "gmm-full-kmeans-init", "gmm-full-random-init", "mixture-pca-T1")
LONG = (*SINGLE, "gmm-tied", "mixture-pca-LLGAE")


def named(*names):
    return [row for row in INSTANCES if row.name in names]


def assert_same_fit(first, second, X, instance):
    """Sums in another order differ in the last digits, and nothing else may."""
    close = {"rtol": 1e-7, "atol": 1e-9}
    for name in instance.plain:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), **close)
    np.testing.assert_allclose(instance.spread(first), instance.spread(second), **close)
    np.testing.assert_allclose(first.hmaxe_, second.hmaxe_, rtol=1e-9)
    np.testing.assert_allclose(first.lower_bound_, second.lower_bound_, rtol=1e-9)
    np.testing.assert_allclose(first.score_samples(X), second.score_samples(X), rtol=1e-7)
    if getattr(first, "tol", 1) > 0:  # with tol=0 rounding decides when nothing changes
        assert first.n_iter_ == second.n_iter_


@pytest.fixture(scope="module")
def weighted():
    """Rows with counts 0 to 4, among them some that are equal anyway."""
    X = load_iris().data
    counts = np.random.default_rng(0).integers(0, 5, len(X))
    assert (counts == 0).sum() > 10
    return X, counts


@each_instance
@pytest.mark.parametrize("max_iter", [0, 10])
def test_weighted_rows_equal_repeated_shuffled_rows(instance, max_iter, weighted):
    X, counts = weighted
    rng = np.random.default_rng(1)
    repeated = rng.permutation(np.repeat(X, counts, axis=0))
    order = rng.permutation(len(X))
    by_weight = instance.make(K, max_iter=max_iter, tol=0)
    by_weight.fit(X[order], sample_weight=counts[order])
    by_rows = instance.make(K, max_iter=max_iter, tol=0).fit(repeated)
    if instance.joint is not None:
        assert len(np.unique(np.round(by_rows.means_, 6), axis=0)) == K
    assert_same_fit(by_weight, by_rows, X, instance)


@each_instance
def test_order_of_rows_does_not_matter(instance, weighted):
    X, _ = weighted
    order = np.random.default_rng(2).permutation(len(X))
    settings = {"max_iter": 10, "tol": 0}
    fitted = instance.make(K, **settings).fit(X)
    assert_same_fit(fitted, instance.make(K, **settings).fit(X[order]), X, instance)


@each_instance
def test_rows_of_weight_zero_are_absent(instance, weighted):
    """Even absurd ones: they move neither centre nor start."""
    X, _ = weighted
    absurd = np.concatenate([X, 1e6 * np.ones((7, X.shape[1]))])
    weights = np.r_[np.ones(len(X)), np.zeros(7)]
    settings = {"max_iter": 10, "tol": 0}
    with_zeros = instance.make(K, **settings).fit(absurd, sample_weight=weights)
    assert_same_fit(with_zeros, instance.make(K, **settings).fit(X), X, instance)


@each_instance
def test_common_factor_of_the_weights_leaves_a_single_model(instance, weighted):
    """From one start only ratios count (starts of subspaces shrink by a number of rows)."""
    X, counts = weighted
    settings = {"max_iter": 10, "tol": 0}
    if instance.misfit:
        settings["warm_start"] = True
    once, more = (instance.make(K, max_iter=0).fit(X).set_params(**settings) for _ in range(2))
    once.fit(X, sample_weight=counts)
    more.fit(X, sample_weight=counts * 2.5)
    assert_same_fit(once, more, X, instance)


@pytest.mark.parametrize("instance", named(*LONG), ids=lambda row: row.name)
def test_long_data_are_thinned_by_content(instance):
    """Beyond 20,000 rows the start looks at a part of them, chosen by what they are."""
    rng = np.random.default_rng(3)
    n = 21_000
    assert n > MAX_DISTINCT
    centres = np.array([[0.0, 0], [4, 4], [-4, 4], [0, -6]])
    X = centres[rng.integers(4, size=n)] + rng.normal(size=(n, 2))
    counts = rng.integers(0, 4, n)
    repeated = rng.permutation(np.repeat(X, counts, axis=0))
    settings = {"max_iter": 3, "tol": 0}
    by_weight = instance.make(K, **settings).fit(X, sample_weight=counts)
    by_rows = instance.make(K, **settings).fit(repeated)
    assert_same_fit(by_weight, by_rows, X[:200], instance)


@pytest.mark.parametrize("instance", named(*SINGLE), ids=lambda row: row.name)
def test_float32_weighted_rows_equal_repeated_rows(instance, weighted):
    X, counts = weighted
    X = X.astype(np.float32)
    repeated = np.random.default_rng(4).permutation(np.repeat(X, counts, axis=0))
    by_weight = instance.make(K, max_iter=0).fit(X, sample_weight=counts)
    by_rows = instance.make(K, max_iter=0).fit(repeated)
    np.testing.assert_allclose(by_weight.means_, by_rows.means_, rtol=1e-6)
    np.testing.assert_allclose(by_weight.hmaxe_, by_rows.hmaxe_, rtol=1e-5)


class TestDistinctRows:
    """The part of the start that makes it so."""

    def test_merges_and_orders(self):
        X = np.array([[1.0, 2], [0, 1], [1, 2], [-0.0, 1], [3, 3]])
        weights = np.array([1.0, 2, 3, 4, 5])
        rows, merged = distinct_rows(make_rows(X, weights))
        found = {tuple(row): weight for row, weight in zip(rows.tolist(), merged, strict=True)}
        assert found == {(1, 2): 4, (0, 1): 6, (3, 3): 5}
        again, merged_again = distinct_rows(make_rows(X[::-1], weights[::-1]))
        np.testing.assert_array_equal(again, rows)
        np.testing.assert_array_equal(merged_again, merged)

    def test_rows_that_collide_in_the_projection_stay_apart(self):
        """Lattice points far from each other can share sums; the rows are compared, not sums."""
        grid = np.stack(np.meshgrid(*[np.arange(12.0)] * 3), axis=-1).reshape(-1, 3)
        twice = np.concatenate([grid, grid])
        rows, merged = distinct_rows(make_rows(twice, None))
        assert len(rows) == len(grid)
        np.testing.assert_array_equal(merged, 2)

    @pytest.mark.parametrize("limit", [100, 1000])
    def test_thinning_keeps_enough_and_not_too_many(self, limit):
        X = np.random.default_rng(5).normal(size=(20_000, 3))
        rows, merged = distinct_rows(make_rows(X, None), limit)
        # binomial: 5 sigma
        assert abs(len(rows) - limit) < 5 * np.sqrt(limit)
        np.testing.assert_array_equal(merged, 1)
        # a fair sample of the rows: its mean within 5 standard errors
        assert np.all(np.abs(rows.mean(axis=0) - X.mean(axis=0)) < 5 / np.sqrt(len(rows)))

    def test_thinning_of_heavily_repeated_rows_keeps_them_all(self):
        X = np.repeat(np.random.default_rng(6).normal(size=(50, 2)), 1000, axis=0)
        rows, merged = distinct_rows(make_rows(X, None), 1000)
        assert len(rows) == 50
        np.testing.assert_array_equal(merged, 1000)

    def test_float32_rows(self):
        X = np.random.default_rng(7).normal(size=(30, 2)).astype(np.float32)
        rows, _ = distinct_rows(make_rows(np.concatenate([X, X]), None))
        assert rows.dtype == np.float64
        assert sorted(rows.tolist()) == sorted(X.astype(float).tolist())


class TestChoices:
    def test_random_rows_follow_the_weights(self):
        X, weights = np.arange(4.0)[:, None], np.array([1.0, 2, 3, 4])
        rng = np.random.default_rng(0)
        n = 4000
        first = np.array([random_rows(X, weights, 1, rng)[0, 0] for _ in range(n)])
        share = np.bincount(first.astype(int), minlength=4) / n
        expected = weights / 10
        assert np.all(np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n))

    def test_random_rows_are_distinct_while_they_last(self):
        X, weights = np.arange(5.0)[:, None], np.ones(5)
        rng = np.random.default_rng(0)
        for _ in range(50):
            assert len(np.unique(random_rows(X, weights, 5, rng))) == 5
        assert random_rows(X, weights, 8, rng).shape == (8, 1)

    def test_kmeans_plus_plus_never_takes_a_row_twice(self):
        X = np.repeat(np.arange(6.0), 1)[:, None]
        for seed in range(30):
            chosen = kmeans_plus_plus(X, np.ones(6), 6, np.random.default_rng(seed))
            assert len(np.unique(chosen)) == 6
        few = kmeans_plus_plus(X[:2], np.ones(2), 4, np.random.default_rng(0))
        assert set(few.ravel()) == {0.0, 1.0}

    def test_kmeans_plus_plus_spreads_better_than_chance(self):
        """Far groups are all seen, every time: what distance weighting is for."""
        rng = np.random.default_rng(1)
        groups = np.arange(5)[:, None] * 1000.0 + rng.normal(size=(5, 40))
        X = groups.ravel()[:, None]
        for seed in range(30):
            chosen = kmeans_plus_plus(X, np.ones(len(X)), 5, np.random.default_rng(seed))
            assert len(np.unique(np.round(chosen / 1000))) == 5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_centre_and_scale_of_the_rows(dtype, shift):
    rng = np.random.default_rng(8)
    X = (rng.normal(size=(5000, 3)) * [1, 10, 0] + shift).astype(dtype)
    weights = rng.uniform(0.1, 2, 5000)
    rows = make_rows(X, weights)
    assert isinstance(rows, Rows)
    exact = X.astype(np.longdouble)
    centre = (weights @ exact) / weights.sum()
    scale = np.sqrt(weights @ (exact - centre) ** 2 / weights.sum())
    np.testing.assert_allclose(rows.centre, centre.astype(float), rtol=1e-12, atol=1e-12)
    # the oracle's own mean of the constant column is rounded at 1e-20 of 1e6 squared, and summed
    np.testing.assert_allclose(rows.scale, scale.astype(float), rtol=1e-9, atol=1e-10)
    assert rows.scale[2] == 0
    np.testing.assert_allclose(rows.total, weights.sum())
