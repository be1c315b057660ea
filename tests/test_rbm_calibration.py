"""Calibration of sampled Boltzmann machines: ranks of the truth among draws are uniform.

Only of what does not depend on the order of the hidden units. See test_calibration.py for the
method.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _rbm_oracles import hmax, log_partition, states

from skbae.energies.rbm._energy import RBMEnergy, RBMPrior, base_rates
from skbae.energies.rbm._visible import BinaryLayer
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._tempering import SMCPlan, sample_tempered

N_DRAWS = 19
PLAN = SMCPlan(n_islands=2, n_particles=128, n_moves=7, n_keep=N_DRAWS)
N_CODES, N_FEATURES = 2, 4
PRIOR = RBMPrior(2.0, 0.5, 1.0, 1.0)


class WithoutPartition(BinaryLayer):
    """The mistake: as if all machines had the same log Z."""

    def expectations(self, params):
        log_partition, moments = super().expectations(params)
        nothing = {name: 0 * value for name, value in vars(moments).items()}
        return 0 * log_partition, replace(moments, **nothing)


def draw_truth(rng):
    """Return weights and intercepts from the prior, by its definition."""
    weights = np.sqrt(PRIOR.weight_variance) * rng.standard_normal((N_CODES, N_FEATURES))
    scale = np.sqrt(PRIOR.intercept_variance)
    return weights, scale * rng.standard_normal(N_FEATURES), scale * rng.standard_normal(N_CODES)


def draw_rows(machine, n_rows, rng):
    """Return rows of a machine, from the probabilities of all of them."""
    grid = states(N_FEATURES)
    p = np.exp(hmax(grid, 1.0, log_partition(*machine), *machine))
    return grid[rng.choice(len(grid), size=n_rows, p=p / p.sum())]


def statistics_of(X, weights, visible, hidden):
    """Return what does not depend on the order of the hidden units."""
    log_z = log_partition(weights, visible, hidden)
    return [
        hmax(X, 1.0, log_z, weights, visible, hidden).mean(),
        log_z,
        (weights**2).sum(),
        visible[0],
        weights[:, 0] @ weights[:, 1],
    ]


def posterior(X, rng, layer):
    rows = make_rows(X, None)
    energy = RBMEnergy(
        N_CODES, N_FEATURES, layer, base_rates(layer, rows.centre, rows.scale), PRIOR
    )
    with RowRunner(1) as runner:
        run = sample_tempered(Objective(energy, rows, runner, 1.0), 1.0, rng, plan=PLAN)
    return zip(run.params.weights, run.params.visible, run.params.hidden, strict=True)


def ranks(n_sets, seed=0, layer=BinaryLayer, n_rows=15):
    """Return the ranks of the truth among draws, (n_sets, n_statistics), as numbers in (0, 1)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_sets):
        machine = draw_truth(rng)
        X = draw_rows(machine, n_rows, rng)
        truth = np.array(statistics_of(X, *machine))
        draws = np.array([statistics_of(X, *each) for each in posterior(X, rng, layer())])
        found.append((draws < truth).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (N_DRAWS + 1)


def test_ranks_of_the_truth_are_uniform():
    assert p_values(ranks(60)).min() > CRITICAL


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_over_many_data_sets():
    assert p_values(ranks(600, seed=1)).min() > CRITICAL


def test_ranks_without_the_partition_function_are_not_uniform():
    assert p_values(ranks(15, layer=WithoutPartition, n_rows=8)).min() < CRITICAL
