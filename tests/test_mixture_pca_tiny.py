"""Mixtures of PCA on a handful of rows: no fit ends in an error, and narrow modes are found."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import QuickMixturePCA
from _subspaces import PRIOR, every_grouping, mixture, small_rows

from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import PCAComponents, orthonormal_rows
from skbae.estimators.mixture_pca._fit import energy_with_prior
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._mode_annealing import AnnealPlan, sample_from_modes
from skbae.inference.sample._mode_search import ModeStarts, _Search, find_modes
from skbae.inference.sample._tempering import TemperingError

COLD = 0.2


def tiny(index):
    """Return rows of one of six kinds, a number of components and of latent dimensions."""
    rng = np.random.default_rng(5000 + index)
    n, size = int(rng.integers(3, 11)), int(rng.integers(2, 7))
    n_components, n_latent = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    kind = index % 6
    X = rng.standard_t(1.0, (n, size)) if kind == 1 else rng.standard_normal((n, size))
    if kind == 2:
        X = rng.integers(0, 2, (n, size)) * 1.0
        X[0, 0], X[1, 0] = 0.0, 1.0
    elif kind == 3:
        X = X * 10.0 ** rng.uniform(-4, 4, size)
    elif kind == 4:
        X[:, -1], X[n // 2] = X[:, 0], X[0]
    elif kind == 5:
        X = X[:, :1] * rng.standard_normal(size)
        X[0] += 1
    return X, n_components, n_latent


def check_fits(index):
    X, n_components, n_latent = tiny(index)
    rng = np.random.default_rng(index)
    for model_temperature in (0, None):
        temperature = float(rng.choice([1e-3, 0.05, 0.2, 0.5, 1.0, 2.0]))
        fitted = QuickMixturePCA(
            n_components,
            n_latent=n_latent,
            temperature=temperature,
            model_temperature=model_temperature,
            tied_noise=index % 3 == 0,
            n_models=5,
            random_state=index,
        ).fit(X)
        assert np.isfinite(fitted.lower_bound_)
        assert np.isfinite(fitted.score_samples(X)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("index", range(6))
def test_fits_of_tiny_tables_end(index):
    check_fits(index)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("index", range(6, 106))
def test_fits_of_many_tiny_tables_end(index):
    check_fits(index)


def groupings(which):
    """Return starts at some of the ways to group seven rows into three components."""
    starts, empty = every_grouping(small_rows(7), 3, PRIOR, COLD, equal=False)
    return ModeStarts.independent(starts.take(which), empty[which])


def modes_of(starts):
    with RowRunner(1) as runner:
        objective = Objective(mixture(3, 0), make_rows(small_rows(7), None), runner, COLD)
        return find_modes(objective, starts, COLD)


def test_a_narrow_mode_on_the_slope_of_a_wide_one_is_a_mode_of_its_own():
    """It is five nats higher; taken for the wide one, .08 of the log evidence were missing."""
    wide, narrow = (np.array([index]) for index in (118, 33))
    for alone in (wide, narrow):
        assert len(modes_of(groupings(alone)).found_once) == 1
    both = modes_of(groupings(np.concatenate([wide, narrow])))
    assert len(both.found_once) == 2


def absurd_start(seed):
    """Return an objective of five rows and a start far from them, with noise of any size."""
    rng = np.random.default_rng(seed)
    X, n_components = rng.standard_normal((5, 4)), 3
    settings = QuickMixturePCA(n_components, n_latent=1)._check_parameters()
    rows = make_rows(X, None)
    noise = 10.0 ** rng.uniform(-12, 3, (1, n_components))
    components = PCAComponents(
        means=10.0 ** rng.uniform(-3, 4) * rng.standard_normal((1, n_components, 4)),
        components=orthonormal_rows(rng.standard_normal((1, n_components, 1, 4))),
        precisions=10.0 ** rng.uniform(-3, 0, (1, n_components, 1)) / noise[..., None],
        noise=noise,
        directions=np.zeros((1, n_components, 0, 4)),
    )
    params = MixtureParameters(np.full((1, n_components), 1 / n_components), components)
    return energy_with_prior(settings, rows), rows, params


def test_a_search_ends_no_lower_than_it_started():
    """The chart around a mode has another centre where lengths vanish, lower by 1e200 nats."""
    for seed in range(12):
        energy, rows, params = absurd_start(seed)
        with RowRunner(1) as runner:
            objective = Objective(energy, rows, runner, 1.0)
            search = _Search(objective, 50.0, 300)
            charts = search.around(params).charts
            first = search.around(params).value(charts.centres[0])
            model, local = search.find_mode(params, np.zeros(3, dtype=bool))
            assert search.around(model).value(local) > first - 2.0
            # and a normal density can be fitted to what it found
            modes = find_modes(
                objective, ModeStarts.independent(params, np.zeros((1, 3), dtype=bool)), 0.1
            )
        assert len(modes.found_once) == 1
        assert modes.n_lost == 0


def lose_searches(monkeypatch, condition):
    """Let fits to modes fail where a condition on the model holds, as if rounding decided."""
    fit = _Search.fit

    def failing(self, params, local, empty):
        if condition(params):
            raise FloatingPointError("the density about a mode has no finite curvature")
        return fit(self, params, local, empty)

    monkeypatch.setattr(_Search, "fit", failing)


def test_searches_without_a_fit_are_dropped_and_counted(monkeypatch):
    starts = groupings(np.array([118, 33]))
    lose_searches(monkeypatch, lambda params: params.components.noise.min() < 0.09)
    modes = modes_of(starts)
    assert len(modes.found_once) == 1
    assert modes.n_lost == 1
    with RowRunner(1) as runner:
        objective = Objective(mixture(3, 0), make_rows(small_rows(7), None), runner, COLD)
        plan = AnnealPlan(n_islands=2, n_particles=64, n_pilot=64, n_keep=5)
        run = sample_from_modes(objective, starts, COLD, np.random.default_rng(0), plan=plan)
    assert any("no finite curvature" in doubt for doubt in run.doubts)


def test_if_no_search_has_a_fit_the_error_says_so(monkeypatch):
    lose_searches(monkeypatch, lambda params: True)
    with RowRunner(1) as runner:
        objective = Objective(mixture(3, 0), make_rows(small_rows(7), None), runner, COLD)
        with pytest.raises(TemperingError, match="no start leads to a mode"):
            sample_from_modes(
                objective,
                groupings(np.array([33])),
                COLD,
                np.random.default_rng(0),
                plan=AnnealPlan(),
            )
