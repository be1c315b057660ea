"""Settings of BayesianRBMAutoEncoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.rbm._energy import RBMPrior
from skbae.energies.rbm._visible import LAYERS, GaussianLayer, VisibleLayer
from skbae.estimators._settings import Given, Settings, check_memory, common_settings
from skbae.estimators._unit_interval import OUTSIDE

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array, Rows
    from skbae.estimators._plans import SamplerPlans

# Largest number of units that are enumerated once, for the partition function of a single model.
MAX_EXACT_UNITS = 20
# Whether real features have a noise variance each, or share one.
NOISES = ("per_feature", "shared")
# Default number of starts of an exact fit.
_N_STARTS = 3
# Default numbers of steps of an exact fit, and of passes of contrastive divergence.
_EXACT_STEPS, _PASSES = 500, 100


@dataclass(frozen=True)
class MachineForm:
    """Form of a fitted model: what determines its energy, but for the prior.

    Attributes
    ----------
    n_components, n_features : int
    visible, noise : str
    """

    n_components: int
    n_features: int
    visible: str
    noise: str

    @property
    def per_feature(self) -> bool:
        """Whether features have a noise variance each."""
        return self.visible == "gaussian" and self.noise == "per_feature"

    @property
    def layer(self) -> VisibleLayer:
        """The kind of visible units."""
        return GaussianLayer(True) if self.per_feature else LAYERS[self.visible]()


@dataclass(frozen=True, kw_only=True)
class RBMSettings(Settings):
    """Parameters of a restricted Boltzmann machine, as documented in the estimator.

    ``n_init`` and ``max_iter`` are None where the default of the kind of fit applies.
    """

    sampling_advice: ClassVar[str] = (
        "Try fewer n_components, a smaller weight_variance_prior or intercept_variance_prior, or a "
        "higher model_temperature;"
    )

    n_components: int
    visible: str
    noise: str
    outside: str
    partition: str
    weight_variance_prior: float
    intercept_variance_prior: float
    noise_shape_prior: float
    noise_scale_prior: float | None
    n_init: int | None
    learning_rate_init: float
    batch_size: int
    n_chains: int
    max_iter: int | None
    tol: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        common = common_settings(estimator, given, plans)
        if given["tilt"] != 0:
            raise ValueError(
                f"tilt is not supported by {estimator}; set tilt=0 (got {given['tilt']!r})"
            )
        max_iter, n_init = given["max_iter"], given["n_init"]
        if isinstance(n_init, str) and n_init != "auto":
            raise ValueError(f"n_init must be 'auto' or an integer >= 1, got {n_init!r}")
        auto = isinstance(n_init, str)
        return cls(
            **common,
            n_components=given.integer("n_components", minimum=1),
            visible=given.choice("visible", LAYERS),
            noise=given.choice("noise", NOISES),
            outside=given.choice("outside", OUTSIDE),
            partition=given.choice("partition", ("auto", "exact", "ais")),
            weight_variance_prior=given.real("weight_variance_prior", above=0),
            intercept_variance_prior=given.real("intercept_variance_prior", above=0),
            noise_shape_prior=given.real("noise_shape_prior", above=0),
            noise_scale_prior=given.optional_real("noise_scale_prior", above=0),
            n_init=None if auto else given.integer("n_init", minimum=1),
            learning_rate_init=given.real("learning_rate_init", above=0),
            batch_size=given.integer("batch_size", minimum=1),
            n_chains=given.integer("n_chains", minimum=2),
            max_iter=None if max_iter is None else given.integer("max_iter", minimum=0),
            tol=given.real("tol", at_least=0),
            early_stopping=given.flag("early_stopping"),
            validation_fraction=given.share("validation_fraction"),
            n_iter_no_change=given.integer("n_iter_no_change", minimum=1),
        )

    def form(self, n_features: int) -> MachineForm:
        """Return the form of models with this number of features."""
        return MachineForm(self.n_components, n_features, self.visible, self.noise)

    @property
    def n_starts(self) -> int:
        """Number of starts of an exact fit."""
        return _N_STARTS if self.n_init is None else self.n_init

    def step_limit(self, exact: bool) -> int:
        """Return the largest number of steps (exact fit) or passes (contrastive divergence)."""
        if self.max_iter is None:
            return _EXACT_STEPS if exact else _PASSES
        return self.max_iter

    def fitted_priors(self, rows: Rows, attributes: dict[str, Any]) -> dict[str, Any]:
        if self.visible != "gaussian":
            return {}
        variances = rows.scale**2
        if self.noise == "shared":
            variances = np.full_like(variances, variances.mean())
        # columns that are constant have the scale of the others
        variances = np.where(variances > 0, variances, variances.mean())
        given = self.noise_scale_prior
        scale = 0.1 * variances if given is None else np.full_like(variances, given)
        return {"noise_scale_prior_": scale if self.noise == "per_feature" else float(scale[0])}

    def prior(self, rows: Rows, scale: Array) -> RBMPrior:
        """Return the prior of machines of scaled rows.

        Parameters
        ----------
        rows : Rows
            Divided by `scale`.
        scale : ndarray of shape (D,)
        """
        given = self.noise_scale_prior
        noise = np.full(len(scale), 0.1) if given is None else given / scale**2
        return RBMPrior(
            self.weight_variance_prior,
            self.intercept_variance_prior,
            self.noise_shape_prior,
            noise[: self.form(len(scale)).layer.n_noise(len(scale)) or 1],
        )

    def check_size(self, n_features: int) -> None:
        """Raise ValueError if a machine is too large to be kept, sampled or enumerated."""
        units = self.n_components
        size = units * n_features + n_features + units + 2
        check_memory(size, self.n_models if self.samples else 1, f"n_components={units}")
        smaller = LAYERS[self.visible]().n_enumerated(units, n_features)
        layer = "the smaller layer" if self.visible == "bernoulli" else "the hidden layer"
        if self.partition == "exact" and smaller > MAX_EXACT_UNITS + 5:
            raise ValueError(
                f"partition='exact' enumerates the states of {layer}, which may have at most "
                f"{MAX_EXACT_UNITS + 5} units, got {smaller}; set partition='ais'"
            )
