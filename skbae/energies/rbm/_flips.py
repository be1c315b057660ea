"""Bits of a restricted Boltzmann machine of which some have been flipped.

Given noisy bits y, each flipped with probability p, clean bits and codes are those of a machine
whose visible intercepts are larger by ``(2 y - 1) log((1 - p) / p)``. With few hidden units, sums
over all codes are products of matrices: each bit of y chooses one of two tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from skbae.operators._enumeration import binary_states
from skbae.operators._tempered import tempered_logsumexp, tempered_softmax

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.rbm._visible import RBMParameters

# Most hidden units whose codes are summed; beyond, chains of so many sweeps are averaged, after so
# many that are not.
MAX_SUMMED_UNITS = 14
_N_SWEEPS, _N_BURN = 300, 50


def expected_clean_bits(params: RBMParameters, Y: Array, flips: float) -> Array:
    """Return ``E[x | y]`` (N, D) under machines that are equally probable a priori.

    Parameters
    ----------
    params : RBMParameters
        S machines; one if there are more than `MAX_SUMMED_UNITS` hidden units.
    Y : ndarray of shape (N, D)
        Bits.
    flips : float
        Probability p of a flip, above 0 and at most 1/2.
    """
    push = np.log((1 - flips) / flips)
    if params.weights.shape[1] > MAX_SUMMED_UNITS:
        return _by_chains(params, Y, push)
    states = binary_states(params.weights.shape[1])
    log_densities, means = [], []
    for s in range(params.n_models):
        own = params.visible[s] + states @ params.weights[s]
        joint = states @ params.hidden[s] - params.log_partition[s]
        # logarithm of the sum over each clean bit, up to log((1 - p) p) / 2 for each
        on, off = (np.logaddexp(-0.5 * sign * push, own + 0.5 * sign * push) for sign in (1, -1))
        log_joint = joint + off.sum(axis=1) + Y @ (on - off).T
        codes = tempered_softmax(log_joint, 1.0, axis=1)
        of_off = codes @ expit(own - push)
        means.append(of_off + Y * (codes @ expit(own + push) - of_off))
        log_densities.append(tempered_logsumexp(log_joint, 1.0, axis=1))
    shares = tempered_softmax(np.stack(log_densities), 1.0, axis=0)
    return np.einsum("sn,snd->nd", shares, np.stack(means))


def _by_chains(params: RBMParameters, Y: Array, push: float) -> Array:
    """Return the mean over a chain for each row, under the first machine."""
    rng = np.random.default_rng(0)
    weights, hidden = params.weights[0], params.hidden[0]
    visible = params.visible[0] + (2 * Y - 1) * push
    X, total = Y, np.zeros_like(Y)
    for sweep in range(_N_BURN + _N_SWEEPS):
        on = expit(hidden + X @ weights.T)
        codes = (rng.random(on.shape) < on).astype(np.float64)
        means = expit(visible + codes @ weights)
        X = (rng.random(means.shape) < means).astype(np.float64)
        if sweep >= _N_BURN:
            total += means
    return total / _N_SWEEPS
