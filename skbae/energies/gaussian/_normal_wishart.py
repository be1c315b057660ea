"""The conjugate prior of Gaussian components: normal means, Wishart or gamma precisions.

``Lambda ~ Wishart(dof, inverse(scale))`` and ``mu | Lambda ~ N(location, inverse(strength
Lambda))``; diagonal precisions are independent ``Gamma(dof / 2, rate scale_d / 2)``, a spherical
one is ``Gamma(dof / 2, rate scale / 2)``. The posterior given codes has the same form, and its log
density is linear in functions of the model, so that the densities of many models under many
posteriors are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.gaussian._components import GaussianMoments, GaussianParameters
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.gaussian._precision_prior import PrecisionPrior


@dataclass(frozen=True)
class NormalWishart(ArrayRecord):
    """Priors or posteriors of Gaussian components.

    Attributes
    ----------
    location : ndarray of shape (S, K, D)
    strength : ndarray of shape (S, K)
        Number of rows that the location counts as.
    dof : ndarray of shape (S, C)
    scale : ndarray of shape (S, C) + tail
    """

    location: Array
    strength: Array
    dof: Array
    scale: Array


def update(
    kind: PrecisionPrior,
    prior: NormalWishart,
    counts: Array,
    moments: GaussianMoments,
    temperature: float,
) -> NormalWishart:
    """Return the posteriors given the statistics of rows with known codes.

    Parameters
    ----------
    kind : PrecisionPrior
    prior : NormalWishart
        With S = 1.
    counts : ndarray of shape (S, K)
    moments : GaussianMoments
    temperature : float
        Statistics are multiplied by ``1 / temperature``, since energies are divided by it.

    Returns
    -------
    NormalWishart
    """
    heat = 1.0 / temperature
    n = counts * heat
    first = moments.first * heat
    strength = prior.strength + n
    offset = prior.location - moments.reference  # of the prior's location from the reference
    # location = reference + (strength_0 offset + sum of deviations) / strength
    shift = (prior.strength[..., None] * offset + first) / strength[..., None]
    scale = _centred_second(kind.shape, prior, n, moments.second * heat, offset, first, strength)
    rows = n.sum(axis=1, keepdims=True) if prior.dof.shape[1] == 1 else n
    dof = prior.dof + rows * kind.degrees_per_row
    return NormalWishart(moments.reference + shift, strength, dof, prior.scale + scale)


def _centred_second(
    shape: CovarianceShape,
    prior: NormalWishart,
    n: Array,
    second: Array,
    offset: Array,
    first: Array,
    strength: Array,
) -> Array:
    """Return the scatter within components plus the shrinkage of means towards their prior.

    ``sum (x - mean)(x - mean)' + strength_0 n / strength (mean - location_0)(...)'``.
    """
    safe = np.where(n > 0, n, 1.0)
    mean = first / safe[..., None]
    within = shape.lift(n) * shape.moment(mean)
    between = shape.lift(prior.strength * n / strength) * shape.moment(mean - offset)
    if second.shape[1] == 1:
        within = within.sum(axis=1, keepdims=True)
        between = between.sum(axis=1, keepdims=True)
    return second - within + between


def draw(
    kind: PrecisionPrior, posterior: NormalWishart, rng: np.random.Generator
) -> GaussianParameters:
    """Draw one set of components from each posterior."""
    factors = kind.draw_factors(posterior.dof, posterior.scale, rng)
    noise = rng.standard_normal(posterior.location.shape)
    deviations = kind.colour(factors, noise) / np.sqrt(posterior.strength)[..., None]
    return GaussianParameters(posterior.location + deviations, factors)


def linear_form(
    kind: PrecisionPrior, posteriors: NormalWishart, params: GaussianParameters, centre: Array
) -> tuple[Array, Array, Array | None]:
    """Return log densities of components under posteriors as inner products.

    Parameters
    ----------
    kind : PrecisionPrior
    posteriors : NormalWishart
        M posteriors.
    params : GaussianParameters
        S models.
    centre : ndarray of shape (D,)
        Point that is subtracted from locations, to keep digits.

    Returns
    -------
    of_models : ndarray of shape (S, K, F)
    of_posteriors : ndarray of shape (M, K, F)
        Their inner product is the log density of component k of a model under posterior j: of its
        mean given the precision, times the precision's unless that is tied.
    shared : ndarray of shape (S, M) or None
        Log density of the tied precision.
    """
    shape = kind.shape
    n_models, n_components, size = params.means.shape
    offsets = params.means - centre
    linear = shape.apply_precision(params.factors, offsets)
    square = -0.5 * np.einsum("skd,skd->sk", linear, offsets)
    quadratic = shape.quadratic_coefficients(params.factors)
    half_log_det = shape.half_log_det(params.factors)

    location, strength = posteriors.location - centre, posteriors.strength
    pulled = shape.pack(shape.lift(strength) * shape.moment(location))
    log_det_power = np.ones_like(strength)
    constant = 0.5 * size * (np.log(strength) - LOG_2PI)
    normaliser = kind.log_normaliser(posteriors.dof, posteriors.scale)
    power = kind.log_det_exponent(posteriors.dof)
    shared = None
    if params.factors.shape[1] == 1 and n_components > 1:
        shared = (
            quadratic[:, 0] @ shape.pack(posteriors.scale)[:, 0].T
            + half_log_det * power[:, 0]
            + normaliser[:, 0]
        )
    else:
        pulled = pulled + shape.pack(posteriors.scale)
        log_det_power = log_det_power + power
        constant = constant + normaliser

    def spread(array: Array) -> Array:
        return np.broadcast_to(array, (n_models, n_components, *array.shape[2:]))

    of_models = [
        spread(quadratic),
        linear,
        square[..., None],
        spread(half_log_det)[..., None],
        np.ones((n_models, n_components, 1)),
    ]
    of_posteriors = [
        pulled,
        strength[..., None] * location,
        strength[..., None],
        log_det_power[..., None],
        constant[..., None],
    ]
    return np.concatenate(of_models, axis=-1), np.concatenate(of_posteriors, axis=-1), shared


def log_marginal(
    kind: PrecisionPrior,
    prior: NormalWishart,
    counts: Array,
    moments: GaussianMoments,
    temperature: float,
) -> Array:
    """Return the log marginal likelihood of rows with known codes, (S, K).

    The ratio of the normalisers of prior and posterior. The terms of a precision that all
    components share are divided equally among them.

    Parameters
    ----------
    kind : PrecisionPrior
    prior : NormalWishart
        With S = 1.
    counts : ndarray of shape (S, K)
    moments : GaussianMoments
    temperature : float
    """
    posterior = update(kind, prior, counts, moments, temperature)
    size, n_covariances = kind.n_features, prior.dof.shape[1]
    of_means = 0.5 * size * (np.log(prior.strength) - np.log(posterior.strength))
    of_means = of_means - 0.5 * size * LOG_2PI * counts / temperature
    of_precisions = kind.log_normaliser(prior.dof, prior.scale)
    of_precisions = of_precisions - kind.log_normaliser(posterior.dof, posterior.scale)
    return of_means + of_precisions * (n_covariances / counts.shape[1])


def log_prior(
    kind: PrecisionPrior, prior: NormalWishart, params: GaussianParameters, centre: Array
) -> Array:
    """Return the log prior density of each model's components, (S,)."""
    of_models, of_prior, shared = linear_form(kind, prior, params, centre)
    total = np.einsum("skf,kf->s", of_models, of_prior[0])
    return total if shared is None else total + shared[:, 0]


def mode(kind: PrecisionPrior, posterior: NormalWishart) -> GaussianParameters:
    """Return the mode in the coordinates (mu, log Lambda).

    The measure on precisions is the invariant one, ``dLambda / |Lambda|^((D + 1) / 2)``, so that
    the mode exists whatever the degrees of freedom and does not depend on the units.
    """
    n_means = posterior.strength.shape[1] / posterior.dof.shape[1]
    degrees = posterior.dof + kind.degrees_per_row * n_means
    covariances = posterior.scale / kind.shape.lift(degrees)
    return GaussianParameters(posterior.location, kind.shape.factorise(covariances))


def log_mode_measure(kind: PrecisionPrior, params: GaussianParameters) -> Array:
    """Return the log of the measure of :func:`mode` relative to ``d mu d Lambda``, (S,).

    ``|Lambda|^((D + 1) / 2)`` for full precisions, their product for diagonal ones.
    """
    half_log_det = kind.shape.half_log_det(params.factors)
    # the exponent of the precision prior with zero degrees of freedom
    return -(kind.log_det_exponent(np.zeros(1)) * half_log_det).sum(axis=1)
