"""What a mixture's components must offer, and what they may.

Whatever can be phrased as a mixture of something is written against this file: a
:class:`ComponentFamily` (and its :class:`ComponentKernel`) says what the components are, and
``MixtureEnergy`` of ``_energy.py`` does the rest: weights, codes, temperature, tilt and
the pass over the rows. The other classes are capabilities, as in ``_capabilities.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from skbae._types import Array, ArrayRecord, Frame


class ComponentKernel(ABC):
    """The components of S mixtures with parameters filled in: log densities and sums over rows."""

    numbers_per_row: int
    """Float64 numbers of work space a row takes, for the size of chunks."""
    dtype: Any
    """Precision of the products."""
    rounding: Array
    """Bound on the rounding error of an energy, (S,): at T = 0 energies this close are a tie."""

    @abstractmethod
    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        """Return scratch arrays for up to `n_rows` rows, reusing those of an earlier kernel."""

    @abstractmethod
    def load(self, X: NDArray[Any], workspace: Any) -> None:
        """Prepare a chunk of shape (n, D): centred, as features, features first."""

    @abstractmethod
    def energies(self, workspace: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return ``log w_k + H_k`` of shape (S, K, n), and a part all components share, (S, n).

        The first array belongs to the workspace and may be overwritten by the caller.
        """

    @abstractmethod
    def zero(self) -> list[Array]:
        """Return empty sums."""

    @abstractmethod
    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Any,
    ) -> None:
        """Add a loaded chunk's statistics, weighted by codes (S, K, n) that sum to row weights.

        `row_weights` has the shape (S, n) or (1, n); None stands for ones.
        """

    @abstractmethod
    def moments(self, sums: list[Array]) -> tuple[Array, Any]:
        """Turn sums into counts (S, K) and an ArrayRecord of the components' statistics."""

    @abstractmethod
    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        """Return ``sum_k codes_k dH_k/dx`` of shape (S, n, D) for codes of shape (S, K, n)."""


class ComponentFamily(ABC):
    """What the components of a mixture are: the part of a mixture that is not the weights.

    All `params` and `moments` are ArrayRecords with shapes (S, K, ...).
    """

    n_components: int
    n_features: int

    @abstractmethod
    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> ComponentKernel:
        """Fill in parameters and finite log weights (S, K)."""

    def code_entropy(self, params: Any, temperature: float) -> Array | None:
        """Return what components add to their energy at T by summing over their own codes, (S, K).

        None for components without codes of their own, whose energy has no temperature.
        """
        return None

    @abstractmethod
    def maximise(self, counts: Array, moments: Any, params: Any) -> Any:
        """Return the maximising components; one without rows stays as in `params`."""

    @abstractmethod
    def expected_moments(self, counts: Array, params: Any, like: Any) -> Any:
        """Return the moments `params` expect of so many rows each, about `like`'s reference."""

    @abstractmethod
    def mix_moments(self, first: Any, second: Any, step: Array) -> Any:
        """Return ``(1 - step) first + step second``, for `step` of shape (S,)."""

    @abstractmethod
    def draw(
        self, params: Any, models: NDArray[np.intp], labels: NDArray[np.intp], rng: Any
    ) -> Array:
        """Draw a row from component `labels[i]` of model `models[i]` each: shape (n, D)."""

    @abstractmethod
    def convolve(self, params: Any, variance: float) -> Any:
        """Add noise of `variance` to every component."""

    @abstractmethod
    def n_parameters(self) -> int:
        """Return the number of free parameters of all components of one model."""

    @abstractmethod
    def means(self, params: ArrayRecord) -> Array:
        """Return the components' expected rows, of shape (S, K, D)."""


class ConjugateComponentFamily(ComponentFamily):
    """Components with a conjugate prior; for the names see ``_capabilities.py``."""

    @abstractmethod
    def conditional(self, counts: Array, moments: Any, temperature: float) -> Any:
        """Return the components' conditionals given codes."""

    @abstractmethod
    def draw_conditional(self, conditional: Any, rng: np.random.Generator) -> Any:
        """Draw components from each conditional."""

    @abstractmethod
    def draw_prior(self, n_models: int, rng: np.random.Generator) -> Any:
        """Draw components from the prior."""

    @abstractmethod
    def linear_form(self, conditional: Any, params: Any) -> tuple[Array, Array, Array | None]:
        """Return log densities of components under conditionals as inner products.

        ``of_models`` (S, K, F) and ``of_conditionals`` (M, K, F), and the log density (S, M) of
        what all components share, or None.
        """

    @abstractmethod
    def log_prior(self, params: Any) -> Array:
        """Return the log prior density of all components, (S,)."""

    @abstractmethod
    def mode(self, conditional: Any) -> Any:
        """Return the conditionals' modes."""

    @abstractmethod
    def log_mode_measure(self, params: Any) -> Array:
        """Return the log of the measure in which :meth:`mode` is one, (S,)."""

    @abstractmethod
    def permute(self, params: Any, order: NDArray[np.intp]) -> Any:
        """Return components with labels reordered: ``order`` has shape (S, K)."""


class GradientComponentFamily(ComponentFamily):
    """Components in unconstrained coordinates (S, P); for the names see ``_capabilities.py``."""

    @abstractmethod
    def coordinate_kinds(self) -> NDArray[np.intp]:
        """Return labels of the coordinates, (P,), from zero on."""

    @abstractmethod
    def unconstrain(self, params: Any) -> Array:
        """Return coordinates of components."""

    @abstractmethod
    def constrain(self, theta: Array) -> Any:
        """Return the components at coordinates."""

    @abstractmethod
    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density in the coordinates, (S,), and its gradient."""

    @abstractmethod
    def energy_gradient(self, theta: Array, counts: Array, moments: Any) -> Array:
        """Return the gradient of the sum over rows and components of ``codes_k H_k``."""

    @abstractmethod
    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        """Draw coordinates of components from the prior."""
