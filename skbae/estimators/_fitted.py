"""Results of a fit: public attributes, and one frozen record of what else methods need."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows
    from skbae.estimators._stream import Stream

DetailsT = TypeVar("DetailsT")


@dataclass(frozen=True)
class RowSummary:
    """Number, mean and standard deviation of rows, by which the training rows are recognised.

    Attributes
    ----------
    n_rows : int
    centre, scale : ndarrays of shape (D,)
        Mean and standard deviation of the columns, not weighted.
    """

    n_rows: int
    centre: Array
    scale: Array

    @classmethod
    def of(cls, X: Any, rows: Rows) -> RowSummary:
        """Summarise rows X, of which `rows` are those of positive weight."""
        plain = rows if rows.weights is None and len(rows.X) == len(X) else make_rows(X, None)
        return cls(len(X), plain.centre, plain.scale)

    def describes(self, X: NDArray[Any]) -> bool:
        """Return whether X has this number, mean and scale of rows, up to rounding."""
        rows = make_rows(X, None)
        rounding = 1e-5 * self.scale + 1e-6 * np.abs(self.centre)
        return (
            len(X) == self.n_rows
            and bool(np.all(np.abs(rows.centre - self.centre) <= rounding))
            and bool(np.all(np.abs(rows.scale - self.scale) <= rounding))
        )


def copied(value: Any) -> Any:
    """Return a copy of a fitted attribute: a number, an array, or a list of arrays."""
    if isinstance(value, list):
        return [np.array(each) for each in value]
    return np.array(value)


def stored(value: Any) -> Any:
    """Return what is fitted with arrays in the memory order in which they are loaded from a file.

    The last digits of products depend on it.
    """
    if isinstance(value, np.ndarray):
        ordered = value.flags.c_contiguous or value.flags.f_contiguous
        return value if ordered else np.ascontiguousarray(value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in fields(value):
            own = getattr(value, field.name)
            kept = stored(own)
            if kept is not own:
                changed[field.name] = kept
        return replace(value, **changed) if changed else value
    if isinstance(value, (list, tuple)):
        parts = [stored(each) for each in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    return value


def equal(value: Any, kept: Any) -> bool:
    """Return whether a fitted attribute equals the copy that was kept of it."""
    if isinstance(kept, list):
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(kept)
            and all(equal(*pair) for pair in zip(value, kept, strict=True))
        )
    try:
        return bool(np.array_equal(np.asarray(value, dtype=kept.dtype), kept, equal_nan=True))
    except (TypeError, ValueError):
        return False


def single_model(hmaxe: float, history: list[float]) -> dict[str, Any]:
    """Return the fitted attributes that tell how good a single model is."""
    return {
        "hmaxe_": hmaxe,
        "hmaxemax_": hmaxe,
        "hmaxemax_error_": 0.0,
        "internal_energy_": hmaxe,
        "lower_bound_": history[-1],
        "lower_bounds_": history,
    }


@dataclass(frozen=True)
class Fit(Generic[DetailsT]):
    """Result of fitting a family to rows.

    Attributes
    ----------
    attributes : dict
        Fitted attributes by name, ``models_`` among them.
    details : object
        What else the methods of the family need: a frozen dataclass of builtins and arrays.
    stream : Stream or None, default=None
        What has been seen of a stream of rows, if these are a batch of it.
    """

    attributes: dict[str, Any]
    details: DetailsT
    stream: Stream | None = None


@dataclass(frozen=True)
class FittedState(Generic[DetailsT]):
    """State of a fitted estimator beside its public attributes: builtins and arrays.

    Temperatures are those of the fit; ``set_params`` does not change them before the next fit.

    Attributes
    ----------
    temperature, model_temperature, tilt : float
    frame : Frame
        Weighted centre and scale of the training rows, which the kernels compute with.
    training_rows : RowSummary or None
        None for models that were made from parameters.
    details : object
        What else the methods of the family need.
    reference : dict
        Copies of the fitted attributes that define the reference model, by which it is noticed that
        these were edited.
    stream : Stream or None, default=None
        What has been seen of a stream of rows; None for models that were made from parameters.
    """

    temperature: float
    model_temperature: float
    tilt: float
    frame: Frame
    training_rows: RowSummary | None
    details: DetailsT
    reference: dict[str, Any]
    stream: Stream | None = None
