"""What BayesianMixturePCAAutoEncoder is told, and what a fitted one is understood by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skbae.energies.mixture_pca._components import PCAFamily, PCAMixture
from skbae.estimators._mixture import MixtureSettings, mixture_settings
from skbae.estimators._settings import Given, check_memory
from skbae.estimators.pca._settings import GivenPCAPrior

if TYPE_CHECKING:
    from typing import Self

    from skbae.estimators._plans import SamplerPlans

# Coordinates that sampling can move through in minutes; see benchmarks/mixture_pca.py.
MAX_SAMPLED_COORDINATES = 1000


@dataclass(frozen=True)
class PCAMixtureForm:
    """What a fitted model is understood by.

    Attributes
    ----------
    n_components, n_latent, n_features : int
    temperature : float
    equal_weights, tied_noise : bool
    noise_floor : float
        Smallest noise variance of a component.
    """

    n_components: int
    n_latent: int
    n_features: int
    temperature: float
    equal_weights: bool
    tied_noise: bool
    noise_floor: float

    def energy(self) -> PCAMixture:
        """Return the energy, without a prior."""
        family = PCAFamily(
            self.n_components,
            self.n_latent,
            self.n_features,
            self.temperature,
            self.tied_noise,
            self.noise_floor,
        )
        return PCAMixture(family, self.equal_weights)


@dataclass(frozen=True, kw_only=True)
class PCAMixtureSettings(MixtureSettings):
    """Parameters of a mixture of PCA, as documented at the estimator."""

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
        """Return what the energy is made of, for so many features."""
        return PCAMixtureForm(
            self.n_components,
            self.n_latent,
            n_features,
            self.temperature,
            self.equal_weights,
            self.tied_noise,
            noise_floor,
        )

    def check_data(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError unless the parameters suit so many rows and features."""
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
        """Raise ValueError where the coordinates are too many to sample."""
        size = self.n_components * (1 + n_features * (self.n_latent + 1) + 1)
        if size > MAX_SAMPLED_COORDINATES:
            raise ValueError(
                f"n_components={self.n_components} with n_latent={self.n_latent} on "
                f"{n_features} features makes {size} parameters, more than the "
                f"{MAX_SAMPLED_COORDINATES} through which models can be sampled; set "
                "model_temperature=0 to fit the single best model"
            )
