"""Kernel of mixtures of many PCA components: energies first, and sums over the rows each one has.

Energies need coordinates along the components only, about half of a basis. Where the codes of a row
exceed rounding for few components, as with many of them, the sums of a component run over its own
rows, and leave out what is below the rounding errors of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.mixture_pca._kernel import PCAComponents, ProductKernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.mixture._components import Workspace

# Codes below this share of the largest of a chunk, in units of the roundoff, are left out of sums:
# all of them together are below the rounding errors of the rest.
_NEGLIGIBLE = 1e-2
# Share of codes that exceed this up to which sums run over the rows of each component.
_SPARSE = 0.2
# From so many components and columns on this kernel is faster than one product.
_MANY_COMPONENTS, _MANY_COLUMNS = 16, 32


def are_many(n_components: int, n_latent: int, n_features: int) -> bool:
    """Return whether components and columns are so many that this kernel is faster.

    Without code dimensions there are no bases to save.
    """
    return n_components >= _MANY_COMPONENTS and n_features >= _MANY_COLUMNS and n_latent > 0


class ManyComponentsKernel(ProductKernel):
    """Energies by one matrix product, and sums over the rows that a component has.

    Components have at least one code dimension.
    """

    def __init__(
        self,
        log_weights: Array,
        params: PCAComponents,
        centre: Array,
        dtype: Any,
        rounding: Array | None = None,
    ) -> None:
        super().__init__(log_weights, params, centre, dtype, rounding)
        self.n_cells = n_cells = log_weights.size
        # the coordinates in each basis, linear in (x, 1); of these, energies need the first
        own = self.natural[n_cells:].reshape(n_cells, self.n_basis, -1)
        self.coordinates = np.ascontiguousarray(own[..., :-1])
        first = own[:, : self.n_codes].reshape(n_cells * self.n_codes, -1)
        self.natural = np.concatenate([self.natural[:n_cells], first])

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        n, n_cells = workspace.n, self.n_cells
        out = workspace.arrays["out"][:, :n]
        np.matmul(self.natural, workspace.arrays["features"][:, :n], out=out)
        own = out[:n_cells].reshape(self.n_models, self.n_components, n)
        shape = (self.n_models, self.n_components, self.n_codes, n)
        squares = workspace.arrays["squares"][:, :n].reshape(shape)
        np.square(out[n_cells:].reshape(shape), out=squares)
        own += np.matmul(self.gain, squares)[:, :, 0]
        return own, None

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        n, n_codes = workspace.n, self.n_codes
        features = workspace.arrays["features"][:, :n]
        own = codes.reshape(self.n_cells, n).astype(self.dtype, copy=False)
        sums[0] += own @ features.T
        # coordinates not times |x|^2, which no one needs, and which may overflow
        linear = features[:-1]
        crossed = sums[1].reshape(self.n_cells, self.n_basis, -1)
        negligible = self.dtype.type(_NEGLIGIBLE * float(np.finfo(self.dtype).eps))
        has = own > own.max(axis=1, keepdims=True) * negligible
        if np.count_nonzero(has) <= _SPARSE * has.size:
            for cell in range(self.n_cells):
                members = np.flatnonzero(has[cell])
                part = linear[:, members]
                along = self.coordinates[cell] @ part
                along *= own[cell, members]
                crossed[cell] += along @ part.T
            return
        known = workspace.arrays["out"][self.n_cells :, :n].reshape(self.n_cells, n_codes, n)
        others = np.matmul(self.coordinates[:, n_codes:], linear)
        for first, along in ((0, known), (n_codes, others)):
            along *= own[:, None]
            found = along.reshape(-1, n) @ linear.T
            crossed[:, first : first + along.shape[1]] += found.reshape(*along.shape[:2], -1)
