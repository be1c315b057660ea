"""How to make a mixture's energy once the number of columns is known."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._recipe import EnergyRecipe
from skbae.energies.mixture._components import (
    ComponentFamily,
    ConjugateComponentFamily,
    GradientComponentFamily,
)
from skbae.energies.mixture._conjugate import ConjugateMixture, SmoothConjugateMixture
from skbae.energies.mixture._coordinates import SmoothMixture
from skbae.energies.mixture._energy import MixtureEnergy

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array


# Parameters of a recipe that are not the family's.
_OWN = ("family", "n_components", "concentration", "equal_weights")


def mixture_energy(
    family: ComponentFamily, concentration: float = 1.0, equal_weights: bool = False
) -> MixtureEnergy[Any]:
    """Return the energy of a mixture, with the prior that its components allow.

    Parameters
    ----------
    family : ComponentFamily
    concentration : float, default=1.0
        Concentration of the weights' Dirichlet prior, of each.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    """
    if not isinstance(family, ComponentFamily):
        raise TypeError(f"family must be a ComponentFamily, got {type(family).__name__}")
    concentrations = np.full(family.n_components, float(concentration))
    both: Any = family
    if isinstance(both, ConjugateComponentFamily) and isinstance(both, GradientComponentFamily):
        return SmoothConjugateMixture(both, concentrations, equal_weights)
    if isinstance(family, ConjugateComponentFamily):
        return ConjugateMixture(family, concentrations, equal_weights)
    if isinstance(family, GradientComponentFamily):
        return SmoothMixture(family, concentrations, equal_weights)
    return MixtureEnergy(family, equal_weights)


class MixtureOf(EnergyRecipe):
    """A mixture of components of one class, made for the columns of the rows.

    Parameters
    ----------
    family : callable
        The class of the components, a ComponentFamily: it is called as ``family(n_components,
        n_features, **settings)``. (A recipe is pickled if this can be: a class of a module can.)
    n_components : int, default=1
    concentration : float, default=1.0
        Concentration of the weights' Dirichlet prior.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    **settings : dict
        Further arguments of the class. They, and those left at their defaults, are parameters of
        the recipe as well.

    Examples
    --------
    >>> from skbae import EnergyAutoEncoder
    >>> from skbae.energies import ExponentialComponents, MixtureOf
    >>> class Gammas(ExponentialComponents):
    ...     def __init__(self, n_components, n_features, shape=3.0):
    ...         self.n_components, self.n_features, self.shape = n_components, n_features, shape
    >>> recipe = MixtureOf(Gammas, n_components=2)
    >>> recipe
    MixtureOf(Gammas, n_components=2, concentration=1.0, equal_weights=False, shape=3.0)
    >>> estimator = EnergyAutoEncoder(recipe).set_params(energy__shape=4.0)
    >>> estimator.get_params()["energy__shape"]
    4.0
    """

    def __init__(
        self,
        family: Any,
        n_components: int = 1,
        *,
        concentration: float = 1.0,
        equal_weights: bool = False,
        **settings: Any,
    ) -> None:
        self.family, self.n_components = family, n_components
        self.concentration, self.equal_weights = concentration, equal_weights
        self.settings = settings

    def _arguments(self) -> dict[str, Any]:
        """Return the further arguments of the class, those with defaults included."""
        try:
            parameters = list(signature(self.family).parameters.values())[2:]
        except (TypeError, ValueError):  # what has no signature
            parameters = []
        defaults = {
            each.name: each.default
            for each in parameters
            if each.default is not each.empty and each.name not in _OWN
        }
        return {**defaults, **self.settings}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            As in scikit-learn; no parameter has parameters of its own.
        """
        return {
            "family": self.family,
            "n_components": self.n_components,
            "concentration": self.concentration,
            "equal_weights": self.equal_weights,
            **self._arguments(),
        }

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{name!r} is no parameter of this MixtureOf; these are {', '.join(known)}"
                )
            if name in _OWN:
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def __repr__(self) -> str:
        name = getattr(self.family, "__name__", repr(self.family))
        rest = {key: value for key, value in self.get_params().items() if key != "family"}
        return f"MixtureOf({', '.join([name, *(f'{key}={rest[key]!r}' for key in rest)])})"

    def for_rows(self, X: Array) -> MixtureEnergy[Any]:
        if not isinstance(self.n_components, (int, np.integer)) or self.n_components < 1:
            raise ValueError(
                f"n_components of MixtureOf must be an integer >= 1, got {self.n_components!r}"
            )
        if not self.concentration > 0:
            raise ValueError(
                f"concentration of MixtureOf must be positive, got {self.concentration!r}"
            )
        family = self.family(int(self.n_components), X.shape[1], **self._arguments())
        return mixture_energy(family, self.concentration, self.equal_weights)
