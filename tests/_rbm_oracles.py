"""Restricted Boltzmann machines by brute force: every state of every unit, written out."""

from __future__ import annotations

import itertools

import numpy as np


def states(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def joint(X, components, visible, hidden, noise=None):
    """Return ``H + log Z`` of rows and all codes, (N, 2^d)."""
    H = states(len(components))
    if noise is None:
        return np.array([[x @ visible + h @ components @ x + hidden @ h for h in H] for x in X])
    return np.array(
        [
            [
                -((x - visible) ** 2 / (2 * noise)).sum()
                + h @ components @ (x / noise)
                + hidden @ h
                for h in H
            ]
            for x in X
        ]
    )


def log_sum(values):
    peak = values.max()
    return peak + np.log(np.exp(values - peak).sum())


def log_partition(components, visible, hidden):
    """Return log Z of binary units by summing over both layers."""
    return log_sum(joint(states(len(visible)), components, visible, hidden))


def mixture_of(components, visible, hidden, noise):
    """Return log weights, means and log Z of the Gaussian mixture over hidden states."""
    H = states(len(components))
    means = visible + H @ components
    size = len(visible)
    log_masses = hidden @ H.T + ((means**2 - visible**2) / (2 * noise)).sum(axis=1)
    log_masses = log_masses + 0.5 * np.log(2 * np.pi * np.broadcast_to(noise, size)).sum()
    log_z = log_sum(log_masses)
    return log_masses - log_z, means, log_z


def hmax(X, temperature, log_z, *machine):
    """Return ``T log sum_h exp(H / T)`` of rows."""
    values = joint(X, *machine) - log_z
    if temperature == 0:
        return values.max(axis=1)
    return np.array([temperature * log_sum(row / temperature) for row in values])


def machine_of(fitted):
    """Return what the oracles take, from public fitted attributes."""
    machine = (fitted.components_, fitted.intercept_visible_, fitted.intercept_hidden_)
    if fitted.visible == "gaussian":
        return (*machine, fitted.noise_variance_)
    return machine


def log_z_of(fitted):
    if fitted.visible == "gaussian":
        return mixture_of(*machine_of(fitted))[2]
    return log_partition(*machine_of(fitted))


def prior_log_likelihoods(X, n_components, n_draws, rng, temperature=1.0, chunk=20_000):
    """Return ``N Hmaxe_T`` of binary machines drawn from the default prior, (n_draws,)."""
    D = X.shape[1]
    V, H = states(D), states(n_components)
    out = []
    for start in range(0, n_draws, chunk):
        S = min(chunk, n_draws - start)
        W = rng.standard_normal((S, n_components, D))
        b, c = rng.standard_normal((S, D)), rng.standard_normal((S, n_components))

        def energies(rows, W=W, b=b, c=c):
            pair = np.einsum("hj,sjd,nd->snh", H, W, rows, optimize=True)
            return pair + (b @ rows.T)[:, :, None] + (c @ H.T)[:, None]

        log_z = np.log(np.exp(energies(V)).sum(axis=(1, 2)))
        free = temperature * np.log(np.exp(energies(X) / temperature).sum(axis=2))
        out.append((free - log_z[:, None]).sum(axis=1))
    return np.concatenate(out)
