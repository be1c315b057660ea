"""Settings of BayesianMixtureAutoEncoder, and the form of its fitted models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.components._noise import Box, NoisyFamily
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.estimators._mixture import MixtureSettings, mixture_settings
from skbae.estimators._settings import Given, check_memory
from skbae.estimators.mixture._gaussian import Gaussian
from skbae.estimators.mixture._specs import (
    Bernoulli,
    Categorical,
    Component,
    Exponential,
    Poisson,
    Uniform,
)
from skbae.estimators.mixture._student import StudentT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from skbae._types import Array, Rows
    from skbae.estimators._plans import SamplerPlans
    from skbae.estimators.mixture._table import Block, Table
    from skbae.inference.passes._rows import RowRunner

NAMED: dict[str, type[Component]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "exponential": Exponential,
    "student_t": StudentT,
}


def with_noise(family: Any, box: Box | None) -> Any:
    """Return a family with noise on a box, if there is one, after its components."""
    return family if box is None else NoisyFamily(family, box)


@dataclass(frozen=True)
class MixtureForm:
    """Form of a fitted model, and the reference model.

    Attributes
    ----------
    n_components : int
    equal_weights : bool
    table : Table
    reference : MixtureParameters
    box : Box or None
        Of the noise, if there is any.
    """

    n_components: int
    equal_weights: bool
    table: Table
    reference: MixtureParameters
    box: Box | None = None

    def energy(self) -> MixtureEnergy[Any]:
        """Return the energy, without a prior."""
        factors = [
            block.component._family(self.n_components, block.place) for block in self.table.blocks
        ]
        return MixtureEnergy(with_noise(self.table.family(factors), self.box), self.equal_weights)

    @property
    def n_labels(self) -> int:
        """Number of codes: one for each component, and one for noise."""
        return self.n_components + (self.box is not None)

    def factors(self) -> Iterator[tuple[Block, Any, Any]]:
        """Give the blocks with their families, and the reference model's parameters."""
        parts = self.table.parts(self.reference.components)
        for block, own in zip(self.table.blocks, parts, strict=True):
            yield block, block.component._family(self.n_components, block.place), own

    def means(self) -> Array:
        """Return the expected entries of each component, (K, D); NaN for categories."""
        found = np.empty((self.n_components, self.table.n_features))
        for block, family, own in self.factors():
            found[:, block.columns] = block.component._means(family, own)
        if self.box is None:
            return found
        return np.vstack([found, np.where(np.isnan(found).all(axis=0), np.nan, self.box.mean)])

    def parameters(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of the reference model, by name of the component."""
        found = {
            block.place.name: block.component._attributes(own, block.place)
            for block, _, own in self.factors()
        }
        if self.box is not None:
            found["noise"] = {"lower": self.box.lower, "upper": self.box.upper}
        return found


@dataclass(frozen=True, kw_only=True)
class ComponentMixtureSettings(MixtureSettings):
    """Parameters of a mixture of any components, as documented in the estimator."""

    sampling_advice: ClassVar[str] = (
        "Try fewer n_components, components with fewer parameters or informative priors, or more "
        "starts (n_init) and draws (n_models);"
    )

    components: tuple[tuple[str, Component, Any], ...]
    noise: Uniform | None
    evidence_tol: float | None

    @classmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        return cls(
            **mixture_settings(estimator, given.completed(annealing=None), plans),
            components=tuple(_read_components(given["components"])),
            noise=_read_noise(given["noise"], given["equal_weights"]),
            evidence_tol=given.optional_real("evidence_tol", above=0),
        )

    def check_data(self, n_rows: int, n_features: int) -> None:
        """Raise ValueError unless the parameters fit the number of rows and of features."""
        self.check_enough_rows(n_rows)
        what = f"n_components={self.n_components} and {n_features} columns"
        size = self.n_components * (1 + 2 * n_features)
        check_memory(size, self.n_models if self.samples else 1, what)

    def priors(self, table: Table, rows: Rows, runner: RowRunner) -> list[dict[str, Any]]:
        """Return the prior of each block's components, with what None stood for."""
        return [block.component._prior(own, self, runner) for block, own in table.each(rows)]


def _read_components(given: Any) -> list[tuple[str, Component, Any]]:
    """Return names, components and columns; columns None stands for all."""
    if isinstance(given, (str, Component)):
        component = _read_component(given, "components")
        kind = type(component)
        names = [name for name, own in NAMED.items() if own is kind]
        name = names[0] if names else kind.__name__.lower()
        component._check(name)
        return [(name, component, None)]
    if not isinstance(given, (list, tuple)) or not given:
        raise TypeError(
            "components must be a name, a component of skbae.components, or a list of (name, "
            f"component, columns), got {given!r}"
        )
    found: list[tuple[str, Component, Any]] = []
    for entry in given:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3:
            raise TypeError(
                f"components must be a list of (name, component, columns), got an entry {entry!r}"
            )
        name, component, columns = entry
        if not isinstance(name, str) or not name:
            raise TypeError(f"names of components must be strings, got {name!r}")
        if name in [other for other, _, _ in found]:
            raise ValueError(f"names of components must differ, got {name!r} twice")
        own = _read_component(component, f"component {name!r}")
        own._check(name)
        if name == "noise":
            raise ValueError("the name 'noise' is that of the parameter noise; choose another")
        if columns is None:
            raise TypeError(f"columns of component {name!r} must be given, got None")
        found.append((name, own, columns))
    return found


def _read_noise(given: Any, equal_weights: Any) -> Uniform | None:
    if given is None:
        return None
    if not (isinstance(given, Uniform) or given == "uniform"):
        raise ValueError(
            f"noise must be None, 'uniform' or skbae.components.Uniform(...), got {given!r}"
        )
    if equal_weights:
        raise ValueError(
            "noise has a weight of its own, and equal_weights=True fixes all; set noise=None or "
            "equal_weights=False"
        )
    return given if isinstance(given, Uniform) else Uniform()


def _read_component(given: Any, what: str) -> Component:
    if isinstance(given, Component):
        return given
    if isinstance(given, str) and given in NAMED:
        return NAMED[given]()
    names = ", ".join(map(repr, NAMED))
    raise ValueError(
        f"{what} must be one of {names}, or a component of skbae.components, got {given!r}"
    )
