"""Kernel of Gaussian components in many columns: rows are whitened, and few of them added up.

With hundreds of products of columns, the expanded features of a row cost more to write than few
components make of them. Here a row's energy is the squared length of its whitened deviation, which
does not cancel, so that single precision is enough for components far from the centre. The sums of
a component run over the rows whose code exceeds rounding: in many columns, most rows belong to one
component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._parameters import GaussianMoments, GaussianParameters
from skbae.energies.mixture._components import SmoothComponentKernel, Workspace, WorkspaceKey
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.gaussian._covariance import CovarianceShape

# Codes below this share of the largest of a chunk, in units of the roundoff, are left out of sums:
# all of them together are below the rounding errors of the rest.
_NEGLIGIBLE = 1e-2
# Rows are gathered if they are at most this share of a chunk.
_SPARSE = 0.7
# Standard deviations within which the rows of a component lie, in each direction.
_WITHIN = 4.0
# Factors are divided into triangular blocks from so many columns on.
_BLOCKS = 32


class WhitenedKernel(SmoothComponentKernel):
    """Energies from whitened deviations, and sums over the rows that a component has.

    Parameters
    ----------
    shape : CovarianceShape
        Full.
    log_weights : ndarray of shape (S, K)
    params : GaussianParameters
        Not tied.
    centre : ndarray of shape (D,)
        Subtracted from rows.
    dtype : dtype
    rounding : ndarray of shape (S,) or None
    """

    tied = False

    def __init__(
        self,
        shape: CovarianceShape,
        log_weights: Array,
        params: GaussianParameters,
        centre: Array,
        dtype: Any,
        rounding: Array | None = None,
    ) -> None:
        self.shape, self.params, self.centre = shape, params, centre
        self.dtype = np.dtype(dtype)
        self.rounding = np.zeros(len(log_weights)) if rounding is None else rounding
        self.n_models, self.n_components = log_weights.shape
        self.n_features = size = shape.n_features
        offsets = params.means - centre
        transposed = np.swapaxes(params.factors, -1, -2)
        # of rows (1, x): minus the whitened mean, and the factor
        natural = np.empty((log_weights.size, size, size + 1), self.dtype)
        natural[..., 0] = -np.matmul(transposed, offsets[..., None])[..., 0].reshape(-1, size)
        natural[..., 1:] = transposed.reshape(-1, size, size)
        self.natural = natural
        self.offsets = offsets.reshape(-1, size).astype(self.dtype)
        constant = log_weights + shape.half_log_det(params.factors) - 0.5 * size * LOG_2PI
        self.constant = constant.ravel()
        self.numbers_per_row = 4 * size + log_weights.size

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        size, n_energies = self.n_features, len(self.natural)
        key = WorkspaceKey("gaussian white", n_rows, size, self.dtype.str, self.centre.tobytes())
        if previous is None or previous.key != key:
            features = np.empty((size + 1, n_rows), self.dtype)
            features[0] = 1
            previous = Workspace(
                key,
                features=features,
                rows=np.empty((n_rows, size), self.dtype),
                white=np.empty((size, n_rows), self.dtype),
                own=np.empty((n_rows, size), self.dtype),
                energies=np.empty((0, n_rows), self.dtype),
            )
        if len(previous.arrays["energies"]) != n_energies:
            previous.arrays["energies"] = np.empty((n_energies, n_rows), self.dtype)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is X:
            return
        n = len(X)
        rows = workspace.arrays["rows"][:n]
        # subtract in double precision: a float32 chunk far from the origin keeps its digits
        np.subtract(X, self.centre, out=rows, casting="unsafe", dtype=np.float64)
        workspace.arrays["features"][1:, :n] = rows.T
        workspace.source, workspace.n = X, n

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        n, size = workspace.n, self.n_features
        features = workspace.arrays["features"][:, :n]
        white = workspace.arrays["white"][:, :n]
        out = workspace.arrays["energies"][:, :n]
        half = size // 2 if size >= _BLOCKS else 0
        for natural, constant, energy in zip(self.natural, self.constant, out, strict=True):
            if half:  # the factor is triangular
                np.matmul(natural[:half, : half + 1], features[: half + 1], out=white[:half])
            np.matmul(natural[half:], features, out=white[half:])
            np.einsum("dn,dn->n", white, white, out=energy)
            energy *= -0.5
            energy += self.dtype.type(constant)
        return out.reshape(self.n_models, self.n_components, n), None

    def zero(self) -> list[Array]:
        n_energies, size = len(self.natural), self.n_features
        return [
            np.zeros(n_energies),
            np.zeros((n_energies, size)),
            np.zeros((n_energies, size, size)),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        rows, n = workspace.arrays["rows"][: workspace.n], workspace.n
        flat = codes.reshape(-1, n)
        for index, (own, bound) in enumerate(
            zip(flat, self.negligible(flat).tolist(), strict=True)
        ):
            members = np.flatnonzero(own > bound)
            deviations = workspace.arrays["own"][: len(members)]
            if len(members) <= _SPARSE * n:
                own = own[members]
                np.take(rows, members, axis=0, out=deviations, mode="clip")
                deviations -= self.offsets[index]
            else:
                deviations = workspace.arrays["own"][:n]
                np.subtract(rows, self.offsets[index], out=deviations)
            root = np.sqrt(own)
            deviations *= root[:, None]
            sums[0][index] += own.sum(dtype=np.float64)
            sums[1][index] += root @ deviations
            sums[2][index] += deviations.T @ deviations

    def negligible(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return below what codes (SK, n) are left out of a component's sums, (SK,)."""
        return codes.max(axis=1) * (_NEGLIGIBLE * float(np.finfo(self.dtype).eps))

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        cells = self.n_models, self.n_components
        counts, first, second = (array.reshape(*cells, *array.shape[1:]) for array in sums)
        # of single precision, the offsets that were subtracted
        reference = self.centre + self.offsets.astype(np.float64).reshape(first.shape)
        return counts, GaussianMoments(first, second, reference)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        gradient = np.zeros((self.n_models, len(X), self.n_features))
        for s in range(self.n_models):
            for k in range(self.n_components):
                pull = self.shape.apply_precision(
                    self.params.factors[s, k][None], self.params.means[s, k] - X
                )
                gradient[s] += codes[s, k][:, None] * pull
        return gradient


def whitening_bound(params: GaussianParameters, frame: Frame, dtype: Any) -> Array:
    """Bound the rounding error of energies of whitened rows, in nats, (S,).

    A row of component k reaches about ``|mu_k - centre| + scale`` from the centre; the rounding
    errors of the products that whiten it, times how far it is from the mean, are those of half its
    squared length.
    """
    info = np.finfo(dtype)
    reach = np.abs(params.means - frame.centre) + frame.scale
    factors = np.abs(params.factors)
    largest = float(info.max) ** 0.25
    sound = 1 / largest <= reach.min() and reach.max() <= largest and factors.max() <= largest
    if not sound:
        return np.full(len(reach), np.inf)
    size = np.matmul(reach[..., None, :], factors).sum(axis=(-1, -2)).max(axis=1)
    return np.asarray(4 * _WITHIN * float(info.eps) * size)
