"""What network autoencoders make of weights, units, precision, seeds and threads."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import NETWORK_INSTANCES
from _networks import assert_same, make
from sklearn.datasets import load_iris

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]
each_instance = pytest.mark.parametrize("instance", NETWORK_INSTANCES, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def X():
    return load_iris().data


# -- weights ---------------------------------------------------------------------------------------


@each_instance
def test_weighted_rows_are_repeated_rows(instance, X):
    """To the last bit, in batches too, whatever the order."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, len(X))
    repeated = rng.permutation(np.repeat(X, counts, axis=0))
    order = rng.permutation(len(X))
    for size in (20, "auto"):
        weighted = instance.make(batch_size=size).fit(X[order], sample_weight=counts[order])
        plain = instance.make(batch_size=size).fit(repeated)
        assert_same(weighted, plain, X, rtol=0, atol=0)
        assert weighted.loss_curve_ == plain.loss_curve_
        assert weighted.hmaxe_ == plain.hmaxe_
    np.testing.assert_allclose(weighted.score(X, sample_weight=counts), weighted.hmaxe_)


@each_instance
def test_rows_without_weight_are_absent(instance, X):
    absurd = np.concatenate([X, 1e6 * np.ones((5, 4))])
    with_zeros = instance.make().fit(absurd, sample_weight=np.r_[np.ones(len(X)), np.zeros(5)])
    assert_same(with_zeros, instance.make().fit(X), X, rtol=0, atol=0)


def test_weights_change_the_fit(X):
    weights = np.where(np.arange(len(X)) < 50, 20.0, 0.1)
    first = make(max_iter=100).fit(X, sample_weight=weights)
    second = make(max_iter=100).fit(X)
    assert first.score(X[:50]) > second.score(X[:50]) + 0.1
    assert first.score(X[50:]) < second.score(X[50:]) - 0.1


# -- units, precision, seeds -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1e7])
def test_units_only_shift_the_scores(scale, X):
    """Networks see rows centred and scaled, so a fit is the same in any units."""
    here, there = make(max_iter=20).fit(X), make(max_iter=20).fit(scale * X + 3 * scale)
    moved = there.score_samples(scale * X + 3 * scale) + 4 * np.log(scale)
    np.testing.assert_allclose(moved, here.score_samples(X), atol=1e-3)
    np.testing.assert_allclose(there.noise_variance_, scale**2 * here.noise_variance_, rtol=1e-3)
    reconstruction = there.inverse_transform(there.transform(scale * X + 3 * scale)) / scale - 3
    np.testing.assert_allclose(reconstruction, here.inverse_transform(here.transform(X)), atol=1e-3)


def test_scores_far_from_the_origin_equal_those_near_it(X):
    fitted = make(max_iter=20).fit(X + 1e6)
    np.testing.assert_allclose(
        fitted.score_samples(X + 1e6), make(max_iter=20).fit(X).score_samples(X), atol=1e-2
    )


@each_instance
def test_float32_rows_give_float32_codes(instance, X):
    X32 = X.astype(np.float32)
    single, double = instance.make().fit(X32), instance.make().fit(X32.astype(np.float64))
    assert_same(single, double, X, rtol=1e-6)
    codes = single.transform(X32)
    assert codes.dtype == np.float32
    assert single.inverse_transform(codes).dtype == np.float32
    assert single.score_samples(X32).dtype == np.float64
    if instance.density:
        assert single.denoise(X32, 0.1).dtype == np.float32


@each_instance
def test_equal_seeds_give_equal_fits(instance, X):
    assert_same(instance.make().fit(X), instance.make().fit(X), X, rtol=0)
    other = instance.make(random_state=1).fit(X)
    if instance.settings.get("hidden_layer_sizes") != ():  # PCA in closed form, for any seed
        assert not np.allclose(other.decoder_coefs_[0], instance.make().fit(X).decoder_coefs_[0])
    generator = np.random.default_rng(0)
    assert_same(instance.make(random_state=generator).fit(X), instance.make().fit(X), X, rtol=0)


@each_instance
def test_number_of_jobs_changes_no_bit(instance):
    X = np.random.default_rng(0).normal(size=(3000, 6))
    fits = [instance.make(n_jobs=n_jobs, max_iter=1).fit(X) for n_jobs in (1, 2)]
    assert_same(*fits, X, rtol=0)
    assert fits[0].hmaxe_ == fits[1].hmaxe_


def test_constant_and_repeated_rows_give_finite_fits(X):
    for rows in (np.ones((20, 3)), np.repeat(X[:2], 10, axis=0), np.zeros((5, 1))):
        fitted = make(max_iter=3).fit(rows)
        assert np.isfinite(fitted.score_samples(rows)).all()
        assert np.isfinite(fitted.transform(rows)).all()
    constant = np.column_stack([X, np.full(len(X), 3.0)])
    fitted = make(max_iter=100, learning_rate_init=0.01).fit(constant)
    reconstruction = fitted.inverse_transform(fitted.transform(constant))
    np.testing.assert_allclose(reconstruction[:, 4], 3.0, atol=0.1)


def test_noise_stays_above_its_floor():
    """A code as large as a row could explain it without noise."""
    X = np.random.default_rng(0).normal(size=(50, 1))
    fitted = make(n_components=1, max_iter=200, learning_rate_init=0.05, temperature=0.0).fit(X)
    assert np.all(fitted.noise_variance_ >= 0.99e-6 * X.var())
    assert np.isfinite(fitted.hmaxe_)
