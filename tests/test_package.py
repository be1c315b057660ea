"""The package's face: what it offers, and that it loads no more than it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import skbae


def test_all_public_names_can_be_imported():
    for name in skbae.__all__:
        assert getattr(skbae, name) is not None
    assert set(skbae.__all__) <= set(dir(skbae))


def test_estimators_go_by_the_name_they_are_found_under():
    for name in skbae.__all__:
        if name.startswith("Bayesian"):
            assert getattr(skbae, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'skbae' has no attribute 'BayesianOracle'"):
        _ = skbae.BayesianOracle


def test_families_are_loaded_when_asked_for():
    code = (
        "import sys, skbae\n"
        "assert not any(name.startswith('skbae.estimators') for name in sys.modules)\n"
        "from skbae import BayesianGMMAutoEncoder\n"
        "assert 'skbae.estimators.gmm._estimator' in sys.modules\n"
        "assert 'skbae.estimators.mixture_pca._estimator' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
