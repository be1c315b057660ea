"""Tables that are not read whole: where an estimator decides how the rows of X reach it.

:func:`row_source` is the one place that looks at what X is. Fits get a
:class:`~skbae.inference.passes._sources.RowSource`, of which they take sums; methods that return
something for each row are applied to one piece after the other.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skbae.estimators._fitted import DetailsT
from skbae.estimators._transaction import FitsInTransactions, SettingsT
from skbae.inference.passes._dask import DaskRows, is_dask
from skbae.inference.passes._sources import (
    RowSource,
    SparseTable,
    TableOnDisk,
    check_out,
    is_table_on_disk,
)
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Bytes of the rows that a method is applied to at once.
_PIECE = 16 << 20


def row_source(X: Any, estimator: ReadsPieces[Any, Any]) -> RowSource | None:
    """Return the table that X is, or None for what is an array in memory, or becomes one."""
    if issparse(X):
        reason = estimator._refuses_sparse()
        if reason:
            raise TypeError(
                f"X is sparse, and {type(estimator).__name__} {reason}; or give X.toarray()"
            )
        rows = check_array(
            X,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            accept_large_sparse=True,
            estimator=estimator,
            input_name="X",
        )
        return SparseTable(SparseRows(rows))
    if is_dask(X):
        return DaskRows(X)
    if is_table_on_disk(X):
        return TableOnDisk(X, True)
    return None


def sparse_or_as_given(X: Any, estimator: Any) -> Any:
    """Return sparse rows in the form that kernels take; anything else unchanged.

    Raises
    ------
    TypeError
        If X is sparse and the estimator is one that takes other sparse rows, not with its
        parameters.
    """
    source = row_source(X, estimator) if issparse(X) and isinstance(estimator, ReadsPieces) else X
    return source.rows if isinstance(source, SparseTable) else X


class ReadsPieces(FitsInTransactions[SettingsT, DetailsT]):
    """Base of the estimators whose single best model follows from sums over rows."""

    @abstractmethod
    def _needs_rows(self, settings: SettingsT, n_rows: int, n_features: int) -> str:
        """Return which parameter asks for more of the rows than sums, or an empty text."""

    @abstractmethod
    def _refuses_sparse(self) -> str:
        """Return why sparse rows are refused, and what to do, or an empty text if they are not."""

    def _rows_to_fit(self, settings: SettingsT, X: Any) -> Any:
        source = row_source(X, self)
        if source is None:
            return super()._rows_to_fit(settings, X)
        if isinstance(source, TableOnDisk):
            source = source.with_missing(self._takes_missing)
            if len(source) < 2 or self._needs_rows(settings, *source.shape):
                return super()._rows_to_fit(settings, source.read(0, len(source)))
        elif isinstance(source, DaskRows):
            reason = self._needs_rows(settings, *source.shape)
            if reason:
                raise TypeError(
                    f"X is a dask array, and {type(self).__name__} with {reason} needs all rows "
                    "in memory; set another value, or give X.compute()"
                )
            source = source.kept(self._takes_missing)
        if len(source) < 2:
            return super()._rows_to_fit(settings, source.at(np.arange(len(source))))
        validate_data(self, source, skip_check_array=True)
        return source

    def _validated(self, X: Any, **kwargs: Any) -> Any:
        if not isinstance(X, SparseRows):
            return super()._validated(X, **kwargs)
        validate_data(self, X, skip_check_array=True, reset=kwargs.get("reset", True))
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self._refuses_sparse()
        return tags


EstimatorT = TypeVar("EstimatorT", bound=BaseEstimator)


def by_pieces(
    method: Callable[[EstimatorT, Any], NDArray[Any]],
) -> Callable[..., NDArray[Any]]:
    """Apply a method that returns something for each row to one piece of a table after the other.

    The method gains a keyword `out`, an array that the results are written into.
    """

    @wraps(method)
    def apply(estimator: EstimatorT, X: Any, *, out: Any = None) -> NDArray[Any]:
        source = row_source(X, estimator) if isinstance(estimator, ReadsPieces) else None
        if source is None:
            return _written(method(estimator, X), out)
        return source.map(partial(_apply, estimator, method.__name__), out, _PIECE)

    own = inspect.signature(method)
    keyword = inspect.Parameter(
        "out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Any"
    )
    apply.__signature__ = own.replace(parameters=[*own.parameters.values(), keyword])  # type: ignore[attr-defined]
    return apply


def _apply(estimator: Any, name: str, X: Any) -> NDArray[Any]:
    return np.asarray(getattr(estimator, name)(X))


def _written(found: NDArray[Any], out: Any) -> Any:
    if out is None:
        return found
    check_out(out, found.shape)
    out[...] = found
    return out
