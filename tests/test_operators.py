"""Properties of the array operators, for any input, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import logsumexp, softmax

from skbae.operators._linalg import half_log_det, triangular_inverse
from skbae.operators._random import as_generator
from skbae.operators._tempered import (
    log_mean_exp,
    tempered_logsumexp,
    tempered_softmax,
    tilted_mean,
)

energies = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.floats(-500, 500, allow_subnormal=False),
)
vectors = hnp.arrays(
    np.float64, st.integers(1, 8), elements=st.floats(-50, 50, allow_subnormal=False)
)
temperatures = st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.0, 100.0])
tilts = st.floats(-0.99, 50).filter(lambda t: t == 0 or abs(t) > 1e-3)
shifts = st.floats(-1000, 1000)

# Values below are of the order of a thousand at most: this is a few ulps of that.
CLOSE = {"rtol": 1e-12, "atol": 1e-10}


@given(energies, temperatures)
def test_tempered_maximum_is_its_definition(H, T):
    expected = H.max(axis=-1) if T == 0 else T * logsumexp(H / T, axis=-1)
    np.testing.assert_allclose(tempered_logsumexp(H, T), expected, **CLOSE)


@given(energies, temperatures)
def test_tempered_codes_are_their_definition(H, T):
    expected = np.eye(H.shape[-1])[H.argmax(axis=-1)] if T == 0 else softmax(H / T, axis=-1)
    np.testing.assert_allclose(tempered_softmax(H, T), expected, rtol=1e-9, atol=1e-12)


@given(energies, temperatures, shifts)
def test_shift_moves_the_maximum_and_leaves_the_codes(H, T, shift):
    moved = tempered_logsumexp(H + shift, T)
    np.testing.assert_allclose(moved, tempered_logsumexp(H, T) + shift, **CLOSE)
    gap = np.sort(H, axis=-1)
    # adding a shift rounds: a tie at T = 0 may be resolved either way, elsewhere it may not
    assume(T > 0 or H.shape[-1] == 1 or np.all(gap[..., -1] - gap[..., -2] > 1e-9))
    # the rounding of the shifted energies is divided by T
    np.testing.assert_allclose(
        tempered_softmax(H + shift, T), tempered_softmax(H, T), atol=1e-12 + 1e-12 / max(T, 0.01)
    )


@given(energies, temperatures, st.randoms(use_true_random=False))
def test_permutation_of_the_codes(H, T, random):
    order = list(range(H.shape[-1]))
    random.shuffle(order)
    np.testing.assert_allclose(
        tempered_logsumexp(H[..., order], T), tempered_logsumexp(H, T), **CLOSE
    )
    if T > 0:  # at T = 0 the first of equal energies wins, which depends on the order
        np.testing.assert_allclose(
            tempered_softmax(H[..., order], T), tempered_softmax(H, T)[..., order], atol=1e-13
        )


@given(energies, temperatures)
def test_codes_are_probabilities_and_one_hot_at_zero(H, T):
    codes = tempered_softmax(H, T)
    assert np.all(codes >= 0)
    np.testing.assert_allclose(codes.sum(axis=-1), 1, rtol=1e-14)
    if T == 0:
        assert np.isin(codes, (0.0, 1.0)).all()


@given(energies, st.tuples(temperatures, temperatures).map(sorted))
def test_maximum_grows_with_temperature_by_at_most_the_entropy(H, pair):
    """``max H <= Hmax_T <= max H + T log K``, and T -> Hmax_T does not fall."""
    cold, hot = pair
    low, high = tempered_logsumexp(H, cold), tempered_logsumexp(H, hot)
    slack = 1e-11 * (1 + np.abs(low))
    assert np.all(high >= low - slack)
    assert np.all(high <= H.max(axis=-1) + hot * np.log(H.shape[-1]) + slack)


@given(energies)
def test_limits_in_temperature(H):
    """Cold: the maximum. Hot: the mean over codes, plus the entropy of the uniform code."""
    T = 1e-9
    np.testing.assert_allclose(tempered_logsumexp(H, T), H.max(axis=-1), atol=1e-8, rtol=1e-12)
    T = 1e7
    hot = tempered_logsumexp(H, T) - T * np.log(H.shape[-1])
    # the next order is var(H) / (2 T) <= 500^2 / (2e7), and T log K is rounded at 1e-9
    np.testing.assert_allclose(hot, H.mean(axis=-1), atol=0.02)
    np.testing.assert_allclose(tempered_softmax(H, T), 1 / H.shape[-1], atol=1e-3)


@given(energies, st.sampled_from([0.1, 1.0, 4.0]))
def test_codes_are_the_gradient_of_the_maximum(H, T):
    """Fisher's identity in its smallest form: ``dHmax_T / dH = softmax(H / T)``."""
    H = H / 100  # finite differences need values of order one
    step = 1e-6
    for k in range(H.shape[-1]):
        bump = np.zeros(H.shape[-1])
        bump[k] = step
        slope = (tempered_logsumexp(H + bump, T) - tempered_logsumexp(H - bump, T)) / (2 * step)
        np.testing.assert_allclose(slope, tempered_softmax(H, T)[..., k], atol=1e-7)


@pytest.mark.parametrize("T", [0.0, 0.3, 1.0])
def test_codes_of_energy_minus_infinity_have_probability_zero(T):
    """A code of energy minus infinity has no share; a row without any possible code says so."""
    H = np.array([[-np.inf, 1.0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    np.testing.assert_array_equal(tempered_logsumexp(H, T), [1.0, -np.inf])
    np.testing.assert_array_equal(tempered_softmax(H[:1], T), [[0.0, 1.0, 0.0]])


def test_tie_at_zero_temperature_goes_to_the_first():
    np.testing.assert_array_equal(tempered_softmax(np.array([1.0, 2.0, 2.0]), 0.0), [0, 1, 0])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("T", [0.0, 0.7])
def test_any_axis(axis, T):
    H = np.random.default_rng(0).normal(size=(3, 4, 5))
    moved = np.moveaxis(H, axis, -1)
    np.testing.assert_allclose(tempered_logsumexp(H, T, axis=axis), tempered_logsumexp(moved, T))
    np.testing.assert_allclose(
        np.moveaxis(tempered_softmax(H, T, axis=axis), axis, -1), tempered_softmax(moved, T)
    )


@given(vectors, tilts, shifts)
def test_tilted_mean_moves_with_its_values(x, t, shift):
    np.testing.assert_allclose(
        tilted_mean(x + shift, None, t), tilted_mean(x, None, t) + shift, rtol=1e-10, atol=1e-9
    )


@given(vectors, tilts)
def test_tilted_mean_is_its_definition(x, t):
    expected = x.mean() if t == 0 else -(logsumexp(-t * x) - np.log(len(x))) / t
    np.testing.assert_allclose(tilted_mean(x, None, t), expected, rtol=1e-10, atol=1e-10)


@given(vectors, tilts, st.randoms(use_true_random=False))
def test_tilted_mean_ignores_the_order(x, t, random):
    order = list(range(len(x)))
    random.shuffle(order)
    np.testing.assert_allclose(
        tilted_mean(x[order], None, t), tilted_mean(x, None, t), rtol=1e-10, atol=1e-10
    )


@given(st.data(), vectors, tilts)
def test_tilted_mean_weights_are_repetitions(data, x, t):
    counts = data.draw(hnp.arrays(np.int64, x.shape, elements=st.integers(0, 4)))
    assume(counts.sum() > 0)
    np.testing.assert_allclose(
        tilted_mean(x, counts.astype(float), t),
        tilted_mean(np.repeat(x, counts), None, t),
        rtol=1e-10,
        atol=1e-10,
    )


@given(vectors, st.tuples(tilts, tilts).map(sorted))
def test_tilted_mean_falls_with_the_tilt_between_best_and_worst(x, pair):
    low, high = (tilted_mean(x, None, t) for t in pair)
    slack = 1e-9 * (1 + np.abs(x).max())
    assert high <= low + slack
    assert x.min() - slack <= high
    assert low <= x.max() + slack


@given(vectors)
def test_limits_in_tilt(x):
    """To the mean as t -> 0 from both sides, to the worst as t -> inf."""
    for t in (1e-7, -1e-7):
        # the next order is t var / 2 <= 1e-7 * 2500 / 2; the difference of logs is rounded by eps/t
        np.testing.assert_allclose(tilted_mean(x, None, t), x.mean(), atol=2e-4)
    t = 1e5
    np.testing.assert_allclose(tilted_mean(x, None, t), x.min(), atol=np.log(len(x)) / t + 1e-9)


def test_harmonic_mean_is_tilt_one():
    """The source's harmonic mean of likelihoods is the tilt of one."""
    likelihoods = np.array([0.2, 0.5, 0.9])
    tilted = np.exp(tilted_mean(np.log(likelihoods), None, 1.0))
    np.testing.assert_allclose(tilted, 1 / np.mean(1 / likelihoods))


@given(vectors)
def test_log_mean_exp(x):
    np.testing.assert_allclose(log_mean_exp(x), logsumexp(x) - np.log(len(x)), **CLOSE)


# From both sides of the size at which the algorithm changes.
@pytest.mark.parametrize("size", [1, 2, 5, 12, 13, 40])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.sampled_from([(), (3,), (2, 3)]))
def test_triangular_inverse(size, seed, batch):
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.normal(size=(*batch, size, size))) / size
    diagonal = np.arange(size)
    lower[..., diagonal, diagonal] = rng.uniform(0.5, 2, size=(*batch, size))
    given_bits = lower.copy()
    inverse = triangular_inverse(lower)
    np.testing.assert_array_equal(lower, given_bits)
    assert inverse.shape == lower.shape
    np.testing.assert_array_equal(inverse, np.tril(inverse))
    np.testing.assert_allclose(
        inverse @ lower, np.broadcast_to(np.eye(size), lower.shape), atol=1e-11
    )


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_half_log_det(batch):
    lower = np.tril(np.random.default_rng(0).uniform(0.5, 2, size=(*batch, 4, 4)))
    given_bits = lower.copy()
    _, expected = np.linalg.slogdet(lower)
    np.testing.assert_allclose(half_log_det(lower), expected, atol=1e-14)
    np.testing.assert_array_equal(lower, given_bits)


class WithoutStrides(np.ndarray):
    """An array of which no function may take a strided view."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **settings):
        assert all(array.flags.c_contiguous for array in (*inputs, *out)), ufunc
        plain = [array.view(np.ndarray) for array in inputs]
        if out:
            settings["out"] = tuple(array.view(np.ndarray) for array in out)
        return getattr(ufunc, method)(*plain, **settings)


def test_logarithms_of_diagonals_are_of_copies():
    """NumPy 1.23 takes another logarithm where a strided view's extent reaches the result."""
    lower = np.tril(np.random.default_rng(0).uniform(0.5, 2, size=(2, 4, 4))).view(WithoutStrides)
    with pytest.raises(AssertionError, match="log"):  # (what this test must notice)
        np.log(lower.diagonal(axis1=-2, axis2=-1))
    np.testing.assert_allclose(half_log_det(lower), np.linalg.slogdet(np.array(lower))[1])


class TestAsGenerator:
    def test_integers_are_seeds(self):
        for seed in (3, np.int64(3), np.uint8(3)):
            assert as_generator(seed).random() == np.random.default_rng(3).random()

    def test_generator_and_random_state_advance(self):
        """Two draws from one source differ, and a copy of the source repeats them."""
        for make in (np.random.default_rng, np.random.RandomState):
            source, again = make(1), make(1)
            first, second = as_generator(source).random(), as_generator(source).random()
            assert first != second
            assert [as_generator(again).random() for _ in range(2)] == [first, second]

    def test_none_is_fresh_entropy(self):
        assert as_generator(None).random() != as_generator(None).random()

    @pytest.mark.parametrize("bad", [-1, 1.5, "0", [1]])
    def test_other_random_states_raise(self, bad):
        with pytest.raises(TypeError, match="random_state"):
            as_generator(bad)
