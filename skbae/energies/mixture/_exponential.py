r"""Components of an exponential family: linear in features of a row.

A component whose log density is

.. math:: H(x) = \langle \eta, s(x) \rangle - \Psi(\eta) + h(x)

is defined by its features ``s``, its natural parameters ``eta`` with the constant ``-Psi``, and by
the map between parameters and expected features. From these follow all methods of a mixture: the
pass over the rows is two matrix products, and maximisation is the matching of moments, at any
temperature and tilt. A conjugate prior (Diaconis and Ylvisaker 1979) is the sum of features of a
number of pseudo-rows; conditionals given codes add the sums of the rows to it, and one function,
the log normaliser of the density, gives densities, evidence and marginal likelihoods.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.mixture._collapsed import CollapsedComponents
from skbae.energies.mixture._components import (
    ConjugateComponentFamily,
    FeatureKernel,
    GradientComponentFamily,
    StartableFamily,
    WorkspaceKey,
    interpolated,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame


@dataclass(frozen=True)
class FeatureSums(ArrayRecord):
    """Sums over rows of their features, (S, K, P), and of their base, (S, K)."""

    features: Array
    base: Array


@dataclass(frozen=True)
class FeatureConditional(ArrayRecord):
    """Sums of features of prior and rows, and last the number of rows, (S, K, P + 1)."""

    statistics: Array


# Largest bound on the rounding error of an energy in single precision, in nats: that of Gaussian
# components.
_SINGLE_TOLERANCE = 4e-2


class ExponentialKernel(FeatureKernel):
    """The kernel of any :class:`ExponentialComponents`.

    In single precision for rows of single precision, where the bound on its rounding allows it.
    """

    def __init__(
        self,
        family: ExponentialComponents,
        log_weights: Array,
        params: ArrayRecord,
        dtype: Any = np.float64,
    ) -> None:
        natural = family.natural(params)
        # the base of a row, the same for all components, is a feature with coefficient 1
        ones = np.ones((*log_weights.shape, 1))
        constant = natural[..., -1:] + log_weights[..., None]
        size = np.abs(natural[..., -1])
        size += (np.abs(natural[..., :-1]) * np.abs(family.expected_features(params))).sum(axis=-1)
        largest = 4 * size.max(axis=1)
        single = np.dtype(dtype) == np.float32
        single = single and bool(largest.max() * np.finfo(np.float32).eps < _SINGLE_TOLERANCE)
        precision = np.float32 if single else np.float64
        rounding = largest * float(np.finfo(precision).eps)
        parts = [natural[..., :-1], ones, constant]
        self.exact = np.concatenate(parts, axis=-1)
        super().__init__(self.exact, precision, rounding)
        self.family = family

    def key(self, n_rows: int) -> WorkspaceKey:
        return WorkspaceKey(
            "exponential", n_rows, self.n_features, self.dtype.str, owner=self.family
        )

    def write(self, X: NDArray[Any], features: NDArray[Any]) -> None:
        self.family.write_features(X, features[:-1])
        features[-1] = self.family.base(X)

    def moments(self, sums: list[Array]) -> tuple[Array, FeatureSums]:
        counts, features, _ = self.split(sums)
        return counts, FeatureSums(features[..., :-1], features[..., -1])


def standardised(features: Array) -> Array:
    """Return features (N, P) with mean 0 and standard deviation 1, or 0 where they are constant."""
    spread = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


class ExponentialComponents(StartableFamily):
    """Components that are linear in features of a row, each with its own parameters.

    A family has the attributes ``n_components`` and ``n_features``, and writes the methods below,
    :meth:`draw` and :meth:`n_parameters`. Its parameters are an ArrayRecord of arrays (S, K, ...).
    """

    exact_moments = True

    @abstractmethod
    def features(self, X: NDArray[Any]) -> Array:
        """Return the P features of rows (n, D), of shape (n, P); the constant is not among them."""

    def write_features(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the features into an array of shape (P, n)."""
        out[...] = self.features(X).T

    def base(self, X: NDArray[Any]) -> Array | float:
        """Return the part of the energy of rows (n, D) that all components share, (n,)."""
        return 0.0

    @abstractmethod
    def natural(self, params: Any) -> Array:
        """Return coefficients of the features, and last the constant of the energy, (S, K, P + 1).

        They must be finite: parameters at a boundary must be moved slightly inside.
        """

    @abstractmethod
    def expected_features(self, params: Any) -> Array:
        """Return the expected features under each component, (S, K, P)."""

    @abstractmethod
    def match_features(self, means: Array) -> Any:
        """Return the components whose expected features are `means` (S, K, P)."""

    def kernel(
        self, log_weights: Array, params: Any, frame: Frame, dtype: Any
    ) -> ExponentialKernel:
        return ExponentialKernel(self, log_weights, params, dtype)

    def maximise(self, counts: Array, moments: FeatureSums, params: Any, temperature: float) -> Any:
        alive = (counts > 0)[..., None]
        means = moments.features / np.where(alive, counts[..., None], 1.0)
        return self.match_features(np.where(alive, means, self.expected_features(params)))

    def expected_moments(
        self, counts: Array, params: Any, like: FeatureSums, temperature: float
    ) -> FeatureSums:
        return FeatureSums(counts[..., None] * self.expected_features(params), like.base)

    def mix_moments(self, first: FeatureSums, second: FeatureSums, step: Array) -> FeatureSums:
        return FeatureSums(
            interpolated(first.features, second.features, step),
            interpolated(first.base, second.base, step),
        )

    def standard_rows(self, X: Array) -> Array:
        return standardised(self.features(X))

    def start(self, X: Array, codes: Array) -> Any:
        return self.match_features(codes @ self.features(X) / codes.sum(axis=2, keepdims=True))


class ConjugateExponentialComponents(ExponentialComponents, ConjugateComponentFamily):
    """Components that are linear in features of a row, with a conjugate prior.

    Densities of parameters are densities over natural parameters. A family implements the two
    methods below and those of :class:`ExponentialComponents`.

    Attributes
    ----------
    prior : ndarray of shape (P + 1,)
        Sums of features of the pseudo-rows of the prior, and last their number.
    """

    prior: Array

    @abstractmethod
    def log_normaliser(self, statistics: Array) -> Array:
        """Return ``A = log of the integral of exp(<natural, statistics>)``, of shape (...).

        The integral is over natural parameters; `statistics` of shape (..., P + 1) are sums of
        features and, last, the number of rows.
        """

    @abstractmethod
    def draw_statistics(self, statistics: Array, rng: np.random.Generator) -> Any:
        """Draw components from densities ``exp(<natural, statistics> - A)`` (S, K, P + 1)."""

    # -- derived methods -----------------------------------------------------------------------

    def operations_per_row(self) -> float:
        return 10.0 * len(self.prior) + 20.0

    def collapse(self, X: Array, heat: float) -> CollapsedExponential:
        return CollapsedExponential(self, X, heat)

    def conditional(
        self, counts: Array, moments: FeatureSums, temperature: float
    ) -> FeatureConditional:
        rows = np.concatenate([moments.features, counts[..., None]], axis=-1)
        return FeatureConditional(self.prior + rows / temperature)

    def draw_conditional(self, conditional: FeatureConditional, rng: np.random.Generator) -> Any:
        return self.draw_statistics(conditional.statistics, rng)

    def draw_prior(self, n_models: int, rng: np.random.Generator) -> Any:
        shape = (n_models, self.n_components, len(self.prior))
        return self.draw_statistics(np.broadcast_to(self.prior, shape), rng)

    def linear_form(
        self, conditional: FeatureConditional, params: Any
    ) -> tuple[Array, Array, Array | None]:
        natural, statistics = self.natural(params), conditional.statistics
        ones = np.ones((*natural.shape[:2], 1))
        constant = -self.log_normaliser(statistics)[..., None]
        of_models = np.concatenate([natural, ones], axis=-1)
        return of_models, np.concatenate([statistics, constant], axis=-1), None

    def log_prior(self, params: Any) -> Array:
        density = self.natural(params) @ self.prior - self.log_normaliser(self.prior)
        return density.sum(axis=1)

    def mode(self, conditional: FeatureConditional) -> Any:
        statistics = conditional.statistics
        return self.match_features(statistics[..., :-1] / statistics[..., -1:])

    def log_mode_measure(self, params: Any) -> Array:
        return np.zeros(params.n_models)  # densities and modes are over natural parameters

    def scores(self, params: Any, counts: Array, moments: FeatureSums, temperature: float) -> Array:
        # the gradient in natural parameters: sums of features minus their expectation
        seen = self.prior[:-1] + moments.features / temperature
        n_rows = self.prior[-1] + counts / temperature
        gradient = seen - n_rows[..., None] * self.expected_features(params)
        return gradient.reshape(len(counts), -1)

    def log_marginal(self, counts: Array, moments: FeatureSums, temperature: float) -> Array:
        statistics = self.conditional(counts, moments, temperature).statistics
        evidence = self.log_normaliser(statistics) - self.log_normaliser(self.prior)
        return evidence + moments.base / temperature

    def log_joining(
        self,
        conditional: FeatureConditional,
        X: NDArray[Any],
        temperature: float,
        labels: NDArray[np.intp] | None = None,
    ) -> Array:
        """Return the increase of :meth:`log_marginal` when a row joins a component.

        Parameters
        ----------
        conditional : FeatureConditional
            S conditionals.
        X : ndarray of shape (n, D)
        temperature : float
            T.
        labels : ndarray of int of shape (S, n) or None, default=None
            The component in which each row is counted already, and from which it is removed first
            (leave one out). None for rows that are not counted in `conditional`.

        Returns
        -------
        ndarray of shape (S, K, n)
            For each row alone. At T = 1 these are log predictive densities.
        """
        statistics = conditional.statistics
        rows = np.concatenate([self.features(X), np.ones((len(X), 1))], axis=1) / temperature
        now = self.log_normaliser(statistics)
        change = self.log_normaliser(statistics[:, :, None] + rows) - now[..., None]
        if labels is not None:
            models = np.arange(len(statistics))[:, None]
            without = self.log_normaliser(statistics[models, labels] - rows)
            change[models, labels, np.arange(len(X))] = now[models, labels] - without
        return change + np.broadcast_to(self.base(X), len(X)) / temperature


class NaturalExponentialComponents(ConjugateExponentialComponents, GradientComponentFamily):
    """Components whose natural parameters may be any numbers.

    These are then unconstrained coordinates, in which models are sampled at any temperatures. A
    family implements one more method than :class:`ConjugateExponentialComponents`.
    """

    @abstractmethod
    def from_natural(self, natural: Array) -> Any:
        """Return the components with coefficients (S, K, P) of the features."""

    # -- derived methods -----------------------------------------------------------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return np.tile(np.arange(len(self.prior) - 1), self.n_components)

    def unconstrain(self, params: Any) -> Array:
        natural = self.natural(params)[..., :-1]
        return natural.reshape(len(natural), -1)

    def constrain(self, theta: Array) -> Any:
        return self.from_natural(theta.reshape(len(theta), self.n_components, -1))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        params = self.constrain(theta)
        gradient = self.prior[:-1] - self.prior[-1] * self.expected_features(params)
        return self.log_prior(params), gradient.reshape(theta.shape)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: FeatureSums, temperature: float
    ) -> Array:
        expected = counts[..., None] * self.expected_features(self.constrain(theta))
        return (moments.features - expected).reshape(theta.shape)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return self.unconstrain(self.draw_prior(n_models, rng))


class CollapsedExponential(CollapsedComponents):
    """Components of an exponential family of given rows, integrated over their conjugate prior.

    Parameters
    ----------
    family : ConjugateExponentialComponents
    rows : ndarray of shape (N, D)
    heat : float
        ``1 / T``.
    """

    def __init__(self, family: ConjugateExponentialComponents, rows: Array, heat: float) -> None:
        self.family, self.rows, self.heat = family, rows, heat
        self.n_components, self.n_rows = family.n_components, len(rows)
        features = family.features(rows)
        base = np.broadcast_to(family.base(rows), len(rows))
        self.features = np.concatenate([features, base[:, None]], axis=1)
        self.standard_rows = standardised(features)
        self.columns = features

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedExponential:
        return CollapsedExponential(self.family, self.rows[index], self.heat)

    def moments(self, sums: Array) -> FeatureSums:
        return FeatureSums(sums[..., :-1], sums[..., -1])

    def _unheated(self, counts: Array, sums: Array) -> tuple[Array, FeatureSums]:
        return counts / self.heat, self.moments(sums / self.heat)

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        rows = self._unheated(counts, sums)
        return self.family.log_marginal(*rows, 1.0 / self.heat).sum(axis=1)

    def leave_one_out(
        self,
        counts: Array,
        sums: Array,
        labels: NDArray[np.intp],
        of_joining: Array,
        of_leaving: Array,
    ) -> tuple[Array, Array]:
        temperature = 1.0 / self.heat
        conditional = self.family.conditional(*self._unheated(counts, sums), temperature)
        preferences = self.family.log_joining(conditional, self.rows, temperature, labels)
        index = labels[:, None]
        own = np.take_along_axis(preferences, index, axis=1)
        own = own + np.take_along_axis(of_leaving, labels, axis=1)[:, None]
        preferences = preferences + of_joining[..., None]
        np.put_along_axis(preferences, index, own, axis=1)
        return preferences, self.log_marginal(counts, sums)
