"""Starts, fits and partition functions of restricted Boltzmann machines."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._types import ArrayRecord, Rows
from skbae.energies.rbm._energy import RBMEnergy, RBMPrior, base_rates
from skbae.energies.rbm._kernel import BoundRBM
from skbae.energies.rbm._starts import mixture_start, splitting_start
from skbae.energies.rbm._visible import BaseRates, RBMParameters
from skbae.estimators._fitted import Fit
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.rbm._settings import MAX_EXACT_UNITS, MachineForm, RBMSettings
from skbae.inference._objective import Objective
from skbae.inference.evidence._partition import estimate_partition
from skbae.inference.optimise._contrastive import contrastive_divergence
from skbae.inference.optimise._early_stopping import hold_out
from skbae.inference.optimise._lbfgs import LBFGSResult, maximise_lbfgs
from skbae.inference.optimise._minibatch import DivergedError
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._tempering import SMCPlan, tempered_plan
from skbae.operators._labels import match_labels

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.estimators._plans import TemperedPlan
    from skbae.estimators._progress import Steps


# Largest number of units whose states are enumerated at every step of an exact fit.
MAX_ENUMERATED_UNITS = 12
# Tempering from the prior is used where it takes at most so many minutes; the work of a minute.
MAX_MINUTES, _WORK_A_MINUTE = 3.0, 8e7
# Least number of particles of an island, for machines whose evaluation is costly.
_FEWEST_PARTICLES = 128
# Largest standard error of log Z, in nats, that is not told.
_LARGE_ERROR = 0.5
# Digits after the decimal point of scaled rows.
_DIGITS = 10
# Standard deviations of columns that are constant up to rounding, relative to their size.
_CONSTANT = 1e-14
# Standard deviation of the initial weights; small, so that hidden probabilities start near 1/2.
_FIRST_WEIGHTS = 0.01
# Units and steps of the exact fit from which machines of real features with many units start.
_FEW_UNITS, _FEW_STEPS = 6, 200
# Starts of machines of real features.
_INFORMED = (mixture_start, splitting_start)
# Largest number of steps of the fit to all rows that follows early stopping.
_LAST_STEPS = 100


@dataclass(frozen=True)
class RBMModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, hidden units in matching order.

    Attributes
    ----------
    components : ndarray of shape (S, d, D)
    intercept_visible : ndarray of shape (S, D)
    intercept_hidden : ndarray of shape (S, d)
    noise_variance : ndarray of shape (S,) or (S, D)
        1 for binary features.
    log_partition : ndarray of shape (S,)
    """

    components: Array
    intercept_visible: Array
    intercept_hidden: Array
    noise_variance: Array
    log_partition: Array


def as_models(params: RBMParameters, per_feature: bool) -> RBMModels:
    """Return machines in the form of ``models_``."""
    noise = params.noise if per_feature else params.noise[:, 0]
    return RBMModels(params.weights, params.visible, params.hidden, noise, params.log_partition)


def as_parameters(models: RBMModels) -> RBMParameters:
    """Return the energy's parameters of machines: the inverse of :func:`as_models`."""
    return RBMParameters(
        models.components,
        models.intercept_visible,
        models.intercept_hidden,
        models.noise_variance.reshape(len(models.components), -1),
        models.log_partition,
    )


def make_energy(
    form: MachineForm,
    rates: BaseRates,
    prior: RBMPrior | None = None,
    chains: Array | None = None,
) -> RBMEnergy:
    """Return the energy of machines of a form."""
    return RBMEnergy(form.n_components, form.n_features, form.layer, rates, prior, chains)


def rates_of(form: MachineForm, rows: Rows) -> BaseRates:
    """Return the model of independent features of these rows."""
    return base_rates(form.layer, rows.centre, rows.scale)


@dataclass(frozen=True)
class Scaling:
    """Frame in which a machine is fitted: real rows are centred and divided by scales.

    Attributes
    ----------
    centre, scale : ndarrays of shape (D,)
        The scale is the same for all features if these share one noise variance.
    """

    centre: Array
    scale: Array

    @classmethod
    def of(cls, form: MachineForm, rows: Rows) -> Scaling:
        """Return the frame of these rows."""
        if not form.layer.has_noise:
            return cls(np.zeros(rows.X.shape[1]), np.ones(rows.X.shape[1]))
        common = float(np.sqrt(np.mean(rows.scale**2)))
        if common == 0:
            raise ValueError(
                "all rows of X are equal: the variance of X, and so of the noise, would be zero"
            )
        scale = np.full_like(rows.scale, common)
        if form.noise == "per_feature":
            # columns that are constant, up to rounding, have the scale of the others
            least = _CONSTANT * np.maximum(np.abs(rows.centre), common)
            scale = np.where(rows.scale > least, rows.scale, common)
        return cls(rows.centre, scale)

    @property
    def shift_of_energies(self) -> float:
        """What a machine's energies of rows in units of X have more than those of scaled rows."""
        return -float(np.log(self.scale).sum())

    def enter(self, rows: Rows) -> Rows:
        """Return the scaled rows."""
        scaled = (rows.X - self.centre) / self.scale
        if np.any(self.scale != 1):
            # fits that leave a saddle would magnify the rounding errors that depend on units of X
            scaled = np.round(scaled, _DIGITS)
        return make_rows(scaled, rows.weights)

    def leave(self, params: RBMParameters) -> RBMParameters:
        """Return machines of scaled rows as machines of rows in units of X."""
        pull = (params.weights / params.noise[:, None]) @ (self.centre / self.scale)
        return replace(
            params,
            weights=self.scale * params.weights,
            visible=self.centre + self.scale * params.visible,
            hidden=params.hidden - pull,
            noise=self.scale**2 * params.noise,
        )

    def re_enter(self, params: RBMParameters) -> RBMParameters:
        """Return machines of rows in units of X as machines of scaled rows."""
        pull = (params.weights / params.noise[:, None]) @ self.centre
        return replace(
            params,
            weights=params.weights / self.scale,
            visible=(params.visible - self.centre) / self.scale,
            hidden=params.hidden + pull,
            noise=params.noise / self.scale**2,
        )


@dataclass(frozen=True)
class MachineDetails:
    """What the methods of a fitted estimator need beside its public attributes.

    Attributes
    ----------
    form : MachineForm
    rates : BaseRates
        Of the training rows.
    scaling : Scaling
        Of the rows of the first fit; `partial_fit` uses it too.
    persistent : ndarray of shape (n_chains, D) or None
        States of the persistent chains, None after an exact fit.
    """

    form: MachineForm
    rates: BaseRates
    scaling: Scaling
    persistent: Array | None


def first_theta(energy: RBMEnergy, rng: np.random.Generator) -> Array:
    """Return coordinates of a machine with small random weights and the means of the rows."""
    visible, noise = energy.layer.start(energy.rates)
    shape = energy.n_components, energy.n_features
    params = RBMParameters(
        _FIRST_WEIGHTS * rng.standard_normal((1, *shape)),
        visible[None],
        np.zeros((1, shape[0])),
        noise[None],
        np.array([np.nan]),
    )
    return energy.unconstrain(params)[0]


def starts(
    settings: RBMSettings, energy: RBMEnergy, rows: Rows, rng: np.random.Generator
) -> list[Array]:
    """Return coordinates of the starts of an exact fit.

    Machines of real features start from a mixture of two normal distributions, then from units that
    split what is left by those before; all others from small random weights.
    """
    found = []
    for number in range(settings.n_starts):
        theta = first_theta(energy, rng)
        if energy.layer.has_noise and number < len(_INFORMED):
            small = energy.at(theta).weights[0]
            per_feature = energy.layer.n_noise(energy.n_features) > 1
            params = _INFORMED[number](rows, energy.n_components, per_feature, small)
            theta = energy.unconstrain(params)[0]
        found.append(theta)
    return found


def step_scale(rows: Rows) -> float:
    """Return the unit of learning rates: the inverse of the rows' largest variance."""
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
    deviations = rows.X - rows.centre
    covariance = (deviations * weights[:, None]).T @ deviations / weights.sum()
    return 1.0 / max(float(np.linalg.eigvalsh(covariance)[-1]), 1e-12)


@dataclass(frozen=True)
class MachineFit:
    """Result of an exact fit or of contrastive divergence.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Coordinates.
    scores : list of float
        After each step or pass, on the rows held out if there are any.
    n_iter : int
    converged : bool
    warning : str
        Text of a ConvergenceWarning, empty if there is none.
    chains : ndarray of shape (C, D) or None
        States of the persistent chains, None after an exact fit.
    """

    theta: Array
    scores: list[float]
    n_iter: int
    converged: bool
    warning: str
    chains: Array | None = None


def fit_exactly(
    settings: RBMSettings,
    energy: RBMEnergy,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    on_step: Steps,
) -> MachineFit:
    """Fit by the exact gradient from several starts, and keep the best on all rows.

    If rows were held out, the fit then continues with all rows, until the objective on all rows
    reaches the value that it had on the kept rows when the fit was stopped (Goodfellow et al. 2016,
    algorithm 7.3).
    """
    kept, held = rows, None
    if settings.early_stopping:
        kept, held = hold_out(rows, settings.validation_fraction, rng)
    objective = Objective(energy, rows, runner, settings.temperature)
    on_kept = replace(objective, rows=kept)
    maximise = partial(maximise_lbfgs, tol=settings.tol, patience=settings.n_iter_no_change)
    taken = 0
    best: tuple[float, LBFGSResult] | None = None
    for start in starts(settings, energy, kept, rng):
        found = maximise(
            on_kept,
            start,
            held,
            max_iter=settings.step_limit(True),
            on_step=partial(_report, on_step, taken),
        )
        taken += found.n_iter
        value = found.objective
        if held is not None:
            value = (kept.total * found.objective + held.total * found.score) / rows.total
        if best is None or value > best[0]:
            best = value, found
        if on_step.stopped:
            break
    assert best is not None
    found = best[1]
    theta = found.theta
    if held is not None and not on_step.stopped and found.n_iter:
        # the value may be out of reach of all rows; then no more steps than the fit took
        n_steps = min(_LAST_STEPS, found.n_iter)
        more = maximise(objective, theta, None, max_iter=n_steps, enough=found.objective)
        theta = more.theta
    if energy.layer.has_noise:
        theta = not_below_mixture(energy, objective, theta)
    warning = "" if on_step.stopped else found.warning
    return MachineFit(theta, found.scores, found.n_iter, found.converged, warning)


def not_below_mixture(energy: RBMEnergy, objective: Objective, theta: Array) -> Array:
    """Return the fit or a mixture of two normal distributions, whichever is better on all rows.

    A fit is chosen by rows held out, or from other starts, and could be worse than this special
    case on all rows.
    """
    per_feature = energy.layer.n_noise(energy.n_features) > 1
    none = np.zeros((energy.n_components, energy.n_features))
    mixture = energy.unconstrain(
        mixture_start(objective.rows, energy.n_components, per_feature, none)
    )[0]
    both = np.stack([theta, mixture])
    values = objective.expect(energy.constrain(both)).objective
    return mixture if values[1] > values[0] else theta


def _report(on_step: Steps, before: int, number: int, value: float) -> bool:
    """Report a step of a fit, counted over all starts."""
    return bool(on_step(before + number, value))


def few_units(
    settings: RBMSettings, energy: RBMEnergy, rows: Rows, rng: np.random.Generator
) -> tuple[RBMParameters, float]:
    """Return a machine of real rows with a few units, fitted exactly, and its objective.

    The other units have no weights: it is a special case that a fit by contrastive divergence
    starts from, and must not fall below.
    """
    n_few, n_units = min(_FEW_UNITS, energy.n_components), energy.n_components
    small = RBMEnergy(n_few, energy.n_features, energy.layer, energy.rates)
    fewer = replace(settings, early_stopping=False, n_init=2, max_iter=_FEW_STEPS)
    with RowRunner(settings.n_threads) as runner:
        objective = Objective(small, rows, runner, settings.temperature)
        best = max(
            (
                maximise_lbfgs(
                    objective, start, None, max_iter=_FEW_STEPS, tol=settings.tol, patience=1
                )
                for start in starts(fewer, small, rows, rng)
            ),
            key=lambda found: found.objective,
        )
    few, padding = small.at(best.theta), ((0, 0), (0, n_units - n_few))
    weights = np.pad(few.weights, (*padding, (0, 0)))
    hidden = np.pad(few.hidden, padding)
    log_partition = small.log_partition(few) + (n_units - n_few) * np.log(2)
    params = replace(few, weights=weights, hidden=hidden, log_partition=log_partition)
    # a unit without weights adds T log 2 to the rows' sums, and log 2 to log Z
    lost = (n_units - n_few) * (1 - settings.temperature) * np.log(2)
    return params, best.objective - lost


def fit_from_few_units(
    settings: RBMSettings,
    energy: RBMEnergy,
    rows: Rows,
    rng: np.random.Generator,
    on_step: Steps,
    few: RBMParameters,
) -> MachineFit:
    """Fit by contrastive divergence from a machine with a few units; return it if the fit diverges.

    Small random numbers are added to its weights.
    """
    small = _FIRST_WEIGHTS * rng.standard_normal(few.weights.shape)
    theta = energy.unconstrain(replace(few, weights=few.weights + small))[0]
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return fit_by_contrast(settings, energy, rows, rng, on_step, theta)
    except DivergedError as error:
        warning = f"contrastive divergence: {error}. The fit is that of {_FEW_UNITS} units"
        return MachineFit(energy.unconstrain(few)[0], [], 1, False, warning)


def fit_by_contrast(
    settings: RBMSettings,
    energy: RBMEnergy,
    rows: Rows,
    rng: np.random.Generator,
    on_step: Steps,
    theta: Array | None = None,
    chains: Array | None = None,
    n_passes: int | None = None,
) -> MachineFit:
    """Fit by persistent contrastive divergence, starting from `theta` if it is given."""
    kept, held = rows, None
    # at T != 1 no proper score of held-out rows can be computed without the partition function
    if settings.early_stopping and settings.temperature == 1 and n_passes is None:
        kept, held = hold_out(rows, settings.validation_fraction, rng)
    if theta is None:
        theta = first_theta(energy, rng)
        if energy.layer.has_noise:
            small = energy.at(theta).weights[0]
            per_feature = energy.layer.n_noise(energy.n_features) > 1
            params = splitting_start(rows, energy.n_components, per_feature, small)
            theta = energy.unconstrain(params)[0]
    if chains is None:
        chains = energy.layer.base_draw(energy.rates, settings.n_chains, rng)
    found = contrastive_divergence(
        energy,
        theta.astype(energy.training_dtype()),
        chains,
        kept,
        held,
        rng,
        temperature=settings.temperature,
        rate=settings.learning_rate_init * step_scale(rows),
        decay=n_passes is None,
        batch_size=settings.batch_size,
        max_iter=settings.step_limit(False) if n_passes is None else n_passes,
        on_step=on_step,
    )
    return MachineFit(
        found.theta.astype(np.float64),
        found.scores,
        found.n_iter,
        found.converged,
        found.warning,
        found.memory.astype(np.float64),
    )


def normalise(
    settings: RBMSettings, energy: RBMEnergy, params: RBMParameters, rng: np.random.Generator
) -> tuple[RBMParameters, float, Array | None]:
    """Return machines with partition functions, the error of log Z, and states of the model."""
    exact = settings.partition == "exact" or (
        settings.partition == "auto" and energy.n_enumerated() <= MAX_EXACT_UNITS
    )
    if exact:
        return replace(params, log_partition=energy.log_partition(params)), 0.0, None
    found = estimate_partition(energy, params, rng, settings.plans.partition)
    if not found.agree:
        warnings.warn(
            f"{settings.estimator}: annealed importance sampling estimates log Z as "
            f"{found.forward:.2f} forwards and {found.backward:.2f} backwards, further apart than "
            "their standard errors, so that scores may be wrong. Decrease learning_rate_init, "
            "max_iter or n_components.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    elif not found.error <= _LARGE_ERROR:
        warnings.warn(
            f"{settings.estimator}: annealed importance sampling estimates log Z with a standard "
            f"error of {found.error:.2g} nats, so that scores may be wrong. Decrease "
            "learning_rate_init, max_iter or n_components.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    log_partition = np.array([found.log_partition])
    return replace(params, log_partition=log_partition), found.error, found.states.rows


def is_fitted_exactly(settings: RBMSettings, n_features: int) -> bool:
    """Return whether the states of machines are enumerated at each step of a fit."""
    n_units = settings.form(n_features).layer.n_enumerated(settings.n_components, n_features)
    return settings.partition != "ais" and n_units <= MAX_ENUMERATED_UNITS


def fit_steps(settings: RBMSettings, n_features: int) -> int:
    """Return the largest number of steps of a fit of the best model."""
    exact = is_fitted_exactly(settings, n_features)
    return settings.step_limit(exact) * (settings.n_starts if exact else 1)


def tempering_minutes(settings: RBMSettings, n_rows: int, n_features: int) -> float:
    """Return how long sampling from the prior would take, in minutes of one core, about.

    It is infinite for machines whose states cannot be enumerated for each draw.
    """
    if not is_fitted_exactly(settings, n_features):
        return float("inf")
    n_units = settings.n_components
    smaller = settings.form(n_features).layer.n_enumerated(n_units, n_features)
    cost = evaluation_cost(smaller, n_units, n_features, n_rows)
    plan = settings.plans.tempered(cost, settings.n_models, fewest=_FEWEST_PARTICLES)
    n_parameters = (n_units + 1) * (n_features + 1)
    work = cost * plan.n_islands * plan.n_particles * float(np.sqrt(n_parameters))
    return work / _WORK_A_MINUTE


def evaluation_cost(n_enumerated: int, n_units: int, n_features: int, n_rows: int) -> int:
    """Return the rows of a mixture whose evaluation takes as long as one of a machine.

    It takes one exponential for each row and hidden unit, and one product for each enumerated state
    and unit of the other layer; a row of a mixture takes two or three.
    """
    n_others = n_units + n_features - n_enumerated
    return max((n_rows * n_units + n_others * 2**n_enumerated) // 2, 1)


def sampling_plan(
    energy: RBMEnergy, n_rows: int, n_models: int, tempered: TemperedPlan = tempered_plan
) -> SMCPlan:
    """Return a plan for sampling machines, with fewer particles the costlier an evaluation is.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.energies.rbm._visible import BaseRates, BinaryLayer
    >>> rates = BaseRates(np.full(64, 0.5), np.full(64, 0.25))
    >>> machines = (RBMEnergy(d, 64, BinaryLayer(), rates) for d in (2, 6, 12))
    >>> [sampling_plan(machine, 100, 50).n_particles for machine in machines]
    [2048, 256, 128]
    """
    cost = evaluation_cost(energy.n_enumerated(), energy.n_components, energy.n_features, n_rows)
    return tempered(cost, n_models, fewest=_FEWEST_PARTICLES)


def match_units(
    params: RBMParameters, reference: RBMParameters, rows: Rows, energy: RBMEnergy
) -> RBMParameters:
    """Return machines with hidden units reordered to agree best with those of the reference."""
    statistics = []
    X = rows.X[:2000]

    def codes(machines: RBMParameters) -> Array:
        activations = BoundRBM(machines, energy.layer).activations(X)
        return 1 / (1 + np.exp(-np.clip(activations, -500, 500)))

    ours = codes(reference)[0]
    for start in range(0, params.n_models, 10):
        theirs = codes(params.take(slice(start, start + 10)))
        agreement = np.einsum("nj,snk->sjk", ours, theirs, optimize=True)
        statistics.append(agreement + np.einsum("nj,snk->sjk", 1 - ours, 1 - theirs, optimize=True))
    order = match_labels(np.concatenate(statistics))
    return replace(
        params,
        weights=np.take_along_axis(params.weights, order[:, :, None], axis=1),
        hidden=np.take_along_axis(params.hidden, order, axis=1),
    )


# -- results ---------------------------------------------------------------------------------------


def single_model(
    settings: RBMSettings,
    energy: RBMEnergy,
    scaling: Scaling,
    found: MachineFit,
    rows: Rows,
    rng: np.random.Generator,
) -> Fit[MachineDetails]:
    """Return the fitted attributes and details of a single model, with its partition function.

    Parameters
    ----------
    settings : RBMSettings
    energy : RBMEnergy
        Of the scaled rows.
    scaling : Scaling
    found : MachineFit
    rows : Rows
        In units of X.
    rng : Generator
    """
    form = settings.form(rows.X.shape[1])
    rates = rates_of(form, rows)
    plain = make_energy(form, rates)
    params = scaling.leave(energy.at(found.theta))
    params, error, chains = normalise(settings, plain, params, rng)
    hmaxe = float(hmaxe_by_model(plain, params, rows, settings.temperature)[0])
    attributes = {
        **reference_attributes(form, params),
        **({} if chains is None else {"chains_": chains}),
        "log_partition_error_": error,
        "hmaxe_": hmaxe,
        "hmaxemax_": hmaxe,
        "hmaxemax_error_": error,
        "internal_energy_": hmaxe,
        "lower_bound_": hmaxe,
        "validation_scores_": found.scores,
        "converged_": found.converged,
        "n_iter_": found.n_iter,
        "models_": as_models(params, form.per_feature),
    }
    persistent = None if found.chains is None else scaling.centre + scaling.scale * found.chains
    return Fit(attributes, MachineDetails(form, rates, scaling, persistent))


def hmaxe_by_model(
    energy: RBMEnergy, params: RBMParameters, rows: Rows, temperature: float
) -> Array:
    """Return ``Hmaxe_T`` of each machine, (S,)."""

    def one(number: int, runner: RowRunner) -> float:
        model = params.take(slice(number, number + 1))
        bound = energy.bind(model, rows.frame, rows.X.dtype)
        values = runner.map(
            lambda chunk: bound.hmax(chunk, temperature)[0], rows.X, bound.chunk_rows
        )
        return float(np.average(values, weights=rows.weights))

    with RowRunner(1) as runner:
        return np.array([one(number, runner) for number in range(params.n_models)])


def reference_attributes(form: MachineForm, params: RBMParameters) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    attributes = {
        "components_": params.weights[0],
        "intercept_visible_": params.visible[0],
        "intercept_hidden_": params.hidden[0],
        "log_partition_": float(params.log_partition[0]),
    }
    if form.layer.has_noise:
        noise = params.noise[0]
        attributes["noise_variance_"] = noise.copy() if form.per_feature else float(noise[0])
    return attributes
