"""Columns of categories whose patterns are looked up, and complete columns that are not copied."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from skbae.energies.components._categories import CategoricalColumns
from skbae.energies.components._columns import ColumnsKernel, EntriesKernel
from skbae.energies.components._counts import BinomialColumns, ExponentialColumns, PoissonColumns
from skbae.energies.components._patterns import PatternKernel, patterns_of
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.inference.passes._rows import RowRunner, make_rows

K = 3
# 4 and 2 categories in turn, one column of many, and one column with one category alone
SIZES = [4, 2, 4, 4, 300, 2, 1, 4, 4, 4]


def categories(rng, n, gaps):
    X = np.column_stack([rng.integers(size, size=n) for size in SIZES]).astype(float)
    if gaps:
        X[rng.random(X.shape) < 0.3] = np.nan
    return X


def by_brute_force(models, X, weights, temperature, tilt):
    """Return Hmax, counts and sums of indicators, computed by loops over models and columns."""
    objective, counts, sums = [], [], []
    weights = np.ones(len(X)) if weights is None else weights
    for mixture, probabilities in zip(models.weights, models.components.probabilities, strict=True):
        joint = np.tile(np.log(mixture), (len(X), 1))
        start, indicators = 0, []
        for column, size in enumerate(SIZES):
            for value in range(size):
                indicators.append(X[:, column] == value)
                joint += indicators[-1][:, None] * np.log(probabilities[:, start + value])
            start += size
        peak = joint.max(axis=1)
        if temperature == 0:
            codes, hmax = np.eye(K)[joint.argmax(axis=1)], peak
        else:
            codes = np.exp((joint - peak[:, None]) / temperature)
            hmax = peak + temperature * np.log(codes.sum(axis=1))
            codes /= codes.sum(axis=1, keepdims=True)
        rows = weights
        objective.append(weights @ hmax / weights.sum())
        if tilt:
            rows = weights * np.exp(-tilt * hmax)
            objective[-1] = -np.log(rows.sum() / weights.sum()) / tilt
            rows = rows * weights.sum() / rows.sum()
        codes = codes * rows[:, None]
        counts.append(codes.sum(axis=0))
        sums.append(codes.T @ np.column_stack(indicators).astype(float))
    return np.array(objective), np.array(counts), np.array(sums)


@pytest.mark.parametrize("temperature", [0, 0.5, 1, 2])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_sums_over_patterns_are_those_over_rows(temperature, gaps, weighted, tilt):
    rng = np.random.default_rng(0)
    X = categories(rng, 3000, gaps)
    weights = rng.uniform(0.1, 3.0, len(X)) if weighted else None
    energy = SmoothConjugateMixture(CategoricalColumns(K, SIZES, 0.7), np.ones(K))
    models, rows = energy.draw_prior(2, rng), make_rows(X, weights)
    kernel = energy.expectation(models, rows.frame, np.float64, temperature, tilt)
    assert isinstance(kernel.kernel, PatternKernel)
    expected = by_brute_force(models, X, weights, temperature, tilt)
    for chunk_rows in (kernel.chunk_rows, 900, 64):  # one, some of them whole; indicators
        kernel.chunk_rows = chunk_rows
        with RowRunner(1) as runner:
            found = runner.reduce(kernel, rows)
        for own, value in zip(
            (found.objective, found.counts, found.moments.features), expected, strict=True
        ):
            np.testing.assert_allclose(own, value, rtol=1e-11, atol=1e-11)
        assert (found.moments.base == 0).all()


def test_chunks_of_few_rows_are_products_with_indicators():
    family = CategoricalColumns(K, SIZES)
    rng = np.random.default_rng(0)
    params = family.match_features(rng.uniform(0.2, 1.0, (1, K, sum(SIZES))))
    kernel = family.kernel(np.zeros((1, K)), params, None, np.float64)
    assert "features" in kernel.workspace(64).arrays
    assert "features" not in kernel.workspace(2000).arrays


def test_a_fit_goes_on_with_other_rows_and_models_in_the_same_workspace():
    family = CategoricalColumns(K, SIZES)
    rng = np.random.default_rng(0)
    workspace = None
    for n, n_models in ((2000, 1), (1500, 1), (2000, 2), (2000, 2)):
        X = categories(rng, n, True)
        params = family.match_features(rng.uniform(0.2, 1.0, (n_models, K, sum(SIZES))))
        logs = rng.standard_normal((n_models, K))
        kernel = family.kernel(logs, params, None, np.float64)
        workspace = kernel.workspace(2000, workspace)
        kernel.load(X, workspace)
        found, _ = kernel.energies(workspace)
        expected = params_energies(family, params, X) + logs[..., None]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def params_energies(family, params, X):
    return np.log(params.probabilities) @ family.features(X).T


@pytest.mark.parametrize("entry", [-1.0, 0.5, 4.0, 260.0, 1e300, np.nan])
def test_entries_that_are_no_category_count_as_missing(entry):
    # the first column has four categories; 260 is 4 in eight bits
    patterns = patterns_of((4, 4, 4, 4))
    X = np.array([[entry, 1.0, 2.0, 3.0], [0.0, 3.0, 3.0, 3.0]])
    numbers = np.empty((2, patterns.n_groups), np.int32)
    patterns.write(X, patterns.limits(2), numbers)
    found = sum(patterns.indicators.toarray()[column] for column in numbers.T)
    np.testing.assert_array_equal(found, CategoricalColumns(1, [4] * 4).features(X))
    assert found[0, :4].sum() == 0


def test_patterns_of_many_categories_are_exact():
    sizes = (3, 70_000, 5, 2)
    patterns = patterns_of(sizes)
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(size, size=50) for size in sizes]).astype(float)
    X[0, 1], X[1, 1] = 69_999, np.nan
    numbers = np.empty((50, patterns.n_groups), np.int32)
    patterns.write(X, patterns.limits(50), numbers)
    found = sum(patterns.indicators[column].toarray() for column in numbers.T)
    np.testing.assert_array_equal(found, CategoricalColumns(1, sizes).features(X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_single_precision_are_looked_up_as_exactly_as_they_are_multiplied(dtype):
    family = CategoricalColumns(K, [4] * 12)
    rng = np.random.default_rng(0)
    X = rng.integers(4, size=(3000, 12)).astype(dtype)
    params = family.match_features(rng.uniform(0.2, 1.0, (1, K, 48)))
    kernel = family.kernel(np.zeros((1, K)), params, None, dtype)
    assert isinstance(kernel, PatternKernel)
    assert kernel.dtype == dtype
    workspace = kernel.workspace(len(X))
    kernel.load(X, workspace)
    error = np.abs(kernel.energies(workspace)[0] - params_energies(family, params, X))
    assert error.max() < kernel.rounding.max()


@pytest.mark.parametrize("n_features", [4, 1100])
@pytest.mark.parametrize(
    "make", [BinomialColumns, ExponentialColumns, PoissonColumns], ids=["bits", "times", "counts"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_entries_give_the_sums_of_features(make, n_features, order):
    rng = np.random.default_rng(0)
    family = make(K, n_features, by_column=False)
    X = np.asarray(rng.integers(2, size=(500, n_features)), np.float64, order=order)
    params = family.match_features(rng.uniform(0.2, 0.8, (2, K, n_features)))
    logs, codes = rng.standard_normal((2, K)), rng.random((2, K, len(X)))
    found = []
    for kind in (family.kernel, lambda logs, params, _, dtype: ColumnsKernel(family, logs, params)):
        kernel = kind(logs, params, None, np.float64)
        workspace = kernel.workspace(len(X))
        kernel.load(X, workspace)
        sums = kernel.zero()
        energies = kernel.energies(workspace)[0].copy()
        kernel.accumulate(sums, codes, None, workspace)
        found.append([energies, *flattened(kernel.moments(sums))])
    assert isinstance(family.kernel(logs, params, None, float), EntriesKernel) == (
        make is not PoissonColumns
    )
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-10)


def flattened(record):
    if is_dataclass(record):
        return [getattr(record, field.name) for field in fields(record)]
    return [
        array for each in record for array in (flattened(each) if is_dataclass(each) else [each])
    ]
