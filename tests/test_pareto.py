"""The shape of the tail of importance weights, against tails that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import genpareto

from skbae.inference.evidence._pareto import pareto_shape, weights_shape


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_shapes_of_exact_draws(shape, scale):
    """The spread is that of the best estimates, (1 + k) / sqrt(M), and there is hardly a bias."""
    rng = np.random.default_rng(0)
    # with an upper end of the draws, that spread is reached slowly: maximum likelihood is
    # still at 1.25 times
    size, repetitions = 4000 if shape < 0 else 400, 200
    draws = genpareto.rvs(shape, scale=scale, size=(repetitions, size), random_state=rng)
    found = np.array([pareto_shape(row) for row in draws])
    expected = (1 + shape) / np.sqrt(size)
    assert 0.85 < found.std() / expected < 1.2
    assert abs(found.mean() - shape) < 4 * found.std() / np.sqrt(repetitions) + 2 / size


def test_the_order_of_draws_does_not_matter():
    draws = genpareto.rvs(0.5, size=100, random_state=np.random.default_rng(0))
    assert pareto_shape(draws) == pareto_shape(draws[::-1])


@pytest.mark.parametrize("variance", [0.5, 1.25, 2.0, 5.0])
def test_weights_of_a_wide_target_under_a_narrow_proposal(variance):
    """From N(0, 1) to N(0, v): weights have the tail ``1 - 1 / v``, and none if v is below 1."""
    x = np.random.default_rng(0).standard_normal((100, 16384))
    log_weights = 0.5 * x**2 * (1 - 1 / variance)
    shapes = np.array([weights_shape(row) for row in log_weights])
    if variance < 1:
        assert shapes.max() < 0.3
    else:
        # logarithms in the tail, and the prior, are worth some hundredths
        assert abs(shapes.mean() - (1 - 1 / variance)) < 0.1
    np.testing.assert_allclose(weights_shape(log_weights[0] + 1e4), shapes[0], rtol=1e-7)


def test_a_target_that_the_proposal_hardly_meets_is_told_from_one_that_it_covers():
    """A negative control: the same effective share, by a rare far part or by a common one."""
    rng = np.random.default_rng(0)
    common = np.where(rng.random(16384) < 0.3, 0.0, -20.0) + 0.1 * rng.standard_normal(16384)
    rare = 2.0 * rng.standard_exponential(16384)
    assert weights_shape(common) < 0.4
    assert weights_shape(rare) > 1.0


def test_weights_without_a_tail():
    assert weights_shape(np.full(1000, 3.0)) == -np.inf
    assert weights_shape(np.r_[np.zeros(900), np.full(100, -np.inf)]) == -np.inf
    # rounding is no tail
    noise = 1e-14 * np.random.default_rng(0).standard_normal(1000)
    assert weights_shape(noise) == -np.inf


def test_weights_all_in_a_few_draws_have_the_heaviest_tail():
    assert weights_shape(np.r_[0.0, np.full(999, -np.inf)]) == np.inf
    assert weights_shape(np.full(1000, -np.inf)) == np.inf


def test_too_few_draws_raise():
    with pytest.raises(ValueError, match="got 20, at least 21"):
        weights_shape(np.arange(20.0))
    assert np.isfinite(weights_shape(np.arange(21.0)))
