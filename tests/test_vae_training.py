"""How network autoencoders are found: gradients, optimiser, sampler, and what a fit reaches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA

from skbae import BayesianVAEAutoEncoder
from skbae.energies._decoder import LIKELIHOODS, Decoder
from skbae.energies._mlp import Network, Scratch
from skbae.energies._vae_codes_training import Batch, hard_step, weighted_step
from skbae.inference._adam import Adam
from skbae.inference._assess import assess
from skbae.inference._sgmcmc import (
    BatchTarget,
    LangevinPlan,
    measure_noise,
    sample_langevin,
)
from skbae.inference._stochastic import (
    AscentPlan,
    BatchObjective,
    DivergedError,
    ascend,
    batches,
    settled,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]


# -- the gradients of a step -----------------------------------------------------------------------


def setting(kind, n_models=2, seed=0, n=5, d=2, D=3):
    rng = np.random.default_rng(seed)
    decoder = Decoder(Network((d, 4, D), "tanh"), kind)
    encoder = Network((D, 4, 2 * d), "tanh")
    theta = np.stack([decoder.network.draw(rng) for _ in range(n_models)])
    theta = np.concatenate([theta, np.full((n_models, decoder.rows.n_extra), -0.4)], axis=1)
    theta += 0.2 * rng.normal(size=theta.shape)
    phi = np.stack([encoder.draw(rng) for _ in range(n_models)])
    X = rng.uniform(size=(n, D))
    batch = Batch(X - X.mean(axis=0), X, rng.uniform(0.5, 1.5, n))
    return decoder, encoder, theta, phi, batch, rng


def central(function, at, step=1e-6):
    found = np.empty_like(at)
    for index in np.ndindex(at.shape):
        moved = [at.copy(), at.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        found[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("n_draws", [1, 4])
def test_decoder_gradient_by_finite_differences(kind, temperature, n_draws):
    decoder, encoder, theta, phi, batch, rng = setting(kind)
    noise = rng.normal(size=(2, n_draws, 5, 2))

    def step(theta):
        args = (theta, phi, batch, noise, temperature, Scratch())
        return weighted_step(decoder, encoder, *args)

    def objective(theta):
        return float((step(theta).hmax @ batch.shares).sum())

    np.testing.assert_allclose(step(theta).decoder, central(objective, theta), atol=1e-7)


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("shared", [False, True])
def test_encoder_gradient_is_right_on_average(kind, shared):
    """The doubly reparametrised gradient differs from the estimate's own, but not in expectation.

    Both are averaged over the same draws; the difference has mean zero.
    """
    decoder, encoder, theta, phi, batch, rng = setting(kind, seed=3)
    phi = phi[:1] if shared else phi
    differences = []
    direction = rng.normal(size=phi.shape)
    for _ in range(400):
        noise = rng.normal(size=(2, 3, 5, 2))

        def step(phi, noise=noise):
            args = (theta, phi, batch, noise, 1.0, Scratch())
            return weighted_step(decoder, encoder, *args)

        def objective(phi, step=step):
            return float((step(phi).hmax @ batch.shares).sum())

        slope = objective(phi + 1e-5 * direction) - objective(phi - 1e-5 * direction)
        along = float((step(phi).encoder * direction).sum())
        differences.append(along - slope / 2e-5)
    differences = np.array(differences)
    error = differences.std() / np.sqrt(len(differences))
    assert error < 0.4
    assert abs(differences.mean()) < 4.5 * error


def test_encoder_gradient_vanishes_where_the_proposal_is_exact():
    """Draw by draw, for a decoder that ignores the code: the posterior is the prior."""
    decoder, encoder, theta, phi, batch, rng = setting("bernoulli")
    decoder.network.layers(theta)[0][0][:] = 0
    encoder.layers(phi)[-1][0][:] = 0
    noise = rng.normal(size=(2, 3, 5, 2))
    found = weighted_step(decoder, encoder, theta, phi, batch, noise, 1.0, Scratch())
    np.testing.assert_allclose(found.encoder, 0, atol=1e-12)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_hard_gradient_by_finite_differences(kind, monkeypatch):
    """At the mode; its own motion does not count (the envelope theorem)."""
    from skbae.energies import _vae_codes_training

    monkeypatch.setattr(_vae_codes_training, "_TRAINING_CLIMB", (200, 1e-15))
    decoder, encoder, theta, phi, batch, _ = setting(kind)

    def step(theta):
        return hard_step(decoder, encoder, theta, phi, batch, Scratch())

    def objective(theta):
        return float((step(theta).hmax @ batch.shares).sum())

    np.testing.assert_allclose(step(theta).decoder, central(objective, theta, 1e-5), atol=1e-6)


# -- the optimiser ---------------------------------------------------------------------------------


class Quadratic(BatchObjective):
    """``-mean |theta - x|^2 / 2``, whose maximum is the mean row."""

    def __init__(self, X):
        self.X, self.n_rows = X, len(X)
        self.floor = -np.inf

    def estimate(self, theta, index, rng):
        deviations = self.X[index] - theta
        return -0.5 * float((deviations**2).sum(axis=1).mean()), deviations.mean(axis=0)

    def constrain(self, theta):
        np.maximum(theta, self.floor, out=theta)


def plan(**changes):
    return AscentPlan(
        **{
            "batch_size": 10,
            "max_passes": 400,
            "rate": 0.02,
            "tol": 0.0,
            "patience": 400,
            **changes,
        }
    )


def climb(X, rng=0, on_pass=lambda number, value: False, held_out=None, floor=-np.inf, **changes):
    objective = Quadratic(X)
    objective.floor = floor
    return ascend(
        objective,
        Adam(np.zeros(X.shape[1])),
        plan(**changes),
        np.random.default_rng(rng),
        on_pass=on_pass,
        held_out=held_out,
    )


def test_the_average_reaches_the_optimum():
    X = np.random.default_rng(0).normal(size=(95, 3)) + np.array([1.0, -2.0, 3.0])
    found = climb(X)
    np.testing.assert_allclose(found.theta, X.mean(axis=0), atol=0.02)
    assert len(found.objectives) == 400
    assert not found.converged
    bounded = climb(X, floor=-1.0)
    np.testing.assert_allclose(bounded.theta, [X[:, 0].mean(), -1.0, X[:, 2].mean()], atol=0.05)


def test_patience_and_callbacks_stop():
    X = np.random.default_rng(0).normal(size=(40, 2)) + 1
    found = climb(X, patience=5, tol=1e-3, max_passes=5000, rate=0.05)
    assert found.converged
    assert len(found.objectives) < 1000
    found = climb(X, on_pass=lambda number, value: number == 7)
    assert len(found.objectives) == 7
    assert not found.converged


def test_held_out_rows_choose_the_pass():
    scores = iter([1.0, 5.0, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    seen = []

    def held_out(theta):
        seen.append(theta.copy())
        return next(scores)

    X = np.ones((10, 2))
    found = climb(X, held_out=held_out, patience=4)
    assert found.held_out == [1.0, 5.0, 2.0, 3.0, 1.0, 0.0]
    np.testing.assert_array_equal(found.theta, seen[1])
    assert found.converged


def test_an_average_across_two_valleys_is_not_returned():
    """Worse than where its steps began, and than the end: then the end it is."""
    objective, rng = Quadratic(np.full((3, 1), 9.0)), np.random.default_rng(0)
    adam = Adam(np.zeros(1))
    for _ in range(50):
        adam.ascend(9.0 - adam.theta, 0.01)
    good, bad = [-1e3] * 30, [-1.0] * 30
    assert settled(objective, adam, good, 10, rng) is adam.average
    assert settled(objective, adam, bad, 10, rng) is adam.theta
    adam.theta = np.array([20.0])
    assert settled(objective, adam, bad, 10, rng) is adam.average


def test_divergence_is_an_error():
    class Broken(Quadratic):
        def estimate(self, theta, index, rng):
            return float("nan"), np.zeros_like(theta)

    with pytest.raises(DivergedError):
        ascend(
            Broken(np.ones((4, 1))),
            Adam(np.zeros(1)),
            plan(),
            np.random.default_rng(0),
            on_pass=lambda number, value: False,
        )


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
def test_langevin_meets_a_known_posterior(normal_rows, tau):
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


def test_uncorrected_noise_of_batches_would_be_noticed(normal_rows, monkeypatch):
    """A negative control: small batches heat the chains unless their noise is subtracted."""
    from skbae.inference import _sgmcmc

    settings = {"batch_size": 5, "step": 0.07, "friction": 1.0}
    _, _, variance, error = moments(sample(normal_rows, **settings), normal_rows)
    error /= 2  # of the mean over four independent coordinates
    assert abs(variance.mean() - 1) < 4.5 * error
    right = _sgmcmc.injected_noise
    monkeypatch.setattr(_sgmcmc, "injected_noise", lambda k, h, heat: right(k, h, 0 * heat))
    hot = moments(sample(normal_rows, **settings), normal_rows)[2]
    assert hot.mean() > 1 + 4.5 * error


def test_noise_of_batches_is_measured(normal_rows):
    rng = np.random.default_rng(0)
    found = measure_noise(normal_rows, normal_rows.posterior()[0], 10, 1, rng)
    rows = normal_rows.X / normal_rows.variances
    # without replacement within a pass
    expected = rows.var(axis=0) / 10 * (100 - 10) / 99
    np.testing.assert_allclose(found, expected, rtol=0.6)


def test_chains_that_are_lost_say_so():
    class Broken(NormalRows):
        def estimate(self, theta, index, rng):
            return np.full(len(theta), np.nan), np.zeros_like(theta)

    with pytest.raises(DivergedError):
        sample(Broken(np.zeros((10, 2)), np.ones(2)), n_steps=10, n_burn=1)


def test_a_callback_ends_sampling(normal_rows):
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


# -- what a fit reaches ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["iris", "digits"])
def test_a_linear_fit_reaches_probabilistic_pca(data):
    X, d = (load_iris().data, 2) if data == "iris" else (load_digits().data, 8)
    settings = {"max_iter": 1500, "n_iter_no_change": 100} if data == "iris" else {"max_iter": 150}
    fitted = BayesianVAEAutoEncoder(
        d, hidden_layer_sizes=(), learning_rate_init=0.01, random_state=0, **settings
    ).fit(X)
    pca = PCA(d).fit(X)
    # maximum likelihood is above scikit-learn's, whose variances have the divisor N - 1
    assert abs(fitted.score(X) - pca.score(X)) < 0.05
    np.testing.assert_allclose(fitted.score(X), fitted.hmaxe_, rtol=1e-9)
    # the same subspace
    basis = np.linalg.qr(fitted.decoder_coefs_[0].T)[0]
    cosines = np.linalg.svd(pca.components_ @ basis)[1]
    assert cosines.min() > 0.99


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0])
def test_the_objective_rises_at_any_temperature(temperature):
    X = load_iris().data
    fits = [
        BayesianVAEAutoEncoder(
            2,
            hidden_layer_sizes=(16,),
            temperature=temperature,
            max_iter=max_iter,
            learning_rate_init=0.01,
            random_state=0,
        ).fit(X)
        for max_iter in (1, 30, 200)
    ]
    values = [fitted.hmaxe_ for fitted in fits]
    assert values[0] + 0.5 < values[1] < values[2]
    np.testing.assert_allclose(fits[-1].score(X), fits[-1].hmaxe_, rtol=1e-9)


@pytest.mark.slow
def test_zero_temperature_reconstructs_better_than_pca():
    X = load_digits().data / 16
    fitted = BayesianVAEAutoEncoder(8, temperature=0, max_iter=100, random_state=0).fit(X[:1400])
    held = X[1400:]
    error = np.mean((held - fitted.inverse_transform(fitted.transform(held))) ** 2)
    pca = PCA(8).fit(X[:1400])
    linear = np.mean((held - pca.inverse_transform(pca.transform(held))) ** 2)
    assert error < 0.85 * linear


def test_a_short_fit_of_bits_beats_independent_bits():
    X = (load_digits().data > 7).astype(float)
    fitted = BayesianVAEAutoEncoder(8, likelihood="bernoulli", max_iter=10, random_state=0)
    fitted.fit(X[:1400])
    p = np.clip(X[:1400].mean(axis=0), 1e-3, 1 - 1e-3)
    independent = np.mean(X[1400:] @ np.log(p) + (1 - X[1400:]) @ np.log(1 - p))
    assert fitted.score(X[1400:]) > independent + 3  # of some -27
