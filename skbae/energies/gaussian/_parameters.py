"""Parameters and moments of Gaussian components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from skbae._types import Array


@dataclass(frozen=True)
class GaussianParameters(ArrayRecord):
    """Means (S, K, D) and precision factors (S, C) + tail of the covariance's shape."""

    means: Array
    factors: Array


@dataclass(frozen=True)
class GaussianMoments(ArrayRecord):
    """Sums over rows, relative to a reference point of each component.

    ``first`` (S, K, D) adds ``r (x - reference)``; ``second`` (S, C) + tail adds the moments of
    ``x - reference``, over all components when tied.
    """

    first: Array
    second: Array
    reference: Array
