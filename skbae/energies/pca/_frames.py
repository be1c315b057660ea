"""Orthonormal frames that are close to the leading principal axes: draws and their density.

Where loadings have singular values w and left singular vectors u_i, PCA's likelihood of rows with
variances ``lam_j`` along their axes is ``exp((k / 2) sum_i h_i sum_j lam_j u_ij^2)`` in the frame,
with fields ``h_i = 1 / s2 - 1 / (s2 + w_i^2)`` (the matrix Bingham distribution). It has no exact
sampler. This file has a density close to it from which frames can be drawn, and which is known.
Densities are relative to the uniform distribution of frames.

A frame in D dimensions has two parts. In the *far* axes, those with which no direction mixes much,
it has a block B (far axes x d) of rows that are normal, given the rest, with precision
``k (sym(h L) - lam_j h)``; the rest is ``O (I - B'B)^(1/2)``, where O is a frame in the *leading*
axes and ``L = O' Lam O``. Uniform frames have a uniform O, and B with density
``|I - B'B|^((leading axes - d - 1) / 2)`` (Chikuse 2003, section 2.4). The frame O is drawn column
by column, in the complement of those before: a direction among the axes *near* to the
column's own (from an angular central Gaussian distribution, Tyler 1987, that covers everything
between a point, a ring and the whole sphere), tilted by normal numbers towards those *apart*.

Axes along which the rows do not vary are exchangeable: of any number of them only d coordinates
matter, those of Bartlett's decomposition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammainccinv, gammaincinv, gammaln, multigammaln, ndtr

from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import Array

_LOG_2, _LOG_PI = float(np.log(2.0)), float(np.log(np.pi))
# An axis is apart from a direction if turning the direction onto it costs this much (twice the
# energy, in nats). There may be many such axes, and a direction may turn onto several at once: at
# half of this cost, up to a tenth of the posterior was beyond the reach of the proposal.
_APART = 40.0
# The same for a direction that does not melt into the noise, and for settled directions.
_STANDS_OUT = 40.0
_SETTLED = 12.0
# Largest share of a direction in the far axes that a block can have.
_MOST = 0.92
# Largest share of a direction that all far axes along which rows vary may have together.
_FAR_SHARE = 0.1
# Newton steps for the multiplier of a direction's length.
_N_STEPS = 10
# Fewest degrees of freedom of the length along near axes, which give it the tails of a t
# distribution.
_LEAST_DEGREES = 20.0
_TINY = 1e-12


def chi_of_normal(scores: Array, degrees: float) -> Array:
    """Return the chi variable with the same probability to its left as a standard normal one.

    Examples
    --------
    >>> import numpy as np
    >>> chi_of_normal(np.array([-1.0, 1.0]), 1.0).round(2).tolist()
    [0.2, 1.41]
    """
    left = gammaincinv(0.5 * degrees, ndtr(np.minimum(scores, 0.0)))
    right = gammainccinv(0.5 * degrees, ndtr(-np.maximum(scores, 0.0)))
    return np.sqrt(2 * np.where(scores < 0, left, right))


def outside_vectors(numbers: Array, size: int, n_outside: int) -> Array:
    """Return d standard normal vectors of n entries in coordinates of their own, (S, d, d).

    Vectors are turned until they are lower triangular (Bartlett 1933), from d (d + 1) / 2 standard
    normal numbers; (S, d, 0) where there are none.
    """
    if not n_outside:
        return np.zeros((len(numbers), size, 0))
    rows, columns = np.tril_indices(size)
    vectors = np.zeros((len(numbers), size, size))
    vectors[:, rows, columns] = numbers
    for i in range(size):
        vectors[:, i, i] = chi_of_normal(vectors[:, i, i], n_outside - i)
    return vectors


def length_multiplier(fields: Array, n_outside: int = 0, outside: Array | None = None) -> Array:
    """Return b with ``sum_j 1 / (b + f_j) = 1``: the saddle point of a direction's length.

    Parameters
    ----------
    fields : ndarray of shape (S, n)
        Not negative, 0 for at least one.
    n_outside : int
        Further axes, which share a field.
    outside : ndarray of shape (S,) or None
        Their field.

    Returns
    -------
    ndarray of shape (S,)
        Approached from below by Newton's method.

    Examples
    --------
    >>> import numpy as np
    >>> length_multiplier(np.zeros((1, 3))).round(6).tolist()
    [3.0]
    """
    b = np.ones(len(fields))
    for _ in range(_N_STEPS):
        inverse = 1.0 / (b[:, None] + fields)
        excess, slope = inverse.sum(axis=1) - 1.0, (inverse**2).sum(axis=1)
        if outside is not None:
            inverse = 1.0 / (b + outside)
            excess, slope = excess + n_outside * inverse, slope + n_outside * inverse**2
        b = np.maximum(b + excess / slope, 1.0)
    return b


def pair_fields(fields: Array, variances: Array) -> Array:
    """Return the energy (doubled) of turning direction i onto axis j, (S, d, R)."""
    size = fields.shape[1]
    of_axes = fields[:, :, None] * np.abs(variances[:size, None] - variances)
    rivals = np.abs(fields[:, :, None] - fields[:, None])
    of_axes[:, :, :size] = rivals * np.abs(variances[:size, None] - variances[:size])
    return of_axes


def n_settled(fields: Array, variances: Array, n_outside: int, floor: float) -> int:
    """Return how many of the first directions mix with no axes but their own.

    These may mix with each other, but they stand out from the noise.

    Parameters
    ----------
    fields : ndarray of shape (d,)
        Times the power.
    variances : ndarray of shape (R,)
    n_outside : int
    floor : float
        Variance of a direction that has melted.
    """
    pairs = pair_fields(fields[None], variances)[0]
    for n in range(len(fields), 0, -1):
        others = pairs[:n, n:]
        outside = fields[:n] * variances[:n]
        apart = others.min(initial=np.inf) >= _SETTLED
        apart &= (fields[:n] * (variances[:n] - floor)).min() >= _STANDS_OUT
        apart &= not n_outside or outside.min() >= _SETTLED
        share = (1.0 / np.maximum(others, 1.0)).sum(axis=1) + n_outside / np.maximum(outside, 1.0)
        if apart and share.max() <= _MOST:
            return n
    return 0


class FarBlock:
    """The block of a frame in the far axes, given its directions in the leading axes.

    Parameters
    ----------
    variances : ndarray of shape (R,)
        The leading axes first.
    n_leading : int
        Number of the leading axes.
    dimension : int
        The dimension of the frames' leading part: n_leading, or more where others, along which
        nothing varies, belong to it.
    n_outside : int
        Number of far axes without variance.
    power : float
    fields : ndarray of shape (d,)
        Typical ones.

    Attributes
    ----------
    shares : ndarray of shape (d,)
        Typical squared length of each direction's part in the far axes.
    """

    def __init__(
        self,
        variances: Array,
        n_leading: int,
        dimension: int,
        n_outside: int,
        power: float,
        fields: Array,
    ) -> None:
        self.variances, self.n_leading, self.dimension = variances, n_leading, dimension
        self.n_outside, self.power, self.size = n_outside, power, len(fields)
        lam, size = variances, self.size
        far = power * fields[:, None] * (lam[:size, None] - lam[n_leading:])
        shares = np.zeros(size)
        for _ in range(30):
            self._multipliers = (dimension - size - 1) / (1.0 - shares)
            own = 1.0 / np.maximum(far + self._multipliers[:, None], 1.0)
            others = np.maximum(power * fields * lam[:size] + self._multipliers, 1.0)
            shares = 0.5 * (shares + own.sum(axis=1) + n_outside / others)
            shares = np.minimum(shares, 0.95)
        self.shares = shares
        n_far = len(lam) - n_leading + n_outside
        self._constant = float(
            multigammaln(0.5 * (dimension + n_far), size)
            - multigammaln(0.5 * dimension, size)
            - 0.5 * size * n_far * _LOG_PI
        )

    def draw(
        self, fields: Array, leading: Array, inner: Array, outer: Array, rivals: Array
    ) -> tuple[Array, Array, Array]:
        """Return the far block, the root that shortens the rest, and the log density.

        Parameters
        ----------
        fields : ndarray of shape (S, d)
        leading : ndarray of shape (S, d, leading)
            Directions in the leading axes.
        inner : ndarray of shape (S, d, R - leading)
            Standard normal numbers.
        outer : ndarray of shape (S, d, c)
            Standard normal vectors in the axes outside.
        rivals : ndarray of shape (S, r)
            Fields of directions whose own axes are the first of the far ones.

        Returns
        -------
        block : ndarray of shape (S, d, R - leading + c)
        root : ndarray of shape (S, d, d)
        log_density : ndarray of shape (S,)
            Relative to the uniform distribution; infinite where a draw is not finite.
        """
        lam, size = self.variances, self.size
        turned = np.matmul(leading * lam[: self.n_leading], np.swapaxes(leading, 1, 2))
        n_rivals = rivals.shape[1]
        log_density, blocks = np.zeros(len(fields)), []
        far = lam[self.n_leading :]
        with np.errstate(all="ignore"):
            for j in range(n_rivals):
                less = np.maximum(fields - rivals[:, [j]], 0.1 * fields)
                part = inner[:, :, j : j + 1]
                block, more = self._rows(less, turned, far[j : j + 1], part, outer[:, :, :0], 0)
                log_density += more
                blocks.append(block)
            rest = slice(n_rivals, None)
            block, more = self._rows(
                fields, turned, far[rest], inner[:, :, rest], outer, self.n_outside
            )
            block = np.concatenate([*blocks, block], axis=2)
            log_density += more
            left = np.eye(size) - np.matmul(block, np.swapaxes(block, 1, 2))
            sound = np.asarray(np.isfinite(left).all(axis=(1, 2)))
            shares, axes = np.linalg.eigh(np.where(sound[:, None, None], left, np.eye(size)))
            sound &= shares[:, 0] > 0
            shares = np.maximum(shares, _TINY)
            root = np.matmul(axes * np.sqrt(shares)[:, None], np.swapaxes(axes, 1, 2))
            log_uniform = 0.5 * (self.dimension - size - 1) * np.log(shares).sum(axis=1)
            log_density -= self._constant + log_uniform
        return block, root, np.where(sound & np.isfinite(log_density), log_density, np.inf)

    def _rows(
        self, fields: Array, turned: Array, far: Array, inner: Array, outer: Array, n_outside: int
    ) -> tuple[Array, Array]:
        """Return normal rows (S, d, .) with precisions ``k (sym(h L) - lam_j h) + multipliers``."""
        size, power = self.size, self.power
        diagonal = np.arange(size)
        curvature = 0.5 * power * (fields[:, :, None] + fields[:, None]) * turned
        curvature[:, diagonal, diagonal] += self._multipliers
        roots = np.sqrt(power * np.maximum(fields, _TINY))
        scaled = curvature / roots[:, :, None] / roots[:, None]
        sound = np.asarray(np.isfinite(scaled).all(axis=(1, 2)))
        values, vectors = np.linalg.eigh(np.where(sound[:, None, None], scaled, np.eye(size)))
        # where fields are weak, deviations as large as entries of a direction can be
        least = 1.0 / (roots**2).max(axis=1)[:, None]
        precisions = np.maximum(values[:, :, None] - far, least[:, :, None])
        log_density = 0.5 * np.log(precisions).sum(axis=(1, 2)) - 0.5 * (inner**2).sum(axis=(1, 2))
        block, n_far = inner / np.sqrt(precisions), len(far)
        if n_outside:
            positive = np.maximum(values, least)
            log_density += 0.5 * n_outside * np.log(positive).sum(axis=1)
            log_density -= 0.5 * (outer**2).sum(axis=(1, 2))
            outer = outer / np.sqrt(positive)[:, :, None]
            n_far += n_outside
        block = np.matmul(vectors, np.concatenate([block, outer], axis=2)) / roots[:, :, None]
        log_density += n_far * (np.log(roots).sum(axis=1) - 0.5 * size * LOG_2PI)
        return block, np.where(sound, log_density, np.inf)


class FrameProposal:
    """Frames of d directions in R axes and in n others, along which nothing varies.

    Parameters
    ----------
    variances : ndarray of shape (R,)
        Along the axes, decreasing.
    n_outside : int
        Axes without variance beyond these.
    power : float
        k.
    fields : ndarray of shape (d,)
        Typical h, which only decide which axes are far, near or apart.
    """

    def __init__(self, variances: Array, n_outside: int, power: float, fields: Array) -> None:
        self.variances, self.n_outside, self.power = variances, n_outside, power
        self.n_axes, self.size = len(variances), len(fields)
        self.n_leading, self.outside_leads = 0, False
        if self.size:
            self._split(fields)

    # -- which axes are where ------------------------------------------------------------------

    def _split(self, fields: Array) -> None:
        size, lam = self.size, self.variances
        self._loss = np.ones(size)
        for _ in range(4):  # a direction's part in the far axes weakens its field
            own = fields * self._loss
            pairs = self.power * pair_fields(own[None], lam)[0]
            reached = np.flatnonzero((pairs < _APART).any(axis=0))
            shares = 1.0 / np.maximum(pairs, 1.0)
            tail = np.cumsum(shares[:, ::-1], axis=1)[:, ::-1].max(axis=0)
            heavy = np.flatnonzero(tail > _FAR_SHARE)
            last = max(reached.max(initial=-1), heavy.max(initial=-1))
            self.n_leading = max(size, int(last) + 1)
            outside = self.power * own * lam[:size]
            self.outside_leads |= bool(self.n_outside and outside.min() < _APART)
            if self.outside_leads:
                self.n_leading = self.n_axes
            n_far = 0 if self.outside_leads else self.n_outside
            dimension = self.n_leading + self.n_outside - n_far
            self._far = FarBlock(lam, self.n_leading, dimension, n_far, self.power, fields)
            self._loss = 1.0 - self._far.shares
            # the far axes must leave a share of each direction to the leading ones
            self.outside_leads |= bool(n_far and self._far.shares.max() > _MOST)
        near = np.zeros(self.n_leading, dtype=bool)
        order = np.arange(self.n_leading)
        self.near, self.outside_near = [], []
        for i in range(size):
            near = near | (order <= i) | ((pairs[i, : self.n_leading] < _APART) & (order > i))
            self.near.append(np.flatnonzero(near))
            near_outside = self.outside_leads and bool((outside[: i + 1] < _APART).any())
            self.outside_near.append(near_outside)

    # -- draws ---------------------------------------------------------------------------------

    def draw(
        self, fields: Array, inner: Array, lengths: Array, outer: Array
    ) -> tuple[Array, Array]:
        """Return frames made of standard normal numbers, and their log densities.

        Parameters
        ----------
        fields : ndarray of shape (S, d)
        inner : ndarray of shape (S, d, R)
        lengths : ndarray of shape (S, d)
        outer : ndarray of shape (S, d, c)
            Standard normal vectors in the axes outside, see :func:`outside_vectors`.

        Returns
        -------
        frames : ndarray of shape (S, d, R + c)
            Orthonormal rows.
        log_density : ndarray of shape (S,)
            Relative to the uniform distribution; infinite where a draw is not finite.
        """
        n_models, first = len(fields), self.n_leading
        if not self.size:
            return np.concatenate([inner, outer], axis=2), np.zeros(n_models)
        frames, log_density = self._leading(fields * self._loss, inner, outer, lengths)
        if self.outside_leads or (first == self.n_axes and not self.n_outside):
            return frames, log_density
        block, root, more = self._far.draw(
            fields, frames, inner[:, :, first:], outer, fields[:, :0]
        )
        frames = np.concatenate([np.matmul(root, frames), block], axis=2)
        return frames, log_density + more

    def _leading(
        self, fields: Array, inner: Array, outer: Array, lengths: Array
    ) -> tuple[Array, Array]:
        """Return frames in the leading axes, (S, d, leading [+ d]), column by column."""
        pairs = self.power * pair_fields(fields, self.variances)[:, :, : self.n_leading]
        numbers = inner[:, :, : self.n_leading]
        if self.outside_leads:
            numbers = np.concatenate([numbers, outer], axis=2)
        frames = np.zeros(numbers.shape)
        log_density = np.zeros(len(fields))
        for i in range(self.size):
            n_more = numbers.shape[2] - self.n_leading
            column = _Column(self, i, fields, pairs, n_more)
            frames[:, i], more = column.draw(frames[:, :i], numbers[:, i], lengths[:, i])
            log_density += more
        return frames, log_density


class _Column:
    """One direction of a frame in the leading axes, in the complement of those before it."""

    def __init__(
        self, proposal: FrameProposal, i: int, fields: Array, pairs: Array, n_more: int
    ) -> None:
        self.i, self.fields, self.proposal = i, fields, proposal
        n_leading, outside = proposal.n_leading, proposal.outside_leads
        self.n_outside = proposal.n_outside if outside else 0
        self.outside_near = proposal.outside_near[i]
        near = proposal.near[i]
        self.near_axes, self.apart_axes = near, np.setdiff1d(np.arange(n_leading), near)
        more = n_leading + np.arange(n_more)
        self.near = np.concatenate([near, more]) if self.outside_near else near
        self.apart = self.apart_axes
        if not self.outside_near:
            self.apart = np.concatenate([self.apart, more])
        self.own = pairs[:, i].copy()
        self.own[:, :i] = 0.0  # axes of earlier directions, which the complement excludes
        self.of_outside = proposal.power * fields[:, i] * proposal.variances[i]
        dimension = n_leading + self.n_outside
        self.n_near = len(near) + (self.n_outside if self.outside_near else 0)
        self.n_apart = dimension - self.n_near
        self.n_free, self.n_free_near = dimension - i, self.n_near - i

    def draw(self, before: Array, numbers: Array, length: Array) -> tuple[Array, Array]:
        """Return directions (S, leading) and their log densities, given those before."""
        outside = self.of_outside if self.n_outside else None
        b = length_multiplier(self.own[:, self.i :], self.n_outside, outside)
        known = before[:, :, self.near]
        gram = np.matmul(known, np.swapaxes(known, 1, 2))
        gram += 1e-15 * np.eye(self.i)
        near, log_density = self._among_near(known, gram, b, numbers)
        drawn = np.zeros(numbers.shape)
        if not self.n_apart:
            drawn[:, self.near] = near
            return drawn, log_density
        precisions = self._apart_precisions(near, b)
        apart = numbers[:, self.apart] / np.sqrt(precisions)
        log_volume = 0.5 * np.log(precisions[:, : len(self.apart_axes)]).sum(axis=1)
        variance = (1.0 / precisions[:, : len(self.apart_axes)]).sum(axis=1)
        if self.n_outside and not self.outside_near:
            log_volume += 0.5 * self.n_outside * np.log(precisions[:, -1])
            variance += self.n_outside / precisions[:, -1]
        # the other axes nearly determine the length along near axes
        degrees = max(2.0 * self.n_apart, _LEAST_DEGREES)
        squared_scale = np.maximum(1.0 - variance, 0.05) / degrees
        along = np.sqrt(squared_scale) * chi_of_normal(length, degrees)
        drawn[:, self.near] = along[:, None] * near
        drawn[:, self.apart] = apart
        if self.i:
            overlap = np.matmul(before[:, :, self.apart], apart[..., None])
            back = np.linalg.solve(gram, overlap)
            drawn[:, self.near] -= np.matmul(np.swapaxes(known, 1, 2), back)[..., 0]
        radius = np.sqrt((drawn**2).sum(axis=1))
        drawn /= radius[:, None]
        along = along / radius
        square = along**2 / squared_scale + (apart**2 * precisions).sum(axis=1) / radius**2
        n_near, n = self.n_free_near, self.n_free
        total = n + degrees - n_near
        log_density += (
            (degrees - n_near) * np.log(along)
            - 0.5 * degrees * np.log(squared_scale)
            - 0.5 * total * np.log(square)
            + log_volume
            + 0.5 * np.linalg.slogdet(gram)[1]
            + _apart_constant(n, n_near, self.n_apart, degrees)
        )
        return drawn, log_density

    def _among_near(
        self, known: Array, gram: Array, b: Array, numbers: Array
    ) -> tuple[Array, Array]:
        """Return unit vectors in the near axes, off those known, and their log densities."""
        precisions = b[:, None] + self.own[:, self.near_axes]
        log_det = -np.log(precisions).sum(axis=1)
        if self.outside_near:
            outside = b + self.of_outside
            log_det -= self.n_outside * np.log(outside)
            columns = np.repeat(outside[:, None], len(self.near) - len(self.near_axes), axis=1)
            precisions = np.concatenate([precisions, columns], axis=1)
        drawn = numbers[:, self.near] / np.sqrt(precisions)
        if self.i:
            for _ in range(2):  # twice, to full precision
                back = np.linalg.solve(gram, np.matmul(known, drawn[..., None]))
                drawn = drawn - np.matmul(np.swapaxes(known, 1, 2), back)[..., 0]
        drawn = drawn / np.sqrt((drawn**2).sum(axis=1))[:, None]
        square = (drawn**2 * precisions).sum(axis=1)
        if self.i:
            weighted = known * precisions[:, None]
            inner = np.matmul(weighted, np.swapaxes(known, 1, 2)) + 1e-15 * np.eye(self.i)
            mixed = np.matmul(weighted, drawn[..., None])
            square -= (mixed * np.linalg.solve(inner, mixed))[..., 0].sum(axis=1)
            log_det += np.linalg.slogdet(inner)[1] - np.linalg.slogdet(gram)[1]
        return drawn, -0.5 * log_det - 0.5 * self.n_free_near * np.log(square)

    def _apart_precisions(self, near: Array, b: Array) -> Array:
        """Return the precisions of the numbers towards axes apart, given the direction so far."""
        proposal, axes = self.proposal, self.apart_axes
        lam, size, i = proposal.variances, proposal.size, self.i
        own = (near[:, : len(self.near_axes)] ** 2) @ lam[self.near_axes]
        rivals = np.where(axes < size, self.fields[:, np.minimum(axes, size - 1)], 0.0)
        fields = self.fields[:, [i]] - rivals
        sloping = proposal.power * fields * (own[:, None] - lam[axes])
        precisions = b[:, None] + np.maximum(sloping, 0.25 * self.own[:, axes])
        if self.outside_near or not self.n_outside:
            return precisions
        outside = b + proposal.power * self.fields[:, i] * own
        columns = np.repeat(outside[:, None], len(self.apart) - len(axes), axis=1)
        return np.concatenate([precisions, columns], axis=1)


def _apart_constant(n: int, n_near: int, n_apart: int, degrees: float) -> float:
    """Return the constants of a column's log density relative to the uniform one."""
    total = n + degrees - n_near
    area, near_area = (_log_area(size) for size in (n, n_near))
    chi = (1 - 0.5 * degrees) * _LOG_2 - float(gammaln(0.5 * degrees))
    radial = (0.5 * total - 1) * _LOG_2 + float(gammaln(0.5 * total))
    return area - near_area + chi + radial - 0.5 * n_apart * LOG_2PI


def _log_area(dimension: int) -> float:
    """Return the log area of the unit sphere."""
    return _LOG_2 + 0.5 * dimension * _LOG_PI - float(gammaln(0.5 * dimension))
