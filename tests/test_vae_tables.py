"""Network autoencoders on small ordinary tables: curves are found, and PCA is never better."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _tables import SCALED, TABLES, parabola
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from skbae import BayesianPCAAutoEncoder, BayesianVAEAutoEncoder
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._linear import best_per_feature, best_shared, encoder_of
from skbae.energies.vae._network import Network
from skbae.energies.vae._parameters import RowFrame, VAEParameters, in_units_of
from skbae.energies.vae._penalty import Ridge
from skbae.inference.passes._rows import make_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]


def error(model, X):
    """Return the mean squared error of reconstructions."""
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


@pytest.mark.parametrize(
    ("temperature", "noise"),
    [
        (0.0, "per_feature"),
        (0.0, "shared"),
        (1e-3, "per_feature"),
        (1.0, "per_feature"),
        pytest.param(1e-3, "shared", marks=pytest.mark.slow),
        pytest.param(1.0, "shared", marks=pytest.mark.slow),
    ],
)
def test_a_curve_is_found_at_any_temperature(temperature, noise):
    """Codes shrink as T falls: in their own units, networks would be linear in them."""
    X = parabola()
    fitted = BayesianVAEAutoEncoder(
        1, temperature=temperature, noise=noise, hidden_layer_sizes=(32,), random_state=0
    ).fit(X)
    assert error(PCA(1).fit(X), X) > 0.4
    assert error(fitted, X) < 0.004  # of some 0.00125 that the noise has across the curve


def test_two_codes_of_digits_are_better_than_pca_at_zero_temperature():
    X = load_digits().data / 16
    fitted = BayesianVAEAutoEncoder(
        2, temperature=0, hidden_layer_sizes=(32,), max_iter=20, alpha=0, random_state=0
    ).fit(X)
    assert error(fitted, X) < 0.9 * error(PCA(2).fit(X), X)


def precise_score(fitted, X):
    """Return the score by many codes a row: those of `hmaxe_`, the same for all rows, are few."""
    value = fitted.score_samples(X, n_samples=4000).mean()
    np.testing.assert_allclose(fitted.hmaxe_, value, atol=0.02)
    return value


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", TABLES)
def test_a_fit_is_never_below_pca_at_the_same_temperature(name, temperature):
    """After few passes too, whatever the units of the columns."""
    X = TABLES[name]()
    d = max(1, min(2, X.shape[1] - 1))  # PCA has no T = 2 for more codes than half the columns
    if d == X.shape[1] and temperature < 1:
        pytest.skip("as many codes as columns leave no noise, and both scores are those of floors")
    fitted = BayesianVAEAutoEncoder(
        d, hidden_layer_sizes=(8,), temperature=temperature, max_iter=3, random_state=0
    ).fit(X)
    # below T = 1 noise of each feature is that of the scaled rows
    scale = X.std(axis=0) if temperature < 1 else np.ones(X.shape[1])
    linear = BayesianPCAAutoEncoder(d, temperature=temperature, model_temperature=0)
    assert precise_score(fitted, X) >= linear.fit(X / scale).hmaxe_ - np.log(scale).sum() - 1e-3
    shared = BayesianVAEAutoEncoder(
        d,
        hidden_layer_sizes=(8,),
        temperature=temperature,
        noise="shared",
        max_iter=3,
        random_state=0,
    ).fit(X)
    assert precise_score(shared, X) >= linear.fit(X).hmaxe_ - 1e-3
    np.testing.assert_allclose(fitted.score(X), fitted.hmaxe_, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_units_of_single_columns_do_not_matter(temperature):
    X = TABLES["wine"]()[:, :5]
    units = np.array([1e-3, 1.0, 7.0, 1e4, 0.3])
    settings = {"hidden_layer_sizes": (8,), "max_iter": 20, "temperature": temperature}
    here = BayesianVAEAutoEncoder(2, random_state=0, **settings).fit(X)
    there = BayesianVAEAutoEncoder(2, random_state=0, **settings).fit(units * X)
    assert there.hmaxe_ + np.log(units).sum() == pytest.approx(here.hmaxe_, abs=1e-3)
    np.testing.assert_allclose(there.noise_variance_ / units**2, here.noise_variance_, rtol=1e-2)
    back = there.inverse_transform(there.transform(units * X)) / units
    np.testing.assert_allclose(
        back / X.std(axis=0), here.inverse_transform(here.transform(X)) / X.std(axis=0), atol=0.01
    )
    left = ((X - here.inverse_transform(here.transform(X))) ** 2).mean(axis=0)
    assert np.all(left < X.var(axis=0))  # no column is given up for the others


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("find", [best_shared, best_per_feature])
def test_the_best_linear_decoder_by_its_definition(find, temperature):
    """Its value by the normal density at T, its maximum by moves, its encoder by regression."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 5)) + rng.normal(size=(60, 5))
    rows = make_rows(X, rng.uniform(0.5, 2, 60))
    frame = RowFrame(rows.centre, np.ones(5), True)
    found = find(rows, frame, 2, temperature)
    deviations = X - rows.centre
    shares = rows.weights / rows.weights.sum()
    S = (deviations * shares[:, None]).T @ deviations

    def value(W, log_noise):
        base = -0.5 * (np.log(2 * np.pi) + log_noise).sum()
        if temperature == 0:  # best codes: what is left in units of the noise
            psi = np.exp(-log_noise)
            z = np.linalg.solve((W * psi) @ W.T + 1e-12 * np.eye(2), W * psi)
            left = np.eye(5) - z.T @ W
            return base - 0.5 * np.trace(left.T @ S @ left * psi)
        C = W.T @ W + temperature * np.diag(np.exp(log_noise))
        density = -0.5 * (np.linalg.slogdet(2 * np.pi * C)[1] + np.trace(np.linalg.solve(C, S)))
        tempered = 0.5 * (np.log(2 * np.pi * temperature) + log_noise).sum()
        return base + temperature * (density + tempered)

    best = value(found.weights, found.log_noise)
    assert found.value == pytest.approx(best, rel=1e-6)
    for _ in range(20):
        move = 0.03 * rng.normal(size=found.weights.shape)
        assert value(found.weights + move, found.log_noise) < best + 1e-9
        if find is best_shared:
            assert value(found.weights, found.log_noise + 0.03 * rng.normal()) < best + 1e-9
        elif temperature >= 1:
            assert value(found.weights, found.log_noise + 0.03 * rng.normal(size=5)) < best + 1e-5
    shared = best_shared(rows, frame, 2, temperature)
    assert found.value >= shared.value - 1e-9
    reading, log_deviation = encoder_of(found, temperature)
    psi = np.exp(-found.log_noise)
    precision = (found.weights * psi) @ found.weights.T
    if temperature:
        precision = precision / temperature + np.eye(2)
        assert np.allclose(np.exp(2 * log_deviation), np.diag(np.linalg.inv(precision)))
    expected = np.linalg.solve(precision, found.weights * psi / (temperature or 1.0)).T
    np.testing.assert_allclose(reading, expected, rtol=1e-5, atol=1e-8)


def test_other_units_of_the_codes_leave_the_model_as_it_is():
    rng = np.random.default_rng(0)
    decoder = Decoder(Network((2, 4, 3), "tanh", skip=True), "gaussian")
    encoder = Network((3, 4, 4), "tanh", skip=True)
    params = VAEParameters(
        rng.normal(size=(1, decoder.n_parameters)), rng.normal(size=(1, encoder.n_parameters))
    )
    moved = in_units_of(decoder, encoder, params, 0.1)

    def outputs(network, theta, inputs):
        from skbae.energies.vae._network import Scratch

        return network.forward(network.layers(theta), inputs[None], Scratch())[-1][0]

    z, x = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(
        outputs(decoder.network, params.decoder, z),
        outputs(decoder.network, moved.decoder, z / 0.1),
    )
    codes, there = (outputs(encoder, each.encoder, x) for each in (params, moved))
    np.testing.assert_allclose(codes[:, :2], 0.1 * there[:, :2])
    np.testing.assert_allclose(codes[:, 2:], there[:, 2:])
    back = in_units_of(decoder, encoder, moved, 10.0)
    np.testing.assert_allclose(back.decoder, params.decoder)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALED)
def test_rows_held_out_are_not_much_worse_than_under_pca(name):
    """Less than 0.05 nats a row on each of five splits."""
    X = SCALED[name]()
    d = 3 if name == "iris" else 2
    for seed, (train, test) in enumerate(KFold(5, shuffle=True, random_state=0).split(X)):
        fitted = BayesianVAEAutoEncoder(d, random_state=seed).fit(X[train])
        linear = BayesianPCAAutoEncoder(d, model_temperature=0).fit(X[train])
        assert fitted.hmaxe_ >= linear.hmaxe_ - 1e-6
        assert fitted.score(X[test]) > linear.score(X[test]) - 0.05


def test_iris_held_out_is_not_much_worse_than_under_pca():
    """The split on which an unpenalised network overfits most."""
    X = SCALED["iris"]()
    train, test = list(KFold(5, shuffle=True, random_state=0).split(X))[1]
    fitted = BayesianVAEAutoEncoder(3, random_state=1).fit(X[train])
    linear = BayesianPCAAutoEncoder(3, model_temperature=0).fit(X[train])
    assert fitted.score(X[test]) > linear.score(X[test]) - 0.05


def test_noise_of_features_is_drawn_together():
    """By the strength of the penalty, as by so many rows: its gradient by finite differences."""
    decoder = Decoder(Network((2, 3, 4), "tanh", skip=True), "gaussian", noise="per_feature")
    penalty = Ridge(decoder, 3.0, n_rows=5.0, log_level=-1.0)
    theta = np.random.default_rng(0).normal(size=(1, decoder.n_parameters))
    slopes = np.empty_like(theta)
    for at in range(theta.shape[1]):
        moves = 1e-5 * np.eye(theta.shape[1])[at]
        slopes[0, at] = (penalty.value(theta + moves) - penalty.value(theta - moves))[0] / 2e-5
    np.testing.assert_allclose(penalty.gradient(theta), slopes, atol=1e-6)
    theta[:, -4:] = -1.0
    np.testing.assert_allclose(penalty.gradient(theta)[:, -4:], 0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_ordinary_tables_converge_without_a_warning(name):
    X = TABLES[name]()[::2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = BayesianVAEAutoEncoder(max(1, min(2, X.shape[1] - 1)), random_state=0).fit(X)
    assert fitted.converged_


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1.0])
def test_tables_leave_no_floating_point_error_to_the_caller(temperature):
    for name in ("two blobs", "wine"):
        X = TABLES[name]()
        model = BayesianVAEAutoEncoder(
            1, temperature=temperature, hidden_layer_sizes=(8,), max_iter=3, random_state=0
        )
        with np.errstate(all="raise"):
            fitted = model.fit(X)
            for rows in (X[:20], X[:20] + 1e3 * X.std(axis=0)):
                fitted.inverse_transform(fitted.transform(rows))
                fitted.score_gradient(rows)
                assert np.isfinite(fitted.score_samples(rows)).all()


def test_wine_converges_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = BayesianVAEAutoEncoder(2, hidden_layer_sizes=(16,), random_state=0).fit(
            TABLES["wine"]()
        )
    assert fitted.converged_
