"""BayesianRBMAutoEncoder: restricted Boltzmann machines with a normalised likelihood."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.estimators._fitted import Fit
from skbae.estimators._progress import progress
from skbae.estimators._sampling import run_tempered, shifted, summarise
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._unit_interval import fitted_rows
from skbae.estimators.rbm._around_best import around_steps, fit_around
from skbae.estimators.rbm._fit import (
    MAX_MINUTES,
    MachineDetails,
    Scaling,
    as_models,
    few_units,
    fit_by_contrast,
    fit_exactly,
    fit_from_few_units,
    fit_steps,
    is_fitted_exactly,
    make_energy,
    match_units,
    rates_of,
    reference_attributes,
    sampling_plan,
    single_model,
    tempering_minutes,
)
from skbae.estimators.rbm._predictions import MachinePredictions
from skbae.estimators.rbm._settings import RBMSettings
from skbae.inference._objective import Objective
from skbae.inference.optimise._early_stopping import merged_rows
from skbae.inference.optimise._mode import best_start, find_mode

if TYPE_CHECKING:
    from skbae._types import Rows
    from skbae.estimators._progress import Steps
    from skbae.inference.passes._rows import RowRunner


class BayesianRBMAutoEncoder(MachinePredictions):
    """Restricted Boltzmann machine as a Bayesian autoencoder, with a normalised likelihood.

    The code of a row x is d bits h, and the energy ``H = b'x + x'Wh + c'h - log Z`` for features in
    [0, 1] or ``-|x - b|^2 / (2 s2) + x'Wh / s2 + c'h - log Z`` for real ones. Given the row, bits
    are independent: ``P(h_j = 1) = sigmoid(a_j / T)`` with ``a = c + W'x`` (over s2); at
    ``temperature=0`` they are hard. ``log Z`` is exact if one of the layers has at most 20 units,
    and estimated with a standard error otherwise; so ``score_samples`` is a log-likelihood.

    Parameters
    ----------
    n_components : int, default=256
        Number d of hidden units.
    visible : {"bernoulli", "gaussian"}, default="bernoulli"
        "bernoulli": features in [0, 1], bits or their probabilities. "gaussian": real features.
    noise : {"per_feature", "shared"}, default="per_feature"
        For Gaussian features: whether each has its own variance s2 given the code, so that units of
        the columns do not matter, or all have the same. A feature's own variance is not below a
        thousandth of its variance, a common one not below a millionth of the mean variance.
    outside : {"clip", "error"}, default="clip"
        For binary features: what methods of the fitted model do with rows that leave [0, 1] by more
        than rounding: clip them with a warning, or raise ValueError. Fits refuse such rows.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=0.0
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``; 0 finds the
        single best model, None means the same as `temperature`. Small machines on few rows are
        sampled from the prior, with their evidence. Where that would take more than about three
        minutes, or the smaller layer (Gaussian: the hidden one) has more than 12 units, chains
        start at the best machine and explore the mode around it, with gradients from persistent
        chains: predictions are averages, but there is no evidence.
    tilt : float, default=0.0
        Not supported: must be 0.
    partition : {"auto", "exact", "ais"}, default="auto"
        How log Z is computed: "exact", by enumeration of the states of the smaller layer (Gaussian:
        the hidden one); "ais", by annealed importance sampling; "auto", exactly for up to 20 units.
    weight_variance_prior, intercept_variance_prior : float, default=1.0
        Variances of the normal priors, mean 0, of weights and intercepts. Priors are used only if
        models are sampled. For real features they are those of machines of features centred at
        their means and divided by ``sqrt(v)``, with v the variance of the feature (with
        ``noise="shared"`` the mean variance of a feature), so that units do not matter.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of s2.
    noise_scale_prior : float or None, default=None
        Its scale, in squared units of X. None stands for ``0.1 v``.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    n_init : int or "auto", default="auto"
        Number of starts of an exact fit, of which the best on all rows is kept; "auto": 3. For
        Gaussian features the first is a mixture of two normal distributions, the second has units
        that split the rows in turn, and the others, as all for bits, have small random weights.
        Contrastive divergence has a single start: for Gaussian features a machine of six units that
        was fitted exactly, below which no fit ends.
    learning_rate_init : float, default=1.0
        Initial learning rate of contrastive divergence, in units of the inverse of the largest
        variance of the rows along a direction; it falls linearly to a hundredth of that.
    batch_size : int, default=100
        Number of distinct rows in a step of contrastive divergence.
    n_chains : int, default=100
        Number of persistent chains of contrastive divergence.
    max_iter : int or None, default=None
        Largest number of steps of an exact fit (None: 500), or number of passes of contrastive
        divergence (None: 100), over which the learning rate falls. With 0 the start is kept.
    tol : float, default=1e-5
        An exact fit has converged when no entry of the gradient is larger than this.
    early_stopping : bool, default=True
        Hold rows out, and keep the model that is best on them: by the exact objective, or by a
        score that needs no Z (pseudo-likelihood, or score matching for real features). An exact
        fit then continues with all rows, until the objective reaches the value it had when the
        fit was stopped. No rows are held out if fewer than two distinct rows would be left in
        either part.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    n_iter_no_change : int, default=50
        An exact fit stops after so many steps without a better model. Contrastive divergence
        always makes `max_iter` passes, since scores say little while the learning rate is high.
    verbose : int, default=0
        If positive, print the objective of each step.
    verbose_interval : int, default=1
        Number of steps from one that is printed to the next.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Number of threads for passes over the rows; None: as many as BLAS would use. Results do
        not depend on it.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights, as in scikit-learn's BernoulliRBM.
    intercept_visible_ : ndarray of shape (n_features,)
    intercept_hidden_ : ndarray of shape (n_components,)
    noise_variance_ : float or ndarray of shape (n_features,)
        s2; only for Gaussian features, an array for ``noise="per_feature"``.
    log_partition_, log_partition_error_ : float
        log Z and its standard error, which is 0 if log Z is exact.
    chains_ : ndarray of shape (n_chains, n_features)
        States of Markov chains of the model, from which `sample` continues; only if log Z was
        estimated by annealing.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)`` and its standard error;
        for a single model `hmaxe_`, and the error of its log Z. NaN if models are sampled around
        the best one.
    log_evidence_, internal_energy_, sampling_ : float, float, SamplingResult
        ``(N / tau) hmaxemax_``, the mean of ``Hmaxe_T`` over models, and the diagnostics of the
        sampling; `sampling_` only when models are sampled, `log_evidence_` only when this starts
        from the prior.
    lower_bound_ : float
        `hmaxe_`.
    validation_scores_ : list of float
        Score after each step or pass of the fit of a single model: on the rows held out, or on the
        training rows if none were.
    converged_ : bool
    n_iter_ : int
    models_ : RBMModels
    noise_scale_prior_ : float or ndarray of shape (n_features,)
        The scale that was used, with what None stood for. Only when machines of real features are
        sampled.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.neural_network.BernoulliRBM : Without a likelihood, reconstruction or real features.

    Notes
    -----
    Codes, of shape (n_samples, n_components), are bits: `transform` gives
    ``P(h = 1 | x)`` of the reference model (bits at T = 0), `encode` the distribution of
    independent bits. `inverse_transform` accepts soft codes in place of bits. `decode` gives, for
    codes, independent bits or normal features; for what `encode` returned a mixture over all codes.

    Machines with a layer of at most 12 units are fitted by maximising the exact likelihood, larger
    ones by persistent contrastive divergence with centred gradients. `partial_fit` also uses
    contrastive divergence, and computes the partition function at each call. Scores average over
    all kept models. Models sampled around the best one have exact partition functions if one of the
    layers has at most 16 units; of others they are estimated relative to that of the best machine,
    by paths between the two in both directions.

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
        noise: str = "per_feature",
        outside: str = "clip",
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
        verbose_interval: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.visible = visible
        self.noise = noise
        self.outside = outside
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
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: RBMSettings, n_rows: int, n_features: int) -> None:
        settings.check_size(n_features)

    def _check_same_shape(self, settings: RBMSettings, n_features: int, what: str) -> None:
        form = self._fitted.details.form
        if form != settings.form(n_features):
            raise ValueError(
                f"{what} needs the n_components, visible, noise and number of features of the "
                f"fitted model, {form.n_components}, {form.visible!r}, {form.noise!r} and "
                f"{form.n_features}; got {settings.n_components}, {settings.visible!r}, "
                f"{settings.noise!r} and {n_features}"
            )

    def _fit_rows(
        self, settings: RBMSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[MachineDetails]:
        if settings.visible == "bernoulli":
            rows = fitted_rows(rows, settings.estimator, "visible")
        if not settings.samples:
            with progress(self, rows.X, None, fit_steps(settings, rows.X.shape[1])) as step:
                return self._fit_best(settings, rows, rng, runner, step)
        minutes = tempering_minutes(settings, *rows.X.shape)
        if minutes <= MAX_MINUTES:
            return self._fit_tempered(settings, rows, rng, runner)
        n_steps = fit_steps(settings, rows.X.shape[1]) + around_steps(settings, rows.total)
        with progress(self, rows.X, None, n_steps) as step:
            best = self._fit_best(settings, rows, rng, runner, step)
            return fit_around(settings, rows, best, minutes, rng, step)

    def _fit_best(
        self,
        settings: RBMSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
        step: Steps,
    ) -> Fit[MachineDetails]:
        """Fit the single best model."""
        form = settings.form(rows.X.shape[1])
        # of distinct rows, so that weighted and repeated rows give equal digits
        distinct = merged_rows(rows)
        scaling = Scaling.of(form, distinct)
        merged = merged_rows(scaling.enter(distinct))  # in an order that units do not matter for
        energy = make_energy(form, rates_of(form, merged))
        exact = is_fitted_exactly(settings, form.n_features)
        if exact:
            found = fit_exactly(settings, energy, merged, rng, runner, step)
        elif energy.layer.has_noise:
            few = few_units(settings, energy, merged, rng)
            found = fit_from_few_units(settings, energy, merged, rng, step, few[0])
        else:
            found = fit_by_contrast(settings, energy, merged, rng, step)
        if found.warning:
            warnings.warn(
                f"{settings.estimator}: {found.warning}",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )
        fit = single_model(settings, energy, scaling, found, rows, rng)
        if exact or not energy.layer.has_noise:
            return fit
        params, objective = few
        error = fit.attributes["log_partition_error_"]
        if fit.attributes["hmaxe_"] - error >= objective + scaling.shift_of_energies:
            return fit
        found = replace(found, theta=energy.unconstrain(params)[0], chains=None)
        return single_model(settings, energy, scaling, found, rows, rng)

    def _fit_batch(
        self, settings: RBMSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[MachineDetails]:
        if settings.visible == "bernoulli":
            rows = fitted_rows(rows, settings.estimator, "visible")
        form = settings.form(rows.X.shape[1])
        first = not hasattr(self, "models_")
        scaling = Scaling.of(form, rows) if first else self._fitted.details.scaling
        merged = merged_rows(scaling.enter(rows))
        energy = make_energy(form, rates_of(form, merged))
        theta = chains = None
        if not first:
            theta = energy.unconstrain(scaling.re_enter(self._reference()))[0]
            persistent = self._fitted.details.persistent
            chains = None if persistent is None else (persistent - scaling.centre) / scaling.scale
        with progress(self, rows.X, None, 1) as step:
            found = fit_by_contrast(settings, energy, merged, rng, step, theta, chains, 1)
        fit = single_model(settings, energy, scaling, found, rows, rng)
        if not first and self._fitted.model_temperature == 0:
            fit.attributes["n_iter_"] += self.n_iter_
        return fit

    def _fit_tempered(
        self, settings: RBMSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[MachineDetails]:
        """Sample from the prior; the reference is the mode found from the best of the models."""
        form, tau = settings.form(rows.X.shape[1]), settings.model_temperature
        scaling = Scaling.of(form, rows)
        scaled = merged_rows(scaling.enter(rows))
        energy = make_energy(form, rates_of(form, scaled), settings.prior(scaled, scaling.scale))
        objective = Objective(energy, scaled, runner, settings.temperature)
        plan = sampling_plan(energy, len(scaled.X), settings.n_models, settings.plans.tempered)
        with progress(self, rows.X, None, plan.n_steps) as step:
            run = run_tempered(objective, rng, settings, step, plan)
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        draws = match_units(run.params, best.params, scaled, energy)
        # the same machines and values in units of X
        rates = rates_of(form, rows)
        plain, shift = make_energy(form, rates), scaling.shift_of_energies
        run = shifted(run, shift, objective.power(tau), tau)
        draws, mode = scaling.leave(draws), scaling.leave(best.params)
        draws = replace(draws, log_partition=plain.log_partition(draws))
        kept = as_models(draws, form.per_feature)
        mode = replace(mode, log_partition=plain.log_partition(mode))
        attributes = {
            **reference_attributes(form, mode),
            **summarise(settings, run, rows.total),
            "log_partition_error_": 0.0,
            "models_": kept,
            "hmaxe_": float(best.hmaxe[0]) + shift,
            "lower_bound_": float(best.objective[0]) + shift,
        }
        return Fit(attributes, MachineDetails(form, rates, scaling, None))
