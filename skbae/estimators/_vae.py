"""BayesianVAEAutoEncoder: a network decoder whose codes are the real posterior."""

from __future__ import annotations

import numbers
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skbae.energies._decoder import LIKELIHOODS
from skbae.energies._mlp import ACTIVATIONS
from skbae.energies._vae import VAEEnergy, VAEModels, VAEParameters
from skbae.energies._vae_rows import NetworkRows, WeightedPoints
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import (
    check_choice,
    check_codes,
    check_flag,
    check_integer,
    check_real,
    check_sample_weight,
)
from skbae.estimators._progress import progress
from skbae.estimators._sampled import check_memory
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._vae_fit import (
    batch_size,
    climb,
    diverged,
    first_parameters,
    fixed_noise,
    make_energy,
    objective_at,
    reference_attributes,
    reference_models,
    sampled_attributes,
)
from skbae.estimators._vae_fit_targets import (
    VAEObjective,
    architecture,
    row_frame,
    training_rows,
)
from skbae.inference._adam import Adam
from skbae.inference._rows import RowRunner, make_rows
from skbae.inference._stochastic import DivergedError, one_pass
from skbae.operators._random import as_generator
from skbae.operators._tempered import log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Draws of a code under each of several models, at least, unless fewer are asked for.
_FEWEST_DRAWS = 16
# A row's estimate is poor when its standard error is more than so many nats (times T), and a
# warning is due when more than so many rows are poor.
_POOR_ERROR = 0.3
_POOR_SHARE = 0.01


def _fits_one_model(estimator: Any) -> bool:
    """Raise AttributeError unless a single best model is asked for: else there is no method."""
    tau = estimator.model_temperature
    tau = estimator.temperature if tau is None else tau
    if isinstance(tau, numbers.Real) and float(tau) > 0:
        raise AttributeError(
            f"partial_fit needs model_temperature=0, got {estimator.model_temperature!r}: sampling "
            "the models takes all rows at once"
        )
    return True


class BayesianVAEAutoEncoder(BayesianAutoEncoder):
    r"""Autoencoder with a network for decoder, whose codes are those of its own energy.

    The energy of a row x with the code z is ``H = log N(z; 0, I) + log p(x | net(z))``, and a fit
    maximises ``Hmaxe_T``, the mean over rows of ``T log of the integral of exp(H / T)``: at
    ``temperature=1`` the log likelihood of a variational autoencoder, without a variational bound
    for a definition; at ``temperature=0`` the energy of each row's best code, an ordinary
    autoencoder whose encoder is the maximisation. The encoder is a second network that proposes
    codes. It is a means: what it proposes is weighted (or climbed from, at T = 0), and no number
    depends on it except by how precisely it is known.

    Parameters
    ----------
    n_components : int, default=2
        Number d of code dimensions.
    hidden_layer_sizes : tuple of int or int, default=(128,)
        Units of the hidden layers, from the rows to the codes; the decoder has them in reverse.
        With ``()`` the decoder is linear: probabilistic PCA.
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
        for them.
    validation_fraction : float, default=0.1
        Share of the distinct rows to hold out.
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
        Minus the objective of each pass, as the fit saw it.
    validation_scores_ : list of float
        Score of the rows held out after each pass. Only with `early_stopping`.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows (all of them) under the reference model, in nats a row. The
        reference model, which the attributes above belong to, is the best fit or, when models are
        sampled, the mode of ``p(m)`` where they start.
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

    References
    ----------
    Burda, Y., Grosse, R. and Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.

    Tucker, G., Lawson, D., Gu, S. and Maddison, C. (2019). Doubly reparameterized gradient
    estimators for Monte Carlo objectives. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianVAEAutoEncoder
    >>> t = np.random.default_rng(0).uniform(-2, 2, 300)
    >>> X = np.column_stack([t, t**2])  # a parabola has one dimension
    >>> model = BayesianVAEAutoEncoder(
    ...     1, hidden_layer_sizes=20, learning_rate_init=0.01, max_iter=500, n_iter_no_change=100,
    ...     random_state=0).fit(X)
    >>> error = np.mean((X - model.inverse_transform(model.transform(X))) ** 2)
    >>> bool(error < 0.05 * X.var(axis=0).mean())
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

    # -- checks --------------------------------------------------------------------------------

    def _check_family(self, n_rows, n_features):
        if n_rows is None:
            self._check_parameters()
            return
        config = self._configuration(n_features)
        if self._resolved_model_temperature() > 0:
            decoder, encoder = architecture(config)
            size = decoder.n_parameters + encoder.n_parameters
            check_memory(size, int(self.n_models))
        if self.warm_start and hasattr(self, "models_"):
            self._check_same_shape(config, "warm_start=True")

    def _check_parameters(self) -> None:
        for name in ("n_components", "max_iter", "n_importance_samples", "n_score_samples"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("n_iter_no_change", self.n_iter_no_change, minimum=1)
        self._hidden()
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("likelihood", self.likelihood, LIKELIHOODS)
        for name in ("learning_rate_init", "weight_variance_prior", "noise_shape_prior"):
            check_real(name, getattr(self, name), above=0)
        check_real("noise_scale_prior", self.noise_scale_prior, above=0, optional=True)
        if self.tilt != 0:
            raise ValueError(
                f"tilt must be 0, got {self.tilt!r}: a tilted mean can't be estimated from batches "
                "of rows without bias"
            )
        if self.batch_size != "auto":
            if isinstance(self.batch_size, str):
                raise ValueError(
                    f"batch_size must be 'auto' or an integer >= 1, got {self.batch_size!r}"
                )
            check_integer("batch_size", self.batch_size, minimum=1)
        for name in ("early_stopping", "warm_start"):
            check_flag(name, getattr(self, name))
        fraction = check_real("validation_fraction", self.validation_fraction, above=0)
        if fraction >= 1:
            raise ValueError(
                f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}"
            )
        check_real("tol", self.tol, at_least=0)

    def _hidden(self) -> tuple[int, ...]:
        """Return the hidden layers' sizes."""
        given = self.hidden_layer_sizes
        try:
            sizes = tuple(given) if np.ndim(given) else (given,)
            return tuple(check_integer("hidden_layer_sizes", size, minimum=1) for size in sizes)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"hidden_layer_sizes must be an integer >= 1 or a sequence of such, got {given!r}"
            ) from error

    def _configuration(self, n_features: int) -> dict[str, Any]:
        return {
            "n_components": int(self.n_components),
            "n_features": int(n_features),
            "hidden_layer_sizes": list(self._hidden()),
            "activation": str(self.activation),
            "likelihood": str(self.likelihood),
            "temperature": float(self.temperature),
            "n_importance_samples": int(self.n_importance_samples),
            "n_score_samples": int(self.n_score_samples),
            "weight_variance_prior": float(self.weight_variance_prior),
            "noise_shape_prior": float(self.noise_shape_prior),
            "noise_scale_prior": self.noise_scale_prior,
        }

    def _check_same_shape(self, config: dict[str, Any], what: str) -> None:
        names = ("n_components", "n_features", "hidden_layer_sizes", "activation", "likelihood")
        asked, has = ([each[name] for name in names] for each in (config, self._config))
        if asked != has:
            raise ValueError(
                f"{what} needs the same n_components, number of features, hidden_layer_sizes, "
                f"activation and likelihood as the fitted model: it has {has}; asked for are "
                f"{asked}"
            )

    def _check_values(self, X: NDArray[Any]) -> None:
        LIKELIHOODS[self._config["likelihood"]].check(X)

    def _read(self, X):
        X = super()._read(X)
        self._check_values(X)
        return X

    # -- fit -----------------------------------------------------------------------------------

    def _fit_family(self, rows, rng, runner):
        config = self._configuration(rows.X.shape[1])
        LIKELIHOODS[config["likelihood"]].check(rows.X)
        distinct = training_rows(rows)
        config |= distinct.place()
        noise_seed = int(rng.integers(2**32))
        tau = self._resolved_model_temperature()
        objective = VAEObjective(config, distinct, tau / distinct.total)
        if self.warm_start and hasattr(self, "models_"):
            start = row_frame(config).from_layers(*architecture(config), reference_models(self))
        else:
            start = first_parameters(config, distinct, rng)
        with progress(self, distinct.X, None, None if tau > 0 else int(self.max_iter)) as step:
            return self._fit_from(start, config, distinct, objective, noise_seed, rng, runner, step)

    def _fit_from(self, start, config, distinct, objective, noise_seed, rng, runner, step):
        """Climb, and sample around where the climb ends if asked to; return the attributes."""
        tau = self._resolved_model_temperature()
        found = climb(self, config, distinct, objective, start, rng, step)
        reference = objective.part(found.theta)
        hmaxe = objective_at(self, config, distinct, reference, noise_seed, runner)
        frame, networks = row_frame(config), architecture(config)
        models = frame.to_layers(*networks, reference)
        fitted = {
            **reference_attributes(models, config),
            "models_": models,
            "loss_curve_": [-value for value in found.objectives],
            "hmaxe_": hmaxe,
            "hmaxemax_": hmaxe,
            "hmaxemax_error_": 0.0,
            "internal_energy_": hmaxe,
            "converged_": found.converged,
            "n_iter_": len(found.objectives),
            "_config": config,
            "_noise_seed": noise_seed,
            "_optimizer": found.state,
        }
        if self.early_stopping:
            fitted["validation_scores_"] = found.held_out
        if tau > 0:
            fitted |= sampled_attributes(
                self, config, distinct, objective, found.theta, tau, rng, step
            )
        return fitted

    @available_if(_fits_one_model)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Make one pass over some rows, going on from where the model is.

        Only with ``model_temperature=0``: sampling takes all rows at once.

        The first call sets where rows are centred and how they are scaled; it needs rows that are
        typical. `hmaxe_` is then that of the rows of the latest call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`.
        """
        before = vars(self).copy()
        try:
            self._check_common()
            self._check_family(None, None)
            first = not hasattr(self, "models_")
            X = validate_data(self, X, reset=first, dtype=[np.float64, np.float32])
            weights = check_sample_weight(sample_weight, len(X))
            if weights is not None:
                X, weights = X[weights > 0], weights[weights > 0]
            self._pass_once(X, weights, first)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _pass_once(self, X: NDArray[Any], weights: Array | None, first: bool) -> None:
        config = self._configuration(X.shape[1])
        rows = make_rows(X, weights)
        if not np.isfinite(rows.scale).all():
            raise ValueError("X is too large: its variance overflows. Scale the columns.")
        LIKELIHOODS[config["likelihood"]].check(X)
        distinct = training_rows(rows)
        if first:
            rng = as_generator(self.random_state)
            config |= distinct.place()
            noise_seed, curve = int(rng.integers(2**32)), []
            objective = VAEObjective(config, distinct)
            adam = Adam(objective.join(first_parameters(config, distinct, rng)))
        else:
            self._check_same_shape(config, "partial_fit")
            config |= {name: self._config[name] for name in ("centre", "scale")}
            noise_seed, curve = self._noise_seed, self.loss_curve_
            objective = VAEObjective(config, distinct)
            adam = Adam.resume(self._optimizer)
            rng = np.random.default_rng([noise_seed, adam.n_steps])
        size, rate = batch_size(self, len(distinct.X)), float(self.learning_rate_init)
        try:
            value = one_pass(objective, adam, size, rate, rng)
        except DivergedError as error:
            raise diverged(self) from error
        params = objective.part(adam.average)
        with RowRunner() as runner:
            hmaxe = objective_at(self, config, distinct, params, noise_seed, runner)
        models = row_frame(config).to_layers(*architecture(config), params)
        fitted = {
            **reference_attributes(models, config),
            "models_": models,
            "loss_curve_": [*curve, -value],
            "hmaxe_": hmaxe,
            "hmaxemax_": hmaxe,
            "hmaxemax_error_": 0.0,
            "internal_energy_": hmaxe,
            "converged_": False,
            "n_iter_": len(curve) + 1,
            "_config": config,
            "_noise_seed": noise_seed,
            "_optimizer": adam.state(),
            "_frame": rows.frame,
            "_fit_temperature": config["temperature"],
            "_fit_model_temperature": 0.0,
            "_fit_tilt": 0.0,
            "_fit_rows": (len(X), rows.centre, rows.scale),
        }
        for name in ("sampling_", "validation_scores_"):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted)

    # -- densities -----------------------------------------------------------------------------

    def _energy(self):
        return self._energy_with(None, None)

    def _energy_with(
        self, n_samples: int | None, seed: int | None, n_models: int | None = None
    ) -> VAEEnergy:
        """Return the energy with so many draws for each of so many models."""
        config = self._config
        n_models = self.models_.n_models if n_models is None else n_models
        if n_samples is None:
            n_samples = config["n_score_samples"]
            if n_models > 1:
                # averages over models need fewer draws of each, if they are not the same
                n_samples = max(n_samples // 4, min(n_samples, _FEWEST_DRAWS))
        seed = self._noise_seed if seed is None else seed
        return make_energy(config, fixed_noise(n_samples, config["n_components"], seed, n_models))

    def _parameters(self):
        return row_frame(self._config).from_layers(*architecture(self._config), self.models_)

    def _reference(self) -> VAEParameters:
        models = reference_models(self)
        return row_frame(self._config).from_layers(*architecture(self._config), models)

    def _has_density(self):
        return self._fit_temperature > 0

    def score_samples(
        self, X: Any, n_samples: int | None = None, random_state: Any = None
    ) -> NDArray[np.float64]:
        """Return ``Hmax_T`` of each row, averaged over the kept models in probability.

        At ``temperature=1`` this is the log density, estimated by importance sampling: the mean of
        ``exp`` of the estimate is exact, so the estimate itself is low on average. At T = 0 the
        code is climbed to, and nothing is drawn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_samples : int or None, default=None
            How many codes to draw for a row and model; None stands for the `n_score_samples` of
            the fit.
        random_state : None, int, RandomState or Generator, default=None
            None stands for the fit's own fixed draws: every call gives a row the same answer. (A
            generator is advanced, and gives other draws.)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.

        Warns
        -----
        ConvergenceWarning
            If more than one row in a hundred has a standard error above 0.3 T nats by the spread of
            its weights (an effective sample size below some ten).
        """
        X = self._read(X)
        if n_samples is not None:
            n_samples = check_integer("n_samples", n_samples, minimum=1)
        seed = None
        if random_state is not None:
            seed = int(as_generator(random_state).integers(2**32))
        bound = self._energy_with(n_samples, seed).bind(self._parameters(), self._frame, X.dtype)
        return self._judged_scores(bound, X, self._fit_temperature)

    def _score_rows(self, X, temperature):
        return self._judged_scores(self._bound(X), X, temperature)

    def _judged_scores(self, bound: Any, X: NDArray[Any], temperature: float) -> Array:
        """Return scores; warn when they are not precise."""

        def function(chunk: NDArray[Any]) -> tuple[Array, Array]:
            values, errors = bound.hmax_and_error(chunk, temperature)
            shares = tempered_softmax(values, 1.0, axis=0)  # of the models in the average
            return log_mean_exp(values), np.sqrt(np.einsum("sn,sn->n", shares**2, errors))

        scores, errors = self._map(function, X, bound.chunk_rows)
        poor = float(np.mean(errors > _POOR_ERROR))
        if poor > _POOR_SHARE:
            warnings.warn(
                f"scores of {poor:.0%} of the rows have a standard error above {_POOR_ERROR} "
                "temperature nats, since few of their draws count; the encoder is poor there, or "
                "the posterior of the code has several modes. Raise n_samples (or n_score_samples, "
                "before fitting).",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )
        return scores

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self._config["n_components"]

    def _points(self, X: NDArray[Any], keep: Any) -> Any:
        """Map ``keep(weighted codes)`` over chunks, under the reference model."""
        temperature = self._fit_temperature
        bound = self._energy_with(None, None, 1).bind(self._reference(), self._frame, X.dtype)
        return self._map(
            lambda chunk: keep(bound.codes(chunk, temperature, 0)), X, bound.chunk_rows
        )

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row under the reference model; the best code at T = 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            By weighted draws around the mode, the same for every row; float32 for float32 rows.
        """
        X = self._read(X)
        codes = self._points(X, lambda found: np.matmul(found.weights[:, None], found.codes)[:, 0])
        return codes.astype(X.dtype, copy=False)

    def encode(self, X: Any) -> WeightedPoints:
        """Return the distribution of each row's code under the reference model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        WeightedPoints
            `n_score_samples` weighted codes a row; a single one at T = 0.
        """
        X = self._read(X)
        temperature, d = self._fit_temperature, self._config["n_components"]

        def keep(found: Any) -> tuple[Array, Array, Array]:
            if temperature == 0:
                return found.codes, found.weights, np.zeros_like(found.weights)
            log_density = (found.energies - found.hmax[:, None]) / temperature
            log_density -= 0.5 * d * np.log(2 * np.pi * temperature)
            return found.codes, found.weights, log_density

        return WeightedPoints(*self._points(X, keep))

    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            For ``likelihood="bernoulli"``: probabilities.
        """
        check_is_fitted(self)
        Z = check_codes(Z, self._n_features_out, self)
        return self.decode(Z).mean.astype(Z.dtype, copy=False)

    def decode(self, Z: Any) -> NetworkRows:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components) or WeightedPoints
            Codes, or what :meth:`encode` returned; then the result is the distribution of the
            reconstruction.

        Returns
        -------
        NetworkRows
        """
        check_is_fitted(self)
        if isinstance(Z, WeightedPoints):
            points, weights = Z.points, Z.weights
        else:
            points = check_codes(Z, self._n_features_out, self).astype(np.float64)[:, None]
            weights = np.ones(points.shape[:2])
        decoder, _ = architecture(self._config)
        frame = row_frame(self._config)
        centre = frame.centre if frame.scaled else np.zeros_like(frame.centre)
        return NetworkRows(decoder, self._reference().decoder, centre, frame.unit, points, weights)


__all__ = ["BayesianVAEAutoEncoder", "VAEModels"]
