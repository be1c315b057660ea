"""What rows held out decide at T = 1: how strong the penalty is, and whether a curve is left."""

from __future__ import annotations

import numpy as np
import pytest
from _tables import parabola
from sklearn.datasets import make_s_curve

from skbae import BayesianPCAAutoEncoder, BayesianVAEAutoEncoder
from skbae.estimators.vae import _asked


def s_curve(n_samples, seed):
    return make_s_curve(n_samples, noise=0.05, random_state=seed)[0][:, [0, 2]]


def circle(n_samples, seed):
    rng = np.random.default_rng(seed)
    t = rng.uniform(-3, 3, n_samples)
    return np.column_stack([np.cos(t), np.sin(t)]) + 0.05 * rng.normal(size=(n_samples, 2))


def plane(n_samples, seed):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n_samples, 1)) @ rng.normal(size=(1, 3))
    return codes + 0.3 * rng.normal(size=(n_samples, 3))


def network(**settings):
    return BayesianVAEAutoEncoder(
        1, **{"hidden_layer_sizes": (16,), "random_state": 0, "max_iter": 150, **settings}
    )


@pytest.mark.filterwarnings("ignore:.*still improved")
@pytest.mark.parametrize("table", [s_curve, circle])
def test_a_curve_is_found_at_temperature_one(table):
    """The strong penalty of tables with few rows held these at the line, "converged"."""
    X, new = table(200, 1), table(1000, 2)
    fitted = network().fit(X)
    line = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)
    assert fitted.alpha_ < 10
    assert fitted.score(new) > line.score(new) + 0.15


@pytest.mark.filterwarnings("ignore:.*still improved")
def test_a_weaker_penalty_is_taken_where_rows_held_out_gain():
    X, new = parabola()[::3], parabola()[1::3]
    free, strong = network().fit(X), network(alpha=10.0).fit(X)
    assert strong.alpha_ == 10
    assert free.alpha_ < 10
    assert free.score(new) > strong.score(new) + 0.2


@pytest.mark.filterwarnings("ignore:.*still improved")
def test_new_rows_of_a_linear_table_lose_nothing():
    fitted = network().fit(plane(120, 0))
    line = BayesianPCAAutoEncoder(1, model_temperature=0).fit(plane(120, 0))
    assert fitted.score(plane(1000, 1)) > line.score(plane(1000, 1)) - 0.05


@pytest.mark.filterwarnings("ignore:.*still improved")
def test_batches_go_on_with_the_penalty_of_the_fit():
    X = parabola()[::3]
    fitted = network().fit(X)
    chosen, before = fitted.alpha_, fitted.score(X)
    fitted.partial_fit(X)
    assert fitted.alpha_ == chosen < 10
    # the default penalty would lead back towards the line
    assert fitted.score(X) > before - 0.1
    # a penalty that is given is taken as it is
    assert fitted.set_params(alpha=5.0).partial_fit(X).alpha_ == 5


def test_the_penalty_does_not_depend_on_units():
    X = parabola()[::5]
    here, there = network(max_iter=30).fit(X), network(max_iter=30).fit(X * [1e3, 0.3])
    assert here.alpha_ == there.alpha_
    assert here.hmaxe_ == pytest.approx(there.hmaxe_ + np.log(1e3 * 0.3), abs=1e-3)


def test_a_gain_counts_if_it_is_larger_than_its_error():
    rng = np.random.default_rng(0)
    others, shares = rng.normal(size=100), np.full(100, 0.01)
    noise = rng.normal(size=100)
    noise = (noise - noise.mean()) / noise.std()  # the error of the mean is 0.1
    assert _asked._clearly_above(others + noise + 0.21, others, shares, 100.0)
    assert not _asked._clearly_above(others + noise + 0.19, others, shares, 100.0)
    # rows of weight four are four rows each
    assert _asked._clearly_above(others + noise + 0.11, others, shares, 400.0)
    assert not _asked._clearly_above(others, others, shares, 100.0)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_a_parabola_is_not_folded(seed):
    """Fits that went on from a folded one, which explains one column alone, stayed there."""
    X = parabola()
    fitted = BayesianVAEAutoEncoder(1, random_state=seed).fit(X)
    left = np.mean((X - fitted.inverse_transform(fitted.transform(X))) ** 2)
    assert left < 0.01  # 1.48 where it is folded, 0.41 on the line
