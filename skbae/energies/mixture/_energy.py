"""Mixtures of any ComponentFamily: weights, categorical codes, the pass over rows."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import (
    DerivedKernel,
    EnumerableBoundEnergy,
    RowKernel,
    SmoothBoundEnergy,
    chunk_rows,
    require,
)
from skbae.energies._capabilities import (
    IncompleteEnergy,
    NoisyEnergy,
    ParameterGradientEnergy,
    SparseEnergy,
    Splits,
    SplittableEnergy,
)
from skbae.energies.mixture._components import (
    ComponentFamily,
    ComponentKernel,
    DifferentiableFamily,
    IncompleteFamily,
    NoisyComponentFamily,
    SmoothComponentKernel,
    SparseFamily,
    SplittableFamily,
    appended,
)
from skbae.energies.mixture._splits import critical_direction
from skbae.operators._tempered import first_maximum, tempered_logsumexp, tempered_softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows
    from skbae.energies.mixture._components import PackedKernel, Workspace
    from skbae.energies.mixture._splits import SplitScores


Family = TypeVar("Family", bound=ComponentFamily)

# Rows with a smaller share of a component, relative to its largest, say nothing about it.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class MixtureParameters(ArrayRecord):
    """Weights (S, K) and the components' parameters."""

    weights: Array
    components: Any


@dataclass(frozen=True)
class MixtureStatistics(ArrayRecord):
    """Counts (S, K), the components' moments, and the objectives (S,) of their models."""

    counts: Array
    moments: Any
    objective: Array
    hmaxe: Array


@dataclass
class MixtureSums:
    """Running sums; with a tilt they are scaled by ``exp(-log_scale)`` to stay finite."""

    sums: list[Array]
    energy: Array  # (S,) sum of w Hmax
    mass: Array  # (S,) sum of the (tilted) row weights
    log_scale: Array  # (S,)


def soft_codes(
    energies: NDArray[Any], temperature: float, rounding: Array | float = 0.0
) -> tuple[NDArray[Any], NDArray[Any] | None, Array]:
    """Replace energies (S, K, n) by unnormalised codes; return them, their sum and ``Hmax``.

    The array is overwritten, since it is the largest of the pass. At T = 0 the codes are one-hot
    and the sum is None; of components within `rounding` (S,) of the best the first gets the row.
    """
    peak = energies.max(axis=1, keepdims=True)
    if temperature == 0:
        bound = np.asarray(rounding, energies.dtype)[..., None, None]
        best = first_maximum(energies, bound, axis=1)[:, None]
        energies[...] = 0
        np.put_along_axis(energies, best, 1, axis=1)
        return energies, None, peak[:, 0].astype(np.float64)
    energies -= peak
    if temperature != 1:
        energies *= energies.dtype.type(1 / temperature)
    np.exp(energies, out=energies)
    norm = energies.sum(axis=1)
    hmax = np.log(norm).astype(np.float64, copy=False)
    hmax *= temperature
    hmax += peak[:, 0]
    return energies, norm, hmax


def weighted_energies(
    kernel: ComponentKernel,
    absent: NDArray[np.bool_],
    workspace: Workspace,
    temperature: float,
    all_count: bool = True,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return a kernel's energies at T, minus infinity for components `absent` (S, K).

    Infinite log weights are added after the matrix product, since a product of infinity with zero
    is NaN. Without `all_count`, energies with negligible codes may be too high.
    """
    workspace.temperature = temperature
    missing = bool(absent.any())
    if all_count or missing:
        own, shared = kernel.energies(workspace)
    else:
        own, shared = kernel.energies_that_count(workspace)
    inner = kernel.code_entropies(workspace) if temperature else None
    if inner is not None:
        own = own + temperature * inner
    if missing:
        own[absent] = -np.inf
    return own, shared


class MixtureExpectation(RowKernel):
    """The E step: codes at a temperature, rows reweighted by a tilt."""

    def __init__(
        self,
        kernel: ComponentKernel,
        absent: NDArray[np.bool_],
        temperature: float,
        tilt: float,
    ) -> None:
        self.kernel, self.temperature, self.tilt = kernel, temperature, tilt
        self.absent, self.n_models = absent, len(absent)
        self.chunk_rows = chunk_rows(kernel.numbers_per_row)

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        return self.kernel.workspace(n_rows, previous)

    def zero(self) -> MixtureSums:
        empty = np.zeros(self.n_models)
        scale = np.full(self.n_models, -np.inf if self.tilt else 0.0)
        return MixtureSums(self._zero_sums(), empty, empty.copy(), scale)

    def accumulate(
        self,
        accumulator: MixtureSums,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Workspace,
        rng: np.random.Generator | None,
    ) -> None:
        self.kernel.load(X, workspace)
        # rows of large weight may make codes count that are negligible otherwise
        own, shared = weighted_energies(
            self.kernel,
            self.absent,
            workspace,
            self.temperature,
            all_count=bool(self.tilt) or weights is not None,
        )
        codes, norm, hmax = self.codes(own, weights, rng)
        if shared is not None:
            hmax += shared
        row_weights = self._weigh(accumulator, hmax, weights)
        if norm is not None:
            np.divide(1 if row_weights is None else row_weights, norm, out=norm, casting="unsafe")
            codes *= norm[:, None]
        elif row_weights is not None:
            codes *= row_weights[:, None]
        self.kernel.accumulate(accumulator.sums, codes, row_weights, workspace)

    def codes(
        self, energies: NDArray[Any], weights: Array | None, rng: np.random.Generator | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None, Array]:
        """Return codes (S, K, n), what they must be divided by (or None), and ``Hmax``."""
        return soft_codes(energies, self.temperature, self.kernel.rounding)

    def condensed(self, rows: Rows) -> tuple[RowKernel, Rows]:
        if self.temperature == 0:
            return self, rows
        found = self.kernel.packed(rows, self.absent, self.temperature)
        if found is None:
            return self, rows
        return PackedExpectation(found[0], self), found[1]

    def _weigh(
        self, accumulator: MixtureSums, hmax: Array, weights: Array | None
    ) -> NDArray[Any] | None:
        """Add energies (S, n) and weights of rows; return the weights with the tilt, or None."""
        accumulator.energy += hmax.sum(axis=-1) if weights is None else hmax @ weights
        row_weights = None if weights is None else weights[None]
        if self.tilt:
            row_weights = self._tilt_rows(accumulator, hmax, row_weights)
        if row_weights is None:
            accumulator.mass += hmax.shape[1]
        else:
            accumulator.mass += row_weights.sum(axis=-1)
        return row_weights

    def _tilt_rows(
        self, accumulator: MixtureSums, hmax: Array, row_weights: NDArray[Any] | None
    ) -> Array:
        """Return ``w exp(-t Hmax)``, after rescaling the accumulator to the common scale."""
        exponents = -self.tilt * hmax
        self._rescale(accumulator, np.maximum(accumulator.log_scale, exponents.max(axis=-1)))
        tilted = np.exp(exponents - accumulator.log_scale[:, None])
        return tilted if row_weights is None else tilted * row_weights

    def _rescale(self, accumulator: MixtureSums, log_scale: Array) -> None:
        factor = np.exp(accumulator.log_scale - log_scale)
        for array in accumulator.sums:
            rows = array.reshape(self.n_models, -1)
            rows *= factor[:, None]
        accumulator.mass *= factor
        accumulator.log_scale = log_scale

    def merge(self, accumulator: MixtureSums, other: MixtureSums) -> MixtureSums:
        if self.tilt:
            common = np.maximum(accumulator.log_scale, other.log_scale)
            self._rescale(accumulator, common)
            self._rescale(other, common)
        for array, more in zip(accumulator.sums, other.sums, strict=True):
            array += more
        accumulator.energy += other.energy
        accumulator.mass += other.mass
        return accumulator

    def finish(self, accumulator: MixtureSums, total: float) -> MixtureStatistics:
        hmaxe = accumulator.energy / total
        objective = hmaxe
        if self.tilt:
            log_mass = np.log(accumulator.mass / total) + accumulator.log_scale
            objective = -log_mass / self.tilt
            # counts sum to the total weight again: floors and step sizes mean the same at any tilt
            for array in accumulator.sums:
                rows = array.reshape(self.n_models, -1)
                rows *= (total / accumulator.mass)[:, None]
        counts, moments = self._moments(accumulator.sums)
        return MixtureStatistics(counts, moments, objective, hmaxe)

    def _zero_sums(self) -> list[Array]:
        return self.kernel.zero()

    def _moments(self, sums: list[Array]) -> tuple[Array, Any]:
        return self.kernel.moments(sums)


class PackedExpectation(MixtureExpectation):
    """The same of packed rows.

    Parameters
    ----------
    kernel : PackedKernel
    expectation : MixtureExpectation
        The pass over the rows as they are.
    """

    def __init__(self, kernel: PackedKernel, expectation: MixtureExpectation) -> None:
        self.packed_kernel = kernel
        self.kernel, self.absent = expectation.kernel, expectation.absent
        self.temperature, self.tilt = expectation.temperature, expectation.tilt
        self.n_models, self.chunk_rows = expectation.n_models, kernel.chunk_rows

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return self.packed_kernel.workspace(n_rows, previous)

    def accumulate(
        self,
        accumulator: MixtureSums,
        X: Any,
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        norm, hmax = self.packed_kernel.codes(X, workspace)
        row_weights = self._weigh(accumulator, hmax, weights)
        factors = (1.0 if row_weights is None else row_weights) / norm
        self.packed_kernel.accumulate(accumulator.sums, factors, X, workspace)

    def condensed(self, rows: Rows) -> tuple[RowKernel, Rows]:
        return self, rows

    def _zero_sums(self) -> list[Array]:
        return self.packed_kernel.zero()

    def _moments(self, sums: list[Array]) -> tuple[Array, Any]:
        return self.packed_kernel.moments(sums)


def _nothing_to_split(params: MixtureParameters, step: float) -> MixtureParameters:
    raise ValueError("a component without rows has no halves")


def _within_simplex(weights: Array, shares: Array) -> Array:
    """Return the gradient ``shares / weights`` without what would change the weights' sum.

    Weights of zero stay there: the gradient is that within the face of the simplex.
    """
    present = weights > 0
    gradient = shares / np.where(present, weights, 1.0)
    mean = np.sum(gradient, axis=1, where=present) / present.sum(axis=1)
    return np.where(present, gradient - mean[:, None], 0.0)


class BoundMixture(SmoothBoundEnergy, EnumerableBoundEnergy):
    """Mixtures with parameters filled in."""

    def __init__(
        self,
        kernel: ComponentKernel,
        absent: NDArray[np.bool_],
        family: ComponentFamily,
        components: Any,
    ) -> None:
        self.kernel, self.absent = kernel, absent
        self.family, self.components = family, components
        self.chunk_rows = chunk_rows(kernel.numbers_per_row)

    @property
    def rounding(self) -> Array:
        """Bound on the rounding error of energies, (S,): at T = 0 energies this close are tied."""
        return self.kernel.rounding

    def joint(self, X: NDArray[Any], temperature: float = 1.0) -> Array:
        """Return ``H(x, m, k)`` of shape (S, K, n).

        The temperature matters only for components with a code of their own, which is integrated
        out.
        """
        workspace = self.kernel.workspace(len(X), None)
        self.kernel.load(X, workspace)
        own, shared = weighted_energies(self.kernel, self.absent, workspace, temperature)
        own = self.with_code_entropy(own.astype(np.float64, copy=False), temperature)
        return own if shared is None else own + shared[:, None]

    def with_code_entropy(self, energies: Array, temperature: float) -> Array:
        """Return energies (S, K, n) with the term at T of components' own codes."""
        inner = self.family.code_entropy(self.components, temperature)
        return energies if inner is None else energies + inner[..., None]

    def code_energies(self, X: NDArray[Any]) -> Array:
        if self.family.code_entropy(self.components, 1.0) is not None:
            raise ValueError(
                "codes must be of finitely many values, and components have continuous codes of "
                "their own: the codes of a mixture of PCA are finite for n_latent=0 only"
            )
        return self.joint(X)

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return tempered_logsumexp(self.joint(X, temperature), temperature, axis=1)

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        kernel = require(self.kernel, SmoothComponentKernel, "the gradient in x")
        joint = self.joint(X, temperature)
        codes = tempered_softmax(joint, temperature, axis=1, rounding=self.rounding[:, None, None])
        X = X.astype(np.float64, copy=False)
        return tempered_logsumexp(joint, temperature, axis=1), kernel.code_gradient(X, codes)


class MixtureEnergy(
    SplittableEnergy,
    NoisyEnergy,
    ParameterGradientEnergy,
    IncompleteEnergy,
    SparseEnergy,
    Generic[Family],
):
    """``H(x, m, k) = log w_k + H_k(x)``.

    Parameters
    ----------
    family : ComponentFamily
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    """

    def __init__(self, family: Family, equal_weights: bool = False) -> None:
        self.family, self.equal_weights = family, equal_weights
        self.exact_moments = family.exact_moments
        self.n_components, self.n_features = family.n_components, family.n_features

    def _kernel(
        self, params: MixtureParameters, frame: Frame, dtype: Any, temperature: float | None = None
    ) -> tuple[ComponentKernel, NDArray[np.bool_]]:
        """Return the components' kernel, including the term of their own codes if T is given.

        Also return which components have an infinite log weight, (S, K).
        """
        with np.errstate(divide="ignore"):
            log_weights = np.log(params.weights)
        if temperature is not None:
            inner = self.family.code_entropy(params.components, temperature)
            log_weights = log_weights if inner is None else log_weights + inner
        absent = log_weights == -np.inf
        finite = np.where(absent, 0.0, log_weights) if absent.any() else log_weights
        return self.family.kernel(finite, params.components, frame, dtype), absent

    def bind(self, params: MixtureParameters, frame: Frame, dtype: Any) -> BoundMixture:
        kernel, absent = self._kernel(params, frame, dtype)
        return BoundMixture(kernel, absent, self.family, params.components)

    def expectation(
        self, params: MixtureParameters, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> MixtureExpectation:
        kernel, absent = self._kernel(params, frame, dtype, temperature)
        return MixtureExpectation(kernel, absent, temperature, tilt)

    def maximise(
        self, statistics: MixtureStatistics, params: MixtureParameters, temperature: float
    ) -> MixtureParameters:
        counts = statistics.counts
        if counts.min() < 0:
            raise ValueError("counts of rows must not be negative")
        if self.equal_weights:
            weights = np.full_like(counts, 1 / self.n_components)
        else:
            weights = counts / counts.sum(axis=1, keepdims=True)
        components = self.family.maximise(
            counts, statistics.moments, params.components, temperature
        )
        return MixtureParameters(weights, components)

    def gradient_kernel(
        self, params: MixtureParameters, frame: Frame, temperature: float
    ) -> DerivedKernel:
        family = require(self.family, DifferentiableFamily, "the gradient in parameters")
        params = replace(params, components=family.regular(params.components))

        def gradient(statistics: MixtureStatistics, total: float) -> dict[str, Array]:
            counts, moments = statistics.counts, statistics.moments
            found = family.parameter_gradient(params.components, counts, moments, temperature)
            found = {name: value / total for name, value in found.items()}
            if self.equal_weights:
                return found
            return {"weights": _within_simplex(params.weights, counts / total), **found}

        kernel = self.expectation(params, frame, np.float64, temperature, 0.0)
        return DerivedKernel(kernel, gradient)

    def critical_splits(
        self,
        params: MixtureParameters,
        X: Array,
        weights: Array | None,
        frame: Frame,
        temperature: float,
    ) -> Splits:
        family = require(self.family, SplittableFamily, "critical temperatures")
        bound = self.bind(params, frame, np.float64)
        joint = bound.joint(X, temperature)
        codes = tempered_softmax(joint, temperature, 1, bound.rounding[:, None, None])[0]
        if weights is not None:
            codes = codes * weights
        temperatures, halves = np.zeros(len(codes)), []
        for k, shares in enumerate(codes):
            if not shares.any():
                halves.append(_nothing_to_split)
                continue
            rows = shares > _NEGLIGIBLE * shares.max()
            scores = family.split_scores(params.components, k, X[rows], shares[rows], temperature)
            temperatures[k], direction = critical_direction(scores, shares[rows])
            direction = direction * scores.reach(float(temperatures[k]))
            halves.append(partial(self._halved, family, k, scores, direction))
        counts = codes.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            centres = (codes @ X) / counts[:, None]
        return Splits(temperatures, counts / counts.sum(), centres, tuple(halves))

    @staticmethod
    def _halved(
        family: SplittableFamily,
        component: int,
        scores: SplitScores,
        direction: Array,
        params: MixtureParameters,
        step: float,
    ) -> MixtureParameters:
        """Return the model with a component's halves moved apart; the second comes last."""
        weights = params.weights.copy()
        weights[:, component] *= 0.5
        components = family.halved(params.components, component, scores, step * direction)
        return MixtureParameters(appended(weights, weights, component), components)

    def single(self, params: MixtureParameters) -> MixtureParameters:
        family = require(self.family, SplittableFamily, "splits")
        return MixtureParameters(np.ones((1, 1)), family.single(params.components))

    def resized(self, n_components: int) -> Self:
        energy = copy(self)
        energy.n_components = n_components
        energy.family = require(self.family, SplittableFamily, "splits").resized(n_components)  # type: ignore[assignment]
        return energy

    def interpolate(
        self,
        params: MixtureParameters,
        statistics: MixtureStatistics,
        step: Array,
        temperature: float,
    ) -> MixtureStatistics:
        total = statistics.counts.sum(axis=1, keepdims=True)
        counts = params.weights * total
        moments = self.family.expected_moments(
            counts, params.components, statistics.moments, temperature
        )
        step_ = step[:, None]
        return MixtureStatistics(
            (1 - step_) * counts + step_ * statistics.counts,
            self.family.mix_moments(moments, statistics.moments, step),
            statistics.objective,
            statistics.hmaxe,
        )

    def _draw_labels(
        self, params: MixtureParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Draw the model and the component of each row."""
        models = rng.integers(len(params.weights), size=n_rows)
        cumulative = np.cumsum(params.weights, axis=1)
        position = rng.random(n_rows) * cumulative[models, -1]
        labels = (position[:, None] >= cumulative[models]).sum(axis=1)
        return models, np.minimum(labels, self.n_components - 1)

    def draw(
        self, params: MixtureParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        models, labels = self._draw_labels(params, n_rows, rng)
        return self.family.draw(params.components, models, labels, rng), labels

    def convolve(self, params: MixtureParameters, variance: float) -> MixtureParameters:
        family = require(self.family, NoisyComponentFamily, "adding noise")
        return MixtureParameters(params.weights, family.convolve(params.components, variance))

    def of_incomplete_rows(self) -> Self:
        energy = copy(self)
        family = require(self.family, IncompleteFamily, "missing entries of X")
        energy.family = family.of_incomplete_rows()  # type: ignore[assignment]
        energy.exact_moments = energy.family.exact_moments
        return energy

    def of_sparse_rows(self) -> Self:
        energy = copy(self)
        family = require(self.family, SparseFamily, "sparse rows")
        energy.family = family.of_sparse_rows()  # type: ignore[assignment]
        return energy

    def permute(self, params: MixtureParameters, order: NDArray[np.intp]) -> MixtureParameters:
        """Return the models with labels reordered; `order` has shape (S, K)."""
        weights = np.take_along_axis(params.weights, order, axis=1)
        return MixtureParameters(weights, self.family.permute(params.components, order))

    def n_parameters(self) -> int:
        free_weights = 0 if self.equal_weights else self.n_components - 1
        return free_weights + self.family.n_parameters()
