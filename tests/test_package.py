"""The package's face: what it offers, and that it loads no more than it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import skbae

ROOT = Path(__file__).parents[1]


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


def test_type_checkers_are_told_that_there_are_types():
    assert files("skbae").joinpath("py.typed").is_file()


def text_of(name):
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the tests")
    return path.read_text("utf-8")


def test_the_version_and_its_date_are_the_same_everywhere():
    (number, date), *_ = re.findall(
        r"^## (\d\S*) - (\d{4}-\d\d-\d\d)$", text_of("CHANGELOG.md"), re.MULTILINE
    )
    citation = text_of("CITATION.cff")
    assert f'version: "{number}"' in citation
    assert f"date-released: {date}" in citation
    assert f"version = {{{number}}}" in text_of("docs/cite.md")
    # after a release, a version for what follows it
    assert skbae.__version__ == number or re.search(r"(dev|rc|a|b)\d+$", skbae.__version__)


def test_no_capability_is_left_out_of_the_changelog():
    """The first release's section names every public estimator."""
    changelog = text_of("CHANGELOG.md")
    for name in skbae.__all__:
        if name != "__version__":
            assert name in changelog, name
