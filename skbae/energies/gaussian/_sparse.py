"""Kernel of Gaussian components on sparse rows: products with the entries that are not zero.

Components without covariances between columns are linear in the features ``(x^2, x, 1)``, all of
which but the last are zero where x is. Nothing is subtracted from the rows, which would leave no
zeros: the squares of means and standard deviations of columns must not be too far apart, which a
bound on the rounding errors decides, as for dense rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Frame
from skbae.energies.gaussian._parameters import GaussianMoments, GaussianParameters
from skbae.energies.mixture._components import ComponentKernel, Workspace, WorkspaceKey
from skbae.operators._constants import LOG_2PI
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.gaussian._covariance import CovarianceShape


class SparseKernel(ComponentKernel):
    """Energies and sums from the entries that are not zero.

    Parameters
    ----------
    shape : CovarianceShape
        Diagonal or spherical.
    log_weights : ndarray of shape (S, K)
    params : GaussianParameters
    rounding : ndarray of shape (S,)
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        shape: CovarianceShape,
        log_weights: Array,
        params: GaussianParameters,
        rounding: Array,
    ) -> None:
        self.shape, self.rounding = shape, rounding
        self.n_models, self.n_components = log_weights.shape
        self.tied = params.factors.shape[1] == 1
        size, n_energies = shape.n_features, log_weights.size
        linear = shape.apply_precision(params.factors, params.means)
        constant = log_weights - 0.5 * np.einsum("skd,skd->sk", linear, params.means)
        constant = constant + shape.half_log_det(params.factors) - 0.5 * size * LOG_2PI
        self.constant = constant.reshape(n_energies, 1)
        self.linear = np.ascontiguousarray(linear.reshape(n_energies, size).T)
        quadratic = shape.quadratic_coefficients(params.factors)
        self.quadratic = np.ascontiguousarray(quadratic.reshape(-1, shape.n_quadratic).T)
        self.numbers_per_row = 3 * n_energies

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("gaussian sparse", n_rows, self.shape.n_features, self.dtype.str)
        return Workspace(key)

    def load(self, X: Any, workspace: Workspace) -> None:
        workspace.source, workspace.n = X, len(X)

    def _times_quadratic(self, X: SparseRows, coefficients: Array) -> Array:
        """Return the products of the quadratic features with coefficients (P, b)."""
        if self.shape.n_quadratic == 1:
            return X.square_lengths[:, None] * coefficients
        return X.squares @ coefficients

    def _sum_quadratic(self, X: SparseRows, codes: NDArray[Any]) -> Array:
        """Return the sums of the quadratic features, times codes (b, n)."""
        if self.shape.n_quadratic == 1:
            return np.asarray(codes @ X.square_lengths)[:, None]
        return X.squares.transposed_product(codes.T).T

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        X: Any = workspace.source
        own, quadratic = X @ self.linear, self._times_quadratic(X, self.quadratic)
        if not self.tied:
            own += quadratic
        energies = np.ascontiguousarray(own.T) + self.constant
        shape = (self.n_models, self.n_components, workspace.n)
        return energies.reshape(shape), quadratic.T if self.tied else None

    def zero(self) -> list[Array]:
        n_energies, size = len(self.constant), self.shape.n_features
        n_sums = self.n_models if self.tied else n_energies
        return [
            np.zeros(n_energies),
            np.zeros((n_energies, size)),
            np.zeros((n_sums, self.shape.n_quadratic)),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        X: Any = workspace.source
        flat = codes.reshape(len(self.constant), workspace.n)
        sums[0] += flat.sum(axis=1)
        sums[1] += X.transposed_product(flat.T).T
        if self.tied:
            flat = np.ones((1, workspace.n)) if row_weights is None else row_weights
        sums[2] += self._sum_quadratic(X, flat)

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        counts, first, second = sums
        cells = (self.n_models, self.n_components)
        moments = self.shape.unpack(second.reshape(self.n_models, -1, self.shape.n_quadratic))
        first = first.reshape(*cells, -1)
        return counts.reshape(cells), GaussianMoments(first, moments, np.zeros_like(first))


def frame_about_zero(frame: Frame) -> Frame:
    """Return the frame of rows from which nothing is subtracted."""
    return Frame(np.zeros_like(frame.centre), frame.scale)
