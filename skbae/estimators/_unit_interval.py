"""Rows of bits and of their probabilities: between 0 and 1, up to rounding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators._stacklevel import users_stacklevel
from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Rows

# The kind of features whose rows are in the interval.
_BITS = "bernoulli"
# What methods of fitted models do with rows outside.
OUTSIDE = ("clip", "error")
# Units in the last place by which scaled rows may leave the interval.
_ROUNDING = 16


def _leave(X: NDArray[Any]) -> tuple[bool, bool]:
    """Return whether entries are outside the interval at all, and by more than rounding."""
    if not X.size:
        return False, False
    low, high = float(X.min()), float(X.max())
    rounding = _ROUNDING * float(np.finfo(X.dtype).eps)
    return low < 0 or high > 1, low < -rounding or high > 1 + rounding


def _message(parameter: str, X: NDArray[Any]) -> str:
    # "Negative values in data passed to" is what scikit-learn's checks of estimators look for
    return (
        f"Negative values in data passed to {parameter}, or values above 1: X must be between 0 "
        f"and 1 (bits, or probabilities of bits), got values from {X.min():g} to {X.max():g}"
    )


def fitted_rows(rows: Rows, estimator: str, parameter: str) -> Rows:
    """Return rows to fit to, clipped where rounding has led outside; raise ValueError beyond.

    Parameters
    ----------
    rows : Rows
    estimator : str
    parameter : str
        Name of the parameter that says what the features are, such as "visible".
    """
    outside, beyond = _leave(rows.X)
    if beyond:
        raise ValueError(
            f"{_message(f'{estimator} with {parameter}={_BITS!r}', rows.X)}; scale X "
            f"(MinMaxScaler), or set {parameter}='gaussian'"
        )
    return make_rows(np.clip(rows.X, 0, 1), rows.weights) if outside else rows


def predicted_rows(X: NDArray[Any], estimator: str, parameter: str, outside: str) -> NDArray[Any]:
    """Return rows to predict for, clipped to the interval.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    estimator, parameter : str
        As for :func:`fitted_rows`.
    outside : {"clip", "error"}
        Whether rows that are outside by more than rounding are clipped with a warning, or refused
        by a ValueError.
    """
    leaves, beyond = _leave(X)
    if beyond:
        message = _message(f"{estimator} with {parameter}={_BITS!r}", X)
        if outside == "error":
            raise ValueError(f"{message}; scale X as the training rows, or set outside='clip'")
        warnings.warn(
            f"{message}. They are clipped; set outside='error' to refuse them.",
            UserWarning,
            stacklevel=users_stacklevel(),
        )
    return np.clip(X, 0, 1) if leaves else X
