"""Where chains start on rows with missing entries: at all modes found, and elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _missing_oracles import with_gaps

from skbae import BayesianGMMAutoEncoder
from skbae.inference.optimise._mode import find_mode
from skbae.inference.sample import _with_gaps

# two components with one covariance on a heavy-tailed table: there are many modes
X = with_gaps(np.random.default_rng(0).standard_t(4, size=(60, 5)), 0.1)


class Caught(Exception):
    """Ends a fit when chains would begin."""


@pytest.fixture
def starts_of_fit(monkeypatch):
    """Return a function that gives a fit's objective, starts of chains and doubts."""

    def run():
        caught, inner = {}, _with_gaps.chain_starts_with_gaps

        def chain_starts(objective, fitted, *args):
            starts, doubts = inner(objective, fitted, *args)
            caught.update(objective=objective, starts=starts, doubts=doubts, fitted=fitted)
            return starts, doubts

        def stop(*args, **kwargs):
            raise Caught

        monkeypatch.setattr(_with_gaps, "chain_starts_with_gaps", chain_starts)
        monkeypatch.setattr(_with_gaps, "sample_conjugate", stop)
        with pytest.raises(Caught):
            BayesianGMMAutoEncoder(2, covariance_type="tied", random_state=0).fit(X)
        monkeypatch.setattr(_with_gaps, "chain_starts_with_gaps", inner)
        return caught

    return run


def heights(objective, models):
    return find_mode(objective, models, 1.0, tol=1e-7, max_iter=300).log_target


def test_chains_start_at_all_modes_and_where_no_search_has_been(starts_of_fit):
    caught = starts_of_fit()
    objective, starts = caught["objective"], caught["starts"]
    assert not caught["doubts"]
    own = objective.log_targets(starts, 1.0)
    at_modes = np.abs(own - heights(objective, starts)) < 0.01
    assert 0.5 < at_modes.mean() < 0.9
    half = starts.n_models // 2
    first, second = (np.unique(own[part][at_modes[part]].round(1)) for part in _halves(half))
    np.testing.assert_array_equal(first, second)
    # one mode of each of two searches and of the fits, as on complete rows, would be three
    assert len(first) > 5
    assert own.max() > heights(objective, caught["fitted"]).max() - 1e-3
    assert np.all(own[at_modes] > own.max() - 20)


def _halves(half):
    return slice(0, half), slice(half, 2 * half)


def test_a_best_mode_that_one_search_alone_has_found_is_a_doubt(starts_of_fit, monkeypatch):
    inner, calls = _with_gaps.modes_from, []

    def modes_from(objective, models):
        modes = inner(objective, models)
        calls.append(len(calls))
        # the fits, and all searches but the first, end lower and lower
        worse = 0.0 if len(calls) == 2 else 1.0 * len(calls)
        return replace(modes, log_density=modes.log_density - worse)

    monkeypatch.setattr(_with_gaps, "modes_from", modes_from)
    caught = starts_of_fit()
    assert len(calls) == 6  # the fits, and five searches
    assert "at most one of 5 independent searches" in caught["doubts"][0]
