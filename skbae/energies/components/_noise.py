"""A component of noise, uniform on a box, beside the components of a mixture.

Banfield and Raftery (1993): rows far from all components count as noise, and do not draw the others
towards them. The noise is the last component, and has no parameters.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array
from skbae.energies._base import require
from skbae.energies.mixture._components import (
    CompletingKernel,
    ComponentFamily,
    ComponentKernel,
    GradientComponentFamily,
    IncompleteFamily,
    Workspace,
    WorkspaceKey,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Frame


@dataclass(frozen=True)
class Box:
    """Where noise is, and its density there.

    Attributes
    ----------
    lower, upper : ndarrays of shape (D,)
    log_volumes : ndarray of shape (D,)
        Minus the log density of the noise in each column; of whole numbers and categories, the
        logarithm of how many there are.
    whole : ndarray of bool of shape (D,)
        Which columns are of whole numbers.
    """

    lower: Array
    upper: Array
    log_volumes: Array
    whole: NDArray[np.bool_]

    @property
    def mean(self) -> Array:
        """Expected entries, (D,)."""
        return 0.5 * (self.lower + self.upper)

    @property
    def variance(self) -> Array:
        """Variances of entries, (D,)."""
        width = self.upper - self.lower
        return np.where(self.whole, (width + 1.0) ** 2 - 1.0, width**2) / 12.0

    def log_density(self, X: NDArray[Any]) -> Array:
        """Return the log density of rows (n, D) of which NaN are missing, (n,)."""
        known = ~np.isnan(X)
        with np.errstate(invalid="ignore"):
            outside = (self.lower > X) | (self.upper < X)
        values = -(known @ self.log_volumes)
        return np.where(outside.any(axis=1), -np.inf, values)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw rows (n, D)."""
        uniform = rng.random((n, len(self.lower)))
        numbers = self.lower + uniform * (self.upper - self.lower)
        steps = self.lower + np.floor(uniform * (self.upper - self.lower + 1.0))
        return np.where(self.whole, np.minimum(steps, self.upper), numbers)


class NoisyKernel(ComponentKernel):
    """Energies and sums of the components, and those of noise after them."""

    dtype = np.dtype(np.float64)

    def __init__(self, inner: ComponentKernel, log_weights: Array, box: Box) -> None:
        self.inner, self.log_weights, self.box = inner, log_weights, box
        self.numbers_per_row = inner.numbers_per_row + log_weights.size + 4
        self.rounding = inner.rounding

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("noise", n_rows, len(self.box.lower), self.dtype.str, owner=self.box)
        same = previous is not None and previous.key == key
        workspace = previous if same and previous is not None else Workspace(key)
        workspace.arrays["inner"] = self.inner.workspace(n_rows, workspace.arrays.get("inner"))
        return workspace

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        self.inner.load(X, workspace.arrays["inner"])
        if workspace.source is not X:
            workspace.arrays["noise"] = self.box.log_density(X)
        workspace.source, workspace.n = X, len(X)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        inner = workspace.arrays["inner"]
        inner.temperature = workspace.temperature
        own, shared = self.inner.energies(inner)
        found = np.empty((len(own), own.shape[1] + 1, own.shape[2]))
        found[:, :-1] = own if shared is None else own + shared[:, None]
        found[:, -1] = self.log_weights[:, -1:] + workspace.arrays["noise"]
        return found, None

    def zero(self) -> list[Array]:
        return [np.zeros(len(self.log_weights)), *self.inner.zero()]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        sums[0] += codes[:, -1].sum(axis=-1)
        own = np.ascontiguousarray(codes[:, :-1])
        self.inner.accumulate(sums[1:], own, own.sum(axis=1), workspace.arrays["inner"])

    def moments(self, sums: list[Array]) -> tuple[Array, Any]:
        counts, moments = self.inner.moments(sums[1:])
        return np.concatenate([counts, sums[0][:, None]], axis=1), moments


class CompletingNoisyKernel(NoisyKernel, CompletingKernel):
    """The kernel of rows with gaps."""

    inner: CompletingKernel

    def _with_noise(self, own: Array, noise: Array) -> Array:
        """Return what the components have (S, K, ...), and the same of noise (...) after it."""
        shape = (len(own), 1, *own.shape[2:])
        return np.concatenate([own, np.broadcast_to(noise, shape)], axis=1)

    def completed(self, workspace: Workspace) -> Array:
        rows = np.asarray(workspace.source, np.float64).T
        noise = np.where(np.isnan(rows), self.box.mean[:, None], rows)
        return self._with_noise(self.inner.completed(workspace.arrays["inner"]), noise)

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        missing = np.isnan(np.asarray(workspace.source).T)
        own = self.inner.variances(workspace.arrays["inner"], temperature)
        return self._with_noise(own, np.where(missing, self.box.variance[:, None], 0.0))

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        missing = np.isnan(np.asarray(workspace.source).T)
        own = self.inner.covariances(workspace.arrays["inner"], temperature)
        noise = np.where(missing, self.box.variance[:, None], 0.0)
        return self._with_noise(own, noise[:, None] * np.eye(len(noise))[..., None])

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        size = self.log_weights.shape[1]
        models, labels = np.divmod(cells, size)
        own = models * (size - 1) + np.minimum(labels, size - 2)
        drawn = self.inner.draw(own, workspace.arrays["inner"], temperature, rng)
        rows = np.asarray(workspace.source, np.float64).T
        noise = np.moveaxis(self.box.draw(cells.size, rng).reshape(*cells.shape, -1), -1, 1)
        noise = np.where(np.isnan(rows), noise, rows)
        return np.where((labels == size - 1)[:, None], noise, drawn)

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        raise ValueError("mixtures with noise are not sampled by sweeps")

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        return self.inner.code_gradient(X, codes[:, :-1])


class NoisyFamily(GradientComponentFamily, IncompleteFamily):
    """Components, and noise after them.

    Parameters
    ----------
    inner : ComponentFamily
        Of one component less; with a prior, a GradientComponentFamily.
    box : Box
    """

    def __init__(self, inner: ComponentFamily, box: Box) -> None:
        self.inner: Any = inner
        self.box = box
        self.n_components, self.n_features = inner.n_components + 1, inner.n_features
        self.exact_moments = inner.exact_moments
        self._kernel_class: type[NoisyKernel] = NoisyKernel

    def of_incomplete_rows(self) -> Self:
        family = copy(self)
        inner = require(self.inner, IncompleteFamily, "missing entries of X")
        family.inner = inner.of_incomplete_rows()
        family.exact_moments = family.inner.exact_moments
        family._kernel_class = CompletingNoisyKernel
        return family

    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> NoisyKernel:
        own = np.ascontiguousarray(log_weights[:, :-1])
        inner = self.inner.kernel(own, params, frame, np.float64)
        return self._kernel_class(inner, log_weights, self.box)

    def maximise(self, counts: Array, moments: Any, params: Any, temperature: float) -> Any:
        return self.inner.maximise(counts[:, :-1], moments, params, temperature)

    def expected_moments(self, counts: Array, params: Any, like: Any, temperature: float) -> Any:
        return self.inner.expected_moments(counts[:, :-1], params, like, temperature)

    def mix_moments(self, first: Any, second: Any, step: Array) -> Any:
        return self.inner.mix_moments(first, second, step)

    def draw(
        self,
        params: Any,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        noise = labels == self.n_components - 1
        found = self.box.draw(len(labels), rng)
        found[~noise] = self.inner.draw(params, models[~noise], labels[~noise], rng)
        return found

    def n_parameters(self) -> int:
        return int(self.inner.n_parameters())

    def permute(self, params: Any, order: NDArray[np.intp]) -> Any:
        if np.any(order[:, -1] != self.n_components - 1):
            raise ValueError("noise must stay the last of the components")
        return self.inner.permute(params, order[:, :-1])

    # -- coordinates ------------------------------------------------------------------------------

    def _smooth(self) -> GradientComponentFamily:
        return require(self.inner, GradientComponentFamily, "tempered sampling")

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return self._smooth().coordinate_kinds()

    def unconstrain(self, params: Any) -> Array:
        return self._smooth().unconstrain(params)

    def constrain(self, theta: Array) -> Any:
        return self._smooth().constrain(theta)

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        return self._smooth().log_prior_at(theta)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: Any, temperature: float
    ) -> Array:
        return self._smooth().energy_gradient(theta, counts[:, :-1], moments, temperature)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return self._smooth().draw_prior_coordinates(n_models, rng)
