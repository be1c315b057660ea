"""The visible layers of restricted Boltzmann machines: functions that depend on the kind of unit.

The energy is ``own(x) + sum_j h_j a_j(x) - log Z`` with ``a = c + W x / s2`` (s2 = 1 for binary
units). A layer implements ``own``, the conditional of x given h, the partition function, and the
path from a base model of independent features, whose partition function is known, to the machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from skbae._types import ArrayRecord
from skbae.energies.rbm._contrast import draw_bits, logistic
from skbae.operators._constants import LOG_2PI
from skbae.operators._enumeration import (
    StateSums,
    log_sum_one_layer,
    log_sum_two_layers,
    log_weights_one_layer,
    log_weights_two_layers,
    sum_one_layer,
    sum_two_layers,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Number of factors that are multiplied before the logarithm is taken.
_GROUP = 16
# Factors of a pseudo-likelihood, and least number of units that it has.
_MOST_FACTORS, _FEWEST_SCORED = 20_000_000, 50
# With larger weights the product of such factors would lose digits.
_LARGE = 20.0


@dataclass(frozen=True)
class RBMParameters(ArrayRecord):
    """Machines: ``weights`` (S, d, D), ``visible`` (S, D), ``hidden`` (S, d), ``noise`` (S, k).

    The noise is the variance s2 of Gaussian units, one for all (k = 1) or one each (k = D), and 1
    for binary ones (k = 1); ``log_partition`` (S,) is NaN until it is computed.
    """

    weights: Array
    visible: Array
    hidden: Array
    noise: Array
    log_partition: Array


@dataclass(frozen=True)
class Moments(ArrayRecord):
    """Expectations of which the energy's gradient is a linear function.

    ``pair`` (S, d, D) of h x', ``hidden`` (S, d), ``visible`` (S, D), ``square`` (S, D) of
    ``(x - b)^2``, which is not used for binary units.
    """

    pair: Array
    hidden: Array
    visible: Array
    square: Array

    def plus(self, other: Moments) -> Moments:
        """Return the sum of these moments and others."""
        return Moments(
            self.pair + other.pair,
            self.hidden + other.hidden,
            self.visible + other.visible,
            self.square + other.square,
        )


@dataclass(frozen=True)
class BaseRates:
    """Mean and variance of each feature, (D,): a model of independent features."""

    mean: Array
    variance: Array


@np.errstate(under="ignore")
def softplus(a: Array) -> Array:
    """Return ``log(1 + exp(a))``."""
    return np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a)))


def scored_units(n_features: int, cost: int) -> NDArray[np.intp]:
    """Return the visible units of which a pseudo-likelihood is made, always the same.

    Parameters
    ----------
    n_features : int
    cost : int
        Of one unit: rows times hidden units.

    Examples
    --------
    >>> len(scored_units(64, 1000)), len(scored_units(784, 200_000))
    (64, 100)
    """
    n_scored = max(_FEWEST_SCORED, _MOST_FACTORS // max(cost, 1))
    if n_scored >= n_features:
        return np.arange(n_features)
    return np.random.default_rng(0).permutation(n_features)[:n_scored]


class VisibleLayer(ABC):
    """A kind of visible unit."""

    name: str
    has_noise: bool

    def n_noise(self, n_features: int) -> int:
        """Return k, the number of noise variances that are fitted."""
        return 0

    @abstractmethod
    def own(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        """Return the energy of rows without hidden units, (S, n)."""

    @abstractmethod
    def own_gradient(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        """Return the gradient of :meth:`own` in x, of shape (S, n, D) or broadcastable to it."""

    @abstractmethod
    def own_sums(self, params: RBMParameters, X: Array, weights: Array) -> tuple[Array, Array]:
        """Return weighted sums over rows of :meth:`own`, (S,), and of ``(x - b)^2``, (S, D)."""

    @abstractmethod
    def mean(self, params: RBMParameters, codes: Array) -> Array:
        """Return the expected rows (n, D) of codes (n, d) under a single machine."""

    @abstractmethod
    def emit(self, params: RBMParameters, codes: Array, rng: np.random.Generator) -> Array:
        """Draw rows (n, D) given codes (n, d) of a single machine."""

    @abstractmethod
    def n_enumerated(self, n_components: int, n_features: int) -> int:
        """Return the number of units whose states an exact partition function enumerates."""

    @abstractmethod
    def log_partition(self, params: RBMParameters) -> Array:
        """Return log Z, (S,), by enumeration."""

    @abstractmethod
    def expectations(self, params: RBMParameters) -> tuple[Array, Moments]:
        """Return log Z, (S,), and the moments under the machines, by enumeration."""

    @abstractmethod
    def state_weights(self, params: RBMParameters) -> tuple[Array, bool]:
        """Return log weights of one machine's enumerated states, and whether they are hidden."""

    @abstractmethod
    def energy_gradient(self, params: RBMParameters, moments: Moments) -> list[Array]:
        """Return the gradient of the energy in weights, visible, hidden (and log noise)."""

    @abstractmethod
    def proper_score(self, params: RBMParameters, X: Array) -> Array:
        """Return a proper score of rows under a single machine, (n,), that needs no log Z.

        Its expectation is largest for the true distribution; larger is better.
        """

    @abstractmethod
    def start(self, rates: BaseRates) -> tuple[Array, Array]:
        """Return intercepts (D,) and noise variances (k,) of the model of independent features."""

    # -- the path of annealing -----------------------------------------------------------------

    @abstractmethod
    def base_log_sum(self, rates: BaseRates) -> float:
        """Return the log partition function of the base model, without hidden units."""

    @abstractmethod
    def base_draw(self, rates: BaseRates, n: int, rng: np.random.Generator) -> Array:
        """Draw n rows from the base model."""

    @abstractmethod
    def base_own(self, rates: BaseRates, X: Array) -> Array:
        """Return the base model's log weight of rows, (n,)."""

    @abstractmethod
    def path_emit(
        self,
        params: RBMParameters,
        rates: BaseRates,
        codes: Array,
        beta: float,
        rng: np.random.Generator,
    ) -> Array:
        """Draw rows given codes at the point `beta` of the path."""


class BinaryLayer(VisibleLayer):
    """Visible units in {0, 1}; rows may also hold probabilities between 0 and 1."""

    name, has_noise = "bernoulli", False

    def own(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        return params.visible @ X.T

    def own_gradient(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        return params.visible[:, None]

    def own_sums(self, params: RBMParameters, X: Array, weights: Array) -> tuple[Array, Array]:
        return params.visible @ (weights @ X), np.zeros(params.visible.shape)

    def mean(self, params: RBMParameters, codes: Array) -> Array:
        return logistic(params.visible[0] + codes @ params.weights[0])

    def emit(self, params: RBMParameters, codes: Array, rng: np.random.Generator) -> Array:
        return draw_bits(self.mean(params, codes), rng)

    def n_enumerated(self, n_components: int, n_features: int) -> int:
        return min(n_components, n_features)

    def _layers(self, params: RBMParameters) -> tuple[Array, Array, Array, bool]:
        hidden = params.weights.shape[1] <= params.weights.shape[2]
        if hidden:
            return params.weights, params.visible, params.hidden, True
        return np.swapaxes(params.weights, 1, 2), params.hidden, params.visible, False

    def log_partition(self, params: RBMParameters) -> Array:
        return log_sum_two_layers(*self._layers(params)[:3])

    def expectations(self, params: RBMParameters) -> tuple[Array, Moments]:
        *layers, hidden = self._layers(params)
        sums = sum_two_layers(*layers)
        none = np.zeros(params.visible.shape)
        if hidden:
            return sums.log_sum, Moments(sums.pairs, sums.units, sums.others, none)
        pair = np.swapaxes(sums.pairs, 1, 2)
        return sums.log_sum, Moments(pair, sums.others, sums.units, none)

    def state_weights(self, params: RBMParameters) -> tuple[Array, bool]:
        weights, offsets, intercepts, hidden = self._layers(params)
        return log_weights_two_layers(weights[0], offsets[0], intercepts[0]), hidden

    def energy_gradient(self, params: RBMParameters, moments: Moments) -> list[Array]:
        return [moments.pair, moments.visible, moments.hidden]

    def proper_score(self, params: RBMParameters, X: Array) -> Array:
        """Pseudo-likelihood: each unit given all others (Besag 1975); of many, of some of them."""
        weights, visible = params.weights[0], params.visible[0]
        activations = X @ weights.T + params.hidden[0]
        if np.abs(weights).max() > _LARGE or not np.all((X == 0) | (X == 1)):
            return self._accurate_score(weights, visible, X, activations)
        codes, groups = expit(activations), np.arange(0, len(weights), _GROUP)
        score = np.zeros(len(X))
        units = scored_units(X.shape[1], codes.size)
        for i in units:
            # factor of exp(-free energy) when the bit is flipped
            turn = np.where(X[:, i, None] > 0, np.expm1(-weights[:, i]), np.expm1(weights[:, i]))
            products = np.multiply.reduceat(1.0 + codes * turn, groups, axis=1)
            gap = np.log(np.maximum(products, 1e-300)).sum(axis=1)
            score -= softplus(gap + np.where(X[:, i] > 0, -visible[i], visible[i]))
        return score * (X.shape[1] / len(units))

    @staticmethod
    def _accurate_score(weights: Array, visible: Array, X: Array, activations: Array) -> Array:
        score = np.zeros(len(X))
        for i in range(X.shape[1]):
            without = activations - X[:, i, None] * weights[:, i]
            gap = visible[i] + (softplus(without + weights[:, i]) - softplus(without)).sum(axis=1)
            score += X[:, i] * gap - softplus(gap)
        return score

    def start(self, rates: BaseRates) -> tuple[Array, Array]:
        return np.log(rates.mean) - np.log1p(-rates.mean), np.ones(1)

    def base_log_sum(self, rates: BaseRates) -> float:
        return float(-np.log1p(-rates.mean).sum())

    def base_draw(self, rates: BaseRates, n: int, rng: np.random.Generator) -> Array:
        return (rng.random((n, len(rates.mean))) < rates.mean).astype(np.float64)

    def base_own(self, rates: BaseRates, X: Array) -> Array:
        return X @ self.start(rates)[0]

    def path_emit(
        self,
        params: RBMParameters,
        rates: BaseRates,
        codes: Array,
        beta: float,
        rng: np.random.Generator,
    ) -> Array:
        field = (1 - beta) * self.start(rates)[0]
        field = field + beta * (params.visible[0] + codes @ params.weights[0])
        return (rng.random(field.shape) < expit(field)).astype(np.float64)


class GaussianLayer(VisibleLayer):
    """Real visible units, with a variance of their own or a common one.

    Parameters
    ----------
    per_feature : bool, default=False
    """

    name, has_noise = "gaussian", True

    def __init__(self, per_feature: bool = False) -> None:
        self.per_feature = per_feature

    def n_noise(self, n_features: int) -> int:
        return n_features if self.per_feature else 1

    def own(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        deviations = (X - params.visible[:, None]) / np.sqrt(params.noise)[:, None]
        return -0.5 * np.einsum("snd,snd->sn", deviations, deviations)

    def own_gradient(self, params: RBMParameters, X: NDArray[Any]) -> Array:
        return (params.visible[:, None] - X) / params.noise[:, None]

    def own_sums(self, params: RBMParameters, X: Array, weights: Array) -> tuple[Array, Array]:
        # squares about the rows' mean lose no digits, and no array has the size of models times
        # rows
        total = weights.sum()
        mean = weights @ X / total
        square = weights @ (X - mean) ** 2 + total * (params.visible - mean) ** 2
        return -0.5 * (square / params.noise).sum(axis=1), square

    def mean(self, params: RBMParameters, codes: Array) -> Array:
        return params.visible[0] + codes @ params.weights[0]

    def emit(self, params: RBMParameters, codes: Array, rng: np.random.Generator) -> Array:
        mean = self.mean(params, codes)
        return mean + np.sqrt(params.noise[0]) * rng.standard_normal(mean.shape)

    def n_enumerated(self, n_components: int, n_features: int) -> int:
        return n_components

    def _layer(self, params: RBMParameters) -> tuple[Array, Array]:
        scaled = params.weights / params.noise[:, None]
        fields = params.hidden + np.einsum("sjd,sd->sj", scaled, params.visible)
        return fields, np.matmul(scaled, np.swapaxes(params.weights, 1, 2))

    def _constant(self, params: RBMParameters) -> Array:
        return 0.5 * params.visible.shape[1] * (LOG_2PI + np.log(params.noise).mean(axis=1))

    def log_partition(self, params: RBMParameters) -> Array:
        return self._constant(params) + log_sum_one_layer(*self._layer(params))

    def expectations(self, params: RBMParameters) -> tuple[Array, Moments]:
        sums: StateSums = sum_one_layer(*self._layer(params))
        pulled = np.matmul(sums.pairs, params.weights)
        pair = sums.units[:, :, None] * params.visible[:, None] + pulled
        shift = np.einsum("sj,sjd->sd", sums.units, params.weights)
        square = params.noise + (pulled * params.weights).sum(axis=1)
        moments = Moments(pair, sums.units, params.visible + shift, square)
        return self._constant(params) + sums.log_sum, moments

    def state_weights(self, params: RBMParameters) -> tuple[Array, bool]:
        fields, couplings = self._layer(params)
        return log_weights_one_layer(fields[0], couplings[0]), True

    def energy_gradient(self, params: RBMParameters, moments: Moments) -> list[Array]:
        noise = params.noise
        explained = (params.weights * moments.pair).sum(axis=1)
        of_noise = 0.5 * moments.square - explained
        if not self.per_feature:
            of_noise = of_noise.sum(axis=1, keepdims=True)
        return [
            moments.pair / noise[:, None],
            (moments.visible - params.visible) / noise,
            moments.hidden,
            of_noise / noise,
        ]

    def proper_score(self, params: RBMParameters, X: Array) -> Array:
        """Score matching (Hyvarinen 2005): ``-(|g|^2 / 2 + div g)`` for the gradient g in x."""
        noise, weights = params.noise[0], params.weights[0]
        codes = expit(X @ (weights / noise).T + params.hidden[0])
        gradient = (params.visible[0] - X + codes @ weights) / noise
        lengths = ((weights / noise) ** 2).sum(axis=1)
        divergence = (codes * (1 - codes)) @ lengths - X.shape[1] * (1 / noise).mean()
        return -(0.5 * (gradient**2).sum(axis=1) + divergence)

    def start(self, rates: BaseRates) -> tuple[Array, Array]:
        noise = rates.variance if self.per_feature else rates.variance.mean(keepdims=True)
        return rates.mean, noise

    def base_log_sum(self, rates: BaseRates) -> float:
        return float(0.5 * (LOG_2PI + np.log(rates.variance)).sum())

    def base_draw(self, rates: BaseRates, n: int, rng: np.random.Generator) -> Array:
        noise = rng.standard_normal((n, len(rates.mean)))
        return rates.mean + np.sqrt(rates.variance) * noise

    def base_own(self, rates: BaseRates, X: Array) -> Array:
        return -0.5 * ((X - rates.mean) ** 2 / rates.variance).sum(axis=1)

    def path_emit(
        self,
        params: RBMParameters,
        rates: BaseRates,
        codes: Array,
        beta: float,
        rng: np.random.Generator,
    ) -> Array:
        base, own = (1 - beta) / rates.variance, beta / params.noise[0]
        mean = base * rates.mean + own * self.mean(params, codes)
        precision = base + own
        noise = rng.standard_normal(mean.shape)
        return mean / precision + noise / np.sqrt(precision)


LAYERS: dict[str, type[VisibleLayer]] = {"bernoulli": BinaryLayer, "gaussian": GaussianLayer}
