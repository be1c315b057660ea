"""Searches and chains that miss something: what the verdict says then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _mixture_oracles import MixturePrior, conjugate_energy
from _samplers import starts_as_given

from skbae._types import SamplingRun
from skbae.inference._objective import Objective
from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.evidence._verdict import assess
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample import _allocation_jumps, _allocations
from skbae.inference.sample._allocation_masses import missed_modes
from skbae.inference.sample._allocation_modes import Pool, matched_distances
from skbae.inference.sample._allocation_plan import allocation_plan
from skbae.inference.sample._allocation_search import SearchPlan, search
from skbae.inference.sample._allocations import sample_allocations, sample_from_pools
from skbae.inference.sample._progress import Progress
from skbae.inference.sample._search_agreement import (
    pools_agree,
    search_until_agreed,
    searches_needed,
)


def groups_in_many_columns(n_groups=4, n_rows=100, size=8):
    """Return rows in groups far apart, and a prior of fewer components than groups."""
    rng = np.random.default_rng(2)
    centres = 3.0 * rng.normal(size=(n_groups, size))
    X = centres[np.arange(n_rows) % n_groups] + rng.normal(size=(n_rows, size))
    X = X / X.std(axis=0)
    prior = MixturePrior(
        "full", 3, X.mean(axis=0), 0.3 * np.cov(X.T, bias=True), degrees_of_freedom=size + 2.0
    )
    return X, prior


# Log evidence by full searches with other seeds, all within .02 of each other and of the bound.
REFERENCE = -930.53


class Case:
    """The rows above, and how they are sampled."""

    def __init__(self):
        self.X, prior = groups_in_many_columns()
        self.energy, self.rows = conjugate_energy(self.X, prior), make_rows(self.X, None)
        self.plan = allocation_plan(len(self.X) * self.energy.allocation_size(), 20, 0.1)
        self.mixture = self.energy.collapse(self.X, 1.0)

    def sample(self, plan, seed, pools=None):
        """Return the result of a run, of given searches if there are any."""
        rng = np.random.default_rng(seed)
        with RowRunner(1) as runner:
            objective = Objective(self.energy, self.rows, runner, 1.0)
            if pools is None:
                return assess(sample_allocations(objective, rng, plan=plan))
            models = PinnedModels(self.energy, self.mixture, self.X, self.rows.frame, 1.0)
            progress = Progress(None, len(self.X))
            run = sample_from_pools(pools, [], objective, models, rng, plan, progress)
            return assess(run)


@pytest.fixture(scope="module")
def case():
    return Case()


def check_honest(result):
    """Right, or not "ok"; above the bound in any case."""
    assert result.log_evidence >= result.log_evidence_lower_bound - 1e-9
    assert result.log_evidence_lower_bound < REFERENCE + 0.03
    if result.status == "ok":
        assert abs(result.log_evidence - REFERENCE) < 0.1 + 3 * result.log_evidence_error


# -- searches that miss something ------------------------------------------------------------------

# a k-means start or two, refined, and nothing bred from them
POOR = SearchPlan(n_starts=2, n_children=1, max_generations=0)


def test_whole_searches_are_ok_and_right(case):
    result = case.sample(case.plan, 1)
    assert result.status == "ok", result.reasons
    check_honest(result)


@pytest.mark.parametrize("seed", range(2))
def test_poor_searches_are_noticed(case, seed):
    result = case.sample(replace(case.plan, search=POOR, max_searches=2, n_challengers=0), seed)
    check_honest(result)
    assert result.status != "ok"
    assert any("searches" in reason for reason in result.reasons)


@pytest.mark.slow
@pytest.mark.parametrize("n_starts", [1, 2, 4])
@pytest.mark.parametrize("seed", range(10))
def test_poor_searches_are_right_or_noticed(case, seed, n_starts):
    plan = replace(case.plan, search=replace(POOR, n_starts=n_starts), max_searches=2)
    check_honest(case.sample(plan, seed))


class WithoutTheBest(Pool):
    """What another search has found, but for all that is within some rows of the best."""

    def __init__(self, pool, n_rows):
        super().__init__(pool.mixture, pool.size)
        distances = matched_distances(pool.labels[0], pool.labels, pool.mixture.n_components)
        left = distances > n_rows
        self.labels, self.log_mass = pool.labels[left], pool.log_mass[left]


def two_searches(case):
    return [search(case.mixture, case.plan.search, np.random.default_rng(seed)) for seed in (0, 1)]


def sample_without_the_best(case, n_challengers, n_seeds=3):
    """Return results and whether each is right, where both searches missed the best mode."""
    whole = two_searches(case)[1]
    poor = [WithoutTheBest(whole, 15)] * 2
    assert poor[0].log_mass[0] < whole.log_mass[0] - 10
    plan = replace(case.plan, n_challengers=n_challengers)
    results = [case.sample(plan, seed, poor) for seed in range(n_seeds)]
    return results, [abs(each.log_evidence - REFERENCE) < 0.1 for each in results]


@pytest.mark.parametrize("n_seeds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_children_of_chains_find_a_mode_that_both_searches_missed(case, n_seeds):
    results, right = sample_without_the_best(case, 64, n_seeds)
    assert all(right), [each.log_evidence for each in results]


def test_where_chains_find_a_missed_mode_searches_look_around_it(case):
    """No children of chains: chains from other starts find it, but not what lies next to it.

    The log evidence was about one nat too low in 24 runs of 24, and "ok".
    """
    _, right = sample_without_the_best(case, 0, 2)
    assert any(right)


def test_a_missed_mode_that_chains_find_is_not_looked_around_if_nobody_compares(case, monkeypatch):
    """The control of the test before."""
    monkeypatch.setattr(_allocations, "_unsearched_mode", lambda *_: None)
    _, right = sample_without_the_best(case, 0, 2)
    assert not any(right)


def test_children_of_draws_find_a_mode_next_to_all_of_them(case):
    """Four rows leave a component together: no chain does so, and no distance is large."""
    best, second = two_searches(case)[1].labels[:2]
    models = PinnedModels(case.energy, case.mixture, case.X, case.rows.frame, 1.0)

    def missed(*given):
        labels = np.repeat(given, 24, axis=0)
        return [
            missed_modes(models, labels, REFERENCE, 64, np.random.default_rng(seed))[0]
            for seed in range(4)
        ]

    found = [
        matched_distances(second, labels, 3).min() == 0 for labels in missed(best) if len(labels)
    ]
    assert sum(found) >= 2
    assert not any(len(labels) for labels in missed(best, second))


def test_modes_of_draws_that_no_search_has_found_are_named(case):
    pool = two_searches(case)[1]
    models = PinnedModels(case.energy, case.mixture, case.X, case.rows.frame, 1.0)
    labels = np.repeat(pool.labels[:2], 30, axis=0)
    rng = np.random.default_rng(0)
    params = models.draw(*case.mixture.sums(labels), rng)
    run = replace(run_with(REFERENCE), params=params)

    def unsearched(*pools):
        return _allocations._unsearched_mode(run, list(pools), models, case.plan, rng)

    assert unsearched(pool) is None
    assert unsearched(WithoutTheBest(pool, 0), pool) is None
    found = unsearched(WithoutTheBest(pool, 0))
    assert found.nearest(pool.labels[0]) == 0
    only_best = WithoutTheBest(pool, len(case.X))
    only_best.add(pool.labels[:1], pool.log_mass[:1])
    assert unsearched(only_best).nearest(pool.labels[1]) is not None


def test_chains_that_found_an_unsearched_mode_are_not_reported_without_a_word(case, monkeypatch):
    """Where what follows is in doubt, the first chains' smaller error is no reason to be ok."""
    pools = two_searches(case)
    monkeypatch.setattr(_allocations, "_unsearched_mode", lambda *_: pools[0])
    for name in ("weigh_groups", "jump_among_groups"):
        whole = getattr(_allocations, name)

        def doubtful(*args, whole=whole):
            run = whole(*args)
            errors = np.hypot(run.log_evidence_error, 0.3)
            return replace(run, doubts=("in doubt",), log_evidence_error=errors)

        monkeypatch.setattr(_allocations, name, doubtful)
    result = case.sample(case.plan, 0, pools)
    assert result.status == "suspect"
    assert any("no search had found" in reason for reason in result.reasons)


@pytest.mark.slow
def test_without_children_and_starts_by_mass_nobody_notices_a_missed_mode(case, monkeypatch):
    """The control of these tests."""
    monkeypatch.setattr(_allocation_jumps, "starts_by_mass", starts_as_given)
    monkeypatch.setattr(_allocations, "_unsearched_mode", lambda *_: None)
    assert not any(sample_without_the_best(case, 0)[1])


def test_a_mode_that_only_one_search_found_is_named(case):
    pools = two_searches(case)
    assert pools_agree(*pools)
    poor = WithoutTheBest(pools[1], 15)
    assert len(poor.labels)
    assert not pools_agree(pools[0], poor)
    result = case.sample(case.plan, 0, [pools[0], poor])
    check_honest(result)
    assert result.status != "ok"
    assert any("one search" in reason for reason in result.reasons)


def test_searches_that_agree_on_too_little_are_right_or_noticed(case):
    """The best allocation is missing from both, and chains come by it."""
    poor = [WithoutTheBest(pool, 0) for pool in two_searches(case)]
    check_honest(case.sample(case.plan, 0, poor))


def test_searches_are_repeated_and_then_their_disagreement_is_reported(case):
    plan = replace(case.plan, search=replace(POOR, n_starts=1), max_searches=4)
    # poor searches agree by chance at times: one of these runs must not
    runs = (search_until_agreed(case.mixture, plan, np.random.default_rng(s)) for s in range(10))
    pools, doubts = next(run for run in runs if run[1])
    agreeing = sum(pools_agree(pools[0], pool) for pool in pools[1:])
    assert len(pools) == 4
    assert agreeing == 0
    assert "searches found different" in doubts[0]
    assert [pool.log_mass[0] for pool in pools] == sorted(
        (pool.log_mass[0] for pool in pools), reverse=True
    )


def test_many_components_need_three_searches():
    assert [searches_needed(k) for k in (1, 2, 7, 8, 12)] == [1, 2, 2, 3, 3]
    rng = np.random.default_rng(0)
    X = 0.05 * rng.normal(size=(32, 2)) + 4.0 * np.indices((4, 2)).reshape(2, -1).T.repeat(
        4, axis=0
    )
    plan = allocation_plan(1e4, 10, 0.1)
    for n_components, n_searches in ((7, 2), (8, 3)):
        prior = MixturePrior("full", n_components, X.mean(axis=0), 0.01 * np.eye(2))
        mixture = conjugate_energy(X, prior).collapse(X, 1.0)
        pools, doubts = search_until_agreed(mixture, plan, rng)
        assert len(pools) >= n_searches
        agreeing = 1 + sum(pools_agree(pools[0], pool) for pool in pools[1:])
        assert (agreeing >= n_searches) == (not doubts)


# -- the verdict alone -----------------------------------------------------------------------------


def run_with(value=-10.0, error=0.02, bound=float("nan"), **estimates):
    rng = np.random.default_rng(0)
    return SamplingRun(
        None,
        rng.normal(size=(8, 200)),
        rng.normal(size=(8, 200, 5)),
        np.array([value]),
        np.array([error]),
        0.5,
        False,
        "allocations",
        7,
        estimates=estimates,
        log_evidence_lower_bound=bound,
    )


def test_a_bound_below_the_estimate_does_not_matter():
    result = assess(run_with(bound=-10.1))
    assert (result.status, result.log_evidence) == ("ok", -10.0)


@pytest.mark.parametrize("short", [0.2, 5.0, 500.0])
def test_an_estimate_below_the_bound_is_never_ok(short):
    result = assess(run_with(bound=-10.0 + short))
    assert result.status != "ok"
    assert result.log_evidence == -10.0 + short  # the better of two numbers
    assert len(result.reasons) == 1


def test_chance_may_leave_an_estimate_just_below_the_bound():
    result = assess(run_with(bound=-9.98))
    assert (result.status, result.log_evidence) == ("ok", -9.98)


@pytest.mark.parametrize("sign", [-1, 1])
def test_estimates_that_contradict_each_other_are_never_ok(sign):
    assert (
        assess(run_with(visited=(-10.0, 0.02), unpinned=(-10.0 + 0.2 * sign, 0.05))).status == "ok"
    )
    result = assess(run_with(visited=(-10.0, 0.02), unpinned=(-10.0 + 0.6 * sign, 0.05)))
    assert result.status != "ok"
    assert "unpinned" in result.reasons[0]


def test_importance_contradicts_only_what_is_lower():
    """One that is too low says how much the proposal lacks, which is an error."""
    lower, higher = (assess(run_with(importance=(-10.0 + gap, 0.05))) for gap in (-0.45, 0.45))
    assert lower.status == "ok"
    assert lower.log_evidence_error == pytest.approx(np.hypot(0.02, 0.45))
    assert higher.status != "ok"


# Log evidence and its error, and the estimates, of fits of three components to 33 rows of 8 columns
# (phosphate in blood, from R's HSAUR) whose log evidence is -366.06 by paths written for it.
DIFFUSE = [
    (-366.355, 0.025, {"importance": (-366.664, 0.034), "visited": (-366.165, 0.237)}),
    (-366.391, 0.017, {"importance": (-366.822, 0.103), "visited": (-366.177, 0.212)}),
    (-366.655, 0.029, {"importance": (-367.166, 0.015), "visited": (-366.446, 0.224)}),
    (-366.610, 0.025, {"importance": (-366.951, 0.024), "visited": (-366.603, 0.164)}),
    (-366.643, 0.038, {"importance": (-366.883, 0.071), "visited": (-366.625, 0.184)}),
    (-366.227, 0.023, {"importance": (-366.920, 0.044), "visited": (-366.148, 0.102)}),
]


@pytest.mark.parametrize(("value", "error", "estimates"), DIFFUSE)
def test_errors_cover_what_estimates_disagree_about(value, error, estimates):
    """All were "ok", with the error of the bridge alone: wrong by up to twenty times as much."""
    result = assess(run_with(value, error, bridge=(value, error), **estimates))
    assert result.log_evidence == value
    right = abs(value + 366.06) < 3 * result.log_evidence_error
    assert right or result.status != "ok"
    assert abs(value + 366.06) > 5 * error


def test_a_visited_estimate_above_the_reported_one_widens_the_error():
    """Not one below it: allocations that nobody has visited explain that."""
    above = assess(run_with(visited=(-9.8, 0.2)))
    below = assess(run_with(visited=(-10.2, 0.2)))
    assert above.log_evidence_error == pytest.approx(np.hypot(0.02, 0.2))
    assert below.log_evidence_error == 0.02
    assert assess(run_with(visited=(-9.8, 0.6))).log_evidence_error == 0.02  # tells nothing


def test_estimates_that_agree_leave_the_error_as_it_is():
    result = assess(run_with(bridge=(-10.0, 0.02), importance=(-10.06, 0.03), visited=(-9.95, 0.1)))
    assert (result.status, result.log_evidence_error) == ("ok", 0.02)


def test_a_proposal_that_lacks_most_of_the_posterior_leaves_the_evidence_open():
    result = assess(run_with(bridge=(-10.0, 0.02), importance=(-10.8, 0.03)))
    assert result.status == "suspect"
    assert "estimates disagree" in result.reasons[0]


def test_doubts_of_the_sampler_are_kept():
    result = assess(replace(run_with(), doubts=("something is amiss",)))
    assert (result.status, result.reasons) == ("suspect", ("something is amiss",))
