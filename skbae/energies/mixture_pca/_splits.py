"""Splits of PCA components: scores in the mean, the directions and the variances, and the halves.

With coordinates ``a_i`` along directions that have not melted, ``b_v`` along the principal axes of
the rest, their mean squares ``A_i`` and ``B_v``, and ``g_i = 1 / s2 - p_i``, the energy has the
derivatives and (minus) curvatures

=============================  ==================================  ============================
change                         derivative                          curvature
=============================  ==================================  ============================
mean along i, along v          ``p_i a_i``, ``b_v / s2``           ``p_i``, ``1 / s2``
rotation of i towards v        ``g_i a_i b_v``                     ``g_i (A_i - B_v)``
rotation of i towards j        ``(p_j - p_i) a_i a_j``             ``(p_j - p_i) (A_i - A_j)``
``log p_i``                    ``(T - p_i a_i^2) / 2``             ``T / 2``
``log s2``                     ``(|b|^2 / s2 - D + T q) / 2``      ``(D - T q) / 2``
=============================  ==================================  ============================

with q directions that have not melted. Scores are derivatives over the roots of curvatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.mixture._splits import SplitScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# Directions whose code is shorter than this share of the coordinate have melted.
_MELTED = 1e-9
# Curvatures below this part of what their terms add up to are zero: nothing turns these directions.
_FLAT = 1e-9


class SubspaceScores(SplitScores):
    """Scores of rows under one component.

    Parameters
    ----------
    deviations : ndarray of shape (n, D)
        Of rows from the component's mean.
    shares : ndarray of shape (n,)
        Codes of the rows, by which variances are computed.
    components : ndarray of shape (d, D)
    precisions : ndarray of shape (d,)
    noise : float
    temperature : float
    own_noise : bool
        Whether the noise is the component's own, or shared.
    """

    def __init__(
        self,
        deviations: Array,
        shares: Array,
        components: Array,
        precisions: Array,
        noise: float,
        temperature: float,
        own_noise: bool,
    ) -> None:
        self.noise, self.temperature = noise, temperature
        self.solid: NDArray[np.bool_] = precisions * noise < 1 - _MELTED
        self.axes, self.precisions = components[self.solid], precisions[self.solid]
        self.n_rows, size = deviations.shape
        q = len(self.axes)
        complement = np.linalg.qr(self.axes.T, mode="complete")[0][:, q:]
        self.along_axes, rest = deviations @ self.axes.T, deviations @ complement
        total = shares.sum()
        values, vectors = np.linalg.eigh((rest * shares[:, None]).T @ rest / total)
        self.others, self.along_others = (complement @ vectors).T, rest @ vectors
        variances = shares @ self.along_axes**2 / total

        bounded = self.precisions > 0
        self.mean_scale = np.sqrt(self.precisions)
        gain = 1.0 / noise - self.precisions
        self.turn = _root_ratio(gain[:, None], variances[:, None], values[None])
        above = np.triu(np.ones((q, q), bool), 1)
        # between two directions the derivative is (p_j - p_i) a_i a_j
        difference = self.precisions[None] - self.precisions[:, None]
        sign = np.where(difference >= 0, 1.0, -1.0)
        ratio = _root_ratio(np.abs(difference), sign * variances[:, None], sign * variances[None])
        self.inner_turn = np.where(above, sign * ratio, 0.0)
        self.degrees = size - temperature * q
        # a variance of its own for each solid direction, but at T = 0, where they are infinite
        self.n_logs = q if temperature > 0 and bounded.all() else 0
        self.has_noise = own_noise and self.degrees > 0
        parts = [q, size - q, q * (size - q), q * q, self.n_logs, int(self.has_noise)]
        self.cuts = np.cumsum(parts)[:-1]
        self.n_coordinates = sum(parts)
        square = np.einsum("nv,nv->n", self.along_others, self.along_others)
        self.of_noise = np.zeros(0)
        if self.has_noise:
            self.of_noise = (square / noise - self.degrees) / np.sqrt(2 * self.degrees)
        if self.n_logs:
            squares = self.precisions * self.along_axes**2
            self.of_logs = (temperature - squares) / np.sqrt(2 * temperature)

    def _split(self, direction: Array) -> tuple[Array, ...]:
        first, second, turn, inner, logs, noise = np.split(direction, self.cuts)
        q = len(self.axes)
        return first, second, turn.reshape(self.turn.shape), inner.reshape(q, q), logs, noise

    def along(self, direction: Array) -> Array:
        first, second, turn, inner, logs, noise = self._split(direction)
        a, b = self.along_axes, self.along_others
        out = a @ (self.mean_scale * first) + b @ second / np.sqrt(self.noise)
        out += np.einsum("nv,nv->n", a @ (self.turn * turn), b)
        out += np.einsum("ni,ni->n", a @ (self.inner_turn * inner), a)
        if self.n_logs:
            out += self.of_logs @ logs
        if self.has_noise:
            out += self.of_noise * noise[0]
        return out

    def weighted(self, shares: Array) -> Array:
        a, b = self.along_axes, self.along_others
        weighted = a * shares[:, None]
        parts = [
            self.mean_scale * weighted.sum(axis=0),
            shares @ b / np.sqrt(self.noise),
            (self.turn * (weighted.T @ b)).ravel(),
            (self.inner_turn * (weighted.T @ a)).ravel(),
        ]
        if self.n_logs:
            parts.append(shares @ self.of_logs)
        if self.has_noise:
            parts.append(np.array([shares @ self.of_noise]))
        return np.concatenate(parts)

    def move(self, direction: Array) -> tuple[Array, Array, Array, float]:
        """Return the shift of the mean (D,), solid axes (q, D), their precisions and the noise.

        The axes are orthonormal up to the second order of the direction's length.
        """
        first, second, turn, inner, logs, noise = self._split(direction)
        safe = np.where(self.mean_scale > 0, self.mean_scale, np.inf)
        shift = (first / safe) @ self.axes + np.sqrt(self.noise) * second @ self.others
        # angles are coordinates over the root of the curvature, (score's factor) / (derivative's)
        gain = 1.0 / self.noise - self.precisions
        angles = self.turn * turn / gain[:, None]
        difference = self.precisions[None] - self.precisions[:, None]
        inner_angles = self.inner_turn * inner / np.where(difference == 0, np.inf, difference)
        skew = inner_angles - inner_angles.T
        axes = self.axes + angles @ self.others + skew @ self.axes
        precisions, s2 = self.precisions, self.noise
        if self.n_logs:
            precisions = precisions * np.exp(logs * np.sqrt(2 / self.temperature))
        if self.has_noise:
            s2 = s2 * float(np.exp(noise[0] * np.sqrt(2 / self.degrees)))
        return shift, axes, precisions, s2


def _root_ratio(slope: Array, larger: Array, smaller: Array) -> Array:
    """Return ``slope / sqrt(slope (larger - smaller))``, 0 where the curvature is none."""
    gap = larger - smaller
    real = (slope > 0) & (gap > _FLAT * (np.abs(larger) + np.abs(smaller)))
    return np.where(real, np.sqrt(slope / np.where(real, gap, 1.0)), 0.0)
