"""The gradients of a sampler's balance are those of hmaxe_gradient, in other coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianRBMAutoEncoder
from skbae.energies._base import require
from skbae.energies._capabilities import GradientEnergy
from skbae.estimators.gmm._fit import conjugate_energy
from skbae.estimators.mixture_pca._fit import energy_with_prior
from skbae.estimators.rbm._fit import make_energy, rates_of
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.thermodynamics import hmaxe_gradient

IRIS = load_iris().data
BITS = (np.random.default_rng(0).random((120, 5)) < 0.5).astype(float)
STEP = 1e-5


def gmm(settings, rows, runner):
    return conjugate_energy(settings, rows, runner)


def mixture_of_pca(settings, rows, runner):
    return energy_with_prior(settings, rows)


def machine(settings, rows, runner):
    form = settings.form(rows.X.shape[1])
    return make_energy(form, rates_of(form, rows), settings.prior(rows, np.ones(rows.X.shape[1])))


def attributes_of(estimator, params):
    """Return fitted attributes of models of the energy, by the names of the gradient."""
    if isinstance(estimator, BayesianRBMAutoEncoder):
        return {
            "components_": params.weights,
            "intercept_visible_": params.visible,
            "intercept_hidden_": params.hidden,
        }
    own = params.components
    if isinstance(estimator, BayesianGMMAutoEncoder):
        inverse = np.linalg.inv(own.factors)
        covariances = np.matmul(np.swapaxes(inverse, -1, -2), inverse)
        return {"weights_": params.weights, "means_": own.means, "covariances_": covariances}
    return {
        "weights_": params.weights,
        "means_": own.means,
        "components_": own.components,
        "component_precisions_": own.precisions,
        "noise_variance_": own.noise,
    }


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize(
    ("estimator", "energy_of", "X"),
    [
        (BayesianGMMAutoEncoder(2, reg_covar=1e-3, max_iter=3, random_state=0), gmm, IRIS),
        (BayesianMixturePCAAutoEncoder(2, max_iter=3, random_state=0), mixture_of_pca, IRIS),
        (BayesianRBMAutoEncoder(3, max_iter=3, random_state=0), machine, BITS),
    ],
    ids=["gmm", "mixture-of-pca", "machine"],
)
@pytest.mark.filterwarnings("ignore")
def test_gradients_in_coordinates_are_those_in_attributes(estimator, energy_of, X, temperature):
    fitted = estimator.set_params(temperature=temperature, model_temperature=0).fit(X[::2])
    X = X[1::2]  # other rows, on which the fit is no optimum
    gradient = hmaxe_gradient(fitted, X)
    rows = make_rows(X, None)
    with RowRunner() as runner:
        energy = require(energy_of(fitted._check_parameters(), rows, runner), GradientEnergy, "")
        theta = energy.unconstrain(fitted._reference())
        found = Objective(energy, rows, runner, temperature).value_and_gradient(theta)[1][0]
    here = attributes_of(fitted, energy.constrain(theta))
    assert set(gradient) == set(here)
    for index, shift in enumerate(STEP * np.eye(theta.shape[1])):
        ahead, behind = (
            attributes_of(fitted, energy.constrain(theta + sign * shift)) for sign in (1, -1)
        )
        along = 0.0
        for name, value in gradient.items():
            slope = (ahead[name] - behind[name])[0] / (2 * STEP)
            along += float(np.sum(np.asarray(value) * slope.reshape(np.shape(value))))
        assert found[index] == pytest.approx(along, rel=1e-4, abs=1e-6)
    assert np.abs(found).max() > 1e-3
