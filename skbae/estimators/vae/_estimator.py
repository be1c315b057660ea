"""BayesianVAEAutoEncoder: a network decoder whose codes are its exact posterior."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.vae._parameters import VAEModels
from skbae.estimators._fitted import Fit
from skbae.estimators._progress import progress
from skbae.estimators._settings import check_memory
from skbae.estimators._unit_interval import fitted_rows
from skbae.estimators.vae._asked import ask
from skbae.estimators.vae._fit import (
    NetworkDetails,
    asks,
    code_unit,
    first_parameters,
    fit_energy,
    fit_networks,
    frame_of,
    hmaxe_and_error,
    in_order_of_columns,
    landmarks_by_search,
    most_refining_passes,
    noise_level,
    not_below_linear,
    one_more_pass,
    refines,
    sampled_attributes,
    single_attributes,
    warn_of,
)
from skbae.estimators.vae._predictions import NetworkPredictions
from skbae.estimators.vae._refined import refined
from skbae.estimators.vae._tempered import (
    MAX_MINUTES,
    sampling_reports,
    tempered_attributes,
    tempering,
    too_long,
)
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._early_stopping import merged_rows

if TYPE_CHECKING:
    from skbae._types import FloatArray, Rows
    from skbae.energies.vae._energy import VAEEnergy
    from skbae.estimators._progress import Steps
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.passes._rows import RowRunner


class BayesianVAEAutoEncoder(NetworkPredictions):
    r"""Autoencoder with a network as decoder, and the posterior of its codes as encoder.

    The energy of a row x with the code z is ``H = log N(z; 0, I) + log p(x | net(z))``, and a fit
    maximises ``Hmaxe_T``, the mean over rows of ``T log of the integral of exp(H / T)``, less a
    penalty on large weights (`alpha`). At ``temperature=1`` ``Hmaxe_T`` is the log likelihood of a
    variational autoencoder, itself rather than a variational bound; at ``temperature=0`` it is the
    mean energy of each row's best code, an ordinary autoencoder whose encoder maximises the energy.
    A second network, the encoder, proposes codes, which are then weighted by importance (or, at
    T = 0, improved by optimisation): it affects how precise results are, but not their expected
    values.

    Parameters
    ----------
    n_components : int, default=2
        Number d of code dimensions.
    hidden_layer_sizes : tuple of int or int, default=(128,)
        Units of the hidden layers, from the rows to the codes; the decoder has them in reverse.
        With ``()`` the decoder is linear: probabilistic PCA (exactly with ``alpha=0`` and
        ``noise="shared"``), or factor analysis.
    activation : {"tanh", "relu", "logistic", "identity"}, default="tanh"
        Activation function of the hidden layers.
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        Distribution of a row given the network's outputs. "gaussian": normal with these means, and
        variances that are fitted. "bernoulli": bits with these logits, for X between 0 and 1;
        fractions count as probabilities of bits.
    noise : {"per_feature", "shared"}, default="per_feature"
        For a Gaussian likelihood: whether each feature has its own noise variance, so that units of
        the columns do not matter, or all have the same, as in probabilistic PCA. Variances are not
        below a millionth of the feature's. At ``temperature < 1`` free variances would have no
        optimum (the likelihood grows without bound as codes copy some features), so that their
        ratios are then held at those of the better PCA, of the rows or of the scaled rows.
    outside : {"clip", "error"}, default="clip"
        For a Bernoulli likelihood: what methods of the fitted model do with rows that leave [0, 1]
        by more than rounding: clip them with a warning, or raise ValueError. Fits refuse such rows.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=0.0
        Temperature tau of the decoders, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``; 0 finds the
        single best model, None means the same as `temperature`. Decoders of up to 120 parameters
        and two codes are sampled from the prior, with their evidence, at T > 0 and where it takes
        less than about three minutes; others around the best one, without.
    tilt : float, default=0.0
        Not supported: must be 0.
    weight_variance_prior : float, default=1.0
        The prior of a weight is normal with this variance, divided by the number of inputs of its
        unit; intercepts have the variance itself. With a Gaussian likelihood this is the prior for
        rows that are centred and divided by their standard deviations (with ``noise="shared"`` one
        for all features). Priors are used only if models are sampled.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of the noise variance.
    noise_scale_prior : float or None, default=None
        Its scale. None stands for ``0.1 v``, with v the variance of the feature (with
        ``noise="shared"`` the mean variance of a feature).
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    alpha : float or "auto", default="auto"
        Strength of the penalty on the weights of a single best decoder; "auto" stands for 1 with a
        Bernoulli likelihood and 10 with a Gaussian one, or at T >= 1 and with at most 2000 distinct
        rows for 10, 1 or 0.1, as rows held out gain (see Notes). ``alpha / (2 N)`` times the
        sum of their squares is subtracted from the objective, with N the sum of the weights of the
        rows fitted to (in `partial_fit`, of the given rows). It corresponds to a normal prior of
        the weights with variance ``1 / alpha``. Intercepts, linear parts (`decoder_skip_`) and the
        encoder are not penalised. The weights are those for codes divided by ``sqrt(T)`` (at T = 0
        by 0.01) and, with a Gaussian likelihood, for rows that are centred and divided by their
        standard deviations (with ``noise="shared"`` one for all features). If models are sampled,
        the prior replaces the penalty and `alpha` is not used. With 0 the fit is a maximum
        likelihood fit. At T >= 1 noise variances of each feature are also drawn to that of PCA of
        the scaled rows, as by `alpha` rows.
    learning_rate_init : float, default=0.005
        Step size of Adam. It is constant until the objective levels off, or for the first 60 % of
        `max_iter`, and then falls linearly to a hundredth in two thirds as many passes; the fitted
        weights are an average over about the last third of the steps. With `early_stopping` it is
        constant.
    batch_size : int or "auto", default="auto"
        Number of distinct rows in a step; "auto" stands for 100.
    max_iter : int, default=300
        Largest number of passes over the rows; over few rows a pass goes repeatedly, until it has
        made ten steps. Below T = 1 up to as many may follow (see the notes).
    n_importance_samples : int, default=10
        Number of codes drawn for each row in a step of the fit, if T > 0. With few of them the
        objective is below ``Hmaxe_T`` on average; with more it is closer.
    n_score_samples : int, default=128
        Number of codes drawn for each row by the methods of a fitted model (a quarter of it, with
        different draws, for each of several models). The random numbers are fixed at the fit and
        the same for all rows, so that results of a row do not depend on the other rows.
    early_stopping : bool, default=False
        Hold rows out, stop when their score no longer improves, and keep the weights with the best
        score. No rows are held out if fewer than two distinct rows would be left in either part.
    validation_fraction : float, default=0.1
        Expected share of the rows to hold out; a row of weight two is two rows.
    n_iter_no_change : int, default=30
        The objective has levelled off when its mean over so many passes is no improvement over that
        of as many passes before; with `early_stopping`, the fit stops after so many passes without
        a best score of the rows held out. A fit that ends at `max_iter` has converged if the
        objective rose in its last tenth by less than a fiftieth of all that it rose.
    tol : float, default=1e-3
        Smallest improvement that counts, in nats a row.
    warm_start : bool, default=False
        Start from the current fitted model, if there is one.
    verbose : int, default=0
        If positive, print the objective of each pass.
    verbose_interval : int, default=1
        Number of steps from one that is printed to the next.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Number of threads for passes over the rows after the fit; None: as many as BLAS would use.

    Attributes
    ----------
    decoder_coefs_, encoder_coefs_ : list of ndarrays of shape (in, out)
        Weights of each layer, in the units of X.
    decoder_intercepts_, encoder_intercepts_ : list of ndarrays of shape (out,)
        The encoder's 2d outputs are the means of a code's entries and the logarithms of their
        standard deviations (at T = 1; they grow as ``sqrt(T)``).
    decoder_skip_ : ndarray of shape (n_components, n_features)
        Linear map from codes to rows that is added to the output of the decoder's layers. Only for
        ``likelihood="gaussian"`` with hidden layers.
    encoder_skip_ : ndarray of shape (n_features, 2 * n_components)
        The same of the encoder.
    noise_variance_ : float or ndarray of shape (n_features,)
        Only for ``likelihood="gaussian"``; an array for ``noise="per_feature"``.
    alpha_ : float
        Strength of the penalty. Only for a single model.
    loss_curve_ : list of float
        Minus the objective of each pass, as estimated during the fit, penalty included (if models
        are sampled, minus ``tau / N`` times the log prior without its constants).
    validation_scores_ : list of float
        Score of the rows held out after each pass, without penalty; empty if none were. Only with
        `early_stopping`.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows (those held out included) under the reference model, in
        nats a row and without penalty; of many rows and wide networks, of some rows, the same at
        each fit, with a standard error in `hmaxemax_error_`. The reference model, which the
        attributes above belong to, is the best fit or, when models are sampled, the mode of
        ``p(m)``, where the chains start.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)`` and its standard error
        for small decoders that are sampled from the prior; `hmaxe_` and 0 when a single model is
        fitted. NaN when models are sampled around the best one: chains that stay near one optimum
        do not determine the evidence, and ``log_evidence_`` is absent. (At T = 1 and
        ``model_temperature=log(N)`` ``sampling_.estimates["wbic"]`` is N times `internal_energy_`,
        Watanabe's WBIC, which approaches the log evidence at T = tau = 1 as N grows; on few rows it
        is off by some nats.)
    log_evidence_ : float
        ``(N / tau) hmaxemax_``; only if models are sampled from the prior.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models.
    sampling_ : SamplingResult
        Diagnostics of the sampling. Only when models are sampled.
    models_ : VAEModels
        The kept models: the fitted attributes, without trailing underscore, with a leading axis S.
    converged_ : bool
    n_iter_ : int
        Passes, or steps of the sampler.
    noise_scale_prior_ : float or ndarray of shape (n_features,)
        The scale that was used, with what None stood for. Only when models are sampled, with
        ``likelihood="gaussian"``.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.decomposition.PCA : Linear decoders, T = 0.
    sklearn.neural_network.MLPRegressor : Its parameters' names are used here.

    Notes
    -----
    Fits to real rows start from the best linear decoder, which has a closed form at any T, and the
    result is never below it: a network is at least as good as PCA of as many components on the
    training rows. With at most 2000 distinct rows, and unless ``alpha=0`` or `early_stopping`, a
    fifth of them is held out for a second fit: if that is worse on them than the linear decoder,
    the network overfits, and the result is the linear decoder of all rows. With ``alpha="auto"`` at
    T >= 1, fits with weaker penalties follow, anew and from the best so far, as long as these rows
    gain more than two standard errors, and the fit to all rows goes on from the best. Codes are of
    order ``sqrt(T)``, and at T = 0 their scale is arbitrary.

    Below T = 1 noise variances fall for as long as errors do, and the few rows held out whose
    errors are larger would outweigh all others: there network and line are compared at the noise
    that is best for these rows. Quasi-Newton steps (L-BFGS) follow the passes over so few rows,
    five of which count as one more pass, and go on from the better of the two fits. They end when
    the objective is as high as it was where the rows held out had their best score in the second
    fit. If that is still linear after the passes, its first steps have a weak penalty, and others
    start far from a line. The best code of a row is sought from those of other rows.
    Such a fit has converged if it gets there, or nearly so, or no step raises the objective, and if
    more steps did not raise that score by more than a twentieth of what the network gains over the
    linear decoder; if the result is the linear decoder, the latter is enough.

    Codes, of shape (n_samples, n_components), are points of the latent space: `transform` gives
    their mean under the reference model, by weighted draws around the mode, the same for every row;
    at T = 0 the best code. `encode` gives these `n_score_samples` weighted points (a single one at
    T = 0), `decode` the likelihood of a row, mixed over the points if there are several;
    `inverse_transform` its mean, for bits their probabilities.

    References
    ----------
    Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.

    Tucker, G., Lawson, D., Gu, S. and Maddison, C. (2019). Doubly reparameterized gradient
    estimators for Monte Carlo objectives. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from skbae import BayesianVAEAutoEncoder
    >>> t = np.random.default_rng(0).uniform(-2, 2, 300)
    >>> X = np.column_stack([t, t**2])  # a parabola has one dimension
    >>> model = BayesianVAEAutoEncoder(
    ...     1, hidden_layer_sizes=20, learning_rate_init=0.01, max_iter=500, n_iter_no_change=100,
    ...     random_state=0).fit(X)
    >>> def error(model):
    ...     return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)
    >>> bool(error(model) < 0.25 * error(PCA(1).fit(X)))  # what the best straight line leaves
    True
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden_layer_sizes: Any = (128,),
        activation: str = "tanh",
        likelihood: str = "gaussian",
        noise: str = "per_feature",
        outside: str = "clip",
        temperature: float = 1.0,
        model_temperature: float | None = 0.0,
        tilt: float = 0.0,
        weight_variance_prior: float = 1.0,
        noise_shape_prior: float = 1.0,
        noise_scale_prior: float | None = None,
        n_models: int = 50,
        alpha: Any = "auto",
        learning_rate_init: float = 0.005,
        batch_size: Any = "auto",
        max_iter: int = 300,
        n_importance_samples: int = 10,
        n_score_samples: int = 128,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 30,
        tol: float = 1e-3,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.noise = noise
        self.outside = outside
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.weight_variance_prior = weight_variance_prior
        self.noise_shape_prior = noise_shape_prior
        self.noise_scale_prior = noise_scale_prior
        self.n_models = n_models
        self.alpha = alpha
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.n_importance_samples = n_importance_samples
        self.n_score_samples = n_score_samples
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: VAESettings, n_rows: int, n_features: int) -> None:
        size = settings.architecture(n_features).n_parameters
        what = (
            f"n_components={settings.n_components} and "
            f"hidden_layer_sizes={settings.hidden_layer_sizes}"
        )
        check_memory(size, settings.n_models if settings.samples else 1, what)

    def _check_same_shape(self, settings: VAESettings, n_features: int, what: str) -> None:
        has, new = self._fitted.details.architecture, settings.architecture(n_features)
        if has != new:
            raise ValueError(
                f"{what} needs the n_components, number of features, hidden_layer_sizes, "
                f"activation and likelihood of the fitted model, {list(astuple(has))}; got "
                f"{list(astuple(new))}"
            )

    def _fit_rows(
        self, settings: VAESettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[NetworkDetails]:
        if settings.likelihood == "bernoulli":
            rows = fitted_rows(rows, settings.estimator, "likelihood")
        rows = merged_rows(rows)
        if settings.likelihood == "gaussian":
            rows = in_order_of_columns(rows)
        architecture = settings.architecture(rows.X.shape[1])
        frame = frame_of(architecture, rows)
        noise_seed, unit = int(rng.integers(2**32)), code_unit(settings)
        level = noise_level(settings, frame, rows)
        energy = fit_energy(settings, architecture, frame, noise_seed, unit, level)
        n_steps = settings.max_iter
        if settings.samples:
            n_steps += sampling_reports(settings, rows)
        elif refines(settings, energy, rows):
            n_steps += most_refining_passes(settings)
        with progress(self, rows.X, None, n_steps) as step:
            answer, marks, factor = None, None, 1.0
            if asks(settings, energy, rows):
                # before fits to some of the rows, whose weights have another sum
                energy.check_penalty(rows.total)
                # of its own: whether rows are held out does not change the draws of the fit
                own_rng = np.random.default_rng([noise_seed, 0])
                answer = ask(settings, energy, rows, own_rng, runner)
            if answer is not None:
                factor = answer.factor
                energy = energy.with_weaker_penalty(factor)
            if self._continues(settings):
                start = frame.from_layers(*architecture.networks(), self._reference_models())
            elif answer is not None and answer.clearly and settings.chooses_alpha:
                start = energy.part(answer.other)
            else:
                start = first_parameters(settings, energy, rows, rng)
            found, progress_attributes, optimizer = fit_networks(
                settings, energy, rows, start, rng, step
            )
            if answer is not None:
                found, changed, marks = refined(settings, energy, rows, found, answer, runner, step)
                progress_attributes |= changed
                if changed:
                    optimizer = Adam(found.theta).state()
            params = energy.part(found.theta)
            if marks is None:
                marks = landmarks_by_search(settings, energy, params, rows)
            energy = energy.with_landmarks(marks)
            hmaxe, error = hmaxe_and_error(energy, params, rows, runner, settings.temperature)
            if energy.decoder.n_extra and not settings.samples:
                curved = answer is None or answer.curved
                better, hmaxe = not_below_linear(
                    settings, energy, rows, params, hmaxe, runner, curved
                )
                if better is not params:
                    # a line has one mode, and its own encoder finds it
                    params, marks, optimizer = better, None, Adam(energy.join(better)).state()
            warn_of(settings, found.warning)
            attributes = {
                **single_attributes(energy, params, hmaxe, error),
                **progress_attributes,
                "converged_": found.converged,
            }
            if settings.samples:
                attributes |= self._sample(settings, energy, rows, found.theta, rng, runner, step)
            else:
                attributes["alpha_"] = factor * settings.alpha
        details = NetworkDetails(
            architecture,
            frame,
            settings.n_score_samples,
            noise_seed,
            unit,
            level,
            optimizer,
            factor,
            marks,
        )
        return Fit(attributes, details)

    @staticmethod
    def _sample(
        settings: VAESettings,
        energy: VAEEnergy,
        rows: Rows,
        theta: FloatArray,
        rng: np.random.Generator,
        runner: RowRunner,
        step: Steps,
    ) -> dict[str, Any]:
        """Return fitted attributes of models sampled from the prior, or around the best one."""
        best = energy.part(theta)
        small = tempering(settings, energy, rows, best.decoder)
        if small is not None and small.minutes <= MAX_MINUTES:
            return tempered_attributes(settings, energy, small, best, rng, runner, step)
        return sampled_attributes(settings, energy, rows, theta, rng, step, too_long(small))

    def _fit_batch(
        self, settings: VAESettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[NetworkDetails]:
        if settings.likelihood == "bernoulli":
            rows = fitted_rows(rows, settings.estimator, "likelihood")
        rows = merged_rows(rows)
        if settings.likelihood == "gaussian":
            rows = in_order_of_columns(rows)
        if hasattr(self, "models_"):
            own = self._fitted.details
            architecture, frame, noise_seed = own.architecture, own.frame, own.noise_seed
            unit, level = own.code_unit, own.log_level
            factor = own.penalty_factor if settings.chooses_alpha else 1.0
            energy = fit_energy(settings, architecture, frame, noise_seed, unit, level)
            energy = energy.with_weaker_penalty(factor)
            adam, curve = Adam.resume(own.optimizer), self.loss_curve_
            rng = np.random.default_rng([noise_seed, adam.n_steps])
        else:
            architecture = settings.architecture(rows.X.shape[1])
            frame, noise_seed = frame_of(architecture, rows), int(rng.integers(2**32))
            unit, level, factor = code_unit(settings), noise_level(settings, frame, rows), 1.0
            energy = fit_energy(settings, architecture, frame, noise_seed, unit, level)
            adam, curve = Adam(energy.join(first_parameters(settings, energy, rows, rng))), []
        params, hmaxe, value, marks = one_more_pass(settings, energy, rows, adam, rng, runner)
        attributes = {
            **single_attributes(energy, params, hmaxe),
            "loss_curve_": [*curve, -value],
            "converged_": False,
            "n_iter_": len(curve) + 1,
            "alpha_": factor * settings.alpha,
        }
        details = NetworkDetails(
            architecture,
            frame,
            settings.n_score_samples,
            noise_seed,
            unit,
            level,
            adam.state(),
            factor,
            marks,
        )
        return Fit(attributes, details)


__all__ = ["BayesianVAEAutoEncoder", "VAEModels"]
