"""``Hmaxe`` of models around a fitted network or machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.vae._parameters import VAEParameters
from skbae.estimators.rbm._fit import make_energy, rates_of
from skbae.estimators.vae._fit import fit_energy, hmaxe_of
from skbae.estimators.vae._target import VAETarget
from skbae.inference._objective import Objective
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._early_stopping import merged_rows
from skbae.inference.optimise._minibatch import DivergedError
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._around_optimum import ChainPlan, HeldTarget, values_around
from skbae.inference.sample._langevin import LangevinPlan, sample_langevin
from skbae.thermodynamics._machines import values_by_states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray
    from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
    from skbae.estimators.vae._estimator import BayesianVAEAutoEncoder

# Most units of a layer over whose states partition functions of machines are summed, and states
# that are drawn by such sums where a fit with more has no chains.
_MOST_UNITS, _N_STATES = 16, 512
# Least number of draws of codes from the encoder for each row and step.
_N_DRAWS = 16
# Chains and steps around a network; batches have this many rows at least.
_CHAINS = LangevinPlan(batch_size=128, n_chains=4, n_burn=1500, n_steps=4000, n_keep=160)


class HeldNetworks(VAETarget):
    """Decoders around a fitted one, under a normal density in place of the prior.

    Each chain trains an encoder of its own: codes may turn at no cost, and chains go apart.

    Parameters
    ----------
    centre : ndarray of shape (P,)
        The fitted decoder.
    precision : float
    n_chains : int
    arguments : tuple
        Of VAETarget.
    """

    def __init__(
        self, centre: FloatArray, precision: float, n_chains: int, *arguments: Any
    ) -> None:
        super().__init__(*arguments)
        self.centre, self.precision = centre, precision
        self.encoder = Adam(np.repeat(self.encoder.theta[None], n_chains, axis=0))

    def estimate(
        self, theta: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, FloatArray]:
        """Return estimates for decoders (S, P), and train their encoders on the batch."""
        values, found = self.batches.step(theta, self.encoder.theta, index, rng, self.n_draws)
        self.encoder.ascend(found.encoder.copy(), self.rate)
        return values, found.decoder

    def prior_gradient(self, theta: FloatArray) -> FloatArray:
        """Return the gradient of the log of the normal density, (S, P)."""
        return theta.dtype.type(self.precision) * (self.centre - theta)

    def prior_precision(self) -> Array:
        """Return its precision, (P,)."""
        return np.full(len(self.centre), self.precision)


def network_values(
    fitted: BayesianVAEAutoEncoder,
    X: NDArray[Any],
    weights: Array | None,
    tau: float,
    precision: float,
    rng: np.random.Generator,
) -> tuple[Array, float, float]:
    """Return ``Hmaxe`` of decoders around a fitted one, (chains, draws), and its own.

    Also return by how much less chains took it to be, on average, by few draws from an encoder.
    All are integrated around the modes of the codes, with the fitted encoder beside.
    """
    settings, details = fitted._check_parameters(), fitted._fitted.details
    rows = merged_rows(make_rows(X, weights))
    energy = fit_energy(
        replace(
            settings,
            model_temperature=tau,
            n_importance_samples=max(settings.n_importance_samples, _N_DRAWS),
        ),
        details.architecture,
        details.frame,
        details.noise_seed,
    )
    best = energy.join(fitted._reference())
    size = energy.decoder.n_parameters
    theta, temperature = best[:size], fitted._fitted.temperature
    rate = settings.learning_rate_init
    plan = _CHAINS
    start = energy, rows, best[size:], temperature, tau, rate
    target = HeldNetworks(theta, precision, plan.n_chains, *start)
    plan = replace(plan, batch_size=max(plan.batch_size, int(target.scale / 48)))
    try:
        run = sample_langevin(target, theta, plan, rng, on_step=lambda *_: False)
    except DivergedError:
        raise ValueError(
            "chains around the fitted network diverged: the curvature differs too much between its "
            "parameters, as where a column of X hardly varies and has next to no noise; leave such "
            "columns out, or increase localisation"
        ) from None
    phi = best[None, size:].astype(np.float64)
    decoders = np.concatenate([theta[None].astype(np.float64), run.params])
    with RowRunner(settings.n_threads) as runner:
        values = np.array(
            [
                hmaxe_of(energy, VAEParameters(each[None], phi), rows, runner, temperature)
                for each in decoders
            ]
        )
    own = float(values[1:].mean() - run.hmaxe.mean())
    return values[1:].reshape(-1, plan.n_chains).T, float(values[0]), own


def machine_values(
    fitted: BayesianRBMAutoEncoder,
    X: NDArray[Any],
    weights: Array | None,
    tau: float,
    precision: float,
    rng: np.random.Generator,
) -> tuple[Array, float, list[str]]:
    """Return ``Hmaxe`` of machines around a fitted one, (chains, draws), its own, and doubts.

    Where states are too many to be summed, both are relative to the log partition function of the
    fitted one.
    """
    settings, details = fitted._check_parameters(), fitted._fitted.details
    form, scaling = details.form, details.scaling
    rows = merged_rows(scaling.enter(make_rows(X, weights)))
    energy = make_energy(form, rates_of(form, rows), settings.prior(rows, scaling.scale))
    theta = energy.unconstrain(scaling.re_enter(fitted._reference()))
    temperature = fitted._fitted.temperature
    if energy.n_enumerated() > _MOST_UNITS:
        chains = getattr(fitted, "chains_", None)
        if chains is None:
            states, _ = energy.draw(energy.constrain(theta), _N_STATES, rng)
        else:
            states = scaling.enter(make_rows(chains, None)).X
        power = rows.total / tau
        return values_by_states(energy, rows, theta[0], states, temperature, precision, power, rng)
    with RowRunner(settings.n_threads) as runner:
        objective = Objective(energy, rows, runner, temperature)
        best = float(objective.value_and_gradient(theta)[0][0])
        held = HeldTarget(objective, theta[0], precision)
        values = values_around(held, objective.power(tau), ChainPlan(), rng)
    return values, best, []
