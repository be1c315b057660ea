"""Families of models as physical systems: gradients and critical temperatures."""

from __future__ import annotations

from skbae.thermodynamics._critical import (
    CriticalTemperatures,
    SplitTree,
    critical_temperatures,
)
from skbae.thermodynamics._gradient import hmaxe_gradient

__all__ = ["CriticalTemperatures", "SplitTree", "critical_temperatures", "hmaxe_gradient"]
