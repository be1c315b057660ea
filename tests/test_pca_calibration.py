"""Calibration of sampled PCA: ranks of the truth among draws of the posterior are uniform.

Only of what does not depend on the orientation of the code: ``W W'``, the noise, the energy. See
test_calibration.py for the method.
"""

from __future__ import annotations

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _oracles import pca_hmax

from skbae.energies.pca._eigenbasis import PCAInEigenbasis
from skbae.energies.pca._prior import BayesianPCAEnergy, PCAModeEnergy, PCAPrior, RowMoments
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner
from skbae.inference.sample._nested import NestedPlan, sample_nested
from skbae.inference.sample._tempering import SMCPlan, sample_tempered

N_DRAWS = 19
PLAN = SMCPlan(n_islands=2, n_particles=128, n_moves=7, n_keep=N_DRAWS)
NESTED = NestedPlan(n_islands=2, n_particles=256, n_keep=N_DRAWS, n_tail=1)
SIZE = 3
PRIOR = PCAPrior(1.5, np.array([0.5, -1.0, 0.0]), 2.0, 3.0, 1.0)


def draw_truth(n_components, rng):
    """Return W, mu, s2 from the prior, by its definition."""
    loadings = np.sqrt(PRIOR.component_variance) * rng.standard_normal((SIZE, n_components))
    mean = PRIOR.mean + np.sqrt(PRIOR.mean_variance) * rng.standard_normal(SIZE)
    return loadings, mean, PRIOR.noise_scale / rng.gamma(PRIOR.noise_shape)


def statistics_of(X, outer, mean, noise):
    """Return what rotations of the code leave alone, given ``W W'``."""
    precision = np.linalg.inv(outer + noise * np.eye(SIZE))
    return [
        np.trace(outer),
        noise,
        pca_hmax(X, mean, precision, noise, 1.0).mean(),
        np.linalg.eigvalsh(outer)[-1],
        outer[0, 1],
        mean[2],
    ]


def posterior(X, n_components, rng, kind):
    """Return ``W W'``, means and noise of draws, from the prior or in the rows' eigenbasis."""
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    moments = RowMoments(
        X.mean(axis=0), vectors[:, ::-1].copy(), np.maximum(values[::-1], 0), float(len(X))
    )
    if kind is PCAInEigenbasis:
        posterior = PCAInEigenbasis(n_components, PRIOR, moments, 1.0, float(len(X)))
        models = sample_nested(posterior, rng, N_DRAWS, make_plan=lambda *_: NESTED).params
    else:
        energy = kind(n_components, PRIOR, moments)
        with RowRunner(1) as runner:
            objective = Objective(energy, moments.as_one_row(), runner, 1.0)
            run = sample_tempered(objective, 1.0, rng, plan=PLAN)
        models = energy.as_pca(run.params)
    squares = 1 / models.precisions - models.noise[:, None]
    weighted = models.components * squares[..., None]
    return np.matmul(np.swapaxes(models.components, 1, 2), weighted), models.means, models.noise


def ranks(n_components, n_sets, seed=0, kind=BayesianPCAEnergy, n_rows=12):
    """Return the ranks of the truth among draws, (n_sets, n_statistics), as numbers in (0, 1)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_sets):
        loadings, mean, noise = draw_truth(n_components, rng)
        codes = rng.standard_normal((n_rows, n_components))
        X = mean + codes @ loadings.T + np.sqrt(noise) * rng.standard_normal((n_rows, SIZE))
        truth = np.array(statistics_of(X, loadings @ loadings.T, mean, noise))
        models = posterior(X, n_components, rng, kind)
        draws = np.array([statistics_of(X, *each) for each in zip(*models, strict=True)])
        found.append((draws < truth).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (N_DRAWS + 1)


SAMPLERS = [BayesianPCAEnergy, PCAInEigenbasis]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_ranks_of_the_truth_are_uniform(kind):
    assert p_values(ranks(2, 60, kind=kind)).min() > CRITICAL


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_ranks_of_the_truth_are_uniform_over_many_data_sets(n_components, kind):
    assert p_values(ranks(n_components, 600, seed=1, kind=kind)).min() > CRITICAL


def test_ranks_are_uniform_where_rows_span_less_than_all():
    """Two rows: directions outside of their span."""
    assert p_values(ranks(1, 120, kind=PCAInEigenbasis, n_rows=2)).min() > CRITICAL


def test_ranks_under_a_prior_without_its_jacobian_are_not_uniform():
    """That of independent normals on the diagonal, as if codes could not be turned."""
    assert p_values(ranks(2, 60, kind=PCAModeEnergy)).min() < CRITICAL
