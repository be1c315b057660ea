"""Bayesian autoencoders for scikit-learn.

Latent-variable models whose encoder is the posterior of one energy ``H(x, m, z)``, with a
temperature that leads from hard, deterministic codes (zero) to probabilistic ones (one).
"""

from skbae._version import __version__
from skbae.estimators._gmm import BayesianGMMAutoEncoder
from skbae.estimators._mixture_pca import BayesianMixturePCAAutoEncoder
from skbae.estimators._vae import BayesianVAEAutoEncoder

__all__ = [
    "BayesianGMMAutoEncoder",
    "BayesianMixturePCAAutoEncoder",
    "BayesianVAEAutoEncoder",
    "__version__",
]
