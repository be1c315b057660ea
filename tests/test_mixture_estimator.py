"""BayesianMixtureAutoEncoder: fits, evidence, tables of columns of several kinds, categories."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
from _altered import quick
from scipy import stats
from scipy.special import betaln, gammaln, logsumexp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV

from skbae import BayesianGMMAutoEncoder, BayesianMixtureAutoEncoder
from skbae.components import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    Gaussian,
    Poisson,
)
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)

# The carcinoma data (Landis and Koch 1977; Agresti 2002, table 13.1): ratings of 118 slides by
# seven pathologists, as patterns with the numbers of slides that have them.
PATTERNS = """0000000 34, 0000100 2, 0100000 6, 0100001 1, 0100100 4, 0100101 5, 1000000 2,
1010101 1, 1100000 2, 1100001 1, 1100100 2, 1100101 7, 1100111 1, 1101001 1, 1101101 2, 1101111 3,
1110101 13, 1110111 5, 1111101 10, 1111111 16"""


def carcinoma():
    pairs = [entry.split() for entry in PATTERNS.replace("\n", " ").split(", ")]
    patterns = np.array([[float(bit) for bit in pattern] for pattern, _ in pairs])
    return patterns, np.array([float(count) for _, count in pairs])


def best(n_components, components, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "tol": 0, "max_iter": 500, **settings}
    return BayesianMixtureAutoEncoder(n_components, components, **settings)


def latent_classes(n=500, seed=0):
    """Three classes of ten items."""
    rng = np.random.default_rng(seed)
    chances = np.array([[0.9] * 5 + [0.1] * 5, [0.1] * 5 + [0.9] * 5, [0.85] * 10])
    labels = rng.choice(3, n, p=[0.4, 0.35, 0.25])
    return (rng.random((n, 10)) < chances[labels]).astype(float), labels


# -- fits by brute force ---------------------------------------------------------------------------


def fit_by_loops(X, density, estimate, codes, n_steps):
    """Return weights, components and the log likelihood after steps of textbook EM."""
    for _ in range(n_steps):
        weights = codes.mean(axis=0)
        components = [estimate(X, codes[:, k]) for k in range(codes.shape[1])]
        joint = np.column_stack(
            [np.log(w) + density(X, c) for w, c in zip(weights, components, strict=True)]
        )
        codes = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    return weights, components, logsumexp(joint, axis=1).mean()


def mean_of(X, r):
    return r @ X / r.sum()


def shares_of(X, r):
    return [np.array([r @ (x == c) for c in range(3)]) / r.sum() for x in X.T]


FITS = {
    "bernoulli": (
        lambda rng, z: (rng.random((len(z), 5)) < np.array([0.2, 0.8])[z, None]).astype(float),
        lambda X, p: stats.bernoulli(np.clip(p, 1e-12, 1 - 1e-12)).logpmf(X).sum(axis=1),
        mean_of,
    ),
    "poisson": (
        lambda rng, z: rng.poisson(np.array([2.0, 9.0])[z, None], (len(z), 3)).astype(float),
        lambda X, p: stats.poisson(np.maximum(p, 1e-12)).logpmf(X).sum(axis=1),
        mean_of,
    ),
    "exponential": (
        lambda rng, z: rng.exponential(np.array([1.0, 12.0])[z, None], (len(z), 3)),
        lambda X, p: stats.expon(scale=p).logpdf(X).sum(axis=1),
        mean_of,
    ),
    "categorical": (
        lambda rng, z: (
            (rng.random((len(z), 4, 3)).cumsum(axis=2)[..., :2] < 0.4 + z[:, None, None])
            .sum(axis=2)
            .astype(float)
        ),
        lambda X, p: sum(
            np.log(np.maximum(own, 1e-12))[x.astype(int)] for own, x in zip(p, X.T, strict=True)
        ),
        shares_of,
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_fits_reach_the_maximum_that_loops_reach(name):
    make, density, estimate = FITS[name]
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=150)
    X = make(rng, labels)
    fitted = best(2, name, n_init=3).fit(X)
    weights, components, value = fit_by_loops(
        X, density, estimate, fitted.predict_proba(X), n_steps=1
    )
    # the fit is a fixed point of a textbook step, and no random start leads higher
    np.testing.assert_allclose(fitted.weights_, weights, atol=1e-6)
    np.testing.assert_allclose(fitted.hmaxe_, value, atol=1e-10)
    if name != "categorical":
        np.testing.assert_allclose(fitted.means_, np.stack(components), rtol=1e-5, atol=1e-6)
    for _ in range(2):
        codes = rng.dirichlet([1, 1], len(X))
        assert fit_by_loops(X, density, estimate, codes, 150)[2] < fitted.hmaxe_ + 1e-6


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_products_reach_fixed_points_at_any_temperature(temperature):
    X, _ = mixed_rows(300)
    fitted = best(3, KINDS, temperature=temperature).fit(X)
    bounds = np.array(fitted.lower_bounds_)
    assert np.all(np.diff(bounds) > -1e-9)
    joint = mixed_joint(fitted, X)
    hmax = (
        joint.max(axis=1)
        if temperature == 0
        else (temperature * logsumexp(joint / temperature, axis=1))
    )
    np.testing.assert_allclose(fitted.score_samples(X), hmax, rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), joint.argmax(axis=1))
    if temperature:
        codes = np.exp((joint - hmax[:, None]) / temperature)
        np.testing.assert_allclose(fitted.predict_proba(X), codes, atol=1e-9)


def test_k_modes_is_the_case_of_temperature_zero():
    """Categories that are 0 or 1 with one probability of being the mode: distances are counts."""
    X, labels = latent_classes()
    fitted = best(3, "categorical", temperature=0, equal_weights=True, n_init=5).fit(X)
    assert adjusted_rand_score(labels, fitted.predict(X)) > 0.75
    codes = np.eye(3)[fitted.predict(X)]
    modes = (0.5 * codes.sum(axis=0)[:, None] < codes.T @ X).astype(float)
    np.testing.assert_array_equal(fitted.inverse_transform(np.eye(3)), modes)


# -- the special case of Gaussian components -------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"model_temperature": 0},
        {"model_temperature": 0, "temperature": 0.5, "init_params": "random"},
        {"n_models": 5},
        {"n_models": 5, "model_temperature": 3.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["full", "tied_diag"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_gaussian_components_give_the_numbers_of_gaussian_mixtures(settings, kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2)) * [1, 3] + 5 * rng.integers(2, size=(60, 1))
    gaussian = BayesianGMMAutoEncoder(2, covariance_type=kind, random_state=0, **settings)
    mixture = BayesianMixtureAutoEncoder(2, Gaussian(kind), random_state=0, **settings)
    if "n_models" in settings:
        gaussian, mixture = quick(gaussian), quick(mixture)
    gaussian.fit(X)
    mixture.fit(X)
    assert mixture.hmaxemax_ == gaussian.hmaxemax_
    np.testing.assert_array_equal(mixture.means_, gaussian.means_)
    own = mixture.parameters_["gaussian"]
    np.testing.assert_array_equal(own["covariances"], gaussian.covariances_)
    np.testing.assert_array_equal(mixture.predict_proba(X), gaussian.predict_proba(X))
    np.testing.assert_array_equal(mixture.score_gradient(X), gaussian.score_gradient(X))


# -- weights ---------------------------------------------------------------------------------------


def test_patterns_with_weights_are_the_table_of_slides():
    patterns, counts = carcinoma()
    assert counts.sum() == 118
    slides = np.repeat(patterns, counts.astype(int), axis=0)
    for temperature in (0.0, 1.0):
        settings = {"temperature": temperature, "n_init": 4}
        by_weight = best(2, "bernoulli", **settings).fit(patterns, sample_weight=counts)
        by_rows = best(2, "bernoulli", **settings).fit(slides)
        np.testing.assert_allclose(by_weight.hmaxe_, by_rows.hmaxe_, rtol=1e-12)
        np.testing.assert_allclose(by_weight.means_, by_rows.means_, atol=1e-9)
    assert abs(by_weight.bic(patterns, counts) - by_rows.bic(slides)) < 1e-8


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_carcinoma_has_the_published_maximum_of_three_classes():
    """Three classes have log likelihood -293.705 (poLCA's documentation; Agresti 2002, 13.1.2)."""
    patterns, counts = carcinoma()
    for n, value in ((2, -317.2568), (3, -293.7050)):
        fitted = best(n, "bernoulli", n_init=20, init_params="random", max_iter=2000)
        fitted.fit(patterns, sample_weight=counts)
        assert abs(118 * fitted.hmaxe_ - value) < 1e-3


# -- evidence --------------------------------------------------------------------------------------


def evidence_by_enumeration(X, marginal, n_components, concentration=1.0):
    """Sum over all allocations; `marginal(X)` is the log marginal likelihood of one component."""
    terms = []
    for labels in product(range(n_components), repeat=len(X)):
        labels = np.array(labels)
        counts = np.bincount(labels, minlength=n_components)
        total = concentration * n_components
        value = gammaln(total) - gammaln(total + len(X))
        value += (gammaln(concentration + counts) - gammaln(concentration)).sum()
        terms.append(value + sum(marginal(X[labels == k]) for k in range(n_components)))
    return logsumexp(terms)


def marginal_of_bits(X):
    ones = X.sum(axis=0)
    return (betaln(1.5 + ones, 0.8 + len(X) - ones) - betaln(1.5, 0.8)).sum()


def marginal_of_counts(X):
    value = 0.0
    for x in X.T:
        s, n = 2.0 + x.sum(), 0.5 + len(x)
        value += gammaln(s) - s * np.log(n) - gammaln(2.0) + 2.0 * np.log(0.5)
        value -= gammaln(x + 1).sum()
    return value


def marginal_of_categories(X):
    value = 0.0
    for x in X.T:
        counts = np.array([(x == c).sum() for c in range(3)])
        value += gammaln(3 * 0.6) - gammaln(3 * 0.6 + len(x))
        value += (gammaln(0.6 + counts) - gammaln(0.6)).sum()
    return value


def marginal_of_times(X):
    value = 0.0
    for x in X.T:
        value += gammaln(1.5 + len(x)) - gammaln(1.5) + 1.5 * np.log(2.0)
        value -= (1.5 + len(x)) * np.log(2.0 + x.sum())
    return value


RNG = np.random.default_rng(7)
EVIDENCES = {
    "bits": (Bernoulli(1.5, 0.8), RNG.integers(2, size=(8, 3)) * 1.0, marginal_of_bits),
    "counts": (Poisson(2.0, 0.5), RNG.poisson(4, (8, 2)) * 1.0, marginal_of_counts),
    "categories": (
        Categorical(0.6),
        np.vstack([np.tile([[0.0], [1], [2]], 2), RNG.integers(3, size=(5, 2))]),
        marginal_of_categories,
    ),
    "times": (Exponential(1.5, 2.0), RNG.exponential(2.0, (8, 2)), marginal_of_times),
}


@pytest.mark.parametrize("name", EVIDENCES)
def test_evidences_are_those_of_enumeration(name):
    component, X, marginal = EVIDENCES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted = BayesianMixtureAutoEncoder(2, component, evidence_tol=0.03, random_state=0).fit(X)
    expected = evidence_by_enumeration(X, marginal, 2)
    assert fitted.sampling_.status == "ok"
    assert abs(fitted.log_evidence_ - expected) < max(0.05, 3 * fitted.sampling_.log_evidence_error)


def test_evidence_of_a_product_with_gaps_is_that_of_enumeration():
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.integers(2, size=(7, 2)), rng.poisson(4, 7)]).astype(float)
    X[rng.random(X.shape) < 0.2] = np.nan

    def marginal(own):
        bits = [own[~np.isnan(own[:, j]), j] for j in range(3)]
        value = sum(marginal_of_bits(x[:, None]) for x in bits[:2])
        return value + marginal_of_counts(bits[2][:, None])

    components = [("bits", Bernoulli(1.5, 0.8), [0, 1]), ("counts", Poisson(2.0, 0.5), [2])]
    fitted = BayesianMixtureAutoEncoder(2, components, evidence_tol=0.03, random_state=0).fit(X)
    assert fitted.sampling_.status == "ok"
    assert abs(fitted.log_evidence_ - evidence_by_enumeration(X, marginal, 2)) < 0.07
    # the same with weights, by rows of weight two
    single = BayesianMixtureAutoEncoder(1, components, random_state=0)
    once = clone(single).fit(X, sample_weight=np.full(7, 2.0)).log_evidence_
    assert abs(once - single.fit(np.vstack([X, X])).log_evidence_) < 1e-9
    assert abs(once - marginal(np.vstack([X, X]))) < 1e-9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_temperatures_are_sampled_by_gradients():
    """Against the mean over draws of the prior."""
    component, X, _ = EVIDENCES["bits"]
    settings = {"random_state": 0, "model_temperature": 2.0, "n_models": 20}
    fitted = BayesianMixtureAutoEncoder(2, component, **settings).fit(X)
    rng = np.random.default_rng(0)
    n = 150_000
    p = rng.beta(1.5, 0.8, (n, 2, 3))
    w = rng.dirichlet([1, 1], n)
    total = np.zeros(n)
    for x in X:
        of_k = np.log(np.where(x == 1, p, 1 - p)).sum(axis=2) + np.log(w)
        total += 0.5 * logsumexp(of_k, axis=1)
    expected = logsumexp(total) - np.log(n)
    assert abs(fitted.log_evidence_ - expected) < 0.15
    assert fitted.models_.n_models == 20


def test_superfluous_components_keep_their_prior():
    """Of a component without rows, draws of the probability are those of the prior."""
    X = np.tile([[1.0, 1.0, 0.0]], (30, 1))
    fitted = BayesianMixtureAutoEncoder(
        2, Bernoulli(2.0, 3.0), random_state=0, n_models=400, weight_concentration_prior=0.01
    ).fit(X)
    weights = fitted.models_.weights
    empty = weights.min(axis=1) < 1e-3
    assert empty.mean() > 0.8
    draws = fitted.models_.components.means[np.flatnonzero(empty), weights[empty].argmin(axis=1)]
    assert stats.kstest(draws[:, 0], stats.beta(2.0, 3.0).cdf).pvalue > 0.01


# -- how many classes ------------------------------------------------------------------------------


def test_scorers_find_the_number_of_latent_classes():
    X, labels = latent_classes()
    search = GridSearchCV(
        BayesianMixtureAutoEncoder(
            components="bernoulli", model_temperature=0, n_init=3, random_state=0
        ),
        {"n_components": [1, 2, 3, 4, 5]},
        scoring=hmaxemax_scorer,
        error_score="raise",
    ).fit(X)
    assert search.best_params_ == {"n_components": 3}
    assert adjusted_rand_score(labels, search.best_estimator_.predict(X)) > 0.8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_finds_the_number_of_latent_classes(seed):
    X, _ = latent_classes(seed=seed)
    search = GridSearchCV(
        BayesianMixtureAutoEncoder(components="bernoulli", random_state=0),
        {"n_components": [1, 2, 3, 4]},
        scoring=evidence_scorer,
        cv=InSample(),
        error_score="raise",
    ).fit(X)
    assert search.best_params_ == {"n_components": 3}


# -- tables of several kinds -----------------------------------------------------------------------

KINDS = [
    ("sizes", Gaussian(), [0, 1]),
    ("visits", "poisson", 2),
    ("answers", Categorical(), slice(3, 5)),
]


def mixed_rows(n, seed=0, gaps=0.0):
    """Two Gaussian columns whose covariances tell the classes, a count and two categories."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    slopes = np.array([1.0, -1.0, 0.0])[labels]
    first = rng.standard_normal(n)
    second = 0.95 * slopes * first + 0.3 * rng.standard_normal(n) + 1.5 * (labels == 2)
    visits = rng.poisson(np.array([3.0, 4.0, 6.0])[labels])
    chances = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]])
    answers = [
        (rng.random(n)[:, None] > chances[labels].cumsum(axis=1)).sum(axis=1) for _ in range(2)
    ]
    X = np.column_stack([first, second, visits, *answers]).astype(float)
    X[rng.random(X.shape) < gaps] = np.nan
    return X, labels


def mixed_joint(fitted, X):
    own, joint = fitted.parameters_, np.zeros((len(X), len(fitted.weights_)))
    for k, weight in enumerate(fitted.weights_):
        joint[:, k] = np.log(weight)
        joint[:, k] += stats.multivariate_normal(
            own["sizes"]["means"][k], own["sizes"]["covariances"][k]
        ).logpdf(X[:, :2])
        joint[:, k] += stats.poisson(own["visits"]["rates"][k, 0]).logpmf(X[:, 2])
        for j, chances in enumerate(own["answers"]["probabilities"]):
            joint[:, k] += np.log(chances[k, X[:, 3 + j].astype(int)])
    return joint


def test_tables_with_gaps_are_fitted_imputed_and_conditioned():
    X, labels = mixed_rows(600, gaps=0.2)
    complete, _ = mixed_rows(600)
    fitted = best(3, KINDS, n_init=5).fit(X)
    assert adjusted_rand_score(labels, fitted.predict(X)) > 0.35
    filled = fitted.impute(X)
    gaps = np.isnan(X)
    np.testing.assert_array_equal(filled[~gaps], X[~gaps])
    assert set(np.unique(filled[:, 3:])) == {0, 1, 2}
    # better than by column, in numbers and in categories
    error = (filled - complete)[:, 1][gaps[:, 1]].std()
    assert error < 0.9 * complete[gaps[:, 1], 1].std()
    # a row with all but one entry known, by Bayes' rule
    row = complete[:1].copy()
    row[0, 4] = np.nan
    own = fitted.condition(row)
    joints = []
    for c in range(3):
        alternative = complete[:1].copy()
        alternative[0, 4] = c
        joints.append(logsumexp(mixed_joint(fitted, alternative)[0]))
    expected = np.exp(joints - logsumexp(joints))
    np.testing.assert_allclose(own.probabilities(4, [0, 1, 2])[0], expected, rtol=1e-8)
    value = complete[:1].copy()
    value[0, 4] = 2
    np.testing.assert_allclose(own.log_density(value)[0], np.log(expected[2]), rtol=1e-8)
    np.testing.assert_allclose(own.mean[0, 4], expected @ [0, 1, 2], rtol=1e-8)
    draws = own.sample(4000, random_state=0)[:, 0, 4]
    assert abs(draws.mean() - expected @ [0, 1, 2]) < 0.06
    np.testing.assert_allclose(own.entropy(4000)[0], stats.entropy(expected), atol=0.04)
    cumulative = np.cumsum(expected)
    assert own.quantile(0.3)[0, 4] == np.searchsorted(cumulative, 0.3)


def test_quantiles_are_those_of_the_density():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.exponential(3.0, 80), rng.poisson(5, 80), rng.standard_normal(80)])
    components = [("t", Exponential(), [0]), ("n", Poisson(), [1]), ("x", Gaussian(), [2])]
    fitted = best(2, components).fit(X)
    own = fitted.condition(np.full((1, 3), np.nan))
    draws = own.sample(40_000, random_state=0)[:, 0]
    for probability in (0.1, 0.5, 0.9):
        found = own.quantile(probability)[0]
        assert abs((draws[:, 0] < found[0]).mean() - probability) < 0.01
        assert (draws[:, 1] < found[1]).mean() < probability + 0.01
        assert (draws[:, 1] <= found[1]).mean() > probability - 0.01
        assert abs((draws[:, 2] < found[2]).mean() - probability) < 0.01


def test_codes_decode_to_the_components():
    X, _ = mixed_rows(400)
    fitted = best(3, KINDS).fit(X)
    rows = fitted.decode(np.eye(3))
    np.testing.assert_allclose(rows.mean[:, :3], fitted.means_[:, :3], rtol=1e-9)
    assert np.isnan(fitted.means_[:, 3:]).all()
    log_density = rows.log_density(np.tile(X[:1], (3, 1)))
    np.testing.assert_allclose(
        log_density, (mixed_joint(fitted, X[:1]) - np.log(fitted.weights_))[0]
    )
    reconstruction = fitted.decode(fitted.encode(X))
    np.testing.assert_allclose(
        reconstruction.mean[:, :3], fitted.inverse_transform(fitted.transform(X))[:, :3], rtol=1e-9
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_models_of_tables_with_gaussian_columns_and_gaps_are_sampled():
    X, _ = mixed_rows(60, gaps=0.1)
    fitted = quick(BayesianMixtureAutoEncoder(2, KINDS, n_models=5, random_state=0)).fit(X)
    assert fitted.models_.n_models == 5
    assert np.isfinite(fitted.score_samples(X)).all()
    assert set(fitted.priors_) == {"sizes", "visits", "answers"}


def frame(n=200, seed=0):
    pandas = pytest.importorskip("pandas")
    X, labels = mixed_rows(n, seed)
    colours = np.array(["red", "green", "blue"], dtype=object)
    table = pandas.DataFrame(X[:, :3], columns=["length", "width", "visits"])
    table["colour"] = colours[X[:, 3].astype(int)]
    table["size"] = pandas.Categorical.from_codes(X[:, 4].astype(int), ["s", "m", "l"])
    return table, labels


NAMED = [
    ("sizes", Gaussian(), ["length", "width"]),
    ("visits", Poisson(), "visits"),
    ("answers", Categorical(), slice("colour", "size")),
]


def test_frames_with_strings_and_categories():
    table, _ = frame()
    fitted = best(3, NAMED).fit(table)
    assert list(fitted.categories_[3]) == ["blue", "green", "red"]
    assert list(fitted.categories_[4]) == ["s", "m", "l"]
    # the same as numbers of categories
    X, _ = mixed_rows(200)
    again = best(3, KINDS).fit(np.column_stack([X[:, :3], 2 - X[:, 3], X[:, 4]]))
    np.testing.assert_allclose(fitted.hmaxe_, again.hmaxe_, rtol=1e-12)
    rows, _ = fitted.sample(50, random_state=0)
    assert set(rows[:, 3]) <= {"red", "green", "blue"}
    assert set(fitted.inverse_transform(np.eye(3))[:, 4]) <= {"s", "m", "l"}
    gaps = table.iloc[:10].copy()
    gaps.loc[2, "colour"] = None
    gaps.loc[3, "width"] = np.nan
    filled = fitted.impute(gaps)
    assert filled[2, 3] in {"red", "green", "blue"}
    assert np.isfinite(filled[3, 1])
    assert filled[0, 3] == table["colour"][0]


@pytest.mark.parametrize("components", ["bernoulli", "gaussian", "poisson"])
def test_labels_where_numbers_are_needed_are_refused_by_column_and_component(components):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"size": [1.0, 0.0] * 10, "eats": ["yes", "no"] * 10})
    message = f"column 'eats' of component '{components}' must hold numbers.*Categorical"
    model = best(1, components)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    with pytest.raises(ValueError, match=message.replace("'eats'", "'1'")):
        model.fit(X.to_numpy())
    model.fit(X.assign(eats=[1.0, 1.0, 0.0, 0.0] * 5))
    with pytest.raises(ValueError, match=message):
        model.predict(X)


def test_unknown_categories_are_refused_or_missing():
    table, _ = frame()
    new = table.iloc[:3].copy()
    new.loc[1, "colour"] = "pink"
    fitted = best(2, NAMED).fit(table)
    with pytest.raises(ValueError, match=r"column 'colour' of component 'answers'.*'pink'"):
        fitted.predict(new)
    lenient = [*NAMED[:2], ("answers", Categorical(handle_unknown="ignore"), ["colour", "size"])]
    fitted = best(2, lenient).fit(table)
    gone = table.iloc[:3].copy()
    gone.loc[1, "colour"] = None
    np.testing.assert_array_equal(fitted.predict_proba(new), fitted.predict_proba(gone))
    mixed = table.iloc[:3].astype({"colour": object})
    mixed.loc[1, "colour"] = 3
    with pytest.raises(TypeError, match=r"column 'colour' of component 'answers' must hold cat"):
        fitted.predict(mixed)
    given = Categorical(categories=[["blue", "green", "pink", "red"], ["s", "m", "l"]])
    fitted = best(2, [*NAMED[:2], ("answers", given, ["colour", "size"])]).fit(table)
    assert np.isfinite(fitted.score_samples(new)).all()


def test_components_that_collapse_are_warned_of_by_name():
    rng = np.random.default_rng(0)
    times = np.concatenate([np.zeros(10), rng.exponential(size=40)])
    sizes = np.concatenate([np.full(12, 3.0), rng.standard_normal(38)])
    X = np.column_stack([times, sizes])
    with pytest.warns(ConvergenceWarning, match=r"collapsed onto zeros of column '0' of component"):
        fitted = best(2, "exponential", n_init=3).fit(times[:, None])
    assert fitted.hmaxe_ < 5  # by the floor, and not by the smallest number there is
    components = [("t", Bernoulli(), [0]), ("x", Gaussian(), [1])]
    X[:, 0] = X[:, 0] == 0
    with pytest.warns(ConvergenceWarning, match=r"component 'x': reg_covar dominates"):
        best(3, components, n_init=5).fit(X)


def test_ties_of_gaussian_columns_put_the_evidence_in_doubt():
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((120, 1)) + 6 * rng.integers(2, size=(120, 1))
    X = np.column_stack([groups, rng.random(120) < 0.3])
    mixture = BayesianMixtureAutoEncoder(3, Gaussian("diag"), random_state=0, n_models=5)
    with pytest.warns(ConvergenceWarning, match=r"few distinct values \(1\)"):
        fitted = quick(mixture).fit(X)
    assert fitted.sampling_.status != "ok"
    gaussian = quick(BayesianGMMAutoEncoder(3, covariance_type="diag", random_state=0, n_models=5))
    with pytest.warns(ConvergenceWarning, match=r"few distinct values \(1\)"):
        reasons = gaussian.fit(X).sampling_.reasons
    assert fitted.sampling_.reasons == reasons


def test_negative_tilts_of_gaussian_components_are_those_of_gaussian_mixtures():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2)) + 5 * rng.integers(2, size=(60, 1))
    settings = {"tilt": -0.3, "model_temperature": 0, "random_state": 0}
    assert (
        BayesianMixtureAutoEncoder(2, **settings).fit(X).hmaxe_
        == BayesianGMMAutoEncoder(2, **settings).fit(X).hmaxe_
    )


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ("student", "components must be one of 'gaussian'.*got 'student'"),
        (3, "components must be a name, a component"),
        ([("a", "poisson")], r"list of \(name, component, columns\)"),
        ([("a", "poisson", [0]), ("a", "poisson", [1])], "must differ, got 'a' twice"),
        ([("noise", "poisson", [0])], "the name 'noise' is that of the parameter"),
        ([("a", "poisson", [0])], "columns of X belong to no component: '1'"),
        ([("a", "poisson", [0, 1]), ("b", "poisson", 1)], "column '1' belongs to component 'a'"),
        ([("a", "poisson", [0, 7])], "component 'a' is for column 7, and X has 2 columns"),
        ([("a", "poisson", ["x", "y"])], "given by name"),
        (Bernoulli(alpha=0.0), "alpha of component 'bernoulli' must be a finite number > 0"),
        (Binomial(0), "n of component 'binomial' must be an integer >= 1"),
        (Binomial(2), r"column '0' of component 'binomial'.*from 0 to n=2, or NaN, got 3"),
        (Poisson(rate=-1), "rate of component 'poisson'"),
        ("bernoulli", r"column '0' of component 'bernoulli'.*must hold 0, 1 or NaN, got 3.0"),
        ("poisson", r"column '1' of component 'poisson'.*whole numbers.*got 0.5"),
        (Categorical(handle_unknown="no"), "handle_unknown of component 'categorical'"),
        (Gaussian("round"), "covariance_type of component 'gaussian' must be one of 'full'"),
        (Gaussian(mean_prior=[1.0]), "component 'gaussian': mean_prior must have shape"),
    ],
    ids=str,
)
def test_errors_name_column_and_component(components, message):
    X = np.array([[3.0, 0.5], [1.0, 2.0], [0.0, 1.0]])
    with pytest.raises((TypeError, ValueError), match=message):
        best(2, components).fit(X)


def test_rows_after_the_fit_are_checked_too():
    X, _ = mixed_rows(100)
    fitted = best(2, KINDS).fit(X)
    X[3, 2] = -1
    with pytest.raises(ValueError, match=r"column '2' of component 'visits'.*got -1"):
        fitted.predict(X)


def test_columns_without_a_density_are_refused_by_name_while_sampling():
    X, _ = mixed_rows(50)
    X[:, 1] = 4.0
    with pytest.raises(ValueError, match=r"column '1' of component 'sizes' is constant"):
        BayesianMixtureAutoEncoder(2, KINDS).fit(X)


def test_gradients_need_gaussian_columns():
    X, _ = mixed_rows(50)
    with pytest.raises(TypeError, match="components 'visits' \\(Poisson\\), 'answers'"):
        best(2, KINDS).fit(X).score_gradient(X)


def test_squared_errors_of_categories_are_refused():
    X, _ = mixed_rows(50)
    with pytest.raises(ValueError, match="column '3' of component 'answers' holds categories"):
        reconstruction_scorer(best(2, KINDS).fit(X), X)
    bits, _ = latent_classes(100)
    assert -0.25 < reconstruction_scorer(best(3, "bernoulli").fit(bits), bits) < 0


def test_searches_reach_the_parameters_of_a_component():
    X, _ = latent_classes(100)
    search = GridSearchCV(
        best(2, Bernoulli()), {"components__alpha": [0.5, 2.0]}, scoring=hmaxemax_scorer, cv=2
    ).fit(X)
    assert search.best_params_["components__alpha"] in (0.5, 2.0)
    warm = best(2, "bernoulli", warm_start=True).fit(X)
    value = warm.hmaxe_
    assert warm.fit(X).hmaxe_ >= value - 1e-12
    with pytest.raises(ValueError, match="needs the n_components"):
        warm.set_params(components="poisson").fit(X)


def test_batches_are_learned_from():
    X, _ = latent_classes(1000)
    fitted = best(3, "bernoulli", n_init=5)
    for part in np.split(X, 10):
        fitted.partial_fit(part)
    assert fitted.n_samples_seen_ == 1000
    assert fitted.score(X) > best(3, "bernoulli", n_init=5).fit(X).score(X) - 0.03


def test_components_can_be_reordered():
    X, _ = mixed_rows(200)
    fitted = best(3, KINDS).fit(X)
    before, rates = fitted.predict_proba(X), fitted.parameters_["visits"]["rates"]
    fitted.reorder_components([2, 0, 1])
    np.testing.assert_allclose(fitted.predict_proba(X), before[:, [2, 0, 1]], atol=1e-12)
    np.testing.assert_array_equal(fitted.parameters_["visits"]["rates"], rates[[2, 0, 1]])
    np.testing.assert_allclose(fitted.inverse_transform(np.eye(3))[:, 2], rates[[2, 0, 1], 0])
