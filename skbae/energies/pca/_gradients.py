"""Gradients of PCA's energy in the mean, the components, their precisions and the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import RowKernel, chunk_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


@dataclass(frozen=True)
class ProjectedMoments(ArrayRecord):
    """Weighted sums over rows, about the means of the models (or components), of shape (...).

    Attributes
    ----------
    counts : ndarray of shape (...)
    first : ndarray of shape (..., D)
    total : ndarray of shape (...)
        Of squared lengths.
    products : ndarray of shape (..., d, D)
        Coordinates along the components, times rows.
    """

    counts: Array
    first: Array
    total: Array
    products: Array


def subspace_gradient(
    components: Array,
    precisions: Array,
    noise: Array,
    moments: ProjectedMoments,
    temperature: float,
) -> dict[str, Array]:
    """Return the gradient of the sum over rows of ``Hmax_T``.

    Parameters
    ----------
    components : ndarray of shape (..., d, D)
        Orthonormal.
    precisions : ndarray of shape (..., d)
    noise : ndarray of shape (...)
    moments : ProjectedMoments
    temperature : float

    Returns
    -------
    dict
        ``mean`` (..., D), ``components`` (..., d, D), whose changes keep these orthonormal,
        ``component_precisions`` (..., d) and ``noise_variance`` (...).
    """
    n_codes, n_features = components.shape[-2:]
    counts, inverse = moments.counts, 1.0 / noise
    gain = inverse[..., None] - precisions
    along = np.matmul(components, moments.first[..., None])[..., 0]
    pulled = np.matmul((gain * along)[..., None, :], components)[..., 0, :]
    ambient = gain[..., None] * moments.products
    overlap = np.matmul(ambient, np.swapaxes(components, -1, -2))
    overlap = 0.5 * (overlap + np.swapaxes(overlap, -1, -2))
    variances = np.einsum("...id,...id->...i", moments.products, components)
    of_precisions = -0.5 * variances
    if temperature > 0:
        of_precisions = of_precisions + 0.5 * temperature * counts[..., None] / precisions
    rest = moments.total - variances.sum(axis=-1)
    degrees = n_features - temperature * n_codes
    return {
        "mean": moments.first * inverse[..., None] - pulled,
        "components": ambient - np.matmul(overlap, components),
        "component_precisions": of_precisions,
        "noise_variance": 0.5 * inverse * (inverse * rest - counts * degrees),
    }


class ProjectedRows(RowKernel):
    """The pass that sums :class:`ProjectedMoments`; no covariance is formed.

    Parameters
    ----------
    means : ndarray of shape (S, D)
    components : ndarray of shape (S, d, D)
    """

    def __init__(self, means: Array, components: Array) -> None:
        self.means, self.components = means, components
        n_models, n_codes, n_features = components.shape
        self.chunk_rows = chunk_rows(n_models * (n_codes + n_features))

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> list[Array]:
        sums = np.zeros(len(self.means))
        return [sums, np.zeros_like(self.means), sums.copy(), np.zeros_like(self.components)]

    def accumulate(
        self,
        accumulator: list[Array],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        w = np.ones(len(X)) if weights is None else weights
        deviations = X - self.means[:, None]
        weighted = deviations * w[:, None]
        coordinates = np.matmul(self.components, np.swapaxes(weighted, 1, 2))
        accumulator[0] += w.sum()
        accumulator[1] += weighted.sum(axis=1)
        accumulator[2] += np.einsum("snd,snd->s", weighted, deviations)
        accumulator[3] += np.matmul(coordinates, deviations)

    def merge(self, accumulator: list[Array], other: list[Array]) -> list[Array]:
        for own, more in zip(accumulator, other, strict=True):
            own += more
        return accumulator

    def finish(self, accumulator: list[Array], total: float) -> ProjectedMoments:
        return ProjectedMoments(*accumulator)
