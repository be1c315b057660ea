"""Families of independent columns, and products of them, against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from scipy import stats
from scipy.special import logsumexp

from skbae.energies.components._categories import CategoricalColumns, Categories
from skbae.energies.components._columns import ColumnMeans
from skbae.energies.components._counts import (
    BinomialColumns,
    ExponentialColumns,
    PoissonColumns,
)
from skbae.energies.components._product import Parts, ProductFamily
from skbae.energies.mixture._conjugate import ConjugateMixture, SmoothConjugateMixture
from skbae.energies.mixture._energy import MixtureParameters
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate

K = 2


class Kind:
    """One kind of column: the family, draws of rows, and densities by scipy."""

    def __init__(self, make, rows, density, prior):
        self.make, self.rows, self.density, self.prior = make, rows, density, prior


TRIALS = np.array([3.0, 5.0])


def categorical_density(params, k, j, x):
    block = [slice(0, 2), slice(2, 5)][j]
    return np.log(params.probabilities[0, k, block][int(x)])


def categorical_prior(params):
    total = 0.0
    for k in range(K):
        for block in (slice(0, 2), slice(2, 5)):
            p = params.probabilities[0, k, block]
            # over logarithms of ratios, whose Jacobian is the product of the probabilities
            total += stats.dirichlet(np.full(len(p), 0.7)).logpdf(p) + np.log(p).sum()
    return total


def sum_over(function):
    return lambda params: sum(function(m, j) for row in params.means[0] for j, m in enumerate(row))


def beta_prior(mean, j):
    p = mean / TRIALS[j]
    return stats.beta(1.5, 0.8).logpdf(p) + np.log(p) + np.log1p(-p)


KINDS = {
    "binomial": Kind(
        lambda by_column=True: BinomialColumns(K, 2, TRIALS, 1.5, 0.8, by_column),
        lambda rng, n: rng.binomial(TRIALS.astype(int), 0.4, (n, 2)).astype(float),
        lambda params, k, j, x: stats.binom(
            int(TRIALS[j]), params.means[0, k, j] / TRIALS[j]
        ).logpmf(x),
        sum_over(beta_prior),
    ),
    "poisson": Kind(
        lambda by_column=True: PoissonColumns(K, 2, 1.3, np.array([0.5, 0.2]), by_column),
        lambda rng, n: rng.poisson([2.0, 6.0], (n, 2)).astype(float),
        lambda params, k, j, x: stats.poisson(params.means[0, k, j]).logpmf(x),
        sum_over(lambda m, j: stats.gamma(1.3, scale=1 / [0.5, 0.2][j]).logpdf(m) + np.log(m)),
    ),
    "exponential": Kind(
        # shape 0.9 of the rates' prior, which is less than a row
        lambda by_column=True: ExponentialColumns(K, 2, np.array([2.0, 0.4]), -0.1, by_column),
        lambda rng, n: rng.exponential([2.0, 0.3], (n, 2)),
        lambda params, k, j, x: stats.expon(scale=params.means[0, k, j]).logpdf(x),
        sum_over(lambda m, j: stats.gamma(0.9, scale=1 / [2.0, 0.4][j]).logpdf(1 / m)),
    ),
    "categorical": Kind(
        lambda by_column=True: CategoricalColumns(K, [2, 3], 0.7),
        lambda rng, n: np.column_stack([rng.integers(2, size=n), rng.integers(3, size=n)]) * 1.0,
        categorical_density,
        categorical_prior,
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def mixture_of(kind, concentration=1.2):
    return SmoothConjugateMixture(kind.make(), np.full(K, concentration))


def with_gaps(X, rng, share=0.25):
    X = X.copy()
    X[rng.random(X.shape) < share] = np.nan
    return X


def joint_by_brute_force(kind, models, X):
    joint = np.zeros((len(X), K))
    for i, k in product(range(len(X)), range(K)):
        joint[i, k] = np.log(models.weights[0, k]) + sum(
            kind.density(models.components, k, j, x) for j, x in enumerate(X[i]) if x == x
        )
    return joint


@each_kind
@pytest.mark.parametrize("gaps", [False, True])
def test_energies_are_sums_over_known_entries(kind, gaps):
    rng = np.random.default_rng(0)
    energy, X = mixture_of(kind), kind.rows(rng, 20)
    if gaps:
        X, energy = with_gaps(X, rng), energy.of_incomplete_rows()
    models = energy.draw_prior(1, rng)
    bound = energy.bind(models, make_rows(X, None).frame, np.float64)
    expected = joint_by_brute_force(kind, models, X)
    np.testing.assert_allclose(bound.joint(X)[0].T, expected, rtol=1e-10, atol=1e-10)


@each_kind
def test_families_that_do_not_count_known_entries_have_the_same_energies(kind):
    rng = np.random.default_rng(0)
    plain, counting = kind.make(False), kind.make(True)
    X, models = kind.rows(rng, 10), counting.draw_prior(2, rng)
    frame, logs = make_rows(X, None).frame, np.zeros((2, K))
    found = []
    for family in (plain, counting, plain.of_incomplete_rows()):
        kernel = family.kernel(logs, models, frame, np.float64)
        workspace = kernel.workspace(len(X))
        kernel.load(X, workspace)
        found.append(kernel.energies(workspace)[0].copy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-10, atol=1e-12)


@each_kind
def test_priors_are_those_of_scipy(kind):
    family = kind.make()
    params = family.draw_prior(1, np.random.default_rng(1))
    np.testing.assert_allclose(family.log_prior(params), kind.prior(params), rtol=1e-9)


@each_kind
def test_gradients_are_finite_differences(kind):
    rng = np.random.default_rng(2)
    energy, X = mixture_of(kind).of_incomplete_rows(), with_gaps(kind.rows(rng, 15), rng)
    theta = energy.unconstrain(energy.draw_prior(1, rng)) * 0.5
    again = energy.unconstrain(energy.constrain(theta))
    np.testing.assert_allclose(again[:, K:], theta[:, K:], atol=1e-8)  # (of weights up to a sum)
    rows, step = make_rows(X, None), 1e-5
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 0.7)

        def value(theta):
            return objective.expect(energy.constrain(theta)).objective[0]

        params = energy.constrain(theta)
        statistics = objective.expect(params)
        found = energy.objective_gradient(theta, params, statistics, rows.total, 0.7)[0]
        of_prior = energy.log_prior_at(theta)[1][0]
        for number, direction in enumerate(np.eye(theta.shape[1])):
            up, down = theta + step * direction, theta - step * direction
            slope = (value(up) - value(down)) / (2 * step)
            np.testing.assert_allclose(found[number], slope, atol=1e-7)
            priors = energy.log_prior_at(up)[0] - energy.log_prior_at(down)[0]
            np.testing.assert_allclose(of_prior[number], priors[0] / (2 * step), atol=1e-5)


@each_kind
def test_coordinates_have_the_density_of_the_prior_and_its_jacobian(kind):
    """Differences of log densities at two points: the Jacobian is that of the coordinates."""
    family, rng = kind.make(), np.random.default_rng(3)
    first, second = family.draw_prior(1, rng), family.draw_prior(1, rng)
    at = [family.log_prior_at(family.unconstrain(each))[0][0] for each in (first, second)]
    measures = [
        (family.log_prior(each) + family.log_mode_measure(each))[0] for each in (first, second)
    ]
    np.testing.assert_allclose(at, measures, rtol=1e-8)


@each_kind
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_leave_one_out_is_the_change_of_the_log_joint(kind, temperature):
    rng = np.random.default_rng(4)
    energy, X = mixture_of(kind), with_gaps(kind.rows(rng, 9), rng)
    mixture = energy.of_incomplete_rows().collapse(X, temperature)
    labels = rng.integers(K, size=(1, len(X)))
    visit = mixture.visit(labels)
    np.testing.assert_allclose(visit.log_joint, mixture.log_joint(labels), rtol=1e-12)
    for i in range(len(X)):
        values = []
        for k in range(K):
            moved = labels.copy()
            moved[0, i] = k
            values.append(mixture.log_joint(moved)[0])
        expected = np.array(values) - values[0]
        found = visit.preferences[0, :, i] - visit.preferences[0, 0, i]
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("n_values", [3, 400], ids=["indicators", "looked up"])
def test_columns_with_as_many_values_are_told_apart(n_values):
    # columns 0, 2 and 3 have three values each, of different trials; column 1 has many or two
    rng = np.random.default_rng(6)
    trials = np.array([2.0, 400.0, 7.0, 3.0])
    family = BinomialColumns(K, 4, trials, np.array([0.5, 1.0, 2.0, 1.5]), 0.8)
    X = np.column_stack(
        [
            rng.permutation(np.arange(450) % 3),
            rng.permutation(np.arange(450) % (n_values - 1)),
            rng.choice([0, 3, 7], 450),
            rng.choice([0, 1, 3], 450),
        ]
    ).astype(float)
    mixture = SmoothConjugateMixture(family, np.ones(K)).collapse(X, 1.0)
    labels = rng.integers(K, size=(1, len(X)))
    preferences = mixture.visit(labels).preferences[0]
    for i in range(5):
        moved = np.repeat(labels, K, axis=0)
        moved[:, i] = np.arange(K)
        expected = mixture.log_joint(moved)
        found = preferences[:, i] - preferences[0, i]
        np.testing.assert_allclose(found, expected - expected[0], atol=1e-7)


@each_kind
def test_marginals_are_integrals_over_the_prior(kind):
    """By the mean over draws of the prior; an error of a constant or a factor would show."""
    rng = np.random.default_rng(5)
    family, X = kind.make(), with_gaps(kind.rows(rng, 4), rng)
    collapsed = mixture_of(kind).of_incomplete_rows().collapse(X, 1.0)
    found = collapsed.components.log_marginal(*collapsed.sums(np.zeros((1, len(X)), int)))[0]
    models = family.draw_prior(100_000, rng)
    frame = make_rows(X, None).frame
    kernel = family.of_incomplete_rows().kernel(np.zeros((100_000, K)), models, frame, np.float64)
    workspace = kernel.workspace(len(X))
    kernel.load(X, workspace)
    totals = kernel.energies(workspace)[0][:, 0].sum(axis=1)
    expected = logsumexp(totals) - np.log(len(totals))
    weights = np.exp(totals - totals.max())
    error = weights.std() / weights.mean() / np.sqrt(len(totals))
    assert abs(found - expected) < 4 * error + 1e-9
    assert error < 0.05


@each_kind
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [-0.4, 0.0, 0.7])
def test_the_objective_never_decreases_with_gaps(kind, temperature, tilt):
    rng = np.random.default_rng(6)
    energy, X = mixture_of(kind).of_incomplete_rows(), with_gaps(kind.rows(rng, 40), rng)
    with RowRunner(1) as runner:
        objective = Objective(energy, make_rows(X, None), runner, temperature, tilt)
        found = expectation_maximisation(objective, energy.draw_prior(2, rng), tol=0.0, max_iter=20)
    history = np.stack(found.history)
    rounding = len(X) * np.finfo(float).eps * 2 * np.abs(history).max()
    assert np.all(np.diff(history, axis=0) >= -rounding)
    assert np.all(history[-1] > history[0])


@each_kind
def test_draws_have_the_means_and_variances_of_columns(kind):
    family, rng = kind.make(), np.random.default_rng(7)
    params, n = family.draw_prior(1, rng), 40_000
    X = family.draw(params, np.zeros(n, int), np.ones(n, int), rng)
    means, variances = family.column_means(params)[0, 1], family.column_variances(params)[0, 1]
    np.testing.assert_array_less(np.abs(X.mean(axis=0) - means), 5 * np.sqrt(variances / n) + 1e-12)
    np.testing.assert_allclose(X.var(axis=0), variances, rtol=0.1, atol=1e-3)


# -- products --------------------------------------------------------------------------------------

COLUMNS = {"binomial": [3, 0], "poisson": [1, 6], "categorical": [5, 2], "exponential": [4, 7]}


def product_family():
    families = [KINDS[name].make() for name in COLUMNS]
    return ProductFamily(families, [np.array(own) for own in COLUMNS.values()])


def product_rows(rng, n):
    X = np.empty((n, 8))
    for name, own in COLUMNS.items():
        X[:, own] = KINDS[name].rows(rng, n)
    return X


def test_energies_of_products_are_sums():
    rng = np.random.default_rng(8)
    energy = SmoothConjugateMixture(product_family(), np.ones(K)).of_incomplete_rows()
    X = with_gaps(product_rows(rng, 25), rng)
    models = energy.draw_prior(1, rng)
    joint = energy.bind(models, make_rows(X, None).frame, np.float64).joint(X)[0].T
    expected = np.log(models.weights[0]) * np.ones((len(X), 1))
    for (name, own), part in zip(COLUMNS.items(), models.components.parts, strict=True):
        alone = MixtureParameters(np.ones((1, K)), part)
        expected = expected + joint_by_brute_force(KINDS[name], alone, X[:, own])
    np.testing.assert_allclose(joint, expected, rtol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_collapsed_products_are_products(temperature):
    rng = np.random.default_rng(9)
    energy = SmoothConjugateMixture(product_family(), np.full(K, 0.8)).of_incomplete_rows()
    X = with_gaps(product_rows(rng, 10), rng)
    mixture = energy.collapse(X, temperature)
    labels = rng.integers(K, size=(3, len(X)))
    visit = mixture.visit(labels)
    np.testing.assert_allclose(visit.log_joint, mixture.log_joint(labels), rtol=1e-12)
    for i in range(len(X)):
        moved = labels.copy()
        moved[:, i] = 1 - labels[:, i]
        change = mixture.log_joint(moved) - visit.log_joint
        rows = np.arange(3)
        found = visit.preferences[rows, moved[:, i], i] - visit.preferences[rows, labels[:, i], i]
        np.testing.assert_allclose(found, change, atol=1e-8)
    # the same through moments and conditionals, as Gibbs sweeps see them
    counts, sums = mixture.sums(labels)
    statistics = energy.allocated(counts * temperature, mixture.moments(sums))
    np.testing.assert_allclose(energy.log_joint(statistics, temperature), visit.log_joint)


def test_records_of_parts_can_be_cut_and_joined():
    parts = Parts((ColumnMeans(np.arange(6.0).reshape(3, 2, 1)), Categories(np.ones((3, 2, 2)))))
    taken = parts.take(np.array([2, 0]))
    assert taken.n_models == 2
    np.testing.assert_array_equal(taken.parts[0].means[:, 0, 0], [4, 0])
    joined = Parts.concatenate([taken, parts])
    assert joined.n_models == 5
    back = parts.put(np.array([0]), taken.take(np.array([0])))
    np.testing.assert_array_equal(back.parts[0].means[:, 0, 0], [4, 2, 4])


def test_a_factor_without_a_prior_is_named():
    family = ProductFamily([object.__new__(_Plain)], [np.array([0])])
    with pytest.raises(TypeError, match="_Plain lacks"):
        ConjugateMixture(family, np.ones(K)).draw_prior(1, np.random.default_rng(0))


class _Plain:
    n_components, n_features, exact_moments = K, 1, True


# -- precision -------------------------------------------------------------------------------------


@each_kind
def test_rows_of_single_precision_have_energies_within_the_bound(kind):
    rng = np.random.default_rng(10)
    energy, X = mixture_of(kind), kind.rows(rng, 30)
    models, frame = energy.draw_prior(1, rng), make_rows(X, None).frame
    single = energy.bind(models, frame, np.float32)
    rows = X.astype(np.float32)
    exact = energy.bind(models, frame, np.float64).joint(rows.astype(np.float64))
    assert np.abs(single.joint(rows) - exact).max() < single.rounding.max() + 1e-5


def test_large_counts_are_computed_in_double_precision():
    family = PoissonColumns(K, 1, 1.0, 1.0)
    models = ColumnMeans(np.full((1, K, 1), 1e6))
    X = np.array([[1e6], [1e6 + 1000]])
    for dtype in (np.float32, np.float64):
        kernel = family.kernel(np.zeros((1, K)), models, make_rows(X, None).frame, dtype)
        assert kernel.dtype == np.float64
    few = ColumnMeans(np.full((1, K, 1), 5.0))
    kernel = family.kernel(np.zeros((1, K)), few, make_rows(X, None).frame, np.float32)
    assert kernel.dtype == np.float32


# -- calibration -----------------------------------------------------------------------------------

PLAN = GibbsPlan(
    n_burn=20, n_conditionals=32, n_rounds=1, n_between=5, n_sweeps=24, max_jumps=4, n_keep=39
)


class WithAnotherPrior(ProductFamily):
    """The bits' prior counts a row more in conditionals, of four successes."""

    def conditional(self, counts, moments, temperature):
        found = super().conditional(counts, moments, temperature)
        found.parts[0].statistics[..., :4] += [4.0, 4.0, 1.0, 1.0]
        return found


def ranks(n_sets, kind=ProductFamily, seed=0):
    """Return the ranks of the truth among draws given rows with gaps drawn from it, in (0, 1)."""
    families = [
        BinomialColumns(K, 2, 4.0, 1.5, 0.8),
        PoissonColumns(K, 1, 1.7, 0.6),
        CategoricalColumns(K, [3], 0.9),
    ]
    family = kind(families, [np.array([0, 1]), np.array([2]), np.array([3])])
    energy = ConjugateMixture(family, np.full(K, 1.3)).of_incomplete_rows()
    rng, found = np.random.default_rng(seed), []

    def label_free(models):
        weights = models.weights[..., None]
        bits, rates, categories = models.components.parts
        values = np.concatenate(
            [bits.means, rates.means, categories.probabilities[..., :1]], axis=2
        )
        mean = (weights * values).sum(axis=1)
        return np.column_stack([mean, models.weights.max(axis=1), values.max(axis=1)])

    for _ in range(n_sets):
        truth = energy.draw_prior(1, rng)
        X = with_gaps(energy.draw(truth, 15, rng)[0], rng, 0.2)
        with RowRunner(1) as runner:
            objective = Objective(energy, make_rows(X, None), runner, 1.0)
            starts = energy.draw_prior(40, rng)
            models = sample_conjugate(objective, starts, rng, plan=PLAN).params
        found.append((label_free(models) < label_free(truth)).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (PLAN.n_keep + 1)


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_for_tables_with_gaps():
    assert p_values(ranks(200)).min() > CRITICAL


def test_few_ranks_of_the_truth_are_uniform_for_tables_with_gaps():
    assert p_values(ranks(40)).min() > CRITICAL


@pytest.mark.slow
def test_ranks_under_a_wrong_prior_are_not_uniform():
    assert p_values(ranks(40, WithAnotherPrior)).min() < CRITICAL
