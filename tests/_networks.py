"""Small network autoencoders for tests, and what they are compared by."""

from __future__ import annotations

import numpy as np

from skbae import BayesianVAEAutoEncoder


def make(**settings):
    small = {"hidden_layer_sizes": (4,), "max_iter": 5, "n_score_samples": 16, "random_state": 0}
    return BayesianVAEAutoEncoder(**{**small, **settings})


def arrays(model):
    """Return all fitted arrays."""
    names = ("decoder_coefs_", "decoder_intercepts_", "encoder_coefs_", "encoder_intercepts_")
    return [array for name in names for array in getattr(model, name)]


def assert_same(first, second, X, **tolerance):
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)
    np.testing.assert_allclose(first.score_samples(X), second.score_samples(X), **tolerance)
