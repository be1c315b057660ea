"""Settings of a fit of any energy, and the energy that is made for the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import Energy
from skbae.energies._capabilities import ConjugateEnergy, GradientEnergy
from skbae.energies._recipe import EnergyRecipe
from skbae.energies.mixture._components import ComponentFamily
from skbae.estimators._settings import Given, Settings, common_settings

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Array
    from skbae.estimators._plans import SamplerPlans

INITS = ("kmeans", "random")


@dataclass(frozen=True, kw_only=True)
class EnergySettings(Settings):
    """Settings of :class:`~skbae.estimators.energy._estimator.EnergyAutoEncoder`."""

    sampling_advice: ClassVar[str] = (
        "Decrease the number of codes, raise model_temperature, choose a narrower prior, or set "
        "model_temperature=0 to fit the single best model."
    )

    energy: Any
    params_init: Any
    n_init: int
    init_params: str
    evidence_tol: float | None
    tol: float
    max_iter: int

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        energy, params = given["energy"], given["params_init"]
        if not isinstance(energy, Energy) and not callable(getattr(energy, "for_rows", None)):
            hint = ""
            if isinstance(energy, ComponentFamily):
                hint = "; skbae.energies.mixture_energy makes an energy of a family of components"
            elif isinstance(energy, type):
                hint = "; MixtureOf makes a recipe of a class of components"
            raise TypeError(
                "energy must be an Energy of skbae.energies, or an EnergyRecipe (with a method "
                f"for_rows), got {energy!r}{hint}"
            )
        if params is not None and not isinstance(params, ArrayRecord):
            raise TypeError(
                f"params_init must be None or an ArrayRecord of models, got {type(params).__name__}"
            )
        return cls(
            **common_settings(estimator, given, plans),
            energy=energy,
            params_init=params,
            n_init=given.integer("n_init", minimum=1),
            init_params=given.choice("init_params", INITS),
            evidence_tol=given.optional_real("evidence_tol", above=0),
            tol=given.real("tol", at_least=0),
            max_iter=given.integer("max_iter", minimum=0),
        )

    def energy_for(self, X: Array) -> Energy:
        """Return the energy for rows (N, D)."""
        energy = self.energy
        if not isinstance(energy, Energy):
            recipe: EnergyRecipe = energy
            energy = recipe.for_rows(X)
            if not isinstance(energy, Energy):
                raise TypeError(
                    f"for_rows of {type(recipe).__name__} must return an Energy, got "
                    f"{type(energy).__name__}"
                )
        if energy.n_features != X.shape[1]:
            raise ValueError(
                f"X has {X.shape[1]} columns, but the energy {type(energy).__name__} is for "
                f"n_features={energy.n_features}"
            )
        return energy

    def sweeps(self, weights: Array | None) -> bool:
        """Return whether models can be sampled by Gibbs sweeps, given weights of rows."""
        whole = weights is None or bool(np.all(weights == np.round(weights)))
        return self.temperature == self.model_temperature and self.tilt == 0 and whole


def check_samplable(settings: EnergySettings, energy: Energy) -> None:
    """Raise TypeError naming what is missing unless the models of an energy can be sampled.

    Only for energies that are no ConjugateEnergy, or settings at which these need gradients too.
    """
    if isinstance(energy, GradientEnergy):
        return
    name = type(energy).__name__
    lacks = sorted(
        method for method in GradientEnergy.__abstractmethods__ if not hasattr(energy, method)
    )
    gibbs = (
        "and ConjugateEnergy needs model_temperature=temperature, tilt=0 and integer weights"
        if isinstance(energy, ConjugateEnergy)
        else "and it is no ConjugateEnergy"
    )
    raise TypeError(
        f"sampling models at temperature={settings.temperature:g}, model_temperature="
        f"{settings.model_temperature:g} and tilt={settings.tilt:g} needs a GradientEnergy, but "
        f"{name} lacks {', '.join(lacks) or 'GradientEnergy among its bases'}, {gibbs}. Set "
        "model_temperature=0 to fit the single best model."
    )
