"""The splitter for scores that hold nothing out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class InSample:
    """Splitter with one split, whose train and test are all rows.

    For scores that hold nothing out, such as :func:`evidence_scorer`.

    Examples
    --------
    >>> from skbae.model_selection import InSample
    >>> [(train.tolist(), test.tolist()) for train, test in InSample().split([[1.0], [2.0], [3.0]])]
    [([0, 1, 2], [0, 1, 2])]
    """

    def __repr__(self) -> str:
        return "InSample()"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1.

        Parameters
        ----------
        X, y, groups : Ignored

        Returns
        -------
        int
        """
        return 1

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the indices of all rows, twice.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y, groups : Ignored

        Yields
        ------
        train, test : ndarrays of int of shape (n_samples,)
        """
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        yield np.arange(n_rows), np.arange(n_rows)
