"""Gaussian mixtures: the energy, the conjugate prior, and models to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies._capabilities import ChartedEnergy
from skbae.energies.gaussian import _normal_wishart as conjugate
from skbae.energies.gaussian._charts import GaussianCharts
from skbae.energies.gaussian._collapsed import CollapsedGaussians, operations_per_row
from skbae.energies.gaussian._components import GaussianComponents, GaussianParameters
from skbae.energies.gaussian._coordinates import GaussianCoordinates
from skbae.energies.gaussian._covariance import COVARIANCE_TYPES, covariance_shape
from skbae.energies.gaussian._normal_wishart import NormalWishart
from skbae.energies.gaussian._precision_prior import precision_prior
from skbae.energies.mixture._components import ConjugateComponentFamily
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters, MixtureStatistics

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.gaussian._components import GaussianMoments
    from skbae.energies.gaussian._covariance import CovarianceShape


GaussianMixtureEnergy = MixtureEnergy[GaussianComponents]


def gaussian_mixture(
    n_components: int,
    n_features: int,
    covariance_type: str = "full",
    equal_weights: bool = False,
    reg_covar: Array | float = 0.0,
) -> GaussianMixtureEnergy:
    """Return the energy ``log w_k + log N(x; mu_k, S_k)`` of a Gaussian mixture.

    Parameters
    ----------
    n_components, n_features : int
    covariance_type : str
        A key of :data:`skbae.energies.gaussian._covariance.COVARIANCE_TYPES`.
    equal_weights : bool
    reg_covar : float or ndarray of shape (D,)

    Returns
    -------
    GaussianMixtureEnergy
    """
    shape, tied = (
        covariance_shape(covariance_type, n_features),
        COVARIANCE_TYPES[covariance_type][1],
    )
    family = GaussianComponents(shape, n_components, tied, reg_covar)
    return MixtureEnergy(family, equal_weights)


def nearest_mean_models(
    energy: GaussianMixtureEnergy, means: Array, variance: float
) -> MixtureParameters:
    """Return models whose hard codes assign rows to the nearest of the means (S, K, D)."""
    family = energy.family
    n_models, n_components = means.shape[:2]
    n_covariances = 1 if family.tied else n_components
    covariances = family.shape.isotropic(np.full((n_models, n_covariances), variance))
    weights = np.full((n_models, n_components), 1 / n_components)
    return MixtureParameters(
        weights, GaussianParameters(means, family.shape.factorise(covariances))
    )


def models_from_assignment(
    energy: GaussianMixtureEnergy,
    statistics: MixtureStatistics,
    assigned: MixtureParameters,
    unit: float = 1.0,
) -> MixtureParameters:
    """Return models to start from, given the statistics of a hard assignment.

    Small groups of rows have singular covariances, so each covariance is shrunk towards the pooled
    covariance within groups, which counts as ``D + 2`` rows. An empty group gets the pooled
    covariance and the weight of one row. A row counts `unit`, so that a common factor of all
    weights changes nothing.

    Parameters
    ----------
    energy : MixtureEnergy
    statistics : MixtureStatistics
        From a pass with `assigned` at T = 0.
    assigned : MixtureParameters
    unit : float, default=1.0
        Weight of a row.

    Returns
    -------
    MixtureParameters
    """
    family, shape = energy.family, energy.family.shape
    counts, moments = statistics.counts, statistics.moments
    alive = counts > 0
    safe = np.where(alive, counts, 1.0)
    shift = moments.first / safe[..., None]
    means = np.where(alive[..., None], moments.reference + shift, assigned.components.means)
    scatter = moments.second
    correction = shape.lift(counts) * shape.moment(shift)
    if family.tied:
        pooled = scatter - correction.sum(axis=1, keepdims=True)
        counts_of_scatter = counts.sum(axis=1, keepdims=True)
        scatter = pooled
    else:
        scatter = scatter - correction
        pooled = scatter.sum(axis=1, keepdims=True)
        strength = unit * (shape.n_features + 2.0)
        per_row = pooled / shape.lift(counts.sum(axis=1, keepdims=True))
        scatter = scatter + strength * per_row
        counts_of_scatter = counts + strength
    covariances = shape.from_scatter(scatter, counts_of_scatter, family.reg_covar)
    try:
        factors = shape.factorise(covariances)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            "the covariance of rows around the initial means is singular, since X has constant or "
            "linearly dependent columns, or fewer rows than columns. Increase reg_covar (now "
            f"{np.max(family.reg_covar):g}), drop such columns, or choose a covariance_type with "
            "fewer parameters."
        ) from error
    if energy.equal_weights:
        weights = assigned.weights
    else:
        weights = np.where(alive, counts, unit)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return MixtureParameters(weights, GaussianParameters(means, factors))


class ConjugateGaussians(GaussianCoordinates, GaussianComponents, ConjugateComponentFamily):
    """Gaussian components with a normal-Wishart (or gamma) prior.

    Parameters
    ----------
    shape, n_components, tied, reg_covar
        As for GaussianComponents.
    prior : NormalWishart
        With S = 1.
    centre : ndarray of shape (D,)
        Point that is subtracted from locations in densities, to keep digits.
    """

    def __init__(
        self,
        shape: CovarianceShape,
        n_components: int,
        tied: bool,
        reg_covar: float,
        prior: NormalWishart,
        centre: Array,
    ) -> None:
        super().__init__(shape, n_components, tied, reg_covar)
        self.prior, self.centre = prior, centre
        self.kind = precision_prior(shape)

    def conditional(
        self, counts: Array, moments: GaussianMoments, temperature: float
    ) -> NormalWishart:
        return conjugate.update(self.kind, self.prior, counts, moments, temperature)

    def operations_per_row(self) -> float:
        return operations_per_row(self.shape)

    def collapse(self, X: Array, heat: float) -> CollapsedGaussians:
        return CollapsedGaussians(self.shape, self.tied, self.prior, X, self.centre, heat)

    def draw_conditional(
        self, conditional: NormalWishart, rng: np.random.Generator
    ) -> GaussianParameters:
        return conjugate.draw(self.kind, conditional, rng)

    def draw_prior(self, n_models: int, rng: np.random.Generator) -> GaussianParameters:
        return conjugate.draw(self.kind, self.prior.take(np.zeros(n_models, dtype=int)), rng)

    def linear_form(
        self, conditional: NormalWishart, params: GaussianParameters
    ) -> tuple[Array, Array, Array | None]:
        return conjugate.linear_form(self.kind, conditional, params, self.centre)

    def log_prior(self, params: GaussianParameters) -> Array:
        return conjugate.log_prior(self.kind, self.prior, params, self.centre)

    def mode(self, conditional: NormalWishart) -> GaussianParameters:
        return conjugate.mode(self.kind, conditional)

    def log_mode_measure(self, params: GaussianParameters) -> Array:
        return conjugate.log_mode_measure(self.kind, params)

    def scores(
        self,
        params: GaussianParameters,
        counts: Array,
        moments: GaussianMoments,
        temperature: float,
    ) -> Array:
        theta = self.unconstrain(params)
        energy = self.energy_gradient(theta, counts, moments, temperature)
        return self.log_prior_at(theta)[1] + energy / temperature

    def log_marginal(self, counts: Array, moments: GaussianMoments, temperature: float) -> Array:
        return conjugate.log_marginal(self.kind, self.prior, counts, moments, temperature)


class BayesianGaussianMixture(SmoothConjugateMixture, ChartedEnergy):
    """A Gaussian mixture with its conjugate prior, and charts for sampling from modes."""

    def charts(self, params: MixtureParameters, power: float) -> GaussianCharts:
        return GaussianCharts(self, params, power)


def conjugate_gaussian_mixture(
    n_components: int,
    n_features: int,
    covariance_type: str,
    equal_weights: bool,
    reg_covar: float,
    *,
    concentration: float,
    mean_precision: float,
    mean: Array,
    degrees_of_freedom: float,
    covariance: Array,
    centre: Array,
) -> BayesianGaussianMixture:
    """Return a Gaussian mixture with its conjugate prior.

    Parameters
    ----------
    n_components, n_features, covariance_type, equal_weights, reg_covar
        As for :func:`gaussian_mixture`.
    concentration : float
        Concentration of the Dirichlet prior of the weights.
    mean_precision : float
        Number of rows that the prior mean counts as.
    mean : ndarray of shape (D,)
    degrees_of_freedom : float
    covariance : ndarray of the shape of one covariance
        Scale of the precisions' prior.
    centre : ndarray of shape (D,)
        Centre of the data.

    Returns
    -------
    BayesianGaussianMixture
    """
    shape_class, tied = COVARIANCE_TYPES[covariance_type]
    shape = shape_class(n_features)
    n_covariances = 1 if tied else n_components
    prior = NormalWishart(
        np.tile(mean, (1, n_components, 1)),
        np.full((1, n_components), mean_precision),
        np.full((1, n_covariances), degrees_of_freedom),
        np.broadcast_to(covariance, (1, n_covariances, *shape.tail)).copy(),
    )
    family = ConjugateGaussians(shape, n_components, tied, reg_covar, prior, centre)
    return BayesianGaussianMixture(family, np.full(n_components, concentration), equal_weights)
