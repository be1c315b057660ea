"""Mixtures with their models integrated out: the joint density of allocations, and one step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from _mixture_oracles import (
    allocation_log_joint,
    collapsed,
    enumerated_log_joints,
    preferences_by_definition,
)
from _poisson import PoissonComponents
from _samplers import make_prior, small_data
from scipy import stats
from scipy.special import gammaln, logsumexp

from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.inference.evidence._visited import VisitedSet
from skbae.inference.sample import _collapsed

TEMPERATURES = (0.5, 1.0, 2.0)


def general(kind, n_components, n_features, equal_weights=False):
    """Return a prior that is off the rows' mean, with a concentration that is not one."""
    settings = {"mean_precision": 0.4, "concentration": 0.6, "equal_weights": equal_weights}
    return make_prior(kind, n_components, n_features, degrees_of_freedom=3.7, **settings)


# -- the joint density, and what a row prefers -----------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("equal", [False, True])
def test_joint_and_preferences_of_all_allocations(kind, temperature, equal):
    prior, X = general(kind, 3, 2, equal), small_data(6, 2)
    labels, exact = enumerated_log_joints(X, prior, temperature)
    mixture = collapsed(X, prior, temperature)
    np.testing.assert_allclose(mixture.log_joint(labels), exact, rtol=1e-12)
    visited = mixture.visit(labels)
    np.testing.assert_allclose(visited.log_joint, exact, rtol=1e-12)
    np.testing.assert_array_equal(visited.labels, labels)
    found = _collapsed.log_probabilities(visited.preferences)
    expected = preferences_by_definition(labels, exact, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_joint_and_preferences_in_more_columns_than_rows_of_a_component(kind, temperature):
    """Fourteen columns: products of factors are taken to logarithms twice."""
    rng, size = np.random.default_rng(3), 14
    shape = kind.removeprefix("tied_").replace("tied", "full")
    root = rng.normal(size=(size, size))
    full = root @ root.T / size + np.eye(size)
    covariance = {"full": full, "diag": np.diag(full), "spherical": 1.3}[shape]
    prior = replace(
        general(kind, 2, 2), mean=rng.normal(size=size), covariance=covariance,
        degrees_of_freedom=size + 1.5,
    )  # fmt: skip
    X = rng.normal(size=(11, size)) * rng.gamma(2.0, size=size)
    labels = rng.integers(2, size=(3, 11))
    labels[0] = 0  # a component without rows
    labels[1] = np.arange(11) == 4  # one with a single row
    visited = collapsed(X, prior, temperature).visit(labels)
    exact = [allocation_log_joint(X, each, prior, temperature) for each in labels]
    np.testing.assert_allclose(visited.log_joint, exact, rtol=1e-11)
    found = _collapsed.log_probabilities(visited.preferences)
    for chain, each in enumerate(labels):
        for row in range(len(X)):
            moved = np.repeat(each[None], 2, axis=0)
            moved[:, row] = [0, 1]
            joint = [allocation_log_joint(X, z, prior, temperature) for z in moved]
            expected = joint - logsumexp(joint)
            np.testing.assert_allclose(found[chain, :, row], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("equal", [False, True])
def test_joint_and_preferences_of_counts(temperature, equal):
    """Poisson components get all of it from their log normaliser."""
    X = np.random.default_rng(0).poisson([1.0, 6.0], size=(6, 2)).astype(float)
    X[3:] += [5.0, 0.0]
    family = PoissonComponents(3, 2, 1.5, 0.7)
    energy = ConjugateMixture(family, np.full(3, 1.4), equal)
    mixture = energy.collapse(X, temperature)
    labels = np.indices((3,) * 6).reshape(6, -1).T
    exact = poisson_log_joints(X, labels, temperature, equal, 1.4, 1.5, 0.7)
    visited = mixture.visit(labels)
    np.testing.assert_allclose(visited.log_joint, exact, rtol=1e-11)
    np.testing.assert_allclose(mixture.log_joint(labels), exact, rtol=1e-11)
    found = _collapsed.log_probabilities(visited.preferences)
    expected = preferences_by_definition(labels, exact, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def poisson_log_joints(X, labels, temperature, equal, concentration, shape, rate):
    """Return ``log p(X, z)`` of gamma-Poisson components, one allocation at a time."""
    heat, terms = 1 / temperature, []
    for each in labels:
        counts = heat * np.bincount(each, minlength=3)
        events = np.stack([shape + heat * X[each == k].sum(axis=0) for k in range(3)])
        value = (gammaln(events) - events * np.log(rate + counts)[:, None]).sum()
        value -= events.size * (gammaln(shape) - shape * np.log(rate))
        value -= heat * gammaln(X + 1).sum()
        if equal:
            value -= counts.sum() * np.log(3)
        else:
            value += gammaln(3 * concentration) - gammaln(3 * concentration + counts.sum())
            value += (gammaln(concentration + counts) - gammaln(concentration)).sum()
        terms.append(value)
    return np.array(terms)


# -- units, frames, repeated rows, some of the rows ------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("unit", [1e-6, 1e6, "shear"])
def test_units_and_frames_change_the_joint_by_their_jacobian_alone(kind, unit, temperature):
    size = 3
    shape = kind.removeprefix("tied_").replace("tied", "full")
    if unit == "shear" and shape != "full":
        matrix = {"diag": np.diag([1e-3, 7.0, 1e4]), "spherical": 30.0 * np.eye(size)}[shape]
    elif unit == "shear":
        matrix = np.array([[1.0, 0.0, 0.0], [-30.0, 2.0, 0.0], [20.0, 0.5, 0.5]])
    else:
        matrix = unit * np.eye(size)
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(12, size)) + 1.0, rng.integers(3, size=(4, 12))
    shift = np.array([3.0, -2.0, 5.0]) * np.abs(matrix).max()
    full = np.array([[1.5, 0.4, 0.1], [0.4, 0.7, -0.2], [0.1, -0.2, 2.0]])
    covariance = {"full": full, "diag": np.diag(full), "spherical": 0.9}[shape]
    moved = {
        "full": matrix @ full @ matrix.T,
        "diag": np.diag(full) * np.diag(matrix) ** 2,
        "spherical": 0.9 * matrix[0, 0] ** 2,
    }[shape]
    prior = replace(
        general(kind, 3, 2), mean=np.array([0.3, -0.4, 0.8]), covariance=covariance,
        degrees_of_freedom=5.2,
    )  # fmt: skip
    changed = replace(prior, mean=matrix @ prior.mean + shift, covariance=moved)
    here = collapsed(X, prior, temperature).visit(labels)
    there = collapsed(X @ matrix.T + shift, changed, temperature).visit(labels)
    jacobian = len(X) / temperature * np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(there.log_joint, here.log_joint - jacobian, rtol=0, atol=1e-7)
    np.testing.assert_allclose(
        _collapsed.log_probabilities(there.preferences),
        _collapsed.log_probabilities(here.preferences),
        rtol=0,
        atol=1e-7,
    )


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_some_of_the_rows_have_the_same_prior(kind):
    prior, X = general(kind, 2, 2), small_data(14, 2)
    index = np.array([0, 1, 1, 5, 9, 12])
    labels = np.random.default_rng(0).integers(2, size=(5, len(index)))
    part = collapsed(X, prior).take_rows(index).visit(labels)
    exact = [allocation_log_joint(X[index], each, prior) for each in labels]
    np.testing.assert_allclose(part.log_joint, exact, rtol=1e-12)


# -- relabellings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_distinct_partitions_add_up_to_the_evidence(n_components, temperature):
    """With components that have no rows, of which there are many labellings and one partition."""
    prior, X = general("full", n_components, 1), small_data(6, 1)
    labels, exact = enumerated_log_joints(X, prior, temperature)
    mixture = collapsed(X, prior, temperature)
    visited = VisitedSet(n_components)
    visited.add(labels, mixture.log_mass(mixture.visit(labels)))
    # partitions of six rows into at most so many parts
    assert len(visited.log_mass) == {1: 1, 2: 32, 3: 122, 4: 187}[n_components]
    np.testing.assert_allclose(visited.log_sum(), logsumexp(exact), rtol=1e-12)


def test_partitions_of_counts_add_up_to_the_evidence():
    X = np.random.default_rng(0).poisson(3.0, size=(6, 2)).astype(float)
    energy = ConjugateMixture(PoissonComponents(3, 2, 1.3, 0.4), np.full(3, 1.5), False)
    mixture, labels = energy.collapse(X, 1.0), np.indices((3,) * 6).reshape(6, -1).T
    visited = VisitedSet(3)
    visited.add(labels, mixture.log_mass(mixture.visit(labels)))
    exact = logsumexp(poisson_log_joints(X, labels, 1.0, False, 1.5, 1.3, 0.4))
    np.testing.assert_allclose(visited.log_sum(), exact, rtol=1e-12)


# -- a step ----------------------------------------------------------------------------------------


class WithoutKappa:
    """A frame whose determinants grow by ``1 + c q``: the strength of the mean is forgotten."""

    def __init__(self, frame):
        self._frame = frame

    def __getattr__(self, name):
        return getattr(self._frame, name)

    def log_growth(self, factors, means, joining, leaving, rows, own):
        ones = np.ones_like(joining)
        return self._frame.log_growth(factors, means, ones, leaving, rows, own)


def forgetful(mixture):
    """Return a mixture with a wrong table of preferences."""
    components = mixture.components
    components.frame = WithoutKappa(components.frame)
    return mixture


def without_test(mixture, state, rng):
    return _collapsed.redraw(mixture, state, rng, float(state.block[0]))


def with_test(mixture, state, rng):
    return _collapsed.step(mixture, state, rng)[0]


def counting_the_way_there_only(mixture, state, rng):
    """A Metropolis test that forgets the way back."""
    here = state.allocations
    proposed = _collapsed.redraw(mixture, state, rng, float(state.block[0])).allocations
    changed = proposed.labels != here.labels
    forward = _collapsed.log_probabilities(here.preferences)
    chosen = np.take_along_axis(forward, proposed.labels[:, None], axis=1)[:, 0]
    change = proposed.log_joint - here.log_joint - np.where(changed, chosen, 0).sum(axis=1)
    index = np.flatnonzero(np.log(rng.random(len(changed))) < change)
    return replace(state, allocations=here.put(index, proposed.take(index)))


def p_value_after_steps(
    kind, temperature, step, *, n_components=2, alter=None, n_chains=20_000, n_steps=6
):
    """Return the p-value of allocations after some steps from exact draws, against enumeration."""
    n_rows = {2: 6, 3: 5}[n_components]
    # rows closer together than the prior's scale: no allocation has all of the posterior
    prior = replace(general(kind, n_components, 1), concentration=2.5)
    X = 0.3 * small_data(n_rows, 1, seed=4)
    labels, exact = enumerated_log_joints(X, prior, temperature)
    chance = np.exp(exact - logsumexp(exact))
    rng = np.random.default_rng(11)
    mixture = collapsed(X, prior, temperature)
    if alter is not None:
        mixture = alter(mixture)
    start = labels[rng.choice(len(labels), n_chains, p=chance)]
    state = _collapsed.init(mixture, start, block=0.7)
    for _ in range(n_steps):
        state = step(mixture, state, rng)
    moved = (state.allocations.labels != start).any(axis=1).mean()
    assert moved > 0.3, "steps that stay where they are show nothing"
    index = state.allocations.labels @ (n_components ** np.arange(len(X))[::-1])
    counts, expected = np.bincount(index, minlength=len(labels)), n_chains * chance
    # allocations that are met a few times only are one cell
    rare = expected < 10
    counts = np.r_[counts[~rare], counts[rare].sum()]
    expected = np.r_[expected[~rare], expected[rare].sum()]
    kept = expected > 0
    return stats.chisquare(counts[kept], expected[kept]).pvalue


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_steps_leave_the_exact_distribution_as_it_is(kind, temperature):
    n_components = 2 + COVARIANCE_TYPES.index(kind) % 2
    p_value = p_value_after_steps(kind, temperature, with_test, n_components=n_components)
    assert p_value > 1e-4


def test_the_metropolis_test_mends_a_wrong_table():
    """Any table is a proposal; what the test needs right is the joint."""
    assert p_value_after_steps("full", 1.0, with_test, alter=forgetful) > 1e-4


@pytest.mark.parametrize(
    ("step", "alter"),
    [(without_test, None), (without_test, forgetful), (counting_the_way_there_only, None),
     (counting_the_way_there_only, forgetful)],
)  # fmt: skip
def test_wrong_steps_do_not(step, alter):
    """Negative controls: without the test, and with half of its ratio."""
    assert p_value_after_steps("full", 1.0, step, alter=alter) < 1e-8


def test_a_wrong_determinant_is_noticed_row_by_row():
    """Negative control of the comparison with the definition, and of redrawing one row at a time.

    One row of each chain, from its table without a test, is a Gibbs step where the table is right.
    """
    prior, X = general("full", 2, 1), small_data(6, 1)
    labels, exact = enumerated_log_joints(X, prior)
    expected = preferences_by_definition(labels, exact, 2)
    right, wrong = collapsed(X, prior), forgetful(collapsed(X, prior))
    for mixture, agrees in ((right, True), (wrong, False)):
        found = _collapsed.log_probabilities(mixture.visit(labels).preferences)
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-9) == agrees
        np.testing.assert_allclose(mixture.log_joint(labels), exact, rtol=1e-12)
    assert p_value_after_steps("full", 1.0, one_row, n_steps=20) > 1e-4
    assert p_value_after_steps("full", 1.0, one_row, alter=forgetful, n_steps=20) < 1e-8


def one_row(mixture, state, rng):
    here = state.allocations
    labels = here.labels.copy()
    rows, chains = rng.integers(labels.shape[1], size=len(labels)), np.arange(len(labels))
    labels[chains, rows] = _collapsed.draw_labels(here.preferences, rng)[chains, rows]
    return replace(state, allocations=mixture.visit(labels))


def test_labels_are_drawn_with_their_probabilities():
    log_p = np.log(np.array([0.2, 0.5, 0.3]))[None, :, None] + 800.0  # up to any constant
    labels = _collapsed.draw_labels(np.repeat(log_p, 30_000, axis=2), np.random.default_rng(0))
    counts = np.bincount(labels[0], minlength=3)
    assert stats.chisquare(counts, 30_000 * np.array([0.2, 0.5, 0.3])).pvalue > 1e-4
    impossible = np.full((1, 3, 50), -np.inf)
    impossible[:, 1] = 0.0
    assert np.all(_collapsed.draw_labels(impossible, np.random.default_rng(0)) == 1)


def test_blocks_are_adjusted_only_when_asked():
    prior, X = general("full", 2, 1), small_data(40, 1)
    mixture, rng = collapsed(X, prior), np.random.default_rng(0)
    state = _collapsed.init(mixture, rng.integers(2, size=(16, 40)))
    fixed, _ = _collapsed.step(mixture, state, rng)
    np.testing.assert_array_equal(fixed.block, state.block)
    accepted = []
    for number in range(400):
        state, info = _collapsed.step(mixture, state, rng, adapt=True)
        if number >= 200:
            accepted.append(info.accepted.mean())
    assert 0.5 < np.mean(accepted) < 0.8 or np.all(state.block == 1)
    assert np.all(state.block >= 2 / 40)


def test_favoured_components_tilt_the_target():
    """The target is ``p(z | X) exp(sum of favours)``."""
    prior, X = general("full", 2, 1), small_data(6, 1) * 0.5
    labels, exact = enumerated_log_joints(X, prior)
    rng = np.random.default_rng(2)
    favour = rng.normal(size=(2, 6))
    log_target = exact + favour[labels, np.arange(6)].sum(axis=1)
    chance = np.exp(log_target - logsumexp(log_target))
    mixture = collapsed(X, prior)
    state = _collapsed.init(mixture, labels[rng.choice(len(labels), 20_000, p=chance)], block=0.7)
    for _ in range(6):
        state, _ = _collapsed.step(mixture, state, rng, favour=favour)
    index = state.allocations.labels @ (2 ** np.arange(6)[::-1])
    expected = 20_000 * chance
    counts = np.bincount(index, minlength=len(labels))
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    plain = np.exp(exact - logsumexp(exact))
    assert stats.chisquare(counts, 20_000 * plain).pvalue < 1e-8
