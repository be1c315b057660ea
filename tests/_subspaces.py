"""Mixtures of PCA for tests: small problems, models, and what they must come to."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianMixturePCAAutoEncoder
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import PCAComponents, orthonormal_rows
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies.pca._prior import PCAPrior
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner
from skbae.inference.sample._tempering import SMCPlan, sample_tempered

TEMPERATURES = [0.0, 0.5, 1.0, 2.0]
IRIS, DIGITS = load_iris().data, load_digits().data
TRAIN, TEST = DIGITS[:1400], DIGITS[1400:]


def model(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, **settings)


def some_components(rng, n_models=2, n_components=3, n_latent=2, n_features=5, n_directions=2):
    shape = (n_models, n_components)
    basis = orthonormal_rows(rng.standard_normal((*shape, n_latent + n_directions, n_features)))
    noise = rng.uniform(0.3, 0.6, shape)
    precisions = rng.uniform(0.1, 1.0, (*shape, n_latent)) / noise[..., None]
    means = rng.standard_normal((*shape, n_features))
    return PCAComponents(means, basis[:, :, :n_latent], precisions, noise, basis[:, :, n_latent:])


def small_rows(n, n_features=2, seed=7):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features)) * [1.5, 0.5, 0.8][:n_features]
    X[n // 2 :] += 2
    return X


PRIOR = PCAPrior(0.9, np.array([0.3, -0.2]), 4.0, 1.5, 0.5)


def mixture(n_components, n_latent, tied=False, equal=False, prior=PRIOR):
    size = len(prior.mean)
    family = PCAFamilyWithPrior(n_components, n_latent, size, tied, prior)
    return PCAMixtureWithPrior(family, np.full(n_components, 1.6), equal)


def tempered(energy, rows, temperature, seed=0, n_particles=4096):
    """Return the log evidence by sampling, with its standard error over islands."""
    with RowRunner() as runner:
        run = sample_tempered(
            Objective(energy, rows, runner, temperature),
            temperature,
            np.random.default_rng(seed),
            plan=SMCPlan(n_islands=8, n_particles=n_particles),
        )
    peak = run.log_evidence.max()
    shares = np.exp(run.log_evidence - peak)
    return np.log(shares.mean()) + peak, shares.std(ddof=1) / shares.mean() / np.sqrt(8), run


def log_marginal(X, prior, temperature):
    """Return ``log int prod_x N(x; mu, s2 I)^(1/T)`` over one spherical component's prior.

    The mean integrates out; the rest is a sum over a fine grid of log s2.
    """
    if len(X) == 0:
        return 0.0
    n, size = len(X), X.shape[1]
    log_noise = np.linspace(-12, 12, 4001)
    noise = np.exp(log_noise)
    power = n / temperature
    mean = X.mean(axis=0)
    scatter = ((X - mean) ** 2).sum() / temperature
    value = -0.5 * power * size * np.log(2 * np.pi * noise) - 0.5 * scatter / noise
    # exp(-power |mean - mu|^2 / (2 s2)) is a normal density up to its constant
    value += 0.5 * size * np.log(2 * np.pi * noise / power)
    added = noise / power + prior.mean_variance
    value += -0.5 * size * np.log(2 * np.pi * added)
    value += -0.5 * ((mean - prior.mean) ** 2).sum() / added
    shape, scale = prior.noise_shape, prior.noise_scale
    value += shape * (np.log(scale) - log_noise) - gammaln(shape) - scale / noise
    return logsumexp(value) + np.log(log_noise[1] - log_noise[0])


def enumerated(X, n_components, prior, temperature, concentration=None):
    """Return the log evidence of spherical components, over all allocations."""
    n = len(X)
    by_set = {
        members: log_marginal(X[[bool(members >> i & 1) for i in range(n)]], prior, temperature)
        for members in range(2**n)
    }
    terms = []
    for index in range(n_components**n):
        labels = np.array([index // n_components**i % n_components for i in range(n)])
        members = [int(((labels == k) << np.arange(n)).sum()) for k in range(n_components)]
        value = sum(by_set[each] for each in members)
        counts = np.bincount(labels, minlength=n_components) / temperature
        if concentration is None:
            value -= counts.sum() * np.log(n_components)
        else:
            value += gammaln(n_components * concentration)
            value -= gammaln(n_components * concentration + counts.sum())
            value += (gammaln(concentration + counts) - gammaln(concentration)).sum()
        terms.append(value)
    return logsumexp(terms)


def every_grouping(X, n_components, prior, temperature, equal):
    """Return spherical components fitted to each way to group rows, and which have no rows."""
    groupings = {}
    for labels in product(range(n_components), repeat=len(X)):
        names = list(dict.fromkeys(labels))
        groupings[tuple(names.index(label) for label in labels)] = None
    labels = np.array(list(groupings))
    members = labels[:, None] == np.arange(n_components)[:, None]  # (S, K, N)
    counts = members.sum(axis=2)
    shares = members / np.maximum(counts, 1)[..., None]
    means = np.where((counts > 0)[..., None], shares @ X, prior.mean)
    squares = ((X - means[:, :, None]) ** 2).sum(axis=3)
    scale = prior.noise_scale + 0.5 * (squares * members).sum(axis=2) / temperature
    shape = prior.noise_shape + 1 + 0.5 * X.shape[1] * counts / temperature
    weights = np.full(counts.shape, 1 / n_components) if equal else counts / len(X)
    none = np.zeros((*counts.shape, 0, X.shape[1]))
    components = PCAComponents(means, none, none[..., 0], scale / shape, none)
    return MixtureParameters(weights, components), counts == 0


def joints_by_model(models, X):
    """Return ``log w_k + log N(x; mu_k, C_k)`` of each model, (S, K, N), by dense covariances."""
    size = X.shape[1]
    joints = []
    for s in range(models.n_models):
        rows = []
        for k, weight in enumerate(models.weights[s]):
            u, noise = models.components[s, k], models.noise_variance[s, k]
            excess = 1 / models.component_precisions[s, k] - noise
            covariance = (u.T * excess) @ u + noise * np.eye(size)
            rows.append(
                np.log(weight) + multivariate_normal(models.means[s, k], covariance).logpdf(X)
            )
        joints.append(rows)
    return np.array(joints)
