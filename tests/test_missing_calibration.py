"""Calibration of sampled mixtures on rows with gaps, by what does not depend on labels.

If models are drawn from the prior and rows from the models, the rank of the truth among draws of
the posterior is uniform, whatever is missing at random: gaps change the posterior of one table, and
nothing on average. Missing entries themselves are inside their intervals as often as these say.
"""

from __future__ import annotations

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _mixture_oracles import MixturePrior, conjugate_energy
from scipy.special import logsumexp
from sklearn.impute import SimpleImputer

from skbae.energies.mixture._completion import ConditionalRows
from skbae.estimators.gmm._fit import as_models
from skbae.estimators.gmm._settings import GaussianMixtureForm
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate

N_DRAWS, N_CHAINS = 39, 40
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
POINT = np.array([[0.5, 0.5]])


def scattered(X, rng):
    """Remove 30% of all entries at random."""
    return np.where(rng.random(X.shape) < 0.3, np.nan, X)


def half_a_column(X, rng):
    """Remove the second column from half of the rows, drawn at random."""
    gappy = X.copy()
    gappy[rng.permutation(len(X))[: len(X) // 2], 1] = np.nan
    return gappy


def nothing(X, rng):
    """Remove nothing."""
    return X


def posterior(prior, X, rng):
    """Return public models drawn by a short run, and the distribution of rows given known ones."""
    rows, size = make_rows(X, None), X.shape[1]
    form = GaussianMixtureForm(prior.n_components, size, prior.kind, prior.equal_weights)
    energy = conjugate_energy(X, prior).of_incomplete_rows()
    with RowRunner(1) as runner:
        starts = energy.draw_prior(N_CHAINS, rng)
        params = sample_conjugate(
            Objective(energy, rows, runner, 1.0), starts, rng, plan=PLAN
        ).params
    given = ConditionalRows(X, energy.bind(params, rows.frame, np.float64), 1.0)
    return as_models(form, params), given


def log_density(X, weights, means, covariances):
    """Return the log density of known entries under S models of two columns, (S, N)."""
    out = np.zeros((len(weights), len(X)))
    for known in ([0, 1], [0], [1]):
        rows = np.flatnonzero((~np.isnan(X) == np.isin([0, 1], known)).all(axis=1))
        deviation = X[rows][:, known] - means[:, :, None, known]
        own = covariances[:, :, known][..., known]
        square = (deviation @ np.linalg.inv(own) * deviation).sum(axis=-1)
        square += np.linalg.slogdet(2 * np.pi * own)[1][..., None]
        out[:, rows] = logsumexp(-0.5 * square, axis=1, b=weights[..., None])
    return out


def statistics_of(X, weights, means, covariances):
    """Return what does not depend on labels, given rows with gaps, of S models, (S, 5)."""
    mean = np.einsum("sk,skd->sd", weights, means)
    spread = means - mean[:, None]
    total = np.einsum("sk,skij->sij", weights, covariances)
    total += np.einsum("sk,ski,skj->sij", weights, spread, spread)
    model = weights, means, covariances
    columns = [
        log_density(X, *model).mean(axis=1),
        log_density(POINT, *model)[:, 0],
        np.linalg.slogdet(total)[1],
        weights.max(axis=1),
        mean[:, 1],
    ]
    return np.column_stack(columns)


def ranks(prior, n_sets, remove, seed, filled=False, n_rows=16):
    """Return ranks of the truth (n_sets, n_statistics) in (0, 1), and shares inside intervals."""
    rng = np.random.default_rng(seed)
    found, inside = [], []
    for _ in range(n_sets):
        weights, means, covariances = prior.draw(rng)
        labels = rng.choice(len(weights), n_rows, p=weights)
        X = np.stack([rng.multivariate_normal(means[k], covariances[k]) for k in labels])
        gappy = remove(X, rng)
        seen = SimpleImputer().fit_transform(gappy) if filled else gappy
        models, given = posterior(prior, seen, rng)
        dense = np.reshape(models.covariances, (N_DRAWS, -1, 2, 2))  # tied or not
        dense = np.broadcast_to(dense, (N_DRAWS, *covariances.shape))
        drawn = statistics_of(gappy, models.weights, models.means, dense)
        truth = statistics_of(gappy, weights[None], means[None], covariances[None])
        found.append((drawn < truth).sum(axis=0))
        gaps = np.isnan(seen)
        if gaps.any():
            lower, upper = given.interval(0.9)
            within = np.clip(X, lower, upper) == X
            inside.append(within[gaps].mean())
    return (np.array(found) + rng.random((n_sets, 1))) / (N_DRAWS + 1), np.array(inside)


PRIORS = {
    "full": MixturePrior("full", 2, [0.0, 1.0], np.eye(2), 2.0, 0.5, 4.0),
    "tied": MixturePrior("tied", 3, [0.0, 1.0], np.eye(2), 2.0, 0.5, 4.0),
}


@pytest.mark.parametrize(
    ("kind", "remove"),
    [("full", scattered), pytest.param("tied", half_a_column, marks=pytest.mark.slow)],
)
def test_ranks_of_the_truth_are_uniform_whatever_is_missing_at_random(kind, remove):
    found, inside = ranks(PRIORS[kind], 60, remove, seed=1)
    assert p_values(found).min() > CRITICAL
    assert abs(inside.mean() - 0.9) < 4 * inside.std() / np.sqrt(len(inside))


@pytest.mark.slow
@pytest.mark.parametrize("remove", [nothing, scattered, half_a_column])
@pytest.mark.parametrize("kind", PRIORS)
def test_ranks_of_the_truth_are_uniform_over_many_tables(kind, remove):
    found, inside = ranks(PRIORS[kind], 500, remove, seed=2)
    assert p_values(found).min() > CRITICAL
    if remove is not nothing:
        assert 0.88 < inside.mean() < 0.92


def test_ranks_of_rows_filled_with_means_are_not_uniform():
    found, _ = ranks(PRIORS["full"], 40, scattered, seed=1, filled=True, n_rows=80)
    assert p_values(found).min() < CRITICAL / 10
