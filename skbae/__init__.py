"""Bayesian autoencoders for scikit-learn.

Latent-variable models whose encoder is the posterior of one energy ``H(x, m, z)``, with a
temperature that leads from hard, deterministic codes (zero) to probabilistic ones (one).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from skbae._trusted import TRUSTED_TYPES
from skbae._version import __version__

if TYPE_CHECKING:
    from skbae.estimators.conditional._regressor import ConditionalRegressor
    from skbae.estimators.energy._estimator import EnergyAutoEncoder
    from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder
    from skbae.estimators.mixture._estimator import BayesianMixtureAutoEncoder
    from skbae.estimators.mixture_pca._estimator import BayesianMixturePCAAutoEncoder
    from skbae.estimators.pca._estimator import BayesianPCAAutoEncoder
    from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
    from skbae.estimators.vae._estimator import BayesianVAEAutoEncoder

__all__ = [
    "BayesianGMMAutoEncoder",
    "BayesianMixtureAutoEncoder",
    "BayesianMixturePCAAutoEncoder",
    "BayesianPCAAutoEncoder",
    "BayesianRBMAutoEncoder",
    "BayesianVAEAutoEncoder",
    "ConditionalRegressor",
    "EnergyAutoEncoder",
    "TRUSTED_TYPES",
    "__version__",
]

# A family is imported when its estimator is first used, which keeps `import skbae` fast.
_ESTIMATORS = {
    "BayesianGMMAutoEncoder": "skbae.estimators.gmm._estimator",
    "BayesianMixtureAutoEncoder": "skbae.estimators.mixture._estimator",
    "BayesianMixturePCAAutoEncoder": "skbae.estimators.mixture_pca._estimator",
    "BayesianPCAAutoEncoder": "skbae.estimators.pca._estimator",
    "BayesianRBMAutoEncoder": "skbae.estimators.rbm._estimator",
    "BayesianVAEAutoEncoder": "skbae.estimators.vae._estimator",
    "ConditionalRegressor": "skbae.estimators.conditional._regressor",
    "EnergyAutoEncoder": "skbae.estimators.energy._estimator",
}


def __getattr__(name: str) -> object:
    if name not in _ESTIMATORS:
        raise AttributeError(f"module 'skbae' has no attribute {name!r}")
    estimator = getattr(import_module(_ESTIMATORS[name]), name)
    globals()[name] = estimator
    return estimator


def __dir__() -> list[str]:
    return sorted(__all__)
