"""Functionals of a family as its models cool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.plotting._canvas import NEUTRAL, STATUS_MARKERS, axes_for, colours
from skbae.thermodynamics import FreeEnergyCurve, free_energy_curve

if TYPE_CHECKING:
    from typing import Self

# What is drawn, in which units, and what it is called.
_UNITS = {
    "hmaxemax": "nats a row",
    "internal_energy": "nats a row",
    "information_gain": "nats",
    "heat_capacity": "heat capacity",
}
_NAMES = {
    "hmaxemax": "Hmaxemax",
    "internal_energy": "internal energy G",
    "information_gain": "information gain",
    "heat_capacity": "heat capacity",
}


class FreeEnergyDisplay:
    """Hmaxemax, internal energy, information gain or heat capacity as models cool.

    The axis is the model temperature, which falls from left to right. Points at which the sampling
    is not "ok" are squares ("suspect") or crosses ("failed"), not discs.

    Parameters
    ----------
    curve : FreeEnergyCurve
    quantities : tuple of str, default=("internal_energy", "hmaxemax")
        Which of ``hmaxemax``, ``internal_energy``, ``information_gain`` and ``heat_capacity`` are
        drawn; all in the same units.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One for each quantity; bars are standard errors.
    points_ : dict
        From a quantity and a status to the Line2D of its points.

    See Also
    --------
    skbae.thermodynamics.free_energy_curve : What is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.plotting import FreeEnergyDisplay
    >>> from skbae.thermodynamics import free_energy_curve
    >>> X = np.random.default_rng(0).standard_normal((100, 2))
    >>> curve = free_energy_curve(BayesianGMMAutoEncoder(random_state=0), X, [100, 10, 1])
    >>> display = FreeEnergyDisplay.from_curve(curve, quantities="information_gain")
    >>> display.ax_.get_ylabel()
    'information gain (nats)'
    """

    ax_: Any
    figure_: Any
    errorbars_: list[Any]
    points_: dict[tuple[str, str], Any]

    def __init__(
        self,
        curve: FreeEnergyCurve,
        *,
        quantities: tuple[str, ...] = ("internal_energy", "hmaxemax"),
    ) -> None:
        self.curve = curve
        self.quantities = quantities

    @classmethod
    def from_curve(
        cls,
        curve: FreeEnergyCurve,
        *,
        quantities: str | tuple[str, ...] = ("internal_energy", "hmaxemax"),
        ax: Any = None,
    ) -> Self:
        """Draw a curve that :func:`~skbae.thermodynamics.free_energy_curve` has returned.

        Parameters
        ----------
        curve : FreeEnergyCurve
        quantities : str or tuple of str, default=("internal_energy", "hmaxemax")
            What is drawn, in the same units.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        FreeEnergyDisplay

        Raises
        ------
        TypeError
            If it is no such curve.
        ValueError
            If a quantity is unknown, or units differ.
        """
        if not isinstance(curve, FreeEnergyCurve):
            raise TypeError(
                "curve must be what skbae.thermodynamics.free_energy_curve returns, got "
                f"{type(curve).__name__}"
            )
        ax = axes_for(ax, "FreeEnergyDisplay")
        return cls(curve, quantities=_check_quantities(quantities)).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        model_temperatures: Any = None,
        sample_weight: Any = None,
        quantities: str | tuple[str, ...] = ("internal_energy", "hmaxemax"),
        ax: Any = None,
    ) -> Self:
        """Sample the models at several temperatures, and draw the curve.

        Parameters
        ----------
        estimator : estimator of skbae
            Fitted or not: each temperature is a fit of its own.
        X : array-like of shape (n_samples, n_features)
        model_temperatures : array-like of shape (n_temperatures,) or None, default=None
            As for :func:`~skbae.thermodynamics.free_energy_curve`.
        sample_weight : array-like of shape (n_samples,) or None, default=None
        quantities : str or tuple of str, default=("internal_energy", "hmaxemax")
            What is drawn, in the same units.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        FreeEnergyDisplay
        """
        checked = _check_quantities(quantities)
        ax = axes_for(ax, "FreeEnergyDisplay")
        curve = free_energy_curve(estimator, X, model_temperatures, sample_weight)
        return cls(curve, quantities=checked).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        FreeEnergyDisplay
            Itself.
        """
        self.ax_ = axes_for(ax, "FreeEnergyDisplay")
        self.figure_ = self.ax_.figure
        self.errorbars_, self.points_ = [], {}
        taus, status = self.curve.model_temperatures, np.array(self.curve.status)
        present = [each for each in STATUS_MARKERS if each in status]
        for quantity, colour in zip(self.quantities, colours(len(self.quantities)), strict=True):
            values = getattr(self.curve, quantity)
            errors = getattr(self.curve, f"{quantity}_error")
            bars = self.ax_.errorbar(
                taus, values, errors, color=colour, capsize=3, label=_NAMES[quantity]
            )
            self.errorbars_.append(bars)
            for each in present:
                own = status == each
                (self.points_[quantity, each],) = self.ax_.plot(
                    taus[own], values[own], STATUS_MARKERS[each], color=colour, ms=6
                )
        for each in present:
            if each != "ok":
                self.ax_.plot([], [], STATUS_MARKERS[each], color=NEUTRAL, label=each)
        self.ax_.set_xscale("log")
        if not self.ax_.xaxis_inverted():
            self.ax_.invert_xaxis()
        self.ax_.set(xlabel="model temperature", ylabel=self._axis_label())
        if len(self.quantities) > 1 or present != ["ok"]:
            self.ax_.legend()
        return self

    def _axis_label(self) -> str:
        units = _UNITS[self.quantities[0]]
        if len(self.quantities) > 1 or self.quantities == ("heat_capacity",):
            return units
        return f"{_NAMES[self.quantities[0]]} ({units})"


def _check_quantities(quantities: Any) -> tuple[str, ...]:
    names = (quantities,) if isinstance(quantities, str) else tuple(quantities)
    unknown = [name for name in names if name not in _UNITS]
    if unknown or not names:
        raise ValueError(
            f"quantities must be among {', '.join(map(repr, _UNITS))}, got {quantities!r}"
        )
    if len({_UNITS[name] for name in names}) > 1:
        raise ValueError(f"quantities must have the same units, got {quantities!r}")
    return names
