"""BayesianRBMAutoEncoder: restricted Boltzmann machines with a likelihood."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from skbae.energies.rbm._visible import RBMParameters
from skbae.estimators._checks import check_sample_weight, fits_one_model
from skbae.estimators._progress import progress
from skbae.estimators._sampling import run_tempered, summarise
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.rbm._fit import (
    MAX_ENUMERATED_UNITS,
    Scaling,
    as_models,
    fit_by_contrast,
    fit_exactly,
    full_prior,
    make_energy,
    match_units,
    n_starts,
    normalise,
    rates_of,
    sampling_plan,
    step_limit,
)
from skbae.estimators.rbm._predictions import MachinePredictions
from skbae.estimators.rbm._settings import (
    check_parameters,
    check_range,
    check_size,
    configuration,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._early_stopping import merged_rows
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from typing import Self


class BayesianRBMAutoEncoder(MachinePredictions):
    """Restricted Boltzmann machine as a Bayesian autoencoder, with a normalised likelihood.

    The code of a row x is d bits h, and the energy ``H = b'x + x'Wh + c'h - log Z`` for features in
    [0, 1] or ``-|x - b|^2 / (2 s2) + x'Wh / s2 + c'h - log Z`` for real ones. Given the row bits
    are independent: ``P(h_j = 1) = sigmoid(a_j / T)`` with ``a = c + W'x`` (over s2); at
    ``temperature=0`` they are hard. ``log Z`` is exact for machines with a layer of up to 20 units,
    and comes with an error bar otherwise, so that ``score_samples`` is a log-likelihood.

    Parameters
    ----------
    n_components : int, default=256
        Number d of hidden units.
    visible : {"bernoulli", "gaussian"}, default="bernoulli"
        Features in [0, 1], bits or their probabilities; or real features, which share one variance
        s2 given the code (bring them to one scale).
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=0.0
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``; 0 finds the
        single best model, None means the same as `temperature`. Sampling takes the exact Z of every
        model: the smaller layer (Gaussian: the hidden one) may have up to 12 units. It takes
        seconds for a few units, and minutes near that limit.
    tilt : float, default=0.0
        Must be zero: this family has no tilt.
    partition : {"auto", "exact", "ais"}, default="auto"
        How log Z is found: by enumeration of the smaller layer (Gaussian: the hidden one), by
        annealed importance sampling, or the first for up to 20 units.
    weight_variance_prior, intercept_variance_prior : float, default=1.0
        Variances of the normal priors, mean 0, of weights and intercepts. Priors matter where
        models are sampled.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of s2.
    noise_scale_prior : float or None, default=None
        Its scale. None stands for ``0.1 v``, with v the mean variance of a feature.
    n_models : int, default=50
        How many draws of the models to keep for prediction, when they are sampled.
    n_init : int or "auto", default="auto"
        Starts of an exact fit, of which the best on all rows is kept; "auto": 3. Larger
        machines have one.
    learning_rate_init : float, default=1.0
        Rate at which contrastive divergence starts, in units of the inverse of the largest variance
        along a direction of the rows; it falls linearly to almost nothing.
    batch_size : int, default=100
        Distinct rows of a step of contrastive divergence.
    n_chains : int, default=100
        Persistent chains.
    max_iter : int or None, default=None
        Most steps of an exact fit (None: 500); passes of contrastive divergence (None: 100),
        which its learning rate is planned for.
    tol : float, default=1e-5
        An exact fit has converged when no entry of the gradient is larger.
    early_stopping : bool, default=True
        Hold rows out, and keep the model that is best on them: by the exact objective, or by a
        score that needs no Z (pseudo-likelihood, or score matching for real features). An exact
        fit then goes on with all rows, until the objective is what it was when the fit was stopped.
        Where chance leaves fewer than two distinct rows on either side, none is held out.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    n_iter_no_change : int, default=50
        Steps of an exact fit without a better model before it stops. Contrastive divergence
        runs to the end of its schedule, since a high learning rate hides what is better.
    verbose : int, default=0
        Print each step's objective if positive.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Threads that share a pass over the rows. Results do not depend on it.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights, as in scikit-learn's BernoulliRBM.
    intercept_visible_ : ndarray of shape (n_features,)
    intercept_hidden_ : ndarray of shape (n_components,)
    noise_variance_ : float
        s2; only for Gaussian features.
    log_partition_, log_partition_error_ : float
        log Z and its standard error, zero where it is exact.
    chains_ : ndarray of shape (n_chains, n_features)
        States of the persistent chains, from which `sample` goes on; only where log Z came from
        annealing.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)`` and its standard error;
        for a single model `hmaxe_`, and the error of its log Z.
    log_evidence_, internal_energy_, sampling_ : float, float, SamplingResult
        ``(N / tau) hmaxemax_``, the mean of ``Hmaxe_T`` over models, and how they were sampled;
        `log_evidence_` and `sampling_` only when they are.
    lower_bound_ : float
        `hmaxe_`.
    validation_scores_ : list of float
        What was watched at each step of a single model's fit: on rows held out if there are any.
    converged_ : bool
    n_iter_ : int
    models_ : RBMModels
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.neural_network.BernoulliRBM : Without a likelihood, reconstruction or real features.

    Notes
    -----
    Machines with a layer of up to 12 units maximise the exact likelihood; larger ones follow
    persistent contrastive divergence with centred gradients. Codes come from the reference model,
    scores average over all kept ones.

    References
    ----------
    Montavon, G. and Mueller, K.-R. (2012). Deep Boltzmann machines and the centering trick.
    Salakhutdinov, R. and Murray, I. (2008). On the quantitative analysis of deep belief networks.
    Tieleman, T. (2008). Training restricted Boltzmann machines using approximations to the
    likelihood gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianRBMAutoEncoder
    >>> X = np.repeat([[1.0, 1, 0, 0], [0, 0, 1, 1]], 20, axis=0)
    >>> model = BayesianRBMAutoEncoder(1, early_stopping=False, random_state=0).fit(X)
    >>> model.score(X).__round__(2)  # log(1/2): one bit a row
    -0.69
    >>> model.inverse_transform(model.transform(X[[0, -1]])).round(2).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        visible: str = "bernoulli",
        temperature: float = 1.0,
        model_temperature: float | None = 0.0,
        tilt: float = 0.0,
        partition: str = "auto",
        weight_variance_prior: float = 1.0,
        intercept_variance_prior: float = 1.0,
        noise_shape_prior: float = 1.0,
        noise_scale_prior: float | None = None,
        n_models: int = 50,
        n_init: Any = "auto",
        learning_rate_init: float = 1.0,
        batch_size: int = 100,
        n_chains: int = 100,
        max_iter: int | None = None,
        tol: float = 1e-5,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 50,
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.visible = visible
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.partition = partition
        self.weight_variance_prior = weight_variance_prior
        self.intercept_variance_prior = intercept_variance_prior
        self.noise_shape_prior = noise_shape_prior
        self.noise_scale_prior = noise_scale_prior
        self.n_models = n_models
        self.n_init = n_init
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.n_chains = n_chains
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.verbose = verbose
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_family(self, n_rows, n_features):
        if n_rows is None:
            check_parameters(self)
        else:
            check_size(self, n_features)

    def _fit_family(self, rows, rng, runner):
        check_range(self, rows.X)
        config = configuration(self, rows.X.shape[1])
        tau = self._resolved_model_temperature()
        fit = self._fit_best if tau == 0 else self._fit_sampled
        rates = rates_of(config, rows)
        told = {"_config": config, "_rates": (rates.mean, rates.variance)}
        return {**fit(config, rows, rng, runner), **told}

    def _fit_best(self, config, rows, rng, runner):
        """Fit the single best model."""
        scaling = Scaling.of(config, rows)
        merged = merged_rows(scaling.enter(rows))
        energy = make_energy(config, rates_of(config, merged))
        exact = self.partition != "ais" and energy.n_enumerated() <= MAX_ENUMERATED_UNITS
        limit = step_limit(self, exact)
        n_steps = limit * (n_starts(self) if exact else 1)
        with progress(self, rows.X, None, n_steps) as step:
            if exact:
                found = fit_exactly(self, energy, merged, rng, runner, step)
            else:
                found = fit_by_contrast(self, energy, merged, rng, step)
        if found.shortfall:
            warnings.warn(
                f"{type(self).__name__}: {found.shortfall}",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )
        return self._finish(config, energy, scaling, found, rows, rng)

    def _finish(self, config, energy, scaling, found, rows, rng):
        """Return fitted attributes of a single model."""
        params = scaling.leave(energy.at(found.theta))
        plain = make_energy(config, rates_of(config, rows))
        params, error, chains = normalise(self, plain, params, rng)
        bound = plain.bind(params, rows.frame, rows.X.dtype)
        with RowRunner(1) as runner:
            values = runner.map(
                lambda chunk: bound.hmax(chunk, float(self.temperature))[0], rows.X,
                bound.chunk_rows,
            )  # fmt: skip
        hmaxe = float(np.average(values, weights=rows.weights))
        persistent = None if found.chains is None else scaling.centre + scaling.scale * found.chains
        told = {} if chains is None else {"chains_": chains}
        return {
            **self._reference(params),
            **told,
            "log_partition_error_": error,
            "hmaxe_": hmaxe,
            "hmaxemax_": hmaxe,
            "hmaxemax_error_": error,
            "internal_energy_": hmaxe,
            "lower_bound_": hmaxe,
            "validation_scores_": found.scores,
            "converged_": found.converged,
            "n_iter_": found.n_iter,
            "models_": as_models(params),
            "_persistent": persistent,
            "_scaling": (scaling.centre, scaling.scale),
        }

    def _fit_sampled(self, config, rows, rng, runner):
        """Sample the models; the mode that the best of them leads to is the reference."""
        temperature, tau = float(self.temperature), self._resolved_model_temperature()
        energy = make_energy(config, rates_of(config, rows), full_prior(self, rows))
        rows = merged_rows(rows)
        objective = Objective(energy, rows, runner, temperature)
        with progress(self, rows.X, None, None) as step:
            run = run_tempered(
                objective, tau, rng, n_models=int(self.n_models), on_step=step,
                plan=sampling_plan(energy, len(rows.X), int(self.n_models)),
            )  # fmt: skip
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        mode = best.params
        draws = match_units(run.params, mode, rows, energy)
        log_partition = energy.log_partition(draws)
        kept = as_models(replace(draws, log_partition=log_partition))
        mode = replace(mode, log_partition=energy.log_partition(mode))
        return {
            **self._reference(mode),
            **summarise(type(self).__name__, run, rows.total, tau),
            "log_partition_error_": 0.0,
            "models_": kept,
            "hmaxe_": float(best.hmaxe[0]),
            "lower_bound_": float(best.objective[0]),
        }

    def _reference(self, params: RBMParameters) -> dict[str, Any]:
        attributes = {
            "components_": params.weights[0],
            "intercept_visible_": params.visible[0],
            "intercept_hidden_": params.hidden[0],
            "log_partition_": float(params.log_partition[0]),
        }
        if self.visible == "gaussian":
            attributes["noise_variance_"] = float(params.noise[0])
        return attributes

    @available_if(fits_one_model)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Make one pass of contrastive divergence over rows, on from the current model.

        The learning rate stays at `learning_rate_init`, nothing is held out, and real rows are
        scaled by the first call's. Each call finds the partition function anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : object
        """
        self._check_common()
        self._check_family(None, None)
        first = not hasattr(self, "models_")
        X = validate_data(self, X, reset=first, dtype=[np.float64, np.float32])
        weights = check_sample_weight(sample_weight, len(X))
        if weights is not None and not weights.all():
            X, weights = X[weights > 0], weights[weights > 0]
        check_range(self, X)
        rng, rows = as_generator(self.random_state), make_rows(X, weights)
        config = configuration(self, X.shape[1])
        self._check_family(len(X), X.shape[1])
        if not first and config != {**self._config, "temperature": config["temperature"]}:
            raise ValueError(
                "partial_fit needs the n_components and visible of the fitted model, which are "
                f"{self._config['n_components']} and {self._config['visible']!r}, got "
                f"{config['n_components']} and {config['visible']!r}"
            )
        scaling = Scaling.of(config, rows) if first else Scaling(*self._scaling)
        merged = merged_rows(scaling.enter(rows))
        energy = make_energy(config, rates_of(config, merged))
        theta = chains = None
        if not first:
            theta = energy.unconstrain(scaling.re_enter(self._parameters()))[0]
            if self._persistent is not None:
                chains = (self._persistent - scaling.centre) / scaling.scale
        with progress(self, rows.X, None, 1) as step:
            found = fit_by_contrast(self, energy, merged, rng, step, theta, chains, 1)
        fitted = self._finish(config, energy, scaling, found, rows, rng)
        if not first:
            fitted["n_iter_"] += self.n_iter_
        rates = rates_of(config, rows)
        self.__dict__.update(
            fitted,
            _config=config,
            _rates=(rates.mean, rates.variance),
            _frame=rows.frame,
            _fit_temperature=float(self.temperature),
            _fit_model_temperature=0.0,
            _fit_tilt=0.0,
            _fit_rows=(len(X), rows.centre, rows.scale),
        )
        return self
