"""Annealing from modes: PCA, whose evidence quadrature and tempering know."""

from __future__ import annotations

import numpy as np
import pytest
from _pca_problems import bayesian_pca, flat_rows, pca_start, quadrature
from _poisson import PoissonComponents
from sklearn.datasets import load_digits, load_iris

from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.energies.pca._charts import PCACharts
from skbae.energies.pca._prior import BayesianPCAEnergy, RowMoments
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._mode_annealing import AnnealPlan, anneal_plan, sample_from_modes
from skbae.inference.sample._mode_search import ModeStarts
from skbae.inference.sample._tempering import SMCPlan, TemperingError, sample_tempered

IRIS, DIGITS = load_iris().data, load_digits().data


def annealed(
    rows,
    n_components,
    temperature=1.0,
    model_temperature=1.0,
    seed=0,
    plan=None,
    kind=BayesianPCAEnergy,
    **more,
):
    energy = bayesian_pca(rows, n_components, kind)
    start = pca_start(energy, temperature)
    size = energy.charts(start, 1.0).centres.shape[1]
    with RowRunner(1) as runner:
        return sample_from_modes(
            Objective(energy, energy.moments.as_one_row(), runner, temperature),
            ModeStarts.independent(start, np.zeros((1, 1), dtype=bool)),
            model_temperature,
            np.random.default_rng(seed),
            plan=anneal_plan(1, size, 50) if plan is None else plan,
            **more,
        )


def evidence(run):
    return combine_evidence(run.log_evidence, run.log_evidence_error)


@pytest.mark.parametrize(
    ("n_rows", "temperature", "model_temperature"),
    [(40, 1, 1), (100, 1, 1), (400, 1, 1), (60, 0.5, 0.5), (100, 2, 2), (200, 1, 3)],
)
def test_evidence_is_within_5_errors_of_quadrature(n_rows, temperature, model_temperature):
    rows = flat_rows(n_rows)
    run = annealed(rows, 1, temperature, model_temperature)
    prior = bayesian_pca(rows, 1).prior
    exact = quadrature(rows, prior, temperature, model_temperature)
    value, error = evidence(run)
    assert error < 0.04
    assert abs(value - exact) < min(5 * error + 0.002, 0.05)
    assert assess(run).status == "ok"


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_evidence_at_unequal_temperatures_is_within_5_errors_of_quadrature(temperature):
    rows = flat_rows(60)
    value, error = evidence(annealed(rows, 1, temperature, 1.0))
    exact = quadrature(rows, bayesian_pca(rows, 1).prior, temperature, 1.0)
    assert error < 0.05
    assert abs(value - exact) < 5 * error + 0.002


def test_internal_energy_is_the_slope_of_the_log_evidence():
    """``d log Z / d (N / tau)`` is the mean of F, which draws must have."""
    rows = flat_rows(60)
    prior, n = bayesian_pca(rows, 1).prior, len(rows)
    step = 0.01
    ends = [quadrature(rows, prior, 1.0, n / (n + sign * step)) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    run = annealed(rows, 1)
    error = run.hmaxe.std() / np.sqrt(assess(run).ess)
    assert error < 0.02
    assert abs(run.hmaxe.mean() - expected) < 5 * error


class WithoutJacobian(BayesianPCAEnergy):
    """The prior of the logarithm of a diagonal, taken for that of the diagonal."""

    def log_prior_at(self, theta):
        value, gradient = super().log_prior_at(theta)
        gradient[:, 0] -= 1
        return value - theta[:, 0], gradient


def test_without_the_jacobian_the_evidence_is_off_by_10_errors():
    rows = flat_rows(60)
    value, error = evidence(annealed(rows, 1, kind=WithoutJacobian))
    exact = quadrature(rows, bayesian_pca(rows, 1).prior, 1.0, 1.0)
    assert abs(value - exact) > 10 * (error + 0.002)


class ChartsWithoutUnits(PCACharts):
    def locate(self, theta):
        blocks, log_priors, shared, rest = super().locate(theta)
        return blocks, log_priors - self._log_volume, shared, rest


class WithoutUnits(BayesianPCAEnergy):
    def charts(self, params, power):
        return ChartsWithoutUnits(self, self.prior, params)


def test_charts_without_units_give_an_evidence_off_by_10_errors():
    rows = flat_rows(60)
    value, error = evidence(annealed(rows, 1, kind=WithoutUnits))
    exact = quadrature(rows, bayesian_pca(rows, 1).prior, 1.0, 1.0)
    assert not abs(value - exact) < 10 * (error + 0.002)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_evidence_of_iris_from_modes_agrees_with_tempering_within_5_errors(n_components):
    """Seeds agree to a twentieth of a nat, and with a sampler that knows no modes."""
    runs = [annealed(IRIS, n_components, seed=seed) for seed in range(4)]
    values, errors = np.array([evidence(run) for run in runs]).T
    assert [assess(run).status for run in runs] == ["ok"] * 4
    assert np.ptp(values) < 0.05
    assert np.ptp(values) < 5 * np.hypot(errors.max(), errors.max())
    energy = bayesian_pca(IRIS, n_components)
    with RowRunner(1) as runner:
        other = sample_tempered(
            Objective(energy, energy.moments.as_one_row(), runner, 1.0),
            1.0,
            np.random.default_rng(0),
            plan=SMCPlan(n_particles=512),
        )
    theirs, error = evidence(other)
    assert error < 0.4
    assert abs(values.mean() - theirs) < 5 * np.hypot(error, errors.max())


@pytest.mark.parametrize("n_components", [5, pytest.param(10, marks=pytest.mark.slow)])
def test_evidence_of_digits_agrees_over_seeds_within_5_errors(n_components):
    """Hundreds of coordinates; seeds agree within their errors, which are far below two nats."""
    runs = [annealed(DIGITS, n_components, seed=seed) for seed in range(2 + (n_components > 5))]
    values, errors = np.array([evidence(run) for run in runs]).T
    assert [assess(run).status for run in runs] == ["ok"] * len(runs)
    assert errors.max() < 0.3
    assert np.ptp(values) < 5 * np.sqrt(2) * errors.max()


@pytest.mark.parametrize("n_components", [2, 3])
def test_evidence_of_isotropic_rows_agrees_with_tempering_within_5_errors(n_components):
    """Isotropic rows: no direction is there to be found, and posteriors are far from normal."""
    rows = np.random.default_rng(8).standard_normal((60, 4))
    run = annealed(rows, n_components)
    energy = bayesian_pca(rows, n_components)
    with RowRunner(1) as runner:
        other = sample_tempered(
            Objective(energy, energy.moments.as_one_row(), runner, 1.0),
            1.0,
            np.random.default_rng(0),
            plan=SMCPlan(n_particles=2048),
        )
    (value, error), (theirs, of_theirs) = evidence(run), evidence(other)
    assert assess(run).status == "ok"
    assert max(error, of_theirs) < 0.1
    assert abs(value - theirs) < 5 * np.hypot(error, of_theirs)


def test_a_hundred_times_the_rows_take_at_most_twice_the_evaluations():
    """Models evaluated, at five thousand rows and at five hundred thousand."""
    counts = []

    class Counting(BayesianPCAEnergy):
        def expectation(self, params, *arguments):
            counts[-1] += params.n_models
            return super().expectation(params, *arguments)

    spread = np.linspace(3, 0.5, 12)
    for n_rows in (5_000, 500_000):
        counts.append(0)
        moments = RowMoments(np.zeros(12), np.eye(12), spread**2, float(n_rows))
        small = bayesian_pca(np.random.default_rng(0).standard_normal((20, 12)) * spread, 3)
        energy = Counting(3, small.prior, moments)
        start = pca_start(energy)
        with RowRunner(1) as runner:
            run = sample_from_modes(
                Objective(energy, moments.as_one_row(), runner, 1.0),
                ModeStarts.independent(start, np.zeros((1, 1), dtype=bool)),
                1.0,
                np.random.default_rng(0),
                plan=AnnealPlan(n_particles=128),
            )
        assert assess(run).status == "ok"
        assert evidence(run)[1] < 0.1
    assert counts[1] <= 2 * counts[0]


def test_a_callback_stops_the_run_and_leaves_the_evidence_nan():
    steps = []

    def stop(step, objective):
        steps.append(step)
        return True

    plan = AnnealPlan(n_particles=64, n_moves=7)
    run = annealed(DIGITS[:, 20:40], 5, plan=plan, on_step=stop)
    assert steps == [1]
    assert run.stopped
    assert np.isnan(run.log_evidence).all()
    assert run.params.n_models == plan.n_keep
    assert np.isfinite(run.params.loadings).all()
    assert assess(run).status != "ok"


def test_zero_model_temperature_too_few_steps_and_missing_charts_raise():
    with pytest.raises(ValueError, match=r"model_temperature must be positive, got 0"):
        annealed(IRIS, 1, model_temperature=0.0)
    with pytest.raises(TemperingError, match="max_steps=0"):
        annealed(IRIS, 1, plan=AnnealPlan(max_steps=0))
    counts = ConjugateMixture(PoissonComponents(2, 2), np.ones(2), False)
    rows = make_rows(IRIS[:, :2], None)
    with RowRunner(1) as runner, pytest.raises(TypeError, match=r"needs a ChartedEnergy.*charts"):
        sample_from_modes(
            Objective(counts, rows, runner, 1.0),
            ModeStarts.independent(None, np.zeros((1, 2), dtype=bool)),
            1.0,
            np.random.default_rng(0),
            plan=AnnealPlan(),
        )
