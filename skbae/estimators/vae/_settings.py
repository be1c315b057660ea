"""What BayesianVAEAutoEncoder accepts: parameters one by one, and against a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbae.energies.vae._decoder import LIKELIHOODS
from skbae.energies.vae._network import ACTIVATIONS
from skbae.estimators._checks import check_choice, check_flag, check_integer, check_real

# What a fitted model must share with a fit that goes on from it.
_SHAPE = ("n_components", "n_features", "hidden_layer_sizes", "activation", "likelihood")


def check_parameters(estimator: Any) -> None:
    """Raise unless each parameter of the family is allowed.

    Raises
    ------
    TypeError, ValueError
        With the parameter's name, its value and what is allowed.
    """
    names = ("n_components", "max_iter", "n_importance_samples", "n_score_samples")
    for name in (*names, "n_iter_no_change"):
        check_integer(name, getattr(estimator, name), minimum=1)
    hidden_layers(estimator)
    check_choice("activation", estimator.activation, ACTIVATIONS)
    check_choice("likelihood", estimator.likelihood, LIKELIHOODS)
    for name in ("learning_rate_init", "weight_variance_prior", "noise_shape_prior"):
        check_real(name, getattr(estimator, name), above=0)
    check_real("noise_scale_prior", estimator.noise_scale_prior, above=0, optional=True)
    if estimator.tilt != 0:
        raise ValueError(
            f"tilt must be 0, got {estimator.tilt!r}: a tilted mean can't be estimated from "
            "batches of rows without bias"
        )
    _check_batch_size(estimator.batch_size)
    for name in ("early_stopping", "warm_start"):
        check_flag(name, getattr(estimator, name))
    fraction = check_real("validation_fraction", estimator.validation_fraction, above=0)
    if fraction >= 1:
        raise ValueError(
            f"validation_fraction must be between 0 and 1, got {estimator.validation_fraction!r}"
        )
    for name in ("alpha", "tol"):
        check_real(name, getattr(estimator, name), at_least=0)


def _check_batch_size(given: Any) -> None:
    if isinstance(given, str):
        if given != "auto":
            raise ValueError(f"batch_size must be 'auto' or an integer >= 1, got {given!r}")
        return
    check_integer("batch_size", given, minimum=1)


def hidden_layers(estimator: Any) -> tuple[int, ...]:
    """Return the hidden layers' sizes, checked."""
    given = estimator.hidden_layer_sizes
    try:
        sizes = tuple(given) if np.ndim(given) else (given,)
        return tuple(check_integer("hidden_layer_sizes", size, minimum=1) for size in sizes)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"hidden_layer_sizes must be an integer >= 1 or a sequence of such, got {given!r}"
        ) from error


def configuration(estimator: Any, n_features: int) -> dict[str, Any]:
    """Return what the energy and the objective depend on, as builtins."""
    return {
        "n_components": int(estimator.n_components),
        "n_features": int(n_features),
        "hidden_layer_sizes": list(hidden_layers(estimator)),
        "activation": str(estimator.activation),
        "likelihood": str(estimator.likelihood),
        "temperature": float(estimator.temperature),
        "n_importance_samples": int(estimator.n_importance_samples),
        "n_score_samples": int(estimator.n_score_samples),
        "alpha": float(estimator.alpha),
        "weight_variance_prior": float(estimator.weight_variance_prior),
        "noise_shape_prior": float(estimator.noise_shape_prior),
        "noise_scale_prior": estimator.noise_scale_prior,
    }


def check_same_shape(config: dict[str, Any], fitted: dict[str, Any], what: str) -> None:
    """Raise unless a configuration has the networks of a fitted one.

    Parameters
    ----------
    config, fitted : dict
        From :func:`configuration`.
    what : str
        What needs it, for the message.
    """
    asked, has = ([each[name] for name in _SHAPE] for each in (config, fitted))
    if asked != has:
        raise ValueError(
            f"{what} needs the same n_components, number of features, hidden_layer_sizes, "
            f"activation and likelihood as the fitted model: it has {has}; asked for are {asked}"
        )
