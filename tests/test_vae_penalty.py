"""The penalty on a decoder's weights: gradient, units, what it counts and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import quick
from _networks import arrays, make
from scipy.optimize import minimize
from sklearn.datasets import load_iris

from skbae import BayesianVAEAutoEncoder
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._energy import VAEEnergy
from skbae.energies.vae._network import Network
from skbae.energies.vae._penalty import Prior, Ridge
from skbae.estimators.vae._fit import first_parameters, fit_energy, fit_networks, frame_of
from skbae.inference.optimise._early_stopping import merged_rows
from skbae.inference.passes._rows import make_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def problem(X, weights=None, **settings):
    """Return the objective of one model, and where it might start."""
    model = make(**settings)
    rows = make_rows(X, weights)
    settings = model._check_parameters()
    architecture = settings.architecture(X.shape[1])
    frame = frame_of(architecture, rows)
    energy = fit_energy(settings, architecture, frame, noise_seed=3)
    objective = energy.minibatch_objective(rows, model.temperature, batch_size=20)
    start = energy.join(
        first_parameters(settings, energy, merged_rows(rows), np.random.default_rng(1))
    )
    return objective, start


def at(objective, theta, n=150):
    step = objective.step(theta, np.arange(n), None, np.random.default_rng(0))
    return step.value, step.direction.astype(np.float64)


# -- arithmetic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Ridge, Prior])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_gradient_by_finite_differences(kind, likelihood):
    decoder = Decoder(Network((2, 2, 3, 3), "tanh"), likelihood)
    penalty = Ridge(decoder, 3.0) if kind is Ridge else Prior(decoder, 1.0, 1.0, np.array([0.7]))
    theta = np.random.default_rng(0).normal(size=(2, decoder.n_parameters))
    slopes = np.empty_like(theta)
    for index in np.ndindex(theta.shape):
        moved = [theta.copy(), theta.copy()]
        moved[0][index] += 1e-5
        moved[1][index] -= 1e-5
        slopes[index] = (penalty.value(moved[0]) - penalty.value(moved[1]))[index[0]] / 2e-5
    np.testing.assert_allclose(penalty.gradient(theta), slopes, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_penalty_is_the_decoders_weights_alone(temperature, X):
    """Its definition, written out layer by layer; the linear part is free."""
    free, theta = problem(X, alpha=0.0, temperature=temperature, noise="shared")
    held, _ = problem(X, alpha=6.0, temperature=temperature, noise="shared")
    theta = theta + np.float32(0.5)  # intercepts and the noise as well
    (value, gradient), (penalised, its_gradient) = at(free, theta), at(held, theta)
    decoder = held.batches.decoder
    layers, _ = decoder.split(theta[None, : held.n_theta].astype(np.float64))
    squares = sum(float((matrix**2).sum()) for matrix, _ in layers)
    assert value - penalised == pytest.approx(6.0 * squares / (2 * 150), rel=1e-4)
    expected = np.zeros(len(theta))
    slots, _ = decoder.split(expected[None, : held.n_theta])
    for slot, layer in zip(slots, layers, strict=True):
        slot[0][...] = -6.0 * layer[0] / 150
    np.testing.assert_allclose(its_gradient - gradient, expected, atol=1e-5)


def test_with_alpha_zero_there_is_no_penalty(X):
    free, theta = problem(X, alpha=0.0)
    index = np.arange(len(X))
    value, gradient = at(free, theta)
    gradient = gradient.copy()  # the next step writes to the same memory
    decoder, encoder = theta[None, : free.n_theta], theta[None, free.n_theta :]
    plain, found = free.batches.step(decoder, encoder, index, np.random.default_rng(0), 10)
    assert value == plain[0]
    np.testing.assert_array_equal(gradient, np.r_[found.decoder[0], found.encoder[0]])


def test_sample_size_is_the_sum_of_the_weights(X):
    """Twice the rows bear twice the penalty, however they came."""
    plain = make(alpha=5.0).fit(X)
    doubled = make(alpha=10.0).fit(X, sample_weight=np.full(len(X), 2.0))
    repeated = make(alpha=10.0).fit(np.repeat(X, 2, axis=0))
    for one, two, three in zip(arrays(plain), arrays(doubled), arrays(repeated), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    other = make(alpha=5.0).fit(X, sample_weight=np.full(len(X), 2.0))
    assert not np.array_equal(other.decoder_coefs_[0], plain.decoder_coefs_[0])


# -- in a fit --------------------------------------------------------------------------------------


def shrunk_principal_components(X, d, alpha):
    """Return the penalised optimum of a linear decoder: squared columns, noise, likelihood.

    By the singular value decomposition, columns lie along principal axes; their lengths and the
    noise are left to a general optimiser. In the units in which a feature has variance one on
    average.
    """
    centred = X - X.mean(axis=0)
    unit = centred.var(axis=0).mean()
    lam = np.sort(np.linalg.eigvalsh(np.cov(X.T, bias=True)))[::-1] / unit
    D = len(lam)

    def likelihood(logs):
        c = np.r_[np.exp(logs[:d]) + np.exp(logs[d]), np.full(D - d, np.exp(logs[d]))]
        return -0.5 * (np.log(2 * np.pi * c) + lam / c).sum() - 0.5 * D * np.log(unit)

    def loss(logs):
        return alpha / (2 * len(X)) * np.exp(logs[:d]).sum() - likelihood(logs)

    found = minimize(loss, np.zeros(d + 1), method="Nelder-Mead", options={"xatol": 1e-8})
    return unit * np.exp(found.x[:d]), unit * np.exp(found.x[d]), likelihood(found.x)


@pytest.mark.parametrize("alpha", [0.0, 40.0])
def test_a_penalised_linear_decoder_has_the_optimal_length(alpha, X):
    fitted = BayesianVAEAutoEncoder(
        2,
        hidden_layer_sizes=(),
        noise="shared",
        alpha=alpha,
        learning_rate_init=0.01,
        max_iter=1500,
        n_iter_no_change=100,
        random_state=0,
    ).fit(X)
    squares, noise, likelihood = shrunk_principal_components(X, 2, alpha)
    lengths = np.linalg.svd(fitted.decoder_coefs_[0])[1] ** 2
    np.testing.assert_allclose(lengths, np.sort(squares)[::-1], rtol=0.05)
    np.testing.assert_allclose(fitted.noise_variance_, noise, rtol=0.1)
    # without the penalty, which is some tenths of a nat here
    assert abs(fitted.hmaxe_ - likelihood) < 0.02


def test_hmaxe_has_no_penalty_and_losses_have(X):
    still = {"max_iter": 1, "batch_size": 150, "learning_rate_init": 1e-9, "noise": "shared"}
    fits = {alpha: make(alpha=alpha, **still).fit(X) for alpha in (0, 30, 60)}
    first = {alpha: fitted.loss_curve_[0] for alpha, fitted in fits.items()}
    assert first[30] > first[0] + 0.1
    assert first[60] - first[0] == pytest.approx(2 * (first[30] - first[0]), rel=1e-4)
    for fitted in fits.values():
        np.testing.assert_allclose(fitted.hmaxe_, fitted.score(X), rtol=1e-9)


def test_units_of_the_data_do_not_matter(X):
    here = make(alpha=50.0, max_iter=20).fit(X)
    there = make(alpha=50.0, max_iter=20).fit(1e4 * X)
    np.testing.assert_allclose(there.hmaxe_ + 4 * np.log(1e4), here.hmaxe_, atol=1e-3)
    np.testing.assert_allclose(
        there.decoder_coefs_[-1] / 1e4, here.decoder_coefs_[-1], rtol=1e-3, atol=1e-3
    )


class RecordingVAE(VAEEnergy):
    """Keeps the objectives that are made of it."""

    def minibatch_objective(self, *arguments):
        self.made = [*getattr(self, "made", []), super().minibatch_objective(*arguments)]
        return self.made[-1]


def test_scores_of_rows_held_out_have_no_penalty(X):
    free, theta = problem(X, alpha=0.0)
    held, _ = problem(X, alpha=1e6)
    assert held.score(theta) == free.score(theta)
    # and the sample size is that of the rows that are fitted to
    settings = make(early_stopping=True)._check_parameters()
    rows = merged_rows(make_rows(X, np.full(len(X), 3.0)))
    architecture = settings.architecture(X.shape[1])
    frame, rng = frame_of(architecture, rows), np.random.default_rng(0)
    plain = fit_energy(settings, architecture, frame, noise_seed=3)
    energy = RecordingVAE(plain.decoder, plain.encoder, frame, plain.noise, plain.training)
    start = first_parameters(settings, plain, rows, rng)
    fit_networks(settings, energy, rows, start, rng, lambda number, value: False)
    kept, out = (1 / objective.share for objective in energy.made)
    assert kept + out == pytest.approx(450)
    assert abs(out - 45) < 5 * np.sqrt(0.1 * 0.9 * 450)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_if_models_are_sampled_the_prior_replaces_the_penalty(X):
    fits = [
        quick(make(model_temperature=1.0, n_models=2, alpha=alpha)).fit(X) for alpha in (0.0, 1e3)
    ]
    for one, other in zip(*map(arrays, fits), strict=True):
        np.testing.assert_array_equal(one, other)
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    objective, _ = problem(X, model_temperature=0.5)
    assert isinstance(objective.options.penalty, Prior)
    assert objective.share == pytest.approx(0.5 / 150)
