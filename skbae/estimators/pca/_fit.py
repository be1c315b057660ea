"""How PCA is fitted and what becomes of it: BayesianPCAAutoEncoder.fit."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import get_config

from skbae._types import ArrayRecord
from skbae.energies.pca._energy import PCAEnergy, PCAParameters, optimum
from skbae.energies.pca._prior import (
    BayesianPCAEnergy,
    Loadings,
    PCAModeEnergy,
    RowMoments,
    default_prior,
)
from skbae.estimators._checks import check_real, check_shape
from skbae.estimators._sampling import run_charted
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._principal_axes import Spectrum, choose_solver, leading_axes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array, EMResult, Rows, SamplingRun
    from skbae.inference.passes._principal_axes import RowsWithCovariance
    from skbae.inference.passes._rows import RowRunner


# Coordinates that can be sampled in minutes; see benchmarks/pca.py.
MAX_SAMPLED_COORDINATES = 2500
# Temperature at which the climb to the mode starts when T is lower.
_COLDEST_START = 0.1
# Rows, per tau, below which sampling starts from the prior. In PCA's charts lengths are normal
# scores, so that few suffice to start from the mode.
_FEW_ROWS = 4.0
# Square matrices that a pass and an eigendecomposition hold at once.
_N_MATRICES = 20


@dataclass(frozen=True)
class PCAModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S.

    Components are in the order of their variance in each model, with the reference's signs.

    Attributes
    ----------
    components : ndarray of shape (S, d, D)
    mean : ndarray of shape (S, D)
    noise_variance : ndarray of shape (S,)
    explained_variance : ndarray of shape (S, d)
    component_precisions : ndarray of shape (S, d)
    """

    components: Array
    mean: Array
    noise_variance: Array
    explained_variance: Array
    component_precisions: Array


# -- what was asked for ----------------------------------------------------------------------------


def check_n_components(value: Any) -> None:
    """Raise unless `value` is one of the ways to say how many components there are."""
    allowed = (
        "n_components must be None, an integer >= 0, a number between 0 and 1 (a share of the "
        f"variance) or 'evidence', got {value!r}"
    )
    if value is None or (isinstance(value, str) and value == "evidence"):
        return
    if isinstance(value, str):
        raise ValueError(allowed)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(allowed)
    number = float(value)
    fits = number >= 0 if isinstance(value, numbers.Integral) else 0 < number < 1
    if not fits:
        raise ValueError(allowed)


def is_share(n_components: Any) -> bool:
    """Return whether the number of components is given as a share of the variance."""
    return isinstance(n_components, numbers.Real) and not isinstance(n_components, numbers.Integral)


def most_components(X: NDArray[Any]) -> int:
    """Return min(N, D), in which rows that occur several times count once if they are few.

    So that a row of weight two is two rows here as well.
    """
    n_rows, n_features = X.shape
    return n_features if n_rows >= n_features else min(len(np.unique(X, axis=0)), n_features)


def given_prior(estimator: Any, n_features: int | None) -> dict[str, Any]:
    """Return the user's prior, checked; None stands for what the data decide.

    Raises
    ------
    ValueError, TypeError
        Naming the parameter.
    """
    given: dict[str, Any] = {
        "component_variance": check_real(
            "component_variance_prior", estimator.component_variance_prior, above=0, optional=True
        ),
        "mean": None,
        "mean_precision": check_real(
            "mean_precision_prior", estimator.mean_precision_prior, above=0
        ),
        "noise_shape": check_real("noise_shape_prior", estimator.noise_shape_prior, above=0),
        "noise_scale": check_real(
            "noise_scale_prior", estimator.noise_scale_prior, above=0, optional=True
        ),
    }
    if estimator.mean_prior is not None and n_features is not None:
        given["mean"] = check_shape(
            "mean_prior", estimator.mean_prior, (n_features,), "(n_features,)"
        )
    return given


def check_can_sample(estimator: Any, n_components: int, n_features: int) -> None:
    """Raise ValueError where the coordinates are too many for tempered sampling."""
    size = PCAEnergy(n_components, n_features, 1.0).n_parameters()
    if size > MAX_SAMPLED_COORDINATES:
        raise ValueError(
            f"n_components={estimator.n_components!r} on {n_features} features makes {size} "
            f"parameters, more than the {MAX_SAMPLED_COORDINATES} through which models can be "
            "sampled; decrease n_components, or set model_temperature=0 to fit the single best "
            "model"
        )


def check_has_memory(solver: str, tilt: float, n_rows: int, n_features: int) -> None:
    """Raise ValueError where a fit needs square matrices that are too large."""
    sizes = {"gram": n_rows, "covariance_eigh": n_features}
    size, reason = sizes.get(solver, 0), f"svd_solver={solver!r}"
    if tilt:
        size, reason = n_features, f"tilt={tilt!r}"
    limit = 10 * get_config()["working_memory"]
    needed = 8 * size**2 * _N_MATRICES / 2**20
    if needed > limit:
        raise ValueError(
            f"{reason} needs matrices of shape ({size}, {size}), {needed:.0f} MiB in all, more "
            f"than ten times scikit-learn's working_memory ({limit:.0f} MiB). Choose another, or "
            "raise working_memory with sklearn.set_config."
        )


def solver_for(asked: str, n_components: Any, n_rows: int, n_features: int) -> str:
    """Return the solver to use for what was asked, ``"auto"`` and None included."""
    if asked != "auto":
        return asked
    whole = n_components is None or is_share(n_components)
    return choose_solver(n_rows, n_features, None if whole else int(n_components))


def mean_variance(rows: Rows) -> float:
    """Return the mean variance of a feature, or raise ValueError where there is none."""
    variance = float(np.mean(rows.scale**2))
    if variance == 0:
        raise ValueError("all rows of X are equal, so that there is no scale for the noise")
    return variance


def n_for_share(variances: Array, total_variance: float, share: float) -> int:
    """Return how many axes explain more than a share of the variance, as scikit-learn counts."""
    reached = np.cumsum(variances) / total_variance
    return min(int(np.searchsorted(reached, share, side="right")) + 1, len(variances))


# -- one best model --------------------------------------------------------------------------------


def best_model(spectrum: Spectrum, temperature: float) -> tuple[PCAParameters, float]:
    """Return the closed form, and its ``Hmaxe_T``."""
    params, hmaxe = optimum(
        spectrum.mean[None],
        spectrum.axes[None],
        spectrum.variances[None],
        np.array([spectrum.total_variance]),
        temperature,
    )
    return params, float(hmaxe[0])


def find_spectrum(
    estimator: Any, rows: Rows, runner: RowRunner, rng: np.random.Generator, solver: str
) -> Spectrum:
    """Return the axes that were asked for, by number or by the variance that they explain."""
    asked = estimator.n_components
    whole = asked is None or is_share(asked)
    n_components = most_components(rows.X) if whole else int(asked)
    spectrum = leading_axes(rows, runner, rng, solver, n_components)
    if is_share(asked):
        keep = n_for_share(spectrum.variances, spectrum.total_variance, float(asked))
        return spectrum.take(keep)
    return spectrum


def tilted_model(
    estimator: Any,
    start: PCAParameters,
    rows: RowsWithCovariance,
    runner: RowRunner,
    on_iteration: Callable[[int, float], bool],
) -> EMResult:
    """Climb the tilted mean from the optimum of the plain one."""
    n_components, n_features = start.components.shape[1:]
    temperature = float(estimator.temperature)
    energy = PCAEnergy(n_components, n_features, temperature)
    return expectation_maximisation(
        Objective(energy, rows, runner, temperature, float(estimator.tilt)),
        start,
        tol=float(estimator.tol),
        max_iter=int(estimator.max_iter),
        on_iteration=on_iteration,
    )


# -- sampled models --------------------------------------------------------------------------------


def row_moments(rows: RowsWithCovariance) -> RowMoments:
    """Return what PCA sees of the rows: moments in their principal axes."""
    values, vectors = np.linalg.eigh(rows.covariance)
    return RowMoments(
        rows.centre,
        np.ascontiguousarray(vectors[:, ::-1]),
        np.maximum(values[::-1], 0.0),
        rows.total,
    )


def energy_with_prior(
    estimator: Any,
    moments: RowMoments,
    n_components: int,
    kind: type[BayesianPCAEnergy] = BayesianPCAEnergy,
) -> BayesianPCAEnergy:
    """Return PCA with its prior, in which None has been replaced by what the data say."""
    given = given_prior(estimator, len(moments.mean))
    variance = float(moments.variances.mean())
    prior = default_prior(variance, n_components, moments.mean, given)
    return kind(n_components, prior, moments, float(estimator.temperature))


def start_of_climb(energy: BayesianPCAEnergy) -> Loadings:
    """Return a model near the mode: the optimum at tau = 0, where that is not at a border.

    Melted directions get some loading, and so do those that would be infinite at T = 0.
    """
    moments, n_components = energy.moments, energy.n_components
    axes, variances = moments.axes.T[:n_components], moments.variances[:n_components]
    spectrum = Spectrum(moments.mean, axes, variances, float(moments.variances.sum()))
    model, _ = best_model(spectrum, max(energy.temperature, _COLDEST_START))
    noise = np.maximum(model.noise, 1e-3 * variances.max(initial=0.0))
    precisions = np.minimum(model.precisions, 1.0 / (1.1 * noise[:, None]))
    return energy.from_pca(PCAParameters(model.means, model.components, precisions, noise))


def sample_models(
    energy: BayesianPCAEnergy,
    runner: RowRunner,
    rng: np.random.Generator,
    *,
    model_temperature: float,
    n_models: int,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Draw from ``p(m)``: the one place that chooses a sampler."""
    return run_charted(
        Objective(energy, energy.moments.stand_in(), runner, energy.temperature),
        start_of_climb(energy),
        model_temperature,
        np.zeros((1, 1), dtype=bool),
        rng,
        n_models=n_models,
        on_step=on_step,
        few_rows=_FEW_ROWS,
    )


def reference_model(
    estimator: Any,
    energy: BayesianPCAEnergy,
    run: SamplingRun,
    runner: RowRunner,
    model_temperature: float,
) -> tuple[PCAParameters, float]:
    """Return the mode of ``p(m)`` that the best model known leads to, and its ``Hmaxe_T``."""
    mode_energy = energy_with_prior(
        estimator, energy.moments, energy.n_components, kind=PCAModeEnergy
    )
    objective = Objective(mode_energy, energy.moments.stand_in(), runner, energy.temperature)
    mode = start_of_climb(energy)
    # first from where no draw decides; then from the best draw, should that be higher still
    for others in ([], [run.params]):
        start = best_start(objective, Loadings.concatenate([mode, *others]), model_temperature)
        found = find_mode(objective, start, model_temperature)
        mode = found.params
    return energy.as_pca(mode), float(found.hmaxe[0])


# -- results ---------------------------------------------------------------------------------------


def variance_along(components: Array, covariance: Array) -> Array:
    """Return the variance of the rows along components (S, d, D), (S, d)."""
    return np.einsum("sde,sde->sd", components @ covariance, components)


def as_models(params: PCAParameters, explained: Array, reference: PCAParameters) -> PCAModels:
    """Return models as the user sees them, with the reference's signs."""
    agreement = np.einsum("sde,de->sd", params.components, reference.components[0])
    signs = np.where(agreement < 0, -1.0, 1.0)
    components = params.components * signs[..., None]
    return PCAModels(components, params.means, params.noise, explained, params.precisions)


def as_parameters(models: PCAModels) -> PCAParameters:
    """Undo :func:`as_models`."""
    return PCAParameters(
        models.mean, models.components, models.component_precisions, models.noise_variance
    )


def reference_attributes(models: PCAModels, rows: Rows) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    explained = models.explained_variance[0]
    return {
        "components_": models.components[0],
        "mean_": models.mean[0],
        "noise_variance_": float(models.noise_variance[0]),
        "explained_variance_": explained,
        "explained_variance_ratio_": explained / float((rows.scale**2).sum()),
        "singular_values_": np.sqrt(rows.total * explained),
        "component_precisions_": models.component_precisions[0],
        "n_components_": models.components.shape[1],
    }
