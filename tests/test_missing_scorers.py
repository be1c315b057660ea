"""Scorers, Pipelines and searches on rows with missing entries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _missing_oracles import with_gaps
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    make_hmaxemax_scorer,
    reconstruction_scorer,
)

GAPPY = with_gaps(load_iris().data[::2], 0.2)
SCALES = np.array([1.0, 10.0, 0.1, 3.0])


def model(**settings):
    return BayesianGMMAutoEncoder(**{"covariance_type": "diag", "random_state": 0, **settings})


def test_evidences_in_a_pipeline_are_in_the_units_of_the_rows():
    plain = model().fit(GAPPY)
    inside = make_pipeline(StandardScaler(), model()).fit(GAPPY)
    found = evidence_scorer(inside, GAPPY) - evidence_scorer(plain, GAPPY)
    # the default prior scales with the columns
    assert abs(found) < 5e-3
    scaled = evidence_scorer(model().fit(GAPPY * SCALES), GAPPY * SCALES)
    jacobian = (~np.isnan(GAPPY)).mean(axis=0) @ np.log(SCALES)
    assert abs(scaled + jacobian - evidence_scorer(plain, GAPPY)) < 5e-3


def test_densities_in_a_pipeline_are_those_of_known_entries():
    inside = make_pipeline(StandardScaler(), model(model_temperature=0)).fit(GAPPY)
    scaled = inside[:-1].transform(GAPPY)
    slopes = -np.log(inside[0].scale_)
    jacobian = (~np.isnan(GAPPY)).mean(axis=0) @ slopes
    expected = make_hmaxemax_scorer(units="model")(inside, GAPPY) + jacobian
    np.testing.assert_allclose(hmaxemax_scorer(inside, GAPPY), expected, rtol=1e-9)
    np.testing.assert_allclose(
        hmaxemax_scorer(inside, GAPPY), inside[-1].score_samples(scaled).mean() + jacobian
    )


def test_steps_that_fill_gaps_are_refused():
    inside = make_pipeline(SimpleImputer(), model(model_temperature=0)).fit(GAPPY)
    with pytest.raises(ValueError, match="fill missing entries"):
        hmaxemax_scorer(inside, GAPPY)


@pytest.mark.parametrize("scorer", [evidence_scorer, hmaxemax_scorer, reconstruction_scorer])
def test_searches_compare_candidates_on_known_entries(scorer):
    in_sample = scorer is evidence_scorer
    rows = pd.DataFrame(GAPPY, columns=list("abcd"))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model(model_temperature=None if in_sample else 0)),
        {"bayesiangmmautoencoder__n_components": [1, 2]},
        scoring=scorer,
        cv=InSample() if in_sample else KFold(3, shuffle=True, random_state=0),
        refit=False,
        error_score="raise",
    ).fit(rows)
    assert search.best_params_ == {"bayesiangmmautoencoder__n_components": 2}


def test_reconstructions_are_compared_with_known_entries():
    fitted = BayesianMixturePCAAutoEncoder(2, model_temperature=0, random_state=0).fit(GAPPY)
    back = fitted.inverse_transform(fitted.transform(GAPPY))
    expected = -np.nanmean((GAPPY - back) ** 2)
    np.testing.assert_allclose(reconstruction_scorer(fitted, GAPPY), expected)
    other = np.where(np.isnan(GAPPY), np.nan, GAPPY + 1.0)
    assert reconstruction_scorer(fitted, other) < expected


def test_evidences_need_the_training_rows_with_their_gaps():
    fitted = model().fit(GAPPY)
    with pytest.raises(ValueError, match="training rows"):
        evidence_scorer(fitted, with_gaps(load_iris().data[::2], 0.3, seed=1))
