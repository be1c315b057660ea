"""Draws of rows against the density: they come from it, and its integral is 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from skbae.testing._subject import bounded, mean_is, same_expectation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.testing._subject import Subject

_N_DRAWS = 15_000
# A column with fewer distinct values than this share of the draws is discrete.
_DISCRETE = 0.05
# Draws with the same discrete values from which on these are a cell; and those within a box.
_FEWEST, _IN_BOX = 20, 0.3


class Region:
    """Sets of discrete values, times a box of the other columns, that hold many draws.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        Draws.
    log_density : ndarray of shape (n,)
        The box is around the draw of highest density.
    """

    def __init__(self, X: Array, log_density: Array) -> None:
        distinct = np.array([len(np.unique(column)) for column in X.T])
        self.discrete = distinct < _DISCRETE * len(X)
        values, counts = np.unique(X[:, self.discrete], axis=0, return_counts=True)
        self.cells = values[counts >= _FEWEST]
        own = X[:, ~self.discrete]
        if own.shape[1]:
            spread = own.std(axis=0)
            centre = own[int(np.argmax(log_density))]
            reach = np.max(np.abs(own - centre) / spread, axis=1)
            half = np.quantile(reach, _IN_BOX) * spread
            self.low = np.maximum(centre - half, own.min(axis=0))
            self.high = np.minimum(centre + half, own.max(axis=0))
        else:
            self.low = self.high = np.empty(0)

    def volume(self) -> float:
        """Return the number of cells times the volume of the box."""
        return float(len(self.cells) * np.prod(self.high - self.low))

    def draw(self, n_rows: int, rng: np.random.Generator) -> Array:
        """Draw rows uniformly, (n, D)."""
        X = np.empty((n_rows, len(self.discrete)))
        X[:, self.discrete] = self.cells[rng.integers(len(self.cells), size=n_rows)]
        X[:, ~self.discrete] = rng.uniform(self.low, self.high, (n_rows, len(self.low)))
        return X

    def contains(self, X: Array) -> NDArray[np.bool_]:
        """Return which rows are inside, (n,)."""
        own = X[:, ~self.discrete]
        inside = np.all((own >= self.low) & (own <= self.high), axis=1)
        if self.discrete.any():
            known = {tuple(cell) for cell in self.cells}
            inside &= np.array([tuple(row) in known for row in X[:, self.discrete]])
        return inside


def check_normalised(subject: Subject) -> None:
    """Compare the density ``exp(hmax)`` at T = 1 with that of draws, its constant included.

    The other density is uniform in a region that holds many draws. (With the energy too large by a
    constant, as where the part that all components share is forgotten, the odds are not those.)
    """
    for index in range(subject.n_models):
        model = subject.one(index)
        X = np.asarray(subject.energy.draw(model, 2 * _N_DRAWS, subject.rng)[0], np.float64)
        if X.shape != (2 * _N_DRAWS, subject.energy.n_features):
            raise AssertionError(
                f"draw returns rows of the shape {X.shape}, expected "
                f"{(2 * _N_DRAWS, subject.energy.n_features)}"
            )
        log_density = subject.hmax(model, X)[0]
        if not np.all(np.isfinite(log_density)):
            raise AssertionError("hmax at T = 1 of rows from draw is not finite")
        region = Region(X[:_N_DRAWS], log_density[:_N_DRAWS])
        volume = region.volume()
        if not volume > 0:
            continue
        inside, uniform = region.contains(X[_N_DRAWS:]), -np.log(volume)
        odds = np.where(inside, expit(uniform - log_density[_N_DRAWS:]), 0.0)
        there = subject.hmax(model, region.draw(_N_DRAWS, subject.rng))[0]
        mean_is(
            odds - expit(there - uniform),
            0.0,
            "hmax at T = 1 is not the normalised log density of the rows from draw (the mean of "
            "q / (p + q) over these, minus that of p / (p + q) over draws of q, which is uniform "
            "in a region)",
        )


def check_draws(subject: Subject) -> None:
    """Compare the odds of two models over rows of either with those that ``hmax`` gives."""
    drawn, values = [], []
    for index in range(subject.n_models):
        X = np.asarray(subject.energy.draw(subject.one(index), 4000, subject.rng)[0], np.float64)
        values.append(X)
        drawn.append(subject.hmax(subject.models, X))
    factors = np.split(bounded(np.concatenate(values)), subject.n_models)
    for a in range(subject.n_models):
        for b in range(a):
            same_expectation(
                expit(drawn[a][b] - drawn[a][a])[:, None] * factors[a],
                expit(drawn[b][a] - drawn[b][b])[:, None] * factors[b],
                f"draw and hmax at T = 1 disagree about models {a} and {b} (the mean of "
                "f p_b / (p_a + p_b) over rows from a, minus that of f p_a / (p_a + p_b) over rows "
                "from b, where f is 1 or a function of a column)",
            )
