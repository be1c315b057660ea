"""Settings of BayesianPCAAutoEncoder, and what a fitted one stores beside its attributes."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn import get_config

from skbae.energies.pca._energy import PCAEnergy
from skbae.energies.pca._prior import default_prior
from skbae.estimators._checks import (
    check_shape,
)
from skbae.estimators._settings import Given, Settings, check_memory, common_settings
from skbae.inference.passes._principal_axes import (
    ARRAY,
    SOLVERS,
    choose_solver,
    layout_of,
)
from skbae.inference.passes._sources import RowSource
from skbae.inference.passes._starting_points import count_distinct

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array, Rows
    from skbae.energies.pca._loadings import PCAPrior
    from skbae.estimators._plans import SamplerPlans

# What can be sampled in the eigenbasis of the rows in seconds, see benchmarks/pca.py; and how many
# coordinates otherwise, in minutes.
MAX_NESTED_COMPONENTS, MAX_NESTED_PARAMETERS = 20, 20_000
MAX_SAMPLED_COORDINATES = 2500
# On rows with missing entries each step takes a pass over the rows.
MAX_COORDINATES_WITH_GAPS = 1000
# Square matrices that a pass and an eigendecomposition hold in memory at once.
_N_MATRICES = 20


@dataclass(frozen=True)
class PCADetails:
    """What the computation of codes needs beside the public attributes.

    Attributes
    ----------
    code_scale : ndarray of shape (d,)
        Unit of each code in units of X: a standard deviation if codes are whitened, else 1.
    covariance : ndarray of shape (D, D) or None, default=None
        Of all rows of a stream, divisor N; None for a fit to all rows at once.
    """

    code_scale: Array
    covariance: Array | None = None


@dataclass(frozen=True)
class GivenPCAPrior:
    """The user's prior of loadings, mean and noise; None where it is computed from the rows.

    Attributes
    ----------
    component_variance : float or None
    mean : array-like of shape (D,) or None
        As the user gave it, not yet checked.
    mean_precision, noise_shape : float
    noise_scale : float or None
    """

    component_variance: float | None
    mean: Any
    mean_precision: float
    noise_shape: float
    noise_scale: float | None

    @classmethod
    def read(cls, given: Given) -> GivenPCAPrior:
        """Return the prior among the constructor's parameters, all checked but ``mean_prior``."""
        return cls(
            given.optional_real("component_variance_prior", above=0),
            given["mean_prior"],
            given.real("mean_precision_prior", above=0),
            given.real("noise_shape_prior", above=0),
            given.optional_real("noise_scale_prior", above=0),
        )

    def mean_for(self, n_features: int) -> Array | None:
        """Return the prior's mean, checked against the number of features."""
        if self.mean is None:
            return None
        return check_shape("mean_prior", self.mean, (n_features,), "(n_features,)")

    def completed(self, variance: float, n_components: int, mean: Array) -> PCAPrior:
        """Return the prior; parameters given as None are computed from the rows.

        Parameters
        ----------
        variance : float
            Mean variance of a feature.
        n_components : int
        mean : ndarray of shape (D,)
            Of the rows.
        """
        given = {
            "component_variance": self.component_variance,
            "mean": self.mean_for(len(mean)),
            "mean_precision": self.mean_precision,
            "noise_shape": self.noise_shape,
            "noise_scale": self.noise_scale,
        }
        return default_prior(variance, n_components, mean, given)

    def attributes(self, rows: Rows, n_components: int) -> dict[str, Any]:
        """Return the prior as fitted attributes."""
        found = self.completed(float(np.mean(rows.scale**2)), n_components, rows.centre)
        return {
            "component_variance_prior_": found.component_variance,
            "mean_prior_": np.array(found.mean),
            "noise_scale_prior_": found.noise_scale,
        }


@dataclass(frozen=True, kw_only=True)
class PCASettings(Settings):
    """Parameters of PCA, as documented in the estimator."""

    sampling_advice: ClassVar[str] = (
        "Try fewer n_components, an informative prior (component_variance_prior, "
        "noise_shape_prior, noise_scale_prior), or a higher model_temperature;"
    )

    n_components: int | float | str | None
    whiten: bool
    svd_solver: str
    prior: GivenPCAPrior
    tol: float
    max_iter: int
    layout: str = ARRAY

    def of_rows(self, X: Any) -> Self:
        return replace(self, layout=layout_of(X))

    def fitted_priors(self, rows: Rows, attributes: dict[str, Any]) -> dict[str, Any]:
        return self.prior.attributes(rows, attributes["n_components_"])

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        settings = cls(
            **common_settings(estimator, given, plans),
            n_components=_n_components(given["n_components"]),
            whiten=given.flag("whiten"),
            svd_solver=given.choice("svd_solver", SOLVERS),
            tol=given.real("tol", at_least=0),
            max_iter=given.integer("max_iter", minimum=0),
            prior=GivenPCAPrior.read(given),
        )
        if settings.by_evidence and not settings.samples:
            raise ValueError(
                "n_components='evidence' compares the evidence of sampled models, and with "
                "model_temperature=0 none are sampled; set model_temperature=1, or give a number"
            )
        if settings.tilt != 0 and settings.samples:
            raise ValueError(
                "sampling uses only the mean and covariance of X, from which a tilted mean cannot "
                "be computed; set tilt=0 or model_temperature=0 (got "
                f"tilt={given['tilt']!r} and model_temperature={settings.model_temperature:g})"
            )
        if settings.needs_all_axes and settings.svd_solver in ("arpack", "randomized"):
            raise ValueError(
                f"n_components={settings.n_components!r}"
                f"{'' if settings.by_mle else ', a share of the variance,'} needs the "
                f"variances along all axes, and svd_solver={settings.svd_solver!r} computes only "
                "the largest; set svd_solver='auto'"
            )
        return settings

    @property
    def by_evidence(self) -> bool:
        """Whether the number of components is that of the largest evidence."""
        return self.n_components == "evidence"

    @property
    def share(self) -> float | None:
        """The share of the variance that components should explain, if n_components is a share."""
        return self.n_components if isinstance(self.n_components, float) else None

    @property
    def by_mle(self) -> bool:
        """Whether the number of components is Minka's estimate."""
        return self.n_components == "mle"

    @property
    def needs_all_axes(self) -> bool:
        """Whether the number of components depends on the variances along all axes."""
        return self.by_mle or self.share is not None

    @property
    def number(self) -> int | None:
        """The number of components, if n_components is a number."""
        return self.n_components if isinstance(self.n_components, int) else None

    def most_components(self, n_rows: int, n_features: int) -> int:
        """Return the largest number of components that a fit may need."""
        if self.by_evidence:
            return largest_candidate(n_rows, n_features)
        if self.by_mle:
            return max(min(n_rows, n_features) - 1, 0)
        return min(n_rows, n_features) if self.number is None else self.number

    def solver(self, n_rows: int, n_features: int) -> str:
        """Return the solver to use; for ``"auto"``, the fastest for this size of the data."""
        if self.svd_solver != "auto":
            return self.svd_solver
        return choose_solver(n_rows, n_features, self.number, self.layout)

    def check_data(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError unless the parameters fit the number of rows and of features."""
        most = min(n_rows, n_features)
        if self.by_mle and n_rows < n_features:
            raise ValueError(
                "n_components='mle' needs at least as many rows as features, got "
                f"n_samples={n_rows} and n_features={n_features}; give a number, or 'evidence'"
            )
        n_components = self.most_components(n_rows, n_features)
        if n_components > most:
            raise ValueError(
                f"n_components must be at most min(n_samples={n_rows}, n_features={n_features}) "
                f"(of rows with positive weight), got {self.n_components!r}"
            )
        self.prior.mean_for(n_features)
        if self.samples:
            self._check_can_sample(n_components, n_rows, n_features)
            size = (n_components + 1) * (n_features + 2)
            check_memory(size, self.n_models, f"n_components={n_components}")
        else:
            self._check_has_memory(n_rows, n_features)

    def _check_can_sample(self, n_components: int, n_rows: int, n_features: int) -> None:
        """Raise ValueError where models are too large to be sampled."""
        size = PCAEnergy(n_components, n_features).n_parameters()
        if size <= MAX_SAMPLED_COORDINATES or can_nest(n_components, n_rows, n_features):
            return
        raise ValueError(
            f"n_components={self.n_components!r} on {n_rows} rows of {n_features} features makes "
            f"{n_components * min(n_rows, n_features)} parameters within the span of the rows. "
            f"Models can be sampled with at most {MAX_NESTED_COMPONENTS} components and "
            f"{MAX_NESTED_PARAMETERS} such parameters, or with {MAX_SAMPLED_COORDINATES} "
            "parameters altogether; decrease n_components, or set model_temperature=0 to fit the "
            "single best model"
        )

    @staticmethod
    def check_can_sample_gaps(n_components: int, n_features: int) -> None:
        """Raise ValueError where models are too large to be sampled on rows with gaps."""
        size = n_features * (n_components + 1) + 1
        if size > MAX_COORDINATES_WITH_GAPS:
            raise ValueError(
                f"n_components={n_components} and {n_features} features make {size} parameters, "
                f"and at most {MAX_COORDINATES_WITH_GAPS} can be sampled on rows with missing "
                "entries; decrease n_components, or set model_temperature=0 to fit the single best "
                "model"
            )

    def _check_has_memory(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError if a fit needs square matrices that are too large."""
        solver = self.solver(n_rows, n_features)
        sizes = {"gram": n_rows, "covariance_eigh": n_features}
        size, reason = sizes.get(solver, 0), f"svd_solver={solver!r}"
        remedy = "choose svd_solver='randomized' and a number of components"
        if self.tilt:
            size, reason = n_features, f"tilt={self.tilt!r}"
            remedy = "set tilt=0"
        limit = 10 * get_config()["working_memory"]
        needed = 8 * size**2 * _N_MATRICES / 2**20
        if needed > limit:
            raise ValueError(
                f"{reason} needs matrices of shape ({size}, {size}), {needed:.0f} MiB in all, more "
                f"than ten times scikit-learn's working_memory ({limit:.0f} MiB in all); "
                f"{remedy}, or raise working_memory with sklearn.set_config"
            )


def _n_components(value: Any) -> int | float | str | None:
    """Return n_components if it is valid; otherwise raise TypeError or ValueError."""
    allowed = (
        "n_components must be None, an integer >= 0, a number between 0 and 1 (a share of the "
        f"variance), 'mle' or 'evidence', got {value!r}"
    )
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("evidence", "mle"):
            raise ValueError(allowed)
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(allowed)
    if isinstance(value, numbers.Integral):
        if value < 0:
            raise ValueError(allowed)
        return int(value)
    if not 0 < float(value) < 1:
        raise ValueError(allowed)
    return float(value)


def can_nest(n_components: int, n_rows: int, n_features: int) -> bool:
    """Return whether models can be sampled in the eigenbasis of the rows."""
    in_span = n_components * min(n_rows, n_features)
    return n_components <= MAX_NESTED_COMPONENTS and in_span <= MAX_NESTED_PARAMETERS


def largest_candidate(n_rows: int, n_features: int) -> int:
    """Return the largest dimension that is tried.

    At D - 1 all covariances are possible; and it is not larger than what can be sampled.
    """
    most = min(n_rows, n_features) - 1
    if PCAEnergy(most, n_features).n_parameters() <= MAX_SAMPLED_COORDINATES:
        return most
    return min(most, MAX_NESTED_COMPONENTS, MAX_NESTED_PARAMETERS // min(n_rows, n_features))


def most_axes(X: Any) -> int:
    """Return min(N, D), where for N < D equal rows count as one.

    A row of weight two then gives the same number as the row repeated.
    """
    n_rows, n_features = X.shape
    if n_rows >= n_features:
        return n_features
    if isinstance(X, RowSource):
        return min(count_distinct(X), n_features)
    return min(len(np.unique(X, axis=0)), n_features)
