"""The functionals of an energy, against loops over their definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _missing_oracles import marginal_joint, with_gaps
from _rbm_oracles import joint as machine_joint
from scipy import stats

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.functionals import (
    entropy,
    hmax,
    hmax_x,
    hmaxe,
    hmaxemax,
    hmaxminmax,
    hmem,
    hmmm,
    internal_energy,
)

N, M, K = 5, 4, 3
RNG = np.random.default_rng(0)
H = 2.0 * RNG.standard_normal((N, M, K))
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0])
PRIOR = np.log([0.1, 0.4, 0.2, 0.3])
MEASURE = np.log([[1.0, 2.0, 0.5], [0.3, 0.3, 0.3], [1.0, 1.0, 4.0], [2.0, 0.1, 0.1]])
TEMPERATURES = (0.3, 1.0, 2.5)


def loop_hmax(H, T, measure=None):
    out = np.empty(H.shape[:2])
    for x in range(len(H)):
        for m in range(H.shape[1]):
            total = 0.0
            for z in range(H.shape[2]):
                mass = 1.0 if measure is None else np.exp(measure[m, z])
                total += mass * np.exp(H[x, m, z] / T)
            out[x, m] = T * np.log(total)
    return out


def loop_hmaxe(H, T, weights=None, measure=None):
    weights = np.ones(len(H)) if weights is None else weights
    values = loop_hmax(H, T, measure)
    return np.array([sum(weights * values[:, m]) / sum(weights) for m in range(H.shape[1])])


def loop_models(H, T, tau=None, prior=None, weights=None, measure=None):
    """Return Hmaxemax, G and the entropy of p(m)."""
    total = len(H) if weights is None else sum(weights)
    tau = total if tau is None else tau
    energies = loop_hmaxe(H, T, weights, measure)
    prior = np.ones(len(energies)) if prior is None else np.exp(prior)
    masses = [p * np.exp(total / tau * e) for p, e in zip(prior, energies, strict=True)]
    Z = sum(masses)
    p = [mass / Z for mass in masses]
    gained = sum(q * np.log(q / r) for q, r in zip(p, prior, strict=True))
    return tau / total * np.log(Z), sum(q * e for q, e in zip(p, energies, strict=True)), -gained


@pytest.mark.parametrize("T", TEMPERATURES)
def test_hmax_and_hmaxe_are_their_definitions(T):
    np.testing.assert_allclose(hmax(H, T), loop_hmax(H, T), rtol=1e-12)
    np.testing.assert_allclose(hmaxe(H, T), loop_hmaxe(H, T), rtol=1e-12)
    np.testing.assert_allclose(hmaxe(H, T, WEIGHTS), loop_hmaxe(H, T, WEIGHTS), rtol=1e-12)
    np.testing.assert_allclose(
        hmax(H, T, log_code_measure=MEASURE), loop_hmax(H, T, MEASURE), rtol=1e-12
    )
    np.testing.assert_allclose(
        hmax(H, T, log_code_measure=MEASURE[0]),
        loop_hmax(H, T, np.broadcast_to(MEASURE[0], (M, K))),
        rtol=1e-12,
    )


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("tau", [None, 0.7, 1.0, 20.0])
@pytest.mark.parametrize("prior", [None, PRIOR])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_sums_over_models_are_their_definitions(T, tau, prior, weights):
    expected = loop_models(H, T, tau, prior, weights, MEASURE)
    options = {"sample_weight": weights, "log_code_measure": MEASURE}
    computed = [f(H, T, tau, prior, **options) for f in (hmaxemax, internal_energy, entropy)]
    np.testing.assert_allclose(computed, expected, rtol=1e-11, atol=1e-12)


def test_by_default_hmaxemax_is_the_sources_formula():
    expected = np.log(np.sum(np.exp(np.mean(np.log(np.sum(np.exp(H), axis=2)), axis=0))))
    assert hmaxemax(H) == pytest.approx(expected, rel=1e-13)
    G = sum(e * np.exp(e - hmaxemax(H)) for e in hmaxe(H))
    assert internal_energy(H) == pytest.approx(G, rel=1e-12)


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_hmaxminmax_and_hmax_x_are_their_definitions(T, weights):
    v = np.ones(N) if weights is None else weights
    values = loop_hmax(H, T)
    worst = [-T * np.log(sum(v[x] * np.exp(-values[x, m] / T) for x in range(N))) for m in range(M)]
    expected = T * np.log(sum(np.exp(w / T) for w in worst))
    assert hmaxminmax(H, T, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    expected = [
        [T * np.log(sum(v[x] * np.exp(H[x, m, z] / T) for x in range(N))) for z in range(K)]
        for m in range(M)
    ]
    np.testing.assert_allclose(hmax_x(H, T, weights), expected, rtol=1e-12)


def test_at_one_hmaxminmax_is_a_sum_of_harmonic_means():
    harmonic = [1 / sum(1 / sum(np.exp(H[x, m])) for x in range(N)) for m in range(M)]
    assert hmaxminmax(H) == pytest.approx(np.log(sum(harmonic)), rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_maxima_are_their_definitions(weights):
    v = np.ones(N) if weights is None else weights
    best = [
        sum(v[x] * max(H[x, m, z] for z in range(K)) for x in range(N)) / sum(v) for m in range(M)
    ]
    assert hmem(H, weights) == pytest.approx(max(best), rel=1e-13)
    rows = [x for x in range(N) if v[x] > 0]
    worst = [min(max(H[x, m]) for x in rows) for m in range(M)]
    assert hmmm(H, sample_weight=weights) == max(worst)
    allowed = np.array([-np.inf, 0.0, 0.0, -np.inf])
    assert hmem(H, weights, log_prior=allowed) == pytest.approx(max(best[1:3]), rel=1e-13)
    assert hmmm(H, log_prior=allowed) == max(min(max(row) for row in H[:, m]) for m in (1, 2))


@pytest.mark.parametrize("T", [1e-2, 1e-4, 1e-8])
def test_as_temperatures_fall_sums_become_maxima(T):
    # a sum over K terms is above its maximum by T log K at most
    assert hmem(H) <= hmaxemax(H, T, T) <= hmem(H) + T * np.log(K) + T / N * np.log(M)
    assert abs(internal_energy(H, T, T) - hmem(H)) <= 2 * T
    off = T * (np.log(K) + np.log(N) + np.log(M))
    assert abs(hmaxminmax(H, T) - hmmm(H)) <= off
    assert np.all(np.abs(hmax_x(H, T) - H.max(axis=0)) <= T * np.log(N))
    assert np.all(np.abs(hmax(H, T) - H.max(axis=2)) <= T * np.log(K))


def test_at_zero_sums_are_maxima():
    assert hmaxemax(H, 0, 0) == internal_energy(H, 0, 0) == hmem(H)
    assert hmaxminmax(H, 0) == hmmm(H)
    assert entropy(H, 0, 0) == 0
    np.testing.assert_array_equal(hmax_x(H, 0), H.max(axis=0))
    tied = np.zeros((2, 3, 1))
    assert entropy(tied, 1.0, 0) == pytest.approx(np.log(3))
    assert entropy(tied, 1.0, 0, np.log([0.2, 0.3, 0.5])) == pytest.approx(0, abs=1e-15)


EXTREMES = [
    1e6 * H / np.abs(H).max(),
    -1e6 + H,
    1e6 + H,
    np.where(H > 1, -np.inf, H),
    np.full((N, M, K), -1e6),
]


@pytest.mark.parametrize("T", [0.0, 1e-300, 1e-8, 1.0, 1e8])
@pytest.mark.parametrize("energies", EXTREMES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_extreme_energies_and_temperatures_give_finite_values_and_no_warning(T, energies, weights):
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        values = [
            *(f(energies, T, T, sample_weight=weights) for f in (hmaxemax, internal_energy)),
            entropy(energies, T, T, sample_weight=weights),
            entropy(energies, T, sample_weight=weights),
            hmaxemax(energies, T, 1e-8, PRIOR, sample_weight=weights),
            hmaxminmax(energies, T, sample_weight=weights),
            hmem(energies, weights),
            hmmm(energies, sample_weight=weights),
            *hmax(energies, T, log_code_measure=MEASURE).ravel(),
            *hmax_x(energies, T, weights).ravel(),
        ]
    assert np.all(np.isfinite(values))
    # a sum of M terms is their maximum, to within T log of their number
    off = T * np.log(K) + T / 5 * np.log(M)
    assert abs(values[0] - hmem(energies, weights)) <= (1 + 1e-12) * off + 1e-9


def test_what_is_impossible_counts_as_nothing():
    energies = H.copy()
    energies[2, 1] = -np.inf  # a row without any code under one model
    assert hmaxe(energies)[1] == -np.inf
    assert hmaxe(energies, sample_weight=WEIGHTS)[1] > -np.inf  # of weight zero
    without = np.delete(H, 1, axis=1)
    for f in (hmaxemax, internal_energy, entropy):
        assert f(energies) == pytest.approx(f(without), rel=1e-13)
        assert f(H, log_prior=[0, -np.inf, 0, 0]) == pytest.approx(f(without), rel=1e-13)
    assert hmaxminmax(energies) == pytest.approx(hmaxminmax(without), rel=1e-13)
    impossible = np.full((2, 2, 2), -np.inf)
    assert hmaxemax(impossible) == -np.inf
    with pytest.raises(ValueError, match="no model has a finite Hmaxe"):
        internal_energy(impossible)


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("tau", [None, 0.5])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_gradient_of_hmaxemax_is_the_joint_probability(T, tau, weights):
    v = np.ones(N) if weights is None else weights
    total = v.sum()
    energies = loop_hmaxe(H, T, v)
    p_models = np.exp(total / (total if tau is None else tau) * energies)
    p_models /= p_models.sum()
    step = 1e-5
    for x in range(N):
        for m in range(M):
            p_codes = np.exp(H[x, m] / T)
            p_codes /= p_codes.sum()
            for z in range(K):
                up, down = H.copy(), H.copy()
                up[x, m, z] += step
                down[x, m, z] -= step
                slope = (
                    hmaxemax(up, T, tau, sample_weight=weights)
                    - hmaxemax(down, T, tau, sample_weight=weights)
                ) / (2 * step)
                expected = p_models[m] * p_codes[z] * v[x] / total
                assert slope == pytest.approx(expected, abs=1e-9)


def test_quadrature_over_models_gives_an_evidence():
    # rows N(m, 1), m ~ N(0, 4): the log evidence is that of a normal density of all rows at once
    rows = np.array([0.3, -1.0, 2.2])
    grid = np.linspace(-12, 12, 2001)
    energies = stats.norm.logpdf(rows[:, None, None], grid[None, :, None], 1.0)
    prior = stats.norm.logpdf(grid, 0, 2) + np.log(grid[1] - grid[0])
    exact = stats.multivariate_normal(np.zeros(3), np.eye(3) + 4).logpdf(rows)
    assert 3 * hmaxemax(energies, 1.0, 1.0, prior) == pytest.approx(exact, abs=1e-9)
    gained = -entropy(energies, 1.0, 1.0, prior)
    precision = 3 + 1 / 4
    mean, variance = rows.sum() / precision, 1 / precision
    assert gained == pytest.approx(
        0.5 * (variance / 4 + mean**2 / 4 - 1 - np.log(variance / 4)), abs=1e-9
    )


# -- of fitted estimators --------------------------------------------------------------------------

X = np.random.default_rng(1).standard_normal((30, 3)) + np.repeat([[0.0], [4.0]], 15, axis=0)


def joint_of_mixture(model, X):
    models = model.models_
    table = np.empty((len(X), len(models.weights), models.weights.shape[1]))
    for m in range(table.shape[1]):
        for k in range(table.shape[2]):
            density = stats.multivariate_normal(models.means[m, k], models.covariances[m, k])
            table[:, m, k] = np.log(models.weights[m, k]) + density.logpdf(X)
    return table


@pytest.fixture(scope="module")
def sampled():
    return BayesianGMMAutoEncoder(2, n_models=6, random_state=0).fit(X)


@pytest.mark.parametrize("T", [0.0, 0.5, 1.0, 2.0])
def test_an_estimator_stands_for_the_energies_of_its_models(sampled, T):
    table = joint_of_mixture(sampled, X)
    weights = np.linspace(0, 2, len(X))
    for f in (hmax, hmaxe, hmaxemax, internal_energy, entropy, hmaxminmax, hmax_x):
        np.testing.assert_allclose(f(sampled, X, T), f(table, T), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(f(sampled, X, temperature=T), f(table, T), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(hmaxe(sampled, X, T, weights), hmaxe(table, T, weights), rtol=1e-9)
    assert hmem(sampled, X) == pytest.approx(hmem(table), rel=1e-9)
    assert hmmm(sampled, X=X) == pytest.approx(hmmm(table), rel=1e-9)
    prior = np.arange(6.0)
    assert hmaxemax(sampled, X, T, 2.0, prior) == pytest.approx(hmaxemax(table, T, 2.0, prior))


@pytest.mark.parametrize("T", [0.5, 1.0])
def test_energies_of_rows_with_gaps_are_those_of_known_entries(sampled, T):
    gappy, models = with_gaps(X, 0.3), sampled.models_
    table = np.stack(
        [
            marginal_joint(gappy, *each)
            for each in zip(models.weights, models.means, models.covariances, strict=True)
        ],
        axis=1,
    )
    for f in (hmax, hmaxe, hmaxemax, internal_energy, hmaxminmax, hmax_x):
        np.testing.assert_allclose(f(sampled, gappy, T), f(table, T), rtol=1e-9, atol=1e-9)


def test_codes_of_a_machine_are_its_hidden_states():
    bits = (X > 1).astype(float)
    model = BayesianRBMAutoEncoder(4, max_iter=5, n_init=1, random_state=0).fit(bits)
    machine = model.components_, model.intercept_visible_, model.intercept_hidden_
    table = (machine_joint(bits, *machine) - model.log_partition_)[:, None]
    for T in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(hmax(model, bits, T), hmax(table, T), rtol=1e-9)
        np.testing.assert_allclose(hmax_x(model, bits, T), hmax_x(table, T), rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "family",
    [BayesianPCAAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianVAEAutoEncoder],
)
def test_continuous_codes_are_integrated_out(family, temperature):
    settings = {"max_iter": 3} if family is BayesianVAEAutoEncoder else {}
    model = family(1, temperature=temperature, model_temperature=0, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    assert hmaxe(model, X, temperature)[0] == pytest.approx(model.hmaxe_, rel=1e-6)
    with pytest.raises((TypeError, ValueError), match=r"hmax_x|codes"):
        hmax_x(model, X)


# -- refusals --------------------------------------------------------------------------------------


def test_bad_arguments_are_refused_by_name(sampled):
    table = np.zeros((2, 3, 4))
    for call, error, message in [
        (lambda: hmax([[1.0]]), ValueError, r"H must have shape .*\(1, 1\)"),
        (lambda: hmax(np.zeros((2, 0, 1))), ValueError, "none of them 0"),
        (lambda: hmax([[["a"]]]), TypeError, "H must be an array of energies"),
        (lambda: hmax(np.full((1, 1, 1), np.nan)), ValueError, "H must hold .* got NaN"),
        (lambda: hmax(np.full((1, 1, 1), np.inf)), ValueError, "H must hold"),
        (lambda: hmax(table, -1.0), ValueError, "temperature must be .* -1.0"),
        (lambda: hmax(table, "hot"), TypeError, "temperature must be .* 'hot'"),
        (lambda: hmaxemax(table, 1.0, -2.0), ValueError, "model_temperature must be .* -2.0"),
        (lambda: hmaxemax(table, 1.0, np.inf), ValueError, "model_temperature must be .* inf"),
        (lambda: hmaxemax(table, log_prior=[0.0]), ValueError, r"log_prior .*\(3,\), got \(1,\)"),
        (
            lambda: hmaxemax(table, log_prior=[-np.inf] * 3),
            ValueError,
            "log_prior must not be -inf",
        ),
        (lambda: hmaxemax(table, log_prior=[np.nan, 0, 0]), ValueError, "log_prior must hold"),
        (lambda: hmaxemax(table, log_prior="flat"), TypeError, "log_prior must be None or numbers"),
        (
            lambda: hmax(table, log_code_measure=[0.0]),
            ValueError,
            r"\(4,\) or \(3, 4\), got \(1,\)",
        ),
        (lambda: hmaxe(table, 1.0, [1.0]), ValueError, "sample_weight must have shape"),
        (lambda: hmaxe(table, 1.0, [-1.0, 1.0]), ValueError, "sample_weight must not be negative"),
        (lambda: hmax(sampled), TypeError, r"hmax of an estimator needs rows: hmax\("),
        (lambda: hmax(sampled, X[:, :2]), ValueError, "3 features"),
        (lambda: hmax(sampled, X, log_code_measure=[0.0, 0.0]), ValueError, "log_code_measure is"),
        (lambda: hmax(BayesianGMMAutoEncoder(), X), Exception, "not fitted"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_other_estimators_are_refused():
    from sklearn.decomposition import PCA

    with pytest.raises(TypeError, match="a fitted estimator of skbae, got PCA"):
        hmax(PCA().fit(X), X)
