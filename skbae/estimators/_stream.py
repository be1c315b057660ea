"""Batches of rows that arrive one after the other: how much the next one counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Frame, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

# Batches are divided into pieces of so many rows, or as many as the first batch had.
_PIECE = 1000


@dataclass(frozen=True)
class Stream:
    """What has been seen of a stream of rows.

    Attributes
    ----------
    seen : float
        Sum of the weights of all rows so far.
    first : float
        The same of the first batch.
    n_rows : int
        Number of rows so far.
    frame : Frame
        Their mean and standard deviation.
    """

    seen: float
    first: float
    n_rows: int
    frame: Frame

    @classmethod
    def begin(cls, rows: Rows) -> Self:
        """Return the stream of which `rows` are the first batch."""
        return cls(rows.total, rows.total, len(rows.X), rows.frame)

    def share(self, total: float, decay: float, forgetting: float) -> float:
        """Return the share of what is known after a batch that comes from it.

        The rows so far count as ``first (seen / first)^decay`` rows: all of them at decay 1, and
        fewer the smaller it is, so that what was learnt with early models is forgotten. As the
        number t of batches of one size grows, the share falls like ``t^-decay``, which is a
        sequence of steps that converges for decays above one half and up to one (Robbins and Monro
        1951; Cappe and Moulines 2009).

        Parameters
        ----------
        total : float
            Sum of the weights of the batch.
        decay : float
        forgetting : float
            Least share.

        Examples
        --------
        >>> frame = Frame(np.zeros(1), np.ones(1))
        >>> Stream(400.0, 100.0, 400, frame).share(100.0, 0.5, 0.0)
        0.3333333333333333
        >>> Stream(400.0, 100.0, 400, frame).share(100.0, 1.0, 0.0)
        0.2
        """
        known = self.first * (self.seen / self.first) ** decay
        return max(total / (total + known), forgetting)

    def after(self, rows: Rows) -> Stream:
        """Return the stream after one more batch."""
        total = self.seen + rows.total
        share = rows.total / total
        old, new = self.frame, rows.frame
        centre = old.centre + share * (new.centre - old.centre)
        variance = (1 - share) * (old.scale**2 + (old.centre - centre) ** 2)
        variance = variance + share * (new.scale**2 + (new.centre - centre) ** 2)
        frame = Frame(centre, np.sqrt(variance))
        return replace(self, seen=total, n_rows=self.n_rows + len(rows.X), frame=frame)

    def pieces(self, rows: Rows) -> Iterator[Rows]:
        """Divide a batch into pieces as large as the first one, seen from where all rows are."""
        per_piece = max(self.first, _PIECE)
        n_pieces = min(max(round(rows.total / per_piece), 1), len(rows.X))
        for numbers in np.array_split(np.arange(len(rows.X)), n_pieces):
            part = slice(int(numbers[0]), int(numbers[-1]) + 1)
            weights = None if rows.weights is None else rows.weights[part]
            total = float(len(numbers)) if weights is None else float(weights.sum())
            yield Rows(
                rows.X[part],
                weights,
                total,
                self.frame.centre,
                self.frame.scale,
                incomplete=rows.incomplete,
            )
