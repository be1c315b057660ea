"""Networks and likelihoods: every derivative by finite differences, every density by its sum."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from _vae_oracles import outputs as oracle_outputs

from skbae.energies.vae._decoder import LIKELIHOODS
from skbae.energies.vae._network import ACTIVATIONS, Network, Scratch

SIZES = [(3, 5), (3, 6, 4), (2, 5, 4, 3)]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
each_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


def networks(sizes, activation, n_models=2, seed=0):
    rng = np.random.default_rng(seed)
    network = Network(sizes, activation)
    theta = np.stack([network.draw(rng) for _ in range(n_models)])
    return network, theta + 0.1 * rng.normal(size=theta.shape), rng


def run(network, theta, inputs):
    return network.forward(network.layers(theta), inputs, Scratch())[-1]


def central(function, at, step=1e-6):
    """Return central differences of a scalar function, in the shape of `at`."""
    found = np.empty_like(at)
    for index in np.ndindex(at.shape):
        moved = [at.copy(), at.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        found[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found


@each_activation
@each_size
def test_forward_is_the_written_out_network(sizes, activation):
    network, theta, rng = networks(sizes, activation)
    inputs = rng.normal(size=(2, 7, sizes[0]))
    found = run(network, theta, inputs)
    for s in range(2):
        layers = network.layers(theta[s : s + 1])
        expected = oracle_outputs(
            [matrix[0] for matrix, _ in layers], [b[0, 0] for _, b in layers], activation, inputs[s]
        )
        np.testing.assert_allclose(found[s], expected, rtol=1e-12, atol=1e-14)


@each_activation
@each_size
def test_backward_by_finite_differences(sizes, activation):
    network, theta, rng = networks(sizes, activation)
    inputs = rng.normal(size=(2, 4, sizes[0]))
    slope = rng.normal(size=(2, 4, sizes[-1]))
    scratch, total = Scratch(), np.full_like(theta, np.nan)
    layers = network.layers(theta)
    outputs = network.forward(layers, inputs, scratch)
    in_inputs = network.backward(layers, outputs, slope, total, scratch)
    by_theta = central(lambda t: float((run(network, t, inputs) * slope).sum()), theta)
    by_inputs = central(lambda x: float((run(network, theta, x) * slope).sum()), inputs)
    np.testing.assert_allclose(total, by_theta, atol=2e-8)
    np.testing.assert_allclose(in_inputs, by_inputs, atol=2e-8)


@each_activation
@each_size
def test_jacobian_by_finite_differences(sizes, activation):
    network, theta, rng = networks(sizes, activation)
    inputs = rng.normal(size=(2, 3, sizes[0]))
    layers = network.layers(theta)
    jacobian = network.jacobian(layers, network.forward(layers, inputs, Scratch()))
    for direction in range(sizes[0]):
        step = np.zeros(sizes[0])
        step[direction] = 1e-6
        change = (run(network, theta, inputs + step) - run(network, theta, inputs - step)) / 2e-6
        np.testing.assert_allclose(jacobian[:, :, direction], change, atol=2e-8)


def test_all_models_can_share_inputs():
    network, theta, rng = networks((3, 6, 4), "tanh")
    inputs = rng.normal(size=(1, 5, 3))
    both = np.repeat(inputs, 2, axis=0)
    np.testing.assert_array_equal(run(network, theta, inputs), run(network, theta, both))


def test_layers_are_views_and_flatten_undoes_them():
    network, theta, _ = networks((2, 5, 3), "tanh")
    layers = network.layers(theta)
    assert all(np.shares_memory(part, theta) for layer in layers for part in layer)
    again = network.flatten([m for m, _ in layers], [b[:, 0] for _, b in layers])
    np.testing.assert_array_equal(again, theta)
    assert network.fan_in().tolist() == [2.0] * 10 + [1.0] * 5 + [5.0] * 15 + [1.0] * 3


# -- likelihoods -----------------------------------------------------------------------------------


def evaluate(kind, X, outputs, extra):
    value, gradient = LIKELIHOODS[kind].log_density(X, outputs.copy(), extra, Scratch())
    return value, gradient.copy()


@pytest.fixture(params=[("gaussian", 1), ("gaussian", 3), ("bernoulli", 0)], ids=str)
def setting(request):
    rng = np.random.default_rng(1)
    X = rng.uniform(size=(4, 3))
    kind, n_extra = request.param
    extra = rng.normal(size=(2, n_extra))
    return kind, X, rng.normal(size=(2, 5, 4, 3)), extra


def test_likelihood_gradients(setting):
    kind, X, outputs, extra = setting
    likelihood = LIKELIHOODS[kind]
    value, slope = evaluate(kind, X, outputs, extra)
    by_outputs = central(lambda out: float(evaluate(kind, X, out, extra)[0].sum()), outputs)
    np.testing.assert_allclose(slope, by_outputs, atol=1e-7)
    by_extra = central(lambda e: float(evaluate(kind, X, outputs, e)[0].sum()), extra)
    own = likelihood.extra_gradient(slope, np.ones_like(value), extra)
    np.testing.assert_allclose(own, by_extra, atol=1e-7)
    # in the row, for one code
    by_row = central(lambda x: float(evaluate(kind, x, outputs[:1, :1], extra[:1])[0].sum()), X)
    found = likelihood.row_gradient(X, outputs[:1, :1], extra[:1])[0, 0]
    np.testing.assert_allclose(found, by_row, atol=1e-7)


def test_curvature_is_the_expected_second_derivative(setting):
    kind, X, outputs, extra = setting
    step = 1e-4

    def slope(move):
        return evaluate(kind, X, outputs + move, extra)[1]

    second = -(slope(step) - slope(-step)) / (2 * step)
    curvature = np.broadcast_to(LIKELIHOODS[kind].curvature(outputs, extra), outputs.shape)
    np.testing.assert_allclose(curvature, second, rtol=1e-5)


def test_bernoulli_probabilities_sum_to_one():
    outputs = np.array([0.3, -2.0, 5.0])[None, None, None]
    bits = np.array(list(product([0.0, 1.0], repeat=3)))
    value, _ = evaluate("bernoulli", bits, np.repeat(outputs, 8, axis=2), np.zeros((1, 0)))
    np.testing.assert_allclose(np.exp(value).sum(), 1)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 80.0), (np.float64, 700.0)])
def test_bernoulli_at_extreme_logits(dtype, limit):
    outputs = np.array([-1e4, -50.0, 0.0, 50.0, 1e4], dtype)[None, None, :, None]
    for bit in (0.0, 1.0):
        X = np.full((5, 1), bit, dtype)
        value, slope = evaluate("bernoulli", X, outputs, np.zeros((1, 0)))
        exact = -np.logaddexp(0, np.array([1e4, 50, 0, -50, -1e4]) * (2 * bit - 1) * 1.0)
        exact = np.maximum(exact, -limit) if bit else exact
        np.testing.assert_allclose(value[0, 0], exact, rtol=1e-6, atol=1e-5)
        assert np.isfinite(slope).all()


def test_gaussian_is_the_normal_density():
    rng = np.random.default_rng(0)
    X, outputs = rng.normal(size=(4, 3)), rng.normal(size=(1, 2, 4, 3))
    value, _ = evaluate("gaussian", X, outputs, np.log([[0.7]]))
    expected = -0.5 * (((X - outputs) ** 2).sum(-1) / 0.7 + 3 * np.log(2 * np.pi * 0.7))
    np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_moments_of_draws(kind):
    likelihood, rng = LIKELIHOODS[kind], np.random.default_rng(0)
    extra = np.log(np.full((1, int(likelihood.has_noise)), 0.5))
    outputs = np.array([-1.0, 0.2, 2.0])
    mean = likelihood.mean(outputs)
    n = 40_000
    drawn = likelihood.draw(np.broadcast_to(mean, (1, 1, n, 3)), extra, rng)[0, 0]
    variance = likelihood.variance(np.broadcast_to(mean, (1, 1, n, 3)), extra)[0, 0, 0]
    error = np.sqrt(variance / n)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 4.5 * error)
    spread = drawn.var(axis=0)
    kurtosis = np.mean((drawn - mean) ** 4, axis=0)
    assert np.all(np.abs(spread - variance) < 4.5 * np.sqrt((kurtosis - variance**2) / n) + 1e-3)
    # entropy: minus the mean log density of its own draws
    value, _ = evaluate(kind, drawn, np.broadcast_to(outputs, (1, 1, n, 3)), extra)
    entropy = likelihood.entropy(mean[None, None, None], extra)[0, 0, 0]
    assert abs(-value.mean() - entropy) < 4.5 * value.std() / np.sqrt(n)
