"""PCA components of mixtures: parameters, moments, and kernels for energies and sums.

With orthonormal directions ``u_i``, precisions ``p_i <= 1 / s2`` along them and noise ``s2``, the
energy of a row under a component is, up to a constant,

``-|x - mu|^2 / (2 s2) + sum_i (1 / s2 - p_i) (u_i (x - mu))^2 / 2``.

So a chunk of rows, its squared lengths and ones, times one matrix of all components of all models,
gives every energy; the same product with a few more rows gives coordinates in a *basis* of each
component, of which its own directions are the first. Codes times these coordinates, times the same
chunk, sum to the covariance times the basis, which is what the maximisation needs; no covariance is
formed.

These products lose digits if the noise is far below the variance, or a component far from the
centre of the data: then residuals are computed for each component.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord, Frame
from skbae.energies.mixture._components import SmoothComponentKernel, Workspace, WorkspaceKey
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


@dataclass(frozen=True)
class PCAComponents(ArrayRecord):
    """Components of S mixtures, each with d code dimensions.

    Attributes
    ----------
    means : ndarray of shape (S, K, D)
    components : ndarray of shape (S, K, d, D)
        Orthonormal directions.
    precisions : ndarray of shape (S, K, d)
        Inverse variances of the data along the components, at most ``1 / noise``; 0 at T = 0.
    noise : ndarray of shape (S, K), or (S, 1) where all components share it
    directions : ndarray of shape (S, K, e, D)
        Further orthonormal directions, among which the maximisation searches; e may be 0.
    """

    means: Array
    components: Array
    precisions: Array
    noise: Array
    directions: Array

    @property
    def shrink(self) -> Array:
        """Ratio of the posterior mean of a code to the coordinate of the row, (S, K, d)."""
        return 1.0 - self.noise[..., None] * self.precisions

    def in_units(self, unit: float) -> PCAComponents:
        """Return the same components of rows in other units."""
        squared = unit**2
        return PCAComponents(
            self.means / unit,
            self.components,
            self.precisions * squared,
            self.noise / squared,
            self.directions,
        )

    @property
    def basis(self) -> Array:
        """Components and directions, (S, K, q, D)."""
        return np.concatenate([self.components, self.directions], axis=2)


@dataclass(frozen=True)
class PCAMoments(ArrayRecord):
    """Sums over rows, relative to a reference point of each component.

    Attributes
    ----------
    first : ndarray of shape (S, K, D)
        Sum of ``r (x - reference)``, with r the code.
    total : ndarray of shape (S, K)
        Sum of ``r |x - reference|^2``.
    products : ndarray of shape (S, K, q, D)
        The basis times the sum of ``r (x - reference) (x - reference)'``.
    basis : ndarray of shape (S, K, q, D)
        Orthonormal.
    reference : ndarray of shape (S, K, D)
    """

    first: Array
    total: Array
    products: Array
    basis: Array
    reference: Array


class ProductKernel(SmoothComponentKernel):
    """Energies and sums by one matrix product each."""

    def __init__(
        self,
        log_weights: Array,
        params: PCAComponents,
        centre: Array,
        dtype: Any,
        rounding: Array | None = None,
    ) -> None:
        self.rounding = np.zeros(len(log_weights)) if rounding is None else rounding
        self.params, self.centre, self.dtype = params, centre, np.dtype(dtype)
        self.n_models, self.n_components = log_weights.shape
        basis = params.basis
        self.n_codes, self.n_basis = params.components.shape[2], basis.shape[2]
        self.n_features = size = basis.shape[3]
        self.offset = params.means - centre
        noise = np.broadcast_to(params.noise, log_weights.shape)
        constant = log_weights - 0.5 * size * (LOG_2PI + np.log(noise))
        constant = constant - 0.5 * np.einsum("skd,skd->sk", self.offset, self.offset) / noise
        n_cells = log_weights.size
        # one row for each component, linear in (x, 1, |x|^2), then the bases
        natural = np.zeros((n_cells * (1 + self.n_basis), size + 2))
        natural[:n_cells, :size] = (self.offset / noise[..., None]).reshape(n_cells, size)
        natural[:n_cells, size] = constant.ravel()
        natural[:n_cells, size + 1] = -0.5 / noise.ravel()
        natural[n_cells:, :size] = basis.reshape(-1, size)
        natural[n_cells:, size] = -np.matmul(basis, self.offset[..., None]).ravel()
        self.natural = natural.astype(self.dtype)
        self.basis = basis
        gain = 0.5 * (1.0 / noise[..., None] - params.precisions)
        self.gain = gain.astype(self.dtype)[:, :, None]
        self.numbers_per_row = size + 2 + n_cells * (1 + self.n_basis + self.n_codes)

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        centre = self.centre.tobytes()
        key = WorkspaceKey("pca", n_rows, self.n_features, self.dtype.str, centre)
        if not isinstance(previous, Workspace) or previous.key != key:
            features = np.empty((self.n_features + 2, n_rows), self.dtype)
            features[-2] = 1
            previous = Workspace(key, features=features, out=np.empty((0, n_rows)))
        if len(previous.arrays["out"]) != len(self.natural):
            n_squares = self.n_models * self.n_components * self.n_codes
            previous.arrays["out"] = np.empty((len(self.natural), n_rows), self.dtype)
            previous.arrays["squares"] = np.empty((n_squares, n_rows), self.dtype)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is X:
            return
        n = len(X)
        features = workspace.arrays["features"][:, :n]
        x = features[:-2]
        # subtract in double precision: a float32 chunk far from the origin keeps its digits
        np.subtract(X.T, self.centre[:, None], out=x, casting="unsafe", dtype=np.float64)
        np.einsum("dn,dn->n", x, x, out=features[-1])
        workspace.source, workspace.n = X, n

    def _parts(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the energies (S, K, n) and the coordinates (S, K, q, n) within one array."""
        out = workspace.arrays["out"][:, : workspace.n]
        n_cells = self.n_models * self.n_components
        shape = (self.n_models, self.n_components)
        own = out[:n_cells].reshape(*shape, workspace.n)
        return own, out[n_cells:].reshape(*shape, self.n_basis, workspace.n)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        n = workspace.n
        features = workspace.arrays["features"][:, :n]
        np.matmul(self.natural, features, out=workspace.arrays["out"][:, :n])
        own, coordinates = self._parts(workspace)
        if self.n_codes:
            squares = workspace.arrays["squares"][:, :n]
            squares = squares.reshape(self.n_models, self.n_components, self.n_codes, n)
            np.square(coordinates[:, :, : self.n_codes], out=squares)
            own += np.matmul(self.gain, squares)[:, :, 0]
        workspace.arrays["own"] = own
        return own, None

    def zero(self) -> list[Array]:
        n_cells = self.n_models * self.n_components
        size = self.n_features
        return [np.zeros((n_cells, size + 2)), np.zeros((n_cells * self.n_basis, size + 1))]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        own, coordinates = self._parts(workspace)
        if codes is not workspace.arrays.get("own"):
            own[...] = codes
        coordinates *= own[:, :, None]
        features = workspace.arrays["features"][:, : workspace.n]
        out = workspace.arrays["out"][:, : workspace.n]
        n_cells = self.n_models * self.n_components
        sums[0] += out[:n_cells] @ features.T
        # not times |x|^2, which no one needs, and which may overflow
        sums[1] += out[n_cells:] @ features[:-1].T

    def moments(self, sums: list[Array]) -> tuple[Array, PCAMoments]:
        shape = (self.n_models, self.n_components)
        own = sums[0].reshape(*shape, -1)
        crossed = sums[1].reshape(*shape, self.n_basis, self.n_features + 1)
        # coordinates are relative to the means, the other factor is relative to the centre
        counts, offset = own[..., -2], self.offset
        about_centre = own[..., :-2]
        first = about_centre - counts[..., None] * offset
        total = own[..., -1] - np.einsum("skd,skd->sk", offset, about_centre + first)
        products = crossed[..., :-1] - crossed[..., -1:] * offset[:, :, None]
        return counts, PCAMoments(first, total, products, self.basis, self.params.means)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        return _code_gradient(self.params, X, codes)


class ResidualKernel(SmoothComponentKernel):
    """Energies and sums from the residuals of each component: slower, but always accurate."""

    dtype = np.dtype(np.float64)

    def __init__(
        self, log_weights: Array, params: PCAComponents, rounding: Array | None = None
    ) -> None:
        self.rounding = np.zeros(len(log_weights)) if rounding is None else rounding
        self.params, self.basis = params, params.basis
        self.n_models, self.n_components = log_weights.shape
        n_features = params.means.shape[2]
        self.noise = np.broadcast_to(params.noise, log_weights.shape)
        self.constant = log_weights - 0.5 * n_features * (LOG_2PI + np.log(self.noise))
        self.numbers_per_row = 4 * n_features + self.n_models * self.n_components

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("pca residuals", n_rows, self.params.means.shape[2], self.dtype.str)
        return Workspace(key, energies=np.empty((self.n_models, self.n_components, n_rows)))

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            workspace.arrays["rows"] = X.astype(np.float64, copy=False)
            workspace.source, workspace.n = X, len(X)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        params, rows = self.params, workspace.arrays["rows"]
        out = workspace.arrays["energies"][..., : workspace.n]
        for s, k in np.ndindex(self.n_models, self.n_components):
            deviations = rows - params.means[s, k]
            coordinates = deviations @ params.components[s, k].T
            deviations -= coordinates @ params.components[s, k]
            square = np.einsum("nd,nd->n", deviations, deviations) / self.noise[s, k]
            square += coordinates**2 @ params.precisions[s, k]
            out[s, k] = self.constant[s, k] - 0.5 * square
        return out, None

    def zero(self) -> list[Array]:
        shape = self.params.means.shape
        return [
            np.zeros(shape[:2]),
            np.zeros(shape),
            np.zeros(shape[:2]),
            np.zeros_like(self.basis),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        rows = workspace.arrays["rows"]
        sums[0] += codes.sum(axis=-1)
        for s, k in np.ndindex(self.n_models, self.n_components):
            deviations = rows - self.params.means[s, k]
            share = codes[s, k].astype(np.float64, copy=False)
            coordinates = (deviations @ self.basis[s, k].T) * share[:, None]
            sums[1][s, k] += share @ deviations
            sums[2][s, k] += share @ np.einsum("nd,nd->n", deviations, deviations)
            sums[3][s, k] += coordinates.T @ deviations

    def moments(self, sums: list[Array]) -> tuple[Array, PCAMoments]:
        return sums[0], PCAMoments(sums[1], sums[2], sums[3], self.basis, self.params.means)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        return _code_gradient(self.params, X, codes)


def _code_gradient(params: PCAComponents, X: Array, codes: Array) -> Array:
    """Return ``sum_k codes_k C_k^-1 (mu_k - x)``, of shape (S, n, D)."""
    gradient = np.zeros((codes.shape[0], *X.shape))
    noise = np.broadcast_to(params.noise, codes.shape[:2])
    for s, k in np.ndindex(codes.shape[:2]):
        deviations = X - params.means[s, k]
        components = params.components[s, k]
        gain = 1.0 / noise[s, k] - params.precisions[s, k]
        pull = (deviations @ components.T * gain) @ components - deviations / noise[s, k]
        gradient[s] += codes[s, k][:, None] * pull
    return gradient


def rounding_bound(params: PCAComponents, frame: Frame, dtype: Any) -> Array:
    """Bound the rounding error of energies from :class:`ProductKernel`, in nats, (S,).

    A row of a component reaches about ``|mu - centre| + scale`` from the centre, and terms of the
    size of its squared length over the noise cancel each other, each the product of rounded
    factors: four times the roundoff of their size in all.
    """
    reach = np.abs(params.means - frame.centre) + frame.scale
    return _roundoff(params, reach, np.finfo(dtype))


def _roundoff(params: PCAComponents, reach: Array, info: Any) -> Array:
    """Return four times the roundoff of ``|x|^2 / s2`` where ``|x|`` is `reach` (S, K, D)."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        squares = np.square(reach)
        size = np.max(squares.sum(axis=-1) / params.noise, axis=1)
        largest = np.max(squares, axis=(1, 2))
        smallest = np.min(np.where(squares > 0, squares, 1.0), axis=(1, 2))
    sound = np.isfinite(size) & (largest <= 1e-4 * float(info.max))
    sound &= np.minimum(smallest, 1.0) >= 1e4 * float(info.tiny)
    return np.where(sound, 4 * size * float(info.eps), np.inf)


def residual_kernel(log_weights: Array, params: PCAComponents, frame: Frame) -> ResidualKernel:
    """Return the kernel that is always accurate."""
    reach = np.broadcast_to(frame.scale, params.means.shape)
    bound = _roundoff(params, reach, np.finfo(np.float64))
    return ResidualKernel(log_weights, params, np.where(np.isfinite(bound), bound, 0.0))
