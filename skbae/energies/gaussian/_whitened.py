"""Kernel of Gaussian components in many columns: rows are whitened, and few of them added up.

With hundreds of products of columns, the expanded features of a row cost more to write than few
components make of them. Here a row's energy is the squared length of its whitened deviation, which
does not cancel, so that single precision is enough for components far from the centre. The sums of
a component run over the rows whose code exceeds rounding: in many columns, most rows belong to one
component.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._parameters import GaussianMoments, GaussianParameters
from skbae.energies.mixture._components import SmoothComponentKernel, Workspace, WorkspaceKey
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.gaussian._covariance import CovarianceShape

# Codes below this share of the largest of a chunk are left out of sums: all of them together are
# below the rounding errors of the rest.
_NEGLIGIBLE = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-9}
# A component is known well enough in a chunk if its largest code is at least this; codes that are
# negligible beside it need not be computed.
_PRESENT = 0.1
# Half of the whitened columns bound energies from so many columns on.
_HALVED = 32
# Of more than this share of all pairs of rows and components, what is left of energies is computed
# for all of them.
_DENSE = 0.6
# Standard deviations within which the rows of a component lie, in each direction.
_WITHIN = 4.0
# Numbers in the whitened deviations that are computed at a time.
_WHITE_NUMBERS = 1 << 17


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
        self.shape, self.params, self.dtype = shape, params, np.dtype(dtype)
        # of the same precision as rows, so that differences are exact to rounding
        self.centre = centre = centre.astype(self.dtype).astype(np.float64)
        self.rounding = np.zeros(len(log_weights)) if rounding is None else rounding
        self.n_models, self.n_components = log_weights.shape
        self.n_features = size = shape.n_features
        offsets = params.means - centre
        transposed = np.swapaxes(params.factors, -1, -2)
        # of rows (1, x): minus the whitened mean, and the factor; lengths squared are energies
        natural = np.empty((log_weights.size, size, size + 1), self.dtype)
        natural[..., 0] = -np.matmul(transposed, offsets[..., None])[..., 0].reshape(-1, size)
        natural[..., 1:] = transposed.reshape(-1, size, size)
        natural *= math.sqrt(0.5)
        # factors are triangular: the first half of the whitened columns needs half of the columns
        self.half = half = size // 2
        self.first = np.ascontiguousarray(natural[:, :half, : half + 1])
        self.second = np.ascontiguousarray(natural[:, half:])
        # of rows (1, x), as they are gathered: what is subtracted so that (1, deviation) is left
        self.offsets = np.zeros((log_weights.size, size + 1), self.dtype)
        self.offsets[:, 1:] = offsets.reshape(-1, size)
        constant = log_weights + shape.half_log_det(params.factors) - 0.5 * size * LOG_2PI
        self.constant = constant.astype(self.dtype).reshape(-1, 1)
        numbers = 2 * (size + 1) + 2 * log_weights.size
        self.numbers_per_row = numbers * self.dtype.itemsize // 8

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        size, n_energies = self.n_features, len(self.constant)
        key = WorkspaceKey("gaussian white", n_rows, size, self.dtype.str, self.centre.tobytes())
        if previous is None or previous.key != key:
            rows = np.empty((n_rows, size + 1), self.dtype)
            rows[:, 0] = 1
            previous = Workspace(
                key,
                rows=rows,
                own=np.empty((n_rows, size + 1), self.dtype),
                white=np.empty(max(_WHITE_NUMBERS, size * n_rows), self.dtype),
                energies=np.empty(0, self.dtype),
            )
        if len(previous.arrays["energies"]) != n_energies * n_rows:
            previous.arrays["energies"] = np.empty(n_energies * n_rows, self.dtype)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is X:
            return
        n, precision = len(X), np.result_type(X.dtype, self.dtype)
        rows, centre = workspace.arrays["rows"][:n, 1:], self.centre.astype(precision)
        np.subtract(X, centre, out=rows, casting="unsafe", dtype=precision)
        workspace.source, workspace.n = X, n

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        out = self._bounds(workspace)
        self._lower_all(out, workspace)
        return out.reshape(self.n_models, self.n_components, workspace.n), None

    def energies_that_count(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return energies, of which those with negligible codes may be too high.

        The first half of the whitened columns bounds an energy from above. The other half is
        computed for pairs of rows and components of which the code may count, in a chunk and beside
        the largest code of the component.
        """
        if self.n_features < _HALVED:
            return self.energies(workspace)
        n, temperature = workspace.n, workspace.temperature
        out = self._bounds(workspace)
        energies = out.reshape(self.n_models, self.n_components, n)
        doubt = 2 * float(self.rounding.max())
        slack = doubt - temperature * math.log(_PRESENT * _NEGLIGIBLE[self.dtype])
        needed = energies >= energies.max(axis=1, keepdims=True) - slack
        if np.count_nonzero(needed) > _DENSE * needed.size:
            self._lower_all(out, workspace)
            return energies, None
        self._lower(out, needed, workspace)
        # the largest is at least the largest of these
        least = np.where(needed, energies, -np.inf).max(axis=1, keepdims=True)
        more = energies >= least - slack
        more &= ~needed
        self._lower(out, more, workspace)
        present = energies.max(axis=1, keepdims=True) + (temperature * math.log(_PRESENT) - doubt)
        absent = ~(energies >= present).any(axis=2)
        if absent.any():
            needed |= more
            self._lower(out, ~needed & absent[..., None], workspace)
        return energies, None

    def _bounds(self, workspace: Workspace) -> NDArray[Any]:
        """Return upper bounds of energies (SK, n), from the first half of the whitened columns."""
        out = workspace.arrays["energies"][: len(self.constant) * workspace.n]
        out = out.reshape(len(self.constant), workspace.n)
        np.copyto(out, self.constant)
        if self.half:
            self._subtract(self.first, self.half + 1, out, workspace)
        return out

    def _lower_all(self, out: NDArray[Any], workspace: Workspace) -> None:
        """Turn upper bounds (SK, n) into energies."""
        self._subtract(self.second, self.n_features + 1, out, workspace)

    def _subtract(
        self, natural: NDArray[Any], n_columns: int, out: NDArray[Any], workspace: Workspace
    ) -> None:
        """Subtract the squares of products of the first columns, of several components at once."""
        n, n_white = workspace.n, natural.shape[1]
        rows, white = workspace.arrays["rows"][:n, :n_columns], workspace.arrays["white"]
        step = max(1, len(white) // (n_white * n))
        for start in range(0, len(natural), step):
            part = natural[start : start + step]
            product = white[: len(part) * n_white * n].reshape(len(part), n_white, n)
            np.matmul(part.reshape(-1, n_columns), rows.T, out=product.reshape(-1, n))
            out[start : start + step] -= np.einsum("kdn,kdn->kn", product, product)

    def _lower(self, out: NDArray[Any], which: NDArray[np.bool_], workspace: Workspace) -> None:
        """Turn some of the upper bounds (SK, n) into energies."""
        n_white, flat = self.second.shape[1], out.reshape(-1)
        for cells, index, own in self._gathered(which, workspace):
            white = workspace.arrays["white"][: len(own) * n_white].reshape(-1, n_white)
            for cell, start, stop in cells:
                np.matmul(own[start:stop], self.second[cell].T, out=white[start:stop])
            flat[index] -= np.einsum("nd,nd->n", white, white)

    def _gathered(
        self, which: NDArray[np.bool_], workspace: Workspace
    ) -> Iterator[tuple[list[tuple[int, int, int]], NDArray[np.intp], NDArray[Any]]]:
        """Yield rows (1, x) of the pairs of components and rows (SK, n) that are chosen.

        Each time, which of them belong to which component, the numbers of the pairs, and the rows,
        in the same order; together they are at most as many as the rows of a chunk.
        """
        n, rows = workspace.n, workspace.arrays["rows"]
        index = np.flatnonzero(which)
        ends = np.searchsorted(index, np.arange(len(self.constant) + 1) * n).tolist()
        capacity, cell = len(rows), 0
        while cell < len(self.constant):
            begin, last = ends[cell], cell
            while last < len(self.constant) and ends[last + 1] - begin <= capacity:
                last += 1
            chosen = index[begin : ends[last]]
            cells = [
                (each, ends[each] - begin, ends[each + 1] - begin)
                for each in range(cell, last)
                if ends[each + 1] > ends[each]
            ]
            cell = last
            if not cells:
                continue
            own = workspace.arrays["own"][: len(chosen)]
            np.take(rows, chosen % n, axis=0, out=own, mode="clip")
            yield cells, chosen, own

    def zero(self) -> list[Array]:
        size = self.n_features + 1
        return [np.zeros((len(self.constant), size, size))]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        flat = codes.reshape(len(self.constant), workspace.n)
        members = flat > self.negligible(flat)[:, None]
        for cells, index, own in self._gathered(members, workspace):
            root = np.sqrt(flat.reshape(-1)[index])
            for cell, start, stop in cells:
                own[start:stop] -= self.offsets[cell]
            own *= root[:, None]
            for cell, start, stop in cells:
                part = own[start:stop]
                sums[0][cell] += part.T @ part

    def negligible(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return below what codes (SK, n) are left out of a component's sums, (SK,)."""
        return codes.max(axis=1) * self.dtype.type(_NEGLIGIBLE[self.dtype])

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        (found,) = sums
        found = found.reshape(self.n_models, self.n_components, *found.shape[1:])
        first = np.ascontiguousarray(found[..., 0, 1:])
        # of single precision, the offsets that were subtracted
        reference = self.centre + self.offsets[:, 1:].astype(np.float64).reshape(first.shape)
        second = np.ascontiguousarray(found[..., 1:, 1:])
        return found[..., 0, 0].copy(), GaussianMoments(first, second, reference)

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
