"""Checks of constructor parameters and array arguments; messages name the argument."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from sklearn.utils.validation import check_array

from skbae.inference.passes._dask import is_dask
from skbae.inference.passes._sources import Fold, chunk_of, extremes, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from sklearn.base import BaseEstimator

    from skbae._types import Array, Rows

# Largest entry whose square has room for sums of a few terms; further terms lower it.
LARGEST = 1e153
# Most that the weights of all rows may sum to: sums of energies must have room.
_HEAVIEST = 1e250
# Columns of smaller standard deviation are refused: their variances underflow.
_SMALLEST = 1e-150


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int, or raise unless it is an integer of at least `minimum`.

    Examples
    --------
    >>> check_integer("n_init", 0, minimum=1)
    Traceback (most recent call last):
    ValueError: n_init must be an integer >= 1, got 0
    """
    allowed = f"{name} must be an integer >= {minimum}, got {value!r}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(allowed)
    if value < minimum:
        raise ValueError(allowed)
    return int(value)


@overload
def check_real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    optional: Literal[False] = False,
) -> float: ...


@overload
def check_real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    optional: bool,
) -> float | None: ...


def check_real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    optional: bool = False,
) -> float | None:
    """Return `value` as a float, or raise unless it is a finite real number within bounds.

    Examples
    --------
    >>> check_real("temperature", -1.0, at_least=0)
    Traceback (most recent call last):
    ValueError: temperature must be a finite number >= 0, got -1.0
    """
    bound = f" > {above:g}" if above is not None else ""
    bound = f" >= {at_least:g}" if at_least is not None else bound
    allowed = (
        f"{name} must be {'None or ' if optional else ''}a finite number{bound}, got {value!r}"
    )
    if value is None and optional:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(allowed)
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(allowed)
    if (above is not None and number <= above) or (at_least is not None and number < at_least):
        raise ValueError(allowed)
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise unless it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value`, or raise unless it is one of the choices.

    Examples
    --------
    >>> check_choice("covariance_type", "round", ("full", "diag"))
    Traceback (most recent call last):
    ValueError: covariance_type must be one of 'full', 'diag', got 'round'
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {names}, got {value!r}")
    return value


def check_shape(name: str, value: Any, shape: tuple[int, ...], what: str) -> Array:
    """Return `value` as a finite float64 array of the given shape.

    Parameters
    ----------
    name : str
        The parameter.
    value : array-like
    shape : tuple of int
    what : str
        The shape in words, such as ``"(n_components, n_features)"``.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers of shape {what} = {shape}, got {value!r}"
        ) from error
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {what} = {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got an array with NaN or infinity")
    return array


def check_sample_weight(sample_weight: Any, n_rows: int) -> Array | None:
    """Return weights of shape (N,), or None when all are one.

    Raises
    ------
    ValueError
        Unless there is one weight per row, all are finite and >= 0, at least one is > 0, and their
        sum has room.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(n_rows, float(sample_weight))
    if is_dask(sample_weight):
        sample_weight = sample_weight.compute()
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight", copy=True
    )
    if weights.ndim != 1 or len(weights) != n_rows:
        raise ValueError(
            f"sample_weight must have shape (n_samples,) = ({n_rows},), got {weights.shape}"
        )
    if np.any(weights < 0):
        raise ValueError(f"sample_weight must not be negative, got {weights.min():g}")
    if not np.any(weights > 0):
        raise ValueError("sample_weight must be positive for at least one row, got zeros only")
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if total > _HEAVIEST:
        raise ValueError(
            f"sample_weight must sum to at most {_HEAVIEST:g}, got {total:g}; divide it by a number"
        )
    return None if np.all(weights == 1) else weights


def check_range(rows: Rows, names: Any = None) -> None:
    """Raise ValueError if squares of entries of the rows leave the range of double precision.

    Parameters
    ----------
    rows : Rows
    names : array-like of shape (D,) or None, default=None
        Of the columns; None stands for their numbers.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # sums over all rows and columns must have room as well
        most = LARGEST / np.sqrt(rows.X.shape[1] * max(rows.total, 1.0))
        beyond = ~(np.hypot(rows.centre, rows.scale) <= most)
    if beyond.any():
        low, high = extremes(rows.X)
        largest = np.fmax(high, -low)
        column = int(np.where(beyond, largest, -np.inf).argmax())
        raise ValueError(
            f"X is too large: its squares overflow. Divide the columns by a constant (the largest "
            f"entry of {_named(column, names)} is {largest[column]:.3g}, and its root mean square "
            f"may be {most:.3g})."
        )
    small = np.flatnonzero(rows.scale < _SMALLEST)
    if not len(small):
        return
    low, high = extremes(rows.X, small)
    varies = low != high  # the others are constant
    if varies.any():
        column, entry = int(small[varies][0]), float(np.fmax(high, -low)[varies][0])
        raise ValueError(
            "X is too small: variances underflow. Multiply the columns by a constant (the standard "
            f"deviation of {_named(column, names)} must be {_SMALLEST:g} at least, and its largest "
            f"entry is {entry:.3g})."
        )


def _named(column: int, names: Any) -> str:
    return f"column {column if names is None else names[column]!r}"


def check_known(rows: Rows, names: Any = None) -> None:
    """Raise ValueError if all entries of a column are missing.

    Parameters
    ----------
    rows : Rows
        Of positive weight, NaN where an entry is missing.
    names : array-like of shape (D,) or None, default=None
        Of the columns; None stands for their numbers.
    """
    empty = np.flatnonzero(np.isnan(rows.centre))
    if len(empty):
        raise ValueError(
            f"X has no known entry in {_named(int(empty[0]), names)} (of rows of positive weight), "
            "so that nothing is known of it; drop the column"
        )


def check_known_together(rows: Rows, names: Any = None) -> None:
    """Raise ValueError if two columns are not known together in any row.

    Parameters
    ----------
    rows : Rows
        NaN where an entry is missing.
    names : array-like of shape (D,) or None, default=None
        Of the columns; None stands for their numbers.
    """

    def together(X: NDArray[Any], weights: Any) -> tuple[NDArray[Any]]:
        known = (~np.isnan(X)).astype(np.float32)
        return (known.T @ known > 0,)

    found = fold(Fold(together, chunk_of(rows.X.shape[1]), np.logical_or), rows.X)
    apart = np.argwhere(~found[0])
    if len(apart):
        first, second = (_named(int(column), names) for column in apart[0])
        raise ValueError(
            f"no row of X has known entries in both {first} and {second}, so that their covariance "
            "is not determined; drop one of them, choose covariance_type 'diag' or 'spherical', or "
            "set model_temperature above 0 to have a prior"
        )


def check_codes(Z: Any, n_codes: int, owner: BaseEstimator) -> NDArray[Any]:
    """Return codes of shape (N, n_codes) for ``inverse_transform`` and ``decode``."""
    # a model may have no codes: all rows then decode to its mean
    fewest = min(n_codes, 1)
    Z = check_array(
        Z,
        dtype=[np.float64, np.float32],
        input_name="Z",
        estimator=owner,
        ensure_min_features=fewest,
    )
    if Z.shape[1] != n_codes:
        raise ValueError(
            f"Z must have {n_codes} columns, as many as transform of this "
            f"{type(owner).__name__} returns, got {Z.shape[1]}"
        )
    return Z


def check_probabilities(
    probabilities: NDArray[np.float64], where: str = "Z"
) -> NDArray[np.float64]:
    """Return probabilities of components (N, K) that sum to one.

    Parameters
    ----------
    probabilities : ndarray of shape (N, K)
    where : str, default="Z"
        Name of the argument that holds them, for the message.
    """
    totals = probabilities.sum(axis=1)
    if np.any(probabilities < 0) or np.any(np.abs(totals - 1) > 1e-4):
        raise ValueError(
            f"{where} must hold probabilities of components (entries >= 0, rows summing to 1), got "
            f"entries down to {probabilities.min():g} and row sums from {totals.min():g} to "
            f"{totals.max():g}"
        )
    return probabilities / totals[:, None]


def supports_partial_fit(estimator: Any) -> bool:
    """Return True if an estimator can learn from batches; otherwise raise, for ``available_if``.

    Raises
    ------
    AttributeError
        If the models are sampled, or the family needs all rows at once for other reasons.
    """
    tau = estimator.model_temperature
    tau = estimator.temperature if tau is None else tau
    if isinstance(tau, numbers.Real) and float(tau) > 0:
        raise AttributeError(
            f"partial_fit of {type(estimator).__name__} needs model_temperature=0, got "
            f"{estimator.model_temperature!r}: sampling the models needs all rows at once"
        )
    reason = estimator._needs_all_rows()
    if reason:
        raise AttributeError(f"partial_fit of {type(estimator).__name__} {reason}")
    return True
