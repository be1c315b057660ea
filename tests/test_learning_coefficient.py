"""Learning coefficients: exact values of regular and singular families, global and local."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.functionals import hmaxe
from skbae.thermodynamics import _learning, _local, _machines, learning_coefficient
from skbae.thermodynamics._machines import MachinePlan


def normal_rows(n_rows, n_features, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rows, n_features))


def line(n_rows, n_features, seed=0):
    """Return rows about a straight line, with isotropic noise."""
    rng = np.random.default_rng(seed)
    along = 1.5 * rng.standard_normal((n_rows, 1)) @ rng.standard_normal((1, n_features))
    return along + 0.5 * rng.standard_normal((n_rows, n_features))


def of_pca(n_features, n_components, rank):
    """Return the coefficient of PCA with d axes on rows with r, derived here.

    Mean and noise are regular: (D + 1) / 2. Loadings W, up to rotations, have W W' = C near a C of
    rank r: the manifold of these, of dimension D r - r (r - 1) / 2, is regular, and W W' grows by
    V V' outside it, with V of D - r rows and d - r columns, about V = 0: the square of V V' is of
    fourth order in all of them, which counts (D - r) (d - r) / 4.
    """
    D, d, r = n_features, n_components, rank
    return (D + 1) / 2 + (D * r - r * (r - 1) / 2) / 2 + (d - r) * (D - r) / 4


def assert_agree(found, exact, bias):
    """Both estimates are within their errors and what N is too small for."""
    assert found.status == "ok"
    assert not found.local
    assert found.method == "variance"
    assert abs(found.value - exact) < 4 * found.error + bias
    assert abs(found.slope - exact) < 4 * found.slope_error + bias
    assert found.error < 0.2
    assert found.slope_error < 0.2


@pytest.mark.parametrize(("kind", "exact"), [("full", 2.5), ("diag", 2.0), ("spherical", 1.5)])
def test_regular_families_have_half_their_parameters(kind, exact):
    """In closed form: what N is too small for is left, and falls like ``log N / N``."""
    model = BayesianGMMAutoEncoder(1, covariance_type=kind)
    found = [learning_coefficient(model, normal_rows(n, 2)) for n in (1000, 100_000)]
    for each, bias in zip(found, (0.06, 0.0012), strict=True):
        assert_agree(each, exact, bias)
        assert each.error == each.slope_error == 0


@pytest.mark.parametrize(("n_components", "bias"), [(1, 0.1), (2, 0.4)])
def test_pca_with_axes_more_than_the_truth(n_components, bias):
    """With a superfluous axis the coefficient is approached slowly, from above."""
    model = BayesianPCAAutoEncoder(n_components, random_state=0)
    found = learning_coefficient(model, line(2000, 5))
    assert_agree(found, of_pca(5, n_components, 1), bias)
    regular = (5 + 1 + 5 * n_components - n_components * (n_components - 1) / 2) / 2
    if n_components == 2:  # less than half the number of parameters, clearly
        assert found.value < regular - 4 * found.error


def two_components():
    """Return two normal components of variance one, with free means and weights."""
    return BayesianGMMAutoEncoder(
        2,
        covariance_type="tied_spherical",
        degrees_of_freedom_prior=1e6,
        covariance_prior=1e6,
        mean_precision_prior=0.1,
        random_state=0,
    )


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return learning_coefficient(*args, **kwargs)


def test_a_superfluous_component_counts_less_than_its_parameters():
    """Exactly 3/4 in the limit (Yamazaki and Watanabe), and 3/2 if it were regular."""
    X, values, errors = normal_rows(1000, 1, seed=1), [], []
    for seed in range(3):  # the error of one fit varies by a factor of five
        found = quietly(two_components().set_params(random_state=seed), X)
        assert found.status != "failed"
        assert abs(found.value - 0.75) < 4 * found.error + 0.15
        assert abs(found.slope - 0.75) < 4 * found.slope_error + 0.15
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(values) + np.linalg.norm(errors) < 1.5  # three standard errors of the mean


@pytest.mark.slow
def test_coefficients_of_a_superfluous_unit_rise_towards_their_limit():
    """3 D / 4 in the limit: D / 2 for the bits, and D / 4 for the weights w of the unit.

    To independent bits a unit adds couplings ``w_i w_j``, whose squares are of fourth order in all
    of the D weights about w = 0, which counts D / 4; where one weight alone is not zero, the
    others count (D - 1) / 2, which is not less for D >= 2. The unit's intercept counts nothing.
    """
    rng = np.random.default_rng(0)
    found = []
    for n_rows in (100, 1000, 10_000):
        bits = (rng.random((n_rows, 3)) < [0.3, 0.5, 0.6]).astype(float)
        found.append(learning_coefficient(BayesianRBMAutoEncoder(1, random_state=0), bits))
    values = np.array([each.value for each in found])
    errors = np.array([each.error for each in found])
    assert np.all(np.diff(values) > -2 * np.hypot(errors[1:], errors[:-1]))
    assert np.all(values < 9 / 4 + 4 * errors)


def test_estimates_that_disagree_are_suspect(monkeypatch):
    model, X = BayesianGMMAutoEncoder(1, random_state=0), normal_rows(200, 1)
    whole = _learning.sample_at

    def altered(*args):
        hot, *others = whole(*args)
        return [replace(hot, internal_energy=hot.internal_energy - 0.1), *others]

    monkeypatch.setattr(_learning, "sample_at", altered)
    with pytest.warns(match="learning_coefficient is suspect: the variance of the energy gives"):
        assert learning_coefficient(model, X).status == "suspect"


# -- local -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "exact"), [("shared", of_pca(4, 1, 1)), ("per_feature", 6.0)])
def test_a_linear_decoder_has_the_local_coefficient_of_pca(noise, exact):
    """With one noise variance it is PCA's; with one for each feature, that of factor analysis."""
    X = line(1500, 4, seed=2)
    network = BayesianVAEAutoEncoder(
        1,
        hidden_layer_sizes=(),
        noise=noise,
        max_iter=100,
        alpha=0.0,
        n_score_samples=64,
        random_state=0,
    ).fit(X)
    pca = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)
    assert hmaxe(network, X)[0] > pca.hmaxe_ - 0.01
    found = quietly(network, X)
    assert found.local
    assert found.method == "local"
    assert np.isnan(found.slope)
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.5


def test_machines_have_local_coefficients():
    """A machine with a unit that the rows need is regular: half its parameters."""
    rng = np.random.default_rng(4)
    common = rng.random((3000, 1)) < 0.5
    X = (rng.random((3000, 4)) < np.where(common, 0.9, 0.2)).astype(float)
    machine = quietly_fitted(BayesianRBMAutoEncoder(1, random_state=0), X)
    found = learning_coefficient(machine, X, local=True, localisation=1e-3)
    assert found.status == "ok"
    assert abs(found.value - 9 / 2) < 4 * found.error + 0.2
    assert found.error < 0.3
    held = learning_coefficient(machine, X, local=True, localisation=1e4)
    assert held.value < 1.0  # chains that cannot move find nothing


def quietly_fitted(model, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X)


def test_machines_of_many_units_are_local_by_default():
    for n_components, local in ((4, False), (17, True)):
        machine = BayesianRBMAutoEncoder(n_components, model_temperature=1.0)
        assert _learning.only_around_best(machine, machine._check_parameters(), 200, 20) is local


def related_bits(n_rows, n_features, seed=0):
    """Return bits that a few causes make alike."""
    rng = np.random.default_rng(seed)
    causes = (rng.random((n_rows, 3)) < 0.5).astype(float)
    fields = (causes - 0.5) @ (1.5 * rng.standard_normal((3, n_features)))
    return (rng.random(fields.shape) < 1 / (1 + np.exp(-fields))).astype(float)


def by_states(monkeypatch, machine, X):
    """Return the local coefficient without a sum over all states, which could be made."""
    with monkeypatch.context() as context:
        context.setattr(_local, "_MOST_UNITS", 0)
        return learning_coefficient(machine, X, local=True)


def test_machines_are_compared_by_states_as_by_sums(monkeypatch):
    X = related_bits(1000, 6)
    machine = quietly_fitted(
        BayesianRBMAutoEncoder(2, early_stopping=False, max_iter=500, random_state=0), X
    )
    exact = learning_coefficient(machine, X, local=True)
    found = by_states(monkeypatch, machine, X)
    assert exact.status == found.status == "ok"
    assert abs(found.value - exact.value) < 4 * np.hypot(found.error, exact.error)
    assert found.error < 0.06 * found.value


def test_the_noise_of_states_is_corrected_for(monkeypatch):
    """With few states chains are heated, which the virial theorem tells; without it, not."""
    X = related_bits(2000, 5, seed=1)
    machine = quietly_fitted(
        BayesianRBMAutoEncoder(2, early_stopping=False, max_iter=500, random_state=0), X
    )
    exact = learning_coefficient(machine, X, local=True)
    few = MachinePlan(n_states=48)
    monkeypatch.setattr(_machines, "MachinePlan", lambda: few)
    monkeypatch.setattr(_machines, "_TRIES", 1)
    monkeypatch.setattr(_machines, "_HEAT", np.inf)
    found = by_states(monkeypatch, machine, X)
    assert abs(found.value - exact.value) < 4 * np.hypot(found.error, exact.error)
    monkeypatch.setattr(_machines.HeldMachines, "virial", lambda *_: 1.0)
    plain = by_states(monkeypatch, machine, X)
    assert plain.value - exact.value > 4 * np.hypot(plain.error, exact.error)
    monkeypatch.setattr(_machines.HeldMachines, "virial", lambda *_: 1.5)
    monkeypatch.setattr(_machines, "_HEAT", 0.25)
    with pytest.warns(match=r"at temperature 1.5 instead of 1"):
        assert by_states(monkeypatch, machine, X).status == "suspect"


def test_machines_of_any_size_have_local_coefficients(monkeypatch):
    """By default, and from chains of a fit that cannot sum over states."""
    X = related_bits(500, 17)
    machine = quietly_fitted(
        BayesianRBMAutoEncoder(17, partition="ais", max_iter=40, random_state=0), X
    )
    short = replace(_machines._CHAINS, n_burn=200, n_steps=300, n_keep=60)
    monkeypatch.setattr(_machines, "MachinePlan", lambda: MachinePlan(short, n_states=256))
    monkeypatch.setattr(_machines, "_TRIES", 1)
    found = quietly(machine, X, localisation=20.0)
    assert found.local
    assert 17 / 2 < found.value < (17 * 17 + 17 + 17) / 2
    assert found.error < 0.2 * found.value
    held = quietly(machine, X, localisation=1e4)
    assert abs(held.value) < 2.0  # chains that cannot move find nothing


@pytest.mark.slow
def test_machines_of_digits_lose_less_for_each_parameter_the_more_units_they_have(monkeypatch):
    """By sums with 12 units, by states with all."""
    X = (load_digits().data[:1400] > 7).astype(float)
    fitted = [
        quietly_fitted(
            BayesianRBMAutoEncoder(
                n, partition=kind, early_stopping=False, max_iter=200, random_state=0
            ),
            X,
        )
        for n, kind in ((4, "exact"), (12, "exact"), (20, "ais"))
    ]
    exact = quietly(fitted[1], X, local=True)
    found = [by_states(monkeypatch, each, X) for each in fitted]
    assert abs(found[1].value - exact.value) < 4 * np.hypot(found[1].error, exact.error)
    sizes = np.array([64 * n + 64 + n for n in (4, 12, 20)])
    shares = np.array([each.value for each in found]) / sizes
    errors = np.array([each.error for each in found]) / sizes
    assert np.all(np.diff(shares) < -4 * np.hypot(errors[1:], errors[:-1]))


def test_refusals_name_what_is_wrong():
    X = normal_rows(50, 2)
    with pytest.raises(TypeError, match="of networks is local"):
        learning_coefficient(BayesianVAEAutoEncoder(1), X, local=False)
    with pytest.raises(ValueError, match="needs tilt=0, got tilt=1"):
        learning_coefficient(BayesianGMMAutoEncoder(1, tilt=1.0), X)
    with pytest.raises(ValueError, match="more than 3 rows, got 2"):
        learning_coefficient(BayesianGMMAutoEncoder(1), X[:2])
    model = BayesianGMMAutoEncoder(1, random_state=0).fit(X)
    with pytest.raises(TypeError, match="set local=False"):
        learning_coefficient(model, X, local=True)
    with pytest.raises(ValueError, match="localisation must be"):
        learning_coefficient(model, X, local=True, localisation=0.0)
