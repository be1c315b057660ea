"""Energies ``H(x, m, z)``, and the abstract classes by which you write your own.

An energy has three parts: a row x, a model m (its parameters), and a code z. Algorithms ask for
what they need by an abstract class, a *capability*, and name the methods that are missing.
:class:`~skbae.EnergyAutoEncoder` fits, samples and scores any energy with them, and
:func:`skbae.testing.check_energy` checks that the methods of an energy agree with each other.

Every array of parameters has a leading axis S: of starts, chains or draws that are computed side by
side. Parameters are an :class:`ArrayRecord`, a frozen dataclass of such arrays.

**Mixtures** are the energies most easily written: a family of components. The rest is inherited.

* :class:`ExponentialComponents`: components that are linear in features of a row.
  :class:`ConjugateExponentialComponents` adds a conjugate prior. Five to seven short methods.
* :class:`ComponentFamily` with its :class:`ComponentKernel`: any other components;
  :class:`ConjugateComponentFamily` and :class:`GradientComponentFamily` add a prior.
* :class:`MixtureEnergy` and :class:`ConjugateMixture` make an energy of a family,
  :class:`MixtureParameters` are its parameters.

**Other energies** derive from :class:`Energy`, whose :meth:`~Energy.bind` returns a
:class:`BoundEnergy`. The more of these capabilities they have, the more can be done:

* :class:`EnumerableBoundEnergy`: finitely many codes, which can be predicted.
* :class:`SmoothBoundEnergy`: gradients in x.
* :class:`ExpectationEnergy` and :class:`StatisticsEnergy`: expectation maximisation, by a pass over
  the rows, a :class:`RowKernel`.
* :class:`GradientEnergy`: tempered sampling of models, the evidence and modes, at any temperatures.
* :class:`ConjugateEnergy`, :class:`CollapsibleEnergy`: Gibbs sampling and evidence at T = tau.
* :class:`NoisyEnergy`: noise is removed from rows.

Nothing here depends on how a model is fitted or sampled, or on scikit-learn's conventions for
estimators.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skbae._types import ArrayRecord, Frame
    from skbae.energies._allocations import CollapsedModel
    from skbae.energies._base import (
        BoundEnergy,
        Energy,
        EnumerableBoundEnergy,
        ExpectationEnergy,
        RowKernel,
        SmoothBoundEnergy,
        StatisticsEnergy,
        require,
    )
    from skbae.energies._capabilities import (
        CollapsibleEnergy,
        ConjugateEnergy,
        GradientEnergy,
        NoisyEnergy,
    )
    from skbae.energies._distribution import Distribution, DistributionWithDensity
    from skbae.energies.mixture._components import (
        ComponentFamily,
        ComponentKernel,
        ConjugateComponentFamily,
        GradientComponentFamily,
        NoisyComponentFamily,
        SmoothComponentKernel,
    )
    from skbae.energies.mixture._conjugate import ConjugateMixture, SmoothConjugateMixture
    from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
    from skbae.energies.mixture._exponential import (
        ConjugateExponentialComponents,
        ExponentialComponents,
    )

# Where each public name is from; a module is imported when its first name is used.
_PUBLIC = {
    "skbae._types": ("ArrayRecord", "Frame"),
    "skbae.energies._allocations": ("CollapsedModel",),
    "skbae.energies._base": (
        "BoundEnergy",
        "Energy",
        "EnumerableBoundEnergy",
        "ExpectationEnergy",
        "RowKernel",
        "SmoothBoundEnergy",
        "StatisticsEnergy",
        "require",
    ),
    "skbae.energies._capabilities": (
        "CollapsibleEnergy",
        "ConjugateEnergy",
        "GradientEnergy",
        "NoisyEnergy",
    ),
    "skbae.energies._distribution": ("Distribution", "DistributionWithDensity"),
    "skbae.energies.mixture._components": (
        "ComponentFamily",
        "ComponentKernel",
        "ConjugateComponentFamily",
        "GradientComponentFamily",
        "NoisyComponentFamily",
        "SmoothComponentKernel",
    ),
    "skbae.energies.mixture._conjugate": ("ConjugateMixture", "SmoothConjugateMixture"),
    "skbae.energies.mixture._energy": ("MixtureEnergy", "MixtureParameters"),
    "skbae.energies.mixture._exponential": (
        "ConjugateExponentialComponents",
        "ExponentialComponents",
    ),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "ArrayRecord",
    "BoundEnergy",
    "CollapsedModel",
    "CollapsibleEnergy",
    "ComponentFamily",
    "ComponentKernel",
    "ConjugateComponentFamily",
    "ConjugateEnergy",
    "ConjugateExponentialComponents",
    "ConjugateMixture",
    "Distribution",
    "DistributionWithDensity",
    "Energy",
    "EnumerableBoundEnergy",
    "ExpectationEnergy",
    "ExponentialComponents",
    "Frame",
    "GradientComponentFamily",
    "GradientEnergy",
    "MixtureEnergy",
    "MixtureParameters",
    "NoisyComponentFamily",
    "NoisyEnergy",
    "RowKernel",
    "SmoothBoundEnergy",
    "SmoothComponentKernel",
    "SmoothConjugateMixture",
    "StatisticsEnergy",
    "require",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'skbae.energies' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
