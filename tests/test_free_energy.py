"""Free energy curves: closed forms, quadrature and draws of the prior; integration of G."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from _data import GALAXIES, GALAXIES_EVIDENCE, GALAXIES_PRIOR
from _rbm_oracles import prior_log_likelihoods
from scipy.special import logsumexp, multigammaln
from scipy.stats import gamma, norm
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.estimators.gmm import _estimator
from skbae.estimators.gmm._fit import doubts_about_modes
from skbae.functionals import hmaxe
from skbae.thermodynamics import free_energy_curve, learning_coefficient
from skbae.thermodynamics._free_energy import checked_convexity

IRIS = load_iris().data
ROWS = np.random.default_rng(0).standard_normal((40, 1)) * 1.5 + 2.0
FEW = np.array([-1.3, -1.0, -0.7, 0.1, 1.2, 1.5, 1.9, 2.0])[:, None]
BITS = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0.0]])


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def functionals(log_prior, F, power):
    """Return Hmaxemax, G, information gain and heat capacity of models with weights and values."""
    log_z = logsumexp(log_prior + power * F)
    p = np.exp(log_prior + power * F - log_z)
    G = p @ F
    variance = p @ (F - G) ** 2
    return log_z / power, G, power * G - log_z, power**2 * variance


def assert_point(curve, index, expected, errors=4.0, slack=0.0):
    names = ("hmaxemax", "internal_energy", "information_gain", "heat_capacity")
    for name, value in zip(names, expected, strict=True):
        gap = abs(getattr(curve, name)[index] - value)
        assert gap < errors * getattr(curve, f"{name}_error")[index] + slack, (name, index)


def single_quadrature(X, tau):
    """Return the functionals of one normal component by a grid over mean and log precision."""
    m0, variance = X.mean(), X.var()
    scale = variance / 25.0  # the default covariance_prior in one dimension, 5^(-2 / D)
    logs = np.linspace(-9.0, 9.0, 1201)
    precision = np.exp(logs)[:, None]
    spread = 1 / np.sqrt(0.01 * precision)
    u = np.linspace(-9.0, 9.0, 1201)
    mean = m0 + u * spread  # the prior of the mean, standardised
    log_prior = gamma.logpdf(precision, 1.5, scale=2 / scale) + logs[:, None] + norm.logpdf(u)
    log_prior = log_prior + np.log((logs[1] - logs[0]) * (u[1] - u[0]))
    square = variance + (m0 - mean) ** 2
    F = 0.5 * np.log(precision / (2 * np.pi)) - 0.5 * precision * square
    return functionals(log_prior.ravel(), F.ravel(), len(X) / tau)


def test_one_component_is_as_by_quadrature():
    taus = np.array([40.0, 10.0, 3.0, 1.0])
    curve = free_energy_curve(BayesianGMMAutoEncoder(1, random_state=0), ROWS, taus)
    assert set(curve.status) == {"ok"}
    for index, tau in enumerate(taus):
        expected = single_quadrature(ROWS, tau)
        slack = 0.02 + 0.1 * tau / len(ROWS)
        assert abs(curve.hmaxemax[index] - expected[0]) < 1e-6
        assert abs(curve.internal_energy[index] - expected[1]) < slack
        assert_point(curve, index, expected, slack=1e-6)


def log_evidence_of_one_component(X, tau):
    """Return the log evidence of a normal-Wishart prior at power 1 / tau, in closed form."""
    N, D = X.shape
    n = N / tau
    kappa, dof = 0.01, D + 2.0
    scale = np.cov(X.T, bias=True) / 5 ** (2 / D)
    after = scale + n * np.cov(X.T, bias=True)  # the prior's mean is that of the rows
    value = -0.5 * n * D * np.log(np.pi) + 0.5 * D * np.log(kappa / (kappa + n))
    value += multigammaln(0.5 * (dof + n), D) - multigammaln(0.5 * dof, D)
    logs = np.linalg.slogdet(scale)[1], np.linalg.slogdet(after)[1]
    return value + 0.5 * dof * logs[0] - 0.5 * (dof + n) * logs[1]


def test_one_component_in_four_dimensions_has_its_closed_form_and_integrates_to_it():
    curve = free_energy_curve(BayesianGMMAutoEncoder(1, random_state=1), IRIS)
    power = len(IRIS) / curve.model_temperatures
    assert power[0] == pytest.approx(1.0)
    assert power[-1] == pytest.approx(len(IRIS))
    exact = np.array([log_evidence_of_one_component(IRIS, len(IRIS) / each) for each in power])
    np.testing.assert_allclose(power * curve.hmaxemax, exact, rtol=1e-9)
    # G is the slope of the exact log evidence
    step = 1e-4 * power
    slope = np.array(
        [
            log_evidence_of_one_component(IRIS, len(IRIS) / (p + h))
            - log_evidence_of_one_component(IRIS, len(IRIS) / (p - h))
            for p, h in zip(power, step, strict=True)
        ]
    ) / (2 * step)
    np.testing.assert_allclose(curve.internal_energy, slope, atol=1e-6)
    bend = np.array(
        [
            log_evidence_of_one_component(IRIS, len(IRIS) / (1.01 * p))
            + log_evidence_of_one_component(IRIS, len(IRIS) / (0.99 * p))
            - 2 * value
            for p, value in zip(power, exact, strict=True)
        ]
    )
    np.testing.assert_allclose(curve.heat_capacity, bend / 1e-4, atol=2e-3)
    assert np.all(curve.internal_energy_error == 0)
    differences, _ = curve.integrated()
    assert np.all(np.abs(differences - np.diff(exact)) < 0.005)


def draws_of_one_component(X, tau, n):
    """Return ``Hmaxe`` of independent draws of ``p(m)`` of one full component."""
    model = BayesianGMMAutoEncoder(1, model_temperature=tau, n_models=n, random_state=3).fit(X)
    return hmaxe(model, X)


@pytest.mark.parametrize("tau", [150.0, 5.0])
def test_closed_forms_are_as_by_draws(tau):
    curve = free_energy_curve(BayesianGMMAutoEncoder(1), IRIS, [tau])
    values, power = draws_of_one_component(IRIS, tau, 1000), len(IRIS) / tau
    assert abs(values.mean() - curve.internal_energy[0]) < 4 * values.std() / np.sqrt(len(values))
    squares = power**2 * (values - values.mean()) ** 2
    error = squares.std() / np.sqrt(len(values))
    assert abs(squares.mean() - curve.heat_capacity[0]) < 4 * error


def test_closed_forms_know_weights_columns_and_temperatures_of_codes():
    weights = np.random.default_rng(0).integers(0, 3, len(IRIS))
    model = BayesianGMMAutoEncoder(1, temperature=0.5, random_state=0)
    weighted = free_energy_curve(model, IRIS, [9.0, 0.5], sample_weight=weights)
    repeated = model.set_params(model_temperature=9.0).fit(np.repeat(IRIS, weights, axis=0))
    assert weighted.hmaxemax[0] == pytest.approx(repeated.hmaxemax_, rel=1e-9)
    constant = np.column_stack([IRIS, np.ones(len(IRIS))])
    with pytest.warns(UserWarning, match="constant: 4"):
        found = free_energy_curve(model, constant, [9.0])
    plain = free_energy_curve(model, IRIS, [9.0])
    assert found.internal_energy[0] == pytest.approx(plain.internal_energy[0], rel=1e-9)


def mixture_by_prior_draws(X, tau, n=400_000):
    """Return the functionals of two components by draws of the default prior."""
    rng = np.random.default_rng(7)
    precision = rng.gamma(1.5, 2 / (X.var() / 25.0), (n, 2))
    means = X.mean() + rng.standard_normal((n, 2)) / np.sqrt(0.01 * precision)
    weights = rng.dirichlet([1.0, 1.0], n)
    F = np.zeros(n)
    for x in X[:, 0]:
        logs = np.log(weights) + norm.logpdf(x, means, 1 / np.sqrt(precision))
        F += logsumexp(logs, axis=1) / len(X)
    return functionals(np.full(n, -np.log(n)), F, len(X) / tau)


def test_mixtures_at_other_temperatures_are_as_by_draws_of_the_prior():
    taus = np.array([8.0, 4.0, 2.0])
    curve = quietly(free_energy_curve, BayesianGMMAutoEncoder(2, random_state=0), FEW, taus)
    for index, tau in enumerate(taus):
        assert_point(curve, index, mixture_by_prior_draws(FEW, tau), slack=0.03)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_machines_are_as_by_draws_of_the_prior(temperature):
    taus = np.array([7.0, 2.0, 1.0])
    model = BayesianRBMAutoEncoder(2, temperature=temperature, random_state=0)
    curve = free_energy_curve(model, BITS, taus)
    values = prior_log_likelihoods(BITS, 2, 200_000, np.random.default_rng(1), temperature)
    for index, tau in enumerate(taus):
        expected = functionals(np.full(len(values), -np.log(len(values))), values / 7, 7 / tau)
        assert_point(curve, index, expected, slack=0.02)


def integration_gap(curve):
    """Return what the integral of G misses of the log evidence, in joint errors, at each step."""
    power = curve.n_rows / curve.model_temperatures
    log_evidence, errors = power * curve.hmaxemax, power * curve.hmaxemax_error
    found, of_integral = curve.integrated()
    joint = np.sqrt(of_integral**2 + errors[1:] ** 2 + errors[:-1] ** 2)
    return np.diff(log_evidence) - found, joint


@pytest.mark.parametrize(
    "model",
    [
        BayesianPCAAutoEncoder(1, random_state=0),
        pytest.param(BayesianPCAAutoEncoder(2, random_state=1), marks=pytest.mark.slow),
        pytest.param(
            BayesianMixturePCAAutoEncoder(1, n_latent=1, random_state=0), marks=pytest.mark.slow
        ),
    ],
    ids=["pca-1", "pca-2", "mixture-of-pca"],
)
def test_the_integral_of_g_is_the_log_evidence(model):
    curve = quietly(free_energy_curve, model, IRIS, np.geomspace(20.0, 1.0, 6))
    gap, joint = integration_gap(curve)
    assert abs(gap.sum()) < 4 * np.sqrt((joint**2).sum())
    assert np.all(np.abs(gap) < 4.5 * joint + 0.05)


def iris_mixture_gap(n_components, seed, taus):
    """Return by how much evidence at the highest tau and the integral of G miss that of a fit."""
    model = BayesianGMMAutoEncoder(n_components, random_state=seed)
    curve = quietly(free_energy_curve, model, IRIS, taus)
    own = quietly(model.fit, IRIS)
    power = len(IRIS) / taus
    start = power[0] * curve.hmaxemax[0]
    differences, errors = curve.integrated()
    error = np.sqrt((power[0] * curve.hmaxemax_error[0]) ** 2 + (errors**2).sum())
    return start + differences.sum() - own.log_evidence_, np.hypot(error, own.hmaxemax_error_ * 150)


def test_the_integral_of_g_is_the_evidence_of_irises_below_the_transition():
    gap, error = iris_mixture_gap(2, 0, np.geomspace(4.0, 1.0, 5))
    assert abs(gap) < 4 * error
    assert error < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_components", [2, 3])
def test_the_integral_of_g_is_the_evidence_of_irises_for_five_seeds(n_components, seed):
    taus = np.concatenate(
        [np.geomspace(150, 12, 6), np.linspace(11, 4, 22), np.geomspace(3.5, 1, 6)]
    )
    gap, error = iris_mixture_gap(n_components, seed, taus)
    assert abs(gap) < 4 * error


def test_g_falls_as_the_models_are_heated():
    model = BayesianGMMAutoEncoder(3, random_state=0, **GALAXIES_PRIOR)
    curve = quietly(free_energy_curve, model, GALAXIES, [82.0, 10.0, 1.0])
    assert np.all(np.diff(curve.internal_energy) > 0)
    assert np.all(np.diff(curve.hmaxemax) > 0)
    assert np.all(np.diff(curve.information_gain) > 0)
    assert abs(82 * curve.hmaxemax[-1] - GALAXIES_EVIDENCE[3][0]) < 0.1


def test_the_plateau_of_the_heat_capacity_is_the_learning_coefficient():
    """Of a sampled family within joint error; of one component all is exact."""
    rng = np.random.default_rng(3)
    X = 1.5 * rng.standard_normal((1000, 1)) * [1.0, 0.5, -1.0] + rng.standard_normal((1000, 3))
    model = BayesianPCAAutoEncoder(1, random_state=0)
    curve = free_energy_curve(model, X, [7.0, 3.0, 1.0])
    found = learning_coefficient(model, X)
    assert np.all(curve.heat_capacity_error < 0.2)
    errors = np.hypot(curve.heat_capacity_error, found.error)
    assert np.all(np.abs(curve.heat_capacity - found.value) < 4 * errors)
    assert np.all(np.abs(curve.heat_capacity - 3.5) < 4 * curve.heat_capacity_error + 0.05)
    single = BayesianGMMAutoEncoder(1)
    exact = free_energy_curve(single, X, [np.log(1000.0), 1.0]).heat_capacity
    assert learning_coefficient(single, X).value == pytest.approx(exact[0], rel=1e-9)
    assert exact[1] == pytest.approx(4.5, abs=0.02)


def test_log_evidences_that_g_rules_out_are_suspect():
    power = np.array([1.0, 2.0, 4.0])
    G = np.array([-3.0, -2.0, -1.0])
    log_evidence = np.array([-4.0, -6.5, -9.4])
    none = np.zeros(3)
    status = ["ok"] * 3
    found = checked_convexity(power, (log_evidence, none), (G, none), status, [()] * 3)
    assert found == (("ok",) * 3, ((),) * 3)
    log_evidence[2] = -10.6  # below -6.5 + 2 * G(2)
    status, reasons = checked_convexity(power, (log_evidence, none), (G, none), status, [()] * 3)
    assert status == ("ok", "suspect", "suspect")
    assert "rules out" in reasons[2][0]
    wide = np.full(3, 0.1)
    assert (
        checked_convexity(power, (log_evidence, wide), (G, none), ["ok"] * 3, [()] * 3)[0]
        == ("ok",) * 3
    )


def test_the_estimator_is_left_as_it_is():
    model = BayesianGMMAutoEncoder(1, model_temperature=0, random_state=0).fit(ROWS)
    before = dict(vars(model))
    curve = free_energy_curve(model, ROWS)
    assert vars(model) == before
    assert curve.model_temperatures[-1] == pytest.approx(1.0)
    assert len(curve.model_temperatures) == 10


def test_rows_of_weight_two_are_rows_twice():
    model = BayesianGMMAutoEncoder(1, random_state=0)
    twice = free_energy_curve(model, np.repeat(ROWS, 2, axis=0), [5.0])
    weighted = free_energy_curve(model, ROWS, [5.0], sample_weight=np.full(len(ROWS), 2.0))
    np.testing.assert_allclose(weighted.hmaxemax, twice.hmaxemax, rtol=1e-9)


def test_curves_are_tables(monkeypatch):
    curve = free_energy_curve(BayesianPCAAutoEncoder(1, random_state=0), IRIS, [10.0, 1.0])
    pandas = pytest.importorskip("pandas")
    table = curve.to_frame()
    assert isinstance(table, pandas.DataFrame)
    assert table["heat_capacity"].tolist() == curve.heat_capacity.tolist()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        curve.to_frame()


@pytest.mark.parametrize(
    ("estimator", "taus", "error", "message"),
    [
        (PCA(1), None, TypeError, "needs an estimator of skbae, got PCA"),
        (BayesianVAEAutoEncoder(1), None, TypeError, "BayesianVAEAutoEncoder explores"),
        (
            BayesianRBMAutoEncoder(40, partition="ais"),
            None,
            TypeError,
            "BayesianRBMAutoEncoder explores the surroundings",
        ),
        (BayesianGMMAutoEncoder(1, tilt=0.5), None, ValueError, "needs tilt=0, got tilt=0.5"),
        (
            BayesianGMMAutoEncoder(1),
            [1.0, 0.0],
            ValueError,
            "model_temperatures must be a finite number > 0",
        ),
        (BayesianGMMAutoEncoder(1), [], ValueError, "model_temperatures is empty"),
        (
            BayesianGMMAutoEncoder(1, temperature=0, model_temperature=0),
            None,
            ValueError,
            "give model_temperatures",
        ),
    ],
)
def test_refusals_name_what_is_wrong(estimator, taus, error, message):
    with pytest.raises(error, match=message):
        free_energy_curve(estimator, ROWS, taus)


@pytest.mark.parametrize(
    "model",
    [
        BayesianRBMAutoEncoder(1, visible="gaussian", random_state=0),
        BayesianMixturePCAAutoEncoder(1, n_latent=1, random_state=0),
    ],
    ids=["machine", "mixture-of-pca"],
)
def test_one_run_that_stops_on_its_way_finds_what_runs_of_their_own_do(model):
    """In any units of the rows: energies of a row differ by the logarithm of the unit."""
    X, unit = 7.0 * IRIS[:30, 2:], np.log(7.0)
    calls = []
    fit = type(model).fit

    class Counted(type(model)):
        def fit(self, *args, **kwargs):
            calls.append(self.model_temperature)
            return fit(self, *args, **kwargs)

    counted = Counted(**model.get_params())
    joint = quietly(free_energy_curve, counted, X, [20.0, 6.0])
    assert calls == [6.0]
    alone = quietly(free_energy_curve, model, X, [20.0])
    small = quietly(free_energy_curve, model, X / 7.0, [20.0])
    for name in ("hmaxemax", "internal_energy", "information_gain", "heat_capacity"):
        errors = getattr(joint, f"{name}_error")[0], getattr(alone, f"{name}_error")[0]
        gap = getattr(joint, name)[0] - getattr(alone, name)[0]
        assert abs(gap) < 4 * np.hypot(*errors), name
    np.testing.assert_allclose(alone.hmaxemax, small.hmaxemax - 2 * unit, rtol=1e-6)


def test_models_from_many_modes_are_suspect():
    """Effective modes count, not those of small shares."""
    even = SimpleNamespace(mode_shares=(0.2, 0.2, 0.2, 0.2, 0.2))
    assert "as many as 5.0 equal ones" in doubts_about_modes(even)[0]
    for shares in ((), (1.0,), (0.4, 0.3, 0.3, 0.0), (0.8, 0.1, 0.05, 0.02, 0.02, 0.01)):
        assert doubts_about_modes(SimpleNamespace(mode_shares=shares)) == []
    model = BayesianGMMAutoEncoder(2, model_temperature=1.5, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_estimator, "doubts_about_modes", lambda run: [f"{sum(run.mode_shares):.6f}"])
        model = quietly(model.fit, IRIS)
    assert model.sampling_.method == "modes"
    assert model.sampling_.reasons == ("1.000000",)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_five_components_of_irises_are_as_by_allocations_or_suspect(seed):
    own = quietly(BayesianGMMAutoEncoder(5, random_state=seed).fit, IRIS)
    model = BayesianGMMAutoEncoder(5, model_temperature=1.0001, random_state=seed)
    by_modes = quietly(model.fit, IRIS).sampling_
    gap = abs(by_modes.log_evidence - own.log_evidence_)
    joint = np.hypot(by_modes.log_evidence_error, 150 * own.hmaxemax_error_)
    assert by_modes.status == "suspect" or gap < 3 * joint
