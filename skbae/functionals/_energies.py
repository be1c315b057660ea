"""Energies of rows, models and codes: given as an array, or by a fitted estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import EnumerableBoundEnergy, require
from skbae.estimators._base import BayesianAutoEncoder
from skbae.functionals._soft_maximum import log_measure, soft_maximum
from skbae.operators._floating import own_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array


class Energies(ABC):
    """Energies ``H(x, m, z)`` of N rows, M models and codes."""

    n_rows: int
    n_models: int

    @abstractmethod
    def hmax(self, temperature: float, log_code_measure: Any) -> Array:
        """Return ``Hmax_T``, (N, M)."""

    @abstractmethod
    def of_codes(self) -> Array:
        """Return energies of codes of finitely many values, (N, M, K)."""


class Table(Energies):
    """Energies given as an array of shape (N, M, K)."""

    def __init__(self, H: Any) -> None:
        self.H = _checked(H)
        self.n_rows, self.n_models, self.n_codes = self.H.shape

    def hmax(self, temperature: float, log_code_measure: Any) -> Array:
        shapes = ((self.n_codes,), (self.n_models, self.n_codes))
        names = "(n_codes,) or (n_models, n_codes)"
        measure = log_measure("log_code_measure", log_code_measure, shapes, names)
        return soft_maximum(self.H, temperature, measure, axis=2)

    def of_codes(self) -> Array:
        return self.H


class OfEstimator(Energies):
    """Energies of rows under the kept models of a fitted estimator."""

    def __init__(self, estimator: BayesianAutoEncoder[Any, Any], X: Any) -> None:
        self.estimator, self.X = estimator, estimator._read_rows(X)
        self.n_rows, self.n_models = len(self.X), estimator._parameters().n_models

    def hmax(self, temperature: float, log_code_measure: Any) -> Array:
        if log_code_measure is not None:
            raise ValueError(
                "log_code_measure is for arrays of energies; the codes of a "
                f"{type(self.estimator).__name__} have their own measure, leave it out"
            )
        return self.estimator._hmax_by_model(self.X, temperature).T

    def of_codes(self) -> Array:
        what = f"hmax_x of a {type(self.estimator).__name__}"
        bound = require(self.estimator._bound(self.X), EnumerableBoundEnergy, what)

        def rows_first(chunk: NDArray[Any]) -> Array:
            return np.moveaxis(bound.code_energies(chunk), 2, 0)

        return self.estimator._map(rows_first, self.X, bound.chunk_rows)


def _checked(H: Any) -> Array:
    if hasattr(H, "fit"):
        raise TypeError(
            "H must be an array of energies or a fitted estimator of skbae, got "
            f"{type(H).__name__}; of a Pipeline, pass the last step and the rows that enter it"
        )
    try:
        array = np.asarray(H, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "H must be an array of energies of shape (n_rows, n_models, n_codes), or a fitted "
            f"estimator, got {H!r}"
        ) from error
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            "H must have shape (n_rows, n_models, n_codes), none of them 0, got shape "
            f"{array.shape}"
        )
    if not np.all(array < np.inf):
        raise ValueError("H must hold numbers or -inf (for what is impossible), got NaN or +inf")
    return array


def functional(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of :class:`Energies` into one of H, or of a fitted estimator and rows."""

    @wraps(function)
    def of_energies(H: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(H, BayesianAutoEncoder):
            if args:
                X, *args = args  # type: ignore[assignment]
            elif "X" in kwargs:
                X = kwargs.pop("X")
            else:
                raise TypeError(
                    f"{function.__name__} of an estimator needs rows: "
                    f"{function.__name__}({type(H).__name__}, X)"
                )
            with own_errors():
                return function(OfEstimator(H, X), *args, **kwargs)
        with own_errors():
            return function(Table(H), *args, **kwargs)

    return of_energies
