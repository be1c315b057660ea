"""How a Gaussian mixture starts and what becomes of it: what BayesianGMMAutoEncoder.fit does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.gaussian._covariance import COVARIANCE_TYPES, CovarianceShape
from skbae.energies.gaussian._mixture import (
    GaussianMixtureEnergy,
    conjugate_gaussian_mixture,
    gaussian_mixture,
    models_from_assignment,
    nearest_mean_models,
)
from skbae.energies.gaussian._precision_prior import precision_prior
from skbae.energies.mixture._conjugate import MAX_RELABELLED, ConjugateMixture
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators._checks import check_real, check_shape
from skbae.estimators._mixture import initial_means

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.inference.passes._rows import RowRunner


@dataclass(frozen=True)
class GaussianMixtureModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, labels matched.

    Attributes
    ----------
    weights : ndarray of shape (S, K)
    means : ndarray of shape (S, K, D)
    covariances, precisions_cholesky : ndarrays of shape (S,) + scikit-learn's shape
    """

    weights: Array
    means: Array
    covariances: Array
    precisions_cholesky: Array


# -- what the user gives ---------------------------------------------------------------------------


def covariance_shape(estimator: Any, n_features: int) -> tuple[CovarianceShape, bool]:
    """Return the shape of the estimator's covariances and whether they are tied."""
    shape_class, tied = COVARIANCE_TYPES[estimator.covariance_type]
    return shape_class(n_features), tied


def given_start(estimator: Any, n_features: int) -> dict[str, Any]:
    """Return the user's initial weights (1, K), means (1, K, D) and factors (1, C, ...), or None.

    Raises
    ------
    ValueError
        Naming ``weights_init``, ``means_init`` or ``precisions_init``.
    """
    n_components = estimator.n_components
    given: dict[str, Any] = {"weights": None, "means": None, "factors": None}
    if estimator.weights_init is not None:
        weights = check_shape(
            "weights_init", estimator.weights_init, (n_components,), "(n_components,)"
        )
        if np.any(weights < 0) or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(
                "weights_init must not be negative and must sum to 1, got "
                f"a minimum of {weights.min():g} and a sum of {weights.sum():g}"
            )
        given["weights"] = weights[None] / weights.sum()
    if estimator.means_init is not None:
        shape = (n_components, n_features)
        means = check_shape("means_init", estimator.means_init, shape, "(n_components, n_features)")
        given["means"] = means[None]
    if estimator.precisions_init is not None:
        covariance, tied = covariance_shape(estimator, n_features)
        expected = covariance.tail if tied else (n_components, *covariance.tail)
        what = f"that of covariance_type={estimator.covariance_type!r}"
        precisions = check_shape("precisions_init", estimator.precisions_init, expected, what)
        if covariance.name == "full" and not np.allclose(
            precisions, np.swapaxes(precisions, -1, -2)
        ):
            raise ValueError("precisions_init must be symmetric, got matrices that are not")
        precisions = precisions[None] if tied else precisions
        try:
            given["factors"] = covariance.factorise_precision(precisions)[None]
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "precisions_init must be positive definite, got a precision that is not"
            ) from error
    return given


def given_prior(estimator: Any, n_features: int) -> dict[str, Any]:
    """Return the user's prior, checked; None stands for what the data decide.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    shape, _ = covariance_shape(estimator, n_features)
    minimum = precision_prior(shape).minimum_dof()
    name = "degrees_of_freedom_prior"
    given: dict[str, Any] = {
        "concentration": check_real(
            "weight_concentration_prior", estimator.weight_concentration_prior, above=0
        ),
        "mean_precision": check_real(
            "mean_precision_prior", estimator.mean_precision_prior, above=0
        ),
        "degrees_of_freedom": check_real(
            name, estimator.degrees_of_freedom_prior, above=minimum, optional=True
        ),
        "mean": None,
        "covariance": None,
    }
    if estimator.mean_prior is not None:
        given["mean"] = check_shape(
            "mean_prior", estimator.mean_prior, (n_features,), "(n_features,)"
        )
    if estimator.covariance_prior is not None:
        what = f"that of one covariance of covariance_type={estimator.covariance_type!r}"
        covariance = check_shape("covariance_prior", estimator.covariance_prior, shape.tail, what)
        if shape.name == "full" and not np.allclose(covariance, covariance.T):
            raise ValueError("covariance_prior must be symmetric, got a matrix that is not")
        try:
            shape.factorise(covariance[None])
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"covariance_prior must be positive definite, got {estimator.covariance_prior!r}"
            ) from error
        given["covariance"] = covariance
    return given


def check_can_sample(estimator: Any) -> None:
    """Raise ValueError where the labels are too many to be summed over."""
    if estimator.n_components > MAX_RELABELLED:
        raise ValueError(
            f"n_components must be at most {MAX_RELABELLED} for the models to be sampled (the "
            "evidence sums over all relabellings of the components), got "
            f"{estimator.n_components}; set model_temperature=0 to fit the single best model"
        )


# -- starts ----------------------------------------------------------------------------------------


def starts(
    estimator: Any,
    energy: GaussianMixtureEnergy,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> MixtureParameters:
    """Return up to `n_starts` models: what the user gave, completed by choices from the rows."""
    given = given_start(estimator, energy.n_features)
    if all(value is not None for value in given.values()):
        components = GaussianParameters(given["means"], given["factors"])
        return MixtureParameters(given["weights"], components)
    means = given["means"]
    if means is None:
        means = initial_means(
            estimator.init_params, energy.n_components, rows, rng, runner, n_starts
        )
    assigned = nearest_mean_models(energy, means, float(np.mean(rows.scale**2)) or 1.0)
    # in double precision: groups may be much narrower than the spread of all rows
    kernel = energy.expectation(assigned, rows.frame, np.float64, 0.0, 0.0)
    models = models_from_assignment(energy, runner.reduce(kernel, rows), assigned)

    def choose(name: str, value: Array) -> Array:
        own = given[name]
        return value if own is None else np.broadcast_to(own, value.shape).copy()

    components = GaussianParameters(
        choose("means", models.components.means), choose("factors", models.components.factors)
    )
    return MixtureParameters(choose("weights", models.weights), components)


# -- the prior -------------------------------------------------------------------------------------


def conjugate_energy(
    estimator: Any, config: dict[str, Any], rows: Rows, runner: RowRunner
) -> ConjugateMixture:
    """Return the mixture with its prior, in which None has been replaced by what the data say."""
    prior = given_prior(estimator, config["n_features"])
    shape, _ = covariance_shape(estimator, config["n_features"])
    if prior["mean"] is None:
        prior["mean"] = rows.centre
    if prior["degrees_of_freedom"] is None:
        prior["degrees_of_freedom"] = config["n_features"] + 2.0
    if prior["covariance"] is None:
        spread = _row_covariance(shape, config["covariance_type"], rows, runner)
        volume = config["n_components"] ** (2 / config["n_features"])
        prior["covariance"] = spread / volume
    return conjugate_gaussian_mixture(**config, **prior, centre=rows.centre)


def _row_covariance(
    shape: CovarianceShape, covariance_type: str, rows: Rows, runner: RowRunner
) -> Array:
    """Return the covariance of the rows (divisor N) in the given shape.

    Where the rows do not span all columns, a millionth of the mean variance is added to make the
    prior proper.
    """
    single = gaussian_mixture(1, shape.n_features, covariance_type)
    variance = float(np.mean(rows.scale**2))
    if variance == 0:
        raise ValueError(
            "all rows of X are equal, so that there is no scale for the prior: give "
            "covariance_prior, or set model_temperature=0"
        )
    models = nearest_mean_models(single, rows.centre[None, None], variance)
    statistics = runner.reduce(single.expectation(models, rows.frame, np.float64, 0.0, 0.0), rows)
    second = statistics.moments.second - statistics.counts.sum() * shape.moment(
        statistics.moments.first / rows.total
    )
    for floor in (0.0, 1e-6 * variance):
        covariance = shape.from_scatter(second, statistics.counts, floor)
        try:
            shape.factorise(covariance)
        except np.linalg.LinAlgError:
            continue
        return covariance[0, 0]
    raise ValueError(
        "the covariance of X is singular: drop constant or dependent columns, or give "
        "covariance_prior"
    )


# -- results ---------------------------------------------------------------------------------------


def as_models(energy: GaussianMixtureEnergy, params: MixtureParameters) -> GaussianMixtureModels:
    """Return models as the user sees them."""
    factors = params.components.factors
    covariances = energy.family.shape.covariances(factors)
    if energy.family.tied:
        factors, covariances = factors[:, 0], covariances[:, 0]
    return GaussianMixtureModels(params.weights, params.components.means, covariances, factors)


def reference_attributes(
    energy: GaussianMixtureEnergy, params: MixtureParameters
) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    models = as_models(energy, params)
    precisions = energy.family.shape.precisions(params.components.factors)
    return {
        "weights_": models.weights[0],
        "means_": models.means[0],
        "covariances_": models.covariances[0],
        "precisions_": (precisions[:, 0] if energy.family.tied else precisions)[0],
        "precisions_cholesky_": models.precisions_cholesky[0],
    }
