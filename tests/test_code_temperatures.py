"""Codes at several temperatures: entropies and heat capacities by their definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_iris

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.thermodynamics import code_temperature_curve

RNG = np.random.default_rng(0)
X = np.repeat([[0.0], [4.0]], 60, axis=0) + RNG.standard_normal((120, 1))
TEMPERATURES = [0.5, 1.0, 2.0]


def energies(model):
    """Return ``H(x, k)`` of a mixture in one dimension, (N, K)."""
    deviations = np.sqrt(np.broadcast_to(model.covariances_, len(model.means_)))
    return np.log(model.weights_) + norm.logpdf(X, model.means_[:, 0], deviations)


@pytest.mark.parametrize("kind", ["spherical", "tied_spherical"])
def test_mixtures_have_the_entropy_and_heat_capacity_of_their_definition(kind):
    model = BayesianGMMAutoEncoder(2, covariance_type=kind, random_state=0)
    curve = code_temperature_curve(model, X, TEMPERATURES)
    for index, (T, fit) in enumerate(zip(TEMPERATURES, curve.models, strict=True)):
        H = energies(fit)
        p = np.exp(H / T)
        p /= p.sum(axis=1, keepdims=True)
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1).mean()
        variance = (p * H**2).sum(axis=1) - (p * H).sum(axis=1) ** 2
        assert curve.code_entropy[index] == pytest.approx(entropy, rel=1e-9)
        assert curve.code_heat_capacity[index] == pytest.approx(variance.mean() / T**2, rel=1e-3)
        assert curve.hmaxe[index] == pytest.approx(fit.hmaxe_)
        reconstruction = p @ fit.means_
        error = np.mean((X - reconstruction) ** 2)
        assert curve.reconstruction_error[index] == pytest.approx(error)


def test_pca_keeps_what_its_closed_form_says():
    rows = load_iris().data
    curve = code_temperature_curve(BayesianPCAAutoEncoder(2), rows, [0.0, 1.0, 1.5])
    values, D = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1], 4
    for index, T in enumerate(curve.temperatures):
        noise = values[2:].sum() / (D - T * 2)
        shrink = 1 - T * noise / values[:2]
        lost = (values[:2] * (1 - shrink) ** 2).sum() + values[2:].sum()
        assert curve.reconstruction_error[index] == pytest.approx(lost / D)
    # what a continuous code has by itself is left out, and nothing else is there
    assert np.isnan(curve.code_heat_capacity[0])
    assert np.all(np.abs(curve.code_heat_capacity[1:]) < 1e-5)


def test_fits_go_on_from_their_neighbour_or_begin_anew():
    """Two components that have merged at T = 8 stay one when cooled, and are two from scratch."""
    model = BayesianGMMAutoEncoder(
        2, covariance_type="tied_spherical", tol=1e-10, max_iter=2000, random_state=0
    )
    cooled = code_temperature_curve(model, X, [8.0, 1.0])
    anew = code_temperature_curve(model, X, [8.0, 1.0], start="scratch")
    heated = code_temperature_curve(model, X, [1.0, 8.0])
    assert np.ptp(cooled.models[1].means_) < 0.1
    assert np.ptp(anew.models[1].means_) > 3.5
    assert np.ptp(heated.models[1].means_) < 0.1
    np.testing.assert_allclose(heated.hmaxe[::-1], anew.hmaxe, atol=1e-6)
    assert cooled.hmaxe[1] < anew.hmaxe[1] - 0.1


@pytest.mark.parametrize(
    "model",
    [
        BayesianMixturePCAAutoEncoder(2, n_latent=1, random_state=0),
        BayesianVAEAutoEncoder(1, hidden_layer_sizes=(4,), max_iter=5, random_state=0),
        BayesianRBMAutoEncoder(2, visible="gaussian", max_iter=20, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_every_family_has_a_curve(model):
    rows = load_iris().data[::3]
    start = "neighbour" if hasattr(model, "warm_start") else "scratch"
    curve = code_temperature_curve(model, rows, TEMPERATURES, start=start)
    for name in ("hmaxe", "code_entropy", "code_heat_capacity", "reconstruction_error"):
        assert np.all(np.isfinite(getattr(curve, name))), name
    assert not hasattr(model, "models_")


def test_weights_count_rows():
    model = BayesianGMMAutoEncoder(2, covariance_type="tied_spherical", random_state=0)
    twice = code_temperature_curve(model, np.repeat(X, 2, axis=0), [1.0])
    weighted = code_temperature_curve(model, X, [1.0], sample_weight=np.full(len(X), 2.0))
    np.testing.assert_allclose(weighted.code_entropy, twice.code_entropy, rtol=1e-6)
    np.testing.assert_allclose(weighted.reconstruction_error, twice.reconstruction_error, rtol=1e-6)


def test_curves_are_tables():
    pytest.importorskip("pandas")
    model = BayesianGMMAutoEncoder(2, random_state=0)
    table = code_temperature_curve(model, X, [1.0, 2.0]).to_frame()
    assert table.columns.tolist() == [
        "temperature",
        "hmaxe",
        "code_entropy",
        "code_heat_capacity",
        "reconstruction_error",
    ]


def test_refusals_name_what_is_wrong():
    model = BayesianGMMAutoEncoder(2)
    with pytest.raises(ValueError, match="start must be one of 'neighbour', 'scratch'"):
        code_temperature_curve(model, X, [1.0], start="warm")
    with pytest.raises(ValueError, match="temperatures must be"):
        code_temperature_curve(model, X, [-1.0])
    with pytest.raises(ValueError, match="temperatures is empty"):
        code_temperature_curve(model, X, [])
    with pytest.raises(ValueError, match="BayesianRBMAutoEncoder cannot go on"):
        code_temperature_curve(BayesianRBMAutoEncoder(2), X, [1.0])


def test_a_data_frame_gives_the_curve_of_its_values_without_a_warning():
    pd = pytest.importorskip("pandas")
    model = BayesianGMMAutoEncoder(2, covariance_type="tied_spherical", random_state=0)
    plain = code_temperature_curve(model, X, [0.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = code_temperature_curve(model, pd.DataFrame(X).add_prefix("x"), [0.0, 1.0])
    np.testing.assert_array_equal(named.reconstruction_error, plain.reconstruction_error)
    np.testing.assert_array_equal(named.code_heat_capacity, plain.code_heat_capacity)
