"""Which kernel computes the energies and sums of PCA components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.mixture_pca._kernel import (
    PCAComponents,
    ProductKernel,
    ResidualKernel,
    residual_kernel,
    rounding_bound,
)
from skbae.energies.mixture_pca._many_components import ManyComponentsKernel, are_many

if TYPE_CHECKING:
    from skbae._types import Array, Frame

# Largest bound on the rounding error of one energy, in nats; as for Gaussian components.
_SINGLE_TOLERANCE = 4e-2
_DOUBLE_TOLERANCE = 1e-6


def bind_components(
    log_weights: Array, params: PCAComponents, frame: Frame, dtype: Any
) -> ProductKernel | ResidualKernel:
    """Return the cheapest kernel that is accurate enough for these parameters."""
    single = np.dtype(dtype) == np.float32
    many = are_many(*params.components.shape[1:])
    for precision, tolerance in ((np.float32, _SINGLE_TOLERANCE), (np.float64, _DOUBLE_TOLERANCE)):
        if precision is np.float32 and not single:
            continue
        bound = rounding_bound(params, frame, precision)
        if bound.max() < tolerance:
            kind = ManyComponentsKernel if many else ProductKernel
            return kind(log_weights, params, frame.centre, precision, bound)
    return residual_kernel(log_weights, params, frame)
