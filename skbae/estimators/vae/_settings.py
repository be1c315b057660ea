"""Settings of BayesianVAEAutoEncoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.vae._decoder import LIKELIHOODS, NOISES
from skbae.energies.vae._energy import Architecture
from skbae.energies.vae._network import ACTIVATIONS
from skbae.estimators._checks import check_integer
from skbae.estimators._settings import Given, Settings, common_settings
from skbae.estimators._unit_interval import OUTSIDE

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array, Rows
    from skbae.estimators._plans import SamplerPlans

# alpha="auto": networks of real rows start from linear ones, towards which the penalty draws.
_AUTO_ALPHA = {"gaussian": 10.0, "bernoulli": 1.0}
# Default scale of the prior of the noise variance, relative to the variance of the data.
_NOISE_SCALE = 0.1
# Rows of a step with batch_size="auto".
_AUTO_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class VAESettings(Settings):
    """Parameters of a network autoencoder, as documented in the estimator."""

    sampling_advice: ClassVar[str] = (
        "Try a larger batch_size, a larger max_iter (chains start from the fitted optimum), a "
        "smaller weight_variance_prior, or fewer hidden_layer_sizes;"
    )

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    likelihood: str
    noise: str
    outside: str
    weight_variance_prior: float
    noise_shape_prior: float
    noise_scale_prior: float | None
    alpha: float
    chooses_alpha: bool
    learning_rate_init: float
    batch_size: int
    max_iter: int
    n_importance_samples: int
    n_score_samples: int
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        common = common_settings(estimator, given, plans)
        if given["tilt"] != 0:
            raise ValueError(
                f"tilt is not supported by {estimator}; set tilt=0 (got {given['tilt']!r})"
            )
        return cls(
            **{**common, "warm_start": given.flag("warm_start")},
            n_components=given.integer("n_components", minimum=1),
            max_iter=given.integer("max_iter", minimum=1),
            n_importance_samples=given.integer("n_importance_samples", minimum=1),
            n_score_samples=given.integer("n_score_samples", minimum=1),
            n_iter_no_change=given.integer("n_iter_no_change", minimum=1),
            hidden_layer_sizes=_hidden_layers(given["hidden_layer_sizes"]),
            activation=given.choice("activation", ACTIVATIONS),
            likelihood=given.choice("likelihood", LIKELIHOODS),
            noise=given.choice("noise", NOISES),
            outside=given.choice("outside", OUTSIDE),
            learning_rate_init=given.real("learning_rate_init", above=0),
            weight_variance_prior=given.real("weight_variance_prior", above=0),
            noise_shape_prior=given.real("noise_shape_prior", above=0),
            noise_scale_prior=given.optional_real("noise_scale_prior", above=0),
            batch_size=_batch_size(given["batch_size"]),
            early_stopping=given.flag("early_stopping"),
            validation_fraction=given.share("validation_fraction"),
            alpha=_alpha(given),
            chooses_alpha=isinstance(given["alpha"], str),
            tol=given.real("tol", at_least=0),
        )

    def fitted_priors(self, rows: Rows, attributes: dict[str, Any]) -> dict[str, Any]:
        architecture = self.architecture(rows.X.shape[1])
        n_noise = architecture.networks()[0].n_extra
        if not n_noise:
            return {}
        frame = architecture.frame(rows.centre, rows.scale)
        scale = noise_scale(self.noise_scale_prior, frame.unit[:n_noise])
        return {"noise_scale_prior_": scale if self.noise == "per_feature" else float(scale[0])}

    def architecture(self, n_features: int) -> Architecture:
        """Return the shape of the networks for this number of features."""
        return Architecture(
            self.n_components,
            n_features,
            self.hidden_layer_sizes,
            self.activation,
            self.likelihood,
            self.noise,
        )


def noise_scale(given: float | None, unit: Array) -> Array:
    """Return the scales of the priors of noise variances, in units of X, given those of columns."""
    return _NOISE_SCALE * unit**2 if given is None else np.full(len(unit), given)


def _alpha(given: Given) -> float:
    value = given["alpha"]
    if not isinstance(value, str):
        return given.real("alpha", at_least=0)
    if value != "auto":
        raise ValueError(f"alpha must be 'auto' or a finite number >= 0, got {value!r}")
    return _AUTO_ALPHA[str(given["likelihood"])]


def _batch_size(given: Any) -> int:
    if not isinstance(given, str):
        return check_integer("batch_size", given, minimum=1)
    if given != "auto":
        raise ValueError(f"batch_size must be 'auto' or an integer >= 1, got {given!r}")
    return _AUTO_BATCH


def _hidden_layers(given: Any) -> tuple[int, ...]:
    """Return the sizes of the hidden layers, checked."""
    try:
        sizes = tuple(given) if np.ndim(given) else (given,)
        return tuple(check_integer("hidden_layer_sizes", size, minimum=1) for size in sizes)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"hidden_layer_sizes must be an integer >= 1 or a sequence of them, got {given!r}"
        ) from error
