"""How long Gibbs chains are followed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from _mixture_oracles import conjugate_energy, enumerated_log_joints
from _samplers import make_prior, make_problem
from scipy.special import logsumexp

from skbae._types import ArrayRecord
from skbae.inference._objective import Objective
from skbae.inference.evidence._convergence import effective_sample_size, rhat
from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.evidence._verdict import RHAT_LIMIT
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsMoves, GibbsPlan, GibbsState, sample_conjugate


def run(n_sweeps, seed, max_lengths=4, on_step=None, **changes):
    """Sample three overlapping components; so few sweeps do not always bring chains together."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(m, 1.0, 20) for m in (0.0, 2.0, 4.0)])[:, None]
    energy = make_problem("full", 3, 1).energy()
    lengths = {"n_sweeps": n_sweeps, "max_lengths": max_lengths, **changes}
    plan = GibbsPlan(n_burn=10, n_rounds=1, n_between=2, max_remakes=0, n_keep=16, **lengths)
    with RowRunner(1) as runner:
        found = sample_conjugate(
            Objective(energy, make_rows(X, None), runner, 1.0), energy.draw_prior(16, rng), rng,
            plan=plan, on_step=on_step,
        )  # fmt: skip
    return found, plan


@pytest.mark.parametrize("n_sweeps", [10, 200])
def test_sweeps_are_repeated_while_rhat_is_above_its_limit(n_sweeps):
    lengths, disagreed = [], []
    for seed in range(5):
        once, _ = run(n_sweeps, seed, max_lengths=1)
        found, plan = run(n_sweeps, seed)
        assert found.n_sweeps <= plan.n_steps
        n_once, n_draws = once.hmaxe.shape[1], found.hmaxe.shape[1]
        # the same chains, and as far as it takes
        np.testing.assert_array_equal(found.hmaxe[:, :n_once], once.hmaxe)
        assert n_draws % n_once == 0
        length = n_draws // n_once
        for shorter in range(1, length):
            assert rhat(found.hmaxe[:, : shorter * n_once]) > RHAT_LIMIT
        assert length == plan.max_lengths or rhat(found.hmaxe) <= RHAT_LIMIT
        assert found.params.n_models == plan.n_keep
        lengths.append(length)
        disagreed.append(rhat(once.hmaxe) > RHAT_LIMIT)
    assert any(disagreed) == (n_sweeps == 10) == any(length > 1 for length in lengths)


def test_sweeps_are_repeated_more_often_while_chains_disagree():
    went_on = 0
    for seed in range(5):
        short, _ = run(10, seed, max_lengths=2)
        found, _ = run(10, seed, max_lengths=2, max_apart=12)
        apart = rhat(short.hmaxe) > RHAT_LIMIT
        length = found.hmaxe.shape[1] // run(10, seed, max_lengths=1)[0].hmaxe.shape[1]
        assert (length > 2) == apart
        assert length == 12 or rhat(found.hmaxe) <= RHAT_LIMIT
        went_on += apart
    assert went_on


def test_sweeps_are_repeated_until_enough_draws_are_effective():
    lengths = {"max_lengths": 6, "min_lengths": 6}
    every, _ = run(100, 0, **lengths)
    few = effective_sample_size(run(100, 0, max_lengths=1)[0].hmaxe)
    asked = 2.5 * few
    enough, _ = run(100, 0, n_effective=asked, **lengths)
    assert asked <= effective_sample_size(enough.hmaxe) < effective_sample_size(every.hmaxe)
    assert enough.hmaxe.shape[1] < every.hmaxe.shape[1]


def test_a_callback_also_stops_repeated_sweeps():
    pairs = ((run(10, seed, max_lengths=1)[0], run(10, seed)[0], seed) for seed in range(20))
    once, seed = next((a, seed) for a, b, seed in pairs if b.n_sweeps > a.n_sweeps)
    stop_at = once.n_sweeps + 3
    found, plan = run(10, seed, on_step=lambda step, _: step >= stop_at)
    assert found.stopped
    assert stop_at <= found.n_sweeps < stop_at + plan.max_between_jumps


# -- replacement by weighted draws ---------------------------------------------------------------


def two_modes(gap=4.0):
    """Return rows in three tight groups for two components, their prior, and both modes."""
    prior = make_prior("full", 2, 1, concentration=4.0, mean_precision=0.02)
    prior = replace(prior, covariance=0.3 * np.asarray(prior.covariance))
    spread = 0.2 * np.random.default_rng(3).normal(size=(10, 1))
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    X = spread + gap * np.array([0.0, 1.0, 2.075])[groups][:, None]
    return X, prior, (groups > 1).astype(int), (groups > 0).astype(int)


def share_of_the_first_mode(n_rounds, share_at_start, n_chains=600):
    """Return the share of chains in the first mode soon after their starts, and the exact one."""
    X, prior, first, second = two_modes()
    labels, log_joint = enumerated_log_joints(X, prior)
    chance = np.exp(log_joint - logsumexp(log_joint))
    # the middle group is with the left one or with the right one
    left, middle, right = labels[:, 0], labels[:, 4], labels[:, 9]
    masses = [chance[(left != right) & (middle == side)].sum() for side in (left, right)]
    assert sum(masses) > 0.95
    exact = masses[0] / sum(masses)
    rng, energy = np.random.default_rng(0), conjugate_energy(X, prior)
    mixture, rows = energy.collapse(X, 1.0), make_rows(X, None)
    models = PinnedModels(energy, mixture, X, rows.frame, 1.0)
    in_first = np.arange(n_chains) % 20 < round(20 * share_at_start)
    starts = models.draw(*mixture.sums(np.where(in_first[:, None], first, second)), rng)
    plan = GibbsPlan(2, 64, n_rounds, 1, 2, max_jumps=1, max_lengths=1, n_keep=n_chains)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 1.0)
        run = sample_conjugate(objective, starts, rng, plan=plan)
    left, middle, right = models.log_f(run.params).argmax(axis=1)[:, [0, 4, 9]].T
    return np.mean((middle == left)[left != right]), exact


@pytest.mark.parametrize("share_at_start", [0.05, 0.95])
def test_replaced_chains_are_in_modes_in_proportion_to_their_mass(share_at_start):
    """Chains that start in the wrong proportions are in the right ones without long runs."""
    share, exact = share_of_the_first_mode(3, share_at_start)
    assert 0.05 < exact < 0.95
    # a resampled chain is worth less than a draw: proposals of two modes weigh unevenly
    assert abs(share - exact) < 5 * np.sqrt(3 * exact * (1 - exact) / 600)


@pytest.mark.parametrize("share_at_start", [0.05, 0.95])
def test_chains_that_are_not_replaced_remember_their_starts(share_at_start):
    """Negative control: with no rounds, the one jump that precedes the draws does not do it."""
    share, exact = share_of_the_first_mode(0, share_at_start)
    assert abs(share - exact) > 5 * np.sqrt(3 * exact * (1 - exact) / 600)


# -- proposals that are made anew ------------------------------------------------------------------


def evidence_from_one_mode(max_remakes, n_seeds=6):
    """Return how far log evidences are off, and their errors, where proposals miss a mode at first.

    Chains start in one of two modes, and come to the other one by and by, where they stick.
    """
    X, prior, _, start = two_modes(gap=2.5)
    exact = logsumexp(enumerated_log_joints(X, prior)[1])
    energy, rows = conjugate_energy(X, prior), make_rows(X, None)
    mixture = energy.collapse(X, 1.0)
    models = PinnedModels(energy, mixture, X, rows.frame, 1.0)
    plan = GibbsPlan(1, 32, 1, 2, 60, max_jumps=20, max_lengths=8, n_keep=10, evidence_tol=0.05)
    plan, found = replace(plan, max_remakes=max_remakes), []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        starts = models.draw(*mixture.sums(np.repeat(start[None], 64, axis=0)), rng)
        with RowRunner(1) as runner:
            run = sample_conjugate(Objective(energy, rows, runner, 1.0), starts, rng, plan=plan)
        found.append(run.estimates["bridge"])
    values, errors = np.array(found).T
    return values - exact, errors


def test_proposals_are_made_anew_where_chains_stick():
    off, errors = evidence_from_one_mode(2)
    assert np.sqrt(np.mean((off / errors) ** 2)) < 1.6
    assert errors.mean() < 0.04
    # negative control: the first proposals leave values that are more than twice as far off, and
    # errors more than twice as large
    off_before, errors_before = evidence_from_one_mode(0)
    assert np.sqrt(np.mean(off_before**2)) > 2 * np.sqrt(np.mean(off**2))
    assert errors_before.mean() > 2 * errors.mean()


# -- models without density ----------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers(ArrayRecord):
    """Models, or conditionals, that are a number each."""

    value: Any


class FirstHasNoDensity:
    """An energy whose draws are the numbers 0, 1, ..., of which the first has no density."""

    def draw_conditional(self, conditional, rng):
        return Numbers(np.arange(conditional.n_models))

    def relabel(self, params, rng):
        return params

    def log_prior(self, params):
        return np.where(params.value == 0, -np.inf, 0.0)

    def log_conditional(self, conditional, params):
        return np.zeros((params.n_models, conditional.n_models))

    def conditional(self, statistics, temperature):
        return Numbers(statistics.hmaxe)


class LeftEdge(np.random.Generator):
    """Single uniform numbers are zero, the least that they can be."""

    def random(self, size=None, **more):
        return 0.0 if size is None else super().random(size, **more)


def test_chains_are_not_replaced_by_models_without_density():
    objective = SimpleNamespace(
        temperature=1.0,
        require=lambda capability, algorithm: FirstHasNoDensity(),
        power=lambda model_temperature: 1.0,
        sweep=lambda params, seed: SimpleNamespace(hmaxe=np.zeros(params.n_models)),
    )
    moves = GibbsMoves.of(objective, 8, LeftEdge(np.random.PCG64(0)))
    nothing = np.full(8, -1.0)
    state = GibbsState(Numbers(nothing), nothing, Numbers(nothing))
    proposals = [Numbers(np.zeros(4)), Numbers(np.zeros(4))]
    replaced = moves.replace(state, proposals)
    assert np.isfinite(moves.log_target(replaced)).all()
    assert (replaced.params.value > 0).all()


def test_a_tilt_raises():
    rows = make_rows(np.zeros((4, 1)), None)
    with RowRunner(1) as runner:
        objective = Objective(make_problem("full", 2, 1).energy(), rows, runner, 1.0, 0.5)
        with pytest.raises(ValueError, match=r"needs tilt=0, got 0\.5"):
            sample_conjugate(objective, None, np.random.default_rng(0), plan=GibbsPlan())
