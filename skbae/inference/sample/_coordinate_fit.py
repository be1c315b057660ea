"""A normal density with heavier tails, fitted to few coordinates of a model.

First at the mode of an approximate density, by Newton's method with finite differences; then to the
density of the coordinates that a proposal of all other parameters implies, averaged over draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from skbae.inference.sample._tempering import TemperingError
from skbae.operators._constants import LOG_2PI
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._capabilities import NestedPosterior, Proposal

# Parameters a of the tails of a fitted density, whose steps along each axis are sinh(a z) / a: the
# smallest, and those that are tried.
_TAIL = 0.25
_TAILS = (0.25, 0.5, 0.8, 1.2)
# Share of the draws that come from a wider density, and its relative width.
_WIDE_SHARE, _WIDENING = 0.1, 2.5
# Relative widths and shifts (in standard deviations) that are tried together with the tails; and
# the points at which the densities are compared.
_WIDTHS, _SHIFTS = (0.8, 1.0, 1.25, 1.6, 2.0), (-0.5, 0.0, 0.5)
_LOOKED_AT = np.linspace(-12.0, 12.0, 33)
# Least curvature of a log density in units of the coordinates.
_LEAST_CURVATURE = 0.1
# Newton's method: largest number of iterations, longest step and step at convergence, in standard
# deviations.
_MAX_ITER, _LONGEST_STEP, _CONVERGED = 60, 3.0, 0.03
# Step of finite differences, in standard deviations.
_STEP = 0.1
# Range of the factor by which differences over a standard deviation may change curvatures.
_CORRECTION = (0.2, 5.0)
# Draws of the nested parameters over which a fit averages the density of coordinates: the least and
# largest number, and the largest numbers of entries and of models of all draws.
_FIT_DRAWS = (4, 48)
_FIT_NUMBERS, _FIT_MODELS = 40_000, 2000
_TAIL_DRAWS = 8


@dataclass(frozen=True)
class NormalFit:
    """A density of P coordinates: normal with heavier tails.

    Attributes
    ----------
    centre : ndarray of shape (P,)
    axes : ndarray of shape (P, P)
        In rows, each as long as a standard deviation.
    tails : ndarray of shape (P,)
        Steps along the axes are ``sinh(tails z) / tails`` for standard normal z: larger values give
        heavier tails.
    widening : ndarray of shape (P,)
        Factors of the axes in a second, wider density, from which a small share of the draws comes.
        It keeps weights bounded where the posterior has tails in directions between the axes.
    """

    centre: Array
    axes: Array
    tails: Array
    widening: Array

    @classmethod
    def nearly_normal(cls, centre: Array, axes: Array) -> NormalFit:
        """Return a fit with the lightest tails."""
        return cls(centre, axes, np.full(len(centre), _TAIL), np.ones(len(centre)))

    @property
    def n_scores(self) -> int:
        """Standard normal numbers that make coordinates: one more than there are."""
        return len(self.centre) + 1

    def coordinates(self, scores: Array) -> tuple[Array, Array]:
        """Turn standard normal numbers (S, P + 1) into coordinates; return their log density too.

        The first number chooses the wide density or the narrow one.
        """
        is_wide = (scores[:, 0] < ndtri(_WIDE_SHARE))[:, None]
        steps = np.sinh(self.tails * scores[:, 1:]) / self.tails
        steps = steps * np.where(is_wide, self.widening, 1.0)
        parts = [
            np.log(share) + self._log_density(steps / widening) - np.log(widening).sum()
            for share, widening in (
                (1 - _WIDE_SHARE, np.ones(len(self.centre))),
                (_WIDE_SHARE, self.widening),
            )
        ]
        volume = np.linalg.slogdet(self.axes)[1]
        return self.centre + steps @ self.axes, np.logaddexp(*parts) - volume

    def _log_density(self, steps: Array) -> Array:
        """Return the log density of steps along the axes, (S,)."""
        scaled = self.tails * steps
        squares = (np.arcsinh(scaled) / self.tails) ** 2
        return -0.5 * (squares + np.log1p(scaled**2) + LOG_2PI).sum(axis=1)


def _stencil(function: Callable[[Array], Array], fit: NormalFit) -> tuple[float, Array, Array]:
    """Return the value at a fit's centre, and slopes and curvatures (P, P) along its axes."""
    centre, steps, size = fit.centre, _STEP * fit.axes, len(fit.centre)
    first, second = np.triu_indices(size, 1)
    both = steps[first] + steps[second]
    shifts = np.concatenate([np.zeros((1, size)), steps, -steps, both, -both])
    values = function(centre + shifts)
    values = np.where(np.isfinite(values), values, np.nan)
    middle, up, down = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    corners = values[2 * size + 1 :]
    own = (up + down - 2 * middle) / _STEP**2
    curvature = np.diag(own)
    n_pairs = len(first)
    mixed = corners[:n_pairs] + corners[n_pairs:] - 2 * middle
    mixed = 0.5 * (mixed / _STEP**2 - own[first] - own[second])
    curvature[first, second] = curvature[second, first] = mixed
    return float(middle), (up - down) / (2 * _STEP), -curvature


def _wide_axes(fit: NormalFit, curvature: Array) -> Array:
    """Return axes of a deviation's length, given the curvature along a fit's axes."""
    values, vectors = np.linalg.eigh(np.where(np.isfinite(curvature), curvature, 0.0))
    axes = vectors.T @ fit.axes
    # no wider than what is flat in units of the coordinates
    least = _LEAST_CURVATURE * (axes**2).sum(axis=1)
    return axes / np.sqrt(np.maximum(np.abs(values), least))[:, None]


def newton_mode(function: Callable[[Array], Array], start: Array) -> tuple[NormalFit, float]:
    """Find a mode by Newton's method, with curvatures by finite differences.

    Parameters
    ----------
    function : callable
        Log densities (S,) of coordinates (S, P).
    start : ndarray of shape (P,)

    Returns
    -------
    fit : NormalFit
        With the position and curvature of the mode.
    height : float
    """
    size = len(start)
    scales = np.full(size, 1e-2)
    for _ in range(4):  # approximate standard deviation of each coordinate
        steps = np.diag(_STEP * scales)
        values = function(np.concatenate([start[None], start + steps, start - steps]))
        own = (2 * values[0] - values[1 : size + 1] - values[size + 1 :]) / (_STEP * scales) ** 2
        own = np.where(np.isfinite(own), np.abs(own), 1.0)
        scales = 1.0 / np.sqrt(np.maximum(own, _LEAST_CURVATURE))
    fit = NormalFit.nearly_normal(start, np.diag(scales))
    height = float(function(start[None])[0])
    for _ in range(_MAX_ITER):
        height, slope, curvature = _stencil(function, fit)
        fit = replace(fit, axes=_wide_axes(fit, curvature))
        slope = _stencil(function, fit)[1]
        length = np.sqrt(slope @ slope)
        if not np.isfinite(length):
            break
        step = slope * min(1.0, _LONGEST_STEP / max(float(length), 1e-300))
        # far from the mode the curvature may mislead: longer and shorter steps are tried too
        tries = step * (0.5 ** np.arange(-8, 8))[:, None]
        values = function(fit.centre + tries @ fit.axes)
        values = np.where(np.isfinite(values), values, -np.inf)
        best = int(np.argmax(values))
        if values[best] > height:
            height = float(values[best])
            fit = replace(fit, centre=fit.centre + tries[best] @ fit.axes)
        if length < _CONVERGED or not values[best] > height - 1e-9:
            break
    return fit, height


def integral(fit: NormalFit, height: float) -> float:
    """Return the log integral of a density with a mode of this shape and height."""
    size = len(fit.centre)
    return float(height + 0.5 * size * LOG_2PI + np.linalg.slogdet(fit.axes)[1])


def find_fit(posterior: NestedPosterior, n_searches: int = 3) -> tuple[NormalFit, float, bool]:
    """Return the best mode of the approximate density, its log integral, and if it is the only one.

    The search is made from the best starts, `n_searches` of them.

    Raises
    ------
    TemperingError
        If no start has a finite density.
    """
    starts = posterior.starts()
    heights = posterior.approximate(starts)
    heights = np.where(np.isfinite(heights), heights, -np.inf)
    if not np.isfinite(heights).any():
        raise TemperingError(
            "no start has a finite density: the prior is too far from the data. Scale X, or "
            "choose a prior in the units of X."
        )
    order = np.argsort(-heights, kind="stable")
    best: tuple[NormalFit, float] | None = None
    alone = True
    for index in order[:n_searches]:
        if not np.isfinite(heights[index]):
            continue
        fit, height = newton_mode(posterior.approximate, starts[index])
        value = integral(fit, height)
        if best is None:
            best = fit, value
            continue
        apart = np.linalg.solve(best[0].axes.T, fit.centre - best[0].centre)
        if apart @ apart > 25.0 + 2 * len(apart) and value > best[1] - 5.0:
            alone = False
        if value > best[1]:
            best = fit, value
    assert best is not None
    return *best, alone


def _averaged(proposal: Proposal, numbers: Array) -> Callable[[Array], Array]:
    """Return the log density of coordinates (S, C), averaged over given draws of the rest."""

    def average(theta: Array) -> Array:
        repeated = np.repeat(theta, len(numbers), axis=0)
        values = proposal.log_ratio(repeated, np.tile(numbers, (len(theta), 1)))
        return log_mean_exp(values.reshape(len(theta), -1), axis=1)

    return average


def _with_scales(function: Callable[[Array], Array], centre: Array, axes: Array) -> Array:
    """Return axes, those of unknown length scaled to a standard deviation by finite differences."""
    unknown = np.flatnonzero(np.isnan(axes).any(axis=1))
    axes = axes.copy()
    directions = np.isnan(axes[unknown]).astype(np.float64)
    scales = np.full(len(unknown), 1e-2)
    for _ in range(4 if len(unknown) else 0):
        steps = 0.3 * scales[:, None] * directions
        values = function(np.concatenate([centre[None], centre + steps, centre - steps]))
        n = len(unknown)
        own = (2 * values[0] - values[1 : n + 1] - values[n + 1 :]) / (0.3 * scales) ** 2
        own = np.where(np.isfinite(own), np.abs(own), 1 / scales**2)
        scales = np.clip(1.0 / np.sqrt(np.maximum(own, _LEAST_CURVATURE)), None, 30 * scales)
    axes[unknown] = scales[:, None] * directions
    return axes


def refine(
    posterior: NestedPosterior, fit: NormalFit, rng: np.random.Generator
) -> tuple[NormalFit, Proposal]:
    """Return a fit to the density of the coordinates that the proposal implies, and the proposal.

    The density is averaged over draws of the other parameters, the same draws at all coordinates.
    Curvatures are second differences over a standard deviation, along axes that keep their
    directions.
    """
    proposal = posterior.proposal(fit.centre)
    centre, axes = proposal.embed(fit.centre, fit.axes)
    size = len(centre)
    most = min(_FIT_NUMBERS // max(proposal.n_numbers, 1), _FIT_MODELS // (2 * size))
    n = int(np.clip(most, *_FIT_DRAWS))
    numbers = rng.standard_normal((n, proposal.n_numbers))
    function = _averaged(proposal, numbers)
    fit = NormalFit.nearly_normal(centre, _with_scales(function, centre, axes))
    active = np.arange(size)
    for _ in range(5):
        own = fit.axes[active]
        values = function(fit.centre + np.concatenate([np.zeros((1, size)), own, -own]))
        up, down = values[1 : len(own) + 1], values[len(own) + 1 :]
        slope, curvature = 0.5 * (up - down), 2 * values[0] - up - down
        known = np.isfinite(slope) & np.isfinite(curvature)
        curvature = np.clip(np.where(known, curvature, 1.0), *_CORRECTION)
        step = np.clip(np.where(known, slope, 0.0) / curvature, -1.5, 1.5)
        scaled = fit.axes.copy()
        scaled[active] /= np.sqrt(curvature)[:, None]
        fit = replace(fit, centre=fit.centre + step @ own, axes=scaled)
        active = active[(np.abs(step) > 0.2) | (np.abs(np.log(curvature)) > 0.3)]
        if not len(active):
            break
    first = np.flatnonzero(~np.isnan(axes).any(axis=1))
    fit = _with_tails(_averaged(proposal, numbers[:_TAIL_DRAWS]), fit, first)
    return replace(fit, axes=np.sqrt(1 + 1.0 / size) * fit.axes), proposal


def _with_tails(
    function: Callable[[Array], Array], fit: NormalFit, which: NDArray[np.intp]
) -> NormalFit:
    """Return a fit with the best tails, widths and shifts along some axes.

    The best are those with the smallest variance of importance weights, for each axis separately.
    """
    if not len(which):
        return fit
    points = _LOOKED_AT[:, None] * fit.axes[which][:, None]  # (axis, point, P)
    values = function((fit.centre + points).reshape(-1, points.shape[2])).reshape(len(which), -1)
    values = np.where(np.isfinite(values), values, -np.inf)
    # compare shapes only: a peak off this axis is found along others
    values = values - values.max(axis=1, keepdims=True)
    grids = np.meshgrid(_TAILS, _WIDTHS, _SHIFTS, indexing="ij")
    tails, widths, shifts = (grid.ravel()[:, None] for grid in grids)
    scaled = tails * (_LOOKED_AT - shifts) / widths
    scores = np.arcsinh(scaled) / tails
    log_density = -0.5 * scores**2 - 0.5 * np.log1p(scaled**2) - np.log(widths)
    squares = log_mean_exp(2 * values[:, None] - log_density, axis=2)  # (axis, try)
    best = np.argmin(squares, axis=1)
    axes, all_tails = fit.axes.copy(), fit.tails.copy()
    axes[which] *= widths[best]
    all_tails[which] = tails[best, 0]
    centre = fit.centre + shifts[best, 0] @ fit.axes[which]
    widening = np.ones(len(centre))
    widening[which] = _WIDENING
    return NormalFit(centre, axes, all_tails, widening)
