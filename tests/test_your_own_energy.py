"""The page on energies of one's own, run as it stands, and its two families against quadrature."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ive, logsumexp

from skbae import EnergyAutoEncoder
from skbae.energies import MixtureOf
from skbae.testing import check_energy

ROOT = Path(__file__).parent.parent
EXAMPLES = {
    name: ROOT / "examples" / f"{name}.py" for name in ("your_own_energy", "mixture_of_regressions")
}


def source_of(name):
    text = EXAMPLES[name].read_text("utf-8")
    return text[text.index("@dataclass") : text.index("if __name__")].rstrip()


@pytest.fixture(scope="module")
def families():
    found = {}
    for path in EXAMPLES.values():
        found.update(run_path(str(path), run_name="example"))
    return found


def test_the_code_of_the_page_runs():
    page = (ROOT / "docs" / "your-own-energy.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 7
    for name in EXAMPLES:
        assert source_of(name) in page
    names = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "docs/your-own-energy.md", "exec"), names)
    assert names["search"].best_score_ == names["search"].cv_results_["mean_test_score"].max()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_family_takes_fewer_than_eighty_lines(name):
    assert sum(bool(line.strip()) for line in source_of(name).splitlines()) < 80


def test_the_evidence_of_angles_is_that_of_quadrature(families):
    X = np.random.default_rng(0).vonmises(1.0, 3.0, size=(9, 1))
    recipe = MixtureOf(families["VonMises"], n_components=1, strength=1.5)
    found = EnergyAutoEncoder(recipe, random_state=0, n_models=10).fit(X)
    grid = np.exp(np.linspace(-9, 7, 2000))
    log_i0 = np.log(ive(0, grid)) + grid

    def integral(length, n):
        seen = np.log(ive(0, grid * length)) + grid * length
        return logsumexp(2 * np.log(grid) + seen - n * (log_i0 + np.log(2 * np.pi)))

    length = np.hypot(np.cos(X).sum(), np.sin(X).sum())
    exact = integral(length, 10.5) - integral(0.0, 1.5)
    assert found.log_evidence_ == pytest.approx(exact, abs=4 * found.hmaxemax_error_ * 9 + 1e-5)
    normal = MixtureOf(families["VonMises"], n_components=1, strength=1.5)
    other = EnergyAutoEncoder(normal, temperature=1, model_temperature=2, random_state=0).fit(X)
    half = integral(length / 2, 6.0) - integral(0.0, 1.5)
    assert abs(other.log_evidence_ - half) < 4 * other.hmaxemax_error_ * 9 / 2 + 1e-4


def test_the_maximum_of_angles_has_their_mean_arrow(families):
    X = np.random.default_rng(0).vonmises(1.0, 3.0, size=(50, 1))
    recipe = MixtureOf(families["VonMises"], n_components=1)
    best = EnergyAutoEncoder(recipe, model_temperature=0).fit(X)
    length = np.hypot(np.cos(X).mean(), np.sin(X).mean())
    mean = np.arctan2(np.sin(X).mean(), np.cos(X).mean())
    kappa = brentq(lambda k: ive(1, k) / ive(0, k) - length, 0.1, 100, xtol=1e-13)
    east, north = best.reference_.components.arrows[0, 0]
    assert np.hypot(east, north) == pytest.approx(kappa, rel=1e-9)
    assert np.arctan2(north, east) == pytest.approx(mean, abs=1e-12)
    density = stats.vonmises(kappa, mean).logpdf(X[:, 0])
    np.testing.assert_allclose(best.score_samples(X), density, atol=1e-10)


def test_the_evidence_of_a_regression_is_that_of_a_t_distribution(families):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((12, 3))
    X[:, 2] += X[:, 0]
    recipe = MixtureOf(families["LinearRegressions"], n_components=1, strength=2.0, variance=1.5)
    found = EnergyAutoEncoder(recipe, random_state=0, n_models=10).fit(X)
    Z = np.column_stack([np.ones(12), X[:, :2]])
    a, rate = (2 + 3) / 2 + 1, 0.5 * 2.0 * 1.5
    shape = rate / a * (np.eye(12) + Z @ Z.T / 2.0)
    exact = stats.multivariate_t(np.zeros(12), shape, 2 * a).logpdf(X[:, 2])
    exact += stats.norm.logpdf(X[:, :2]).sum()
    assert found.log_evidence_ == pytest.approx(exact, abs=4 * found.hmaxemax_error_ * 12 + 1e-6)


def test_a_regression_is_least_squares(families):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((30, 3))
    best = EnergyAutoEncoder(
        MixtureOf(families["LinearRegressions"], n_components=1), model_temperature=0
    ).fit(X)
    Z = np.column_stack([np.ones(30), X[:, :2]])
    slopes, left, *_ = np.linalg.lstsq(Z, X[:, 2], rcond=None)
    np.testing.assert_allclose(best.reference_.components.slopes[0, 0], slopes, atol=1e-8)
    assert best.reference_.components.noise[0, 0] == pytest.approx(left[0] / 30)


def test_a_regression_whose_scores_are_inherited_is_caught(families):
    """The gradient in all coefficients, of which one is a function of the others."""

    class Inherited(families["LinearRegressions"]):
        def scores(self, *args):
            return super(families["LinearRegressions"], self).scores(*args)

    X = np.random.default_rng(3).standard_normal((20, 2))
    energy = MixtureOf(Inherited, n_components=1).for_rows(X)
    with pytest.raises(AssertionError, match="check_scores: scores, number"):
        check_energy(energy, X, checks=["check_scores"])
