"""Tempered sampling against enumeration, closed forms and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _data import GALAXIES
from _oracles import (
    enumerated_log_evidence,
    gaussian_log_marginal,
    prior_average,
    prior_mixtures_1d,
    prior_objectives_1d,
)
from _samplers import make_problem, small_rows
from scipy.stats import gamma, norm

from skbae.energies._capabilities import GradientEnergy
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture, gaussian_mixture
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.inference._objective import Objective, Target
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate
from skbae.inference.sample._tempering import (
    SMCMoves,
    SMCPlan,
    TemperingError,
    sample_tempered,
    tempered_plan,
)
from skbae.operators._tempered import log_mean_exp

SMALL = SMCPlan(n_islands=8, n_particles=512, n_moves=15)
MEDIUM = SMCPlan(n_islands=16, n_particles=1024)
TINY = SMCPlan(n_islands=8, n_particles=256, n_moves=15)
# errors of about 0.01 nats, where answers are exact to 0.05
FINE = SMCPlan(n_islands=16, n_particles=8192)


def run(
    energy, X, *, seed, tau=1.0, temperature=1.0, tilt=0.0, weights=None, plan=SMALL, **options
):
    rows = make_rows(np.asarray(X), weights)
    with RowRunner(options.pop("n_threads", 1)) as runner:
        return sample_tempered(
            Objective(energy, rows, runner, temperature, tilt),
            tau,
            np.random.default_rng(seed),
            plan=plan,
            **options,
        )


def combined(log_evidence):
    """Return the log of the islands' mean evidence, and its standard error."""
    peak = log_evidence.max()
    shares = np.exp(log_evidence - peak)
    error = shares.std(ddof=1) / shares.mean() / np.sqrt(len(shares))
    return np.log(shares.mean()) + peak, error


def worst_balance(got, chain_length):
    """Return the largest mean total gradient in units of its error, from the means of chains."""
    chains = got.scores.reshape(-1, chain_length, got.scores.shape[-1]).mean(axis=1)
    errors = chains.std(axis=0, ddof=1) / np.sqrt(len(chains))
    return float(np.max(np.abs(chains.mean(axis=0)) / errors))


# -- the oracle itself -----------------------------------------------------------------------------


def test_marginal_of_a_component_by_quadrature():
    x = np.array([0.3, 1.4, -0.2])
    # a standardised mean and the logarithm of the precision, on a grid: smooth, with light tails
    z, u = np.meshgrid(np.linspace(-10, 10, 801), np.linspace(-14, 5, 801), indexing="ij")
    precision = np.exp(u)
    mean = 0.4 + z / np.sqrt(0.3 * precision)
    prior = norm.pdf(z) * gamma(2.5 / 2, scale=2 / 0.8).pdf(precision) * precision
    rows = norm(mean, 1 / np.sqrt(precision)).logpdf(x[:, None, None])
    for power in (1.0, 0.5, np.array([0.4, 1.7, 1.0])):
        weighted = np.tensordot(np.broadcast_to(power, 3), rows, axes=1)
        brute = (np.exp(weighted) * prior).sum() * (20 / 800) * (19 / 800)
        exact = gaussian_log_marginal(
            x[:, None], "full", 0.3, np.array([0.4]), 2.5, np.array([[0.8]]), power
        )
        assert exact == pytest.approx(np.log(brute), abs=1e-6)


# -- exact answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "n_components", "n_features", "n_rows", "equal", "temperature"),
    [
        ("full", 3, 1, 10, False, 0.5),
        ("full", 2, 2, 10, False, 2.0),
        ("diag", 3, 2, 9, False, 1.0),
        ("spherical", 2, 2, 12, True, 0.5),
        # the same kinds and temperatures in other combinations
        pytest.param("full", 3, 1, 10, False, 1.0, marks=pytest.mark.slow),
        pytest.param("full", 3, 1, 10, False, 2.0, marks=pytest.mark.slow),
        pytest.param("full", 2, 1, 12, False, 1.0, marks=pytest.mark.slow),
        pytest.param("full", 2, 2, 10, False, 0.5, marks=pytest.mark.slow),
        pytest.param("spherical", 2, 2, 12, True, 1.0, marks=pytest.mark.slow),
    ],
)
def test_evidence_by_enumeration(kind, n_components, n_features, n_rows, equal, temperature):
    problem = make_problem(kind, n_components, n_features, equal)
    X = small_rows(n_rows, n_features)
    exact = enumerated_log_evidence(
        X, n_components, kind, temperature=temperature, equal_weights=equal, **problem.prior
    )
    got = run(problem.energy(), X, seed=1, tau=temperature, temperature=temperature, plan=FINE)
    value, error = combined(got.log_evidence)
    assert error < 0.02
    assert abs(value - exact) < 0.05
    assert abs(value - exact) < 5 * error


@pytest.mark.parametrize("kind", ["tied", "tied_diag", "tied_spherical"])
def test_tied_kinds_agree_with_gibbs(kind):
    problem = make_problem(kind, 2, 2)
    X = small_rows(11, 2)
    value, error = combined(run(problem.energy(), X, seed=2, plan=MEDIUM).log_evidence)
    gibbs = run_gibbs(problem.energy(), X, None, seed=3)
    expected, other = combined(gibbs.log_evidence)
    assert abs(value - expected) < 5 * np.hypot(error, max(other, gibbs.log_evidence_error.max()))
    assert error < 0.05


def run_gibbs(energy, X, weights, seed):
    rows, rng = make_rows(X, weights), np.random.default_rng(seed)
    starts = energy.draw_prior(64, rng)
    with RowRunner(1) as runner:
        return sample_conjugate(
            Objective(energy, rows, runner, 1.0), starts, rng, plan=GibbsPlan(n_sweeps=300)
        )


def test_galaxies():
    X = GALAXIES
    energy = conjugate_gaussian_mixture(
        3,
        1,
        "full",
        False,
        0.0,
        concentration=1.0,
        mean_precision=2.6 / np.ptp(X),
        mean=X.mean(axis=0),
        degrees_of_freedom=2.56,
        covariance=0.72 * X.var(axis=0)[:, None],
        centre=X.mean(axis=0),
    )
    got = run(energy, X, seed=4, plan=tempered_plan(82, 50))
    value, error = combined(got.log_evidence)
    assert error < 0.15
    assert abs(value + 227.065) < 5 * error
    assert worst_balance(got, 32) < 5


def test_evidence_is_within_its_errors_over_many_runs():
    """Over seeds, errors in units of what islands claim have the size of Student's t with 7."""
    problem, X = make_problem("full", 2, 1), small_rows(10, 1)
    exact = enumerated_log_evidence(X, 2, "full", **problem.prior)
    energy, ratios, claimed, spread = problem.energy(), [], [], []
    for seed in range(40):
        got = run(energy, X, seed=seed, plan=TINY)
        value, error = combined(got.log_evidence)
        ratios.append((value - exact) / error)
        claimed.append((got.log_evidence_error**2).mean())
        spread.append(got.log_evidence.var(ddof=1))
    squares = np.square(ratios)
    # E t^2 = 7/5, Var t^2 = 7.84: four standard errors of a mean of 40
    assert abs(squares.mean() - 1.4) < 4 * np.sqrt(7.84 / 40)
    # a single island's own error leaves out what chains share, but not much
    assert 0.4 < np.mean(claimed) / np.mean(spread) < 2


# -- other temperatures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models():
    problem = make_problem("full", 2, 1)
    prior = {**problem.prior, "location": problem.location[0], "scale": problem.scale[0, 0]}
    return prior_mixtures_1d(1_000_000, 2, np.random.default_rng(20), **prior)


@pytest.mark.parametrize(("temperature", "tilt"), [(1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.5, -0.5)])
def test_the_sources_formula_by_brute_force(models, temperature, tilt):
    """At tau = N the log evidence is hmaxemax itself."""
    energy, X = make_problem("full", 2, 1).energy(), small_rows(12, 1)
    objective = prior_objectives_1d(X[:, 0], models, temperature=temperature, tilt=tilt)
    expected, spread, *_ = prior_average(objective, 1.0)
    got = run(
        energy, X, seed=5, tau=12.0, temperature=temperature, tilt=tilt, plan=tempered_plan(12, 50)
    )
    value, error = combined(got.log_evidence)
    assert abs(value - expected) < 0.02
    assert abs(value - expected) < 5 * np.hypot(error, spread)
    assert error < 0.01


def test_zero_temperature_codes_with_sampled_models(models):
    energy, X = make_problem("full", 2, 1).energy(), small_rows(6, 1)
    expected, spread, *_ = prior_average(prior_objectives_1d(X[:, 0], models, temperature=0.0), 6.0)
    got = run(energy, X, seed=6, tau=1.0, temperature=0.0, plan=MEDIUM)
    value, error = combined(got.log_evidence)
    assert abs(value - expected) < 5 * np.hypot(error, spread)
    assert np.hypot(error, spread) < 0.05


def test_fractional_weights_by_brute_force(models):
    energy, X = make_problem("full", 2, 1).energy(), small_rows(8, 1)
    weights = np.array([0.3, 1.7, 0.5, 1.0, 0.25, 2.5, 0.8, 1.2])
    tau = weights.sum() / 3
    objective = prior_objectives_1d(X[:, 0], models, temperature=1.0, sample_weight=weights)
    expected, spread, *_ = prior_average(objective, 3.0)
    got = run(energy, X, seed=7, tau=tau, weights=weights, plan=MEDIUM)
    value, error = combined(got.log_evidence)
    assert abs(value - expected) < 5 * np.hypot(error, spread)
    assert np.hypot(error, spread) < 0.03


def test_fractional_weights_of_a_single_component():
    problem, X = make_problem("full", 1, 2), small_rows(9, 2)
    weights = np.linspace(0.2, 2.4, 9)
    exact = gaussian_log_marginal(
        X, "full", problem.strength, problem.location, problem.dof, problem.scale, weights
    )
    value, error = combined(run(problem.energy(), X, seed=8, weights=weights).log_evidence)
    assert abs(value - exact) < 5 * error
    assert error < 0.1


def test_integer_weights_are_repeated_rows():
    problem, X = make_problem("full", 2, 1), small_rows(6, 1)
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 2.0])
    exact = enumerated_log_evidence(
        np.repeat(X, weights.astype(int), axis=0), 2, "full", **problem.prior
    )
    value, error = combined(
        run(problem.energy(), X, seed=9, weights=weights, plan=MEDIUM).log_evidence
    )
    assert abs(value - exact) < 5 * error
    gibbs = run_gibbs(problem.energy(), X, weights, seed=10)
    other = max(combined(gibbs.log_evidence)[1], gibbs.log_evidence_error.max())
    assert abs(value - gibbs.log_evidence.mean()) < 5 * np.hypot(error, other)


def test_stops_are_free_energies_on_the_way(models):
    energy, X = make_problem("full", 2, 1).energy(), small_rows(12, 1)
    brute = prior_objectives_1d(X[:, 0], models, temperature=1.0)
    got = run(energy, X, seed=11, stops=[12.0, 4.0, 0.5], plan=MEDIUM)
    path = got.path
    assert path.model_temperatures[-1] == 1
    assert (np.diff(path.model_temperatures) < 0).all()
    np.testing.assert_array_equal(path.log_evidence[-1], got.log_evidence)
    assert 0.5 not in path.model_temperatures  # beyond the target
    for tau in (12.0, 4.0):
        (index,) = np.flatnonzero(path.model_temperatures == tau)
        expected, spread, mean, spread_of_mean = prior_average(brute, 12 / tau)
        value, error = combined(path.log_evidence[index])
        assert abs(value - expected) < 5 * np.hypot(error, spread)
        objective = path.objective[index]
        error = objective.std(ddof=1) / np.sqrt(len(objective))
        assert abs(objective.mean() - mean) < 5 * np.hypot(error, spread_of_mean)


# -- what is returned ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_on_any_number_of_threads():
    energy = make_problem("diag", 2, 2).energy()
    X = np.random.default_rng(12).standard_normal((3000, 2))
    plan = SMCPlan(n_islands=2, n_particles=16, n_moves=1)
    one, two = (run(energy, X, seed=13, tau=500.0, plan=plan, n_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.hmaxe, two.hmaxe)
    np.testing.assert_array_equal(one.log_evidence, two.log_evidence)
    np.testing.assert_array_equal(one.params.components.means, two.params.components.means)


def test_shapes_and_scores():
    problem, X = make_problem("full", 2, 2), small_rows(12, 2)
    got = run(problem.energy(), X, seed=14)
    assert got.params.n_models == SMALL.n_keep
    assert got.hmaxe.shape == (8, 512)
    n_coordinates = 2 + 2 * 2 + 2 * 3
    assert got.scores.shape == (8, 512, n_coordinates)
    assert got.method == "smc"
    assert not got.stopped
    assert 0.5 < got.acceptance < 0.95
    assert worst_balance(got, 16) < 5
    assert np.abs(got.scores).max() > 1


def test_float32_rows_are_sampled_in_double_precision():
    problem, X = make_problem("full", 2, 1), small_rows(10, 1)
    single = X.astype(np.float32)
    one = run(problem.energy(), single, seed=15)
    other = run(problem.energy(), single.astype(np.float64), seed=15)
    np.testing.assert_allclose(one.log_evidence, other.log_evidence, atol=1e-6)


def test_a_path_cut_off_by_max_steps_raises():
    energy, X = make_problem("full", 2, 2).energy(), 30 * small_rows(40, 2)
    with pytest.raises(TemperingError, match="max_steps=2"):
        run(energy, X, seed=16, plan=SMCPlan(n_islands=2, n_particles=64, n_moves=3, max_steps=2))


def test_a_callback_stops_the_run_and_leaves_the_evidence_nan():
    energy, X = make_problem("full", 2, 2).energy(), small_rows(12, 2)
    seen = []

    def stop_at_two(step, objective):
        seen.append((step, objective))
        return step == 2

    got = run(energy, X, seed=17, on_step=stop_at_two)
    assert [step for step, _ in seen] == [1, 2]
    assert np.isfinite([objective for _, objective in seen]).all()
    assert got.stopped
    assert np.isnan(got.log_evidence).all()
    assert np.isnan(got.log_evidence_error).all()
    assert got.path.model_temperatures[-1] > 1
    assert np.isfinite(got.path.log_evidence).all()


def test_invalid_plans_and_energies_raise():
    energy, X = make_problem("full", 2, 2).energy(), small_rows(12, 2)
    with pytest.raises(ValueError, match="multiple of n_moves"):
        SMCPlan(n_particles=100, n_moves=6)
    with pytest.raises(ValueError, match="n_islands"):
        SMCPlan(n_islands=1)
    with pytest.raises(ValueError, match="model_temperature"):
        run(energy, X, seed=18, tau=0.0)
    with pytest.raises(TypeError, match="GradientEnergy"):
        run(gaussian_mixture(2, 2), X, seed=18)
    assert isinstance(energy, GradientEnergy)


# -- negative controls -----------------------------------------------------------------------------


class WithoutJacobian(SmoothConjugateMixture):
    """Leaves out that a share is the exponential of its coordinate."""

    def log_prior_at(self, theta):
        value, gradient = super().log_prior_at(theta)
        gradient = gradient.copy()
        gradient[:, :2] -= 1
        return value - theta[:, :2].sum(axis=1), gradient


def test_a_prior_without_its_jacobian_gives_a_wrong_evidence():
    problem, X = make_problem("full", 2, 1), small_rows(12, 1)
    right = problem.energy()
    wrong = WithoutJacobian(right.family, right.concentration, right.equal_weights)
    exact = enumerated_log_evidence(X, 2, "full", **problem.prior)
    value, error = combined(run(wrong, X, seed=1, plan=MEDIUM).log_evidence)
    assert abs(value - exact) > max(5 * error, 0.05)


def test_a_wrong_acceptance_gives_a_wrong_evidence(monkeypatch):
    """Accepting whatever is proposed, with long steps, must not reproduce the exact answer."""
    from skbae.inference.sample import _tempering

    real = _tempering.hmc_move

    def always(target, particles, power, scales, step_size, n_steps, rng):
        class Eager:
            def random(self, size):
                return np.zeros(size)

            def __getattr__(self, name):
                return getattr(rng, name)

        moved, acceptance = real(target, particles, power, scales, 1.0, n_steps, Eager())
        return moved, acceptance

    monkeypatch.setattr(_tempering, "hmc_move", always)
    problem, X = make_problem("full", 2, 1), small_rows(12, 1)
    exact = enumerated_log_evidence(X, 2, "full", **problem.prior)
    value, error = combined(run(problem.energy(), X, seed=1, plan=MEDIUM).log_evidence)
    assert abs(value - exact) > max(5 * error, 0.05)


class _Bump(Target):
    """A normal density times another, narrower one, in standard normal coordinates."""

    def prior(self, theta):
        return -0.5 * (theta**2).sum(axis=1), -theta

    def value_and_gradient(self, theta):
        return -2.0 * ((theta - 1.0) ** 2).sum(axis=1), -4.0 * (theta - 1.0)


@pytest.mark.parametrize(
    ("n_particles", "length", "understated"), [(512, 0.6, 1.3), (256, 2.5, 0.9)]
)
def test_errors_count_what_chains_remember(n_particles, length, understated):
    """Chains that move little repeat the errors of the steps before; others forget them."""
    plan = SMCPlan(n_islands=200, n_particles=n_particles, n_moves=7, length=length)
    rng = np.random.default_rng(0)
    moves = SMCMoves(_Bump(), np.zeros(4, dtype=np.intp), plan, 1.0, rng)
    state = moves.init(rng.standard_normal((plan.n_islands * n_particles, 4)))
    while state.beta < 1:
        state = moves.step(replace(state, step_size=min(state.step_size, length)))
    exact = 4 * (-0.5 * np.log(5.0) - 0.4)
    shown = state.log_evidence.var(ddof=1)
    assert abs(log_mean_exp(state.log_evidence) - exact) < 5 * np.sqrt(shown / plan.n_islands)
    assert 0.7 < shown / state.whole_variance.mean() < 1.3
    # without what they remember
    assert shown / state.variance.mean() > understated


@pytest.mark.parametrize(("n_rows", "plan"), [(10, (512, 15)), (80, (1024, 31))])
def test_claimed_errors_are_the_spread_of_islands(n_rows, plan):
    """Without what chains remember, variances were claimed too small by factors up to 2.7."""
    problem = make_problem("full", 2, 2)
    X = small_rows(40, 2)
    X = np.concatenate([X - 2, X + 2]) if n_rows == 80 else X[:n_rows]
    got = run(problem.energy(), X, seed=1, plan=SMCPlan(40, *plan))
    assert 0.6 < got.log_evidence.var(ddof=1) / (got.log_evidence_error**2).mean() < 1.6
