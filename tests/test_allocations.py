"""Jumps among known allocations, and the evidence by these and by unpinning, by enumeration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _mixture_oracles import collapsed, conjugate_energy, enumerated_log_joints
from _poisson import PoissonComponents
from _samplers import make_prior, small_data
from scipy import stats
from scipy.special import logsumexp

from skbae.energies.mixture._collapsed import CollapsedMixture
from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.inference._objective import Objective
from skbae.inference.evidence._unpinning import ModeTile, PinnedModels, unpin
from skbae.inference.evidence._visited import (
    KnownAllocations,
    VisitedSet,
    canonical_labels,
    fingerprints,
    log_union,
    unseen_error,
    visited_estimate,
)
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_chains import (
    ModeGroup,
    _jump,
    run_groups,
)
from skbae.inference.sample._allocation_jumps import sample_by_jumps, spread_indices
from skbae.inference.sample._allocation_plan import allocation_plan
from skbae.inference.sample._allocations import repeated_rows
from skbae.inference.sample._group_evidence import log_mean_and_error
from skbae.inference.sample._progress import Progress


class WithoutMultiplicity(CollapsedMixture):
    """Every allocation counts once, whatever its labels."""

    def log_multiplicity(self, counts):
        return np.zeros(len(counts))


def of_kind(mixture, kind):
    return kind(mixture.components, mixture.concentration, mixture.equal_weights)


class Exact:
    """A problem of which every allocation's probability is known.

    Attributes
    ----------
    labels : ndarray of int of shape (K^N, N)
    log_joint, chance : ndarrays of shape (K^N,)
    log_evidence : float
    """

    def __init__(self, X, prior, temperature=1.0, mixture=CollapsedMixture):
        self.X, self.prior, self.temperature = X, prior, temperature
        self.labels, self.log_joint = enumerated_log_joints(X, prior, temperature)
        self.log_evidence = float(logsumexp(self.log_joint))
        self.chance = np.exp(self.log_joint - self.log_evidence)
        self.mixture = of_kind(collapsed(X, prior, temperature), mixture)

    def draw(self, n, rng):
        return self.labels[rng.choice(len(self.labels), n, p=self.chance)]

    def index(self, labels):
        n_components, n_rows = self.prior.n_components, labels.shape[1]
        return labels @ (n_components ** np.arange(n_rows)[::-1])

    def models(self):
        rows = make_rows(self.X, None)
        energy = conjugate_energy(self.X, self.prior)
        return PinnedModels(energy, self.mixture, self.X, rows.frame, self.temperature)


def overlapping(n_rows, n_components, temperature=1.0, kind="full", mixture=CollapsedMixture):
    """Return rows of which many allocations matter, the one with a single component too."""
    prior = make_prior(kind, n_components, 1, concentration=0.8, mean_precision=0.3)
    return Exact(0.5 * small_data(n_rows, 1, seed=4), prior, temperature, mixture)


def loose(n_rows, n_components, temperature=1.0, kind="full", gap=3.0, mixture=CollapsedMixture):
    """Return rows in groups, most of which are sure of theirs."""
    prior = make_prior(kind, n_components, 1, concentration=6.0, mean_precision=0.05)
    prior = replace(prior, covariance=0.2 * np.asarray(prior.covariance))
    X = 0.4 * np.random.default_rng(1).normal(size=(n_rows, 1))
    X += gap * (np.arange(n_rows) % n_components)[:, None]
    return Exact(X, prior, temperature, mixture)


# -- jumps among known allocations -----------------------------------------------------------------


def p_value_after_jumps(problem, n_steps=3, n_chains=20_000):
    """Return the p-value of allocations after some jumps and steps from exact draws."""
    rng, mixture = np.random.default_rng(5), problem.mixture
    visited = VisitedSet(mixture.n_components)
    met = problem.draw(15, rng)  # some of the allocations only
    visited.add(met, mixture.log_mass(mixture.visit(met)))
    known = KnownAllocations([visited])
    start = problem.draw(n_chains, rng)
    state = _collapsed.init(mixture, start, block=0.5)
    for _ in range(n_steps):
        _, moved = known.jump(state.allocations.labels, rng)
        assert 0.05 < moved.mean() < 0.98, "some chains jump, and some do not"
        state = _jump(mixture, state, (known, known), rng)
        state, _ = _collapsed.step(mixture, state, rng)
    index = problem.index(state.allocations.labels)
    counts, expected = np.bincount(index, minlength=len(problem.chance)), n_chains * problem.chance
    rare = expected < 10
    if rare.any():
        counts = np.r_[counts[~rare], counts[rare].sum()]
        expected = np.r_[expected[~rare], expected[rare].sum()]
    return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [2, 3])
def test_jumps_leave_the_exact_distribution_as_it_is(n_components, temperature):
    n_rows = {2: 6, 3: 5}[n_components]
    assert p_value_after_jumps(overlapping(n_rows, n_components, temperature)) > 1e-4


def test_jumps_notice_a_forgotten_multiplicity():
    """Negative control: one partition in three parts has more labellings than one in two."""
    problem = overlapping(5, 3, mixture=WithoutMultiplicity)
    assert p_value_after_jumps(problem) < 1e-8


def test_chains_at_unknown_allocations_stay():
    problem = overlapping(6, 2)
    rng, visited = np.random.default_rng(0), VisitedSet(2)
    known_one, others = (
        problem.labels[:1],
        problem.labels[1:-1],
    )  # the last is the first, relabelled
    visited.add(known_one, problem.mixture.log_joint(known_one))
    known = KnownAllocations([visited])
    labels, moved = known.jump(others, rng)
    assert not moved.any()
    np.testing.assert_array_equal(labels, others)
    labels, moved = known.jump(problem.labels[[0, -1]], rng)
    assert moved.all()
    assert np.all(labels == labels[:, :1])
    assert known.n_effective == 1


# -- what was visited ------------------------------------------------------------------------------


def visit(problem, rng, n_chains=16, n_steps=60):
    """Return the sets of two islands of chains from exact draws, and their keys."""
    mixture = problem.mixture
    visited = (VisitedSet(mixture.n_components), VisitedSet(mixture.n_components))
    keys = ([], [])
    for island in range(2):
        state = _collapsed.init(mixture, problem.draw(n_chains, rng), block=0.5)
        for _ in range(n_steps):
            state, _ = _collapsed.step(mixture, state, rng)
            here = state.allocations
            keys[island].append(visited[island].add(here.labels, mixture.log_mass(here)))
    return visited, keys


PROBLEMS = {
    "full-K2": loose(12, 2),
    "full-K3": loose(9, 3),
    "full-K3-cold": loose(9, 3, 0.5, gap=1.2),
    "tied-K2-hot": loose(12, 2, 2.0, "tied"),
    "overlap-K2": overlapping(9, 2),
    "overlap-K3": overlapping(8, 3),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_visited_set_tells_the_evidence(name):
    problem, z, shares = PROBLEMS[name], [], []
    for seed in range(10):
        visited, keys = visit(problem, np.random.default_rng(seed))
        value, error, share = visited_estimate(visited, keys)
        assert log_union(list(visited)) <= problem.log_evidence + 1e-9
        assert 0 < error < 1
        z.append((value - problem.log_evidence) / error)
        shares.append(share)
        # what was visited, exactly
        inside = set().union(*(each.log_mass for each in visited))
        canonical = VisitedSet(problem.prior.n_components)
        keys_of_all = canonical.add(problem.labels, problem.log_joint)
        mass = problem.chance[[key in inside for key in keys_of_all]].sum()
        np.testing.assert_allclose(
            log_union(list(visited)), problem.log_evidence + np.log(mass), rtol=1e-10
        )
    z = np.abs(z)
    assert np.mean(shares) > 0.5
    assert z.max() < 4
    assert (z > 2).sum() <= 3


def test_what_was_never_visited_counts_for_more_where_chains_are_slow():
    """A chain that stays fifty steps at each state has seen a tenth of what five steps show."""
    rng = np.random.default_rng(0)
    quick = rng.normal(size=(16, 1000))
    slow = np.repeat(quick[:, :20], 50, axis=1)
    assert unseen_error(quick) == 10 / quick.size
    assert 7 < unseen_error(slow) / unseen_error(quick) < 14


def test_all_partitions_are_the_evidence_itself():
    problem = overlapping(6, 3)
    visited = VisitedSet(3)
    visited.add(problem.labels, problem.mixture.log_mass(problem.mixture.visit(problem.labels)))
    np.testing.assert_allclose(log_union([visited]), problem.log_evidence, rtol=1e-12)
    np.testing.assert_allclose(log_union([visited, visited]), problem.log_evidence, rtol=1e-12)


@pytest.mark.parametrize("name", ["full-K2", "full-K3"])
def test_the_visited_set_notices_a_forgotten_multiplicity(name):
    """Negative control: without it the bound and the estimate are log 2! and log 3! too low."""
    problem = PROBLEMS[name]
    wrong = Exact(problem.X, problem.prior, mixture=WithoutMultiplicity)
    for seed in range(5):
        value, error, _ = visited_estimate(*visit(wrong, np.random.default_rng(seed)))
        assert value < problem.log_evidence - 4 * error


def follow(problem, leaders, n_steps=40):
    """Return the groups and runs of chains that start at leaders."""
    mixture = problem.mixture
    groups = []
    for leader in leaders:
        known = VisitedSet(mixture.n_components)
        log_mass = mixture.log_mass(mixture.visit(leader[None]))
        known.add(leader[None], log_mass)
        states = np.repeat(leader[None], 8, axis=0)
        both = KnownAllocations([known])
        groups.append(
            ModeGroup(leader, (states, states), (both, both), 1.0, float(log_mass[0]), (True, True))
        )
    rng = np.random.default_rng(1)
    return groups, run_groups(problem.models(), groups, n_steps, rng, lambda value: False)


def test_groups_whose_chains_meet_are_one():
    """Each would count what they share."""
    problem = overlapping(9, 2)
    first, second = problem.labels[np.argsort(-problem.log_joint)[[0, 40]]]
    groups, (joined, runs) = follow(problem, (first, second), n_steps=100)
    assert len(joined) == len(runs) == 1
    value, error, _ = visited_estimate(runs[0].visited, runs[0].keys)
    assert abs(value - problem.log_evidence) < 4 * error < 0.5
    # negative control: apart, both count all of it
    twice = [follow(problem, (leader,), n_steps=100)[1][1][0] for leader in (first, second)]
    values = [visited_estimate(run.visited, run.keys)[0] for run in twice]
    assert abs(logsumexp(values) - problem.log_evidence - np.log(2)) < 0.2
    assert groups[0].log_mass == joined[0].log_mass


def test_groups_whose_chains_do_not_meet_stay_apart():
    problem = two_modes()
    _, (joined, runs) = follow(problem, two_leaders())
    assert len(joined) == len(runs) == 2
    values, errors, _ = np.transpose([visited_estimate(run.visited, run.keys) for run in runs])
    # all but what neither has seen: one component for all rows
    assert -0.1 < logsumexp(values) - problem.log_evidence < 0.02 + 3 * np.hypot(*errors)


# -- unpinning -------------------------------------------------------------------------------------


def unpinned(problem, seed=0, n_populations=16, n_models=64, rivals=None, origin=None):
    """Return what unpinning says of the mode of the best allocation, or of another."""
    rng = np.random.default_rng(seed)
    if origin is None:
        origin = problem.labels[np.argmax(problem.log_joint)]
    none = np.empty((0, len(origin)), dtype=int)
    tile = ModeTile(origin, none if rivals is None else rivals, problem.prior.n_components)
    draws = problem.draw(n_populations * n_models, rng)
    sizes = {"n_populations": n_populations, "n_models": n_models}
    return unpin(problem.models(), tile, draws, rng, **sizes)


UNPINNED = {
    "full-K2": loose(10, 2),
    "full-K3": loose(9, 3),
    "full-K3-cold": loose(9, 3, 0.5, gap=1.2),
    "diag-K3-hot": loose(8, 3, 2.0, "diag"),
    "tied-K2": loose(10, 2, 1.0, "tied", gap=1.5),
    "spherical-K1": loose(6, 1, 1.0, "spherical"),
    "overlap-K2": overlapping(9, 2),
}


@pytest.mark.parametrize("name", UNPINNED)
def test_letting_go_and_taking_back_tell_the_evidence(name):
    problem, z = UNPINNED[name], []
    for seed in range(3):
        found = unpinned(problem, seed)
        for values in (found.log_evidence, found.outward, found.back):
            value, error = log_mean_and_error(values)
            assert error < 0.5
            # a hundredth of the posterior may be where no model of a population has been
            z.append((value - problem.log_evidence) / np.hypot(error, 0.01))
    assert np.abs(z).max() < 4
    assert np.sqrt(np.mean(np.square(z))) < 2


def test_one_component_needs_no_path():
    problem = UNPINNED["spherical-K1"]
    found = unpinned(problem)
    np.testing.assert_allclose(found.log_evidence, problem.log_evidence, rtol=1e-10)


@pytest.mark.parametrize("name", ["full-K2", "full-K3"])
def test_unpinning_notices_a_forgotten_multiplicity(name):
    """Negative control."""
    right = UNPINNED[name]
    found = unpinned(Exact(right.X, right.prior, mixture=WithoutMultiplicity))
    for values in (found.log_evidence, found.outward, found.back):
        value, error = log_mean_and_error(values)
        assert value < right.log_evidence - 5 * error


def two_modes():
    """Return rows in three tight groups for two components: one of the outer groups joins."""
    prior = make_prior("full", 2, 1, concentration=1.0, mean_precision=0.02)
    prior = replace(prior, covariance=0.3 * np.asarray(prior.covariance))
    middle = 0.2 * np.random.default_rng(3).normal(size=(10, 1))
    X = middle + np.array([0, 0, 0, 4, 4, 4, 8.3, 8.3, 8.3, 8.3])[:, None]
    return Exact(X, prior)


def two_leaders():
    """Return the best allocation of both modes."""
    return np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]])


def test_modes_that_divide_the_models_add_up_to_the_evidence():
    problem = two_modes()
    first, second = two_leaders()
    parts = []
    for own, other in ((first, second), (second, first)):
        found = unpinned(problem, rivals=other[None], origin=own)
        parts.append(log_mean_and_error(found.log_evidence))
    values, errors = np.array(parts).T
    shares = np.exp(values - logsumexp(values))
    assert shares.min() > 0.02, "both modes matter"
    error = np.sqrt(shares**2 @ errors**2)
    assert abs(logsumexp(values) - problem.log_evidence) < 5 * error
    # negative control: a forgotten mode
    assert values.max() < problem.log_evidence - 5 * errors[values.argmax()] or shares.max() > 0.98


def test_an_allocation_that_is_no_centre_says_so():
    """Models drawn given an allocation that goes against the rows belong to another labelling."""
    problem = two_modes()
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    rival = labels.copy()
    away = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    assert unpinned(problem, rivals=rival[None], origin=away) is None


# -- counts and repeated rows ----------------------------------------------------------------------


def test_unpinning_counts():
    """Poisson components, whose prior is another family's."""
    rng = np.random.default_rng(0)
    X = rng.poisson([[2.0, 9.0]] * 4 + [[9.0, 1.0]] * 4).astype(float)
    energy = ConjugateMixture(PoissonComponents(2, 2, 1.3, 0.3), np.full(2, 1.5), False)
    mixture = energy.collapse(X, 1.0)
    labels = np.indices((2,) * 8).reshape(8, -1).T
    log_joint = mixture.log_joint(labels)  # tested against its definition elsewhere
    exact = logsumexp(log_joint)
    draws = labels[rng.choice(len(labels), 16 * 24, p=np.exp(log_joint - exact))]
    models = PinnedModels(energy, mixture, X, make_rows(X, None).frame, 1.0)
    tile = ModeTile(labels[np.argmax(log_joint)], labels[:0], 2)
    found = unpin(models, tile, draws, rng, n_populations=16, n_models=24)
    for values in (found.log_evidence, found.outward, found.back):
        value, error = log_mean_and_error(values)
        assert abs(value - exact) < 5 * error < 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_integer_weights_are_repeated_rows(temperature):
    prior, X = make_prior("full", 2, 2), small_data(5, 2)
    weights = np.array([2.0, 0.0, 1.0, 3.0, 1.0])
    longer = np.repeat(X, weights.astype(int), axis=0)
    with RowRunner(1) as runner:
        rows = make_rows(X, weights)
        objective = Objective(conjugate_energy(X, prior), rows, runner, temperature)
        np.testing.assert_array_equal(repeated_rows(objective), longer)
    labels, exact = enumerated_log_joints(longer, prior, temperature)
    mixture = conjugate_energy(X, prior).collapse(repeated_rows(objective), temperature)
    assert mixture.n_rows == 7
    np.testing.assert_allclose(mixture.log_joint(labels), exact, rtol=1e-12)


# -- jumping chains --------------------------------------------------------------------------------


def evidence_by_jumping_chains(problem, n_known=12, seed=0):
    """Return estimates by chains that jump among some allocations, and the exact evidence."""
    rng, mixture = np.random.default_rng(seed), problem.mixture
    known = []
    for _ in range(2):
        visited, met = VisitedSet(mixture.n_components), problem.draw(n_known, rng)
        visited.add(met, mixture.log_mass(mixture.visit(met)))
        known.append(KnownAllocations([visited]))
    starts = problem.draw(16, rng), problem.draw(16, rng)
    plan = allocation_plan(1e3, 50, 0.1)
    models, progress = problem.models(), Progress(None, mixture.n_rows)
    with RowRunner(1) as runner:
        rows = make_rows(models.rows, None)
        objective = Objective(models.energy, rows, runner, models.temperature)
        run = sample_by_jumps(objective, models, starts, rng, plan, progress, tuple(known))
    return run.estimates


@pytest.mark.parametrize("name", ["overlap-K2", "overlap-K3", "full-K3-cold"])
def test_jumping_chains_give_the_evidence_twice(name):
    """By bridge sampling, and by the share of time that they spend at known allocations."""
    problem = PROBLEMS[name]
    for seed in range(3):
        estimates = evidence_by_jumping_chains(problem, seed=seed)
        for method in ("bridge", "visited"):
            value, error = estimates[method]
            assert abs(value - problem.log_evidence) < 4 * error + 0.01, method
        assert estimates["bridge"][1] < 0.05


def test_jumping_chains_notice_a_forgotten_multiplicity():
    """Negative control: then the two estimates contradict each other."""
    problem = overlapping(8, 3, mixture=WithoutMultiplicity)
    estimates = evidence_by_jumping_chains(problem, n_known=100)
    value, error = estimates["visited"]
    assert abs(value - problem.log_evidence) > 4 * error + 0.2


@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_fingerprints_tell_allocations_apart_but_not_labellings(n_components):
    rng = np.random.default_rng(0)
    labels = rng.integers(n_components, size=(3000, 40))
    relabelled = rng.permuted(np.tile(np.arange(n_components), (3000, 1)), axis=1)
    relabelled = np.take_along_axis(relabelled, labels, axis=1)
    keys = fingerprints(labels, n_components)
    np.testing.assert_array_equal(keys, fingerprints(relabelled, n_components))
    n_distinct = len(np.unique(canonical_labels(labels, n_components), axis=0))
    assert len(np.unique(keys)) == n_distinct


@pytest.mark.parametrize(("n_given", "n"), [(3, 8), (8, 8), (9, 8), (160, 64)])
def test_chains_start_from_all_groups_of_modes(n_given, n):
    """Groups follow each other; the first ones alone once had all chains, where there were many."""
    chosen = spread_indices(n_given, n)
    assert len(chosen) == n
    assert chosen[0] == 0
    assert chosen.max() < n_given
    counts = np.bincount(chosen // -(-n_given // 3), minlength=3)  # by thirds of the given ones
    assert counts.min() >= n // 3 - 1
