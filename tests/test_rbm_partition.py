"""Partition functions: sums over states, annealing, acceptance ratios, and their error bars."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import with_plans
from _rbm_oracles import log_partition, mixture_of, states
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianRBMAutoEncoder
from skbae.energies._capabilities import PartitionEnergy
from skbae.energies.rbm._energy import RBMEnergy, base_rates
from skbae.energies.rbm._visible import LAYERS, RBMParameters
from skbae.estimators._plans import SamplerPlans
from skbae.inference.evidence._partition import (
    AnnealingPlan,
    acceptance_ratio,
    anneal_backward,
    anneal_forward,
    estimate_partition,
)
from skbae.operators._enumeration import (
    binary_states,
    log_sum_two_layers,
    log_weights_one_layer,
    log_weights_two_layers,
    sum_one_layer,
    sum_two_layers,
)
from skbae.operators._tempered import log_mean_exp


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("block", [8, 1 << 14])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 1, 2), (40, 3, 4), (2, 9, 5)])
def test_sums_over_states(shape, block, scale):
    """Against every state at once; huge weights take the way without products of exponentials."""
    rng = np.random.default_rng(0)
    weights = scale * rng.standard_normal(shape)
    offsets, intercepts = rng.standard_normal(shape[::2]), rng.standard_normal(shape[:2])
    h = states(shape[1])
    np.testing.assert_array_equal(binary_states(shape[1]), h)
    act = h @ weights + offsets[:, None]
    log_weights = intercepts @ h.T + np.logaddexp(0, act).sum(axis=2)

    def normalised(values):
        peak = values.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(values - peak).sum(axis=1)) + peak[:, 0]
        return log_sum, np.exp(values - log_sum[:, None])

    log_sum, p = normalised(log_weights)
    sums = sum_two_layers(weights, offsets, intercepts, block_size=block)
    np.testing.assert_allclose(sums.log_sum, log_sum, rtol=1e-12)
    np.testing.assert_allclose(
        log_sum_two_layers(weights, offsets, intercepts, block_size=block), log_sum, rtol=1e-12
    )
    np.testing.assert_allclose(sums.units, p @ h, atol=1e-12)
    on = expit(act)
    np.testing.assert_allclose(sums.others, np.einsum("sh,shd->sd", p, on), atol=1e-12)
    pairs = np.einsum("sh,hu,shd->sud", p, h, on)
    np.testing.assert_allclose(sums.pairs, pairs, atol=1e-12)
    one = log_weights_two_layers(weights[0], offsets[0], intercepts[0])
    np.testing.assert_allclose(one, log_weights[0], rtol=1e-12)

    couplings = weights @ np.swapaxes(weights, 1, 2) / scale
    quadratic = intercepts @ h.T + 0.5 * np.einsum("hu,suv,hv->sh", h, couplings, h)
    log_sum, p = normalised(quadratic)
    sums = sum_one_layer(intercepts, couplings, block_size=block)
    np.testing.assert_allclose(sums.log_sum, log_sum, rtol=1e-12)
    np.testing.assert_allclose(sums.units, p @ h, atol=1e-12)
    np.testing.assert_allclose(sums.pairs, np.einsum("sh,hu,hv->suv", p, h, h), atol=1e-12)
    one = log_weights_one_layer(intercepts[0], couplings[0])
    np.testing.assert_allclose(one, quadratic[0], rtol=1e-12, atol=1e-12)


def machine(visible, n_components, n_features, seed, size=0.6):
    rng = np.random.default_rng(seed)
    params = RBMParameters(
        size * rng.standard_normal((1, n_components, n_features)),
        rng.standard_normal((1, n_features)),
        rng.standard_normal((1, n_components)),
        np.ones((1, 1)),
        np.array([np.nan]),
    )
    layer = LAYERS[visible]()
    mean = np.full(n_features, 0.5) if visible == "bernoulli" else np.zeros(n_features)
    rates = base_rates(layer, mean, np.full(n_features, 2.0))
    return params, RBMEnergy(n_components, n_features, layer, rates)


def test_four_by_four_by_every_state():
    params, energy = machine("bernoulli", 4, 4, 0, size=1.0)
    exact = log_partition(params.weights[0], params.visible[0], params.hidden[0])
    np.testing.assert_allclose(energy.log_partition(params)[0], exact, rtol=1e-12)
    params, energy = machine("gaussian", 4, 4, 0, size=1.0)
    exact = mixture_of(params.weights[0], params.visible[0], params.hidden[0], 1.0)[2]
    np.testing.assert_allclose(energy.log_partition(params)[0], exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("visible", "n_components"),
    [("bernoulli", 14), ("bernoulli", 16), ("bernoulli", 18), ("gaussian", 16)],
)
def test_annealing_agrees_with_enumeration_within_0_05_nats(visible, n_components):
    """Within 0.05 nats, and within its own error: over seeds, errors are normal of unit size."""
    ratios = []
    for seed in range(4):
        params, energy = machine(visible, n_components, 20, seed, 0.6 if seed else 0.3)
        exact = energy.log_partition(params)[0]
        plan = AnnealingPlan(target_error=0.02)
        found = estimate_partition(energy, params, np.random.default_rng(seed), plan)
        assert found.agree
        assert 0 < found.error < 0.05
        assert abs(found.log_partition - exact) < 0.05
        ratios.append((found.log_partition - exact) / found.error)
    # five islands: Student's t of 4 degrees exceeds 7 once in 450 times
    assert np.abs(ratios).max() < 7
    assert np.mean(np.square(ratios)) < 8


def test_forward_estimates_are_too_low_and_backward_ones_too_high():
    """Few steps: the forward estimate falls short and the backward one exceeds (on average)."""
    params, energy = machine("bernoulli", 10, 12, 3, size=1.5)
    exact = energy.log_partition(params)[0] - energy.base_log_partition(params)
    rng, betas = np.random.default_rng(0), np.linspace(0, 1, 6)
    forward, _ = anneal_forward(energy, params, 2000, betas, rng)
    X, _ = energy.draw(params, 2000, rng)
    backward = anneal_backward(energy, params, energy._states(params, X), betas, rng)
    for log_weights, sign in ((forward, -1), (backward, 1)):
        error = log_weights.std() / np.sqrt(len(log_weights))
        assert sign * (log_weights.mean() - exact) > 5 * error
    weights = np.exp(forward - exact)
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(len(weights))
    value, error = acceptance_ratio(forward, backward)
    assert abs(value - exact) < 5 * error
    assert abs(value - exact) < 0.05


def test_more_steps_shrink_the_spread():
    """The variance of the log weights falls like the inverse of the number of steps."""
    params, energy = machine("bernoulli", 10, 12, 4, size=1.0)
    rng, spreads = np.random.default_rng(0), []
    for n_steps in (50, 800):
        log_weights, _ = anneal_forward(energy, params, 1000, np.linspace(0, 1, n_steps + 1), rng)
        spreads.append(log_weights.var())
    assert 8 < spreads[0] / spreads[1] < 32


def test_a_wrong_transition_puts_log_z_off_by_0_05_nats():
    """Negative control: moves that forget the weights leave the estimate off by many errors."""

    class Wrong(RBMEnergy):
        def anneal(self, params, states, beta, rng):
            return super().anneal(params, states, 0.7 * beta, rng)

    params, energy = machine("bernoulli", 14, 20, 1)
    wrong = Wrong(14, 20, energy.layer, energy.rates)
    found = estimate_partition(wrong, params, np.random.default_rng(0))
    assert abs(found.log_partition - energy.log_partition(params)[0]) > 0.05


class Walls(PartitionEnergy):
    """Two boxes without a door: states stay where they start, wherever the weight goes."""

    bind = draw = n_parameters = n_enumerated = log_partition = None

    def base_log_partition(self, params):
        return 0.0

    def base_states(self, params, n_states, rng):
        return (rng.random(n_states) < 0.02).astype(float)

    def take_states(self, states, index):
        return states[index]

    def log_ratio(self, params, states, start, stop):
        return (stop - start) * 9.0 * states

    def anneal(self, params, states, beta, rng):
        return states


def test_directions_that_disagree_are_reported_or_have_large_errors():
    plan = AnnealingPlan(n_steps=20, max_steps=20)
    found = [
        estimate_partition(Walls(), None, np.random.default_rng(seed), plan) for seed in range(10)
    ]
    exact = np.log(0.98 + 0.02 * np.exp(9.0))
    wrong = [abs(f.log_partition - exact) > 0.5 for f in found]
    assert any(wrong)
    # whoever is wrong says so, by disagreement or by an error bar; 200 paths miss the small box
    # altogether once in 57 times, which no one could notice, and did not here
    assert all(f.forward > 0 for f in found)
    for estimate, bad in zip(found, wrong, strict=True):
        if bad:
            assert not estimate.agree or estimate.error > 0.3


def test_the_estimator_warns_and_reports():
    X = np.random.default_rng(0).integers(0, 2, (50, 6)).astype(float)
    exact = BayesianRBMAutoEncoder(3, partition="ais", max_iter=5, random_state=0).fit(X)
    assert 0 < exact.log_partition_error_ < 0.05
    assert exact.hmaxemax_error_ == exact.log_partition_error_

    # pairs of paths of one step: their mean is biased, one way forwards and the other backwards
    hasty = SamplerPlans(partition=AnnealingPlan(200, n_paths=2, n_steps=1, max_steps=1))
    strong = with_plans(
        BayesianRBMAutoEncoder(
            6, partition="ais", max_iter=200, early_stopping=False, random_state=0
        ),
        hasty,
    )
    with pytest.warns(
        ConvergenceWarning, match=r"log Z as \d+\.\d+ forwards and \d+\.\d+ backwards"
    ):
        strong.fit(np.repeat(X[:, :1], 12, axis=1))


def test_auto_changes_from_enumeration_to_annealing():
    X = np.random.default_rng(1).integers(0, 2, (60, 22)).astype(float)
    settings = {"max_iter": 2, "random_state": 0}
    few = BayesianRBMAutoEncoder(20, **settings).fit(X)
    many = BayesianRBMAutoEncoder(21, **settings).fit(X)
    assert few.log_partition_error_ == 0
    assert not hasattr(few, "chains_")
    assert many.log_partition_error_ > 0
    assert many.chains_.shape[1] == 22
    exact = BayesianRBMAutoEncoder(21, partition="exact", **settings).fit(X)
    np.testing.assert_allclose(exact.components_, many.components_)
    assert abs(exact.log_partition_ - many.log_partition_) < 0.05


def test_log_mean_exp_of_forward_weights_is_the_forward_estimate():
    params, energy = machine("bernoulli", 5, 6, 2, size=0.3)
    found = estimate_partition(energy, params, np.random.default_rng(0))
    weights, _ = anneal_forward(
        energy, params, 2000, np.linspace(0, 1, 251), np.random.default_rng(1)
    )
    direct = energy.base_log_partition(params) + log_mean_exp(weights)
    assert abs(found.forward - direct) < 0.05
