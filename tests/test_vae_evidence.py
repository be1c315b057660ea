"""Evidence of small decoders, sampled from the prior; and the estimate at tau = log N."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import with_plans
from _data import bent_rows
from _vae_oracles import evidence_by_prior_draws
from sklearn.datasets import load_iris
from test_vae_tables import SCALED

from skbae import BayesianPCAAutoEncoder, BayesianRBMAutoEncoder, BayesianVAEAutoEncoder
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._grid import GridDecoders
from skbae.energies.vae._network import Network
from skbae.energies.vae._penalty import Prior
from skbae.estimators._plans import SamplerPlans
from skbae.estimators.vae._tempered import in_codes_of
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample import _tempering
from skbae.inference.sample._langevin import LangevinPlan
from skbae.inference.sample._tempering import SMCPlan
from skbae.model_selection import InSample, evidence_scorer
from skbae.operators._tempered import log_mean_exp

SHORT = SamplerPlans(
    tempered=lambda n_rows, n_models, fewest=64: SMCPlan(
        n_islands=4, n_particles=256, n_moves=15, n_keep=n_models
    )
)
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
KINDS = [("gaussian", "per_feature", 1.0, 1), ("gaussian", "shared", 0.5, 2)]
KINDS += [("bernoulli", "shared", 1.0, 1)]


def problem(likelihood, noise, temperature, d, n_nodes=None, seed=0):
    rng = np.random.default_rng(seed)
    decoder = Decoder(Network((d, 3, 4), "tanh", skip=likelihood == "gaussian"), likelihood, noise)
    prior = Prior(decoder, 1.0, 1.0, np.full(decoder.n_extra, 0.1))
    energy = GridDecoders(decoder, prior, n_nodes or (80 if d == 1 else 40), temperature)
    X = rng.normal(size=(12, 4))
    if likelihood == "bernoulli":
        X = (X > 0).astype(float)
    theta = energy.draw_prior_coordinates(3, rng)
    theta[:, decoder.network.n_parameters :] = rng.normal(-0.5, 0.3, (3, decoder.n_extra))
    return energy, make_rows(X, rng.uniform(0.5, 2, 12)), theta


@pytest.mark.parametrize("kind", KINDS)
def test_objectives_on_a_grid_are_integrals_over_codes(kind):
    """By many draws of the codes' prior."""
    energy, rows, theta = problem(*kind)
    temperature, d = kind[2:]
    z = np.sqrt(temperature) * np.random.default_rng(1).standard_normal((200_000, d))
    with RowRunner(1) as runner:
        found = Objective(energy, rows, runner, temperature).value_and_gradient(theta)[0]
    network = energy.decoder.network
    for s in range(3):
        layers = network.layers(theta[s : s + 1])
        h = z
        for number, (matrix, intercept) in enumerate(layers):
            h = h @ matrix[0] + intercept[0]
            if number < len(layers) - 1:
                h = np.tanh(h)
        outputs = h if layers.skip is None else h + z @ layers.skip[0]
        total = 0.0
        for x, weight in zip(rows.X, rows.weights, strict=True):
            if kind[0] == "bernoulli":
                log_p = x @ outputs.T - np.logaddexp(0, outputs).sum(axis=1)
            else:
                s2 = np.exp(theta[s, network.n_parameters :])
                square = ((x - outputs) ** 2 / s2).sum(axis=1)
                log_p = -0.5 * square - 0.5 * (np.log(2 * np.pi * s2) + np.zeros(4)).sum()
            total += weight * temperature * log_mean_exp(log_p / temperature)
        np.testing.assert_allclose(found[s], total / rows.total, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_on_a_grid_by_finite_differences(kind):
    energy, rows, theta = problem(*kind)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, kind[2])
        gradient, of_prior = objective.value_and_gradient(theta)[1], objective.prior(theta)[1]
        for at in range(theta.shape[1]):
            move = 1e-5 * np.eye(theta.shape[1])[at]
            up, down = (objective.value_and_gradient(theta + m)[0] for m in (move, -move))
            np.testing.assert_allclose(gradient[:, at], (up - down) / 2e-5, atol=1e-6)
            up, down = (objective.prior(theta + m)[0] for m in (move, -move))
            np.testing.assert_allclose(of_prior[:, at], (up - down) / 2e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_forces_are_gradients_in_single_precision(kind):
    energy, rows, theta = problem(*kind)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, kind[2])
        force, gradient = objective.force(theta), objective.value_and_gradient(theta)[1]
    assert not np.array_equal(force, gradient)
    np.testing.assert_allclose(force, gradient, atol=1e-4 * np.abs(gradient).max())


def test_decoders_of_one_pass_do_not_depend_on_each_other():
    """So many are computed in several blocks."""
    energy, rows, _ = problem("gaussian", "per_feature", 1.0, 1)
    theta = energy.draw_prior_coordinates(200, np.random.default_rng(0))
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 1.0)
        together = objective.value_and_gradient(theta)
        for number in (0, 77, 199):
            alone = objective.value_and_gradient(theta[number : number + 1])
            np.testing.assert_allclose(together[0][number], alone[0][0], rtol=1e-9)
            np.testing.assert_allclose(together[1][number], alone[1][0], rtol=1e-6, atol=1e-9)


def test_kinds_of_coordinates_are_those_of_units_and_features():
    decoder = Decoder(Network((2, 3, 2), "tanh", skip=True), "gaussian", "per_feature")
    energy = GridDecoders(decoder, Prior(decoder, 1.0, 1.0, np.full(2, 0.1)), 40, 1.0)
    kinds = energy.coordinate_kinds()
    into, bends, out, at = kinds[:6], kinds[6:9], kinds[9:15].reshape(3, 2), kinds[15:17]
    skip, noise = kinds[17:21].reshape(2, 2), kinds[21:]
    groups = [into, bends, out[:, 0], out[:, 1], at[:1], at[1:], skip[:, 0], skip[:, 1]]
    groups += [noise[:1], noise[1:]]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) == len(groups)


def test_the_prior_of_decoders_is_normalised():
    """Draws have the moments that its density says: by importance sampling from a wider one."""
    energy, _, _ = problem("gaussian", "shared", 1.0, 1)
    rng = np.random.default_rng(0)
    draws = energy.draw_prior_coordinates(4000, rng)
    at = energy.decoder.network.n_parameters
    deviations = 1 / np.sqrt(energy.prior.precision[:at])
    np.testing.assert_allclose(draws[:, :at].std(axis=0), deviations, rtol=0.1)
    wider = 1.1 * deviations * rng.standard_normal((200_000, at))
    noise = np.log(0.1) + 1.5 * rng.standard_t(5, size=(200_000, 1)) + 0.5
    theta = np.concatenate([wider, noise], axis=1)
    log_normal = -0.5 * (wider / deviations / 1.1) ** 2 - np.log(1.1 * deviations)
    from scipy.stats import t

    log_q = (log_normal - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    log_q += t.logpdf((noise[:, 0] - np.log(0.1) - 0.5) / 1.5, 5) - np.log(1.5)
    log_weights = energy.log_prior_at(theta)[0] - log_q
    assert abs(log_mean_exp(log_weights)) < 0.05


def test_codes_are_turned_into_those_of_the_reference():
    energy, rows, theta = problem("gaussian", "shared", 1.0, 2, n_nodes=60)
    turn = np.array([[np.cos(2.0), np.sin(2.0)], [np.sin(2.0), -np.cos(2.0)]])
    other = theta[:1].copy()
    layers = energy.decoder.network.layers(other)
    for matrix in (layers[0][0], layers.skip):
        matrix[...] = turn @ matrix
    back = in_codes_of(energy, other, theta[:1], rows.X)
    np.testing.assert_allclose(back, theta[:1], atol=1e-5)


@quiet
@pytest.mark.parametrize("rows", [slice(0, 40)])
def test_evidence_of_a_linear_decoder_is_that_of_pca(rows):
    """PCA with a matching prior: the mean of each feature has the variance of the loadings'."""
    X = np.random.default_rng(0).permutation(load_iris().data)[rows]
    unit = np.sqrt(X.var(axis=0).mean())
    exact = BayesianPCAAutoEncoder(
        1, component_variance_prior=unit**2, mean_precision_prior=1.0, random_state=0
    ).fit(X)
    fitted = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(), noise="shared", model_temperature=1.0, random_state=0
    ).fit(X)
    assert fitted.sampling_.method == "smc"
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    error = np.hypot(fitted.sampling_.log_evidence_error, exact.sampling_.log_evidence_error)
    assert error < 0.25
    assert abs(fitted.log_evidence_ - exact.log_evidence_) < 4 * error
    np.testing.assert_allclose(fitted.hmaxemax_, fitted.log_evidence_ / len(X))
    energies = fitted._bound(X).hmax(X, 1.0).mean(axis=1)
    assert abs(energies.mean() - exact.internal_energy_) < 0.1
    np.testing.assert_allclose(evidence_scorer(fitted, X), fitted.hmaxemax_)
    assert len(next(InSample().split(X))[0]) == len(X)
    # another prior has another evidence
    narrow = BayesianPCAAutoEncoder(
        1, component_variance_prior=0.01 * unit**2, mean_precision_prior=1.0, random_state=0
    ).fit(X)
    assert abs(fitted.log_evidence_ - narrow.log_evidence_) > 8 * error


@quiet
@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_units", "activation"),
    [(5, 1, 2, "tanh"), (4, 2, 1, "relu")],
)
def test_evidence_of_hidden_units_by_draws_of_the_prior(n_rows, n_features, n_units, activation):
    X = bent_rows(n_rows, n_features)
    exact, error = evidence_by_prior_draws(X, n_units, activation, n_draws=40_000, seed=0)
    settings = {"hidden_layer_sizes": (n_units,), "activation": activation, "max_iter": 10}
    model = BayesianVAEAutoEncoder(1, model_temperature=1.0, random_state=0, **settings)
    fitted = with_plans(model, SHORT).fit(X)
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    error = np.hypot(error, fitted.sampling_.log_evidence_error)
    assert error < 0.15
    assert abs(fitted.log_evidence_ - exact) < 5 * error
    # the test would notice noise of another scale
    model.set_params(noise_scale_prior=10.0)
    other = with_plans(model, SHORT).fit(X)
    assert abs(other.log_evidence_ - exact) > 5 * error


@quiet
def test_hidden_units_that_do_not_move_are_noticed(monkeypatch):
    """Weights into the hidden units stay as they were drawn from the prior."""
    X = bent_rows(15)
    plain = _tempering.hmc_move

    def stuck(target, particles, power, scales, step_size, n_steps, rng):
        scales = np.where(np.arange(len(scales)) < 6, 0.0, scales)
        return plain(target, particles, power, scales, step_size, n_steps, rng)

    monkeypatch.setattr(_tempering, "hmc_move", stuck)
    settings = {"hidden_layer_sizes": (3,), "max_iter": 10, "random_state": 0}
    fitted = with_plans(BayesianVAEAutoEncoder(1, model_temperature=1.0, **settings), SHORT).fit(X)
    assert fitted.sampling_.status != "ok"


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_evidence_of_three_hidden_units_is_that_of_another_sampler(seed):
    """Four runs of the sampler of benchmarks/network_evidence.py, of 5,000 or 10,000 particles."""
    runs = np.array([-80.712, -81.613, -81.563, -81.852])
    exact, error = log_mean_exp(runs), runs.std(ddof=1) / 2
    fitted = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(3,), model_temperature=1.0, random_state=seed
    ).fit(bent_rows(30))
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert fitted.sampling_.log_evidence_error < 0.3
    error = np.hypot(error, fitted.sampling_.log_evidence_error)
    assert abs(fitted.log_evidence_ - exact) < 4 * error


@quiet
@pytest.mark.slow
def test_evidences_of_five_hidden_units_agree():
    """Around this curve, chains of short moves were 3 nats too low."""
    X = bent_rows(60, 3, seed=1)
    found = [
        BayesianVAEAutoEncoder(
            1, hidden_layer_sizes=(5,), model_temperature=1.0, random_state=seed
        ).fit(X)
        for seed in range(2)
    ]
    assert [each.sampling_.status for each in found] == ["ok", "ok"]
    error = np.hypot(*(each.sampling_.log_evidence_error for each in found))
    assert error < 0.5
    assert abs(found[0].log_evidence_ - found[1].log_evidence_) < 4 * error


@quiet
def test_evidence_of_a_machine_of_one_unit_by_quadrature():
    """One bit and one unit: three parameters."""
    X = np.array([[1.0], [1.0], [0.0], [1.0], [1.0]])
    fitted = BayesianRBMAutoEncoder(1, model_temperature=1.0, random_state=0).fit(X)
    axis, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    w, b, c = np.meshgrid(axis, axis, axis, indexing="ij")
    ones = b + np.logaddexp(0, w + c) - np.logaddexp(0, c)
    log_likelihood = 4 * -np.logaddexp(0, -ones) - np.logaddexp(0, ones)
    masses = weights[:, None, None] * weights[:, None] * weights
    exact = np.log((masses * np.exp(log_likelihood)).sum())
    assert fitted.sampling_.status == "ok"
    assert abs(fitted.log_evidence_ - exact) < 4 * fitted.sampling_.log_evidence_error + 1e-3


@quiet
def test_bits_and_hidden_units_have_an_evidence():
    """Two seeds, whose searches share nothing, agree within their errors."""
    X = (SCALED["iris"]()[::3] > 0).astype(float)
    settings = {"hidden_layer_sizes": (2,), "likelihood": "bernoulli", "max_iter": 30}
    found = [
        with_plans(
            BayesianVAEAutoEncoder(1, model_temperature=1.0, random_state=seed, **settings), SHORT
        ).fit(X)
        for seed in range(2)
    ]
    values = [each.log_evidence_ for each in found]
    error = np.hypot(*(each.sampling_.log_evidence_error for each in found))
    assert error < 0.5
    assert abs(values[0] - values[1]) < 4 * error
    assert found[0].models_.decoder_coefs[0].shape == (50, 1, 2)
    assert np.isfinite(found[0].score(X))


@quiet
def test_chains_at_the_logarithm_of_n_have_the_estimate_of_wbic():
    """N times the internal energy, named so; never the log evidence, and at no other tau."""
    X = SCALED["iris"]()

    def plan(batch_size, scale, n_models):
        return LangevinPlan(batch_size, 4, 50, 200, 50, n_models)

    plans = SamplerPlans(langevin=plan)
    settings = {"hidden_layer_sizes": (40,), "max_iter": 10, "random_state": 0}
    for tau, named in ((np.log(len(X)), True), (1.0, False)):
        model = BayesianVAEAutoEncoder(2, model_temperature=tau, **settings)
        fitted = with_plans(model, plans).fit(X)
        assert not hasattr(fitted, "log_evidence_")
        assert ("wbic" in fitted.sampling_.estimates) == named
        if named:
            value, error = fitted.sampling_.estimates["wbic"]
            np.testing.assert_allclose(value, len(X) * fitted.internal_energy_)
            assert error > 0


@quiet
def test_wbic_of_a_linear_decoder_is_near_its_evidence():
    """Sampled from the prior at tau = log N: right but for terms of log log N."""
    X = SCALED["iris"]()[::3]
    model = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(), model_temperature=np.log(50), random_state=0, max_iter=50
    )
    fitted = with_plans(model, SHORT).fit(X)
    exact = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(), model_temperature=1.0, random_state=0, max_iter=50
    )
    exact = with_plans(exact, SHORT).fit(X)
    value, _ = fitted.sampling_.estimates["wbic"]
    assert abs(value - exact.log_evidence_) < 8
    assert abs(fitted.log_evidence_ - exact.log_evidence_) > 20  # that of a power of the density
