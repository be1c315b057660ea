"""Network autoencoders after a fit: scores, codes, gradients and draws against exact answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _vae_oracles import converged_quadrature, decoded, linear_hmax, log_likelihood
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianVAEAutoEncoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]


def make(n_components=2, **settings):
    settings = {
        "hidden_layer_sizes": (8,),
        "max_iter": 150,
        "learning_rate_init": 0.01,
        "n_importance_samples": 5,
        "random_state": 0,
        **settings,
    }
    return BayesianVAEAutoEncoder(n_components, **settings)


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.fixture(scope="module")
def bits():
    return (load_digits().data > 7).astype(float)[:200, 10:30]


@pytest.fixture(scope="module", params=["gaussian", "bernoulli"])
def curved(request, bits):
    """A fit with a nonlinear decoder, and rows."""
    if request.param == "bernoulli":
        return make(likelihood="bernoulli").fit(bits), bits
    # with noise, so that quadrature needs few nodes
    t = np.random.default_rng(0).normal(size=(2, 150))
    X = np.column_stack([*t, t[0] ** 2, t[0] * t[1]])
    X += 0.6 * np.random.default_rng(1).normal(size=X.shape)
    settings = {"hidden_layer_sizes": (8,), "max_iter": 120, "learning_rate_init": 0.02}
    return make(alpha=0.0, n_score_samples=256, **settings).fit(X), X


def at_pca(X, n_components, temperature):
    """Return an estimator whose linear decoder has PCA's optimum at T (and a poor encoder)."""
    model = make(
        n_components, hidden_layer_sizes=(), noise="shared", temperature=temperature, max_iter=1
    ).fit(X)
    pca = PCA().fit(X)
    variances = pca.explained_variance_ * (len(X) - 1) / len(X)
    s2 = variances[n_components:].sum() / (X.shape[1] - temperature * n_components)
    scale = np.sqrt(variances[:n_components] / max(temperature, 0.1) - s2)
    W = pca.components_[:n_components] * scale[:, None]
    model.decoder_coefs_, model.decoder_intercepts_ = [W], [pca.mean_]
    model.noise_variance_ = s2
    models = model.models_
    models.decoder_coefs[0], models.decoder_intercepts[0] = W[None], pca.mean_[None]
    models.noise_variance[:] = s2
    keep_edits(model)
    return model


def keep_edits(model):
    """Make edited attributes those of the fit, since they are refused otherwise."""
    model._fitted = replace(model._fitted, reference=model._copied_reference(vars(model)))


# -- linear decoders: everything is known ----------------------------------------------------------


@pytest.mark.parametrize("data", ["iris", "digits"])
def test_score_at_the_parameters_of_pca_is_its_score(data, iris):
    X, d = (iris, 2) if data == "iris" else (load_digits().data[:600], 8)
    pca = PCA(d).fit(X)
    # scikit-learn divides by N - 1; the model at those parameters exactly
    model = at_pca(X, d, 1.0)
    s2 = pca.noise_variance_
    W = pca.components_ * np.sqrt(pca.explained_variance_ - s2)[:, None]
    model.models_.decoder_coefs[0][0], model.models_.noise_variance[:] = W, s2
    keep_edits(model)
    # the defensive draws' weights cost some hundredths of a nat on a row, no more on the mean
    assert abs(model.score(X) - pca.score(X)) < 0.01


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_linear_decoder_at_any_temperature(temperature, iris):
    model = at_pca(iris, 2 if temperature < 2 else 1, temperature)
    value, mean, covariance = linear_hmax(model, iris, temperature)
    scores = model.score_samples(iris)
    np.testing.assert_allclose(scores, value, atol=0.05 * temperature + 1e-8)
    assert abs(scores.mean() - value.mean()) < 0.01 * temperature + 1e-8
    codes = model.encode(iris)
    scale = np.sqrt(np.diagonal(covariance)) if temperature else 1e-6
    assert np.all(np.abs(codes.mean - mean) < 0.1 * scale)
    np.testing.assert_array_equal(model.transform(iris), codes.mean)
    if temperature:
        spread = codes.covariance / np.outer(scale, scale)
        np.testing.assert_allclose(spread.mean(axis=0), np.eye(len(scale)), atol=0.1)
        exact = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
        np.testing.assert_allclose(codes.entropy().mean(), exact, atol=0.05)
        np.testing.assert_allclose(codes.variance, np.einsum("nii->ni", codes.covariance))
    else:
        np.testing.assert_allclose(codes.covariance, 0, atol=1e-12)
        assert np.all(codes.entropy() == 0)


def test_linear_score_gradient_and_denoising(iris):
    model = at_pca(iris, 2, 1.0)
    W, s2 = model.decoder_coefs_[0], model.noise_variance_
    deviations = iris - model.decoder_intercepts_[0]

    def gradient(noise):
        return -np.linalg.solve(W.T @ W + noise * np.eye(4), deviations.T).T

    spread = np.abs(gradient(s2)).max()
    np.testing.assert_allclose(model.score_gradient(iris), gradient(s2), atol=0.02 * spread)
    expected = iris + 0.1 * gradient(s2 + 0.1)  # Tweedie, with the convolved density
    np.testing.assert_allclose(model.denoise(iris, 0.1), expected, atol=0.02)
    np.testing.assert_allclose(model.denoise(iris, 0.0), iris)


def test_draws_of_a_linear_decoder(iris):
    model = at_pca(iris, 2, 1.0)
    X, codes = model.sample(20_000, random_state=0)
    W, s2 = model.decoder_coefs_[0], model.noise_variance_
    C = W.T @ W + s2 * np.eye(4)
    error = np.sqrt(np.diagonal(C) / len(X))
    assert np.all(np.abs(X.mean(axis=0) - model.decoder_intercepts_[0]) < 4.5 * error)
    np.testing.assert_allclose(np.cov(X.T), C, atol=4.5 * np.sqrt(2 / len(X)) * C.max())
    residual = X - model.inverse_transform(codes)
    np.testing.assert_allclose(residual.var(), s2, rtol=4.5 * np.sqrt(2 / residual.size))
    assert not np.array_equal(model.sample(5)[0], model.sample(5)[0])


# -- curved decoders: quadrature -------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_scores_and_codes_against_quadrature(curved, temperature):
    model, X = curved
    X = X[:15]
    value, mean, covariance = converged_quadrature(model, X, temperature)
    bound = model._energy_with(4096, 1).bind(model._parameters(), model._fitted.frame, np.float64)
    codes = bound.codes(X, temperature, 0)
    error = temperature * np.sqrt(1 / codes.effective - 1 / 4096)
    found = codes.hmax + model._energy().frame.log_volume
    # quasi-random draws do better than this error, which is that of random ones
    assert np.all(np.abs(found - value) < 4 * error + 1e-4)
    assert error.max() < 0.1
    found_mean = np.einsum("nl,nld->nd", codes.weights, codes.codes)
    scale = np.sqrt(np.einsum("nii->ni", covariance))
    assert np.all(np.abs(found_mean - mean) < 6 * scale / np.sqrt(codes.effective)[:, None])


def test_estimates_are_low_on_average_and_rise_with_the_draws(curved):
    """The mean of exp is exact, so the mean of the logarithm is below, and less so with more."""
    model, X = curved
    X = X[:8]
    exact = converged_quadrature(model, X)[0].mean()
    previous, error_before = -np.inf, 0.0
    for n_samples in (1, 8, 64, 512):
        scores = [model.score_samples(X, n_samples, random_state=s).mean() for s in range(25)]
        mean, error = np.mean(scores), np.std(scores, ddof=1) / np.sqrt(len(scores))
        assert mean < exact + 3 * error
        assert mean > previous - 3 * np.hypot(error, error_before)
        previous, error_before = mean, error
    assert exact - mean < 0.01
    assert exact - np.mean([model.score_samples(X, 1, s).mean() for s in range(25)]) > 0.02


def test_exp_of_estimates_is_unbiased(curved):
    """The weights' own mean: what a wrong density of the proposal would break."""
    model, X = curved
    X = X[:5]
    exact = converged_quadrature(model, X)[0]
    ratios = np.exp([model.score_samples(X, 64, random_state=s) - exact for s in range(100)])
    error = ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios))
    assert np.all(np.abs(ratios.mean(axis=0) - 1) < 4.5 * error)


def test_a_proposal_density_a_tenth_too_high_gives_biased_estimates(curved, monkeypatch):
    """A negative control: a proposal whose density is a tenth too high."""
    from skbae.energies.vae import _posterior

    right = _posterior._log_normals
    wrong = np.log(1.1)
    monkeypatch.setattr(_posterior, "_log_normals", lambda *args: right(*args) + wrong)
    with pytest.raises(AssertionError):
        test_exp_of_estimates_is_unbiased(curved)


def test_scores_and_codes_of_a_row_do_not_depend_on_other_rows(curved):
    model, X = curved
    together = model.score_samples(X), model.transform(X), model.score_gradient(X)
    for n in (0, 17, 60):
        alone = X[n : n + 1]
        for all_rows, one in zip(
            together,
            (model.score_samples(alone), model.transform(alone), model.score_gradient(alone)),
            strict=True,
        ):
            np.testing.assert_allclose(one[0], all_rows[n], rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(model.score_samples(X), together[0])
    assert not np.array_equal(model.score_samples(X, random_state=5), together[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_score_gradient_by_finite_differences(temperature, iris, bits):
    """Of the estimate itself; proposals move with the row, which vanishes as draws grow."""
    for likelihood, X in [("gaussian", iris[::15]), ("bernoulli", 0.1 + 0.8 * bits[:10])]:
        source = iris if likelihood == "gaussian" else bits
        model = make(
            likelihood=likelihood,
            temperature=temperature,
            n_score_samples=2048,
            max_iter=60,
            alpha=10.0 if likelihood == "gaussian" else 1.0,  # proposals suit smooth decoders
        ).fit(source)
        gradient = model.score_gradient(X)
        step = 1e-4
        scale = np.abs(gradient).max()
        for feature in range(0, X.shape[1], 3):
            move = np.zeros(X.shape[1])
            move[feature] = step
            change = model.score_samples(X + move) - model.score_samples(X - move)
            tolerance = 0.02 if temperature else 1e-4
            np.testing.assert_allclose(
                change / (2 * step), gradient[:, feature], atol=tolerance * scale
            )


def test_gradient_against_quadrature(curved):
    model, X = curved
    X = 0.1 + 0.8 * X[:4] if model.likelihood == "bernoulli" else X[:4]
    gradient = model.score_gradient(X)
    step = 1e-3
    for feature in range(0, X.shape[1], 3):
        move = np.zeros(X.shape[1])
        move[feature] = step
        change = converged_quadrature(model, X + move)[0] - converged_quadrature(model, X - move)[0]
        np.testing.assert_allclose(
            change / (2 * step), gradient[:, feature], atol=0.06 * np.abs(gradient).max()
        )


def test_best_codes_at_zero_temperature(iris, bits):
    """No point of a fine grid, nor any small move, is better than the code found."""
    for likelihood, X in [("gaussian", iris[::5]), ("bernoulli", bits[::7])]:
        model = make(likelihood=likelihood, temperature=0, max_iter=60).fit(X)
        codes, found = model.transform(X), model.score_samples(X)

        def energy(Z, model=model, X=X):
            return np.diagonal(log_likelihood(model, X, Z)) - 0.5 * (Z**2).sum(axis=1)

        np.testing.assert_allclose(found, energy(codes), rtol=1e-9, atol=1e-9)
        scale = codes.std(axis=0)  # codes shrink with T: at T = 0 only their unit is left
        for move in np.diag(scale):
            ahead, behind = energy(codes + 1e-4 * move), energy(codes - 1e-4 * move)
            assert np.all(found >= np.maximum(ahead, behind) - 1e-9)
            # arrived, not only too weary to go on: steps must not swing across a curved mode
            assert np.abs(ahead - behind).max() / 2e-4 < 1e-3
        side = np.linspace(-4, 4, 81)
        grid = scale * np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        values = log_likelihood(model, X, grid) - 0.5 * (grid**2).sum(axis=1)
        # a search may end in another mode than the best, but not often
        assert np.mean(found >= values.max(axis=1) - 1e-6) > 0.9


def test_a_poor_proposal_warns_of_large_standard_errors(iris):
    """Hidden units that are all but steps cut posteriors into cells: nothing like a normal."""
    model = make(max_iter=5, n_score_samples=16).fit(iris)
    model.models_.decoder_coefs[0][:] *= 50
    model.models_.decoder_skip[:] = 0
    model.models_.decoder_coefs[1][:] = np.random.default_rng(0).normal(size=(1, 8, 4))
    model.models_.noise_variance[:] = 0.1
    with pytest.warns(ConvergenceWarning, match="standard error above"):
        model.score_samples(iris)


# -- distributions ---------------------------------------------------------------------------------


def test_decode_has_the_moments_and_density_of_the_likelihood(curved):
    model, X = curved
    Z = np.random.default_rng(0).normal(size=(6, 2))
    out = decoded(model, Z)
    expected = out if model.likelihood == "gaussian" else 1 / (1 + np.exp(-out))
    np.testing.assert_allclose(model.inverse_transform(Z), expected, rtol=1e-9)
    rows = model.decode(Z)
    np.testing.assert_allclose(rows.mean, expected, rtol=1e-9)
    variance = (
        np.full_like(expected, model.noise_variance_)
        if model.likelihood == "gaussian"
        else expected * (1 - expected)
    )
    np.testing.assert_allclose(rows.variance, variance, rtol=1e-7)
    np.testing.assert_allclose(np.einsum("nii->ni", rows.covariance), variance, rtol=1e-7)
    drawn = rows.sample(4000, random_state=0)
    assert drawn.shape == (4000, 6, X.shape[1])
    assert np.all(np.abs(drawn.mean(axis=0) - expected) < 5 * np.sqrt(variance / 4000) + 1e-9)
    np.testing.assert_allclose(
        rows.log_density(drawn[0]), np.diagonal(log_likelihood(model, drawn[0], Z)), rtol=1e-7
    )
    values = rows.log_density(drawn)
    error = values.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(rows.entropy() + values.mean(axis=0)) < 5 * error + 1e-6)


def test_reconstruction_is_the_mixture_over_codes(curved):
    model, X = curved
    codes = model.encode(X[:5])
    rows = model.decode(codes)
    weights, points = codes.weights, codes.points
    out = decoded(model, points)
    means = out if model.likelihood == "gaussian" else 1 / (1 + np.exp(-out))
    mean = np.einsum("nl,nld->nd", weights, means)
    np.testing.assert_allclose(rows.mean, mean, rtol=1e-9)
    drawn = rows.sample(20_000, random_state=1)
    sd = np.sqrt(rows.variance)
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * sd / np.sqrt(20_000) + 1e-9)
    covariance = np.einsum("sni,snj->nij", drawn - mean, drawn - mean) / 20_000
    np.testing.assert_allclose(rows.covariance, covariance, atol=0.05 * sd.max() ** 2)
    values = rows.log_density(drawn[:500])
    error = values.std(axis=0) * np.sqrt(1 / 500 + 1 / 100)
    assert np.all(np.abs(rows.entropy() + values.mean(axis=0)) < 5 * error)


def test_draws_of_codes_have_the_codes_moments(curved):
    model, X = curved
    codes = model.encode(X[:6])
    drawn = codes.sample(20_000, random_state=0)
    error = np.sqrt(codes.variance / 20_000)
    assert np.all(np.abs(drawn.mean(axis=0) - codes.mean) < 5 * error)


def test_sampled_rows_score_as_their_entropy_says(bits):
    """E log p(x) over the model's own draws against the sum over all rows of four bits."""
    X = bits[:, 4:8]
    model = make(1, likelihood="bernoulli").fit(X)
    cells = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    density = np.exp(converged_quadrature(model, cells)[0])
    np.testing.assert_allclose(density.sum(), 1, atol=1e-6)
    np.testing.assert_allclose(np.exp(model.score_samples(cells)), density, rtol=0.05)
    drawn, _ = model.sample(20_000, random_state=0)
    share = np.array([(drawn == cell).all(axis=1).mean() for cell in cells])
    error = np.sqrt(density * (1 - density) / len(drawn))
    assert np.all(np.abs(share - density) < 4.5 * error + 1e-9)
