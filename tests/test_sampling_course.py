"""The course of a fit that samples mixtures: threads, interruptions, verdicts, shapes."""

from __future__ import annotations

import re
import threading
import warnings

import numpy as np
import pytest
import sklearn
from _altered import QuickGMM
from _callbacks import Stopper, callbacks
from _data import GALAXIES
from _samplers import galaxies, make_problem, small_data
from sklearn.exceptions import ConvergenceWarning

import skbae
from skbae import BayesianGMMAutoEncoder
from skbae.estimators._sampling import summarise
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._gibbs import GibbsPlan, sample_conjugate

ESTIMATORS = [getattr(skbae, name) for name in skbae.__all__ if name.startswith("Bayesian")]

# -- the course of a fit -------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_whatever_the_threads():
    X = small_data(60, 2)
    fits = [
        BayesianGMMAutoEncoder(2, random_state=3, n_jobs=n, n_models=10).fit(X)
        for n in (None, 1, 2)
    ]
    for other in fits[1:]:
        assert other.log_evidence_ == fits[0].log_evidence_
        assert other.sampling_ == fits[0].sampling_
        np.testing.assert_array_equal(other.models_.means, fits[0].models_.means)
        np.testing.assert_array_equal(other.means_, fits[0].means_)
    other = BayesianGMMAutoEncoder(2, random_state=4, n_models=10).fit(X)
    assert other.log_evidence_ != fits[0].log_evidence_


# Sixteen chains that hardly move.
FEW_SWEEPS = GibbsPlan(5, 8, 1, 2, 12, n_keep=5)


def few_sweeps(X, n_components, n_threads=1):
    """Return a run of too few sweeps, from draws of the prior."""
    energy = make_problem("full", n_components, X.shape[1]).energy()
    rows, rng = make_rows(X, None), np.random.default_rng(0)
    with RowRunner(n_threads) as runner:
        starts = energy.draw_prior(16, rng)
        objective = Objective(energy, rows, runner, 1.0)
        return sample_conjugate(objective, starts, rng, plan=FEW_SWEEPS)


def test_threads_agree_over_several_chunks():
    X = np.random.default_rng(0).normal(size=(30_000, 2))
    one, two = (few_sweeps(X, 2, n_threads) for n_threads in (1, 2))
    np.testing.assert_array_equal(one.log_evidence, two.log_evidence)
    np.testing.assert_array_equal(one.params.components.means, two.params.components.means)


class ControlC(Stopper):
    """Interrupts instead of asking to stop."""

    def on_fit_task_end(self, estimator, context, **kwargs):
        if super().on_fit_task_end(estimator, context, **kwargs):
            raise KeyboardInterrupt


def test_keyboard_interrupt_during_sweeps_restores_the_estimator_and_ends_threads():
    """Control-C in the middle of the sweeps."""
    callbacks()
    before, model = threading.active_count(), BayesianGMMAutoEncoder(2, random_state=0, n_jobs=2)
    model.set_callbacks(ControlC(20))
    state = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.random.default_rng(0).normal(size=(5000, 2)))
    assert vars(model) == state
    assert threading.active_count() == before


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda each: each.__name__)
def test_advice_after_poor_sampling_names_parameters_of_the_estimator(estimator):
    advice = estimator._settings_class.sampling_advice
    names = set(re.findall("[a-z]+(?:_[a-z]+)+", advice))
    assert names
    assert names <= set(estimator().get_params())


def test_a_gibbs_run_of_four_sweeps_is_not_ok_and_warns():
    run, settings = few_sweeps(GALAXIES, 4), BayesianGMMAutoEncoder()._check_parameters()
    with pytest.warns(ConvergenceWarning, match="BayesianGMMAutoEncoder.*covariance_type.*n_init"):
        attributes = summarise(settings, run, len(GALAXIES))
    assert attributes["sampling_"].status in ("suspect", "failed")
    assert attributes["sampling_"].reasons
    assert not attributes["converged_"]


def test_a_sampled_fit_with_status_ok_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = galaxies(3)
    assert fitted.sampling_.status == "ok"
    assert fitted.converged_
    with pytest.raises(AttributeError):
        fitted.sampling_.status = "better"


# after 131 and 135 steps proposals have just been made anew, and nothing has jumped
@pytest.mark.parametrize("after", [1, 30, 90, 131, 135])
def test_a_stopped_run_is_usable_and_says_so(after):
    callbacks()
    X, stopper = small_data(40, 2), Stopper(after)
    model = BayesianGMMAutoEncoder(3, random_state=0, n_models=10)
    model.set_callbacks(stopper)
    with pytest.warns(ConvergenceWarning, match="a callback stopped the run early"):
        model.fit(X)
    assert model.sampling_.status in ("suspect", "failed")
    assert any("callback stopped" in reason for reason in model.sampling_.reasons)
    assert stopper.steps < after + 30
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.models_.means).all()
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_the_progress_bar_runs(capsys):
    pytest.importorskip("rich")
    bar = callbacks().ProgressBar()
    model = BayesianGMMAutoEncoder(2, random_state=0, n_models=5)
    model.set_callbacks(bar)
    model.fit(small_data(20, 1))
    assert model.sampling_.status == "ok"
    assert "BayesianGMMAutoEncoder" in capsys.readouterr().out


def test_too_many_components_for_so_many_rows():
    X = np.arange(200_000.0)[:, None]
    with pytest.raises(ValueError, match=r"n_components must be at most 12.*got 13.*temperature=0"):
        BayesianGMMAutoEncoder(13).fit(X)
    BayesianGMMAutoEncoder(13, model_temperature=0, tol=0.1, random_state=0).fit(X[:40])


def test_more_components_than_can_be_relabelled_on_few_rows():
    """No sum over relabellings is needed there: thirteen clusters, each component its own."""
    X = (10.0 * np.arange(13)[:, None] + np.random.default_rng(0).normal(size=(13, 20))).reshape(
        -1, 1
    )
    fitted = BayesianGMMAutoEncoder(13, n_models=5, random_state=0).fit(X)
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert fitted.sampling_.log_evidence_lower_bound <= fitted.log_evidence_
    np.testing.assert_allclose(np.sort(fitted.means_[:, 0]), 10.0 * np.arange(13), atol=1.5)


def test_too_many_models_to_keep():
    with (
        sklearn.config_context(working_memory=1),
        pytest.raises(ValueError, match=r"n_models=1000000.*working_memory"),
    ):
        BayesianGMMAutoEncoder(2, n_models=10**6).fit(small_data(40, 2))


def test_single_precision_rows():
    X = small_data(40, 2)
    settings = {"random_state": 0, "n_models": 20}
    double = BayesianGMMAutoEncoder(2, **settings).fit(X)
    single = BayesianGMMAutoEncoder(2, **settings).fit(X.astype(np.float32))
    assert single.predict_proba(X.astype(np.float32)).dtype == np.float32
    error = np.hypot(double.sampling_.log_evidence_error, single.sampling_.log_evidence_error)
    assert abs(single.log_evidence_ - double.log_evidence_) < 5 * error


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_shapes_of_what_was_sampled():
    shapes = {
        "full": (7, 3, 2, 2), "tied": (7, 2, 2), "diag": (7, 3, 2), "spherical": (7, 3),
        "tied_diag": (7, 2), "tied_spherical": (7,),
    }  # fmt: skip
    X = small_data(30, 2)
    for kind, shape in shapes.items():
        fitted = QuickGMM(3, covariance_type=kind, n_models=7, random_state=0).fit(X)
        models = fitted.models_
        assert models.weights.shape == (7, 3)
        assert models.means.shape == (7, 3, 2)
        assert models.covariances.shape == models.precisions_cholesky.shape == shape
        np.testing.assert_allclose(models.weights.sum(axis=1), 1)


def test_more_components_than_groups_do_not_pay():
    """Evidence falls beyond the number of groups: each step costs, none gains."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(25, 1)), 12 + rng.normal(size=(25, 1))])
    settings = {"covariance_prior": [[1.0]], "random_state": 0, "n_models": 5}
    fits = [BayesianGMMAutoEncoder(k, **settings).fit(X) for k in (1, 2, 3, 4)]
    values = np.array([each.log_evidence_ for each in fits])
    errors = np.array([each.sampling_.log_evidence_error for each in fits])
    assert values[1] - values[0] > 5
    assert values[2] < values[1] + 5 * np.hypot(errors[1], errors[2])
    assert values[3] < values[1] + 5 * np.hypot(errors[1], errors[3])


# -- stages ----------------------------------------------------------------------------------------


def test_verbose_fits_tell_stages_and_what_ends_them(capsys):
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[20:] += 3
    settings = {"covariance_prior": np.eye(2), "random_state": 0}
    quiet = BayesianGMMAutoEncoder(2, **settings).fit(X)
    assert capsys.readouterr().out == ""
    told = BayesianGMMAutoEncoder(2, verbose=1, verbose_interval=1000, **settings).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[BayesianGMMAutoEncoder] ") for line in lines)
    stages = [line for line in lines if line.endswith(" s)")]
    assert "search 1 for modes, of 2 to 5" in stages[0]
    assert "chains from the modes found, 60 steps" in stages[2]
    assert "until they agree and the log evidence has an error below 0.05" in stages[3]
    assert lines[-1].split()[1] == str(told.n_iter_)
    assert told.log_evidence_ == quiet.log_evidence_
