"""What BayesianRBMAutoEncoder is told, and which rows it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skbae.energies.rbm._energy import RBMPrior
from skbae.energies.rbm._visible import LAYERS, VisibleLayer
from skbae.estimators._settings import Given, Settings, check_memory, common_settings

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Rows
    from skbae.estimators._plans import SamplerPlans

# Units that are enumerated once for the partition function of a single model.
MAX_EXACT_UNITS = 20
# And where every one of many models needs its own.
MAX_SAMPLED_UNITS = 12
# Starts of an exact fit, each of which is cheap.
_N_STARTS = 3
# Steps of an exact fit, and passes of a contrastive one.
_EXACT_STEPS, _PASSES = 500, 100


@dataclass(frozen=True)
class MachineForm:
    """What a fitted model is understood by.

    Attributes
    ----------
    n_components, n_features : int
    visible : str
    """

    n_components: int
    n_features: int
    visible: str

    @property
    def layer(self) -> VisibleLayer:
        """The kind of visible units."""
        return LAYERS[self.visible]()


@dataclass(frozen=True, kw_only=True)
class RBMSettings(Settings):
    """Parameters of a restricted Boltzmann machine, as documented at the estimator.

    ``n_init`` and ``max_iter`` are None where the kind of fit is to decide.
    """

    n_components: int
    visible: str
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
                "tilt must be 0 for restricted Boltzmann machines, whose batches know no other "
                f"rows' energies, got {given['tilt']!r}"
            )
        max_iter, n_init = given["max_iter"], given["n_init"]
        if isinstance(n_init, str) and n_init != "auto":
            raise ValueError(f"n_init must be 'auto' or an integer >= 1, got {n_init!r}")
        auto = isinstance(n_init, str)
        return cls(
            **common,
            n_components=given.integer("n_components", minimum=1),
            visible=given.choice("visible", LAYERS),
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
        """Return what the energy is made of, for so many features."""
        return MachineForm(self.n_components, n_features, self.visible)

    @property
    def n_starts(self) -> int:
        """From how many machines an exact fit starts."""
        return _N_STARTS if self.n_init is None else self.n_init

    def step_limit(self, exact: bool) -> int:
        """Return the most steps of an exact fit, or passes of a contrastive one."""
        if self.max_iter is None:
            return _EXACT_STEPS if exact else _PASSES
        return self.max_iter

    def prior(self, rows: Rows) -> RBMPrior:
        """Return the prior in which None has been replaced by what the data say."""
        scale = self.noise_scale_prior
        if scale is None:
            scale = 0.1 * max(float((rows.scale**2).mean()), 1e-300)
        return RBMPrior(
            self.weight_variance_prior,
            self.intercept_variance_prior,
            self.noise_shape_prior,
            scale,
        )

    def check_size(self, n_features: int) -> None:
        """Raise ValueError where a machine is too large for what is asked of it."""
        units = self.n_components
        smaller = LAYERS[self.visible]().n_enumerated(units, n_features)
        layer = "the smaller layer" if self.visible == "bernoulli" else "the hidden layer"
        if self.samples:
            if smaller > MAX_SAMPLED_UNITS:
                raise ValueError(
                    f"model_temperature={self.model_temperature:g} samples the models, and every "
                    "one has a partition function of its own (p(m) is doubly intractable): "
                    f"{layer} may have at most {MAX_SAMPLED_UNITS} units to enumerate, and "
                    f"n_components={units} on {n_features} features makes {smaller}. Set "
                    "model_temperature=0 to fit the single best model, or take fewer n_components"
                )
            check_memory(units * n_features + n_features + units + 2, self.n_models)
        elif self.partition == "exact" and smaller > MAX_EXACT_UNITS + 5:
            raise ValueError(
                f"partition='exact' enumerates {layer}, which may have at most "
                f"{MAX_EXACT_UNITS + 5} units, got {smaller}; use partition='ais'"
            )


def check_range(estimator: str, visible: str, X: NDArray[Any]) -> None:
    """Raise ValueError unless rows lie where the visible units can."""
    if visible == "bernoulli" and (X.min() < 0 or X.max() > 1):
        raise ValueError(
            f"Negative values in data passed to {estimator}, or values above 1: X must lie in "
            f"[0, 1] for visible='bernoulli', got values from {X.min():g} to {X.max():g}; scale "
            "it, or set visible='gaussian'"
        )
