"""Denoised digits against the best projection on principal axes, which knows the clean rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder

DIGITS = load_digits().data / 16
TRAIN, TEST = DIGITS[:1400], DIGITS[1400:]


def decibels(rows):
    """Return the ratio of the largest signal to the error."""
    return -10 * np.log10(np.mean((rows - TEST) ** 2))


def best_projection(noisy):
    pcas = (PCA(d).fit(TRAIN) for d in (5, 10, 20, 30, 40))
    return max(decibels(each.inverse_transform(each.transform(noisy))) for each in pcas)


@pytest.fixture(scope="module")
def models():
    fits = (
        BayesianPCAAutoEncoder(30, model_temperature=0),
        BayesianGMMAutoEncoder(10, reg_covar=1e-3, model_temperature=0, random_state=0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of border pixels that are zero in all rows
        return [each.fit(TRAIN) for each in fits]


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_denoised_digits_are_nearer_to_the_clean_ones_than_projections(models, noise):
    noisy = TEST + noise * np.random.default_rng(0).standard_normal(TEST.shape)
    subspace, mixture = (decibels(each.denoise(noisy, noise**2)) for each in models)
    projected = best_projection(noisy)
    assert decibels(noisy) < projected < subspace - 0.4
    assert mixture > projected + 1.0
    told_less = decibels(models[0].denoise(noisy, (0.2 * noise) ** 2))
    assert told_less < subspace - 0.4  # the variance of the noise matters
