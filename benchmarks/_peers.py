"""Fits of Gaussian mixtures by other libraries, from given starts: gmmx, pomegranate, tgmm.

Each function takes rows, a start, a setting and a number of iterations, like those of ``em.py``;
it raises ImportError where its library is missing, and ValueError for what that doesn't fit. The
libraries get one thread.
"""

from __future__ import annotations

import os

import numpy as np


def covariances(start):
    """Return the initial covariances."""
    precisions = np.asarray(start["precisions_init"])
    return np.linalg.inv(precisions) if precisions.ndim == 3 else 1 / precisions


def fit_gmmx(X, start, setting, iterations):
    """Fit by gmmx, compiled for this number of iterations at the first call."""
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    import jax
    from gmmx import EMFitter, GaussianMixtureModelJax

    if setting.covariance_type == "spherical" or setting.dtype != "float32":
        raise ValueError("no spherical covariances, and single precision only")
    means, spreads, weights = (
        np.asarray(each, setting.dtype)
        for each in (start["means_init"], covariances(start), start["weights_init"])
    )
    model = GaussianMixtureModelJax.from_squeezed(
        means=means,
        covariances=spreads,
        weights=weights,
        covariance_type=setting.covariance_type,
    )
    found = EMFitter(max_iter=iterations, tol=-1.0).fit(x=X, gmm=model)
    jax.block_until_ready(found.gmm.means)


def fit_pomegranate(X, start, setting, iterations):
    """Fit by pomegranate."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    if setting.covariance_type == "spherical":
        raise ValueError("another spherical form")
    torch.set_num_threads(1)
    components = [
        Normal(torch.tensor(mean), torch.tensor(each), covariance_type=setting.covariance_type)
        for mean, each in zip(start["means_init"], covariances(start), strict=True)
    ]
    weights = torch.tensor(start["weights_init"])
    model = GeneralMixtureModel(components, priors=weights, max_iter=iterations, tol=-np.inf)
    model.fit(torch.from_numpy(X))


def fit_tgmm(X, start, setting, iterations):
    """Fit by tgmm."""
    import torch
    from tgmm import GaussianMixture

    torch.set_num_threads(1)
    model = GaussianMixture(
        n_components=setting.components,
        n_features=setting.features,
        covariance_type=setting.covariance_type,
        max_iter=iterations,
        tol=1e-300,
        init_means=torch.tensor(start["means_init"]),
        init_weights=torch.tensor(start["weights_init"]),
        init_covariances=torch.tensor(covariances(start)),
    )
    model.fit(torch.from_numpy(X))


PEERS = {"gmmx": fit_gmmx, "pomegranate": fit_pomegranate, "tgmm": fit_tgmm}
