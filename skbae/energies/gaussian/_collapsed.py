"""Gaussian components integrated over their conjugate prior, for all rows and components at once.

In coordinates in which the prior's scale is the identity, the log integral over a component with
count n (times the heat), whose posterior has strength kappa, degrees of freedom nu and scale S, is,
for every shape of covariance,

    ``-(n D / 2) log pi + (D / 2) log(kappa_0 / kappa) + G(nu) - G(nu_0) - (nu / 2) log |S|``

where G is the log normaliser of the precision's prior. A row at distance
``q = (x - m)' S^-1 (x - m)`` that joins multiplies ``|S|`` by ``1 + kappa c / (kappa + c) q``, one
that leaves by ``1 - kappa c / (kappa - c) q``, c being the heat: one product of all components'
natural parameters with all rows' features gives q, and so the exact leave-one-out probabilities of
all rows. In that frame S is at least the identity, so that the product cannot lose digits.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array
from skbae.energies.gaussian._components import GaussianMoments
from skbae.energies.gaussian._prior_frames import FRAMES, FramedRows, OwnComponents
from skbae.energies.mixture._collapsed import CollapsedComponents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.energies._allocations import Labels
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.gaussian._normal_wishart import NormalWishart


def operations_per_row(shape: CovarianceShape) -> float:
    """Return the approximate number of operations for one row and one component."""
    return FRAMES[type(shape)].operations(shape)


class CollapsedGaussians(CollapsedComponents):
    """Gaussian components of given rows, integrated over their normal-Wishart (or gamma) prior.

    Parameters
    ----------
    shape : CovarianceShape
    tied : bool
    prior : NormalWishart
        With S = 1; the same for all components.
    rows : ndarray of shape (N, D)
    centre : ndarray of shape (D,)
        Where rows are measured from.
    heat : float
        ``1 / T``.
    """

    def __init__(
        self,
        shape: CovarianceShape,
        tied: bool,
        prior: NormalWishart,
        rows: Array,
        centre: Array,
        heat: float,
    ) -> None:
        self.shape, self.tied, self.heat, self.centre = shape, tied, heat, centre
        self.n_components = prior.strength.shape[1]
        self.frame = FRAMES[type(shape)](shape, prior.scale[0, 0])
        self.strength, self.dof = float(prior.strength[0, 0]), float(prior.dof[0, 0])
        self.location = self.frame.whiten(prior.location[0, 0] - centre)
        columns = np.asarray(rows, np.float64) - centre
        white = self.frame.whiten(columns)
        self._set(FramedRows(white, self.frame.squares(white)), columns)

    def _set(self, rows: FramedRows, columns: Array) -> None:
        self.rows, self.features, self.n_rows = rows, rows.features, len(rows.white)
        self.standard_rows, self.columns = rows.white, columns
        # the posterior's degrees of freedom given 0, 1, ... rows
        rows_added = self.heat * np.arange(self.n_rows + 2.0)
        self._log_gammas = self.frame.log_gammas(self.dof + self.frame.degrees_per_row * rows_added)
        gains = np.diff(self._log_gammas)
        # of a row that leaves so many, and of one that joins them; none leaves an empty component
        self._gamma_gains = np.stack([np.r_[0.0, gains[:-1]], gains], axis=1)

    def _n_rows_of(self, counts: Array) -> NDArray[np.intp]:
        return np.rint(counts / self.heat).astype(np.intp)

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedGaussians:
        part = copy(self)
        part._set(self.rows.take(index), self.columns[index])
        return part

    def _posterior(self, counts: Array, sums: Array) -> tuple[Array, Array, Array, Array]:
        """Return strength (S, K), mean (S, K, D), degrees (S, C) and scale (S, C, P)."""
        n_quadratic = self.rows.n_quadratic
        second, first = sums[..., :n_quadratic], sums[..., n_quadratic:]
        strength = self.strength + counts
        means = (self.strength * self.location + first) / strength[..., None]
        prior_square = self.strength * self.frame.squares(self.location)
        grown = second + prior_square - strength[..., None] * self.frame.squares(means)
        if self.tied:
            grown = grown.sum(axis=1, keepdims=True)
            counts = counts.sum(axis=1, keepdims=True)
        dof = self.dof + self.frame.degrees_per_row * counts
        return strength, means, dof, self.frame.identity + grown

    def _log_marginal(self, counts: Array, strength: Array, dof: Array, log_det: Array) -> Array:
        size = self.frame.n_features
        total = counts.sum(axis=1)
        n_rows = self._n_rows_of(total[:, None] if self.tied else counts)
        of_means = 0.5 * size * np.log(self.strength / strength).sum(axis=1)
        of_precisions = self._log_gammas.take(n_rows) - self._log_gammas[0] - 0.5 * dof * log_det
        of_precisions = of_precisions.sum(axis=1)
        volume = 0.5 * size * np.log(np.pi) + self.frame.log_volume
        return of_means + of_precisions - total * volume

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        strength, _, dof, scale = self._posterior(counts, sums)
        log_det = self.frame.factorise(scale)[1]
        return self._log_marginal(counts, strength, dof, log_det)

    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        frame, heat, own = self.frame, self.heat, OwnComponents(labels, self.n_components)
        strength, means, dof, scale = self._posterior(counts, sums)
        factors, log_det = frame.factorise(scale)
        # a component without rows has no own rows, whose strength without one is then not asked for
        without = np.maximum(strength - heat, self.strength)
        joined = strength + heat
        joining, leaving = strength * heat / joined, strength * heat / without
        half = 0.5 * frame.n_features
        joins = of_joining + half * np.log(strength / joined)
        leaves = of_leaving + half * np.log(without / strength)
        step = frame.degrees_per_row * heat
        log_marginal = self._log_marginal(counts, strength, dof, log_det)
        if self.tied:
            shift = frame.log_shift(factors, means, joining, leaving, self.rows, own)
            shift *= -0.5 * dof[..., None]
            shift += joins[..., None]
            own.put(shift, own.of(leaves))
            return shift, log_marginal
        grown, shrunk = frame.log_growth(factors, means, joining, leaving, self.rows, own)
        gains = self._gamma_gains.take(self._n_rows_of(counts), axis=0)
        by_det = 0.5 * step * log_det
        joins += gains[..., 1] - by_det
        leaves += gains[..., 0] - by_det
        less = np.maximum(dof - step, self.dof)
        grown *= -0.5 * (dof + step)[..., None]
        grown += joins[..., None]
        shrunk *= own.of(0.5 * less)
        shrunk += own.of(leaves)
        own.put(grown, shrunk)
        return grown, log_marginal

    def moments(self, sums: Array) -> GaussianMoments:
        n_quadratic = self.rows.n_quadratic
        second = sums[..., :n_quadratic]
        if self.tied:
            second = second.sum(axis=1, keepdims=True)
        first, _ = self.frame.unwhiten_moments(sums[..., n_quadratic:], sums[..., :n_quadratic])
        _, second = self.frame.unwhiten_moments(sums[:, : second.shape[1], n_quadratic:], second)
        reference = np.broadcast_to(self.centre, first.shape)
        return GaussianMoments(first, second, reference)
