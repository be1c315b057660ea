"""Kinds of components, of which :class:`~skbae.BayesianMixtureAutoEncoder` makes mixtures.

Each class describes some columns of the rows given the code; its parameters are those of the
conjugate prior, which is used if models are sampled.

>>> from skbae import BayesianMixtureAutoEncoder
>>> from skbae.components import Categorical, Gaussian, Poisson
>>> model = BayesianMixtureAutoEncoder(3, [
...     ("sizes", Gaussian(covariance_type="full"), ["length", "width"]),
...     ("visits", Poisson(), ["visits"]),
...     ("answers", Categorical(), slice("q1", "q9")),
... ])
"""

from __future__ import annotations

from skbae.estimators.mixture._gaussian import Gaussian
from skbae.estimators.mixture._specs import (
    Bernoulli,
    Binomial,
    Categorical,
    Component,
    Exponential,
    Poisson,
    Uniform,
)
from skbae.estimators.mixture._student import StudentT

__all__ = [
    "Bernoulli",
    "Binomial",
    "Categorical",
    "Component",
    "Exponential",
    "Gaussian",
    "Poisson",
    "StudentT",
    "Uniform",
]
