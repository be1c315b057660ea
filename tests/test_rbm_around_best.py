"""Machines sampled around the best one, where their states are too many for tempering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _altered import with_plans
from sklearn.datasets import load_digits

from skbae import BayesianRBMAutoEncoder
from skbae.energies.rbm._energy import RBMEnergy, RBMPrior
from skbae.energies.rbm._neighbours import NeighbouringMachines
from skbae.energies.rbm._persistent import (
    CentredCoordinates,
    gradient_by_chains,
    moments_of_chains,
    moments_of_rows,
)
from skbae.energies.rbm._visible import BaseRates, BinaryLayer, GaussianLayer
from skbae.estimators._plans import SamplerPlans
from skbae.estimators.rbm._fit import tempering_minutes
from skbae.inference._objective import Objective
from skbae.inference.evidence._partition import AnnealingPlan, estimate_partition
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._langevin import LangevinPlan
from skbae.model_selection import evidence_scorer, hmaxemax_scorer

LAYERS = [BinaryLayer(), GaussianLayer(), GaussianLayer(True)]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def energy_of(layer, n_units=5, n_features=8):
    rates = BaseRates(np.full(n_features, 0.5), np.full(n_features, 0.25))
    return RBMEnergy(n_units, n_features, layer, rates, RBMPrior(1.0, 1.0, 1.0, 0.1))


def machine(energy, rng, size, about=0.0):
    theta = about + size * rng.standard_normal((1, energy.n_parameters()))
    params = energy.constrain(theta)
    return theta, params


def read(model):
    """Return the settings of an estimator."""
    return model._check_parameters()


def draws_of(energy, params, n, rng):
    return energy.draw(params, n, rng)[0]


def with_exact(energy, params):
    return replace(params, log_partition=energy.log_partition(params))


def bits(n=60, n_features=12, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 2, (n, 1))
    return (rng.random((n, n_features)) < np.where(groups, 0.8, 0.2)).astype(float)


# -- partition functions of neighbours -------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.name} {layer.n_noise(8)}")
def test_log_z_relative_to_a_neighbour_is_that_of_enumeration(layer):
    """Root mean square error of several, in units of the errors claimed."""
    rng, energy = np.random.default_rng(0), energy_of(layer)
    theta, params = machine(energy, rng, 0.5)
    reference = with_exact(energy, params)
    near = NeighbouringMachines(energy, reference, draws_of(energy, reference, 1000, rng))
    plan = AnnealingPlan(4, 250, n_steps=2, max_steps=128, target_error=0.05, n_settle=10)
    ratios = []
    for _ in range(8):
        _, other = machine(energy, rng, 0.3, theta)
        found = estimate_partition(near, other, rng, plan)
        exact = energy.log_partition(other)[0]
        assert abs(exact - reference.log_partition[0]) > 0.01
        assert found.error < 0.06
        ratios.append((found.log_partition - exact) / max(found.error, 0.003))
    assert np.sqrt(np.mean(np.square(ratios))) < 2.5


def test_paths_of_one_step_to_a_machine_far_away_are_noticed():
    rng, energy = np.random.default_rng(0), energy_of(BinaryLayer(), 12, 16)
    theta, params = machine(energy, rng, 0.5)
    reference = with_exact(energy, params)
    near = NeighbouringMachines(energy, reference, draws_of(energy, reference, 400, rng))
    _, other = machine(energy, rng, 2.0, theta)
    short = AnnealingPlan(4, 50, n_steps=1, max_steps=1, n_settle=10)
    found = estimate_partition(near, other, rng, short)
    assert found.error > 0.25 or not found.agree


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.name} {layer.n_noise(8)}")
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gradients_by_chains_are_exact_on_average(layer, temperature):
    rng, energy = np.random.default_rng(1), energy_of(layer)
    theta, _ = machine(energy, rng, 0.4)
    theta = np.concatenate([theta, theta + 0.1 * rng.standard_normal(theta.shape)])
    X = layer.base_draw(energy.rates, 30, rng)
    rows, params = make_rows(X, None), energy.constrain(theta)
    with RowRunner(1) as runner:
        exact = Objective(energy, rows, runner, temperature).value_and_gradient(theta)
    values, ours = moments_of_rows(energy, params, X, np.ones(30), temperature)
    np.testing.assert_allclose(values - energy.log_partition(params), exact[0], rtol=1e-10)
    found = []
    for _ in range(40):
        each = [draws_of(energy, params.take(slice(s, s + 1)), 500, rng) for s in range(2)]
        theirs, moved = moments_of_chains(energy, params, np.stack(each), rng)
        assert moved.shape == (2, 500, 8)
        found.append(gradient_by_chains(energy, theta, params, ours, theirs))
    errors = np.std(found, axis=0) / np.sqrt(len(found)) + 1e-12
    ratios = (np.mean(found, axis=0) - exact[1]) / errors
    assert np.sqrt(np.mean(ratios**2)) < 1.3
    assert np.abs(ratios).max() < 5


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.name} {layer.n_noise(8)}")
def test_centred_coordinates_and_their_gradients(layer):
    rng, energy = np.random.default_rng(2), energy_of(layer)
    theta, params = machine(energy, rng, 0.4)
    centred = CentredCoordinates(energy, params, draws_of(energy, params, 200, rng))
    phi = centred.enter(theta)
    np.testing.assert_allclose(centred.leave(phi), theta, atol=1e-12)
    gradient = rng.standard_normal(theta.shape)
    size = theta.shape[1]
    linear = centred.leave(np.eye(size)) - centred.leave(np.zeros((1, size)))
    np.testing.assert_allclose(centred.pull(gradient)[0], linear @ gradient[0], atol=1e-12)


# -- fits ------------------------------------------------------------------------------------------


def chains(n_burn, n_steps, n_keep=20):
    def plan(batch_size, scale, n_models):
        return LangevinPlan(batch_size, 4, n_burn, n_steps, 100, n_keep)

    return SamplerPlans(langevin=plan, partition=AnnealingPlan(n_steps=50, max_steps=50))


@quiet
@pytest.mark.parametrize("visible", ["bernoulli", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_chains_around_the_best_have_the_posterior_of_tempering(visible):
    """The internal energy, against sampling from the prior; and another temperature, which fails.

    Few bits and units, so that chains reach all of the posterior.
    """
    X = bits(40, 4)
    if visible == "gaussian":
        X = X + 0.3 * np.random.default_rng(5).standard_normal(X.shape)
    settings = {
        "visible": visible,
        "random_state": 0,
        "weight_variance_prior": 0.3,
        "noise_shape_prior": 3.0,
    }
    exact = BayesianRBMAutoEncoder(1, model_temperature=1.0, **settings).fit(X)
    assert exact.sampling_.status == "ok"
    assert exact.sampling_.method == "smc"
    plans = chains(1000, 5000)

    def around(tau):
        model = BayesianRBMAutoEncoder(1, model_temperature=tau, partition="ais", **settings)
        return with_plans(model, plans).fit(X)

    def apart(found):
        error = np.hypot(found.sampling_.hmaxe_error, exact.sampling_.hmaxe_error)
        return (found.internal_energy_ - exact.internal_energy_) / error

    found = around(1.0)
    assert found.sampling_.method == "langevin"
    assert found.sampling_.rhat < 1.2
    assert abs(apart(found)) < 4
    assert abs(apart(around(0.5))) > 6
    assert abs(found.score(X) - exact.score(X)) < 0.1


@quiet
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_attributes_of_machines_sampled_around_the_best(visible):
    X = bits(60, 20)
    if visible == "gaussian":
        X = 10 * X + np.random.default_rng(0).standard_normal(X.shape)
    settings = {"visible": visible, "random_state": 0, "max_iter": 5, "n_models": 4}
    model = BayesianRBMAutoEncoder(18, model_temperature=1.0, **settings)
    fitted = with_plans(model, chains(20, 100, 4)).fit(X)
    sampling, models = fitted.sampling_, fitted.models_
    assert (sampling.method, sampling.n_chains) == ("langevin", 4)
    assert any("one" in reason and "mode" in reason for reason in sampling.reasons)
    assert not hasattr(fitted, "log_evidence_")
    assert np.isnan(fitted.hmaxemax_)
    assert models.components.shape == (4, 18, 20)
    with pytest.raises(ValueError, match="evidence"):
        evidence_scorer(fitted, X)
    assert np.isfinite(hmaxemax_scorer(fitted, X))
    by_model = fitted._bound(X).hmax(X, 1.0)
    np.testing.assert_allclose(by_model.mean(), fitted.internal_energy_)
    np.testing.assert_allclose(
        fitted.score_samples(X), np.log(np.mean(np.exp(by_model), axis=0)), rtol=1e-8
    )
    assert fitted.sample(10, random_state=0)[0].shape == (10, 20)
    # log Z of 18 units by paths from the best machine, against enumeration
    if visible == "gaussian":
        exact = fitted._energy().log_partition(fitted._parameters())
        far = np.abs(models.log_partition - exact).max() > 0.3
        assert not far or any("log Z of" in reason for reason in sampling.reasons)
        return
    flipped = BayesianRBMAutoEncoder(18, **settings).fit(X)
    np.testing.assert_array_equal(flipped.components_, fitted.components_)


def test_where_tempering_would_take_minutes_the_fit_says_how_many():
    settings = read(BayesianRBMAutoEncoder(12, model_temperature=1.0))
    assert tempering_minutes(settings, 1400, 64) > 20
    few = read(BayesianRBMAutoEncoder(2, model_temperature=1.0))
    assert tempering_minutes(few, 100, 8) < 0.5
    X = (load_digits().data[:300] > 7).astype(float)
    model = BayesianRBMAutoEncoder(11, model_temperature=1.0, max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match=r"would take about \d+ minutes"):
        fitted = with_plans(model, chains(10, 40, 4)).fit(X)
    # the energies of the chains are exact there
    assert abs(fitted.internal_energy_ - fitted._bound(X).hmax(X, 1.0).mean()) < 2.0


@pytest.mark.slow
@quiet
def test_averages_of_digits_are_above_the_best_machine_on_rows_held_out():
    X = (load_digits().data > 7).astype(float)
    train, test = X[:1400], X[1400:]
    best = BayesianRBMAutoEncoder(64, random_state=0).fit(train)
    average = BayesianRBMAutoEncoder(64, model_temperature=1.0, random_state=0).fit(train)
    gain = average.score_samples(test) - best.score_samples(test)
    error = np.hypot(gain.std() / np.sqrt(len(gain)), best.log_partition_error_)
    assert gain.mean() > error
