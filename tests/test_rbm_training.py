"""How restricted Boltzmann machines are fitted: gradients, chains, rows held out, digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _rbm_oracles import hmax, log_partition, log_z_of, machine_of, mixture_of, states
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

from skbae import BayesianRBMAutoEncoder
from skbae.energies.rbm._contrast import centred_contrast, logistic
from skbae.energies.rbm._energy import RBMEnergy, RBMPrior, base_rates
from skbae.energies.rbm._visible import (
    LAYERS,
    BaseRates,
    BinaryLayer,
    GaussianLayer,
    RBMParameters,
)
from skbae.inference._objective import Objective
from skbae.inference.evidence._partition import estimate_partition
from skbae.inference.optimise._contrastive import contrastive_divergence
from skbae.inference.optimise._early_stopping import hold_out, merged_rows
from skbae.inference.optimise._lbfgs import maximise_lbfgs
from skbae.inference.passes._rows import RowRunner, make_rows

each_visible = pytest.mark.parametrize("visible", LAYERS)


def rows_of(visible, n=40, size=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, size)) + rng.choice([-1.5, 1.5], size=(n, 1)) * np.ones(size)
    return X if visible == "gaussian" else (X > 0).astype(float)


def energy_of(visible, rows, n_components=3):
    layer = LAYERS[visible]()
    rates = base_rates(layer, rows.centre, rows.scale)
    prior = RBMPrior(0.8, 1.7, 2.0, 0.6)
    return RBMEnergy(n_components, rows.X.shape[1], layer, rates, prior)


def per_feature(energy):
    """Return the energy with a noise variance for each feature, if it has noise."""
    if energy.layer.has_noise:
        energy.layer = GaussianLayer(per_feature=True)
    return energy


def evaluate(energy, theta, rows, temperature):
    params = energy.constrain(theta)
    kernel = energy.expectation(params, rows.frame, np.float64, temperature, 0.0)
    with RowRunner(1) as runner:
        statistics = runner.reduce(kernel, rows)
    gradient = energy.objective_gradient(theta, params, statistics, rows.total, temperature)
    return statistics.objective, gradient


def differences(function, theta, step=1e-5):
    out = np.empty_like(theta)
    for i in range(theta.shape[1]):
        move = step * np.eye(theta.shape[1])[i]
        out[:, i] = (function(theta + move) - function(theta - move)) / (2 * step)
    return out


@each_visible
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [3, 6])
def test_gradients_by_finite_differences(visible, temperature, n_components):
    """Of the objective and of the prior, several models at once; hidden units may be the more."""
    weights = np.random.default_rng(1).uniform(0.5, 2, 40)
    rows = make_rows(rows_of(visible), weights)
    energy = energy_of(visible, rows, n_components)
    energy = per_feature(energy) if n_components == 6 else energy
    theta = 0.7 * energy.draw_prior_coordinates(3, np.random.default_rng(2))
    objective, gradient = evaluate(energy, theta, rows, temperature)
    numeric = differences(lambda t: evaluate(energy, t, rows, temperature)[0], theta)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)
    _, gradient = energy.log_prior_at(theta)
    numeric = differences(lambda t: energy.log_prior_at(t)[0], theta)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)
    params = energy.constrain(theta)
    for s in range(3):
        machine = params.weights[s], params.visible[s], params.hidden[s]
        if visible == "gaussian":
            machine = (*machine, params.noise[s])
            log_z = mixture_of(*machine)[2]
        else:
            log_z = log_partition(*machine)
        expected = np.average(hmax(rows.X, temperature, log_z, *machine), weights=weights)
        np.testing.assert_allclose(objective[s], expected, rtol=1e-9)


@each_visible
def test_coordinates_there_and_back(visible):
    rows = make_rows(rows_of(visible), None)
    energy = energy_of(visible, rows)
    theta = energy.draw_prior_coordinates(5, np.random.default_rng(0))
    assert theta.shape == (5, len(energy.coordinate_kinds()))
    assert energy.n_parameters() == theta.shape[1]
    np.testing.assert_allclose(energy.unconstrain(energy.constrain(theta)), theta)


@each_visible
def test_draws_of_the_prior_have_its_density(visible):
    """``E |grad log p|^2 = -E[laplacian]``, coordinate by coordinate, within 5 standard errors."""
    energy = energy_of(visible, make_rows(rows_of(visible), None))
    theta = energy.draw_prior_coordinates(4000, np.random.default_rng(3))
    gradient = energy.log_prior_at(theta)[1]
    step = 1e-4
    for i in range(theta.shape[1]):
        move = step * np.eye(theta.shape[1])[i]
        up, down = (energy.log_prior_at(theta + sign * move)[1][:, i] for sign in (1, -1))
        identity = gradient[:, i] ** 2 + (up - down) / (2 * step)
        for terms in (identity, gradient[:, i]):
            assert abs(terms.mean()) < 5 * terms.std() / np.sqrt(len(terms))


@each_visible
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_contrast_is_an_ascent_direction_in_expectation(visible, temperature):
    """With exact draws for chains its mean is a positive form of the exact gradient."""
    rows = make_rows(rows_of(visible), None)
    energy = energy_of(visible, rows)
    rng = np.random.default_rng(5)
    theta = 0.5 * energy.draw_prior_coordinates(1, rng)
    gradient = evaluate(energy, theta, rows, temperature)[1][0]
    params = energy.constrain(theta)
    products = []
    for _ in range(40):
        chains, _ = energy.draw(params, 500, rng)
        direction = energy.contrast(params, rows.X, np.ones(len(rows.X)), chains, temperature)
        products.append(direction @ gradient)
    products = np.array(products)
    assert products.mean() > 5 * products.std() / np.sqrt(len(products))


@each_visible
def test_the_exact_fit_ends_where_the_gradient_vanishes(visible):
    X = rows_of(visible, 60)
    rows = merged_rows(make_rows(X, None))
    energy = energy_of(visible, rows, 2)
    theta = 0.3 * energy.draw_prior_coordinates(1, np.random.default_rng(0))[0]
    with RowRunner(1) as runner:
        found = maximise_lbfgs(
            Objective(energy, rows, runner, 1.0), theta, None, max_iter=3000, tol=1e-5, patience=1
        )
    assert found.scores[-1] > found.scores[0]
    _, gradient = evaluate(energy, found.theta[None], rows, 1.0)
    assert np.abs(gradient).max() < 1e-3
    assert np.abs(evaluate(energy, theta[None], rows, 1.0)[1]).max() > 1e-2


@each_visible
def test_rows_held_out_share_the_sum_over_states(visible):
    """It is formed once for each evaluation of the objective, whatever is scored besides."""
    X = rows_of(visible, 60)
    kept, held = (merged_rows(make_rows(part, None)) for part in (X[:40], X[40:]))
    energy = energy_of(visible, kept, 2)
    theta = 0.3 * energy.draw_prior_coordinates(1, np.random.default_rng(0))[0]
    machines, own = [], type(energy.layer)

    class Recording(own):
        def expectations(self, params):
            machines.append(params.weights.copy())
            return super().expectations(params)

    energy.layer = Recording()
    before = dict(vars(energy))
    with RowRunner(1) as runner:
        objective = Objective(energy, kept, runner, 1.0)
        found = maximise_lbfgs(objective, theta, held, max_iter=20, tol=0.0, patience=100)
        distinct = {weights.tobytes() for weights in machines}
        assert len(distinct) == len(machines) >= found.n_iter == 20
        machine = energy.at(found.theta)
        score = replace(objective, rows=held).expect(machine).objective[0]
        np.testing.assert_allclose([found.score, max(found.scores)], score, rtol=1e-12)
        reached = objective.expect(machine).objective[0]
        np.testing.assert_allclose(found.objective, reached, rtol=1e-12)
    assert vars(energy) == before  # nothing is remembered


@each_visible
@pytest.mark.parametrize("wrong", [False, True])
def test_contrastive_steps_from_the_exact_optimum_lose_under_0_01_nats(visible, wrong):
    """From the exact optimum, contrastive divergence does not move away; a wrong one does.

    The objective lost is compared with the exact optimum's; the negative control scales the
    contrast of the chains, as a missing Gibbs step or a wrong mean would.
    """
    rng = np.random.default_rng(6)
    truth = energy_of(visible, make_rows(rows_of(visible), None), 2)
    params = truth.constrain(0.8 * truth.draw_prior_coordinates(1, rng))
    if visible == "bernoulli":
        # all rows there are, as heavy as they are probable: the optimum is the truth, and finite
        V = states(4)
        machine = params.weights[0], params.visible[0], params.hidden[0]
        X, weights = V, 800 * np.exp(hmax(V, 1.0, log_partition(*machine), *machine))
    else:
        X, weights = truth.draw(params, 800, rng)[0], None
    rows = merged_rows(make_rows(X, weights))
    energy = energy_of(visible, rows, 2)
    start = truth.unconstrain(params)[0]
    with RowRunner(1) as runner:
        best = maximise_lbfgs(
            Objective(energy, rows, runner, 1.0), start, None, max_iter=1000, tol=1e-7, patience=1
        ).theta
    if wrong:
        exact = type(energy).advance
        energy.advance = lambda p, v, g: 0.85 * exact(energy, p, v, g)
    chains, _ = energy.draw(energy.at(best), 400, rng)
    found = contrastive_divergence(
        energy,
        best,
        chains,
        rows,
        None,
        rng,
        temperature=1.0,
        rate=0.2,
        decay=True,
        batch_size=10_000,
        max_iter=40,
    )
    top, after = (evaluate(energy, t[None], rows, 1.0)[0][0] for t in (best, found.theta))
    assert (top - after < 0.01) != wrong


class TestHeldOut:
    def test_hold_out_splits_the_weight_of_a_row(self):
        X = np.arange(200.0)[:, None]
        weights = np.random.default_rng(0).integers(1, 30, 200) + 0.25
        rows = merged_rows(make_rows(X, weights))
        kept, held = hold_out(rows, 0.2, np.random.default_rng(1))
        np.testing.assert_allclose(kept.total + held.total, weights.sum())
        error = np.sqrt(0.2 * 0.8 * weights.sum())
        assert abs(held.total - 0.2 * weights.sum()) < 5 * error
        both = np.zeros(200)
        for part in (kept, held):
            both[part.X[:, 0].astype(int)] += part.weights
        np.testing.assert_allclose(both, weights)

    def test_with_too_few_distinct_rows_none_is_held_out(self):
        rows = merged_rows(make_rows(np.eye(3), None))
        kept, held = hold_out(rows, 1e-9, np.random.default_rng(0))
        assert held is None
        assert kept is rows


def test_proper_score_equals_the_conditionals():
    """Pseudo-likelihood by enumeration, of bits and of probabilities of bits."""
    rng = np.random.default_rng(0)
    rows = make_rows(rows_of("bernoulli"), None)
    energy = energy_of("bernoulli", rows)
    params = energy.constrain(energy.draw_prior_coordinates(1, rng))
    machine = params.weights[0], params.visible[0], params.hidden[0]
    for X in (rows.X[:6], rng.random((6, 4))):
        expected = np.zeros(6)
        for i in range(4):
            values = []
            for bit in (0.0, 1.0):
                turned = X.copy()
                turned[:, i] = bit
                values.append(hmax(turned, 1.0, 0.0, *machine))
            off, on = np.array(values) - np.logaddexp(*values)
            expected += X[:, i] * on + (1 - X[:, i]) * off
        np.testing.assert_allclose(energy.proper_score(params, X), expected, rtol=1e-9)


def test_score_matching_by_finite_differences():
    rng = np.random.default_rng(1)
    rows = make_rows(rows_of("gaussian"), None)
    energy = energy_of("gaussian", rows)
    params = energy.constrain(0.5 * energy.draw_prior_coordinates(1, rng))
    machine = params.weights[0], params.visible[0], params.hidden[0], params.noise[0]
    X, step = rows.X[:5], 1e-4
    middle = hmax(X, 1.0, 0.0, *machine)
    expected = np.zeros(5)
    for i in range(4):
        move = step * np.eye(4)[i]
        up, down = (hmax(X + sign * move, 1.0, 0.0, *machine) for sign in (1, -1))
        expected -= 0.5 * ((up - down) / (2 * step)) ** 2 + (up + down - 2 * middle) / step**2
    np.testing.assert_allclose(energy.proper_score(params, X), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def digits():
    X = (load_digits().data > 7).astype(float)
    return X[:1400], X[1400:]


@pytest.mark.slow
def test_twelve_units_reach_the_likelihood_of_digits(digits):
    train, test = digits
    for seed in range(4):
        fitted = BayesianRBMAutoEncoder(12, random_state=seed).fit(train)
        assert fitted.log_partition_error_ == 0
        assert fitted.score(test) >= -18.8


@pytest.mark.slow
def test_a_hundred_units_are_better_than_twelve_and_than_scikit_learn(digits):
    train, test = digits
    fitted = BayesianRBMAutoEncoder(100, random_state=0).fit(train)
    assert fitted.log_partition_error_ < 0.1
    margin = 5 * fitted.log_partition_error_
    assert fitted.score(test) - margin > -18.5  # twelve units reach -18.6 or so
    theirs = BernoulliRBM(100, n_iter=200, learning_rate=0.02, random_state=0).fit(train)
    params = RBMParameters(
        theirs.components_[None],
        theirs.intercept_visible_[None],
        theirs.intercept_hidden_[None],
        np.ones((1, 1)),
        np.array([np.nan]),
    )
    energy = energy_of("bernoulli", make_rows(train, None), 100)
    found = estimate_partition(energy, params, np.random.default_rng(0))
    a = test @ theirs.components_.T + theirs.intercept_hidden_
    score = (test @ theirs.intercept_visible_ + np.logaddexp(0, a).sum(axis=1)).mean()
    score -= found.log_partition
    assert fitted.score(test) - margin > score + 5 * found.error


def test_a_short_contrastive_fit_of_digits_beats_independent_pixels(digits):
    train, test = digits
    fitted = BayesianRBMAutoEncoder(100, max_iter=20, random_state=0).fit(train)
    rates = np.clip(train.mean(axis=0), 1e-3, 1 - 1e-3)
    independent = (test * np.log(rates) + (1 - test) * np.log(1 - rates)).sum(axis=1).mean()
    assert fitted.log_partition_error_ < 0.2
    assert fitted.score(test) > independent + 5


def test_gaussian_units_reconstruct_digits():
    X = load_digits().data / 16
    fitted = BayesianRBMAutoEncoder(40, visible="gaussian", max_iter=20, random_state=0).fit(X)
    residual = X - fitted.inverse_transform(fitted.transform(X))
    assert (residual**2).mean() < 0.5 * X.var(axis=0).mean()


def test_one_unit_learns_two_opposite_patterns_at_log_2_nats():
    """Two opposite patterns: one hidden unit tells them apart, at log 2 nats a row."""
    X = np.repeat([[1.0, 1, 0, 0], [0, 0, 1, 1]], 30, axis=0)
    fitted = BayesianRBMAutoEncoder(1, early_stopping=False, random_state=0).fit(X)
    np.testing.assert_allclose(fitted.score(X), -np.log(2), atol=1e-2)
    probabilities = np.exp(hmax(states(4), 1.0, log_z_of(fitted), *machine_of(fitted)))
    np.testing.assert_allclose(np.sort(probabilities)[-2:], 0.5, atol=1e-2)


def test_large_machines_train_in_single_precision_with_the_same_gradient():
    """And by a pseudo-likelihood of some units, on average that of all."""
    from skbae.energies.rbm import _energy, _visible

    rng = np.random.default_rng(0)
    rates = BaseRates(np.full(300, 0.5), np.full(300, 0.25))
    energy = RBMEnergy(220, 300, BinaryLayer(), rates)
    assert _energy._LARGE_MACHINE <= 220 * 300
    theta = 0.1 * rng.standard_normal(energy.n_parameters())
    X, chains = (rng.integers(0, 2, (50, 300)).astype(float) for _ in range(2))
    arguments = energy.at(theta), X, rng.uniform(1, 2, 50), chains, 1.0
    single = energy.contrast(*arguments)
    rows = energy.advance(energy.at(theta), chains, np.random.default_rng(1))
    assert set(np.unique(rows)) == {0.0, 1.0}
    whole = energy.proper_score(energy.at(theta), X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_energy, "_LARGE_MACHINE", 10**9)
        double = energy.contrast(*arguments)
        same = energy.advance(energy.at(theta), chains, np.random.default_rng(1))
        patch.setattr(_visible, "_MOST_FACTORS", 0)
        part = energy.proper_score(energy.at(theta), X)
    # sums of some hundred terms, each rounded to 6e-8
    np.testing.assert_allclose(single, double, atol=5e-5 * np.abs(double).max())
    assert np.mean(rows != same) < 1e-3
    assert not np.allclose(part, whole)
    assert abs(part.mean() / whole.mean() - 1) < 0.1


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_contrast_of_bits_is_that_of_centred_units_summed_row_by_row(temperature):
    rng = np.random.default_rng(0)
    weights, hidden = rng.normal(size=(3, 5)), rng.normal(size=3)
    X, chains = (rng.integers(2, size=(n, 5)).astype(float) for n in (7, 4))
    shares = rng.dirichlet(np.ones(7))

    def codes(x, t):
        activation = weights @ x + hidden
        return (activation > 0) * 1.0 if t == 0 else 1 / (1 + np.exp(-activation / t))

    ours = [(share, x, codes(x, temperature)) for share, x in zip(shares, X, strict=True)]
    theirs = [(-1 / 4, x, codes(x, 1.0)) for x in chains]
    mean_x = sum(share * x for share, x, _ in ours)
    mean_h = sum(share * h for share, _, h in ours)
    pair = sum(share * np.outer(h - mean_h, x - mean_x) for share, x, h in ours + theirs)
    visible = sum(share * x for share, x, _ in ours + theirs) - mean_h @ pair
    of_hidden = sum(share * h for share, _, h in ours + theirs) - pair @ mean_x
    expected = np.concatenate([pair.ravel(), visible, of_hidden])
    found = centred_contrast((weights, hidden), X, shares, chains, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_logistic_functions_are_exact_to_the_precision_of_their_values():
    a = np.linspace(-30, 30, 301)
    np.testing.assert_allclose(logistic(a), 1 / (1 + np.exp(-a)), rtol=1e-14)
    single = logistic(a.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, 1 / (1 + np.exp(-a)), atol=1.2e-7)
