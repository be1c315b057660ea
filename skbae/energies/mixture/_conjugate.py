"""Mixtures with a conjugate prior: draws of codes, and conditionals of models given codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord
from skbae.energies._capabilities import CollapsibleEnergy
from skbae.energies.mixture._collapsed import CollapsedMixture
from skbae.energies.mixture._components import CompletingKernel, ConjugateComponentFamily
from skbae.energies.mixture._coordinates import MixtureCoordinates
from skbae.energies.mixture._energy import (
    MixtureEnergy,
    MixtureExpectation,
    MixtureParameters,
    MixtureStatistics,
    MixtureSums,
    soft_codes,
    weighted_energies,
)
from skbae.operators._draws import LEAST_SHARE, cumulative_exponentials
from skbae.operators._gaps import has_gaps
from skbae.operators._permanent import log_permanent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows
    from skbae.energies._base import RowKernel
    from skbae.energies.mixture._components import Workspace


# Largest number of components for which densities are summed over all relabellings.
MAX_RELABELLED = 12


@dataclass(frozen=True)
class MixtureConditional(ArrayRecord):
    """Dirichlet concentrations (S, K) of the weights, and the components' conditionals."""

    concentration: Array
    components: Any


class MixtureDraws(MixtureExpectation):
    """The pass of a Gibbs sweep: one code drawn for each row (for each unit of its weight)."""

    def codes(
        self, energies: NDArray[Any], weights: Array | None, rng: np.random.Generator | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None, Array]:
        if not self.temperature or rng is None:
            raise ValueError(
                "a Gibbs sweep draws codes: it needs a temperature above 0 and a random generator"
            )
        if weights is not None:
            codes, norm, hmax = soft_codes(energies, self.temperature)
            assert norm is not None
            return self._draw_many(codes, norm, weights, rng), None, hmax
        if self.temperature != 1:
            energies *= energies.dtype.type(1 / self.temperature)
        peak, codes = cumulative_exponentials(energies, out=energies)
        norm = codes[:, -1]
        hmax = (np.log(norm) + peak).astype(np.float64, copy=False)
        hmax *= self.temperature
        threshold = rng.random(norm.shape, dtype=norm.dtype)
        np.maximum(threshold, norm.dtype.type(LEAST_SHARE), out=threshold)
        threshold *= norm
        below = np.zeros(norm.shape, dtype=bool)
        for k in range(codes.shape[1] - 1):
            above = codes[:, k] > threshold
            np.not_equal(above, below, out=codes[:, k], casting="unsafe")
            below = above
        np.logical_not(below, out=codes[:, -1], casting="unsafe")
        return codes, None, hmax

    def condensed(self, rows: Rows) -> tuple[RowKernel, Rows]:
        return self, rows  # equal rows have codes of their own

    def _draw_many(
        self,
        codes: NDArray[Any],
        norm: NDArray[Any],
        weights: Array,
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        probabilities = np.moveaxis(codes / norm[:, None], 1, -1).astype(np.float64)
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        drawn = rng.multinomial(weights.astype(np.int64), probabilities)
        codes[...] = np.moveaxis(drawn, -1, 1)
        return codes

    def accumulate(
        self,
        accumulator: MixtureSums,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Workspace,
        rng: np.random.Generator | None,
    ) -> None:
        self.kernel.load(X, workspace)
        own, shared = weighted_energies(self.kernel, self.absent, workspace, self.temperature)
        codes, _, hmax = self.codes(own, weights, rng)
        if shared is not None:
            hmax += shared
        accumulator.energy += hmax.sum(axis=-1) if weights is None else hmax @ weights
        accumulator.mass += len(X) if weights is None else weights.sum()
        self._add(accumulator.sums, codes, weights, workspace, rng)

    def _add(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        weights: Array | None,
        workspace: Workspace,
        rng: np.random.Generator | None,
    ) -> None:
        """Add the chunk's statistics given codes."""
        row_weights = None if weights is None else weights[None]
        self.kernel.accumulate(sums, codes, row_weights, workspace)


class CompletedDraws(MixtureDraws):
    """The pass of a Gibbs sweep over rows with gaps: a code and the missing entries are drawn."""

    kernel: CompletingKernel

    def _add(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        weights: Array | None,
        workspace: Workspace,
        rng: np.random.Generator | None,
    ) -> None:
        assert workspace.source is not None
        if weights is not None and not has_gaps(workspace.source):
            super()._add(sums, codes, weights, workspace, rng)
            return
        if weights is not None or rng is None:
            raise ValueError(
                "a sweep over rows with missing entries draws each row once: it takes no weights"
            )
        first = self.absent.shape[1] * np.arange(len(codes))
        cells = first[:, None] + codes.argmax(axis=1)
        rows = self.kernel.draw(cells, workspace, self.temperature, rng)
        self.kernel.accumulate_drawn(sums, codes, rows, workspace)


class ConjugateMixture(MixtureEnergy[ConjugateComponentFamily], CollapsibleEnergy):
    """A mixture with a Dirichlet prior on the weights and a conjugate family of components.

    Parameters
    ----------
    family : ConjugateComponentFamily
    concentration : ndarray of shape (K,)
        Concentration of the Dirichlet prior.
    equal_weights : bool, default=False
    """

    def __init__(
        self, family: ConjugateComponentFamily, concentration: Array, equal_weights: bool = False
    ) -> None:
        super().__init__(family, equal_weights)
        self.concentration = concentration

    def sweep(
        self, params: MixtureParameters, frame: Frame, dtype: Any, temperature: float
    ) -> MixtureDraws:
        kernel, absent = self._kernel(params, frame, dtype)
        draws = CompletedDraws if isinstance(kernel, CompletingKernel) else MixtureDraws
        return draws(kernel, absent, temperature, 0.0)

    def conditional(self, statistics: MixtureStatistics, temperature: float) -> MixtureConditional:
        return self.conditional_of(statistics.counts, statistics.moments, temperature)

    def conditional_of(self, counts: Array, moments: Any, temperature: float) -> MixtureConditional:
        """Return ``p(m | X, z)`` of allocations with such counts (S, K) and moments."""
        concentration = self.concentration + counts / temperature
        components = self.family.conditional(counts, moments, temperature)
        return MixtureConditional(concentration, components)

    def collapse(self, X: Array, temperature: float) -> CollapsedMixture:
        components = self.family.collapse(X, 1.0 / temperature)
        return CollapsedMixture(components, self.concentration, self.equal_weights)

    def allocated(self, counts: Array, moments: Any) -> MixtureStatistics:
        zeros = np.zeros(len(counts))
        return MixtureStatistics(counts, moments, zeros, zeros)

    def allocation_size(self) -> float:
        return self.n_components * self.family.operations_per_row()

    def joint(self, params: MixtureParameters, X: Array, frame: Frame) -> Array:
        return self.bind(params, frame, np.float64).joint(X)

    def _draw_weights(self, concentration: Array, rng: np.random.Generator) -> Array:
        if self.equal_weights:
            return np.full(concentration.shape, 1 / self.n_components)
        weights = np.maximum(rng.standard_gamma(concentration), np.finfo(float).tiny)
        return weights / weights.sum(axis=1, keepdims=True)

    def draw_conditional(
        self, conditional: MixtureConditional, rng: np.random.Generator
    ) -> MixtureParameters:
        weights = self._draw_weights(conditional.concentration, rng)
        return MixtureParameters(weights, self.family.draw_conditional(conditional.components, rng))

    def draw_prior(self, n_models: int, rng: np.random.Generator) -> MixtureParameters:
        concentration = np.tile(self.concentration, (n_models, 1))
        weights = self._draw_weights(concentration, rng)
        return MixtureParameters(weights, self.family.draw_prior(n_models, rng))

    def log_conditional(self, conditional: MixtureConditional, params: MixtureParameters) -> Array:
        models, conditionals, shared = self.family.linear_form(
            conditional.components, params.components
        )
        constant = -gammaln(self.n_components + 1)
        if not self.equal_weights:
            concentration = conditional.concentration
            log_weights = _log_weights(params)[..., None]
            powers = np.stack([concentration - 1, -gammaln(concentration)], axis=-1)
            models = np.concatenate([models, log_weights, np.ones_like(log_weights)], axis=-1)
            conditionals = np.concatenate([conditionals, powers], axis=-1)
            constant = constant + gammaln(concentration.sum(axis=1))
        # (K, K, S, M): log density of component k of a model under component j of a conditional
        fits = np.matmul(models.transpose(1, 0, 2)[:, None], conditionals.transpose(1, 2, 0))
        density = log_permanent(fits) + constant
        return density if shared is None else density + shared

    def log_prior(self, params: MixtureParameters) -> Array:
        total = self.family.log_prior(params.components)
        if self.equal_weights:
            return total
        concentration = self.concentration
        constant = gammaln(concentration.sum()) - gammaln(concentration).sum()
        return total + _log_weights(params) @ (concentration - 1) + constant

    def scores(
        self,
        params: MixtureParameters,
        statistics: MixtureStatistics,
        temperature: float,
        total: float,
    ) -> Array:
        # computed from the densities, not from the conditionals, so that an error in these shows
        counts = statistics.counts
        scores = self.family.scores(params.components, counts, statistics.moments, temperature)
        if self.equal_weights or self.n_components == 1:
            return scores
        seen = self.concentration + counts / temperature
        expected = params.weights * (self.concentration.sum() + total / temperature)
        return np.concatenate([seen - expected, scores], axis=1)

    def log_joint(self, statistics: MixtureStatistics, temperature: float) -> Array:
        """Return ``log p(X, z)``, (S,), with models integrated out, from statistics given codes.

        The log of the integral of ``prior(m) exp(sum over rows of H(x, m, z) / T)``.
        """
        counts = statistics.counts
        marginals = self.family.log_marginal(counts, statistics.moments, temperature)
        rows = counts.sum(axis=1) / temperature
        if self.equal_weights:
            return marginals.sum(axis=1) - rows * np.log(self.n_components)
        prior = self.concentration
        weights = gammaln(prior + counts / temperature) - gammaln(prior)
        constant = gammaln(prior.sum()) - gammaln(prior.sum() + rows)
        return (marginals + weights).sum(axis=1) + constant

    def maximise_posterior(
        self, statistics: MixtureStatistics, temperature: float
    ) -> MixtureParameters:
        conditional = self.conditional(statistics, temperature)
        if self.equal_weights:
            weights = np.full(conditional.concentration.shape, 1 / self.n_components)
        else:
            # the mode over the coordinates log w, where all weights are positive
            weights = conditional.concentration
            weights = weights / weights.sum(axis=1, keepdims=True)
        return MixtureParameters(weights, self.family.mode(conditional.components))

    def log_mode_measure(self, params: MixtureParameters) -> Array:
        of_components = self.family.log_mode_measure(params.components)
        return (
            of_components
            if self.equal_weights
            else (of_components + _log_weights(params).sum(axis=1))
        )

    def relabel(self, params: MixtureParameters, rng: np.random.Generator) -> MixtureParameters:
        keys = rng.random(params.weights.shape)
        return self.permute(params, np.argsort(keys, axis=1))


def _log_weights(params: MixtureParameters) -> Array:
    """Return the logs of weights; those that have underflowed count as the smallest number."""
    return np.log(np.maximum(params.weights, np.finfo(np.float64).tiny))


class SmoothConjugateMixture(ConjugateMixture, MixtureCoordinates):
    """A conjugate mixture whose components also have unconstrained coordinates.

    Its `family` is both a ConjugateComponentFamily and a GradientComponentFamily.
    """

    family: Any
