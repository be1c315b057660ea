"""Components written in few lines: a mixture of Poissons is held to the whole contract.

Everything but ``tests/_poisson.py`` is the package's: passes, maximisation, samplers, evidence.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _oracles import hmax, tilted
from _poisson import PoissonComponents, Rates
from scipy import stats
from scipy.special import gammaln, logsumexp

from skbae._types import ArrayRecord
from skbae.energies._base import SmoothBoundEnergy, require
from skbae.energies._capabilities import GradientEnergy, NoisyEnergy
from skbae.energies.gaussian._mixture import gaussian_mixture
from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import find_mode
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate

K, D = 3, 2
SHAPE, RATE, CONCENTRATION = 1.7, 0.6, 1.3


def poisson_mixture(n_components=K, n_features=D, equal_weights=False, kind=PoissonComponents):
    family = kind(n_components, n_features, SHAPE, RATE)
    return ConjugateMixture(family, np.full(n_components, CONCENTRATION), equal_weights)


def some_models(n_models=2, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(K), n_models)
    return MixtureParameters(weights, Rates(rng.gamma(2.0, 2.0, (n_models, K, D))))


def some_rows(n_rows=60, seed=1):
    rng = np.random.default_rng(seed)
    rates = np.array([[1.0, 6.0], [4.0, 1.0], [9.0, 9.0]])
    return rng.poisson(rates[rng.integers(3, size=n_rows)]).astype(float)


def joint_by_scipy(models, s, X):
    """Return ``log w_k + log Poisson(x; rates_k)``, (N, K)."""
    densities = [stats.poisson(r).logpmf(X).sum(axis=1) for r in models.components.rates[s]]
    return np.log(models.weights[s]) + np.stack(densities, axis=1)


def test_the_page_on_the_architecture_shows_this_source():
    tests = Path(__file__).parent
    source = (tests / "_poisson.py").read_text("utf-8")
    shown = source[source.index("from dataclasses") :].rstrip()
    page = (tests.parent / "docs" / "architecture.md").read_text("utf-8")
    assert f"```python\n{shown}\n```" in page
    assert len(source.splitlines()) < 80


# -- energies ------------------------------------------------------------------------------------


def test_energies_equal_scipy():
    energy, models, X = poisson_mixture(), some_models(), some_rows()
    bound = energy.bind(models, make_rows(X, None).frame, np.float64)
    for s in range(2):
        np.testing.assert_allclose(bound.joint(X)[s].T, joint_by_scipy(models, s, X), rtol=1e-11)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [0.0, 0.7, -0.4])
@pytest.mark.parametrize("chunk", [None, 17])
def test_one_pass_is_the_textbook_step(temperature, tilt, chunk):
    energy, models, X = poisson_mixture(), some_models(), some_rows()
    sample_weight = np.random.default_rng(2).uniform(0.5, 2, len(X))
    rows = make_rows(X, sample_weight)
    kernel = energy.expectation(models, rows.frame, X.dtype, temperature, tilt)
    kernel.chunk_rows = chunk or kernel.chunk_rows
    with RowRunner(2) as runner:
        statistics = runner.reduce(kernel, rows)
    new = energy.maximise(statistics, models, temperature)
    for s in range(2):
        joint = joint_by_scipy(models, s, X)
        values = hmax(joint, temperature)
        np.testing.assert_allclose(statistics.hmaxe[s], np.average(values, weights=sample_weight))
        np.testing.assert_allclose(statistics.objective[s], tilted(values, sample_weight, tilt))
        if temperature == 0:
            codes = np.eye(K)[joint.argmax(axis=1)]
        else:
            codes = np.exp((joint - values[:, None]) / temperature)
        codes *= (sample_weight * np.exp(-tilt * values))[:, None]
        counts = codes.sum(axis=0)
        np.testing.assert_allclose(new.weights[s], counts / counts.sum(), rtol=1e-10)
        alive = counts > 0
        means = codes.T[alive] @ X / counts[alive, None]
        np.testing.assert_allclose(new.components.rates[s, alive], means, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(
            new.components.rates[s, ~alive], models.components.rates[s, ~alive]
        )


def test_interpolation_leads_from_the_model_to_the_full_step():
    energy, models, X = poisson_mixture(), some_models(), some_rows()
    with RowRunner(1) as runner:
        statistics = Objective(energy, make_rows(X, None), runner, 1.0, 0.5).expect(models)
    full = energy.maximise(statistics, models, 1.0)
    for step, target in ((0.0, models), (1.0, full)):
        path = energy.interpolate(models, statistics, np.full(2, step), 1.0)
        found = energy.maximise(path, models, 1.0)
        np.testing.assert_allclose(found.weights, target.weights, rtol=1e-10)
        np.testing.assert_allclose(found.components.rates, target.components.rates, rtol=1e-10)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [-0.5, 0.0, 0.7, 3.0])
def test_the_objective_never_decreases(temperature, tilt):
    energy, X = poisson_mixture(), some_rows()
    with RowRunner(1) as runner:
        objective = Objective(energy, make_rows(X, None), runner, temperature, tilt)
        found = expectation_maximisation(objective, some_models(), tol=0.0, max_iter=30)
    history = np.stack(found.history)
    rounding = len(X) * np.finfo(float).eps * 2 * np.abs(history).max()
    assert np.all(np.diff(history, axis=0) >= -rounding)
    assert np.all(history[-1] > history[0] + 1e-3)


def test_components_without_weight_are_absent():
    energy, X = poisson_mixture(), some_rows()
    models = some_models()
    models.weights[:] = [0.0, 0.5, 0.5]
    with np.errstate(invalid="raise"), RowRunner(1) as runner:
        statistics = Objective(energy, make_rows(X, None), runner, 1.0).expect(models)
    np.testing.assert_array_equal(statistics.counts[:, 0], 0)


class DoubledPoissons(PoissonComponents):
    """The same components, of rows that are counted twice."""

    def features(self, X):
        return 2 * X


def test_families_do_not_share_features():
    X, models = some_rows(), some_models()
    energies = [MixtureEnergy(family(K, D)) for family in (PoissonComponents, DoubledPoissons)]
    rows = make_rows(X, None)
    with RowRunner(1) as runner:  # which keeps the features of short data between passes
        together = [Objective(energy, rows, runner, 1.0).expect(models) for energy in energies]
    for energy, statistics in zip(energies, together, strict=True):
        with RowRunner(1) as runner:
            alone = Objective(energy, rows, runner, 1.0).expect(models)
        np.testing.assert_array_equal(statistics.moments.features, alone.moments.features)


def test_draws_have_the_rates():
    energy, models = poisson_mixture(), some_models(1)
    n = 20_000
    X, labels = energy.draw(models, n, np.random.default_rng(3))
    for k in range(K):
        rates, own = models.components.rates[0, k], X[labels == k]
        error = np.sqrt(rates / len(own))
        assert np.all(np.abs(own.mean(axis=0) - rates) < 5 * error)
    assert energy.n_parameters() == K * D + K - 1


# -- prior, conditionals, evidence ---------------------------------------------------------------


def gamma_log_density(rates, shape, rate):
    """Return the log density over log rates, which are the natural parameters."""
    return (stats.gamma(shape, scale=1 / rate).logpdf(rates) + np.log(rates)).sum(axis=(-2, -1))


def test_the_prior_is_a_gamma():
    energy, models = poisson_mixture(), some_models()
    expected = gamma_log_density(models.components.rates, SHAPE, RATE)
    np.testing.assert_allclose(energy.family.log_prior(models.components), expected, rtol=1e-11)
    of_weights = [stats.dirichlet(np.full(K, CONCENTRATION)).logpdf(w) for w in models.weights]
    np.testing.assert_allclose(energy.log_prior(models), expected + of_weights, rtol=1e-11)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_conditionals_are_gammas_and_their_mode_is_the_map_step(temperature):
    energy, models, X = poisson_mixture(), some_models(), some_rows()
    with RowRunner(1) as runner:
        statistics = Objective(energy, make_rows(X, None), runner, temperature).expect(models)
    conditional = energy.conditional(statistics, temperature)
    counts, sums = statistics.counts / temperature, statistics.moments.features / temperature
    expected = conditional.components.statistics
    np.testing.assert_allclose(expected[..., :-1], SHAPE + sums)
    np.testing.assert_allclose(expected[..., -1], RATE + counts)
    mode = energy.maximise_posterior(statistics, temperature).components.rates
    np.testing.assert_allclose(mode, (SHAPE + sums) / (RATE + counts)[..., None])
    of_models, of_conditionals, _ = energy.family.linear_form(
        conditional.components, models.components
    )
    density = np.einsum("skf,mkf->smk", of_models, of_conditionals)
    shape, rate = SHAPE + sums[0], RATE + counts[0][:, None]
    by_scipy = stats.gamma(shape, scale=1 / rate).logpdf(models.components.rates[0])
    by_scipy = (by_scipy + np.log(models.components.rates[0])).sum(axis=-1)
    np.testing.assert_allclose(density[0, 0], by_scipy, rtol=1e-10)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_the_gradient_vanishes_at_the_mode(temperature, tilt):
    """Of the log prior plus ``N / tau`` times the objective, by finite differences of log rates."""
    energy, X, tau = poisson_mixture(), some_rows(), 1.5
    with RowRunner(1) as runner:
        objective = Objective(energy, make_rows(X, None), runner, temperature, tilt)
        found = find_mode(objective, some_models(), tau, tol=1e-13, max_iter=3000)
        assert found.converged.all()

        def density(shift):
            rates = Rates(found.params.components.rates * np.exp(shift))
            moved = MixtureParameters(found.params.weights, rates)
            return energy.log_prior(moved) + len(X) / tau * objective.expect(moved).objective

        step = 1e-4
        for k, d in np.ndindex(K, D):
            bump = np.zeros((K, D))
            bump[k, d] = step
            slope = (density(bump) - density(-bump)) / (2 * step)
            np.testing.assert_allclose(slope, 0, atol=2e-3)


def enumerated(X, n_components, temperature, equal_weights=False):
    """Return the log evidence as a sum over all allocations, one at a time."""
    heat, terms = 1 / temperature, []
    base = -gammaln(X + 1).sum() * heat
    for allocation in product(range(n_components), repeat=len(X)):
        labels, total = np.array(allocation), base
        counts = heat * np.bincount(labels, minlength=n_components)
        for k in range(n_components):
            events = SHAPE + heat * X[labels == k].sum(axis=0)
            total += (gammaln(events) - events * np.log(RATE + counts[k])).sum()
            total -= X.shape[1] * (gammaln(SHAPE) - SHAPE * np.log(RATE))
        if equal_weights:
            total -= heat * len(X) * np.log(n_components)
        else:
            alpha = CONCENTRATION
            total += gammaln(n_components * alpha) - gammaln(n_components * alpha + heat * len(X))
            total += (gammaln(alpha + counts) - gammaln(alpha)).sum()
        terms.append(total)
    return float(logsumexp(terms))


def allocations(energy, X, n_components):
    """Return the statistics of all allocations, side by side."""
    labels = np.array(list(product(range(n_components), repeat=len(X))))
    codes = np.moveaxis(np.eye(n_components)[labels], 2, 1)  # (S, K, n)
    weights = np.full((len(codes), n_components), 1 / n_components)
    rates = Rates(np.ones((len(codes), n_components, X.shape[1])))
    kernel = energy.sweep(
        MixtureParameters(weights, rates), make_rows(X, None).frame, float, 1.0
    ).kernel
    workspace, sums = kernel.workspace(len(X)), kernel.zero()
    kernel.load(X, workspace)
    kernel.accumulate(sums, codes, None, workspace)
    return codes, *kernel.moments(sums)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("n_components", "n_rows"), [(2, 8), (3, 6)])
def test_marginal_likelihoods_of_allocations_add_up_to_the_evidence(
    temperature, n_components, n_rows
):
    energy, X = poisson_mixture(n_components), some_rows(n_rows)
    _, counts, moments = allocations(energy, X, n_components)
    statistics = _Statistics(counts, moments)
    value = logsumexp(energy.log_joint(statistics, temperature))
    np.testing.assert_allclose(value, enumerated(X, n_components, temperature), rtol=1e-11)


class _Statistics(ArrayRecord):
    def __init__(self, counts, moments):
        self.__dict__.update(counts=counts, moments=moments)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_leaving_one_row_out_equals_the_difference_of_marginals(temperature):
    """The table of a collapsed sweep: every row joins, or leaves, every component."""
    energy, X = poisson_mixture(2), some_rows(5)
    codes, counts, moments = allocations(energy, X, 2)
    family = energy.family
    conditional = family.conditional(counts, moments, temperature)
    marginal = family.log_marginal(counts, moments, temperature)
    labels = codes.argmax(axis=1)  # (S, n)
    table = family.log_joining(conditional, X, temperature, labels)
    anew = family.log_joining(conditional, X, temperature)
    index = {tuple(each): s for s, each in enumerate(labels)}
    for row in range(len(X)):
        for s, each in enumerate(labels):
            old, new, moved = each[row], 1 - each[row], each.copy()
            moved[row] = new
            other = index[tuple(moved)]
            joined = marginal[other, new] - marginal[s, new]
            left = marginal[s, old] - marginal[other, old]
            np.testing.assert_allclose(table[s, new, row], joined, atol=1e-10)
            np.testing.assert_allclose(anew[s, new, row], joined, atol=1e-10)
            np.testing.assert_allclose(table[s, old, row], left, atol=1e-10)


PLAN = GibbsPlan(n_burn=20, n_conditionals=32, n_rounds=1, n_between=5, n_sweeps=200, n_keep=39)


def sampled(energy, X, rng, temperature=1.0, plan=PLAN, n_chains=40):
    with RowRunner(1) as runner:
        objective = Objective(energy, make_rows(X, None), runner, temperature)
        starts = energy.draw_prior(n_chains, rng)
        return sample_conjugate(objective, starts, rng, plan=plan)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("n_components", "n_rows", "equal_weights"), [(2, 10, False), (3, 7, False), (2, 8, True)]
)
def test_evidence_by_enumeration(temperature, n_components, n_rows, equal_weights):
    energy, X = poisson_mixture(n_components, equal_weights=equal_weights), some_rows(n_rows)
    run = sampled(energy, X, np.random.default_rng(4), temperature)
    value, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    exact = enumerated(X, n_components, temperature, equal_weights)
    assert error < 0.05
    assert abs(value - exact) < 5 * error + 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_balance_of_right_scores_is_between_0_2_and_2_5(temperature):
    X = some_rows(30)
    result = assess(sampled(poisson_mixture(2), X, np.random.default_rng(5), temperature))
    assert result.status == "ok"
    # some coordinates, correlated: a mean square far below 5 sigma
    assert 0.2 < result.balance < 2.5


class WithoutTemperature(PoissonComponents):
    def conditional(self, counts, moments, temperature):
        return super().conditional(counts, moments, 1.0)


def test_balance_of_a_conditional_without_temperature_is_not_ok():
    energy = poisson_mixture(2, kind=WithoutTemperature)
    result = assess(sampled(energy, some_rows(30), np.random.default_rng(5), 2.0))
    assert result.status != "ok"
    assert "log posterior gradient is not zero" in " ".join(result.reasons)


CALIBRATION = GibbsPlan(
    n_burn=20, n_conditionals=32, n_rounds=1, n_between=5, n_sweeps=24, max_jumps=4, n_keep=39
)


def ranks(n_sets, kind=PoissonComponents, seed=0):
    """Return the ranks of the truth among draws given rows drawn from it, in (0, 1)."""
    rng, energy, found = np.random.default_rng(seed), poisson_mixture(2, kind=kind), []

    def label_free(models):
        rates, weights = models.components.rates, models.weights[..., None]
        mean = (weights * rates).sum(axis=1)
        spread = (weights * (rates - mean[:, None]) ** 2).sum(axis=1)
        extremes = [models.weights.max(axis=1), rates.max(axis=(1, 2)), rates.min(axis=(1, 2))]
        return np.column_stack([mean, spread, *extremes])

    for _ in range(n_sets):
        truth = energy.draw_prior(1, rng)
        X, _ = energy.draw(truth, 15, rng)
        models = sampled(energy, X, rng, plan=CALIBRATION).params
        found.append((label_free(models) < label_free(truth)).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (CALIBRATION.n_keep + 1)


def test_ranks_of_the_truth_are_uniform():
    assert p_values(ranks(100)).min() > CRITICAL


class WithAnotherPrior(PoissonComponents):
    def conditional(self, counts, moments, temperature):
        found = super().conditional(counts, moments, temperature)
        found.statistics[..., -1] += 1.0
        return found


def test_ranks_under_a_wrong_prior_are_not_uniform():
    assert p_values(ranks(100, WithAnotherPrior)).min() < CRITICAL


# -- what counts do not have ---------------------------------------------------------------------


def test_missing_capabilities_are_named():
    energy, models, X = poisson_mixture(), some_models(), some_rows()
    with pytest.raises(TypeError, match=r"adding noise needs .*PoissonComponents lacks convolve"):
        energy.convolve(models, 0.1)
    bound = energy.bind(models, make_rows(X, None).frame, float)
    with pytest.raises(TypeError, match=r"gradient in x needs .* lacks code_gradient"):
        bound.hmax_gradient(X, 1.0)
    with pytest.raises(TypeError, match=r"HMC needs a GradientEnergy, but .* lacks constrain"):
        require(energy, GradientEnergy, "HMC")


def test_gaussian_mixtures_have_them():
    energy = gaussian_mixture(2, 3)
    assert require(energy, NoisyEnergy, "denoise") is energy
    assert isinstance(energy, MixtureEnergy)
    assert issubclass(type(energy), NoisyEnergy)
    assert SmoothBoundEnergy.__abstractmethods__ >= {"hmax_gradient"}
