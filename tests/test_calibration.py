"""Simulation-based calibration: models drawn from the prior are draws of the posterior too.

If ``m ~ prior`` and ``X ~ p(X | m)``, the rank of any statistic of m among those of draws of
``p(m | X)`` is uniform (Cook, Gelman and Rubin 2006; Talts et al. 2018). At T != 1 rows come from
no density, so there the balance identity is the test.
"""

from __future__ import annotations

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _mixture_oracles import MixturePrior, conjugate_energy
from _oracles import hmax, joint_energies
from scipy import stats

from skbae import BayesianGMMAutoEncoder
from skbae.energies.gaussian import _normal_wishart
from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.estimators.gmm._fit import as_models
from skbae.estimators.gmm._settings import GaussianMixtureForm
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import balance_of
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate

N_DRAWS = 39
# one draw of each chain is kept, so that few sweeps of many chains are enough
PLAN = GibbsPlan(
    n_burn=20,
    n_conditionals=32,
    n_rounds=1,
    n_between=5,
    n_sweeps=24,
    max_jumps=4,
    n_keep=N_DRAWS,
)
N_CHAINS = 40


def statistics_of(X, weights, means, covariances):
    """Return what does not depend on labels."""
    mean = weights @ means
    spread = means - mean
    total = np.einsum("k,kij->ij", weights, covariances) + (weights[:, None] * spread).T @ spread
    return [
        hmax(joint_energies(X, weights, means, covariances), 1.0).mean(),
        np.linalg.slogdet(total)[1],
        weights.max(),
        mean[0],
        np.linalg.slogdet(covariances)[1].sum(),
    ]


def posterior_draws(prior, X, rng, temperature=1.0):
    """Return the public models drawn by a short run, and the run."""
    rows, size = make_rows(X, None), X.shape[1]
    form = GaussianMixtureForm(prior.n_components, size, prior.kind, prior.equal_weights)
    energy = conjugate_energy(X, prior)
    with RowRunner(1) as runner:
        starts = energy.draw_prior(N_CHAINS, rng)
        run = sample_conjugate(Objective(energy, rows, runner, temperature), starts, rng, plan=PLAN)
    return as_models(form, run.params), run


def ranks(prior, n_rows, n_sets, seed=0):
    """Return the ranks of the truth among draws, (n_sets, n_statistics), as numbers in (0, 1)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_sets):
        weights, means, covariances = prior.draw(rng)
        labels = rng.choice(len(weights), n_rows, p=weights)
        X = np.stack([rng.multivariate_normal(means[k], covariances[k]) for k in labels])
        models, _ = posterior_draws(prior, X, rng)
        drawn = []
        for w, m, c in zip(models.weights, models.means, models.covariances, strict=True):
            dense = np.broadcast_to(c, covariances.shape)  # tied or not
            drawn.append(statistics_of(X, w, m, dense))
        truth = statistics_of(X, weights, means, covariances)
        found.append((np.array(drawn) < truth).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (N_DRAWS + 1)


PRIORS = {
    "full-K2-D1": (MixturePrior("full", 2, [0.0], [[1.0]], 2.0, 0.5, 3.0), 20),
    "full-K2-D2": (MixturePrior("full", 2, [0.0, 1.0], np.eye(2), 2.0, 0.5, 4.0), 20),
    # few rows and many means to shrink: where a slip in the shrinkage shows
    "tied-K3-D1": (MixturePrior("tied", 3, [0.0], [[1.0]], 2.0, 0.5, 3.0), 6),
}


@pytest.mark.parametrize("name", ["full-K2-D2", "tied-K3-D1"])
def test_ranks_of_the_truth_are_uniform(name):
    prior, n_rows = PRIORS[name]
    assert p_values(ranks(prior, n_rows, 100)).min() > CRITICAL


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIORS)
def test_ranks_of_the_truth_are_uniform_over_many_data_sets(name):
    prior, n_rows = PRIORS[name]
    assert p_values(ranks(prior, n_rows, 1500, seed=1)).min() > CRITICAL


# -- negative controls ---------------------------------------------------------------------------


def without_shrinkage(monkeypatch):
    """Leave out the term that the distance of means from the prior's adds to the scatter."""

    def broken(shape, prior, n, second, offset, first, strength):
        mean = first / np.where(n > 0, n, 1.0)[..., None]
        within = shape.lift(n) * shape.moment(mean)
        if second.shape[1] == 1:
            within = within.sum(axis=1, keepdims=True)
        return second - within

    assert callable(_normal_wishart._centred_second)
    monkeypatch.setattr(_normal_wishart, "_centred_second", broken)


def without_heat(monkeypatch):
    """Count rows once, whatever T."""
    right = ConjugateMixture.conditional_of
    monkeypatch.setattr(
        ConjugateMixture,
        "conditional_of",
        lambda self, counts, moments, temperature: right(self, counts, moments, 1.0),
    )


def test_calibration_notices_a_missing_shrinkage_term(monkeypatch):
    without_shrinkage(monkeypatch)
    prior, n_rows = PRIORS["tied-K3-D1"]
    assert p_values(ranks(prior, n_rows, 100)).min() < CRITICAL


def balance_where_means_shrink(temperature, evidence_tol=0.2):
    """Return the sampling of a default fit where means are shrunk by as much as two rows would."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    X[15:] += 2
    # a wrong sampler's evidence has large errors, which sampling can't make much smaller than this
    settings = {"mean_precision_prior": 2.0, "evidence_tol": evidence_tol, "random_state": 0}
    return BayesianGMMAutoEncoder(3, temperature=temperature, **settings).fit(X).sampling_


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_balance_is_about_one(temperature):
    sampling = balance_where_means_shrink(temperature)
    assert sampling.status == "ok"
    # K - 1 + K D + K coordinates, positively correlated: a mean square far below 5 sigma
    assert 0.2 < sampling.balance < 2.5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_balance_notices_a_missing_shrinkage_term(monkeypatch):
    without_shrinkage(monkeypatch)
    sampling = balance_where_means_shrink(1.0)
    assert sampling.status != "ok"
    assert "log posterior gradient is not zero" in " ".join(sampling.reasons)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_balance_notices_forgotten_temperatures(monkeypatch):
    without_heat(monkeypatch)
    # as many draws as tell the two apart by more than the 20 standard errors of a failure
    sampling = balance_where_means_shrink(2.0, evidence_tol=0.03)
    assert sampling.status == "failed"
    assert "log posterior gradient is not zero" in " ".join(sampling.reasons)


def quantiles_at_two(n_sets=60):
    """Return the quantiles of precisions drawn at T = 2 under their exact posterior.

    One component: a gamma distribution, in which rows count half.
    """
    rng = np.random.default_rng(0)
    prior = MixturePrior("full", 1, [0.0], [[1.0]], 1.0, 0.5, 3.0)
    found = []
    for _ in range(n_sets):
        X = rng.normal(size=(20, 1))
        models, _ = posterior_draws(prior, X, rng, temperature=2.0)
        n, mean = len(X) / 2, X.mean()
        scale = 1.0 + 0.5 * ((X - mean) ** 2).sum() + 0.5 * n / (0.5 + n) * mean**2
        exact = stats.gamma((3.0 + n) / 2, scale=2 / scale)
        found.extend(exact.cdf(1 / models.covariances[::8].ravel()))
    return np.array(found)[:, None]


def test_draws_at_another_temperature_follow_the_exact_posterior():
    assert p_values(quantiles_at_two()).min() > CRITICAL


def test_a_forgotten_temperature_is_noticed(monkeypatch):
    without_heat(monkeypatch)
    assert p_values(quantiles_at_two()).min() < CRITICAL


def test_balance_of_known_gradients():
    """Independent scores of mean zero give one; a shift of the mean shows in standard errors."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 500, 200))
    square = balance_of(scores) ** 2
    # mean squares of 200 standard normal ratios, with a few per cent from their estimated errors
    assert abs(square - 1) < 5 * np.sqrt(2 / 200) + 0.1
    scores[..., 0] += 0.3
    shifted = balance_of(scores[..., :1])
    assert abs(shifted - 0.3 * np.sqrt(20 * 500)) < 6
    assert np.isnan(balance_of(np.zeros((4, 10, 3))))
