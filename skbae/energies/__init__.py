"""Energies ``H(x, m, z)``, and the abstract classes by which you write your own.

An energy has three parts: a row x, a model m (its parameters), and a code z. Algorithms ask for
what they need by an abstract class, a *capability*, and name the methods that are missing.
:class:`~skbae.EnergyAutoEncoder` fits, samples and scores any energy with them, and
:func:`skbae.testing.check_energy` checks that the methods of an energy agree with each other.

Every array of parameters has a leading axis S: of starts, chains or draws that are computed side by
side. Parameters are an :class:`ArrayRecord`, a frozen dataclass of such arrays.

**Mixtures** are the energies most easily written: a family of components. The rest is inherited.

* :class:`ExponentialComponents`: components that are linear in features of a row.
  :class:`ConjugateExponentialComponents` adds a conjugate prior. Six to eight short methods.
  :class:`NaturalExponentialComponents` are sampled at any temperatures.
* :class:`ComponentFamily` with its :class:`ComponentKernel`: any other components.
  :class:`ConjugateComponentFamily` and :class:`GradientComponentFamily` add a prior,
  :class:`StartableFamily` starts of fits, :class:`DecodableFamily` reconstructions of rows.
* :func:`mixture_energy` makes an energy of a family: a :class:`MixtureEnergy`, with the prior that
  its components allow a :class:`ConjugateMixture`, :class:`SmoothConjugateMixture` or
  :class:`SmoothMixture`. :class:`MixtureParameters` are the parameters. :class:`MixtureOf` is the
  recipe of such an energy, for rows of any number of columns.

**Other energies** derive from :class:`Energy`, whose :meth:`~Energy.bind` returns a
:class:`BoundEnergy`. The more of these capabilities they have, the more can be done:

* :class:`EnumerableBoundEnergy`: finitely many codes, which can be predicted.
* :class:`SmoothBoundEnergy`: gradients in x.
* :class:`ExpectationEnergy` and :class:`StatisticsEnergy`: expectation maximisation, by a pass over
  the rows, a :class:`RowKernel`.
* :class:`GradientEnergy`: tempered sampling of models, the evidence and modes, at any temperatures.
  :class:`RowGradientEnergy` is one that you write as a function of rows and coordinates.
* :class:`ConjugateEnergy`, :class:`CollapsibleEnergy`: Gibbs sampling and evidence at T = tau.
* :class:`StartableEnergy`: models to start fits from; :class:`DecodableEnergy`: rows given codes;
  :class:`NoisyEnergy`: noise is removed from rows.
* :class:`EnergyRecipe`: an energy that depends on the rows.

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
        DecodableEnergy,
        GradientEnergy,
        NoisyEnergy,
        StartableEnergy,
    )
    from skbae.energies._distribution import Distribution, DistributionWithDensity
    from skbae.energies._recipe import EnergyRecipe
    from skbae.energies._row_gradients import Coordinates, RowGradientEnergy
    from skbae.energies.mixture._components import (
        ComponentFamily,
        ComponentKernel,
        ConjugateComponentFamily,
        DecodableFamily,
        GradientComponentFamily,
        NoisyComponentFamily,
        SmoothComponentKernel,
        StartableFamily,
    )
    from skbae.energies.mixture._conjugate import ConjugateMixture, SmoothConjugateMixture
    from skbae.energies.mixture._coordinates import SmoothMixture
    from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
    from skbae.energies.mixture._exponential import (
        ConjugateExponentialComponents,
        ExponentialComponents,
        NaturalExponentialComponents,
    )
    from skbae.energies.mixture._recipe import MixtureOf, mixture_energy

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
        "DecodableEnergy",
        "GradientEnergy",
        "NoisyEnergy",
        "StartableEnergy",
    ),
    "skbae.energies._distribution": ("Distribution", "DistributionWithDensity"),
    "skbae.energies._recipe": ("EnergyRecipe",),
    "skbae.energies._row_gradients": ("Coordinates", "RowGradientEnergy"),
    "skbae.energies.mixture._components": (
        "ComponentFamily",
        "ComponentKernel",
        "ConjugateComponentFamily",
        "DecodableFamily",
        "GradientComponentFamily",
        "NoisyComponentFamily",
        "SmoothComponentKernel",
        "StartableFamily",
    ),
    "skbae.energies.mixture._conjugate": ("ConjugateMixture", "SmoothConjugateMixture"),
    "skbae.energies.mixture._coordinates": ("SmoothMixture",),
    "skbae.energies.mixture._energy": ("MixtureEnergy", "MixtureParameters"),
    "skbae.energies.mixture._exponential": (
        "ConjugateExponentialComponents",
        "ExponentialComponents",
        "NaturalExponentialComponents",
    ),
    "skbae.energies.mixture._recipe": ("MixtureOf", "mixture_energy"),
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
    "Coordinates",
    "DecodableEnergy",
    "DecodableFamily",
    "Distribution",
    "DistributionWithDensity",
    "Energy",
    "EnergyRecipe",
    "EnumerableBoundEnergy",
    "ExpectationEnergy",
    "ExponentialComponents",
    "Frame",
    "GradientComponentFamily",
    "GradientEnergy",
    "MixtureEnergy",
    "MixtureOf",
    "MixtureParameters",
    "NaturalExponentialComponents",
    "NoisyComponentFamily",
    "NoisyEnergy",
    "RowGradientEnergy",
    "RowKernel",
    "SmoothBoundEnergy",
    "SmoothComponentKernel",
    "SmoothConjugateMixture",
    "SmoothMixture",
    "StartableEnergy",
    "StartableFamily",
    "StatisticsEnergy",
    "mixture_energy",
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
