"""The conjugate prior of Gaussian components: normal means, Wishart or gamma precisions.

``Lambda ~ Wishart(dof, inverse(scale))`` and ``mu | Lambda ~ N(location, inverse(strength Lambda))``;
diagonal precisions are independent ``Gamma(dof / 2, rate scale_d / 2)``, a spherical one is
``Gamma(dof / 2, rate scale / 2)``. A posterior given codes is the same with other numbers, and the
log density is linear in functions of the model, so that the densities of many models under many
posteriors are one product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord
from skbae.energies._covariance import CovarianceShape, Full, Spherical
from skbae.energies._gaussian import LOG_2PI, GaussianMoments, GaussianParameters
from skbae.operators._linalg import triangular_inverse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class NormalWishart(ArrayRecord):
    """Priors or posteriors of Gaussian components.

    Attributes
    ----------
    location : ndarray of shape (S, K, D)
    strength : ndarray of shape (S, K)
        How many rows the location is worth.
    dof : ndarray of shape (S, C)
    scale : ndarray of shape (S, C) + tail
    """

    location: Array
    strength: Array
    dof: Array
    scale: Array


def update(
    shape: CovarianceShape,
    prior: NormalWishart,
    counts: Array,
    moments: GaussianMoments,
    temperature: float,
) -> NormalWishart:
    """Return the posteriors given the statistics of rows with known codes.

    Parameters
    ----------
    shape : CovarianceShape
    prior : NormalWishart
        With S = 1.
    counts : ndarray of shape (S, K)
    moments : GaussianMoments
    temperature : float
        Statistics count ``1 / temperature``: the energies are divided by it.

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
    scale = _centred_second(shape, prior, n, moments.second * heat, offset, first, strength)
    rows = n.sum(axis=1, keepdims=True) if prior.dof.shape[1] == 1 else n
    dof = prior.dof + rows * degrees_per_row(shape)
    return NormalWishart(moments.reference + shift, strength, dof, prior.scale + scale)


def _centred_second(shape, prior, n, second, offset, first, strength):
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


def degrees_per_row(shape: CovarianceShape) -> int:
    """Return how many degrees of freedom a row adds to each precision."""
    return shape.n_features if isinstance(shape, Spherical) else 1


def draw(
    shape: CovarianceShape, posterior: NormalWishart, rng: np.random.Generator
) -> GaussianParameters:
    """Draw one set of components from each posterior."""
    factors = _draw_factors(shape, posterior, rng)
    noise = rng.standard_normal(posterior.location.shape)
    deviations = colour_vectors(shape, factors, noise) / np.sqrt(posterior.strength)[..., None]
    return GaussianParameters(posterior.location + deviations, factors)


def _draw_factors(shape, posterior, rng):
    """Draw precision factors (Bartlett's decomposition, upper triangular)."""
    dof, scale = posterior.dof, posterior.scale
    if not isinstance(shape, Full):
        half = 0.5 * np.broadcast_to(shape.lift(dof), scale.shape)
        return np.sqrt(2 * rng.standard_gamma(half) / scale)
    size = shape.n_features
    bartlett = np.zeros(scale.shape)
    diagonal = np.arange(size)
    # reversing rows and columns of the usual lower factor reverses its degrees of freedom
    degrees = dof[..., None] - diagonal[::-1]
    bartlett[..., diagonal, diagonal] = np.sqrt(2 * rng.standard_gamma(0.5 * degrees))
    if size == 1:
        return bartlett / np.sqrt(scale)
    rows, columns = np.triu_indices(size, 1)
    bartlett[..., rows, columns] = rng.standard_normal((*dof.shape, len(rows)))
    return np.matmul(shape.factorise(scale), bartlett)


def colour_vectors(shape: CovarianceShape, factors: Array, noise: Array) -> Array:
    """Return noise (S, K, D) multiplied to have the covariances of factors (S, C) + tail."""
    if isinstance(shape, Full):
        if shape.n_features == 1:
            return noise / factors[..., 0]
        lower = triangular_inverse(np.swapaxes(factors, -1, -2))
        return np.matmul(lower, noise[..., None])[..., 0]
    return noise / (factors[..., None] if isinstance(shape, Spherical) else factors)


def log_normaliser(shape: CovarianceShape, dof: Array, scale: Array) -> Array:
    """Return the log of what makes the precision's prior integrate to one, (S, C)."""
    size = shape.n_features
    if isinstance(shape, Full):
        log_det = np.linalg.slogdet(scale)[1] if size > 1 else np.log(scale[..., 0, 0])
        gamma = multigammaln_array(0.5 * dof, size)
        return 0.5 * dof * (log_det - size * np.log(2)) - gamma
    half = 0.5 * dof
    if isinstance(shape, Spherical):
        return half * np.log(0.5 * scale) - gammaln(half)
    return (half[..., None] * np.log(0.5 * scale) - gammaln(half)[..., None]).sum(axis=-1)


def multigammaln_array(a: Array, size: int) -> Array:
    """Return the log multivariate gamma function elementwise."""
    if size == 1:
        return gammaln(a)
    offsets = 0.5 * np.arange(size)
    constant = size * (size - 1) / 4 * np.log(np.pi)
    return constant + gammaln(a[..., None] - offsets).sum(axis=-1)


def log_det_exponent(shape: CovarianceShape, dof: Array) -> Array:
    """Return the exponent of ``|Lambda|^(1/2)`` in the precision's density."""
    if isinstance(shape, Full):
        return dof - shape.n_features - 1
    if isinstance(shape, Spherical):
        return (dof - 2) / shape.n_features
    return dof - 2


def linear_form(
    shape: CovarianceShape, posteriors: NormalWishart, params: GaussianParameters, centre: Array
) -> tuple[Array, Array, Array | None]:
    """Return log densities of components under posteriors as inner products.

    Parameters
    ----------
    shape : CovarianceShape
    posteriors : NormalWishart
        M of them.
    params : GaussianParameters
        S models.
    centre : ndarray of shape (D,)
        Where locations are measured from, to keep digits.

    Returns
    -------
    of_models : ndarray of shape (S, K, F)
    of_posteriors : ndarray of shape (M, K, F)
        Their inner product is the log density of component k of a model under posterior j: of its
        mean given the precision, times the precision's unless that is tied.
    shared : ndarray of shape (S, M) or None
        Log density of the tied precision.
    """
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
    normaliser = log_normaliser(shape, posteriors.dof, posteriors.scale)
    power = log_det_exponent(shape, posteriors.dof)
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


def log_prior(
    shape: CovarianceShape, prior: NormalWishart, params: GaussianParameters, centre: Array
) -> Array:
    """Return the log prior density of each model's components, (S,)."""
    of_models, of_prior, shared = linear_form(shape, prior, params, centre)
    total = np.einsum("skf,kf->s", of_models, of_prior[0])
    return total if shared is None else total + shared[:, 0]


def mode(shape: CovarianceShape, posterior: NormalWishart) -> GaussianParameters:
    """Return the mode in the coordinates (mu, log Lambda).

    The measure on precisions is the invariant one, ``dLambda / |Lambda|^((D + 1) / 2)``, so that
    the mode exists whatever the degrees of freedom and does not depend on the units.
    """
    n_means = posterior.strength.shape[1] / posterior.dof.shape[1]
    covariances = posterior.scale / shape.lift(posterior.dof + degrees_per_row(shape) * n_means)
    return GaussianParameters(posterior.location, shape.factorise(covariances))


def scores(
    shape: CovarianceShape, posterior: NormalWishart, params: GaussianParameters
) -> tuple[Array, Array]:
    """Return the gradient of each posterior's log density at its own model.

    Parameters
    ----------
    shape : CovarianceShape
    posterior : NormalWishart
    params : GaussianParameters

    Returns
    -------
    means : ndarray of shape (S, K, D)
    log_scales : ndarray of shape (S, C)
        Along ``Lambda -> exp(s) Lambda``, with respect to the invariant measure.
    """
    deviations = params.means - posterior.location
    pull = -posterior.strength[..., None] * shape.apply_precision(params.factors, deviations)
    square = np.einsum("skd,skd->sk", pull, deviations)
    traces = np.einsum(
        "scq,scq->sc", shape.quadratic_coefficients(params.factors), shape.pack(posterior.scale)
    )
    n_means = posterior.strength.shape[1] / posterior.dof.shape[1]
    squares = square.sum(axis=1, keepdims=True) if n_means > 1 else square
    degrees = degrees_per_row(shape)
    expected = 0.5 * (shape.n_features / degrees) * (posterior.dof + degrees * n_means)
    return pull, expected + traces + 0.5 * squares


def shape_of_prior(shape: CovarianceShape, covariance: Any) -> Array:
    """Return a full covariance (D, D) as a scale of this shape: itself, its diagonal or its mean."""
    if isinstance(shape, Full):
        return covariance
    diagonal = np.diagonal(covariance)
    return np.asarray(diagonal.mean()) if isinstance(shape, Spherical) else diagonal.copy()
