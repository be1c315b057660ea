"""Answers for network autoencoders from quadrature and from closed forms.

Nothing here uses the package's own forward pass: networks are written out from the fitted
attributes, in the units of the data.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, roots_hermitenorm
from scipy.stats import multivariate_normal

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "identity": lambda a: a,
}


def outputs(coefs, intercepts, activation, Z):
    """Return what a network makes of inputs."""
    hidden = Z
    for number, (matrix, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        hidden = hidden @ matrix + intercept
        if number < len(coefs) - 1:
            hidden = ACTIVATIONS[activation](hidden)
    return hidden


def decoded(model, Z):
    """Return the outputs of a fitted decoder."""
    out = outputs(model.decoder_coefs_, model.decoder_intercepts_, model.activation, Z)
    return out + Z @ model.decoder_skip_ if hasattr(model, "decoder_skip_") else out


def log_likelihood(model, X, Z):
    """Return ``log p(x | z)`` of all pairs, (N, M)."""
    out = decoded(model, Z)
    if model.likelihood == "gaussian":
        s2 = np.broadcast_to(model.noise_variance_, X.shape[1:])
        square = ((X[:, None] - out[None]) ** 2 / s2).sum(axis=2)
        return -0.5 * (square + np.log(2 * np.pi * s2).sum())
    return X @ out.T - np.logaddexp(0, out).sum(axis=1)


def gauss_hermite(d, n):
    """Return nodes (n^d, d) and log weights of the standard normal distribution."""
    points, weights = roots_hermitenorm(n)
    points, weights = points[weights > 0], weights[weights > 0]
    # (far out they underflow)
    grids = np.meshgrid(*[points] * d, indexing="ij")
    logs = np.meshgrid(*[np.log(weights) - 0.5 * np.log(2 * np.pi)] * d, indexing="ij")
    nodes = np.stack([grid.ravel() for grid in grids], axis=1)
    return nodes, np.sum([each.ravel() for each in logs], axis=0)


def quadrature(model, X, temperature, n):
    """Return ``Hmax_T`` (N,), mean codes (N, d) and second moments (N, d, d), by n nodes a side."""
    d = model.n_components
    nodes, log_weights = gauss_hermite(d, n)
    # T log of the integral of exp(log p(x|z) / T) N(z; 0, T I): nodes spread as sqrt(T)
    Z = np.sqrt(temperature) * nodes
    joint = log_likelihood(model, X, Z) / temperature + log_weights
    total = logsumexp(joint, axis=1)
    posterior = np.exp(joint - total[:, None])
    mean = posterior @ Z
    second = np.einsum("nm,mi,mj->nij", posterior, Z, Z)
    return temperature * total, mean, second - mean[:, :, None] * mean[:, None]


def converged_quadrature(model, X, temperature=1.0, n=40, tol=1e-3):
    """Return the quadrature's answer, doubling the nodes until it moves no more."""
    found = quadrature(model, X, temperature, n)
    while True:
        n *= 2
        again = quadrature(model, X, temperature, n)
        if np.abs(again[0] - found[0]).max() < tol:
            return again
        if n > 400:
            raise AssertionError("the quadrature does not converge: the decoder is too sharp")
        found = again


def linear_hmax(model, X, temperature):
    """Return ``Hmax_T`` and its codes' mean and covariance for a linear decoder (closed form)."""
    (W,), (mu,) = model.decoder_coefs_, model.decoder_intercepts_
    d, D = W.shape
    s2 = np.broadcast_to(model.noise_variance_, D)
    precision = np.eye(d) + W / s2 @ W.T
    mean = np.linalg.solve(precision, W / s2 @ (X - mu).T).T
    base = -0.5 * np.log(2 * np.pi * s2).sum()
    C = W.T @ W + np.diag(s2)
    if temperature == 0:
        deviations = X - mu
        square = np.einsum("nd,nd->n", deviations, np.linalg.solve(C, deviations.T).T)
        return base - 0.5 * square, mean, np.zeros((d, d))
    density = multivariate_normal(mu, temperature * C).logpdf(X)
    value = base + 0.5 * temperature * np.log(2 * np.pi * s2 * temperature).sum()
    return value + temperature * density, mean, temperature * np.linalg.inv(precision)


def evidence_by_prior_draws(X, n_units, activation, n_draws, seed, n_nodes=160):
    """Return the log evidence of decoders with one code and one hidden layer, and its error.

    Models are drawn from the default prior, and codes integrated by the trapezoidal rule.
    """
    rng, unit = np.random.default_rng(seed), X.std(axis=0)
    scaled, n_features = (X - X.mean(axis=0)) / unit, X.shape[1]
    z = np.linspace(-6, 6, n_nodes)[:, None]
    log_shares = -0.5 * z[:, 0] ** 2 - logsumexp(-0.5 * z[:, 0] ** 2)
    found = np.zeros(n_draws)
    for s in range(n_draws):
        into, bend = rng.standard_normal((2, n_units))
        out = rng.standard_normal((n_units, n_features)) / np.sqrt(n_units)
        at, skip = rng.standard_normal((2, n_features))
        s2 = 0.1 / rng.standard_exponential(n_features)
        curve = ACTIVATIONS[activation](z * into + bend) @ out + at + z * skip
        square = ((scaled[:, None] - curve) ** 2 / s2).sum(axis=2)
        log_p = -0.5 * (square + np.log(2 * np.pi * s2).sum())
        peak = (log_p + log_shares).max(axis=1, keepdims=True)
        sums = np.exp(log_p + log_shares - peak).sum(axis=1)
        found[s] = (np.log(sums) + peak[:, 0]).sum()
    weights = np.exp(found - found.max())
    error = weights.std() / weights.mean() / np.sqrt(n_draws)
    return np.log(weights.mean()) + found.max() - len(X) * np.log(unit).sum(), error
