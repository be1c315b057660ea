"""Products: components of columns of several kinds, independent given the code."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord, Frame
from skbae.energies._base import require
from skbae.energies.mixture._collapsed import CollapsedComponents
from skbae.energies.mixture._components import (
    CompletingKernel,
    ComponentFamily,
    ComponentKernel,
    ConjugateComponentFamily,
    GradientComponentFamily,
    IncompleteFamily,
    SmoothComponentKernel,
    Workspace,
    WorkspaceKey,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from skbae.energies._allocations import Labels


@dataclass(frozen=True)
class Parts(ArrayRecord):
    """Records of the factors of a product, side by side."""

    parts: tuple[Any, ...]

    def take(self, index: Any) -> Parts:
        return Parts(tuple(part.take(index) for part in self.parts))

    def put(self, index: NDArray[np.intp], other: Parts) -> Parts:
        pairs = zip(self.parts, other.parts, strict=True)
        return Parts(tuple(part.put(index, own) for part, own in pairs))

    @property
    def n_models(self) -> int:
        """Length of the leading axis S."""
        return int(self.parts[0].n_models)

    @classmethod
    def concatenate(cls, records: Sequence[Parts]) -> Parts:
        """Join records along the axis S."""
        columns = zip(*(record.parts for record in records), strict=True)
        return cls(tuple(type(each[0]).concatenate(each) for each in columns))


class ProductKernel(ComponentKernel):
    """Energies are sums of those of the factors, each on its own columns."""

    dtype = np.dtype(np.float64)

    def __init__(
        self, kernels: Sequence[ComponentKernel], columns: Sequence[NDArray[np.intp]]
    ) -> None:
        self.kernels, self.columns = list(kernels), list(columns)
        self.numbers_per_row = sum(
            kernel.numbers_per_row + len(own)
            for kernel, own in zip(self.kernels, self.columns, strict=True)
        )
        self.rounding = reduce(add, (kernel.rounding for kernel in self.kernels))
        sizes = [len(kernel.zero()) for kernel in self.kernels]
        ends = np.cumsum(sizes)
        self._sums = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("product", n_rows, len(self.kernels), self.dtype.str, owner=self.columns)
        same = previous is not None and previous.key == key
        workspace = previous if same and previous is not None else Workspace(key, chunks=None)
        before = workspace.arrays.get("parts", [None] * len(self.kernels))
        workspace.arrays["parts"] = [
            kernel.workspace(n_rows, own) for kernel, own in zip(self.kernels, before, strict=True)
        ]
        return workspace

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            # a chunk is cut once, so that factors recognise theirs and keep its features
            workspace.arrays["chunks"] = [np.ascontiguousarray(X[:, own]) for own in self.columns]
            workspace.source, workspace.n = X, len(X)
        for kernel, chunk, own in self._each(workspace, workspace.arrays["chunks"]):
            kernel.load(chunk, own)

    def _each(
        self, workspace: Workspace, others: Sequence[Any]
    ) -> Iterator[tuple[Any, Any, Workspace]]:
        return zip(self.kernels, others, workspace.arrays["parts"], strict=True)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        total: Any = None
        common: Any = None
        for kernel, own in zip(self.kernels, workspace.arrays["parts"], strict=True):
            own.temperature = workspace.temperature
            energies, shared = kernel.energies(own)
            if total is None:
                total = energies.astype(np.float64, copy=False)
            else:
                total += energies
            if shared is not None:
                common = shared if common is None else common + shared
        return total, common

    def zero(self) -> list[Array]:
        return [array for kernel in self.kernels for array in kernel.zero()]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        for kernel, part, own in self._each(workspace, self._sums):
            kernel.accumulate(sums[part], codes, row_weights, own)

    def moments(self, sums: list[Array]) -> tuple[Array, Parts]:
        found = [
            kernel.moments(sums[part])
            for kernel, part in zip(self.kernels, self._sums, strict=True)
        ]
        return found[0][0], Parts(tuple(moments for _, moments in found))


class SmoothProductKernel(ProductKernel, SmoothComponentKernel):
    """Products of factors that have gradients in x."""

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        gradient = np.zeros((len(codes), *X.shape))
        for kernel, own in zip(self.kernels, self.columns, strict=True):
            smooth = require(kernel, SmoothComponentKernel, "the gradient in x")
            gradient[..., own] = smooth.code_gradient(X[:, own], codes)
        return gradient


class CompletingProductKernel(SmoothProductKernel, CompletingKernel):
    """Products of rows with gaps."""

    kernels: list[Any]

    def _joined(
        self, workspace: Workspace, compute: Callable[[Any, Workspace], Array], axis: int
    ) -> Array:
        """Put what the factors compute for their columns where it belongs."""
        size = sum(len(own) for own in self.columns)
        found: Any = None
        for kernel, own_columns, own in self._each(workspace, self.columns):
            values = compute(kernel, own)
            if found is None:
                shape = list(values.shape)
                shape[axis] = size
                found = np.zeros(shape)
            found[(slice(None),) * axis + (own_columns,)] = values
        return found

    def completed(self, workspace: Workspace) -> Array:
        return self._joined(workspace, lambda kernel, own: kernel.completed(own), 2)

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        return self._joined(workspace, lambda kernel, own: kernel.variances(own, temperature), 2)

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        size = sum(len(own) for own in self.columns)
        found: Any = None
        for kernel, own_columns, own in self._each(workspace, self.columns):
            values = kernel.covariances(own, temperature)
            if found is None:
                found = np.zeros((*values.shape[:2], size, size, values.shape[-1]))
            found[:, :, own_columns[:, None], own_columns] = values
        return found

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        return self._joined(
            workspace, lambda kernel, own: kernel.draw(cells, own, temperature, rng), 1
        )

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        for number, (kernel, part, own) in enumerate(self._each(workspace, self._sums)):
            drawn = np.ascontiguousarray(rows[:, self.columns[number]])
            kernel.accumulate_drawn(sums[part], codes, drawn, own)


class ProductFamily(ConjugateComponentFamily, GradientComponentFamily, IncompleteFamily):
    """Factors on disjoint sets of columns, independent given the code.

    A method that some factor lacks raises TypeError, which names what is missing.

    Parameters
    ----------
    families : sequence of ComponentFamily
        All of the same number of components.
    columns : sequence of ndarrays of int
        Of each factor.
    """

    def __init__(
        self, families: Sequence[ComponentFamily], columns: Sequence[NDArray[np.intp]]
    ) -> None:
        self.families: list[Any] = list(families)
        self.columns = [np.asarray(own, dtype=np.intp) for own in columns]
        self.n_components = self.families[0].n_components
        self.n_features = sum(len(own) for own in self.columns)
        self.exact_moments = all(family.exact_moments for family in self.families)
        self._kernel_class: type[ProductKernel] = ProductKernel

    def _parts(self, method: Callable[..., Any], *records: Parts) -> Parts:
        return Parts(tuple(self._list(method, *records)))

    def _list(self, method: Callable[..., Any], *records: Parts) -> list[Any]:
        each = zip(self.families, *(record.parts for record in records), strict=True)
        return [method(*arguments) for arguments in each]

    def kernel(self, log_weights: Array, params: Parts, frame: Frame, dtype: Any) -> ProductKernel:
        kernels = []
        weights = log_weights
        for family, own, columns in zip(self.families, params.parts, self.columns, strict=True):
            part = Frame(frame.centre[columns], frame.scale[columns])
            kernels.append(family.kernel(weights, own, part, np.float64))
            weights = np.zeros_like(log_weights)
        smooth = all(isinstance(kernel, SmoothComponentKernel) for kernel in kernels)
        kind = self._kernel_class
        if kind is ProductKernel and smooth:
            kind = SmoothProductKernel
        return kind(kernels, self.columns)

    def of_incomplete_rows(self) -> Self:
        family = copy(self)
        family.families = [
            require(own, IncompleteFamily, "missing entries of X").of_incomplete_rows()
            for own in self.families
        ]
        family.exact_moments = all(own.exact_moments for own in family.families)
        family._kernel_class = CompletingProductKernel
        return family

    def maximise(self, counts: Array, moments: Parts, params: Parts, temperature: float) -> Parts:
        return self._parts(
            lambda family, own, old: family.maximise(counts, own, old, temperature),
            moments,
            params,
        )

    def expected_moments(
        self, counts: Array, params: Parts, like: Parts, temperature: float
    ) -> Parts:
        return self._parts(
            lambda family, own, old: family.expected_moments(counts, own, old, temperature),
            params,
            like,
        )

    def mix_moments(self, first: Parts, second: Parts, step: Array) -> Parts:
        return self._parts(
            lambda family, one, other: family.mix_moments(one, other, step), first, second
        )

    def typical(self, frame: Frame, n_models: int) -> Parts:
        """Return S models all of whose components are about the mean of the rows."""
        return Parts(
            tuple(
                family.typical(Frame(frame.centre[own], frame.scale[own]), n_models)
                for family, own in zip(self.families, self.columns, strict=True)
            )
        )

    def draw(
        self,
        params: Parts,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        found = np.empty((len(labels), self.n_features))
        for family, own, columns in zip(self.families, params.parts, self.columns, strict=True):
            found[:, columns] = family.draw(own, models, labels, rng)
        return found

    def n_parameters(self) -> int:
        return sum(family.n_parameters() for family in self.families)

    def permute(self, params: Parts, order: NDArray[np.intp]) -> Parts:
        return self._parts(lambda family, own: family.permute(own, order), params)

    # -- the prior --------------------------------------------------------------------------------

    def conjugate(self) -> list[ConjugateComponentFamily]:
        """Return the factors, if all have conjugate priors."""
        return [
            require(family, ConjugateComponentFamily, "a conjugate prior")
            for family in self.families
        ]

    def collapse(self, X: Array, heat: float) -> CollapsedProduct:
        return CollapsedProduct(
            [
                family.collapse(np.ascontiguousarray(X[:, own]), heat)
                for family, own in zip(self.conjugate(), self.columns, strict=True)
            ]
        )

    def operations_per_row(self) -> float:
        return sum(family.operations_per_row() for family in self.conjugate())

    def conditional(self, counts: Array, moments: Parts, temperature: float) -> Parts:
        return self._parts(
            lambda family, own: family.conditional(counts, own, temperature), moments
        )

    def draw_conditional(self, conditional: Parts, rng: np.random.Generator) -> Parts:
        return self._parts(lambda family, own: family.draw_conditional(own, rng), conditional)

    def draw_prior(self, n_models: int, rng: np.random.Generator) -> Parts:
        return Parts(tuple(family.draw_prior(n_models, rng) for family in self.conjugate()))

    def linear_form(self, conditional: Parts, params: Parts) -> tuple[Array, Array, Array | None]:
        found = self._list(
            lambda family, own, models: family.linear_form(own, models), conditional, params
        )
        shared = [each[2] for each in found if each[2] is not None]
        return (
            np.concatenate([each[0] for each in found], axis=-1),
            np.concatenate([each[1] for each in found], axis=-1),
            reduce(add, shared) if shared else None,
        )

    def log_prior(self, params: Parts) -> Array:
        return reduce(add, self._list(lambda family, own: family.log_prior(own), params))

    def mode(self, conditional: Parts) -> Parts:
        return self._parts(lambda family, own: family.mode(own), conditional)

    def log_mode_measure(self, params: Parts) -> Array:
        return reduce(add, self._list(lambda family, own: family.log_mode_measure(own), params))

    def scores(self, params: Parts, counts: Array, moments: Parts, temperature: float) -> Array:
        found = self._list(
            lambda family, own, sums: family.scores(own, counts, sums, temperature),
            params,
            moments,
        )
        return np.concatenate(found, axis=1)

    def log_marginal(self, counts: Array, moments: Parts, temperature: float) -> Array:
        return reduce(
            add,
            self._list(lambda family, own: family.log_marginal(counts, own, temperature), moments),
        )

    # -- coordinates ------------------------------------------------------------------------------

    def _kinds(self) -> list[NDArray[np.intp]]:
        return [
            require(family, GradientComponentFamily, "tempered sampling").coordinate_kinds()
            for family in self.families
        ]

    def coordinate_kinds(self) -> NDArray[np.intp]:
        found, first = [], 0
        for kinds in self._kinds():
            found.append(kinds + first)
            first += int(kinds.max()) + 1
        return np.concatenate(found)

    def _split(self, theta: Array) -> list[Array]:
        ends = np.cumsum([len(kinds) for kinds in self._kinds()])
        return np.split(theta, ends[:-1], axis=1)

    def unconstrain(self, params: Parts) -> Array:
        found = self._list(lambda family, own: family.unconstrain(own), params)
        return np.concatenate(found, axis=1)

    def constrain(self, theta: Array) -> Parts:
        each = zip(self.families, self._split(theta), strict=True)
        return Parts(tuple(family.constrain(own) for family, own in each))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        each = zip(self.families, self._split(theta), strict=True)
        found = [family.log_prior_at(own) for family, own in each]
        value = reduce(add, (each[0] for each in found))
        return value, np.concatenate([each[1] for each in found], axis=1)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: Parts, temperature: float
    ) -> Array:
        each = zip(self.families, self._split(theta), moments.parts, strict=True)
        return np.concatenate(
            [family.energy_gradient(own, counts, sums, temperature) for family, own, sums in each],
            axis=1,
        )

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return np.concatenate(
            [family.draw_prior_coordinates(n_models, rng) for family in self.families], axis=1
        )


class CollapsedProduct(CollapsedComponents):
    """Factors of given rows, integrated over their priors.

    Parameters
    ----------
    factors : sequence of CollapsedComponents
    """

    def __init__(self, factors: Sequence[CollapsedComponents]) -> None:
        self.factors = list(factors)
        first = self.factors[0]
        self.n_rows, self.n_components, self.heat = first.n_rows, first.n_components, first.heat
        self.features = np.concatenate([each.features for each in self.factors], axis=1)
        self.standard_rows = np.concatenate([each.standard_rows for each in self.factors], axis=1)
        self.columns = np.concatenate([each.columns for each in self.factors], axis=1)
        sizes = [each.features.shape[1] for each in self.factors]
        self._ends = np.cumsum(sizes)[:-1]

    def _each(self, sums: Array) -> Iterator[tuple[CollapsedComponents, Array]]:
        return zip(self.factors, np.split(sums, self._ends, axis=-1), strict=True)

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        return reduce(add, (factor.log_marginal(counts, own) for factor, own in self._each(sums)))

    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        preferences: Any = 0.0
        log_marginal: Any = 0.0
        for factor, own in self._each(sums):
            found = factor.leave_one_out(counts, own, labels, of_joining, of_leaving)
            preferences, log_marginal = preferences + found[0], log_marginal + found[1]
            of_joining, of_leaving = np.zeros_like(of_joining), np.zeros_like(of_leaving)
        return preferences, log_marginal

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedProduct:
        return CollapsedProduct([factor.take_rows(index) for factor in self.factors])

    def moments(self, sums: Array) -> Parts:
        return Parts(tuple(factor.moments(own) for factor, own in self._each(sums)))
