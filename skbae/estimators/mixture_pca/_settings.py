"""Settings of BayesianMixturePCAAutoEncoder, and the form of its fitted models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from skbae.energies.mixture_pca._components import PCAFamily, PCAMixture
from skbae.estimators._mixture import MixtureSettings, mixture_settings
from skbae.estimators._settings import Given, check_memory
from skbae.estimators.pca._settings import GivenPCAPrior

if TYPE_CHECKING:
    from typing import Self

    from skbae.estimators._plans import SamplerPlans

# Largest number of parameters that can be sampled in minutes; see benchmarks/mixture_pca.py.
MAX_SAMPLED_COORDINATES = 1000


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
            self._check_can_sample(n_features)
            size = self.n_components * (1 + (n_features + 2) * (self.n_latent + 1))
            check_memory(size, self.n_models)

    def _check_can_sample(self, n_features: int) -> None:
        """Raise ValueError if there are too many parameters to sample."""
        size = self.n_components * (1 + n_features * (self.n_latent + 1) + 1)
        if size > MAX_SAMPLED_COORDINATES:
            raise ValueError(
                f"n_components={self.n_components} with n_latent={self.n_latent} and {n_features} "
                f"features makes {size} parameters, and at most {MAX_SAMPLED_COORDINATES} can be "
                "sampled; decrease n_components or n_latent, or set model_temperature=0 to fit the "
                "single best model"
            )
