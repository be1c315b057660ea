"""The mode of the density of models: where it is, and that the way there never descends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _oracles import gaussian_mixture_joint, hmax, tilted
from _pca_problems import bayesian_pca, pca_start
from _samplers import COVARIANCE_TYPES, make_problem, small_rows
from scipy.optimize import minimize_scalar
from scipy.stats import invgamma, norm

from skbae import BayesianGMMAutoEncoder
from skbae.energies.gaussian._mixture import gaussian_mixture
from skbae.inference._objective import Objective
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._rows import RowRunner, make_rows

SETTINGS = [(1.0, 1.0, 0.0), (0.5, 2.0, 0.0), (1.0, 1.0, 1.5), (0.5, 0.7, 3.0), (1.0, 1.0, -0.4)]


def objective_of(kind, temperature, tilt, runner, n_rows=25, equal_weights=False):
    energy = make_problem(kind, 2, 2, equal_weights).energy()
    weights = np.random.default_rng(5).uniform(0.5, 2, n_rows)
    return Objective(energy, make_rows(small_rows(n_rows, 2), weights), runner, temperature, tilt)


def density(objective, params, tau):
    """Return the log density whose modes are sought, (S,)."""
    energy = objective.energy
    return objective.log_targets(params, tau) + energy.log_mode_measure(params)


def moved(params, step, rng):
    """Return models a step away along a smooth path: weights, means and factors of precisions."""
    own = params.components
    weights = params.weights * np.exp(step * rng.standard_normal(params.weights.shape))
    components = replace(
        own,
        means=own.means + step * rng.standard_normal(own.means.shape),
        factors=own.factors * (1 + step * rng.standard_normal(own.factors.shape)),
    )
    return replace(params, weights=weights / weights.sum(axis=1)[:, None], components=components)


@pytest.mark.parametrize(("temperature", "tau", "tilt"), SETTINGS)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_density_never_decreases(kind, temperature, tau, tilt):
    with RowRunner(1) as runner:
        objective = objective_of(kind, temperature, tilt, runner)
        params = objective.energy.draw_prior(4, np.random.default_rng(0))
        values = [density(objective, params, tau)]
        for _ in range(15):
            params = find_mode(objective, params, tau, max_iter=1).params
            values.append(density(objective, params, tau))
    slack = 1e-9 * np.abs(values).max()
    assert np.diff(values, axis=0).min() > -slack
    assert (values[-1] > values[0]).all()


@pytest.mark.parametrize(("temperature", "tau", "tilt"), SETTINGS)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_density_is_stationary_at_the_mode(kind, temperature, tau, tilt):
    """Along random paths its slope vanishes; that of the parameters' own measure does not."""
    with RowRunner(1) as runner:
        objective = objective_of(kind, temperature, tilt, runner)
        start = objective.energy.draw_prior(8, np.random.default_rng(0))
        start = best_start(objective, start, tau)
        found = find_mode(objective, start, tau, tol=1e-12, max_iter=3000)
        slopes, others = [], []
        for seed in range(10):
            up, down = (
                moved(found.params, step, np.random.default_rng(seed)) for step in (1e-5, -1e-5)
            )
            slopes.append((density(objective, up, tau) - density(objective, down, tau)) / 2e-5)
            other = objective.log_targets(up, tau) - objective.log_targets(down, tau)
            others.append(other / 2e-5)
    assert found.converged.all()
    assert np.abs(slopes).max() < 2e-3
    assert np.abs(others).max() > 0.3


def test_results_are_those_of_the_mode():
    with RowRunner(1) as runner:
        objective = objective_of("full", 1.0, 0.7, runner)
        starts = objective.energy.draw_prior(5, np.random.default_rng(1))
        found = find_mode(objective, starts, 2.0)
        statistics = objective.expect(found.params)
        targets = objective.log_targets(found.params, 2.0)
        np.testing.assert_allclose(found.hmaxe, statistics.hmaxe, rtol=1e-12)
        np.testing.assert_allclose(found.objective, statistics.objective, rtol=1e-12)
        np.testing.assert_allclose(found.log_target, targets, rtol=1e-12)
        assert (found.objective < found.hmaxe).all()
        best = best_start(objective, found.params, 2.0)
        assert best.n_models == 1
        assert objective.log_targets(best, 2.0)[0] == targets.max()
        assert not find_mode(objective, starts, 2.0, max_iter=1).converged.any()


def test_lbfgs_finds_the_mode_of_a_normal_from_every_start():
    """PCA without a code, an isotropic normal: the mode of mean and log variance, by bisection."""
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(30, 2))
    energy = bayesian_pca(rows, 0)
    start = pca_start(energy)
    starts = replace(start, noise=np.array([1.0]), offset=start.offset + 2.0)
    starts = type(start).concatenate([start, starts])
    tau = 3.0
    with RowRunner(1) as runner:
        objective = Objective(energy, energy.moments.as_one_row(), runner, 1.0)
        found = find_mode(objective, starts, tau, tol=1e-14)
    assert found.converged.all()
    np.testing.assert_allclose(found.params.noise[0], found.params.noise[1], rtol=1e-4)
    prior = energy.prior
    spread = np.sqrt(prior.mean_variance)

    def negative(log_noise):
        noise = np.exp(log_noise)
        log_prior = invgamma(prior.noise_shape, scale=prior.noise_scale).logpdf(noise) + log_noise
        log_prior += norm(prior.mean, spread).logpdf(rows.mean(axis=0)).sum()
        return -(log_prior + norm(rows.mean(axis=0), np.sqrt(noise)).logpdf(rows).sum() / tau)

    expected = minimize_scalar(negative, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    np.testing.assert_allclose(np.log(found.params.noise), expected.x, atol=1e-4)
    np.testing.assert_allclose(found.log_target, -expected.fun, rtol=1e-9)


def test_energies_without_prior_or_gradient_raise():
    rows = make_rows(small_rows(10, 2), None)
    with RowRunner(1) as runner:
        with pytest.raises(TypeError, match="finding the mode needs a GradientEnergy"):
            find_mode(Objective(gaussian_mixture(2, 2), rows, runner, 1.0), None, 1.0)
        objective = Objective(make_problem("full", 2, 2).energy(), rows, runner, 1.0)
        for tau in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="model_temperature must be positive"):
                find_mode(objective, None, tau)


def test_the_reference_of_a_tilted_mixture_is_where_its_draws_are():
    """With t = 1.5 the full step overshoots: it used to end in a narrow, wild model, status ok."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-3, 1, (40, 1)), rng.normal(3, 1, (40, 1))])
    model = BayesianGMMAutoEncoder(1, tilt=1.5, n_models=200, random_state=0).fit(X)
    drawn = model.models_.covariances[:, 0, 0, 0]
    assert abs(model.covariances_[0, 0, 0] - drawn.mean()) < drawn.std()
    values = hmax(gaussian_mixture_joint(model, X), 1.0)
    np.testing.assert_allclose(model.hmaxe_, values.mean(), rtol=1e-9)
    np.testing.assert_allclose(model.lower_bound_, tilted(values, None, 1.5), rtol=1e-9)
    assert model.lower_bound_ < model.hmaxe_ - 0.01
