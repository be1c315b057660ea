"""Abstract classes of a mixture's components, and the capabilities they may have.

A mixture consists of a :class:`ComponentFamily` (with its :class:`ComponentKernel`), which defines
the components, and of ``MixtureEnergy`` in ``_energy.py``, which handles weights, codes,
temperature, tilt and the pass over the rows. Components that are linear in features of a row derive
from ``ExponentialComponents`` in ``_exponential.py`` and need only write features and parameters.

The other classes are capabilities, as in ``_capabilities.py``: conjugate priors, unconstrained
coordinates, noise added to the data, gradients in x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows
    from skbae.energies.mixture._collapsed import CollapsedComponents
    from skbae.energies.mixture._splits import SplitScores
    from skbae.operators._gaps import Gaps

Components = TypeVar("Components", bound=ArrayRecord)


@dataclass(frozen=True)
class WorkspaceKey:
    """Identifies the features in a workspace: kernels with equal keys share them.

    Attributes
    ----------
    kernel : str
        Name of the kind of features.
    n_rows, n_features : int
        Shape of the array of features.
    dtype : str
    centre : bytes
        The point that is subtracted from the rows.
    owner : object or None
        The object whose method computes the features, if `kernel` does not determine them.
    """

    kernel: str
    n_rows: int
    n_features: int
    dtype: str
    centre: bytes = b""
    owner: object | None = None


class Workspace:
    """Scratch arrays of one thread.

    Attributes
    ----------
    key : WorkspaceKey
    source : ndarray or None
        The chunk of rows whose features are loaded.
    n : int
        Number of rows of the chunk.
    arrays : dict
    gaps : Gaps
        Which entries are missing; only for kernels of rows with gaps.
    temperature : float
        T, at which energies are computed.
    """

    gaps: Gaps
    temperature: float = 1.0

    def __init__(self, key: WorkspaceKey, **arrays: Any) -> None:
        self.key, self.arrays = key, arrays
        self.source: NDArray[Any] | None = None
        self.n = 0


class ComponentKernel(ABC):
    """Log densities and sums over rows of the components of S mixtures with given parameters."""

    numbers_per_row: int
    """Float64 numbers of work space for each row, which determine the size of chunks."""
    dtype: np.dtype[Any]
    """Precision of the products."""
    rounding: Array
    """Bound on the rounding error of an energy, (S,): at T = 0 energies this close are tied."""

    @abstractmethod
    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        """Return scratch arrays for up to `n_rows` rows, reusing those of an earlier kernel."""

    @abstractmethod
    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        """Compute the features of a chunk of shape (n, D), in the layout (features, n)."""

    @abstractmethod
    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return ``log w_k + H_k`` (S, K, n), and a term that all components share (S, n) or None.

        The first array belongs to the workspace and may be overwritten by the caller.
        """

    def energies_that_count(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return :meth:`energies`, of which some may be too high, if their codes are negligible.

        Sums over rows of the codes at ``workspace.temperature`` are the same, to within rounding
        errors, where all rows have the same weight.
        """
        return self.energies(workspace)

    def code_entropies(self, workspace: Workspace) -> Array | None:
        """Return what T times the energies (S, K, n) grow by, where it depends on the row.

        It is of components with a code of their own, whose posterior varies less or more with what
        is known of a row; None where it is the same for all rows.
        """
        return None

    @abstractmethod
    def zero(self) -> list[Array]:
        """Return empty sums."""

    @abstractmethod
    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        """Add a loaded chunk's statistics, weighted by codes (S, K, n) that sum to row weights.

        `row_weights` has the shape (S, n) or (1, n); None stands for ones.
        """

    @abstractmethod
    def moments(self, sums: list[Array]) -> tuple[Array, Any]:
        """Turn sums into counts (S, K) and an ArrayRecord of the components' statistics."""

    def packed(
        self, rows: Rows, absent: NDArray[np.bool_], temperature: float
    ) -> tuple[PackedKernel, Rows] | None:
        """Return rows that many passes read faster, and the kernel that reads them.

        None if the kernel has no such rows, or if packing them is not worth while (yet).

        Parameters
        ----------
        rows : Rows
        absent : ndarray of bool of shape (S, K)
            Components of weight zero.
        temperature : float
            T, positive.
        """
        return None


class PackedKernel(ABC):
    """Codes of packed rows, and sums over them. A chunk has a length and can be sliced."""

    chunk_rows: int
    """Number of rows of a chunk."""

    @abstractmethod
    def workspace(self, n_rows: int, previous: Any) -> Any:
        """Return scratch arrays for up to `n_rows` rows, reusing those of an earlier kernel."""

    @abstractmethod
    def codes(self, X: Any, workspace: Any) -> tuple[Array, Array]:
        """Compute a chunk's codes; return what they must be divided by, and ``Hmax``, (S, n)."""

    @abstractmethod
    def zero(self) -> list[Array]:
        """Return empty sums, of the first axis S."""

    @abstractmethod
    def accumulate(self, sums: list[Array], factors: Array, X: Any, workspace: Any) -> None:
        """Add the statistics of the chunk, whose codes are multiplied by factors (S, n)."""

    @abstractmethod
    def moments(self, sums: list[Array]) -> tuple[Array, Any]:
        """Turn sums into counts (S, K) and an ArrayRecord of the components' statistics."""


class SmoothComponentKernel(ComponentKernel):
    """Capability: gradients in x, for rows of real numbers."""

    @abstractmethod
    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        """Return ``sum_k codes_k dH_k/dx`` of shape (S, n, D) for codes of shape (S, K, n)."""


class CompletingKernel(SmoothComponentKernel):
    """Capability: rows with missing entries, which each component completes.

    Energies are those of the known entries, and sums those that components expect of complete rows.
    The methods below follow a call of :meth:`energies`. Cells count components of all models,
    ``s K + k``.
    """

    @abstractmethod
    def completed(self, workspace: Workspace) -> Array:
        """Return the expected rows given their known entries, (S, K, D, n)."""

    @abstractmethod
    def variances(self, workspace: Workspace, temperature: float) -> Array:
        """Return the variances of missing entries, (S, K, D, n); zero for known ones.

        The temperature is that of codes of the components' own.
        """

    @abstractmethod
    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        """Return the covariances of missing entries, (S, K, D, D, n); zero for known ones."""

    @abstractmethod
    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        """Draw rows given their known entries, (R, D, n), from the cells (R, n)."""

    @abstractmethod
    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        """Add the statistics of rows (S, D, n) drawn for codes (S, K, n) that are 0 or 1."""


class FeatureKernel(ComponentKernel):
    """Energies and sums as products with features of a row.

    One product with the natural parameters of all components of all models gives all energies, and
    one product of the codes with the same features gives all sums. The last feature is 1. Features
    whose coefficients are the same for all components come first, and are left out of the softmax.

    Parameters
    ----------
    natural : ndarray of shape (S, K, P)
        Coefficients of the last P features.
    dtype : dtype
    rounding : ndarray of shape (S,)
    shared : ndarray of shape (S, Q) or None
        Coefficients of the first Q features, which all components share.
    """

    def __init__(
        self, natural: Array, dtype: Any, rounding: Array, shared: Array | None = None
    ) -> None:
        self.n_models, self.n_components, n_own = natural.shape
        self.dtype, self.rounding = np.dtype(dtype), rounding
        self.natural = natural.reshape(-1, n_own).astype(self.dtype)
        self.shared = None if shared is None else shared.astype(self.dtype)
        self.n_shared = 0 if shared is None else shared.shape[1]
        self.n_features = self.n_shared + n_own
        self.narrow = len(self.natural) <= 64 and n_own >= 1024
        self.numbers_per_row = self.n_features + len(self.natural)

    @abstractmethod
    def key(self, n_rows: int) -> WorkspaceKey:
        """Return the key of the features."""

    @abstractmethod
    def write(self, X: NDArray[Any], features: NDArray[Any]) -> None:
        """Write the features of a chunk, except the last, into `features` of shape (P, n)."""

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        n_energies, key = len(self.natural), self.key(n_rows)
        if previous is None or previous.key != key:
            features = np.empty((self.n_features, n_rows), self.dtype)
            features[-1] = 1
            previous = Workspace(key, features=features, energies=np.empty((0, n_rows)))
        if len(previous.arrays["energies"]) != n_energies:
            previous.arrays["energies"] = np.empty((n_energies, n_rows), self.dtype)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is X:
            return
        n = len(X)
        self.write(X, workspace.arrays["features"][:-1, :n])
        workspace.source, workspace.n = X, n

    def _own(self, workspace: Workspace) -> NDArray[Any]:
        return workspace.arrays["features"][self.n_shared :, : workspace.n]

    def _in_common(self, workspace: Workspace) -> NDArray[Any]:
        return workspace.arrays["features"][: self.n_shared, : workspace.n]

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        # those of a component are next to each other: what is done component by component then runs
        # over all models at once, which is faster for few rows
        out = workspace.arrays["energies"][:, : workspace.n]
        natural = _swapped(self.natural, self.n_models, self.n_components)
        if self.narrow:
            # for few energies from many features, BLAS is 1.5 times faster with the factors
            # exchanged
            np.copyto(out, np.matmul(self._own(workspace).T, natural.T).T)
        else:
            np.matmul(natural, self._own(workspace), out=out)
        own = out.reshape(self.n_components, self.n_models, workspace.n).swapaxes(0, 1)
        if self.shared is None:
            return own, None
        return own, self.shared @ self._in_common(workspace)

    def zero(self) -> list[Array]:
        sums = [np.zeros(self.natural.shape)]
        if self.shared is not None:
            sums.append(np.zeros((self.n_models, self.n_shared)))
        return sums

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        own = self._own(workspace)
        flat = codes.swapaxes(0, 1).reshape(len(self.natural), workspace.n)
        sums[0] += _swapped(flat @ own.T, self.n_components, self.n_models)
        if self.shared is not None:
            features = self._in_common(workspace)
            if row_weights is None:
                sums[1] += features.sum(axis=-1)
            else:
                sums[1] += row_weights.astype(self.dtype, copy=False) @ features.T

    def split(self, sums: list[Array]) -> tuple[Array, Array, Array | None]:
        """Return counts (S, K), sums of components' features (S, K, P - 1) and of shared ones."""
        own = sums[0].reshape(self.n_models, self.n_components, -1)
        return own[..., -1], own[..., :-1], None if self.shared is None else sums[1]


def _swapped(array: NDArray[Any], first: int, second: int) -> NDArray[Any]:
    """Return lines (I J, P) in the order of two indices exchanged."""
    if first == 1 or second == 1:
        return array
    return array.reshape(first, second, -1).swapaxes(0, 1).reshape(len(array), -1)


class ComponentFamily(ABC):
    """The components of a mixture, without the weights.

    All `params` and `moments` are ArrayRecords with shapes (S, K, ...).
    """

    n_components: int
    n_features: int
    exact_moments: bool = False
    """Whether maximum components expect the moments that they are the maximum for."""

    @abstractmethod
    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> ComponentKernel:
        """Return the kernel for parameters and finite log weights (S, K)."""

    def code_entropy(self, params: Any, temperature: float) -> Array | None:
        """Return the term of the energy at T from integrating over the component's code, (S, K).

        None for components without a code of their own, whose energy does not depend on T.
        """
        return None

    @abstractmethod
    def maximise(self, counts: Array, moments: Any, params: Any, temperature: float) -> Any:
        """Return the components that maximise the energy at T.

        Components without rows are copied from `params`.
        """

    @abstractmethod
    def expected_moments(self, counts: Array, params: Any, like: Any, temperature: float) -> Any:
        """Return the expected moments of `counts` rows, about the reference of `like`."""

    @abstractmethod
    def mix_moments(self, first: Any, second: Any, step: Array) -> Any:
        """Return ``(1 - step) first + step second``, for `step` of shape (S,)."""

    @abstractmethod
    def draw(
        self,
        params: Any,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        """Draw rows (n, D), the i-th from component `labels[i]` of model `models[i]`."""

    @abstractmethod
    def n_parameters(self) -> int:
        """Return the number of free parameters of all components of one model."""

    def permute(self, params: Any, order: NDArray[np.intp]) -> Any:
        """Return components with labels reordered: ``order`` has shape (S, K)."""
        return permuted(params, order)


def permuted(params: Components, order: NDArray[np.intp]) -> Components:
    """Return components, all of whose arrays are (S, K, ...), with labels reordered.

    An array that all components share, (S, 1, ...), is not changed.
    """
    models = np.arange(len(order))[:, None]

    def reorder(array: Array) -> Array:
        is_shared = array.shape[1] == 1 and order.shape[1] > 1
        return array if is_shared else array[models, order]

    arrays = {field.name: reorder(getattr(params, field.name)) for field in fields(params)}
    return replace(params, **arrays)


def appended(array: Array, other: Array, component: int) -> Array:
    """Return components (S, K, ...), and one of another model's after them, (S, K + 1, ...)."""
    return np.concatenate([array, other[:, component, None]], axis=1)


def interpolated(first: Array, second: Array, step: Array) -> Array:
    """Return ``(1 - step) first + step second`` for arrays (S, ...) and `step` (S,)."""
    weight = step.reshape(step.shape + (1,) * (first.ndim - 1))
    return (1 - weight) * first + weight * second


class DifferentiableFamily(ComponentFamily):
    """Capability: gradients in the components' own parameters."""

    @abstractmethod
    def parameter_gradient(
        self, params: Any, counts: Array, moments: Any, temperature: float
    ) -> dict[str, Array]:
        """Return the gradient of the sum over rows and components of ``codes_k H_k``.

        By the names of parameters, as in ``ParameterGradientEnergy``; what components share has no
        axis of them.
        """

    def regular(self, params: Any) -> Any:
        """Return parameters, moved from where the gradient is a limit to next to there."""
        return params


class SplittableFamily(ComponentFamily):
    """Capability: components that split into two."""

    @abstractmethod
    def split_scores(
        self, params: Any, component: int, X: Array, shares: Array, temperature: float
    ) -> SplitScores:
        """Return the scores of rows in what may differ between halves of a component.

        Parameters
        ----------
        params : ArrayRecord
            A single model.
        component : int
        X : ndarray of shape (n, D)
        shares : ndarray of shape (n,)
            Codes of the rows.
        temperature : float
        """

    @abstractmethod
    def halved(self, params: Any, component: int, scores: SplitScores, direction: Array) -> Any:
        """Return components of which one is in two: its first half, and the second after all.

        The halves have moved by plus and minus a direction in the coordinates of the scores.
        """

    def single(self, params: Any) -> Any:
        """Return the first component alone, from which :meth:`maximise` finds the best one."""
        arrays = {field.name: getattr(params, field.name)[:, :1] for field in fields(params)}
        return replace(params, **arrays)

    def resized(self, n_components: int) -> Self:
        """Return the family of mixtures of another number of components."""
        family = copy(self)
        family.n_components = n_components
        return family


class IncompleteFamily(ComponentFamily):
    """Capability: rows with missing entries."""

    @abstractmethod
    def of_incomplete_rows(self) -> Self:
        """Return the family whose kernel is a :class:`CompletingKernel`."""


class SparseFamily(ComponentFamily):
    """Capability: rows of which only the entries that are not zero are kept."""

    @abstractmethod
    def of_sparse_rows(self) -> Self:
        """Return the family whose kernel takes :class:`~skbae.operators._sparse.SparseRows`."""


class NoisyComponentFamily(ComponentFamily):
    """Capability: components of data to which normal noise was added."""

    @abstractmethod
    def convolve(self, params: Any, variance: float) -> Any:
        """Add noise of `variance` to every component."""


class StartableFamily(ComponentFamily):
    """Capability: components to start fits from, given the rows and their codes."""

    @abstractmethod
    def standard_rows(self, X: Array) -> Array:
        """Return rows (N, D) in coordinates in which groups can be found by k-means, (N, F)."""

    @abstractmethod
    def start(self, X: Array, codes: Array) -> Any:
        """Return components of S models for rows (N, D) with codes (S, K, N).

        Codes are positive: each component has a share of all rows. They count the rows' weights.
        """


class DecodableFamily(ComponentFamily):
    """Capability: mean and covariance of rows under each component, for reconstructions."""

    @abstractmethod
    def row_moments(self, params: Any) -> tuple[Array, Array]:
        """Return means (S, K, D) and covariances (S, K, D, D) of rows."""


class ConjugateComponentFamily(ComponentFamily):
    """Capability: a conjugate prior; methods as in ``ConjugateEnergy``."""

    @abstractmethod
    def collapse(self, X: Array, heat: float) -> CollapsedComponents:
        """Return the components of rows (N, D) integrated over their prior; ``heat`` is 1 / T."""

    @abstractmethod
    def operations_per_row(self) -> float:
        """Return about how many operations a row takes in a look at one component."""

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
        parameters that all components share, or None.
        """

    @abstractmethod
    def log_prior(self, params: Any) -> Array:
        """Return the log prior density of all components, (S,)."""

    @abstractmethod
    def mode(self, conditional: Any) -> Any:
        """Return the conditionals' modes."""

    @abstractmethod
    def log_mode_measure(self, params: Any) -> Array:
        """Return the log measure of the density that :meth:`mode` maximises, (S,)."""

    @abstractmethod
    def scores(self, params: Any, counts: Array, moments: Any, temperature: float) -> Array:
        """Return gradients of the log joint density of components and rows with known codes.

        In coordinates (S, P) in which their expectation over components and codes is zero; it must
        not use :meth:`conditional`, since it serves as a check of it.
        """

    @abstractmethod
    def log_marginal(self, counts: Array, moments: Any, temperature: float) -> Array:
        """Return the log marginal likelihood of rows with known codes, components integrated out.

        ``log of the integral of prior(m_k) exp(sum of codes_k H_k / T)``, of shape (S, K). If
        components share parameters, only the sum over K is a marginal likelihood.
        """


class GradientComponentFamily(ComponentFamily):
    """Capability: unconstrained coordinates (S, P); methods as in ``GradientEnergy``."""

    @abstractmethod
    def coordinate_kinds(self) -> NDArray[np.intp]:
        """Return labels of the coordinates, (P,), counted from zero."""

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
    def energy_gradient(
        self, theta: Array, counts: Array, moments: Any, temperature: float
    ) -> Array:
        """Return the gradient of the sum over rows and components of ``codes_k H_k``."""

    @abstractmethod
    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        """Draw coordinates of components from the prior."""
