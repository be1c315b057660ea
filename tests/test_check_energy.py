"""The public check of energies: all families pass it, and each kind of mistake is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from _pca_problems import bayesian_pca
from _poisson import PoissonComponents, Rates
from _samplers import make_problem
from _subspaces import mixture as subspaces
from _subspaces import small_rows
from scipy.special import logsumexp
from test_component_families import KINDS

import skbae.energies
from skbae.energies import (
    ArrayRecord,
    BoundEnergy,
    ConjugateMixture,
    Energy,
    ExponentialComponents,
    MixtureEnergy,
    MixtureParameters,
    mixture_energy,
)
from skbae.energies.components._noise import Box, NoisyFamily
from skbae.energies.components._product import ProductFamily
from skbae.energies.components._student import StudentComponents
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.energies.mixture._conjugate import MixtureDraws
from skbae.energies.rbm._energy import RBMEnergy, RBMPrior
from skbae.energies.rbm._visible import BaseRates, BinaryLayer, GaussianLayer
from skbae.testing import check_energy

COUNTS = (
    np.random.default_rng(0)
    .poisson([[1.0, 6.0], [4.0, 1.0]], size=(20, 2, 2))
    .reshape(-1, 2)
    .astype(float)
)
POINTS = small_rows(30)
BITS = (np.random.default_rng(1).random((30, 3)) < 0.4).astype(float)


def poissons(kind=PoissonComponents, n_components=2, equal_weights=False, mixture=ConjugateMixture):
    family = kind(n_components, 2, 1.7, 0.6)
    return mixture(family, np.full(n_components, 1.3), equal_weights)


class Machines(RBMEnergy):
    """With log Z, which is computed in passes over rows only."""

    def constrain(self, theta):
        params = super().constrain(theta)
        return replace(params, log_partition=self.log_partition(params))


def columns(name):
    return mixture_energy(KINDS[name].make(), 1.2)


def table():
    parts = [KINDS[name].make() for name in ("poisson", "categorical")]
    return mixture_energy(ProductFamily(parts, [np.array([0, 1]), np.array([2, 3])]), 1.2)


def around_zero(n_components):
    return conjugate_gaussian_mixture(
        n_components,
        2,
        "full",
        False,
        0.0,
        concentration=1.0,
        mean_precision=0.1,
        mean=np.zeros(2),
        degrees_of_freedom=4.0,
        covariance=np.eye(2),
        centre=np.zeros(2),
    ).family


def heavy_tails(degrees):
    return mixture_energy(StudentComponents(around_zero(2), degrees), 1.2)


def noisy():
    low, high = POINTS.min(axis=0), POINTS.max(axis=0)
    box = Box(low, high, np.log(high - low), np.zeros(2, bool))
    return mixture_energy(NoisyFamily(around_zero(2), box), 1.2)


def column_rows(*names):
    rng = np.random.default_rng(6)
    return np.hstack([KINDS[name].rows(rng, 25) for name in names])


def machine(layer, kind=Machines, size=3):
    rates = BaseRates(np.full(size, 0.5), np.full(size, 0.25))
    return kind(2, size, layer, rates, RBMPrior(1.0, 1.0, 2.0, 0.5))


FAMILIES = {
    "one-poisson": (partial(poissons, n_components=1), COUNTS),
    "poissons": (poissons, COUNTS),
    "poissons-equal-weights": (partial(poissons, n_components=3, equal_weights=True), COUNTS),
    **{
        f"gaussians-{kind}": (
            lambda kind=kind: make_problem(kind, 2, 2).energy(POINTS.mean(axis=0)),
            POINTS,
        )
        for kind in ("full", "tied_diag")
    },
    **{
        f"columns-{name}": (partial(columns, name), column_rows(name))
        for name in ("binomial", "exponential", "categorical")
    },
    "columns-of-two-kinds": (table, column_rows("poisson", "categorical")),
    "student": (partial(heavy_tails, 3.5), POINTS),
    "student-learned": (partial(heavy_tails, None), POINTS),
    "noise": (noisy, POINTS),
    "pca": (lambda: bayesian_pca(POINTS, 1), POINTS),
    "mixture-pca": (lambda: subspaces(2, 1), POINTS),
    "mixture-pca-tied": (lambda: subspaces(2, 1, tied=True), POINTS),
    "machine-bits": (lambda: machine(BinaryLayer()), BITS),
    "machine-real": (lambda: machine(GaussianLayer(), size=2), POINTS),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_all_families_pass(name):
    """Decoders do not take part: their ``hmax`` is an estimate."""
    make, X = FAMILIES[name]
    made = check_energy(make(), X)
    assert {"check_hmax", "check_normalised", "check_draws", "check_statistics"} <= set(made)
    if "poisson" in name or "gaussians" in name or "columns" in name:
        assert {"check_maximise", "check_joint_draws", "check_evidence"} <= set(made)
    if name.startswith(("student", "noise")):
        assert {"check_maximise", "check_prior_draws"} <= set(made)
    if "pca" in name or "machine" in name or "gaussians" in name or "columns" in name:
        assert {"check_objective_gradient", "check_prior_draws"} <= set(made)


# -- mistakes ------------------------------------------------------------------------------------


class ForgottenBase(PoissonComponents):
    def base(self, X):
        return np.zeros(len(X))


class WrongNormaliser(PoissonComponents):
    def natural(self, params):
        natural = super().natural(params)
        natural[..., -1] *= 0.95
        return natural


class WrongDraws(PoissonComponents):
    def draw(self, params, models, labels, rng):
        return rng.poisson(1.08 * params.rates[models, labels]).astype(float)


class WrongCodesOfDraws(ConjugateMixture):
    def draw(self, params, n_rows, rng):
        X, labels = super().draw(params, n_rows, rng)
        return X, self.n_components - 1 - labels


class OvershootingMaximum(PoissonComponents):
    def match_features(self, means):
        return Rates(1.3 * np.maximum(means, 1e-12))


class WrongWeights(ConjugateMixture):
    """The weights of the square roots of counts."""

    def maximise(self, statistics, params, temperature):
        roots = replace(statistics, counts=np.sqrt(statistics.counts))
        weights = super().maximise(roots, params, temperature).weights
        return replace(super().maximise(statistics, params, temperature), weights=weights)


class NoPathToTheStep(ConjugateMixture):
    def interpolate(self, params, statistics, step, temperature):
        return super().interpolate(params, statistics, 0.5 * step, temperature)


class WrongPriorDraws(PoissonComponents):
    def draw_prior(self, n_models, rng):
        return Rates(1.2 * super().draw_prior(n_models, rng).rates)


class WrongConditionalDraws(PoissonComponents):
    def draw_statistics(self, statistics, rng):
        return Rates(rng.standard_gamma(statistics[..., :-1] + 0.5) / statistics[..., -1:])


class WrongLogNormaliser(PoissonComponents):
    """The power of the rate is forgotten to be that of events."""

    def log_normaliser(self, statistics):
        return super().log_normaliser(statistics) - 0.3 * np.log(statistics[..., -1])


class WrongConditional(PoissonComponents):
    """Rows count twice."""

    def conditional(self, counts, moments, temperature):
        return super().conditional(counts, moments, temperature / 2)


class WrongScores(PoissonComponents):
    def scores(self, params, counts, moments, temperature):
        return super().scores(params, counts, moments, temperature) + 0.5 * params.rates[:, 0, :1]


class MostProbableCodes(MixtureDraws):
    def codes(self, energies, weights, rng):
        hmax = self.temperature * logsumexp(energies / self.temperature, axis=1)
        best = energies.argmax(axis=1)[:, None]
        energies[...] = 0
        np.put_along_axis(energies, best, 1, axis=1)
        return energies, None, hmax


class SweepsWithoutChance(ConjugateMixture):
    def sweep(self, params, frame, dtype, temperature):
        kernel, absent = self._kernel(params, frame, dtype)
        return MostProbableCodes(kernel, absent, temperature, 0.0)


class WrongEvidence(PoissonComponents):
    def log_marginal(self, counts, moments, temperature):
        return super().log_marginal(counts, moments, temperature) + 0.01 * counts


class WrongOdds(PoissonComponents):
    def log_joining(self, conditional, X, temperature, labels=None):
        return super().log_joining(conditional, X, temperature, None)


class WrongGradient(Machines):
    def objective_gradient(self, *args):
        gradient = super().objective_gradient(*args)
        gradient[:, 0] *= 1.01
        return gradient


class WrongPriorGradient(Machines):
    def log_prior_at(self, theta):
        value, gradient = super().log_prior_at(theta)
        return value, 1.01 * gradient


class UnnormalisedPrior(Machines):
    def log_prior_at(self, theta):
        value, gradient = super().log_prior_at(theta)
        return value + 0.3, gradient


class WiderDrawsOfThePrior(Machines):
    def draw_prior_coordinates(self, n_models, rng):
        return 1.1 * super().draw_prior_coordinates(n_models, rng)


class OtherCoordinates(Machines):
    def constrain(self, theta):
        return super().constrain(1.001 * theta)


class WithoutPartition(BinaryLayer):
    """As if all machines had the same log Z."""

    def expectations(self, params):
        log_partition, moments = super().expectations(params)
        nothing = {name: 0 * value for name, value in vars(moments).items()}
        return 0 * log_partition, replace(moments, **nothing)


MISTAKES = [
    (lambda: poissons(ForgottenBase), "check_normalised: hmax at T = 1 is not the normalised"),
    (lambda: poissons(WrongNormaliser), "check_normalised: hmax at T = 1 is not the normalised"),
    (lambda: poissons(WrongDraws), "check_draws: draw and hmax at T = 1 disagree about models"),
    (lambda: poissons(mixture=WrongCodesOfDraws), "check_codes_of_draws: the share of code"),
    (lambda: poissons(OvershootingMaximum), "check_maximise: maximise lowers the objective"),
    (lambda: poissons(mixture=WrongWeights), "check_maximise: maximise lowers the objective"),
    (lambda: poissons(mixture=NoPathToTheStep), "check_interpolate: interpolate with step 1"),
    (lambda: poissons(WrongPriorDraws), "check_densities: draw_prior and draw_conditional"),
    (lambda: poissons(WrongConditionalDraws), "check_densities: draw_prior and draw_conditional"),
    (
        lambda: poissons(WrongLogNormaliser),
        "check_densities: draw_prior and draw_conditional",
    ),
    (lambda: poissons(WrongConditional), "check_joint_draws: draw_prior, draw, sweep, conditional"),
    (lambda: poissons(WrongConditional), "check_evidence: the evidence of 8 rows at T = 0.5"),
    (lambda: poissons(WrongScores), "check_scores: scores, number"),
    (lambda: poissons(mixture=SweepsWithoutChance), "check_sweep: .* of sweep at T = 1"),
    (lambda: poissons(WrongEvidence), "check_evidence: the evidence of 8 rows at T = 0.5"),
    (lambda: poissons(WrongOdds), "check_preferences: preferences of visit at T = 0.5"),
]
MISTAKES_OF_GRADIENTS = [
    (lambda: machine(BinaryLayer(), WrongGradient), "check_objective_gradient: objective_gradient"),
    (lambda: machine(BinaryLayer(), WrongPriorGradient), "check_prior_gradient: the gradient of"),
    (lambda: machine(BinaryLayer(), UnnormalisedPrior), "check_prior_draws: log_prior_at is not"),
    (lambda: machine(BinaryLayer(), WiderDrawsOfThePrior), "check_prior_draws: draw_prior_coord"),
    (lambda: machine(BinaryLayer(), OtherCoordinates), r"check_coordinates: constrain\(unconst"),
    (lambda: machine(WithoutPartition()), "check_statistics: hmaxe of the statistics of expect"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_mistakes_are_named(make, message):
    with pytest.raises(AssertionError, match=message):
        check_energy(make(), COUNTS, checks=[message.partition(":")[0]])


@pytest.mark.parametrize(("make", "message"), MISTAKES_OF_GRADIENTS)
def test_mistakes_in_coordinates_are_named(make, message):
    with pytest.raises(AssertionError, match=message):
        check_energy(make(), BITS, checks=[message.partition(":")[0]])


def test_all_failures_are_listed():
    with pytest.raises(AssertionError, match=r"ConjugateMixture fails \d check\(s\):\n") as error:
        check_energy(poissons(WrongConditional), COUNTS)
    assert str(error.value).count("\n") >= 2


# -- energies without a prior, and of one's own kind ----------------------------------------------


class PlainPoissons(ExponentialComponents):
    """Without a prior."""

    n_components, n_features = 2, 2
    features, base = PoissonComponents.features, PoissonComponents.base
    natural, draw = PoissonComponents.natural, PoissonComponents.draw
    expected_features = PoissonComponents.expected_features
    match_features, n_parameters = PoissonComponents.match_features, PoissonComponents.n_parameters


def some_rates():
    rng = np.random.default_rng(3)
    return MixtureParameters(rng.dirichlet([2.0, 2.0], 3), Rates(rng.gamma(3.0, 1.0, (3, 2, 2))))


def test_an_energy_without_a_prior_is_checked_with_given_models():
    made = check_energy(MixtureEnergy(PlainPoissons()), COUNTS, params=some_rates())
    assert "check_maximise" in made
    assert "check_densities" not in made
    with pytest.raises(ValueError, match="params must be given for MixtureEnergy, which has no pr"):
        check_energy(MixtureEnergy(PlainPoissons()), COUNTS)


@dataclass(frozen=True)
class Scale(ArrayRecord):
    scale: np.ndarray


class Rayleigh(Energy):
    """The length of a plane vector of normal entries: no codes, and a density only."""

    n_features = 1

    def __init__(self, factor=1.0):
        self.factor = factor

    def bind(self, params, frame, dtype):
        return BoundRayleigh(params, self.factor)

    def draw(self, params, n_rows, rng):
        models = rng.integers(params.n_models, size=n_rows)
        return rng.rayleigh(params.scale[models])[:, None], np.zeros((n_rows, 0))

    def n_parameters(self):
        return 1


class BoundRayleigh(BoundEnergy):
    chunk_rows = 100

    def __init__(self, params, factor):
        self.scale, self.factor = params.scale[:, None], factor

    def hmax(self, X, temperature):
        square = (X[:, 0] / self.scale) ** 2
        return np.log(X[:, 0] / self.scale**2) - self.factor * square / 2


def test_the_least_energy_is_checked_for_its_density():
    X = np.random.default_rng(0).rayleigh(size=(20, 1))
    params = Scale(np.array([0.7, 2.0]))
    made = check_energy(Rayleigh(), X, params=params)
    assert "check_normalised" in made
    assert "check_statistics" not in made
    with pytest.raises(AssertionError, match="check_normalised"):
        check_energy(Rayleigh(1.2), X, params=params)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((PoissonComponents(2, 2), COUNTS), TypeError, "energy must be an Energy, got PoissonComp"),
        ((poissons(), COUNTS[:7]), ValueError, "8 rows or more, got the shape"),
        ((poissons(), COUNTS[:, :1]), ValueError, "X has 1 columns, but energy.n_features is 2"),
        (
            (poissons(), COUNTS, {"checks": ["check_all"]}),
            ValueError,
            "checks must be among .*all'",
        ),
    ],
)
def test_arguments_are_refused(arguments, error, message):
    energy, X, *more = arguments
    with pytest.raises(error, match=message):
        check_energy(energy, X, **(more[0] if more else {}))


def test_params_that_are_no_record_are_refused():
    with pytest.raises(TypeError, match="params must be an ArrayRecord of models, got ndarray"):
        check_energy(Rayleigh(), COUNTS[:, :1], params=np.ones(2))


def test_public_names_exist():
    for name in skbae.energies.__all__:
        assert not name.startswith("_")
        assert getattr(skbae.energies, name).__doc__
    assert dir(skbae.energies) == sorted(skbae.energies.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = skbae.energies.Nonsense
