"""Unconstrained coordinates, their priors and gradients; Hamiltonian moves."""

from __future__ import annotations

import numpy as np
import pytest
from _samplers import COVARIANCE_TYPES, make_problem, small_rows
from scipy.special import gammaln
from scipy.stats import dirichlet, gamma, kstest, multivariate_normal, wishart

from skbae.inference._objective import Objective, Target
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample import _hmc
from skbae.inference.sample._hmc import Particles, evaluate, hmc_move, leapfrog
from skbae.operators._draws import log_gamma_draws, systematic_resample

# -- coordinates -----------------------------------------------------------------------------------

SETTINGS = [
    pytest.param(kind, n_components, n_features, equal, id=f"{kind}-{n_components}-{n_features}")
    for kind in COVARIANCE_TYPES
    for n_components, n_features, equal in [(3, 2, False), (2, 3, True), (1, 1, False)]
]


def central_differences(function, theta, step=1e-6):
    """Return the gradient (S, P) of a function of coordinates (S, P) with values (S,)."""
    gradient = np.empty(theta.shape)
    for index in range(theta.shape[1]):
        shift = np.zeros(theta.shape[1])
        shift[index] = step
        gradient[:, index] = (function(theta + shift) - function(theta - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize(("kind", "n_components", "n_features", "equal"), SETTINGS)
def test_coordinates_and_models_are_one_to_one(kind, n_components, n_features, equal):
    energy = make_problem(kind, n_components, n_features, equal).energy()
    params = energy.draw_prior(20, np.random.default_rng(1))
    again = energy.constrain(energy.unconstrain(params))
    np.testing.assert_allclose(again.weights, params.weights, rtol=1e-12)
    np.testing.assert_allclose(again.components.means, params.components.means, rtol=1e-9)
    np.testing.assert_allclose(
        again.components.factors, params.components.factors, rtol=1e-9, atol=1e-12
    )
    assert energy.unconstrain(params).shape[1] == len(energy.coordinate_kinds())


@pytest.mark.parametrize(("kind", "n_components", "n_features", "equal"), SETTINGS)
def test_prior_gradient_equals_finite_differences(kind, n_components, n_features, equal):
    energy = make_problem(kind, n_components, n_features, equal).energy()
    theta = energy.draw_prior_coordinates(6, np.random.default_rng(2))
    _, gradient = energy.log_prior_at(theta)
    expected = central_differences(lambda t: energy.log_prior_at(t)[0], theta)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("temperature", "tilt"), [(1, 0), (0, 0), (2, 0), (0.5, 0.7), (1, -0.4)])
@pytest.mark.parametrize(("kind", "n_components", "n_features", "equal"), SETTINGS)
def test_objective_gradient_equals_finite_differences(
    kind, n_components, n_features, equal, temperature, tilt
):
    energy = make_problem(kind, n_components, n_features, equal).energy()
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.3, 2.0, size=17)
    rows = make_rows(small_rows(17, n_features), weights)
    theta = energy.draw_prior_coordinates(5, rng)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, temperature, tilt)
        _, gradient = objective.value_and_gradient(theta)
        expected = central_differences(lambda t: objective.value_and_gradient(t)[0], theta)
    scale = 1 + np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient / scale, expected / scale, atol=2e-7)


def unpacked_model(energy, theta):
    """Return what the textbook's density is a density of: means, and entries of precisions."""
    params = energy.constrain(theta[None])
    shape = energy.family.shape
    precisions = shape.precisions(params.components.factors)[0]
    if precisions.ndim == 3:
        upper = np.triu_indices(energy.n_features)
        precisions = precisions[:, upper[0], upper[1]]
    return np.concatenate([params.components.means[0].ravel(), precisions.ravel()])


@pytest.mark.parametrize(("kind", "n_components", "n_features", "equal"), SETTINGS)
def test_prior_density_is_the_textbooks_times_the_jacobian(kind, n_components, n_features, equal):
    problem = make_problem(kind, n_components, n_features, equal)
    energy = problem.energy()
    n_shares = 0 if equal or n_components == 1 else n_components
    for theta in energy.draw_prior_coordinates(3, np.random.default_rng(4)):
        params = energy.constrain(theta[None])
        means = params.components.means[0]
        precisions = energy.family.shape.precisions(params.components.factors)[0]
        density = 0.0
        for k, mean in enumerate(means):
            precision = precisions[0 if kind.startswith("tied") else k]
            dense = precision if precision.ndim == 2 else precision * np.eye(n_features)
            covariance = np.linalg.inv(problem.strength * dense)
            density += multivariate_normal(problem.location, covariance).logpdf(mean)
        for precision in precisions:
            if precision.ndim == 2:
                scale = np.linalg.inv(problem.scale)
                density += wishart(problem.dof, scale).logpdf(precision)
            else:
                rate = np.asarray(problem.scale) / 2
                density += gamma(problem.dof / 2, scale=1 / rate).logpdf(precision).sum()
        components = theta[n_shares:]

        def changed(part, theta=theta):
            return unpacked_model(energy, np.concatenate([theta[:n_shares], part]))

        jacobian = np.empty((len(components), len(components)))
        for i in range(len(components)):
            shift = np.zeros(len(components))
            shift[i] = 1e-6
            jacobian[:, i] = (changed(components + shift) - changed(components - shift)) / 2e-6
        expected = density + np.linalg.slogdet(jacobian)[1]
        if n_shares:
            # shares of gamma variables are Dirichlet, their sum is gamma: times the Jacobian of
            # (shares, sum) -> logarithms, which is sum^K prod(shares) / sum
            total, shares = np.exp(theta[:n_shares]).sum(), params.weights[0]
            alpha = np.full(n_shares, problem.concentration)
            expected += dirichlet(alpha).logpdf(shares) + gamma(alpha.sum()).logpdf(total)
            expected += np.log(total) + np.log(shares).sum()
        assert energy.log_prior_at(theta[None])[0][0] == pytest.approx(expected, abs=1e-6)


def test_prior_density_integrates_to_one():
    energy = make_problem("full", 1, 1).energy()
    # a standardised mean and a logarithm: the mean's tails fall like a power, so it is scaled by
    # the precision to be integrated over
    logs = np.linspace(-12, 3, 1501)
    z = np.linspace(-9, 9, 721)
    grid_z, grid_logs = np.meshgrid(z, logs, indexing="ij")
    spread = np.exp(-grid_logs) / np.sqrt(0.3)
    theta = np.stack([grid_z * spread, grid_logs], axis=-1).reshape(-1, 2)
    density = np.exp(energy.log_prior_at(theta)[0]).reshape(grid_z.shape) * spread
    total = density.sum() * (z[1] - z[0]) * (logs[1] - logs[0])
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_prior_draws_match_the_density(kind):
    """Stein's identities: the gradient has mean zero, coordinate times gradient has mean -1."""
    energy = make_problem(kind).energy()
    theta = energy.draw_prior_coordinates(20_000, np.random.default_rng(5))
    _, gradient = energy.log_prior_at(theta)
    for draws in (gradient, theta * gradient + 1):
        errors = draws.std(axis=0) / np.sqrt(len(draws))
        np.testing.assert_array_less(np.abs(draws.mean(axis=0)), 5 * errors)


@pytest.mark.parametrize("kind", ["full", "tied_diag"])
def test_prior_draws_agree_with_those_of_the_gibbs_sampler(kind):
    energy = make_problem(kind).energy()
    one = energy.constrain(energy.draw_prior_coordinates(4000, np.random.default_rng(6)))
    other = energy.draw_prior(4000, np.random.default_rng(7))
    shape = energy.family.shape
    pairs = [
        (one.weights[:, 0], other.weights[:, 0]),
        (one.components.means[:, 1, 0], other.components.means[:, 1, 0]),
        (
            shape.half_log_det(one.components.factors)[:, 0],
            shape.half_log_det(other.components.factors)[:, 0],
        ),
    ]
    for first, second in pairs:
        assert kstest(first, second).pvalue > 1e-4


def test_far_out_models_have_no_density_but_a_number():
    energy = make_problem("full").energy()
    rows = make_rows(small_rows(17, 2), None)
    rng = np.random.default_rng(8)
    theta = energy.draw_prior_coordinates(200, rng) * rng.choice([1, 30, 300], size=(200, 1))
    for tilt in (0.0, 2.0, -0.5):
        with RowRunner(1) as runner:
            value, gradient = Objective(energy, rows, runner, 1.0, tilt).value_and_gradient(theta)
        assert not np.isnan(value).any()
        assert (value < np.inf).all()
        assert np.isfinite(gradient).all()


def test_log_gamma_draws_have_the_right_law():
    for concentration in (0.02, 0.7, 5.0):
        draws = log_gamma_draws(np.full(4000, concentration), np.random.default_rng(9))
        assert kstest(gamma(concentration).cdf(np.exp(draws)), "uniform").pvalue > 1e-4


def test_systematic_resampling_rounds_expected_numbers():
    rng = np.random.default_rng(10)
    log_weights = rng.standard_normal(50)
    log_weights[::7] = -np.inf
    expected = 400 * np.exp(log_weights) / np.exp(log_weights).sum()
    for _ in range(20):
        counts = np.bincount(systematic_resample(log_weights, 400, rng), minlength=50)
        assert (np.abs(counts - expected) < 1).all()
        assert not counts[::7].any()


# -- moves -----------------------------------------------------------------------------------------


class Banana(Target):
    """``x ~ log-Gamma(2)`` a priori, ``y | x ~ N(x^2, 1 / power)``: exact draws at any power."""

    def prior(self, theta):
        x = theta[:, 0]
        value = 2 * x - np.exp(x) - gammaln(2.0)
        return value, np.stack([2 - np.exp(x), np.zeros(len(x))], axis=1)

    def value_and_gradient(self, theta):
        x, y = theta.T
        deviation = y - x**2
        gradient = np.stack([2 * x * deviation, -deviation], axis=1)
        return -0.5 * deviation**2, gradient

    def draw(self, power, rng):
        x = np.log(rng.standard_gamma(2.0, size=len(power)))
        y = x**2 + rng.standard_normal(len(power)) / np.sqrt(power)
        return np.stack([x, y], axis=1)


def particles_at_rest(n, seed):
    rng = np.random.default_rng(seed)
    power = rng.choice([0.5, 2.0], size=n)
    target = Banana()
    return target, evaluate(target, target.draw(power, rng)), power, rng


def worst_score(theta, power):
    """Return the largest |z| of functions whose expectations are known."""
    x, y = theta.T
    deviation = (y - x**2) * np.sqrt(power)
    digamma, trigamma = 0.42278433509846713, 0.6449340668482264  # of 2
    functions = [
        x - digamma,
        (x - digamma) ** 2 - trigamma,
        np.exp(x) - 2,
        deviation,
        deviation**2 - 1,
        x * deviation,
    ]
    return max(abs(f.mean()) / (f.std() / np.sqrt(len(f))) for f in functions)


def run_moves(n_moves=15, step_size=0.7, n=20_000, seed=11):
    target, particles, power, rng = particles_at_rest(n, seed)
    rates = []
    for _ in range(n_moves):
        particles, acceptance = hmc_move(target, particles, power, np.ones(2), step_size, 3, rng)
        rates.append(acceptance.mean())
    return particles, power, float(np.mean(rates))


def test_moves_leave_the_target_invariant():
    particles, power, rate = run_moves()
    assert 0.5 < rate < 0.95  # rejections matter here
    assert worst_score(particles.theta, power) < 5
    again = evaluate(Banana(), particles.theta)
    np.testing.assert_array_equal(again.value, particles.value)
    np.testing.assert_array_equal(again.prior_gradient, particles.prior_gradient)


def test_moves_with_a_wrong_acceptance_ratio_do_not_leave_the_target_invariant(monkeypatch):
    """Negative control: without the kinetic energy, the same test must fail."""
    real = _hmc.leapfrog

    def without_kinetic_energy(target, particles, velocity, *rest):
        moved, _, alive = real(target, particles, velocity, *rest)
        return moved, velocity, alive

    monkeypatch.setattr(_hmc, "leapfrog", without_kinetic_energy)
    particles, power, _ = run_moves()
    assert worst_score(particles.theta, power) > 5


def test_chains_forget_their_starts():
    """All particles from one place find the whole target."""
    target, particles, power, rng = particles_at_rest(5000, 12)
    particles = evaluate(target, np.zeros((5000, 2)))
    for _ in range(60):
        particles, _ = hmc_move(target, particles, power, np.ones(2), 0.5, 4, rng)
    assert worst_score(particles.theta, power) < 5


def energy_error(n_steps):
    """Return the root mean square error of the energy over a path of length one."""
    target, particles, power, rng = particles_at_rest(2000, 13)
    velocity = rng.standard_normal((2000, 2))
    steps = np.full((2000, 2), 1 / n_steps)
    moved, final, alive = leapfrog(target, particles, velocity, power, steps, n_steps)
    assert alive.all()
    change = moved.log_density(power) - particles.log_density(power)
    change -= 0.5 * ((final**2).sum(axis=1) - (velocity**2).sum(axis=1))
    return np.sqrt(np.median(change**2))


def test_energy_error_has_slope_two():
    numbers = np.array([16, 32, 64, 128])
    errors = [energy_error(n) for n in numbers]
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


def test_leapfrog_is_reversible():
    target, particles, power, rng = particles_at_rest(500, 14)
    velocity = rng.standard_normal((500, 2))
    steps = np.full((500, 2), 0.1)
    moved, final, _ = leapfrog(target, particles, velocity, power, steps, 10)
    back, returned, _ = leapfrog(target, moved, -final, power, steps, 10)
    np.testing.assert_allclose(back.theta, particles.theta, atol=1e-9)
    np.testing.assert_allclose(-returned, velocity, atol=1e-9)


def test_trajectories_that_leave_the_allowed_range_are_rejected():
    target, particles, power, rng = particles_at_rest(300, 15)
    before = particles.theta.copy()
    moved, acceptance = hmc_move(target, particles, power, np.ones(2), 1e3, 4, rng)
    np.testing.assert_array_equal(moved.theta, before)
    assert (acceptance == 0).all()


def test_particles_without_a_density_do_not_move_others():
    target, particles, power, rng = particles_at_rest(50, 16)
    holes = np.zeros(50, dtype=bool)
    holes[::5] = True
    values = np.where(holes, -np.inf, particles.value)
    broken = Particles(
        particles.theta,
        particles.log_prior,
        particles.prior_gradient,
        values,
        np.where(holes[:, None], 0.0, particles.value_gradient),
    )
    moved, acceptance = hmc_move(target, broken, power, np.ones(2), 0.3, 3, rng)
    np.testing.assert_array_equal(moved.theta[holes], particles.theta[holes])
    assert (moved.theta[~holes] != particles.theta[~holes]).any(axis=1).mean() > 0.5
    assert np.isfinite(acceptance).all()
