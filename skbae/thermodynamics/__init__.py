"""Families of models as physical systems: gradients, free energies and critical temperatures."""

from __future__ import annotations

from skbae.thermodynamics._codes import CodeTemperatureCurve, code_temperature_curve
from skbae.thermodynamics._critical import (
    CriticalTemperatures,
    SplitTree,
    critical_temperatures,
)
from skbae.thermodynamics._free_energy import FreeEnergyCurve, free_energy_curve
from skbae.thermodynamics._gradient import hmaxe_gradient
from skbae.thermodynamics._learning import LearningCoefficient, learning_coefficient

__all__ = [
    "CodeTemperatureCurve",
    "CriticalTemperatures",
    "FreeEnergyCurve",
    "LearningCoefficient",
    "SplitTree",
    "code_temperature_curve",
    "critical_temperatures",
    "free_energy_curve",
    "hmaxe_gradient",
    "learning_coefficient",
]
