"""The gradients of a training step."""

from __future__ import annotations

import numpy as np
import pytest

from skbae.energies.vae._decoder import LIKELIHOODS, Decoder
from skbae.energies.vae._network import Network, Scratch
from skbae.energies.vae._posterior import ModeSearch
from skbae.energies.vae._training_step import Batch, hard_step, weighted_step


def setting(kind, n_models=2, seed=0, n=5, d=2, D=3):
    rng = np.random.default_rng(seed)
    network = Network((d, 4, D), "tanh", skip=True)
    decoder = Decoder(network, kind, noise="per_feature", code_precision=0.7)
    encoder = Network((D, 4, 2 * d), "tanh", skip=True)
    theta = np.stack([decoder.network.draw(rng) for _ in range(n_models)])
    theta = np.concatenate([theta, np.full((n_models, decoder.n_extra), -0.4)], axis=1)
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
    for _ in range(600):
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
    for network, vector in ((decoder.network, theta), (encoder, phi)):
        network.layers(vector)[0 if network is decoder.network else -1][0][:] = 0
        network.layers(vector).skip[:] = 0
    noise = rng.normal(size=(2, 3, 5, 2))
    found = weighted_step(decoder, encoder, theta, phi, batch, noise, 1.0, Scratch())
    np.testing.assert_allclose(found.encoder, 0, atol=1e-12)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_hard_gradient_by_finite_differences(kind):
    """At the mode; its own motion does not count (the envelope theorem)."""
    decoder, encoder, theta, phi, batch, _ = setting(kind)

    def step(theta):
        exact = ModeSearch(200, 1e-15)
        return hard_step(decoder, encoder, theta, phi, batch, Scratch(), exact)

    def objective(theta):
        return float((step(theta).hmax @ batch.shares).sum())

    np.testing.assert_allclose(step(theta).decoder, central(objective, theta, 1e-5), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*still improved")
def test_of_many_rows_some_are_scored_at_the_end_with_an_error():
    """The mean over all rows is within the errors; without the limit there is none."""
    from skbae import BayesianVAEAutoEncoder
    from skbae.estimators.vae import _fit

    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 3)) @ rng.normal(size=(3, 6)) + rng.normal(size=(1200, 6))
    model = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(4,), max_iter=2, alpha=0, n_score_samples=32, random_state=0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fit, "_SCORED_WORK", 0)
        fitted = model.fit(X)
        assert 0 < fitted.hmaxemax_error_ < 0.1
        assert 0 < abs(fitted.score(X) - fitted.hmaxe_) < 4 * fitted.hmaxemax_error_
        weights = np.arange(1200) % 3 + 1.0
        weighted = model.fit(X, sample_weight=weights)
        error = weighted.hmaxemax_error_
        assert abs(weighted.score(X, sample_weight=weights) - weighted.hmaxe_) < 4 * error
        patch.undo()
        whole = model.fit(X)
    assert whole.hmaxemax_error_ == 0
    np.testing.assert_allclose(whole.score(X), whole.hmaxe_, rtol=1e-9)
