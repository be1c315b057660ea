"""Default fits of mixtures against the reference evidences that the benchmarks store."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STORED = BENCHMARKS / "evidence_references.json"
if not STORED.exists():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
from evidence_references import compare, covariance_prior, is_wrong, key_of, problems  # noqa: E402

REFERENCES = json.loads(STORED.read_text())
QUICK = [
    "wine tied K=3 T=0.5 fill=5",
    "acidity full K=4 T=1 fill=5",
    pytest.param("wine tied K=3 T=2 fill=5", marks=pytest.mark.slow),
]


def agree(key, seed):
    """Assert that a default fit is right, or says that it may not be."""
    reference = REFERENCES[key]
    name, X, kind, k, temperature, fill = next(p for p in problems() if key == key_of(p[0], *p[2:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = compare(X, kind, k, temperature, covariance_prior(X, kind, fill or k), seed)
    assert not is_wrong(fit, reference), (name, fit, reference)
    return fit


@pytest.mark.parametrize("key", QUICK)
def test_default_fits_meet_independent_references_at_any_temperature(key):
    """To .3 nats."""
    fit = agree(key, seed=11)
    assert fit["status"] == "ok"
    assert abs(fit["log_evidence"] - REFERENCES[key]["log_evidence"]) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("key", REFERENCES)
def test_no_default_fit_is_wrong_without_a_word(key, seed):
    agree(key, seed)


def test_a_wrong_fit_is_seen():
    """The comparison can fail: half a nat beside a reference, and the error that is claimed."""
    reference = {"log_evidence": -10.0, "error": 0.02}
    wrong = {"status": "ok", "log_evidence": -10.5, "error": 0.01}
    assert is_wrong(wrong, reference)
    assert not is_wrong({**wrong, "status": "suspect"}, reference)
    assert not is_wrong({**wrong, "error": 0.2}, reference)
    assert np.all([row["bound"] < row["log_evidence"] + 0.3 for row in REFERENCES.values()])
