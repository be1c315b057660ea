"""Settings of BayesianMixturePCAAutoEncoder, and the form of its fitted models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from skbae.energies.mixture_pca._components import PCAFamily, PCAMixture
from skbae.estimators._mixture import MixtureSettings, mixture_settings
from skbae.estimators._settings import Given, check_memory
from skbae.estimators.pca._settings import MAX_NESTED_COMPONENTS, GivenPCAPrior

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Rows
    from skbae.estimators._plans import SamplerPlans

# Largest number of parameters that can be sampled in minutes, see benchmarks/mixture_pca.py: at any
# temperatures, and at T = tau by chains over codes, which hold so many rows times components.
MAX_SAMPLED_COORDINATES, MAX_PINNED_COORDINATES, MAX_PINNED_ROWS = 1000, 50_000, 2_000_000
# With more parameters and fewer rows than these, chains over codes are the faster.
_MANY_COORDINATES, _FEW_ROWS = 400, 5000
# Fewest rows of a single component that is sampled as PCA.
_NESTED_ROWS = 8


@dataclass(frozen=True)
class PCAMixtureForm:
    """Form of a fitted model: what determines its energy, but for the prior.

    Attributes
    ----------
    n_components, n_latent, n_features : int
    equal_weights, tied_noise : bool
    noise_floor : float
        Smallest noise variance of a component.
    """

    n_components: int
    n_latent: int
    n_features: int
    equal_weights: bool
    tied_noise: bool
    noise_floor: float

    def energy(self) -> PCAMixture:
        """Return the energy, without a prior."""
        family = PCAFamily(
            self.n_components,
            self.n_latent,
            self.n_features,
            self.tied_noise,
            self.noise_floor,
        )
        return PCAMixture(family, self.equal_weights)


@dataclass(frozen=True, kw_only=True)
class PCAMixtureSettings(MixtureSettings):
    """Parameters of a mixture of PCA, as documented in the estimator."""

    sampling_advice: ClassVar[str] = (
        "Try fewer n_components, a smaller n_latent, tied_noise=True, an informative prior "
        "(component_variance_prior, noise_shape_prior, noise_scale_prior), or more starts (n_init);"
    )

    n_latent: int
    tied_noise: bool
    prior: GivenPCAPrior

    def fitted_priors(self, rows: Rows, attributes: dict[str, Any]) -> dict[str, Any]:
        return self.prior.attributes(rows, self.n_latent)

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        return cls(
            **mixture_settings(estimator, given, plans),
            n_latent=given.integer("n_latent", minimum=0),
            tied_noise=given.flag("tied_noise"),
            prior=GivenPCAPrior.read(given),
        )

    def form(self, n_features: int, noise_floor: float) -> PCAMixtureForm:
        """Return the form of models with this number of features."""
        return PCAMixtureForm(
            self.n_components,
            self.n_latent,
            n_features,
            self.equal_weights,
            self.tied_noise,
            noise_floor,
        )

    def check_data(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError unless the parameters fit the number of rows and of features."""
        self.check_enough_rows(n_rows)
        if self.n_latent > n_features:
            raise ValueError(
                f"n_latent must be at most n_features={n_features}, got {self.n_latent}"
            )
        self.prior.mean_for(n_features)
        if self.samples:
            self._check_can_sample(n_rows, n_features)
            size = self.n_components * (1 + (n_features + 2) * (self.n_latent + 1))
            check_memory(size, self.n_models, f"n_components={self.n_components}")

    def _n_coordinates(self, n_features: int) -> int:
        return self.n_components * (1 + n_features * (self.n_latent + 1) + 1)

    def samples_codes(self, n_rows: int, n_features: int, whole_weights: bool = True) -> bool:
        """Return whether models are sampled by chains over the codes of rows.

        With many parameters that is the only way; with fewer, it is the faster one.
        """
        size = self._n_coordinates(n_features)
        if self.temperature != self.model_temperature or self.tilt:
            return False
        if size > MAX_PINNED_COORDINATES or self.n_latent > MAX_NESTED_COMPONENTS:
            return False
        if n_rows * self.n_components > MAX_PINNED_ROWS:
            return False
        if self.n_components == 1 and n_rows >= _NESTED_ROWS and whole_weights:
            return True  # PCA, whose own sampler starts the chains
        return size > MAX_SAMPLED_COORDINATES or (
            size > _MANY_COORDINATES
            and n_rows <= _FEW_ROWS
            and whole_weights
            and not self.tied_noise
        )

    def check_can_sample_gaps(self, n_features: int) -> None:
        """Raise ValueError if there are too many parameters to sample on rows with gaps."""
        size = self._n_coordinates(n_features)
        if size > MAX_SAMPLED_COORDINATES:
            raise ValueError(
                f"n_components={self.n_components} with n_latent={self.n_latent} and {n_features} "
                f"features makes {size} parameters, and at most {MAX_SAMPLED_COORDINATES} can be "
                "sampled on rows with missing entries; decrease n_components or n_latent, or set "
                "model_temperature=0 to fit the single best model"
            )

    def _check_can_sample(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError if there are too many parameters to sample."""
        size = self._n_coordinates(n_features)
        if size <= MAX_SAMPLED_COORDINATES or self.samples_codes(n_rows, n_features):
            return
        raise ValueError(
            f"n_components={self.n_components} with n_latent={self.n_latent} and {n_features} "
            f"features makes {size} parameters, and at most {MAX_SAMPLED_COORDINATES} can be "
            f"sampled (at model_temperature=None and tilt=0, {MAX_PINNED_COORDINATES} with at most "
            f"{MAX_NESTED_COMPONENTS} n_latent and {MAX_PINNED_ROWS // self.n_components} rows); "
            "decrease n_components or n_latent, or set model_temperature=0 to fit the single best "
            "model"
        )
