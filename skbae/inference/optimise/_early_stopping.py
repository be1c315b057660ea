"""Early stopping: choice of the rows held out, and of the model that is best on them.

Equal rows are merged and sorted first. A fit then depends neither on the order of the rows nor on
whether a row has weight two or is repeated, down to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import distinct_rows

if TYPE_CHECKING:
    from skbae._types import FloatArray, Rows

# Least number of distinct rows to fit to, and to hold out.
_FEWEST_ROWS = 2
# Largest weight of a row that is drawn as so many rows.
_MANY_ROWS = 2.0**52


def merged_rows(rows: Rows) -> Rows:
    """Return the distinct rows as float64, in canonical order, with the sums of their weights."""
    return make_rows(*distinct_rows(rows, limit=len(rows.X)))


def hold_out(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows | None]:
    """Split merged rows at random; a row of weight w counts as w rows, each held out or kept.

    Parameters
    ----------
    rows : Rows
        From :func:`merged_rows`.
    fraction : float
        Expected share of the weight to hold out.
    rng : Generator

    Returns
    -------
    kept, held : Rows
        `held` is None and `kept` is `rows` if one part would have fewer than two distinct rows.
    """
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
    whole = np.floor(weights)
    # of so many rows the share that is held out does not vary, in double precision
    few = np.minimum(whole, _MANY_ROWS)
    held = rng.binomial(few.astype(np.int64), fraction) * (whole / np.maximum(few, 1.0))
    held += (weights - whole) * (rng.random(len(weights)) < fraction)
    kept = weights - held
    if min(np.count_nonzero(held), np.count_nonzero(kept)) < _FEWEST_ROWS:
        return rows, None
    return make_rows(rows.X[kept > 0], kept[kept > 0]), make_rows(rows.X[held > 0], held[held > 0])


class BestModel:
    """The best model of a fit so far, and the number of models since the last improvement.

    Parameters
    ----------
    patience : int or None
        How many models in succession may bring no improvement; None: any number.
    tol : float, default=0.0
        Smallest increase of the best score that counts as an improvement.

    Attributes
    ----------
    theta : ndarray of shape (P,) or None
        The best model; None before the first.
    score : float
        Its score.

    Examples
    --------
    >>> import numpy as np
    >>> best = BestModel(patience=2)
    >>> [best.update(np.array([number]), score) for number, score in enumerate([1, 3, 2, 0])]
    [False, False, False, True]
    >>> best.theta.tolist(), best.score
    ([1], 3)
    """

    def __init__(self, patience: int | None, tol: float = 0.0) -> None:
        self.patience, self.tol = patience, tol
        self.theta: FloatArray | None = None
        self.score = -np.inf
        self._waited = 0

    def update(self, theta: FloatArray, score: float) -> bool:
        """Record a model; return whether `patience` models in succession brought no improvement."""
        self._waited = 0 if score > self.score + self.tol else self._waited + 1
        if self.theta is None or score > self.score:
            self.theta = theta.copy()
        self.score = max(self.score, score)
        return self.patience is not None and self._waited >= self.patience
