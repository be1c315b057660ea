"""Gradients of Hmaxe in fitted attributes: finite differences, closed forms, zero at a fit."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from _rbm_oracles import log_partition, mixture_of
from _vae_oracles import quadrature
from scipy.linalg import expm
from sklearn.base import clone
from sklearn.decomposition import PCA

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.thermodynamics import hmaxe_gradient

RNG = np.random.default_rng(3)
D = 4
X = RNG.standard_normal((40, D)) @ RNG.standard_normal((D, D)) + np.repeat([[0.0], [3.0]], 20, 0)
OTHER = 1.3 * RNG.standard_normal((30, D)) @ RNG.standard_normal((D, D)) + 1.0
WEIGHTS = np.random.default_rng(4).integers(0, 4, len(OTHER)) * 0.7
TEMPERATURES = (0.5, 1.0, 2.0)
STEP = 1e-4
# The same rows with a quarter of the entries missing, and a row of one known entry.
GAPPY = np.where(np.random.default_rng(8).random(OTHER.shape) < 0.25, np.nan, OTHER)
GAPPY[0], GAPPY[:, 0] = np.nan, OTHER[:, 0]


def fitted(estimator, rows=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(rows)


def with_models(model, **changes):
    """Return an estimator whose one kept model has other values of some attributes."""
    moved = copy.copy(model)
    changes = {name: np.asarray(value)[None] for name, value in changes.items()}
    moved.models_ = replace(model.models_, **changes)
    return moved


def rotated(components, rng):
    """Return a curve of orthonormal directions through some, and its slope there."""
    skew = rng.standard_normal((components.shape[-1],) * 2)
    skew = skew - skew.T
    return (lambda t: components @ expm(t * skew)), components @ skew


def line(value, rng, tangent=lambda change: change):
    change = tangent(rng.standard_normal(np.shape(value)))
    return (lambda t: value + t * change), change


def slope_along(score, curve):
    return (score(curve(STEP)) - score(curve(-STEP))) / (2 * STEP)


def assert_slopes_agree(score_with, gradient, curves, tol=1e-6):
    """Compare gradients with finite differences of scores along curves of each attribute.

    `curves` are, by attribute, functions of a generator to a curve and its slope.
    """
    assert set(gradient) == {f"{name}_" for name in curves}
    rng = np.random.default_rng(5)
    for name, curve_through in curves.items():
        for _ in range(4):
            curve, change = curve_through(rng)
            slope = slope_along(lambda value, name=name: score_with(name, value), curve)
            expected = float(np.sum(gradient[f"{name}_"] * change))
            length = np.linalg.norm(change)
            size = np.linalg.norm(gradient[f"{name}_"]) * length + 1e-3
            # the error of a central difference is of third order in the change
            error = STEP**2 * length**3
            assert slope == pytest.approx(expected, abs=tol * size + error), name


# -- Gaussian mixtures -----------------------------------------------------------------------------


def symmetric(change):
    square = change.ndim >= 2 and change.shape[-1] == change.shape[-2] == D
    return change + np.swapaxes(change, -1, -2) if square else change


def sums_to_zero(change):
    return change - change.mean()


def gaussian_curves(model, equal_weights=False):
    full = model.covariance_type in ("full", "tied")
    curves = {
        "means": lambda rng: line(model.means_, rng),
        "covariances": lambda rng: line(
            model.covariances_, rng, symmetric if full else lambda change: change
        ),
    }
    if not equal_weights:
        curves["weights"] = lambda rng: line(model.weights_, rng, sums_to_zero)
    return curves


def gaussian_score(model, rows, weights):
    given = {
        "weights": model.weights_,
        "means": model.means_,
        "covariances": model.covariances_,
    }

    def score(name, value):
        settings = {"temperature": model.temperature, "covariance_type": model.covariance_type}
        moved = BayesianGMMAutoEncoder.from_parameters(**{**given, name: value}, **settings)
        return moved.score(rows, sample_weight=weights)

    return score


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_gaussian_mixtures(kind, T, weights):
    model = fitted(
        BayesianGMMAutoEncoder(
            3, covariance_type=kind, temperature=T, model_temperature=0, random_state=0
        )
    )
    gradient = hmaxe_gradient(model, OTHER, weights)
    for name, value in gradient.items():
        assert value.shape == getattr(model, name).shape
    assert abs(gradient["weights_"].sum()) < 1e-12
    curves = gaussian_curves(model)
    assert_slopes_agree(gaussian_score(model, OTHER, weights), gradient, curves)


def test_equal_weights_have_no_gradient():
    model = fitted(
        BayesianGMMAutoEncoder(2, equal_weights=True, model_temperature=0, random_state=0)
    )
    gradient = hmaxe_gradient(model, OTHER)
    assert_slopes_agree(
        gaussian_score(model, OTHER, None), gradient, gaussian_curves(model, equal_weights=True)
    )


def test_weights_of_zero_stay_there():
    means, covariances = [[0.0] * D, [1.0] * D, [2.0] * D], np.tile(np.eye(D), (3, 1, 1))
    three = BayesianGMMAutoEncoder.from_parameters([0.4, 0.0, 0.6], means, covariances)
    two = BayesianGMMAutoEncoder.from_parameters([0.4, 0.6], means[::2], covariances[::2])
    gradient, expected = hmaxe_gradient(three, X), hmaxe_gradient(two, X)
    assert gradient["weights_"][1] == 0
    np.testing.assert_allclose(gradient["weights_"][[0, 2]], expected["weights_"], rtol=1e-9)
    assert np.all(gradient["means_"][1] == 0)


# -- PCA and mixtures of PCA -----------------------------------------------------------------------


@pytest.mark.parametrize("T", [0.0, *TEMPERATURES])
@pytest.mark.parametrize("d", [0, 1, 3])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_pca(d, T, weights):
    model = fitted(BayesianPCAAutoEncoder(d, temperature=T, model_temperature=0))
    gradient = hmaxe_gradient(model, OTHER, weights)
    for name, value in gradient.items():
        assert np.shape(value) == np.shape(getattr(model, name))
    overlap = gradient["components_"] @ model.components_.T
    np.testing.assert_allclose(overlap, -overlap.T, atol=1e-10 * (1 + np.linalg.norm(overlap)))

    def score(name, value):
        return with_models(model, **{name: value}).score(OTHER, sample_weight=weights)

    curves = {
        "mean": lambda rng: line(model.mean_, rng),
        "components": lambda rng: rotated(model.components_, rng),
        "component_precisions": lambda rng: line(
            model.component_precisions_, rng, lambda change: model.component_precisions_ * change
        ),
        "noise_variance": lambda rng: line(
            model.noise_variance_, rng, lambda change: model.noise_variance_ * change
        ),
    }
    assert_slopes_agree(score, gradient, curves, 1e-5)


@pytest.mark.parametrize("T", [0.0, *TEMPERATURES])
@pytest.mark.parametrize("settings", [{"n_latent": 2}, {"tied_noise": True}, {"n_latent": 0}])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_mixtures_of_pca(settings, T, weights):
    model = fitted(
        BayesianMixturePCAAutoEncoder(
            2, temperature=T, model_temperature=0, random_state=0, max_iter=5, **settings
        )
    )
    gradient = hmaxe_gradient(model, OTHER, weights)
    for name, value in gradient.items():
        assert np.shape(value) == np.shape(getattr(model, name))

    def score(name, value):
        return with_models(model, **{name: value}).score(OTHER, sample_weight=weights)

    def components(rng):
        parts = [rotated(each, rng) for each in model.components_]
        return (lambda t: np.stack([curve(t) for curve, _ in parts])), np.stack(
            [change for _, change in parts]
        )

    curves = {
        "weights": lambda rng: line(model.weights_, rng, sums_to_zero),
        "means": lambda rng: line(model.means_, rng),
        "components": components,
        "component_precisions": lambda rng: line(
            model.component_precisions_, rng, lambda change: model.component_precisions_ * change
        ),
        "noise_variance": lambda rng: line(
            model.noise_variance_, rng, lambda change: model.noise_variance_ * change
        ),
    }
    assert_slopes_agree(score, gradient, curves, 1e-5)


# -- missing entries -------------------------------------------------------------------------------


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_gaussian_mixtures_with_gaps(kind, T, weights):
    model = fitted(
        BayesianGMMAutoEncoder(
            3, covariance_type=kind, temperature=T, model_temperature=0, random_state=0
        )
    )
    gradient = hmaxe_gradient(model, GAPPY, weights)
    score = gaussian_score(model, GAPPY, weights)
    assert_slopes_agree(score, gradient, gaussian_curves(model), 1e-5)


def subspace_curves(model, several):
    def components(rng):
        parts = [rotated(each, rng) for each in model.components_]
        return (lambda t: np.stack([curve(t) for curve, _ in parts])), np.stack(
            [change for _, change in parts]
        )

    mean = "means" if several else "mean"
    curves = {
        mean: lambda rng: line(getattr(model, f"{mean}_"), rng),
        "components": components if several else lambda rng: rotated(model.components_, rng),
        "component_precisions": lambda rng: line(
            model.component_precisions_, rng, lambda change: model.component_precisions_ * change
        ),
        "noise_variance": lambda rng: line(
            model.noise_variance_, rng, lambda change: model.noise_variance_ * change
        ),
    }
    if several:
        curves["weights"] = lambda rng: line(model.weights_, rng, sums_to_zero)
    return curves


@pytest.mark.parametrize("T", [0.0, *TEMPERATURES])
@pytest.mark.parametrize(
    "model",
    [
        BayesianPCAAutoEncoder(1),
        BayesianPCAAutoEncoder(2),
        BayesianPCAAutoEncoder(0),
        BayesianMixturePCAAutoEncoder(2, n_latent=1, max_iter=5, random_state=0),
        BayesianMixturePCAAutoEncoder(2, tied_noise=True, max_iter=5, random_state=0),
    ],
    ids=["pca-1", "pca-2", "pca-0", "mixture", "tied-noise"],
)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_subspaces_with_gaps(model, T, weights):
    model = fitted(clone(model).set_params(temperature=T, model_temperature=0))
    several = hasattr(model, "weights_")
    # codes of rows of few known entries need a prior, and melted directions have one-sided slopes
    least = 0.02 if T == 0 else 0.0
    below = np.minimum(model.component_precisions_ + least, 0.8 / np.max(model.noise_variance_))
    model = with_models(model, component_precisions=below)
    model.component_precisions_ = below
    model._fitted = replace(
        model._fitted,
        reference={**model._fitted.reference, "component_precisions_": below.copy()},
    )
    gradient = hmaxe_gradient(model, GAPPY, weights)
    for name, value in gradient.items():
        assert np.shape(value) == np.shape(getattr(model, name))

    def score(name, value):
        return with_models(model, **{name: value}).score(GAPPY, sample_weight=weights)

    assert_slopes_agree(score, gradient, subspace_curves(model, several), 1e-5)


@pytest.mark.parametrize("T", TEMPERATURES)
def test_gradients_of_rows_without_gaps_are_those_of_complete_rows(T):
    """By the kernels of rows with gaps, with a row that has no known entry and so no weight."""
    for model in (
        BayesianGMMAutoEncoder(2, temperature=T, model_temperature=0, random_state=0),
        BayesianPCAAutoEncoder(2, temperature=T, model_temperature=0),
        BayesianMixturePCAAutoEncoder(
            2, n_latent=3, temperature=T, model_temperature=0, random_state=0
        ),
    ):
        fitted(model)
        rows = np.concatenate([OTHER, GAPPY[[0]]])
        weights = np.concatenate([np.ones(len(OTHER)), [0.0]])
        found, expected = hmaxe_gradient(model, rows, weights), hmaxe_gradient(model, OTHER)
        for name, value in expected.items():
            size = max(float(np.abs(value).max()), 0.1)
            np.testing.assert_allclose(found[name], value, atol=2e-5 * size)


@pytest.mark.parametrize("T", [0.5, 1.0])
def test_gradients_vanish_at_fits_to_rows_with_gaps(T):
    settings = {**CONVERGED, "temperature": T}
    rows = np.where(np.random.default_rng(2).random(X.shape) < 0.15, np.nan, X)
    for model in (
        BayesianGMMAutoEncoder(2, reg_covar=0, **settings),
        BayesianMixturePCAAutoEncoder(1, **settings),
    ):
        gradient = hmaxe_gradient(fitted(model, rows), rows)
        assert largest(gradient) < 1e-4
        assert largest(hmaxe_gradient(model, GAPPY)) > 0.01


def test_a_mixture_of_one_pca_has_the_gradient_of_pca():
    settings = {"temperature": 0.7, "model_temperature": 0}
    one = fitted(BayesianMixturePCAAutoEncoder(1, n_latent=2, **settings))
    plain = fitted(BayesianPCAAutoEncoder(2, **settings))
    gradient, expected = hmaxe_gradient(one, OTHER), hmaxe_gradient(plain, OTHER)
    np.testing.assert_allclose(gradient["means_"][0], expected["mean_"], rtol=1e-7)
    for name in ("components_", "component_precisions_", "noise_variance_"):
        np.testing.assert_allclose(gradient[name][0], expected[name], rtol=1e-6, atol=1e-8)
    assert gradient["weights_"] == 0


# -- machines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_machines(visible, T, weights):
    rows, other = (X, OTHER) if visible == "gaussian" else ((X > 1) * 1.0, (OTHER > 1) * 1.0)
    model = fitted(
        BayesianRBMAutoEncoder(
            3, visible=visible, temperature=T, n_init=1, max_iter=20, random_state=0
        ),
        rows,
    )
    gradient = hmaxe_gradient(model, other, weights)
    names = ["components", "intercept_visible", "intercept_hidden"]
    if visible == "gaussian":
        names.append("noise_variance")
    machine = {name: getattr(model, f"{name}_") for name in names}
    for name, value in gradient.items():
        assert np.shape(value) == np.shape(getattr(model, name))

    def score(name, value):
        moved = {**machine, name: value}
        partition = (
            mixture_of(*moved.values())[2] if len(moved) == 4 else log_partition(*moved.values())
        )
        other_model = with_models(model, log_partition=partition, **{name: value})
        return other_model.score(other, sample_weight=weights)

    curves = {name: (lambda rng, value=value: line(value, rng)) for name, value in machine.items()}
    assert_slopes_agree(score, gradient, curves)


def test_machines_with_many_units_expect_what_their_chains_have():
    rows = (X > 1) * 1.0
    settings = {"n_init": 1, "max_iter": 20, "random_state": 0}
    exact = fitted(BayesianRBMAutoEncoder(3, partition="exact", **settings), rows)
    drawn = fitted(BayesianRBMAutoEncoder(3, partition="ais", **settings), rows)
    same = copy.copy(drawn)
    del same.chains_  # without chains all states are summed
    estimated, expected = hmaxe_gradient(drawn, rows), hmaxe_gradient(same, rows)
    error = 0.5 / np.sqrt(len(drawn.chains_))  # of the mean of so many bits; of more steps less
    for name, value in estimated.items():
        assert 0 < np.abs(value - expected[name]).max() < 0.5 * error
    assert set(hmaxe_gradient(exact, rows)) == set(estimated)


# -- networks --------------------------------------------------------------------------------------


def network(T, likelihood, rows, hidden=(5,), n_components=1, **settings):
    return fitted(
        BayesianVAEAutoEncoder(
            n_components,
            temperature=T,
            likelihood=likelihood,
            hidden_layer_sizes=hidden,
            max_iter=30,
            random_state=0,
            **settings,
        ),
        rows,
    )


@pytest.mark.parametrize("T", [0.0, *TEMPERATURES])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradients_of_networks(likelihood, T, weights):
    rows, other = (X, OTHER) if likelihood == "gaussian" else ((X > 1) * 1.0, (OTHER > 1) * 1.0)
    model = network(T, likelihood, rows, n_score_samples=2048)
    gradient = hmaxe_gradient(model, other, weights)
    rng = np.random.default_rng(6)
    names = ["decoder_coefs", "decoder_intercepts"]
    v = np.ones(len(other)) if weights is None else weights

    def compare(moved_to, expected, size):
        slopes = []
        for sign in (1, -1):
            moved, written_out = copy.copy(model), copy.copy(model)
            moved.models_ = replace(model.models_, **moved_to(sign * 1e-3))
            by_draws = exact = moved.score(other, sample_weight=weights)
            if T:  # codes are integrated over a grid; at T = 0 nothing is drawn
                for name, value in moved_to(sign * 1e-3).items():
                    single = [each[0] for each in value] if isinstance(value, list) else value[0]
                    setattr(written_out, f"{name}_", single)
                exact = quadrature(written_out, other, T, 300)[0] @ v / v.sum()
            slopes.append((sign * exact, sign * by_draws))
        exact, by_draws = np.sum(slopes, axis=0) / 2e-3
        assert exact == pytest.approx(expected, abs=2e-3 * size)
        # those of scores, whose draws move with the model, have the draws' error
        assert by_draws == pytest.approx(expected, abs=2e-2 * size)

    for name in names:
        values = getattr(model.models_, name)
        for number, slope in enumerate(gradient[f"{name}_"]):
            assert slope.shape == getattr(model, f"{name}_")[number].shape
            change = rng.standard_normal(slope.shape)

            def moved_to(t, name=name, values=values, number=number, change=change):
                layers = [
                    each + t * change if at == number else each for at, each in enumerate(values)
                ]
                return {name: layers}

            size = np.linalg.norm(slope) * np.linalg.norm(change)
            compare(moved_to, float(np.sum(slope * change)), size)
    if likelihood == "gaussian":
        slope, noise = gradient["noise_variance_"], model.models_.noise_variance
        # the gradient is the difference of terms about as large as D / 2
        for feature, own in enumerate(np.eye(D)):
            expected = slope[feature] * noise[0, feature]
            compare(lambda t, own=own: {"noise_variance": noise * (1 + t * own)}, expected, D / 16)
    else:
        assert "noise_variance_" not in gradient


@pytest.mark.parametrize("T", TEMPERATURES)
def test_a_linear_decoder_has_the_gradient_of_pca(T):
    model = network(
        T, "gaussian", X, hidden=(), noise="shared", n_components=2, n_score_samples=1024
    )
    W, s2 = model.decoder_coefs_[0], model.noise_variance_
    gradient = hmaxe_gradient(model, OTHER)
    # PCA's energy of loadings W' and noise s2, by the formula of its energy
    offset = OTHER - model.decoder_intercepts_[0]
    A = offset.T @ offset / len(OTHER)
    C = W.T @ W + s2 * np.eye(D)
    inverse = np.linalg.inv(C)
    of_loadings = W @ (inverse @ A @ inverse - T * inverse)
    of_noise = 0.5 * np.trace(inverse @ A @ inverse) - 0.5 * T * np.trace(inverse)
    of_noise -= 0.5 * D * (1 - T) / s2  # the code's own measure
    np.testing.assert_allclose(gradient["decoder_coefs_"][0], of_loadings, rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(
        gradient["decoder_intercepts_"][0], inverse @ offset.mean(axis=0), rtol=2e-2, atol=2e-3
    )
    assert gradient["noise_variance_"] == pytest.approx(of_noise, rel=2e-2)


# -- at a fit --------------------------------------------------------------------------------------

CONVERGED = {"model_temperature": 0, "tol": 1e-13, "max_iter": 5000, "random_state": 0}


def largest(gradient, *names):
    return max(float(np.abs(gradient[name]).max()) for name in names or gradient)


@pytest.mark.parametrize("T", [0.0, *TEMPERATURES])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_gradients_of_gaussian_mixtures_vanish_at_a_fit(kind, T):
    model = BayesianGMMAutoEncoder(
        2, covariance_type=kind, temperature=T, reg_covar=0, **CONVERGED
    ).fit(X)
    assert largest(hmaxe_gradient(model, X)) < 2e-5
    assert largest(hmaxe_gradient(model, OTHER)) > 0.01
    weights = np.random.default_rng(0).integers(1, 4, len(X)) * 0.6
    model.fit(X, sample_weight=weights)
    assert largest(hmaxe_gradient(model, X, weights)) < 2e-5
    assert largest(hmaxe_gradient(model, X)) > 1e-3


@pytest.mark.parametrize("T", [0.0, 0.5, 1.0])
def test_gradients_of_subspaces_vanish_at_a_fit_above_melting(T):
    for model in (
        BayesianPCAAutoEncoder(2, temperature=T, model_temperature=0).fit(X),
        BayesianMixturePCAAutoEncoder(2, temperature=T, **CONVERGED).fit(X),
    ):
        gradient = hmaxe_gradient(model, X)
        if T == 0:  # precisions are at their bound
            assert np.all(gradient.pop("component_precisions_") < 0)
            assert np.all(model.component_precisions_ == 0)
        assert largest(gradient) < 2e-5


def test_melted_directions_press_against_their_bound():
    rows = np.random.default_rng(0).standard_normal((200, 4)) * [5.0, 1.5, 1.0, 1.0]
    model = BayesianPCAAutoEncoder(2, temperature=2.0, model_temperature=0).fit(rows)
    gradient, s2 = hmaxe_gradient(model, rows), model.noise_variance_
    melted = np.isclose(model.component_precisions_ * s2, 1)
    assert melted.tolist() == [False, True]
    assert largest(gradient, "mean_", "components_") < 1e-9
    assert abs(gradient["component_precisions_"][0]) < 1e-9
    assert gradient["component_precisions_"][1] > 0.1
    # precisions of melted directions follow the noise, p = 1 / s2
    along = gradient["noise_variance_"] - gradient["component_precisions_"][1] / s2**2
    assert abs(along) < 1e-9


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_gradients_of_machines_vanish_at_an_exact_fit(visible, T):
    rows = X if visible == "gaussian" else np.random.default_rng(0).integers(0, 2, (60, 4)) * 1.0
    model = BayesianRBMAutoEncoder(
        2,
        visible=visible,
        temperature=T,
        early_stopping=False,
        n_init=1,
        tol=1e-7,
        max_iter=3000,
        random_state=0,
    )
    gradient = hmaxe_gradient(fitted(model, rows), rows)
    if model.converged_:
        assert largest(gradient) < 1e-4
    else:
        assert T > 1


def test_the_prior_balances_the_gradient_at_the_reference_of_sampled_models():
    model = BayesianGMMAutoEncoder(2, mean_precision_prior=2.0, n_models=5, random_state=0).fit(X)
    gradient = len(X) * hmaxe_gradient(model, X)["means_"]
    pull = [
        -2.0 * precision @ (mean - X.mean(axis=0))
        for precision, mean in zip(model.precisions_, model.means_, strict=True)
    ]
    np.testing.assert_allclose(gradient, -np.array(pull), atol=1e-2 * np.abs(pull).max())
    assert np.abs(pull).max() > 0.1


# -- what else -------------------------------------------------------------------------------------


def test_single_precision_and_lists_are_read_as_elsewhere():
    model = fitted(BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0))
    expected = hmaxe_gradient(model, OTHER)
    for rows in (OTHER.astype(np.float32), OTHER.tolist()):
        found = hmaxe_gradient(model, rows)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_what_has_no_gradient_is_refused_by_name():
    model = fitted(BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0))
    with pytest.raises(TypeError, match="needs an estimator of skbae, got PCA"):
        hmaxe_gradient(PCA().fit(X), X)
    with pytest.raises(ValueError, match="4 features"):
        hmaxe_gradient(model, X[:, :2])
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        hmaxe_gradient(model, X, -np.ones(len(X)))
    with pytest.raises(Exception, match="not fitted"):
        hmaxe_gradient(BayesianGMMAutoEncoder(), X)
    constant = np.column_stack([X, np.ones(len(X))])
    sampled = fitted(BayesianGMMAutoEncoder(1, n_models=3, random_state=0), constant)
    with pytest.raises(ValueError, match=r"columns \[4\] have none"):
        hmaxe_gradient(sampled, constant)
