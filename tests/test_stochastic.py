"""Ascent by batches of rows, and Langevin sampling by them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp

from skbae.energies._capabilities import BatchStep, MinibatchObjective
from skbae.inference.evidence._verdict import assess
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._minibatch import (
    DivergedError,
    MinibatchPlan,
    PlainSteps,
    batches,
    constant_rate,
    falling_rate,
    fit_minibatches,
    settled,
)
from skbae.inference.sample._langevin import (
    BatchTarget,
    LangevinPlan,
    measure_noise,
    sample_langevin,
)

# -- the optimiser ---------------------------------------------------------------------------------


class Quadratic(MinibatchObjective):
    """``-mean |theta - x|^2 / 2``, whose maximum is the mean row."""

    def __init__(self, X):
        self.X, self.n_rows = X, len(X)
        self.floor = -np.inf

    def step(self, theta, index, memory, rng):
        deviations = self.X[index] - theta
        value = -0.5 * float((deviations**2).sum(axis=1).mean())
        return BatchStep(deviations.mean(axis=0), value)

    def score(self, theta):
        return -0.5 * float(((self.X - theta) ** 2).sum(axis=1).mean())

    def constrain(self, theta):
        np.maximum(theta, self.floor, out=theta)


def plan(**changes):
    return MinibatchPlan(
        **{
            "batch_size": 10,
            "max_passes": 400,
            "rate": 0.02,
            "tol": 0.0,
            "patience": 400,
            **changes,
        }
    )


def fit(X, rng=0, on_pass=None, held=None, floor=-np.inf, **changes):
    objective = Quadratic(X)
    objective.floor = floor
    return fit_minibatches(
        objective,
        Adam(np.zeros(X.shape[1])),
        plan(**changes),
        np.random.default_rng(rng),
        on_pass=on_pass,
        held=held,
    )


def test_the_average_reaches_the_optimum():
    X = np.random.default_rng(0).normal(size=(95, 3)) + np.array([1.0, -2.0, 3.0])
    found = fit(X)
    np.testing.assert_allclose(found.theta, X.mean(axis=0), atol=0.02)
    assert len(found.objectives) == 400
    assert not found.converged
    bounded = fit(X, floor=-1.0)
    np.testing.assert_allclose(bounded.theta, [X[:, 0].mean(), -1.0, X[:, 2].mean()], atol=0.05)


def test_patience_and_callbacks_stop():
    X = np.random.default_rng(0).normal(size=(40, 2)) + 1
    found = fit(X, patience=5, tol=1e-3, max_passes=5000, rate=0.05)
    assert found.converged
    assert len(found.objectives) < 1000
    found = fit(X, on_pass=lambda number, value: number == 7)
    assert len(found.objectives) == 7
    assert not found.converged


def test_held_out_rows_choose_the_pass():
    scores = iter([1.0, 5.0, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    seen = []

    class Judge(Quadratic):
        def score(self, theta):
            seen.append(theta.copy())
            return next(scores)

    X = np.ones((10, 2))
    found = fit(X, held=Judge(X), patience=4)
    assert found.scores == [1.0, 5.0, 2.0, 3.0, 1.0, 0.0]
    np.testing.assert_array_equal(found.theta, seen[1])
    assert found.converged


def test_an_average_across_two_modes_is_not_returned():
    """Worse than where its steps began, and than the end: then the end it is."""
    objective, rng = Quadratic(np.full((3, 1), 9.0)), np.random.default_rng(0)
    adam = Adam(np.zeros(1))
    for _ in range(50):
        adam.ascend(9.0 - adam.theta, 0.01)
    good, bad = [-1e3] * 30, [-1.0] * 30
    assert settled(objective, adam, good, plan(), rng) is adam.average
    assert settled(objective, adam, bad, plan(), rng) is adam.theta
    adam.theta = np.array([20.0])
    assert settled(objective, adam, bad, plan(), rng) is adam.average


def test_divergence_raises():
    class Broken(Quadratic):
        def step(self, theta, index, memory, rng):
            return BatchStep(np.zeros_like(theta), float("nan"))

    broken, rng = Broken(np.ones((4, 1))), np.random.default_rng(0)
    with pytest.raises(DivergedError, match="decrease learning_rate_init"):
        fit_minibatches(broken, Adam(np.zeros(1)), plan(), rng)
    sound = Quadratic(np.ones((4, 1)))
    with np.errstate(all="ignore"), pytest.raises(DivergedError):
        fit_minibatches(sound, PlainSteps(np.zeros(1)), plan(rate=1e9), rng)


def test_plain_steps_do_not_average_and_converge_with_a_falling_rate():
    """At a constant rate a batch's noise stays: rate / 2 times a batch's variance, or so."""
    X = np.random.default_rng(0).normal(size=(200, 1))
    errors = {}
    for schedule in (falling_rate, constant_rate):
        squares = []
        for seed in range(30):
            rng, steps = np.random.default_rng(seed), PlainSteps(np.full(1, 5.0))
            settings = {"schedule": schedule, "rate": 0.5, "max_passes": 10, "patience": None}
            found = fit_minibatches(Quadratic(X), steps, plan(**settings), rng)
            np.testing.assert_array_equal(found.theta, steps.theta)
            assert found.converged
            assert not found.warning
            squares.append((found.theta[0] - X.mean()) ** 2)
        errors[schedule] = np.mean(squares)
    assert errors[falling_rate] < 0.3 * errors[constant_rate]
    assert 0.01 < errors[constant_rate] < 0.1


class Counting(Quadratic):
    """Remembers the batches it has seen, and says nothing of its value."""

    def step(self, theta, index, memory, rng):
        return BatchStep(super().step(theta, index, None, rng).direction, None, [*memory, index])


def test_memory_is_passed_to_the_next_step_and_short_passes_are_repeated():
    X = np.random.default_rng(0).normal(size=(25, 1))
    settings = {"max_passes": 3, "least_steps": 7, "patience": None}
    objective, rng = Counting(X), np.random.default_rng(0)
    seen = []
    found = fit_minibatches(
        objective,
        PlainSteps(np.zeros(1)),
        plan(**settings),
        rng,
        memory=["before"],
        on_pass=lambda number, score: seen.append((number, score)),
    )
    first, *index = found.memory
    assert first == "before"
    # 25 rows make 3 batches of at most 10, which 3 rounds make at least 7 steps of
    assert [len(batch) for batch in index] == [9, 8, 8] * 9
    for each in range(9):
        together = np.sort(np.concatenate(index[3 * each : 3 * each + 3]))
        np.testing.assert_array_equal(together, np.arange(25))
    # without an estimate by batches, models are judged by their score on all rows
    assert found.objectives == [None] * 3
    assert [number for number, _ in seen] == [1, 2, 3]
    assert found.scores == [score for _, score in seen]
    assert found.scores[-1] == objective.score(found.theta)


class PoissonMixtureInSteps(MinibatchObjective):
    """Expectation maximisation in steps (Cappe and Moulines 2009): theta are mean statistics.

    Of two Poisson components, (share, share * mean) each. The direction is the way from the
    statistics so far to those of a batch.
    """

    def __init__(self, x):
        self.x, self.n_rows = x, len(x)

    def log_joint(self, theta, x):
        shares, sums = theta.reshape(2, 2)
        means = sums / shares
        return np.log(shares) + x[:, None] * np.log(means) - means - gammaln(x + 1)[:, None]

    def step(self, theta, index, memory, rng):
        joint = self.log_joint(theta, self.x[index])
        codes = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        statistics = np.r_[codes.mean(axis=0), self.x[index] @ codes / len(index)]
        return BatchStep(statistics - theta, float(logsumexp(joint, axis=1).mean()))

    def score(self, theta):
        return float(logsumexp(self.log_joint(theta, self.x), axis=1).mean())

    def constrain(self, theta):
        pass


def test_expectation_maximisation_in_steps_reaches_the_optimum_of_whole_passes():
    rng = np.random.default_rng(0)
    x = rng.poisson(np.where(rng.random(2000) < 0.3, 2.0, 9.0)).astype(float)
    objective = PoissonMixtureInSteps(x)
    start = np.array([0.5, 0.5, 0.5 * 4.0, 0.5 * 6.0])
    best = start.copy()
    for _ in range(500):
        best += objective.step(best, np.arange(len(x)), None, rng).direction
    settings = {
        "batch_size": 50,
        "max_passes": 10,
        "rate": 0.5,
        "schedule": lambda step, n_steps: (1 + step) ** -0.7,
        "patience": None,
    }
    found = fit_minibatches(objective, PlainSteps(start), plan(**settings), rng)
    gained = objective.score(best) - objective.score(start)
    assert gained > 0.1
    assert objective.score(best) - objective.score(found.theta) < 0.002 * gained
    np.testing.assert_allclose(found.theta, best, rtol=0.1)


def test_adam_by_its_formulas():
    """As in the paper, and the average with weights that grow like the square of the step."""
    rng = np.random.default_rng(0)
    adam, theta = Adam(np.ones(3)), np.ones(3)
    first, second, visited, weights = np.zeros(3), np.zeros(3), [], []
    for step in range(1, 41):
        gradient = rng.normal(size=3) * [1e-3, 1.0, 1e-9]
        rate = 0.1 / step
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        of_first, of_second = first / (1 - 0.9**step), second / (1 - 0.999**step)
        theta = theta + rate * of_first / (np.sqrt(of_second) + 1e-8)
        visited.append(theta)
        weights.append(step * (step + 1))
        adam.ascend(gradient.copy(), rate)
        np.testing.assert_allclose(adam.theta, theta, rtol=1e-10)
        mean = np.average(visited, axis=0, weights=weights)
        np.testing.assert_allclose(adam.average, mean, rtol=1e-10)


def test_adam_resumes():
    gradients = np.random.default_rng(0).normal(size=(20, 4))
    through, first = Adam(np.zeros(4)), Adam(np.zeros(4))
    for gradient in gradients:
        through.ascend(gradient.copy(), 0.1)
    for gradient in gradients[:9]:
        first.ascend(gradient.copy(), 0.1)
    second = Adam.resume(first.state())
    for gradient in gradients[9:]:
        second.ascend(gradient.copy(), 0.1)
    np.testing.assert_array_equal(second.theta, through.theta)
    np.testing.assert_array_equal(second.average, through.average)


def test_a_pass_visits_every_row_once():
    rng = np.random.default_rng(0)
    for n, size in [(10, 3), (10, 10), (7, 100), (1, 1), (100, 33)]:
        parts = list(batches(n, size, rng))
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        assert max(map(len, parts)) <= size
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


# -- the sampler -----------------------------------------------------------------------------------


class NormalRows(BatchTarget):
    """Rows ``N(theta, diag(variances))`` with a normal prior of precision 2: posterior known."""

    def __init__(self, X, variances, tau=1.0):
        self.X, self.variances, self.n_rows = X, variances, len(X)
        self.scale = len(X) / tau

    def estimate(self, theta, index, rng):
        deviations = (self.X[index][None] - theta[:, None]) / self.variances
        value = -0.5 * (deviations**2 * self.variances).sum(axis=2).mean(axis=1)
        return value, deviations.mean(axis=1)

    def prior_gradient(self, theta):
        return -2.0 * theta

    def prior_precision(self):
        return np.full(self.X.shape[1], 2.0)

    def posterior(self):
        precision = 2.0 + self.scale / self.variances
        return self.scale * self.X.mean(axis=0) / self.variances / precision, 1 / precision


def sample(target, seed=0, **changes):
    settings = {"batch_size": 10, "n_chains": 4, "n_burn": 500, "n_steps": 8000, "n_keep": 400}
    mean, _ = target.posterior()
    return sample_langevin(
        target,
        mean,
        LangevinPlan(**{**settings, **changes}),
        np.random.default_rng(seed),
        on_step=lambda number, value: False,
    )


@pytest.fixture(scope="module")
def normal_rows():
    rng = np.random.default_rng(5)
    variances = np.array([1.0, 0.01, 25.0, 1e4])
    return NormalRows(rng.normal(size=(100, 4)) * np.sqrt(variances) + 1, variances)


def moments(run, target):
    """Return mean and variance over the exact posterior's, in its own units, with errors."""
    mean, variance = target.posterior()
    white = (run.params - mean) / np.sqrt(variance)
    # kept states are some 80 steps apart, four times the autocorrelation of a unit oscillator
    n = len(white) / 2
    return white.mean(axis=0), 1 / np.sqrt(n), white.var(axis=0), np.sqrt(2 / n)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_langevin_draws_have_the_moments_of_a_known_posterior(normal_rows, tau):
    target = NormalRows(normal_rows.X, normal_rows.variances, tau)
    run = sample(target)
    mean, mean_error, variance, variance_error = moments(run, target)
    assert np.all(np.abs(mean) < 4.5 * mean_error)
    assert np.all(np.abs(variance - 1) < 4.5 * variance_error)
    result = assess(run)
    assert result.status == "ok", result.reasons
    assert np.isnan(result.log_evidence)
    assert result.balance < 2
    assert run.params.shape == (400, 4)


def test_without_correction_for_batch_noise_variances_are_too_large(normal_rows, monkeypatch):
    """A negative control: small batches heat the chains unless their noise is subtracted."""
    from skbae.inference.sample import _langevin

    settings = {"batch_size": 5, "step": 0.07, "friction": 1.0}
    _, _, variance, error = moments(sample(normal_rows, **settings), normal_rows)
    error /= 2  # of the mean over four independent coordinates
    assert abs(variance.mean() - 1) < 4.5 * error
    right = _langevin.injected_noise
    monkeypatch.setattr(_langevin, "injected_noise", lambda k, h, heat: right(k, h, 0 * heat))
    hot = moments(sample(normal_rows, **settings), normal_rows)[2]
    assert hot.mean() > 1 + 4.5 * error


def test_noise_of_batches_is_measured(normal_rows):
    rng = np.random.default_rng(0)
    found = measure_noise(normal_rows, normal_rows.posterior()[0][None], 10, rng)
    rows = normal_rows.X / normal_rows.variances
    # without replacement within a pass
    expected = rows.var(axis=0) / 10 * (100 - 10) / 99
    np.testing.assert_allclose(found, expected, rtol=0.6)


def test_chains_that_diverge_raise():
    class Broken(NormalRows):
        def estimate(self, theta, index, rng):
            return np.full(len(theta), np.nan), np.zeros_like(theta)

    with pytest.raises(DivergedError):
        sample(Broken(np.zeros((10, 2)), np.ones(2)), n_steps=10, n_burn=1)


def test_a_callback_stops_sampling(normal_rows):
    plan = LangevinPlan(10, n_burn=100, n_steps=1000, n_keep=20)  # intervals of 10 steps
    for last, traced in [(30, 20), (3, 1)]:
        run = sample_langevin(
            normal_rows,
            normal_rows.posterior()[0],
            plan,
            np.random.default_rng(0),
            on_step=lambda number, value, last=last: number == last,
        )
        assert run.stopped
        assert run.hmaxe.shape == (4, traced)
        assert np.all(run.hmaxe < 0)
        assert 1 <= len(run.params) <= 20
        assert "a callback stopped the run early" in assess(run).reasons
