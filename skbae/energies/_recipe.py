"""Recipes of energies, for what depends on the rows: the number of columns, default priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies._base import Energy


class EnergyRecipe(ABC):
    """Makes an energy for given rows.

    Parameters of a recipe with ``get_params`` and ``set_params`` (such as those of
    ``sklearn.base.BaseEstimator``) are parameters ``energy__...`` of an estimator.
    """

    @abstractmethod
    def for_rows(self, X: Array) -> Energy:
        """Return the energy for rows (N, D); the recipe itself does not change."""
