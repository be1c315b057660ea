"""Mixtures in unconstrained coordinates: weights are normalised gamma variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae.energies._capabilities import GradientEnergy
from skbae.energies.mixture._components import GradientComponentFamily
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.operators._draws import log_gamma_draws
from skbae.operators._tempered import tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.mixture._energy import MixtureStatistics


class MixtureCoordinates(GradientEnergy):
    """The gradient capability of mixtures, for components that have it.

    A mixin of classes with the attributes ``family``, ``concentration``, ``equal_weights``,
    ``n_components`` and ``n_features``. The coordinates are K logarithms of independent gamma
    variables, which divided by their sum are the weights, then those of the components. Normalised
    gamma variables are Dirichlet and independent of their sum. The sum is an additional coordinate:
    its posterior is its prior, and it does not change the evidence. It keeps the components
    exchangeable.
    """

    family: GradientComponentFamily
    concentration: Array
    equal_weights: bool
    n_components: int

    @property
    def _n_shares(self) -> int:
        return 0 if self.equal_weights or self.n_components == 1 else self.n_components

    def coordinate_kinds(self) -> NDArray[np.intp]:
        kinds = self.family.coordinate_kinds()
        return np.concatenate([np.zeros(self._n_shares, dtype=np.intp), 1 + kinds])

    def unconstrain(self, params: MixtureParameters) -> Array:
        components = self.family.unconstrain(params.components)
        if not self._n_shares:
            return components
        with np.errstate(divide="ignore"):
            shares = np.log(params.weights) + np.log(self.concentration.sum())
        # weights that have underflowed to zero get the smallest positive number
        shares = np.maximum(shares, np.log(np.finfo(float).tiny))
        return np.concatenate([shares, components], axis=1)

    def _weights(self, theta: Array) -> Array:
        if not self._n_shares:
            return np.full((len(theta), self.n_components), 1 / self.n_components)
        return tempered_softmax(theta[:, : self._n_shares], 1.0, axis=1)

    def constrain(self, theta: Array) -> MixtureParameters:
        components = self.family.constrain(theta[:, self._n_shares :])
        return MixtureParameters(self._weights(theta), components)

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        shares = theta[:, : self._n_shares]
        log_prior, gradient = self.family.log_prior_at(theta[:, self._n_shares :])
        if not self._n_shares:
            return log_prior, gradient
        with np.errstate(over="ignore"):  # their density is zero
            gammas = np.exp(shares)
        terms = self.concentration * shares - gammas - gammaln(self.concentration)
        gradient = np.concatenate([self.concentration - gammas, gradient], axis=1)
        return log_prior + terms.sum(axis=1), gradient

    def objective_gradient(
        self,
        theta: Array,
        params: MixtureParameters,
        statistics: MixtureStatistics,
        total: float,
        temperature: float,
    ) -> Array:
        counts = statistics.counts
        gradient = self.family.energy_gradient(
            theta[:, self._n_shares :], counts, statistics.moments, temperature
        )
        if self._n_shares:
            expected = params.weights * counts.sum(axis=1, keepdims=True)
            gradient = np.concatenate([counts - expected, gradient], axis=1)
        return gradient / total

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        size = (n_models, self._n_shares)
        concentration = np.broadcast_to(self.concentration[: self._n_shares], size)
        shares = log_gamma_draws(concentration, rng)
        components = self.family.draw_prior_coordinates(n_models, rng)
        return np.concatenate([shares, components], axis=1)


class SmoothMixture(MixtureEnergy[Any], MixtureCoordinates):
    """A mixture with a prior that is not conjugate, but has a density in coordinates.

    Parameters
    ----------
    family : GradientComponentFamily
    concentration : ndarray of shape (K,)
        Of the weights' Dirichlet prior.
    equal_weights : bool, default=False
    """

    def __init__(
        self, family: GradientComponentFamily, concentration: Array, equal_weights: bool = False
    ) -> None:
        super().__init__(family, equal_weights)
        self.concentration = concentration


def log_density_of_shares(
    log_gammas: Array, concentration: Array, total: float
) -> tuple[Array, Array]:
    """Return the log density of the logarithms of K positive numbers (..., K), and its gradient.

    Divided by their sum the numbers are Dirichlet, with some concentration (K,); the sum is
    independent, and a gamma variable of shape `total`.
    """
    gammas = np.exp(log_gammas)
    sums = gammas.sum(axis=-1)
    log_sums, excess = np.log(sums), total - concentration.sum()
    value = log_gammas @ concentration + excess * log_sums - sums
    value += gammaln(concentration.sum()) - gammaln(concentration).sum() - gammaln(total)
    return value, concentration + gammas * (excess / sums - 1)[..., None]
