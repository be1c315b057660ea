"""Settings of BayesianGMMAutoEncoder, and the form of its fitted models."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.gaussian._collapsed import operations_per_row
from skbae.energies.gaussian._covariance import (
    COVARIANCE_TYPES,
    CovarianceShape,
    covariance_shape,
)
from skbae.energies.gaussian._mixture import GaussianMixtureEnergy, gaussian_mixture
from skbae.energies.gaussian._precision_prior import precision_prior
from skbae.energies.gaussian._span import ColumnSpan, SpannedMixture
from skbae.energies.mixture._conjugate import MAX_RELABELLED
from skbae.estimators._checks import check_known_together, check_real, check_shape
from skbae.estimators._mixture import MixtureSettings, mixture_settings
from skbae.estimators._settings import Given, check_memory
from skbae.inference.passes._starting_points import (
    MAX_DISTINCT,
    distinct_rows,
    shortest_intervals,
)

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array, Rows
    from skbae.estimators._plans import SamplerPlans

# Rows times components times numbers a row takes: above, no search over allocations can be waited
# for, however long.
_MOST_SEARCHED = 3e7
# Default of reg_covar, relative to the variance of each feature within groups.
_RELATIVE_FLOOR = 1e-6
# Least reg_covar, relative to the mean squares of X: squares in its units must have room.
_LEAST_RATIO = 1e-280
# Length, in standard deviations, of the interval that holds the middle half of a normal variable.
_HALF_OF_A_NORMAL = 1.349


@dataclass(frozen=True)
class GaussianMixtureForm:
    """Form of a fitted model: what determines its energy, but for the prior.

    Attributes
    ----------
    n_components : int
    n_features : int
        Number of columns that have a density.
    covariance_type : str
    equal_weights : bool
    span : ColumnSpan or None
        How the columns without a density follow from those with one; None if there are none.
    """

    n_components: int
    n_features: int
    covariance_type: str
    equal_weights: bool
    span: ColumnSpan | None = field(default=None, compare=False)

    @property
    def shape(self) -> CovarianceShape:
        """The shape of one covariance."""
        return covariance_shape(self.covariance_type, self.n_features)

    @property
    def tied(self) -> bool:
        """Whether all components share one covariance."""
        return COVARIANCE_TYPES[self.covariance_type][1]

    def energy(self, floor: Array | float = 0.0) -> GaussianMixtureEnergy:
        """Return the energy of the columns that have a density, without a prior."""
        return gaussian_mixture(
            self.n_components,
            self.n_features,
            self.covariance_type,
            self.equal_weights,
            floor,
        )

    def energy_of_rows(self) -> GaussianMixtureEnergy:
        """Return the energy of rows with all columns, without a prior."""
        return self.energy() if self.span is None else SpannedMixture(self.energy(), self.span)


@dataclass(frozen=True)
class GivenStart:
    """The user's initial values; None where they are chosen from the rows.

    Attributes
    ----------
    weights : ndarray of shape (1, K) or None
    means : ndarray of shape (1, K, D) or None
    factors : ndarray of shape (1, C, ...) or None
        Cholesky factors of the precisions.
    """

    weights: Array | None
    means: Array | None
    factors: Array | None


@dataclass(frozen=True)
class GivenPrior:
    """The user's prior; None where it is computed from the rows.

    Attributes
    ----------
    concentration, mean_precision : float
    degrees_of_freedom : float or None
    mean : ndarray of shape (D,) or None
    covariance : ndarray of the shape of one covariance, or None
    """

    concentration: float
    mean_precision: float
    degrees_of_freedom: float | None
    mean: Array | None
    covariance: Array | None


def relative_floor(rows: Rows, n_components: int) -> Array:
    """Return a millionth of the variance of each feature within groups, (D,).

    The variance is that of a normal distribution of which half the rows are in the shortest
    interval that holds half of an average component's rows: groups may be far from each other.
    Where this is zero, since rows are equal in this feature, it is the variance of all rows; of
    constant features, the mean variance of the others; and 1 if all rows are equal.
    """
    X, weights = distinct_rows(rows, max(MAX_DISTINCT, 4 * n_components))
    within = (shortest_intervals(X, weights, 0.5 / n_components) / _HALF_OF_A_NORMAL) ** 2
    total = rows.scale**2
    resolution = (8 * np.finfo(np.float64).eps) ** 2 * (rows.centre**2 + total)
    variances = np.where(within > resolution, np.minimum(within, total), total)
    return _RELATIVE_FLOOR * np.where(variances > 0, variances, total.mean() or 1.0)


@dataclass(frozen=True, kw_only=True)
class GaussianMixtureSettings(MixtureSettings):
    """Parameters of a Gaussian mixture, as documented in the estimator."""

    sampling_advice: ClassVar[str] = (
        "Try another covariance_type, fewer n_components, an informative covariance_prior, or more "
        "starts (n_init) and draws (n_models);"
    )

    covariance_type: str
    reg_covar: float | None
    mean_precision_prior: float
    mean_prior: Any
    degrees_of_freedom_prior: float | None
    covariance_prior: Any
    evidence_tol: float | None
    weights_init: Any
    means_init: Any
    precisions_init: Any
    span: ColumnSpan | None = None

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        settings = cls(
            **mixture_settings(estimator, given, plans),
            covariance_type=given.choice("covariance_type", COVARIANCE_TYPES),
            reg_covar=given.optional_real("reg_covar", at_least=0),
            mean_precision_prior=given.real("mean_precision_prior", above=0),
            degrees_of_freedom_prior=given.optional_real("degrees_of_freedom_prior", above=0),
            mean_prior=given["mean_prior"],
            covariance_prior=given["covariance_prior"],
            evidence_tol=given.optional_real("evidence_tol", above=0),
            weights_init=given["weights_init"],
            means_init=given["means_init"],
            precisions_init=given["precisions_init"],
        )
        if settings.annealing is not None and settings.means_init is not None:
            raise ValueError(
                "annealing and means_init both choose initial means: set one of them to None, got "
                f"annealing={given['annealing']!r} and an array"
            )
        return settings

    def form(self, n_features: int) -> GaussianMixtureForm:
        """Return the form of models with this number of features."""
        return GaussianMixtureForm(
            self.n_components,
            n_features,
            self.covariance_type,
            self.equal_weights,
            self.span,
        )

    def floor(self, rows: Rows) -> Array:
        """Return what is added to the variance of each feature, (D,)."""
        if self.reg_covar is not None:
            least = _LEAST_RATIO * float((rows.centre**2 + rows.scale**2).max())
            if 0 < self.reg_covar < least:
                raise ValueError(
                    f"reg_covar={self.reg_covar:g} is so small next to the squares of X that "
                    f"energies may overflow; it may be 0, or {least:.3g} and more"
                )
            return np.full(rows.X.shape[1], self.reg_covar)
        return relative_floor(rows, self.n_components)

    @property
    def spherical(self) -> bool:
        """Whether a component has one variance for all columns."""
        return COVARIANCE_TYPES[self.covariance_type][0].name == "spherical"

    def on_span(self, span: ColumnSpan) -> GaussianMixtureSettings:
        """Return the settings of the same mixture of the columns that are kept.

        Precisions' priors are those of the marginal distribution: a Wishart prior loses one degree
        of freedom with each column.
        """
        kept, shape = span.kept, COVARIANCE_TYPES[self.covariance_type][0](len(span.offset))
        dof, covariance, precisions = (
            self.degrees_of_freedom_prior,
            self.covariance_prior,
            self.precisions_init,
        )
        if shape.name == "full":
            if dof is not None:
                dof = dof - (len(span.offset) - len(kept))
            if covariance is not None:
                covariance = np.asarray(covariance)[np.ix_(kept, kept)]
            if precisions is not None:
                every = np.linalg.inv(np.asarray(precisions, dtype=np.float64))
                precisions = np.linalg.inv(every[..., kept[:, None], kept])
        elif shape.name == "diag":
            covariance = None if covariance is None else np.asarray(covariance)[kept]
            precisions = None if precisions is None else np.asarray(precisions)[..., kept]
        return replace(
            self,
            degrees_of_freedom_prior=dof,
            covariance_prior=covariance,
            precisions_init=precisions,
            mean_prior=None if self.mean_prior is None else np.asarray(self.mean_prior)[kept],
            means_init=None if self.means_init is None else np.asarray(self.means_init)[:, kept],
            span=span,
        )

    def check_data(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError unless the parameters fit the number of rows and of features."""
        self.check_enough_rows(n_rows)
        self.given_start(n_features)
        self.given_prior(n_features)
        form = self.form(n_features)
        n_covariances = 1 if form.tied else self.n_components
        size = self.n_components * (1 + n_features) + 2 * n_covariances * form.shape.n_free
        what = f"n_components={self.n_components} and covariance_type={self.covariance_type!r}"
        check_memory(size, self.n_models if self.samples else 1, what)
        if self.samples:
            self._check_sampler(n_rows, form)

    def check_gaps(self, rows: Rows, names: Any) -> None:
        """Raise ValueError if a single best model does not follow from rows with missing entries.

        Parameters
        ----------
        rows : Rows
        names : array-like of shape (D,) or None
            Of the columns.
        """
        if COVARIANCE_TYPES[self.covariance_type][0].name == "full":
            check_known_together(rows, names)

    @property
    def sweeps(self) -> bool:
        """Whether T = tau and t = 0, so that sweeps and allocations may serve, not gradients."""
        return self.temperature == self.model_temperature and self.tilt == 0

    def _check_sampler(self, n_rows: int, form: GaussianMixtureForm) -> None:
        """Raise ValueError for components too many for sweeps over rows too many for a search."""
        work = n_rows * self.n_components * (operations_per_row(form.shape))
        if self.sweeps and self.n_components > MAX_RELABELLED and work > _MOST_SEARCHED:
            raise ValueError(
                f"n_components must be at most {MAX_RELABELLED} for models to be sampled on "
                f"{n_rows} rows of {form.n_features} features (sweeps over long data sum over all "
                f"relabellings of the components), got {self.n_components}; sample on fewer rows, "
                "or set model_temperature=0 to fit the single best model"
            )

    @property
    def start_is_given(self) -> bool:
        """Whether the user gave all initial values."""
        given = (self.weights_init, self.means_init, self.precisions_init)
        return all(each is not None for each in given)

    def given_start(self, n_features: int) -> GivenStart:
        """Return the user's initial values, checked.

        Raises
        ------
        ValueError
            Naming ``weights_init``, ``means_init`` or ``precisions_init``.
        """
        n_components = self.n_components
        weights = means = factors = None
        if self.weights_init is not None:
            weights = checked_weights("weights_init", self.weights_init, n_components)
        if self.means_init is not None:
            shape, what = (n_components, n_features), "(n_components, n_features)"
            means = check_shape("means_init", self.means_init, shape, what)[None]
        if self.precisions_init is not None:
            factors = self._given_factors(self.form(n_features))
        return GivenStart(weights, means, factors)

    def _given_factors(self, form: GaussianMixtureForm) -> Array:
        """Return the factors (1, C, ...) of ``precisions_init``."""
        return checked_factors("precisions_init", self.precisions_init, form, precisions=True)

    def given_prior(self, n_features: int) -> GivenPrior:
        """Return the user's prior, checked.

        Raises
        ------
        ValueError
            Naming the parameter.
        """
        shape = self.form(n_features).shape
        check_real(
            "degrees_of_freedom_prior",
            self.degrees_of_freedom_prior,
            above=precision_prior(shape).minimum_dof(),
            optional=True,
        )
        mean = covariance = None
        if self.mean_prior is not None:
            mean = check_shape("mean_prior", self.mean_prior, (n_features,), "(n_features,)")
        if self.covariance_prior is not None:
            what = f"that of one covariance of covariance_type={self.covariance_type!r}"
            covariance = check_shape("covariance_prior", self.covariance_prior, shape.tail, what)
            if shape.name == "full" and not np.allclose(covariance, covariance.T):
                raise ValueError("covariance_prior must be symmetric, got a matrix that is not")
            try:
                shape.factorise(covariance[None])
            except np.linalg.LinAlgError as error:
                raise ValueError(
                    f"covariance_prior must be positive definite, got {self.covariance_prior!r}"
                ) from error
        return GivenPrior(
            self.weight_concentration_prior,
            self.mean_precision_prior,
            self.degrees_of_freedom_prior,
            mean,
            covariance,
        )


def checked_factors(
    name: str, value: Any, form: GaussianMixtureForm, *, precisions: bool = False
) -> Array:
    """Return the factors (1, C, ...) of covariances, or of precisions, in scikit-learn's shape.

    Raises
    ------
    ValueError
        Naming the argument, unless it has the shape of the covariance type and is symmetric and
        positive definite.
    """
    shape, tied = form.shape, form.tied
    expected = shape.tail if tied else (form.n_components, *shape.tail)
    what = f"that of covariance_type={form.covariance_type!r}"
    matrices = check_shape(name, value, expected, what)
    if shape.name == "full" and not np.allclose(matrices, np.swapaxes(matrices, -1, -2)):
        raise ValueError(f"{name} must be symmetric, got matrices that are not")
    factorise = shape.factorise_precision if precisions else shape.factorise
    try:
        return factorise(matrices[None] if tied else matrices)[None]
    except np.linalg.LinAlgError as error:
        kind = "precision" if precisions else "covariance"
        raise ValueError(f"{name} must be positive definite, got a {kind} that is not") from error


def checked_weights(name: str, value: Any, n_components: int) -> Array:
    """Return weights (1, K); raise ValueError, naming the argument, unless they sum to one."""
    weights = check_shape(name, value, (n_components,), "(n_components,)")
    if np.any(weights < 0) or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(
            f"{name} must not be negative and must sum to 1, got a minimum of {weights.min():g} "
            f"and a sum of {weights.sum():g}"
        )
    return weights[None] / weights.sum()
