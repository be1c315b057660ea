"""Rows of few values that are packed for repeated passes: same sums, whatever the path."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln

from skbae import BayesianMixtureAutoEncoder
from skbae.energies.components._categories import CategoricalColumns
from skbae.energies.components._columns import ColumnMeans
from skbae.energies.components._counts import BinomialColumns, PoissonColumns
from skbae.energies.components._packed import PackedRows
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.energies.mixture._energy import MixtureParameters, PackedExpectation
from skbae.inference.passes._rows import RowRunner, make_rows

K, D, N = 3, 11, 6100


def log_density(kind, params, X):
    """Return the log density of rows (S, K, n), by loops over columns; NaN drops out."""
    known = ~np.isnan(X)
    if kind == "categories":
        found = np.zeros((*params.probabilities.shape[:2], len(X)))
        for column in range(D):
            logs = np.log(params.probabilities[..., 4 * column : 4 * column + 4])
            values = np.where(known[:, column], X[:, column], 0).astype(int)
            found += np.where(known[:, column], logs[..., values], 0.0)
        return found
    found = 0.0
    for column in range(D):
        x, mean = X[:, column], params.means[..., column, None]
        if kind == "counts":
            own = x * np.log(mean) - mean - gammaln(x + 1)
        else:
            n = 1 if kind == "bits" else 3
            own = x * np.log(mean / n) + (n - x) * np.log1p(-mean / n)
            own = own + gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
        found = found + np.where(known[:, column], own, 0.0)
    return found


def case(kind, gaps, n_models=2, seed=0):
    """Return a family, S components, and rows of them, some of which are equal."""
    rng = np.random.default_rng(seed)
    if kind == "categories":
        family = CategoricalColumns(K, [4] * D, 1.0)
        params = family.draw_prior(n_models, rng)
    else:
        family = {
            "bits": lambda: BinomialColumns(K, D, by_column=gaps),
            "trials": lambda: BinomialColumns(K, D, 3.0, by_column=gaps),
            "counts": lambda: PoissonColumns(K, D, by_column=gaps),
        }[kind]()
        top = {"bits": 0.9, "trials": 2.7, "counts": 3.0}[kind]
        params = ColumnMeans(rng.uniform(0.1 * top, top, (n_models, K, D)))
    labels = rng.integers(K, size=N)
    X = family.draw(params, np.zeros(N, int), labels, rng)
    X[: N // 2] = X[rng.integers(N // 8, size=N // 2)]
    if gaps:
        X[rng.random(X.shape) < 0.1] = np.nan
    return family, params, X


def by_brute_force(kind, weights, params, X, w, temperature, tilt):
    with np.errstate(divide="ignore"):
        joint = np.log(weights)[..., None] + log_density(kind, params, X)
    peak = joint.max(axis=1, keepdims=True)
    codes = np.exp((joint - peak) / temperature)
    hmax = peak[:, 0] + temperature * np.log(codes.sum(axis=1))
    codes /= codes.sum(axis=1, keepdims=True)
    w = np.ones(len(X)) if w is None else w
    rows = np.broadcast_to(w, hmax.shape)
    objective = hmax @ w / w.sum()
    if tilt:
        rows = w * np.exp(-tilt * hmax)
        objective = -np.log(rows.sum(axis=1) / w.sum()) / tilt
        rows = rows * w.sum() / rows.sum(axis=1, keepdims=True)
    codes = codes * rows[:, None]
    known = ~np.isnan(X)
    return objective, codes.sum(axis=2), codes @ np.where(known, X, 0.0), codes @ known


def passes(energy, models, rows, temperature, tilt, n=2, threads=1):
    """Return the statistics of n passes, the kernel that sees the rows last, and these rows."""
    with RowRunner(threads) as runner:
        found = []
        for _ in range(n):
            kernel = energy.expectation(models, rows.frame, np.float64, temperature, tilt)
            found.append(runner.reduce(kernel, rows))
        return found, *kernel.condensed(rows)


@pytest.mark.parametrize("kind", ["bits", "trials", "counts", "categories"])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    ("temperature", "tilt", "weighted"),
    [(1, 0.0, False), (1, 0.0, True), (0.5, 0.0, False), (2, 0.3, True)],
)
def test_packed_rows_give_the_sums_of_the_rows(kind, gaps, temperature, tilt, weighted):
    family, params, X = case(kind, gaps)
    rng = np.random.default_rng(1)
    w = rng.uniform(0.1, 3.0, N) if weighted else None
    weights = rng.dirichlet(np.ones(K), 2)
    weights[1] = [0.4, 0.0, 0.6]  # a component that is absent
    energy = SmoothConjugateMixture(family, np.ones(K))
    models, rows = MixtureParameters(weights, params), make_rows(X, w)
    (_, found), kernel, packed = passes(energy, models, rows, temperature, tilt)
    assert isinstance(kernel, PackedExpectation)
    assert isinstance(packed.X, PackedRows)
    objective, counts, sums, known = by_brute_force(kind, weights, params, X, w, temperature, tilt)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-12)
    np.testing.assert_allclose(found.counts, counts, rtol=1e-9, atol=1e-9)
    features = found.moments.features
    if kind == "categories":
        values = features.reshape(2, K, D, 4)
        np.testing.assert_allclose(values @ np.arange(4.0), sums, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(values.sum(axis=-1), known, rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_allclose(features[..., :D], sums, rtol=1e-9, atol=1e-9)
        if gaps:
            np.testing.assert_allclose(features[..., D:], known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["bits", "counts", "categories"])
def test_both_paths_have_the_same_statistics(kind):
    family, params, X = case(kind, False)
    energy = SmoothConjugateMixture(family, np.ones(K))
    models = MixtureParameters(np.full((2, K), 1 / K), params)
    (first, second), _, _ = passes(energy, models, make_rows(X, None), 1.0, 0.0)
    np.testing.assert_allclose(first.objective, second.objective, rtol=1e-13)
    for name in ("features", "base"):
        own = [getattr(found.moments, name) for found in (first, second)]
        np.testing.assert_allclose(*own, rtol=1e-10, atol=1e-9)


def test_equal_rows_are_one_with_their_weight():
    family, params, X = case("bits", False)
    energy = SmoothConjugateMixture(family, np.ones(K))
    models = MixtureParameters(np.full((2, K), 1 / K), params)
    w = np.random.default_rng(0).uniform(0.5, 2.0, N)
    for weights in (None, w):
        _, _, packed = passes(energy, models, make_rows(X, weights), 1.0, 0.0)
        assert len(packed.X) == len(np.unique(X, axis=0)) < 0.5 * N
        assert np.isclose(packed.weights.sum(), packed.total)


def test_distinct_rows_are_not_sorted():
    rng = np.random.default_rng(0)
    X = rng.integers(4, size=(4000, 20)).astype(float)
    energy = SmoothConjugateMixture(CategoricalColumns(K, [4] * 20, 1.0), np.ones(K))
    rows = make_rows(X, None)
    _, _, packed = passes(energy, energy.draw_prior(1, rng), rows, 1.0, 0.0)
    assert len(packed.X) == len(X)
    assert packed.weights is None


@pytest.mark.parametrize("n_models", [1, 3])
def test_codes_that_underflow_are_computed_by_logarithms(n_models):
    # at this temperature products of the tables are zero for most rows, under all components
    family, params, X = case("categories", True, n_models)
    energy = SmoothConjugateMixture(family, np.ones(K))
    weights = np.full((n_models, K), 1 / K)
    models, rows = MixtureParameters(weights, params), make_rows(X, None)
    (_, found), kernel, packed = passes(energy, models, rows, 0.01, 0.0)
    _, tables, _ = kernel.packed_kernel.models[0]
    each = zip(tables, packed.X.numbers, strict=True)
    product = np.prod([table[numbers] for table, numbers in each], axis=0)
    assert (product == 0).all(axis=1).mean() > 0.3
    objective, counts, *_ = by_brute_force("categories", weights, params, X, None, 0.01, 0.0)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-12)
    np.testing.assert_allclose(found.counts, counts, rtol=1e-8, atol=1e-8)


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(0)
    X = rng.integers(4, size=(60_000, D)).astype(float)
    energy = SmoothConjugateMixture(CategoricalColumns(K, [4] * D, 1.0), np.ones(K))
    models = energy.draw_prior(1, rng)
    one, two = (
        passes(energy, models, make_rows(X, None), 1.0, 0.0, threads=threads) for threads in (1, 2)
    )
    assert len(one[2].X) > 3 * one[1].chunk_rows
    np.testing.assert_array_equal(one[0][1].moments.features, two[0][1].moments.features)
    np.testing.assert_array_equal(one[0][1].objective, two[0][1].objective)


@pytest.mark.parametrize(
    "spoil",
    [0.5, -1.0, 5000.0, np.inf, 1e300],
)
def test_rows_of_other_numbers_are_not_packed(spoil):
    rng = np.random.default_rng(0)
    X = rng.poisson(2.0, (N, D)).astype(float)
    X[17, 3] = spoil
    family = PoissonColumns(K, D, by_column=False)
    params = ColumnMeans(rng.uniform(1.0, 3.0, (1, K, D)))
    with np.errstate(all="ignore"):
        rows = make_rows(X, None)
        kernel = SmoothConjugateMixture(family, np.ones(K)).expectation(
            MixtureParameters(np.full((1, K), 1 / K), params), rows.frame, np.float64, 1.0, 0.0
        )
        for _ in range(3):
            assert kernel.condensed(rows) == (kernel, rows)


def test_what_draws_codes_or_takes_the_best_sees_the_rows_themselves():
    family, params, X = case("bits", False)
    energy = SmoothConjugateMixture(family, np.ones(K))
    models, rows = MixtureParameters(np.full((2, K), 1 / K), params), make_rows(X, None)
    for kernel in (
        energy.sweep(models, rows.frame, np.float64, 1.0),
        energy.expectation(models, rows.frame, np.float64, 0.0, 0.0),
    ):
        for _ in range(3):
            assert kernel.condensed(rows) == (kernel, rows)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fits_are_those_of_rows_that_are_not_packed(dtype):
    # the same rows with a constant column of large counts cannot be packed
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=8000)
    X = rng.binomial(1, np.where(labels[:, None] == 1, 0.8, 0.2), (8000, 9)).astype(dtype)
    table = np.column_stack([X, np.full(8000, 2000.0, dtype)])
    settings = {"model_temperature": 0, "random_state": 0, "tol": 1e-9, "max_iter": 500}
    plain = BayesianMixtureAutoEncoder(2, "bernoulli", **settings).fit(X)
    spoilt = BayesianMixtureAutoEncoder(
        2,
        [("bits", "bernoulli", slice(0, 9)), ("count", "poisson", [9])],
        **settings,
    ).fit(table)
    own = [
        model.parameters_[name]["probabilities"]
        for model, name in ((plain, "bernoulli"), (spoilt, "bits"))
    ]
    own = [each[each[:, 0].argsort()] for each in own]
    np.testing.assert_allclose(*own, atol=1e-6)
