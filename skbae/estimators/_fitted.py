"""What a fit leaves behind: the public attributes, and one frozen record of all else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows

DetailsT = TypeVar("DetailsT")


@dataclass(frozen=True)
class RowSummary:
    """By what rows are recognised, in any order: how many, their mean and standard deviation.

    Attributes
    ----------
    n_rows : int
    centre, scale : ndarrays of shape (D,)
        Without weights.
    """

    n_rows: int
    centre: Array
    scale: Array

    @classmethod
    def of(cls, X: NDArray[Any], rows: Rows) -> RowSummary:
        """Summarise rows X, of which `rows` are those of positive weight."""
        plain = rows if rows.weights is None and len(rows.X) == len(X) else make_rows(X, None)
        return cls(len(X), plain.centre, plain.scale)

    def describes(self, X: NDArray[Any]) -> bool:
        """Return whether it is a summary of these rows, up to rounding."""
        rows = make_rows(X, None)
        rounding = 1e-5 * self.scale + 1e-6 * np.abs(self.centre)
        return (
            len(X) == self.n_rows
            and bool(np.all(np.abs(rows.centre - self.centre) <= rounding))
            and bool(np.all(np.abs(rows.scale - self.scale) <= rounding))
        )


@dataclass(frozen=True)
class Fit(Generic[DetailsT]):
    """What a family's work on rows came to.

    Attributes
    ----------
    attributes : dict
        Fitted attributes by name, ``models_`` among them.
    details : object
        What else the family's methods need: a frozen dataclass of builtins and arrays.
    """

    attributes: dict[str, Any]
    details: DetailsT


@dataclass(frozen=True)
class FittedState(Generic[DetailsT]):
    """What a fitted estimator remembers beside its public attributes: builtins and arrays.

    Temperatures are those of the fit: a later ``set_params`` waits for the next one.

    Attributes
    ----------
    temperature, model_temperature, tilt : float
    frame : Frame
        Centre and scale of the training rows, weighted: where kernels compute.
    training_rows : RowSummary
    details : object
        The family's own.
    """

    temperature: float
    model_temperature: float
    tilt: float
    frame: Frame
    training_rows: RowSummary
    details: DetailsT
