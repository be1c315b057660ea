"""The distributions that ``encode`` and ``decode`` return: moments, draws and entropy agree."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.energies.mixture._distributions import CategoricalCodes, GaussianMixtureRows
from skbae.energies.mixture_pca._distributions import SubspaceCodes, SubspaceRows
from skbae.energies.pca._distributions import GaussianCodes, GaussianRows
from skbae.energies.rbm._distributions import BernoulliCodes, IndependentRows, ReconstructedRows
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._distributions import NetworkRows, WeightedPoints
from skbae.energies.vae._network import Network

N, D, K, d = 3, 3, 2, 2
N_DRAWS = 20_000
rng = np.random.default_rng(0)


def shares(*shape):
    values = rng.random(shape) + 0.1
    return values / values.sum(axis=-1, keepdims=True)


def covariances(*shape):
    factor = rng.normal(size=(*shape, shape[-1]))
    return factor @ np.swapaxes(factor, -1, -2)


def network_rows(likelihood):
    decoder = Decoder(Network((d, 4, D), "tanh"), likelihood)
    theta = rng.normal(size=(1, decoder.n_parameters))
    return NetworkRows(
        decoder, theta, np.ones(D), np.linspace(1, 3, D), rng.normal(size=(N, 4, d)), shares(N, 4)
    )


AXES = np.linalg.qr(rng.normal(size=(K, D, d)))[0].swapaxes(1, 2)
NORMAL_CODES = GaussianCodes(rng.normal(size=(K, N, d)), covariances(K, d))
POINTS = rng.normal(size=(N, 5, d))
DISTRIBUTIONS = {
    "categorical": CategoricalCodes(shares(N, K)),
    "gaussian-mixture": GaussianMixtureRows(
        shares(N, K), rng.normal(size=(K, D)), covariances(K, D)
    ),
    "normal-codes": NORMAL_CODES,
    "normal-rows": GaussianRows(NORMAL_CODES, np.ones(D), AXES[0], 0.3),
    "subspace-codes": SubspaceCodes(shares(N, K), rng.normal(size=(N, K, d)), rng.random((K, d))),
    "subspace-rows": SubspaceRows(
        shares(N, K),
        rng.normal(size=(N, K, d)),
        rng.normal(size=(K, D)),
        AXES,
        rng.random((K, d)),
        np.array([0.2, 0.7]),
    ),
    "bits": BernoulliCodes(rng.random((N, d))),
    "isotropic": IndependentRows(rng.normal(size=(N, D)), 0.4),
    "independent": IndependentRows(rng.normal(size=(N, D)), np.linspace(0.2, 0.7, D)),
    "reconstructed-bits": ReconstructedRows(
        rng.random((N, d)), rng.normal(size=(d, D)), np.zeros(D), None
    ),
    "reconstructed-normal": ReconstructedRows(
        rng.random((N, d)), rng.normal(size=(d, D)), np.zeros(D), 0.3
    ),
    "points": WeightedPoints(POINTS, shares(N, 5), np.zeros((N, 5))),
    "network-gaussian": network_rows("gaussian"),
}
CODES_OF_GAPS = GaussianCodes(rng.normal(size=(K, N, d)), covariances(K, N, d))
SUBSPACE_CODES_OF_GAPS = SubspaceCodes(
    shares(N, K), rng.normal(size=(N, K, d)), covariances(N, K, d)
)
DISTRIBUTIONS |= {
    "normal-codes-of-gaps": CODES_OF_GAPS,
    "normal-rows-of-gaps": GaussianRows(CODES_OF_GAPS, np.ones(D), AXES[0], 0.3),
    "subspace-codes-of-gaps": SUBSPACE_CODES_OF_GAPS,
    "subspace-rows-of-gaps": SubspaceRows(
        SUBSPACE_CODES_OF_GAPS.probabilities,
        SUBSPACE_CODES_OF_GAPS.coordinates,
        rng.normal(size=(K, D)),
        AXES,
        SUBSPACE_CODES_OF_GAPS.spread,
        np.array([0.2, 0.7]),
    ),
}
each_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


def moments_of_draws(distribution):
    """Return mean (N, E) and covariance (N, E, E) of draws, each with its standard error."""
    draws = distribution.sample(N_DRAWS, random_state=1)
    deviations = draws - draws.mean(axis=0)
    products = deviations[..., None] * deviations[..., None, :]
    root = np.sqrt(N_DRAWS)
    return (
        (draws.mean(axis=0), draws.std(axis=0) / root),
        (products.mean(axis=0), products.std(axis=0) / root),
    )


@each_distribution
def test_moments_are_those_of_draws(name):
    distribution = DISTRIBUTIONS[name]
    (mean, mean_error), (covariance, covariance_error) = moments_of_draws(distribution)
    assert np.all(np.abs(distribution.mean - mean) <= 5 * mean_error + 1e-12)
    assert np.all(np.abs(distribution.covariance - covariance) <= 5 * covariance_error + 1e-12)


@each_distribution
def test_variance_is_the_diagonal_of_the_covariance(name):
    distribution = DISTRIBUTIONS[name]
    diagonal = np.diagonal(distribution.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(distribution.variance, diagonal, atol=1e-12)


@each_distribution
def test_shapes_and_seeds(name):
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, Distribution)
    size = distribution.mean.shape[1]
    draws = distribution.sample(4, random_state=2)
    assert draws.shape == (4, N, size)
    np.testing.assert_array_equal(draws, distribution.sample(4, random_state=2))
    assert distribution.sample().shape == (1, N, size)
    assert distribution.entropy().shape == (N,)


@pytest.mark.parametrize(
    "name",
    [name for name, each in DISTRIBUTIONS.items() if isinstance(each, DistributionWithDensity)],
)
def test_entropy_is_minus_the_mean_log_density(name):
    distribution = DISTRIBUTIONS[name]
    values = -distribution.log_density(distribution.sample(N_DRAWS, random_state=3))
    entropy = distribution.entropy()
    if name.startswith("normal-rows"):  # of several models: an upper bound
        assert np.all(entropy > values.mean(axis=0) - 5 * values.std(axis=0) / np.sqrt(N_DRAWS))
        return
    given = inspect.signature(distribution.entropy).parameters
    n_draws = given["n_samples"].default if "n_samples" in given else N_DRAWS  # exact: ours alone
    error = values.std(axis=0) * np.hypot(N_DRAWS**-0.5, n_draws**-0.5)
    assert np.all(np.abs(entropy - values.mean(axis=0)) < 5 * error)
