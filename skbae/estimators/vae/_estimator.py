"""BayesianVAEAutoEncoder: a network decoder whose codes are the real posterior."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.vae._decoder import LIKELIHOODS
from skbae.energies.vae._parameters import VAEModels
from skbae.estimators._fitted import Fit
from skbae.estimators._progress import progress
from skbae.estimators._settings import check_memory
from skbae.estimators.vae._fit import (
    NetworkDetails,
    first_parameters,
    fit_energy,
    fit_networks,
    frame_of,
    hmaxe_of,
    one_more_pass,
    sampled_attributes,
    single_attributes,
)
from skbae.estimators.vae._predictions import NetworkPredictions
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._early_stopping import merged_rows

if TYPE_CHECKING:
    from skbae._types import Rows
    from skbae.energies.vae._energy import Architecture
    from skbae.energies.vae._parameters import RowFrame
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.passes._rows import RowRunner


class BayesianVAEAutoEncoder(NetworkPredictions):
    r"""Autoencoder with a network for decoder, whose codes are those of its own energy.

    The energy of a row x with the code z is ``H = log N(z; 0, I) + log p(x | net(z))``, and a fit
    maximises ``Hmaxe_T``, the mean over rows of ``T log of the integral of exp(H / T)``, less a
    penalty on large weights (`alpha`). At ``temperature=1`` ``Hmaxe_T`` is the log likelihood of a
    variational autoencoder, without a variational bound for a definition; at ``temperature=0`` the
    energy of each row's best code, an ordinary autoencoder whose encoder is the maximisation. The
    encoder is a second network that proposes codes. It is a means: what it proposes is weighted (or
    improved on, at T = 0), and no number depends on it except by how precisely it is known.

    Parameters
    ----------
    n_components : int, default=2
        Number d of code dimensions.
    hidden_layer_sizes : tuple of int or int, default=(128,)
        Units of the hidden layers, from the rows to the codes; the decoder has them in reverse.
        With ``()`` the decoder is linear: probabilistic PCA (exactly with ``alpha=0``).
    activation : {"tanh", "relu", "logistic", "identity"}, default="tanh"
        Of hidden layers.
    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        Of a row given the network's outputs: normal with one variance for all features, which is
        fitted, or bits with these logits. The latter needs X between 0 and 1; fractions count as
        probabilities of bits.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=0.0
        Temperature tau of the decoders, drawn from ``prior(m) exp((N / tau) Hmaxe_T)`` around their
        best; 0 finds a single best one, None means the same as `temperature`. `tilt` is not
        supported and must be 0.
    tilt : float, default=0.0
        Only 0 is allowed.
    weight_variance_prior : float, default=1.0
        The prior of a weight is normal with this variance, divided by the number of inputs of its
        unit; intercepts have the variance itself. Where rows are real numbers, they are understood
        as centred and divided by their standard deviation (one for all features). Priors matter
        where models are sampled.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of the noise variance.
    noise_scale_prior : float or None, default=None
        Its scale. None stands for ``0.1 v``, with v the mean variance of a feature.
    n_models : int, default=50
        How many draws of the models to keep for prediction, when they are sampled.
    alpha : float, default=1.0
        Strength of the penalty on the weights of a single best decoder: ``alpha / (2 N)`` times the
        sum of their squares is taken from the objective, with N the sum of the rows' weights (of
        those that are fitted to; in `partial_fit`, of those given). This is as if weights were
        normal with variance ``1 / alpha``. Intercepts bear none, nor does the encoder, which is a
        means and explains no row. Where rows are real numbers, weights are those for rows that are
        centred and divided by their standard deviation (one for all features). Where models are
        sampled, their prior takes the penalty's place and `alpha` is not used. With 0 a fit is one
        of maximum likelihood.
    learning_rate_init : float, default=0.005
        Step size of Adam. It stays what it is: fitted weights are an average over the last third of
        the steps, roughly.
    batch_size : int or "auto", default="auto"
        Distinct rows of a step; "auto" stands for 100.
    max_iter : int, default=200
        Largest number of passes over the rows.
    n_importance_samples : int, default=10
        Codes drawn for a row in a step of the fit, when T is above 0. More make the objective
        closer to ``Hmaxe_T``, which their logarithm underestimates.
    n_score_samples : int, default=128
        Codes drawn for a row by everything that follows a fit (a quarter of them, but not the same,
        for each of several models). They are the same for all rows and fixed by the fit, so that a
        row's answers do not depend on its company.
    early_stopping : bool, default=False
        Hold rows out, stop when their score does not improve and keep the weights that were best
        for them. Where chance leaves fewer than two distinct rows on either side, none is held out.
    validation_fraction : float, default=0.1
        Expected share of the rows to hold out; a row of weight two is two rows.
    n_iter_no_change : int, default=20
        Stop when so many passes, on average, are no improvement over as many before; with
        `early_stopping`, when none of so many was the best for the rows held out.
    tol : float, default=1e-4
        What counts as improvement, in nats a row.
    warm_start : bool, default=False
        Start from the current fitted model, if there is one.
    verbose : int, default=0
        Print each pass's objective if positive.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Threads that share a pass over the rows after the fit; None: as many as BLAS would use.

    Attributes
    ----------
    decoder_coefs_, encoder_coefs_ : list of ndarrays of shape (in, out)
        Weights of each layer, in the units of X.
    decoder_intercepts_, encoder_intercepts_ : list of ndarrays of shape (out,)
        The encoder's 2d outputs are the means of a code's entries and the logarithms of their
        standard deviations (at T = 1; they grow as ``sqrt(T)``).
    noise_variance_ : float
        Only for ``likelihood="gaussian"``.
    loss_curve_ : list of float
        Minus the objective of each pass, as the fit saw it, penalty included (minus ``tau / N``
        times the log prior, without its constants, where models are sampled).
    validation_scores_ : list of float
        Score of the rows held out after each pass, without penalty; empty if none were. Only with
        `early_stopping`.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows (all of them) under the reference model, in nats a row and
        without penalty. The reference model, which the attributes above belong to, is the best fit
        or, when models are sampled, the mode of ``p(m)`` where they start.
    hmaxemax_, hmaxemax_error_ : float
        `hmaxe_` and 0 when a single model is fitted. NaN when models are sampled: chains that stay
        near one optimum can't tell the evidence, and ``log_evidence_`` is absent. (N times
        `internal_energy_` of a fit with ``model_temperature=log(N)`` is Watanabe's WBIC, which
        approaches the log evidence at 1 as N grows; it is some nats off on small data.)
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models.
    sampling_ : SamplingResult
        How the models were sampled and whether to trust it. Only when they are.
    models_ : VAEModels
        The kept models; fitted attributes without underscores, with a leading axis.
    converged_ : bool
    n_iter_ : int
        Passes, or steps of the sampler.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.decomposition.PCA : Linear decoders, T = 0.
    sklearn.neural_network.MLPRegressor : Its parameters' names are used here.

    Notes
    -----
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
        temperature: float = 1.0,
        model_temperature: float | None = 0.0,
        tilt: float = 0.0,
        weight_variance_prior: float = 1.0,
        noise_shape_prior: float = 1.0,
        noise_scale_prior: float | None = None,
        n_models: int = 50,
        alpha: float = 1.0,
        learning_rate_init: float = 0.005,
        batch_size: Any = "auto",
        max_iter: int = 200,
        n_importance_samples: int = 10,
        n_score_samples: int = 128,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        tol: float = 1e-4,
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
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
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: VAESettings, n_rows: int, n_features: int) -> None:
        if settings.samples:
            decoder, encoder = settings.architecture(n_features).networks()
            check_memory(decoder.n_parameters + encoder.n_parameters, settings.n_models)

    def _check_same_shape(self, settings: VAESettings, n_features: int, what: str) -> None:
        has, asked = self._fitted.details.architecture, settings.architecture(n_features)
        if has != asked:
            raise ValueError(
                f"{what} needs the same n_components, number of features, hidden_layer_sizes, "
                f"activation and likelihood as the fitted model: it has {list(astuple(has))}; "
                f"asked for are {list(astuple(asked))}"
            )

    def _fit_rows(
        self, settings: VAESettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[NetworkDetails]:
        LIKELIHOODS[settings.likelihood].check(rows.X)
        rows = merged_rows(rows)
        architecture = settings.architecture(rows.X.shape[1])
        frame = frame_of(architecture, rows)
        noise_seed = int(rng.integers(2**32))
        if self._continues(settings):
            start = frame.from_layers(*architecture.networks(), self._reference_models())
        else:
            start = first_parameters(architecture, frame, rng)
        energy = fit_energy(settings, architecture, frame, noise_seed)
        with progress(self, rows.X, None, None if settings.samples else settings.max_iter) as step:
            found, course, optimizer = fit_networks(settings, energy, rows, start, rng, step)
            params = energy.part(found.theta)
            hmaxe = hmaxe_of(energy, params, rows, runner, settings.temperature)
            attributes = {**single_attributes(energy, params, hmaxe), **course}
            if settings.samples:
                attributes |= sampled_attributes(settings, energy, rows, found.theta, rng, step)
        return Fit(attributes, self._details(settings, architecture, frame, noise_seed, optimizer))

    def _fit_batch(
        self, settings: VAESettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[NetworkDetails]:
        LIKELIHOODS[settings.likelihood].check(rows.X)
        rows = merged_rows(rows)
        if hasattr(self, "models_"):
            own = self._fitted.details
            architecture, frame, noise_seed = own.architecture, own.frame, own.noise_seed
            energy = fit_energy(settings, architecture, frame, noise_seed)
            adam, curve = Adam.resume(own.optimizer), self.loss_curve_
            rng = np.random.default_rng([noise_seed, adam.n_steps])
        else:
            architecture = settings.architecture(rows.X.shape[1])
            frame, noise_seed = frame_of(architecture, rows), int(rng.integers(2**32))
            energy = fit_energy(settings, architecture, frame, noise_seed)
            adam, curve = Adam(energy.join(first_parameters(architecture, frame, rng))), []
        params, hmaxe, value = one_more_pass(settings, energy, rows, adam, rng, runner)
        attributes = {
            **single_attributes(energy, params, hmaxe),
            "loss_curve_": [*curve, -value],
            "converged_": False,
            "n_iter_": len(curve) + 1,
        }
        details = self._details(settings, architecture, frame, noise_seed, adam.state())
        return Fit(attributes, details)

    @staticmethod
    def _details(
        settings: VAESettings,
        architecture: Architecture,
        frame: RowFrame,
        noise_seed: int,
        optimizer: dict[str, Any],
    ) -> NetworkDetails:
        n_draws = settings.n_score_samples
        return NetworkDetails(architecture, frame, n_draws, noise_seed, optimizer)


__all__ = ["BayesianVAEAutoEncoder", "VAEModels"]
