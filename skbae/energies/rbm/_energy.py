r"""Restricted Boltzmann machines: hidden bits with binary or real features.

``H(x, m, h) = b'x + x'Wh + c'h - log Z(m)`` for binary features, ``-|x - b|^2 / (2 s2) + x'Wh / s2
+ c'h - log Z(m)`` for real ones, with W' stored as ``weights`` (d, D). Given x the bits are
independent, so that ``Hmax_T`` is a sum over them. Z is always that of T = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, gammaln

from skbae.energies._base import DerivedKernel
from skbae.energies._capabilities import (
    ContrastiveEnergy,
    GradientEnergy,
    NoisyEnergy,
    ParameterGradientEnergy,
    PartitionEnergy,
)
from skbae.energies.rbm._contrast import centred_contrast, draw_bits, logistic
from skbae.energies.rbm._kernel import BoundRBM, Contrast, RBMStatistics, tempered_bits
from skbae.energies.rbm._noisy import BoundNoisyMachine, NoisyMachine
from skbae.energies.rbm._visible import (
    LOG_2PI,
    BaseRates,
    Moments,
    RBMParameters,
    VisibleLayer,
    softplus,
)
from skbae.operators._tempered import tempered_logsumexp, tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame


# Largest number of hidden units of a machine with noise added, whose codes are enumerated.
MAX_CONVOLVED_UNITS = 14
# Gibbs steps from the kept states to rows that `draw` returns.
_STEPS_TO_DRAW = 200
# States of chains over which the expectations of a machine too large to be enumerated are averaged.
_STATES_TO_EXPECT = 40_000
# Number of weights from which training steps compute in single precision.
_LARGE_MACHINE = 1 << 16
# Beyond it a fit has diverged.
_LARGEST_LOG_NOISE = 600.0
# Least noise variance of real features, which are scaled: of each feature, or if they share one.
_NOISE_FLOORS = {True: 1e-3, False: 1e-6}
# Least probability of a binary feature in the base model, where all rows have the same value.
_LEAST_RATE = 1e-3


@dataclass(frozen=True)
class RBMPrior:
    """Normal weights and intercepts (mean 0), ``s2 ~ InvGamma(shape, scale)``.

    The scale is that of all noise variances, or an array of one for each, (k,).
    """

    weight_variance: float
    intercept_variance: float
    noise_shape: float
    noise_scale: float | Array


def base_rates(layer: VisibleLayer, mean: Array, scale: Array) -> BaseRates:
    """Return the model of independent features, with probabilities and variances above zero."""
    if not layer.has_noise:
        mean = np.clip(mean, _LEAST_RATE, 1 - _LEAST_RATE)
    variance = scale**2
    return BaseRates(mean, np.maximum(variance, 1e-3 * max(float(variance.mean()), 1e-300)))


@dataclass(frozen=True)
class PathStates:
    """Rows (n, D) on a path of annealing, with their activations (n, d)."""

    rows: Array
    activations: Array


class RBMEnergy(
    GradientEnergy, ParameterGradientEnergy, PartitionEnergy, ContrastiveEnergy, NoisyEnergy
):
    """Restricted Boltzmann machines.

    Parameters
    ----------
    n_components, n_features : int
        d and D.
    layer : VisibleLayer
    rates : BaseRates
        Means and variances of the training rows, for the base model of annealing.
    prior : RBMPrior or None
        Needed for sampling models.
    chains : ndarray of shape (C, D) or None
        States drawn from the machine, for machines too large to be enumerated.
    """

    def __init__(
        self,
        n_components: int,
        n_features: int,
        layer: VisibleLayer,
        rates: BaseRates,
        prior: RBMPrior | None = None,
        chains: Array | None = None,
    ) -> None:
        self.n_components, self.n_features = n_components, n_features
        self.layer, self.rates, self.prior = layer, rates, prior
        self.chains = chains
        self._split = np.cumsum([n_components * n_features, n_features, n_components])
        self._log_noise_floor = float(np.log(_NOISE_FLOORS[layer.n_noise(n_features) > 1]))

    # -- Energy --------------------------------------------------------------------------------

    def bind(
        self, params: RBMParameters | NoisyMachine, frame: Frame, dtype: Any
    ) -> BoundRBM | BoundNoisyMachine:
        if isinstance(params, NoisyMachine):
            return BoundNoisyMachine(params)
        return BoundRBM(params, self.layer)

    def draw(
        self, params: RBMParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        X = np.empty((n_rows, self.n_features))
        codes = np.empty((n_rows, self.n_components))
        chosen = rng.integers(params.n_models, size=n_rows)
        for model in np.unique(chosen):
            rows = np.flatnonzero(chosen == model)
            one = params.take(slice(model, model + 1))
            X[rows], codes[rows] = self._draw_one(one, len(rows), rng)
        return X, codes

    def _draw_one(
        self, params: RBMParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        if self.chains is None:
            log_weights, hidden = self.layer.state_weights(params)
            cumulative = np.cumsum(tempered_softmax(log_weights, 1.0))
            index = np.searchsorted(cumulative, rng.random(n_rows) * cumulative[-1], side="right")
            index = np.minimum(index, len(cumulative) - 1)
            n_units = self.n_components if hidden else self.n_features
            states = ((index[:, None] >> np.arange(n_units)[::-1]) & 1).astype(np.float64)
            if hidden:
                return self.layer.emit(params, states, rng), states
            return states, self._draw_codes(params, states, rng)
        X = self.chains[rng.permutation(np.resize(np.arange(len(self.chains)), n_rows))]
        for _ in range(_STEPS_TO_DRAW):
            codes = self._draw_codes(params, X, rng)
            X = self.layer.emit(params, codes, rng)
        return X, self._draw_codes(params, X, rng)

    def _draw_codes(self, params: RBMParameters, X: Array, rng: np.random.Generator) -> Array:
        return draw_bits(logistic(BoundRBM(params, self.layer).activations(X)[0]), rng)

    def convolve(self, params: RBMParameters, variance: float) -> NoisyMachine:
        if not self.layer.has_noise:
            raise ValueError(
                "denoise removes normal noise from rows of real numbers; it needs "
                "visible='gaussian', got visible='bernoulli'"
            )
        if self.n_components > MAX_CONVOLVED_UNITS:
            raise ValueError(
                f"denoise sums over all 2^n_components codes; it needs n_components <= "
                f"{MAX_CONVOLVED_UNITS}, got {self.n_components}"
            )
        each = [
            self.layer.state_weights(params.take(slice(s, s + 1)))[0]
            for s in range(params.n_models)
        ]
        log_weights = np.stack(each)
        log_weights -= tempered_logsumexp(log_weights, 1.0)[:, None]
        return NoisyMachine(params.weights, params.visible, params.noise + variance, log_weights)

    def n_parameters(self) -> int:
        return int(self._split[-1]) + self.layer.n_noise(self.n_features)

    # -- GradientEnergy ------------------------------------------------------------------------

    def expectation(
        self, params: RBMParameters, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> Contrast:
        if tilt:
            raise ValueError(
                f"tilt is not supported by restricted Boltzmann machines, got tilt={tilt!r}"
            )
        return Contrast(params, self.layer, temperature, self.layer.expectations(params))

    def gradient_kernel(
        self, params: RBMParameters, frame: Frame, temperature: float
    ) -> DerivedKernel:
        """Return the pass that computes the gradient.

        What the machine expects is estimated from `chains` where its states are too many to sum.
        """

        def gradient(statistics: RBMStatistics, total: float) -> dict[str, Array]:
            parts = self._contrasts(params, statistics)
            names = ["components", "intercept_visible", "intercept_hidden"]
            found = dict(zip(names, parts[:3], strict=True))
            if self.layer.has_noise:
                found["noise_variance"] = parts[3] / params.noise
                if self.layer.n_noise(self.n_features) == 1:
                    found["noise_variance"] = found["noise_variance"][:, 0]
            return found

        if self.chains is None:
            enumerated = self.layer.expectations(params)
        else:
            enumerated = params.log_partition, self._expected_by_chains(params)
        return DerivedKernel(Contrast(params, self.layer, temperature, enumerated), gradient)

    def _expected_by_chains(self, params: RBMParameters) -> Moments:
        """Return the moments of a machine, averaged over Gibbs steps of its chains."""
        assert self.chains is not None, "there must be chains"
        rng, states = np.random.default_rng(0), self.chains
        n_steps = -(-_STATES_TO_EXPECT // len(states))
        shares = np.full(len(states), 1 / (n_steps * len(states)))
        total: Moments | None = None
        for _ in range(n_steps):
            codes = expit(BoundRBM(params, self.layer).activations(states)[0])
            found = self.moments(params, states, codes, shares)
            total = found if total is None else total.plus(found)
            drawn = (rng.random(codes.shape) < codes).astype(np.float64)
            states = self.layer.emit(params, drawn, rng)
        assert total is not None, "there is a step"
        return total

    def log_density_gradients(self, params: RBMParameters, X: Array) -> Array:
        """Return gradients in the coordinates of ``Hmax + log Z`` at T = 1 of each row, (n, P)."""
        codes = expit(BoundRBM(params, self.layer).activations(X)[0])
        repeated = params.take(np.zeros(len(X), dtype=np.intp))
        moments = Moments(codes[:, :, None] * X[:, None], codes, X, (X - params.visible) ** 2)
        parts = self.layer.energy_gradient(repeated, moments)
        return np.concatenate([part.reshape(len(X), -1) for part in parts], axis=1)

    def contrast_with_states(
        self,
        theta: Array,
        params: RBMParameters,
        X: Array,
        weights: Array,
        states: Array,
        temperature: float,
    ) -> tuple[Array, Array]:
        """Return ``Hmaxe_T + log Z`` of rows, (S,), and the gradient of ``Hmaxe_T``, (S, P).

        What each machine expects is the mean over states of its own.

        Parameters
        ----------
        theta : ndarray of shape (S, P)
        params : RBMParameters
            The machines at theta.
        X : ndarray of shape (n, D)
        weights : ndarray of shape (n,)
            Shares of the rows in the mean.
        states : ndarray of shape (S, C, D)
        temperature : float
        """
        shares = np.full(states.shape[1], 1 / states.shape[1])
        moments = []
        for s, own in enumerate(states):
            one = params.take([s])
            codes = expit(BoundRBM(one, self.layer).activations(own)[0])
            moments.append(self.moments(one, own, codes, shares))
        enumerated = np.zeros(len(theta)), Moments.concatenate(moments)
        kernel = Contrast(params, self.layer, temperature, enumerated)
        sums = kernel.zero()
        kernel.accumulate(sums, X, weights, None, None)
        statistics = kernel.finish(sums, 1.0)
        gradient = self.objective_gradient(theta, params, statistics, 1.0, temperature)
        return statistics.objective, gradient

    def _contrasts(self, params: RBMParameters, statistics: RBMStatistics) -> list[Array]:
        """Return gradients in weights, visible and hidden intercepts (and log noise)."""
        rows = self.layer.energy_gradient(params, statistics.rows)
        machine = self.layer.energy_gradient(params, statistics.machine)
        return [ours - theirs for ours, theirs in zip(rows, machine, strict=True)]

    def coordinate_kinds(self) -> NDArray[np.intp]:
        kinds = np.repeat(np.arange(3), np.diff(self._split, prepend=0))
        return np.append(kinds, np.full(self.layer.n_noise(self.n_features), 3))

    def parts(self, theta: Array) -> tuple[Array, Array, Array]:
        """Return views of coordinates: weights (S, d, D), visible (S, D), hidden (S, d)."""
        first, second, third = self._split
        shape = (len(theta), self.n_components, self.n_features)
        return theta[:, :first].reshape(shape), theta[:, first:second], theta[:, second:third]

    def unconstrain(self, params: RBMParameters) -> Array:
        parts = [params.weights.reshape(params.n_models, -1), params.visible, params.hidden]
        if self.layer.has_noise:
            parts.append(np.log(params.noise))
        return np.concatenate(parts, axis=1)

    def constrain(self, theta: Array) -> RBMParameters:
        noise = np.ones((len(theta), 1))
        if self.layer.has_noise:
            log_noise = theta[:, self._split[-1] :]
            noise = np.exp(np.clip(log_noise, self._log_noise_floor, _LARGEST_LOG_NOISE))
        return RBMParameters(*self.parts(theta), noise, np.full(len(theta), np.nan))

    def _prior_and_variances(self) -> tuple[RBMPrior, Array]:
        """Return the prior, and the prior variance of each coordinate except the noise."""
        assert self.prior is not None, "sampling needs a prior"
        variances = np.full(self._split[-1], self.prior.intercept_variance)
        variances[: self._split[0]] = self.prior.weight_variance
        return self.prior, variances

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        prior, variances = self._prior_and_variances()
        normal = theta[:, : len(variances)]
        value = -0.5 * (normal**2 / variances + LOG_2PI + np.log(variances)).sum(axis=1)
        gradient = -normal / variances
        if self.layer.has_noise:
            shape, scale = prior.noise_shape, prior.noise_scale
            log_noise = theta[:, len(variances) :]
            inverse = scale * np.exp(-log_noise)
            each = shape * (np.log(scale) - log_noise) - gammaln(shape) - inverse
            value = value + each.sum(axis=1)
            gradient = np.concatenate([gradient, inverse - shape], axis=1)
        return value, gradient

    def objective_gradient(
        self,
        theta: Array,
        params: RBMParameters,
        statistics: RBMStatistics,
        total: float,
        temperature: float,
    ) -> Array:
        return self.join_gradients(theta, self._contrasts(params, statistics))

    def join_gradients(self, theta: Array, parts: list[Array]) -> Array:
        """Return gradients in weights, intercepts (and log noise) as one in coordinates, (S, P)."""
        if self.layer.has_noise:  # below the floor the noise does not change
            below = theta[:, self._split[-1] :] < self._log_noise_floor
            parts = [*parts[:3], np.where(below, 0.0, parts[3])]
        return np.concatenate([part.reshape(len(theta), -1) for part in parts], axis=1)

    def prior_precision(self) -> Array:
        """Return the precision of the prior in coordinates; of the log noise at its mode, (P,)."""
        prior, variances = self._prior_and_variances()
        of_noise = np.full(self.layer.n_noise(self.n_features), prior.noise_shape)
        return np.concatenate([1 / variances, of_noise])

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        prior, variances = self._prior_and_variances()
        theta = rng.standard_normal((n_models, len(variances))) * np.sqrt(variances)
        if self.layer.has_noise:
            shape = n_models, self.layer.n_noise(self.n_features)
            gammas = np.maximum(rng.standard_gamma(prior.noise_shape, shape), 1e-300)
            log_noise = np.log(prior.noise_scale) - np.log(gammas)
            theta = np.concatenate([theta, log_noise], axis=1)
        return theta

    # -- PartitionEnergy -----------------------------------------------------------------------

    def n_enumerated(self) -> int:
        return self.layer.n_enumerated(self.n_components, self.n_features)

    def log_partition(self, params: RBMParameters) -> Array:
        return self.layer.log_partition(params)

    def base_log_partition(self, params: RBMParameters) -> float:
        return self.layer.base_log_sum(self.rates) + self.n_components * float(np.log(2))

    def base_states(
        self, params: RBMParameters, n_states: int, rng: np.random.Generator
    ) -> PathStates:
        return self._states(params, self.layer.base_draw(self.rates, n_states, rng))

    def _states(self, params: RBMParameters, rows: Array) -> PathStates:
        return PathStates(rows, BoundRBM(params, self.layer).activations(rows)[0])

    def take_states(self, states: PathStates, index: NDArray[np.intp]) -> PathStates:
        return PathStates(states.rows[index], states.activations[index])

    def log_ratio(
        self, params: RBMParameters, states: PathStates, start: float, stop: float
    ) -> Array:
        own = self.layer.own(params, states.rows)[0] - self.layer.base_own(self.rates, states.rows)
        free = softplus(stop * states.activations) - softplus(start * states.activations)
        return (stop - start) * own + free.sum(axis=1)

    def anneal(
        self, params: RBMParameters, states: PathStates, beta: float, rng: np.random.Generator
    ) -> PathStates:
        probabilities = expit(beta * states.activations)
        codes = (rng.random(probabilities.shape) < probabilities).astype(np.float64)
        rows = self.layer.path_emit(params, self.rates, codes, beta, rng)
        return self._states(params, rows)

    # -- ContrastiveEnergy ---------------------------------------------------------------------

    def at(self, theta: Array) -> RBMParameters:
        return self.constrain(theta[None])

    def advance(self, params: RBMParameters, chains: Array, rng: np.random.Generator) -> Array:
        params, chains = self._working(params, chains)
        return self.layer.emit(params, self._draw_codes(params, chains, rng), rng)

    def training_dtype(self) -> type[np.floating[Any]]:
        """Return the precision of training steps: single, if the machine is large.

        The errors of single precision are far below the noise of batches and chains.
        """
        small = self.n_components * self.n_features < _LARGE_MACHINE
        return np.float64 if self.layer.has_noise or small else np.float32

    def _working(self, params: RBMParameters, *rows: Array) -> tuple[Any, ...]:
        """Return a machine and rows in the precision of training steps."""
        if self.training_dtype() != np.float32:
            return params, *rows
        names = ("weights", "visible", "hidden", "noise", "log_partition")
        single = RBMParameters(
            *(getattr(params, name).astype(np.float32, copy=False) for name in names)
        )
        return single, *(each.astype(np.float32, copy=False) for each in rows)

    def moments(self, params: RBMParameters, X: Array, codes: Array, weights: Array) -> Moments:
        """Return weighted sums of the moments of rows with codes, under a single machine."""
        weights = weights.astype(codes.dtype)
        weighted = codes * weights[:, None]
        _, square = self.layer.own_sums(params, X, weights)
        pair, hidden = (weighted.T @ X)[None], weighted.sum(axis=0)[None]
        return Moments(pair, hidden, (weights @ X)[None], square)

    def contrast(
        self, params: RBMParameters, X: Array, weights: Array, chains: Array, temperature: float
    ) -> Array:
        """Return the centred gradient (Montavon and Mueller 2012; Melchior et al. 2016).

        It is the gradient for units minus their means: without centring, the gradients of weights
        and intercepts are strongly correlated where units are mostly on.
        """
        params, X, chains, shares = self._working(params, X, chains, weights / weights.sum())
        if not self.layer.has_noise:
            parameters = params.weights[0], params.hidden[0]
            return centred_contrast(parameters, X, shares, chains, temperature)
        bound = BoundRBM(params, self.layer)
        of_rows = tempered_bits(bound.activations(X)[0], temperature)
        of_chains = expit(bound.activations(chains)[0])
        ours = self.moments(params, X, of_rows, shares)
        theirs = self.moments(params, chains, of_chains, np.full(len(chains), 1 / len(chains)))
        pair, visible, hidden, *noise = (
            (a - b)[0]
            for a, b in zip(
                self.layer.energy_gradient(params, ours),
                self.layer.energy_gradient(params, theirs),
                strict=True,
            )
        )
        s2 = params.noise[0]  # (k,)
        # offsets are means of the rows: with those of the chains, fits may oscillate (Melchior et
        # al.)
        offset_x, offset_h = ours.visible[0], ours.hidden[0]
        visible = s2 * visible
        pair = s2 * pair - np.outer(hidden, offset_x) - np.outer(offset_h, visible)
        visible = visible - offset_h @ pair
        hidden = hidden - pair @ (offset_x / s2)
        # for real units the curvature grows like 1 / s2, so that step sizes are multiplied by s2
        parts = [(s2 * pair).ravel(), s2 * visible, s2.mean() * hidden]
        parts.append(2.0 * s2 * len(s2) / self.n_features * noise[0])
        return np.concatenate(parts)

    def proper_score(self, params: RBMParameters, X: Array) -> Array:
        return self.layer.proper_score(params, X)
