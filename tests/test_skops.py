"""Fitted estimators saved by skops, a format that runs no code of the file; skipped without it."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import quick
from sklearn.datasets import load_iris

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)

skops_io = pytest.importorskip("skops.io", reason="skops is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = load_iris().data
ESTIMATORS = [
    BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0),
    BayesianGMMAutoEncoder(2, random_state=0),
    BayesianPCAAutoEncoder(2, model_temperature=0),
    BayesianPCAAutoEncoder(1, random_state=0),
    BayesianMixturePCAAutoEncoder(2, model_temperature=0, random_state=0),
    BayesianRBMAutoEncoder(2, model_temperature=0, max_iter=3, random_state=0),
    BayesianVAEAutoEncoder(1, model_temperature=0, max_iter=3, random_state=0),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_loaded_estimator_has_the_same_scores_and_codes(estimator, tmp_path):
    rows = (X.mean(axis=0) < X).astype(float) if "RBM" in type(estimator).__name__ else X
    fitted = quick(estimator).fit(rows)
    skops_io.dump(fitted, tmp_path / "fitted.skops")
    types = skops_io.get_untrusted_types(file=tmp_path / "fitted.skops")
    # nothing but classes of this package needs the reader's trust
    assert all(name.startswith(("skbae.", "_altered.")) for name in types)
    loaded = skops_io.load(tmp_path / "fitted.skops", trusted=types)
    np.testing.assert_array_equal(loaded.score_samples(rows), fitted.score_samples(rows))
    np.testing.assert_array_equal(loaded.transform(rows), fitted.transform(rows))
    assert loaded.get_params() == fitted.get_params()
