"""What BayesianRBMAutoEncoder accepts: parameters, sizes, rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skbae.energies.rbm._visible import LAYERS
from skbae.estimators._checks import check_choice, check_flag, check_integer, check_real
from skbae.estimators._sampling import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Units that are enumerated once for the partition function of a single model.
MAX_EXACT_UNITS = 20
# And where every one of many models needs its own.
MAX_SAMPLED_UNITS = 12


def given_prior(estimator: Any) -> dict[str, float | None]:
    """Return the user's prior, checked; None stands for what the data decide."""
    return {
        "weight_variance": check_real(
            "weight_variance_prior", estimator.weight_variance_prior, above=0
        ),
        "intercept_variance": check_real(
            "intercept_variance_prior", estimator.intercept_variance_prior, above=0
        ),
        "noise_shape": check_real("noise_shape_prior", estimator.noise_shape_prior, above=0),
        "noise_scale": check_real(
            "noise_scale_prior", estimator.noise_scale_prior, above=0, optional=True
        ),
    }


def check_parameters(estimator: Any) -> None:
    """Raise unless each parameter of the family is allowed.

    Raises
    ------
    TypeError, ValueError
        With the parameter's name, its value and what is allowed.
    """
    check_integer("n_components", estimator.n_components, minimum=1)
    check_choice("visible", estimator.visible, LAYERS)
    check_choice("partition", estimator.partition, ("auto", "exact", "ais"))
    if estimator.tilt != 0:
        raise ValueError(
            "tilt must be 0 for restricted Boltzmann machines, whose batches know no other "
            f"rows' energies, got {estimator.tilt!r}"
        )
    given_prior(estimator)
    if not (isinstance(estimator.n_init, str) and estimator.n_init == "auto"):
        if isinstance(estimator.n_init, str):
            raise ValueError(f"n_init must be 'auto' or an integer >= 1, got {estimator.n_init!r}")
        check_integer("n_init", estimator.n_init, minimum=1)
    check_real("learning_rate_init", estimator.learning_rate_init, above=0)
    check_real("tol", estimator.tol, at_least=0)
    for name in ("batch_size", "n_iter_no_change"):
        check_integer(name, getattr(estimator, name), minimum=1)
    check_integer("n_chains", estimator.n_chains, minimum=2)
    if estimator.max_iter is not None:
        check_integer("max_iter", estimator.max_iter, minimum=0)
    check_flag("early_stopping", estimator.early_stopping)
    share = check_real("validation_fraction", estimator.validation_fraction, above=0)
    if share >= 1:
        raise ValueError(f"validation_fraction must be between 0 and 1, got {share!r}")


def check_size(estimator: Any, n_features: int) -> None:
    """Raise ValueError where a machine is too large for what is asked of it."""
    units = int(estimator.n_components)
    smaller = LAYERS[estimator.visible]().n_enumerated(units, n_features)
    layer = "the smaller layer" if estimator.visible == "bernoulli" else "the hidden layer"
    if estimator._resolved_model_temperature() > 0:
        if smaller > MAX_SAMPLED_UNITS:
            raise ValueError(
                f"model_temperature={estimator.model_temperature!r} samples the models, and every "
                f"one has a partition function of its own (p(m) is doubly intractable): {layer}"
                f" may have at most {MAX_SAMPLED_UNITS} units to enumerate, and n_components="
                f"{units} on {n_features} features makes {smaller}. Set model_temperature=0 to "
                "fit the single best model, or take fewer n_components"
            )
        check_memory(units * n_features + n_features + units + 2, int(estimator.n_models))
    elif estimator.partition == "exact" and smaller > MAX_EXACT_UNITS + 5:
        raise ValueError(
            f"partition='exact' enumerates {layer}, which may have at most "
            f"{MAX_EXACT_UNITS + 5} units, got {smaller}; use partition='ais'"
        )


def check_range(estimator: Any, X: NDArray[Any]) -> None:
    """Raise ValueError unless rows lie where the visible units can."""
    if estimator.visible == "bernoulli" and (X.min() < 0 or X.max() > 1):
        raise ValueError(
            f"Negative values in data passed to {type(estimator).__name__}, or values above 1: X "
            "must lie in [0, 1] for visible='bernoulli', got values from "
            f"{X.min():g} to {X.max():g}; scale it, or set visible='gaussian'"
        )


def configuration(estimator: Any, n_features: int) -> dict[str, Any]:
    """Return what a fitted model is understood by."""
    return {
        "n_components": int(estimator.n_components),
        "n_features": int(n_features),
        "visible": str(estimator.visible),
        "temperature": float(estimator.temperature),
    }
