"""Many small matrices side by side, and what is computed with them, against one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from skbae.energies.gaussian import _prior_frames
from skbae.energies.gaussian._covariance import Full
from skbae.energies.gaussian._precision_prior import Wishart
from skbae.energies.mixture._conjugate import MixtureDraws
from skbae.operators import _small_matrices
from skbae.operators._draws import cumulative_exponentials
from skbae.operators._small_matrices import (
    first,
    inverses,
    last,
    lower_factors,
    matrix_times,
    products,
    solve_transposed,
    times_matrix,
)
from skbae.operators._tempered import tempered_logsumexp

each_size = pytest.mark.parametrize("size", [1, 2, 4, 5, 9])


def covariances(shape, size, seed=0):
    root = np.random.default_rng(seed).normal(size=(*shape, size, size + 2))
    return root @ np.swapaxes(root, -1, -2)


@each_size
def test_products_and_their_axes(size):
    rng = np.random.default_rng(size)
    left, right = rng.normal(size=(7, 3, size, size)), rng.normal(size=(1, 3, size, size))
    vectors = rng.normal(size=(7, 3, size))
    np.testing.assert_allclose(products(left, right), left @ right, atol=1e-12)
    np.testing.assert_array_equal(first(last(left)).reshape(left.shape), left)
    expected = (left @ vectors[..., None])[..., 0]
    np.testing.assert_allclose(matrix_times(left, vectors), expected, atol=1e-12)
    expected = (vectors[..., None, :] @ right)[..., 0, :]
    np.testing.assert_allclose(times_matrix(vectors, right), expected, atol=1e-12)


@each_size
def test_factors_and_inverses(size):
    given = covariances((11,), size)
    found = first(lower_factors(last(given)))
    np.testing.assert_allclose(found, np.linalg.cholesky(given), rtol=1e-10, atol=1e-12)
    inverse, log_det = inverses(last(given))
    np.testing.assert_allclose(first(inverse) @ given, np.broadcast_to(np.eye(size), given.shape),
                               atol=1e-8)  # fmt: skip
    np.testing.assert_allclose(log_det, np.linalg.slogdet(given)[1], rtol=1e-10, atol=1e-12)
    upper = np.triu(np.random.default_rng(1).normal(size=given.shape))
    solved = first(solve_transposed(last(found), last(upper)))
    np.testing.assert_allclose(np.swapaxes(found, -1, -2) @ solved, upper, atol=1e-9)


@each_size
def test_draws_of_precisions_do_not_depend_on_how_matrices_lie_in_memory(size, monkeypatch):
    kind = Wishart(Full(size))
    scale, dof = covariances((6, 3), size), np.full((6, 3), size + 3.0)
    noise = np.random.default_rng(2).normal(size=(6, 3, size))
    drawn = kind.draw_factors(dof, scale, np.random.default_rng(3))
    coloured = kind.colour(drawn, noise)
    # noise of a component has the covariance that belongs to its factor
    white = np.einsum("skd,skde->ske", coloured, drawn)
    np.testing.assert_allclose(white, noise, atol=1e-9)
    monkeypatch.setattr("skbae.energies.gaussian._precision_prior._SMALL", 1)
    monkeypatch.setattr(_small_matrices, "_FEW", 0)
    again = kind.draw_factors(dof, scale, np.random.default_rng(3))
    np.testing.assert_allclose(drawn, again, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(coloured, kind.colour(again, noise), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(kind.shape.precisions(drawn), again @ np.swapaxes(again, -1, -2),
                               rtol=1e-7, atol=1e-9)  # fmt: skip


def test_precisions_of_a_scale_that_is_not_positive_definite_are_refused():
    scale = np.array([[[[1.0, 2.0], [2.0, 1.0]]]])
    with np.errstate(invalid="ignore"), pytest.raises(np.linalg.LinAlgError):
        Wishart(Full(2)).draw_factors(np.full((1, 1), 5.0), scale, np.random.default_rng(0))


@each_size
def test_sums_in_the_frame_of_the_prior_return_to_the_units_of_the_data(size, monkeypatch):
    shape, scale = Full(size), covariances((), size)
    rows = np.random.default_rng(4).normal(size=(20, size))
    white = _prior_frames.FRAMES[Full](shape, scale).whiten(rows)
    for limit in (0, 100):
        monkeypatch.setattr(_prior_frames, "_FEW_FEATURES", limit)
        frame = _prior_frames.FRAMES[Full](shape, scale)
        first_, second = frame.unwhiten_moments(
            white.sum(axis=0)[None, None], frame.squares(white).sum(axis=0)[None, None]
        )
        np.testing.assert_allclose(first_[0, 0], rows.sum(axis=0), atol=1e-8)
        np.testing.assert_allclose(second[0, 0], rows.T @ rows, rtol=1e-7, atol=1e-8)


def test_exponentials_that_underflow_change_no_sum():
    energies = np.array([0.0, -5.0, -699.0, -720.0, -800.0, -1e6, -np.inf])
    energies = np.stack([energies, energies[::-1], np.full(7, -3.0)])[None]
    with np.errstate(under="ignore", divide="ignore"):
        plain = np.exp(energies - energies.max(axis=1, keepdims=True))
        expected = np.log(plain.sum(axis=1)) + energies.max(axis=1)
    peak, cumulative = cumulative_exponentials(energies)
    np.testing.assert_allclose(cumulative, np.cumsum(plain, axis=1), atol=1e-300)
    np.testing.assert_array_equal(np.log(cumulative[:, -1]) + peak, expected)
    np.testing.assert_array_equal(tempered_logsumexp(energies, 1.0, axis=1), expected)
    assert tempered_logsumexp(np.full(3, -np.inf), 1.0) == -np.inf
    single = energies.astype(np.float32)
    assert tempered_logsumexp(np.full(3, -np.inf, np.float32), 1.0) == -np.inf
    close = {"rtol": 1e-6}
    np.testing.assert_allclose(tempered_logsumexp(single, 1.0, axis=1), expected, **close)


class Zeros:
    """A generator whose uniform numbers are all zero, as one in 2**24 of single precision is."""

    def random(self, shape, dtype):
        return np.zeros(shape, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_label_without_probability_is_never_drawn(dtype):
    energies = np.array([[[-np.inf], [-1e4], [0.0], [-1.0]]], dtype)
    draws = MixtureDraws.__new__(MixtureDraws)
    draws.temperature = 1.0
    codes, _, _ = draws.codes(energies, None, Zeros())
    assert codes[0, :, 0].tolist() == [0, 0, 1, 0]
