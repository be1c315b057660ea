"""How a mixture of PCA starts and what becomes of it: BayesianMixturePCAAutoEncoder.fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import (
    PCAComponents,
    PCAFamily,
    PCAMixture,
    models_from_assignment,
    n_directions,
    nearest_mean_components,
    orthonormal_rows,
)
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies.pca._prior import default_prior
from skbae.estimators._mixture import initial_means
from skbae.estimators.pca._fit import given_prior, mean_variance
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.inference.passes._rows import RowRunner


# Smallest noise of a component, relative to the mean variance of a feature: what keeps one from
# collapsing onto few rows. A single component, which has all rows, needs none.
NOISE_FLOOR = 1e-6
# Passes that find each initial group's subspace.
_PASSES_TO_START = 3
# Coordinates that sampling can move through in minutes; see benchmarks/mixture_pca.py.
MAX_SAMPLED_COORDINATES = 1000
# Starts of fits from which modes are sought, up to so many rows, and their iterations.
_N_STARTS = ((100, 40), (1000, 16), (20_000, 8))
_FEWEST_STARTS = 3
_TOL, _MAX_ITER = 1e-5, 100


@dataclass(frozen=True)
class PCAMixtureModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, labels matched.

    Attributes
    ----------
    weights : ndarray of shape (S, K)
    means : ndarray of shape (S, K, D)
    components : ndarray of shape (S, K, d, D)
    component_precisions : ndarray of shape (S, K, d)
    noise_variance : ndarray of shape (S, K), or (S,) where it is tied
    explained_variance : ndarray of shape (S, K, d)
    """

    weights: Array
    means: Array
    components: Array
    component_precisions: Array
    noise_variance: Array
    explained_variance: Array


# -- energies --------------------------------------------------------------------------------------


def plain_energy(config: dict[str, Any]) -> PCAMixture:
    """Return the energy without a prior."""
    family = PCAFamily(
        config["n_components"],
        config["n_latent"],
        config["n_features"],
        config["temperature"],
        config["tied_noise"],
        config["noise_floor"],
    )
    return PCAMixture(family, config["equal_weights"])


def energy_with_prior(estimator: Any, config: dict[str, Any], rows: Rows) -> PCAMixtureWithPrior:
    """Return the mixture with its prior, in which None has been replaced by what the data say."""
    size, n_latent = config["n_features"], config["n_latent"]
    given = given_prior(estimator, size)
    prior = default_prior(mean_variance(rows), n_latent, rows.centre, given)
    family = PCAFamilyWithPrior(
        config["n_components"],
        n_latent,
        size,
        config["temperature"],
        config["tied_noise"],
        prior,
    )
    concentration = np.full(config["n_components"], float(estimator.weight_concentration_prior))
    return PCAMixtureWithPrior(family, concentration, config["equal_weights"])


def check_can_sample(estimator: Any, n_features: int) -> None:
    """Raise ValueError where the coordinates are too many to sample."""
    size = estimator.n_components * (1 + n_features * (estimator.n_latent + 1) + 1)
    if size > MAX_SAMPLED_COORDINATES:
        raise ValueError(
            f"n_components={estimator.n_components} with n_latent={estimator.n_latent} on "
            f"{n_features} features makes {size} parameters, more than the "
            f"{MAX_SAMPLED_COORDINATES} through which models can be sampled; set "
            "model_temperature=0 to fit the single best model"
        )


# -- starts ----------------------------------------------------------------------------------------


def starts(
    estimator: Any,
    energy: PCAMixture,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> MixtureParameters:
    """Return models that fit the groups of rows nearest to initial means."""
    family = energy.family
    means = initial_means(estimator.init_params, energy.n_components, rows, rng, runner, n_starts)
    variance, shape = mean_variance(rows), means.shape[:2]
    q = family.n_latent + n_directions(family.n_latent, family.n_features)
    # any directions will do to begin with; that they ignore the rows keeps their order out of it
    basis = orthonormal_rows(rng.standard_normal((*shape, q, family.n_features)))
    weights = np.full(shape, 1 / energy.n_components)
    for _ in range(_PASSES_TO_START):
        components = nearest_mean_components(family, means, variance, basis)
        assigned = MixtureParameters(weights, components)
        kernel = energy.expectation(assigned, rows.frame, np.float64, 0.0, 0.0)
        statistics = runner.reduce(kernel, rows)
        basis = family.maximise(statistics.counts, statistics.moments, components).basis
    return models_from_assignment(energy, statistics, assigned)


def sampling_starts(
    estimator: Any,
    config: dict[str, Any],
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
) -> tuple[MixtureParameters, NDArray[np.bool_]]:
    """Return fits by expectation maximisation to look for modes from, and which parts are vacant.

    Where fewer components explain the rows as well, a posterior with K of them is mostly about
    models in which the others explain nothing. So there are fits of 1, ..., K components, each
    completed by vacant ones; ``vacant`` has shape (S, K).
    """
    n_components = config["n_components"]
    most = [n for limit, n in _N_STARTS if len(rows.X) <= limit]
    n_starts = max(*most[:1], _FEWEST_STARTS, int(estimator.n_init))
    fits, vacant = [], []
    floor = NOISE_FLOOR * mean_variance(rows)
    for size in range(n_components, 0, -1):
        smaller = {**config, "n_components": size, "noise_floor": floor if size > 1 else 0.0}
        energy = plain_energy(smaller)
        found = expectation_maximisation(
            Objective(energy, rows, runner, config["temperature"], float(estimator.tilt)),
            starts(estimator, energy, rows, rng, runner, n_starts if size > 1 else 1),
            tol=_TOL,
            max_iter=_MAX_ITER,
        )
        sound = found.params.take(np.isfinite(found.objective))
        fits.append(_with_vacancies(sound, n_components, config))
        empty = np.arange(n_components) >= size
        vacant.append(np.tile(empty, (sound.n_models, 1)))
    return MixtureParameters.concatenate(fits), np.concatenate(vacant)


def _with_vacancies(
    params: MixtureParameters, n_components: int, config: dict[str, Any]
) -> MixtureParameters:
    """Return models with more components, copies of the first, that have no weight."""
    size = params.weights.shape[1]
    order = np.where(np.arange(n_components) < size, np.arange(n_components), 0)
    own = params.components
    weights = np.where(np.arange(n_components) < size, params.weights[:, order], 0.0)
    return MixtureParameters(
        np.full_like(weights, 1 / n_components) if config["equal_weights"] else weights,
        PCAComponents(
            own.means[:, order],
            own.components[:, order],
            own.precisions[:, order],
            own.noise if config["tied_noise"] else own.noise[:, order],
            own.directions[:, order, :0],
        ),
    )


def continued(fitted: Any, rng: np.random.Generator) -> MixtureParameters:
    """Return the fitted model as a start."""
    n_components, n_latent, n_features = fitted.components_.shape
    shape = (n_components, n_directions(n_latent, n_features), n_features)
    more = np.concatenate([fitted.components_, rng.standard_normal(shape)], axis=1)
    noise = np.atleast_1d(fitted.noise_variance_)
    components = PCAComponents(
        fitted.means_[None],
        fitted.components_[None],
        fitted.component_precisions_[None],
        noise[None],
        orthonormal_rows(more)[None, :, n_latent:],
    )
    return MixtureParameters(fitted.weights_[None], components)


# -- results ---------------------------------------------------------------------------------------


def as_models(
    energy: PCAMixture,
    params: MixtureParameters,
    rows: Rows,
    runner: RowRunner,
    temperature: float,
) -> PCAMixtureModels:
    """Return models as the user sees them; the variances they explain take a pass."""
    components = params.components
    kernel = energy.expectation(params, rows.frame, np.float64, temperature, 0.0)
    statistics = runner.reduce(kernel, rows)
    explained = energy.family.explained_variance(statistics.counts, statistics.moments)
    noise = components.noise
    return PCAMixtureModels(
        params.weights,
        components.means,
        components.components,
        components.precisions,
        noise[:, 0] if energy.family.tied_noise else noise,
        explained,
    )


def as_parameters(models: PCAMixtureModels) -> MixtureParameters:
    """Undo :func:`as_models`."""
    noise = models.noise_variance
    components = PCAComponents(
        models.means,
        models.components,
        models.component_precisions,
        noise[:, None] if noise.ndim == 1 else noise,
        models.components[:, :, :0],
    )
    return MixtureParameters(models.weights, components)


def reference_attributes(models: PCAMixtureModels) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    return {
        "weights_": models.weights[0],
        "means_": models.means[0],
        "components_": models.components[0],
        "component_precisions_": models.component_precisions[0],
        "noise_variance_": models.noise_variance[0],
        "explained_variance_": models.explained_variance[0],
    }
