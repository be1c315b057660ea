"""BayesianGMMAutoEncoder: Gaussian mixtures as autoencoders with a temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.gaussian._covariance import COVARIANCE_TYPES
from skbae.energies.gaussian._mixture import gaussian_mixture
from skbae.energies.mixture._distributions import CategoricalCodes, GaussianMixtureRows
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators._checks import check_choice, check_codes, check_real
from skbae.estimators._mixture import MixtureAutoEncoder, best_of, match_to_reference
from skbae.estimators._progress import progress
from skbae.estimators._sampling import (
    check_memory,
    gibbs_schedule,
    run_gibbs,
    run_tempered,
    summarise,
)
from skbae.estimators.gmm._fit import (
    as_models,
    check_can_sample,
    conjugate_energy,
    covariance_shape,
    given_prior,
    given_start,
    reference_attributes,
    starts,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows


class BayesianGMMAutoEncoder(MixtureAutoEncoder):
    """Gaussian mixture as a Bayesian autoencoder, with a temperature on its codes.

    The energy of a row x under component k is ``H = log w_k + log N(x; mu_k, S_k)``; the code is
    the component. ``temperature=1`` is the ordinary mixture, fitted by maximum likelihood;
    ``temperature=0`` gives hard codes (with ``covariance_type="tied_spherical"`` and
    ``equal_weights=True``: k-means); between and beyond, codes are ``softmax(H / T)`` and the fit
    maximises ``Hmaxe_T``, the mean over rows of ``T log sum_k exp(H / T)``.

    Parameters
    ----------
    n_components : int, default=1
        Number K of components.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=None
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``: 1 (at
        ``temperature=1``) is the Bayesian posterior, 0 finds the single best model; None means the
        same as `temperature`.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``: positive values care for the worst rows, negative ones
        discount outliers.
    covariance_type : str, default="full"
        ``"full"``, ``"tied"``, ``"diag"``, ``"spherical"``, ``"tied_diag"`` or
        ``"tied_spherical"``; tied components share one covariance.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    weight_concentration_prior : float, default=1.0
        Concentration of the weights' Dirichlet prior. Priors matter where models are sampled.
    mean_precision_prior : float, default=0.01
        How many rows the means' prior is worth: ``mu | Lambda ~ N(mean_prior, inverse(
        mean_precision_prior Lambda))``.
    mean_prior : array-like of shape (n_features,) or None, default=None
        None stands for the mean of X.
    degrees_of_freedom_prior : float or None, default=None
        Of the precisions' prior, ``Lambda ~ Wishart(dof, inverse(covariance_prior))``, or gamma
        with shape ``dof / 2`` and rate ``covariance_prior / 2`` for diagonal and spherical
        types. None stands for ``n_features + 2``.
    covariance_prior : array-like or None, default=None
        In the shape of one covariance. None stands for ``cov(X) / K^(2/D)`` (Fraley and Raftery
        2007).
    n_models : int, default=50
        How many draws of the models to keep for prediction, when they are sampled.
    n_init : int, default=1
        Number of starts, run side by side; the best is kept.
    init_params : {"k-means++", "kmeans", "random_from_data"}, default="k-means++"
        How initial means are chosen: spread-out rows, the centres of k-means, or random rows.
        Which rows come out depends on the weighted set of rows only, not on their order.
    weights_init, means_init, precisions_init : array-like or None, default=None
        Initial values, in the shapes of the fitted attributes; None chooses them.
    reg_covar : float, default=1e-6
        Added to the variances in each maximisation, in squared units of X.
    tol : float, default=1e-3
        A start has converged when an iteration changes the objective by less.
    max_iter : int, default=100
        Largest number of iterations.
    warm_start : bool, default=False
        Start from the current fitted model, if there is one.
    verbose : int, default=0
        Print each iteration's objective if positive.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Threads that share a pass over the rows; None: as many as BLAS would use. Results do
        not depend on it.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarrays
        In scikit-learn's shapes: (K, D, D), (D, D), (K, D) and (K,) for ``"full"``, ``"tied"``,
        ``"diag"`` and ``"spherical"``; (D,) and () for ``"tied_diag"`` and ``"tied_spherical"``.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row. The reference
        model, which the attributes above belong to, is the best fit, or, when models are
        sampled, the mode of ``p(m)`` in the coordinates ``(log w, mu, log Lambda)``.
    hmaxemax_, hmaxemax_error_ : float
        How good the best of the family is, ``(tau / N) log of the integral of prior(m) exp((N /
        tau) Hmaxe_T)``, and its standard error; `hmaxe_` and 0 when a single model is fitted.
    log_evidence_ : float
        ``(N / tau) hmaxemax_``; at ``temperature=1`` the log marginal likelihood. Only when models
        are sampled.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models: `hmaxe_` when there is one.
    sampling_ : SamplingResult
        How the models were sampled and whether to trust it. Only when they are.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration. Only for a single best model.
    converged_ : bool
        Whether the fit converged; when models are sampled, whether the status is ``"ok"``.
    n_iter_ : int
        Iterations, or sweeps of each chain.
    models_ : GaussianMixtureModels
        The kept models, labels matched to the reference model's.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.mixture.GaussianMixture : The case T = 1, one model.
    sklearn.cluster.KMeans : The case T = 0, tied spherical covariance, equal weights.

    Notes
    -----
    Expectation maximisation never lowers the objective when ``reg_covar=0`` (Neal and Hinton
    1998, with the entropy of the codes multiplied by T).

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
    >>> np.sort(model.means_[:, 0]).round(6).tolist()
    [1.0, 10.0]
    >>> model.predict_proba([[1.0, 2.0]]).max().round(6).item()
    1.0
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        covariance_type: str = "full",
        equal_weights: bool = False,
        weight_concentration_prior: float = 1.0,
        mean_precision_prior: float = 0.01,
        mean_prior: Any = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,
        n_models: int = 50,
        n_init: int = 1,
        init_params: str = "k-means++",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        reg_covar: float = 1e-6,
        tol: float = 1e-3,
        max_iter: int = 100,
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.covariance_type = covariance_type
        self.equal_weights = equal_weights
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.n_models = n_models
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.reg_covar = reg_covar
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_family(self, n_rows, n_features):
        if n_rows is None:
            self._check_mixture()
            check_choice("covariance_type", self.covariance_type, COVARIANCE_TYPES)
            check_real("reg_covar", self.reg_covar, at_least=0)
            name = "degrees_of_freedom_prior"
            check_real(name, self.degrees_of_freedom_prior, above=0, optional=True)
            if self._resolved_model_temperature() > 0:
                check_can_sample(self)
            return
        self._check_enough_rows(n_rows)
        given_start(self, n_features)
        given_prior(self, n_features)
        if self._resolved_model_temperature() > 0:
            shape, tied = covariance_shape(self, n_features)
            n_covariances = 1 if tied else self.n_components
            size = self.n_components * (1 + n_features) + 2 * n_covariances * shape.n_free
            check_memory(size, int(self.n_models))
        if self._continues():
            shape = self.models_.means.shape[1:]
            if shape != (self.n_components, n_features) or (
                self._config["covariance_type"] != self.covariance_type
            ):
                raise ValueError(
                    "warm_start=True needs the same n_components, number of features and "
                    "covariance_type as the fitted model: it has "
                    f"{shape[0]}, {shape[1]} and {self._config['covariance_type']!r}; asked for "
                    f"are {self.n_components}, {n_features} and {self.covariance_type!r}"
                )

    def _fit_family(self, rows, rng, runner):
        config = {
            "n_components": int(self.n_components),
            "n_features": rows.X.shape[1],
            "covariance_type": self.covariance_type,
            "equal_weights": bool(self.equal_weights),
            "reg_covar": float(self.reg_covar),
        }
        tau = self._resolved_model_temperature()
        fit = self._fit_best if tau == 0 else self._fit_sampled
        return {**fit(config, rows, rng, runner), "_config": config}

    def _start(self, energy, rows, rng, runner, n_starts):
        """Return the fitted model when warm, otherwise fresh starts."""
        if self._continues():
            components = GaussianParameters(
                self.means_[None], self._factors(self.precisions_cholesky_)
            )
            return MixtureParameters(self.weights_[None], components)
        return starts(self, energy, rows, rng, runner, n_starts)

    def _fit_best(self, config, rows, rng, runner):
        """Fit the single best model."""
        energy = gaussian_mixture(**config)
        models = self._start(energy, rows, rng, runner, int(self.n_init))
        with progress(self, rows.X, None, int(self.max_iter)) as step:
            found = expectation_maximisation(
                Objective(energy, rows, runner, float(self.temperature), float(self.tilt)),
                models,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                on_iteration=step,
            )
        best, told = best_of(found, int(self.max_iter), step.stopped)
        return {**reference_attributes(energy, best), **told, "models_": as_models(energy, best)}

    def _fit_sampled(self, config, rows, rng, runner):
        """Sample the models; the mode that the best of them leads to is the reference."""
        temperature, tau = float(self.temperature), self._resolved_model_temperature()
        energy = conjugate_energy(self, config, rows, runner)
        objective = Objective(energy, rows, runner, temperature, float(self.tilt))
        run = self._sample(objective, config, rng, tau)
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        reference = best.params
        matched = match_to_reference(energy, run.params, reference, rows, temperature)
        return {
            **reference_attributes(energy, reference),
            **summarise(type(self).__name__, run, rows.total, tau),
            "models_": as_models(energy, matched),
            "hmaxe_": float(best.hmaxe[0]),
            "lower_bound_": float(best.objective[0]),
        }

    def _sample(self, objective, config, rng, tau):
        """Run the sampler that serves these temperatures and weights."""
        rows = objective.rows
        whole = rows.weights is None or np.all(rows.weights == np.round(rows.weights))
        conjugate = objective.temperature == tau and self.tilt == 0 and whole
        if not conjugate:
            with progress(self, rows.X, None, None) as step:
                return run_tempered(objective, tau, rng, n_models=int(self.n_models), on_step=step)
        n_starts = max(int(self.n_init), 8)
        plain = gaussian_mixture(**{**config, "reg_covar": self._positive_floor(rows)})
        models = self._start(plain, rows, rng, objective.runner, n_starts)
        n_steps = gibbs_schedule(len(rows.X), int(self.n_models))[1].n_steps
        with progress(self, rows.X, None, n_steps) as step:
            return run_gibbs(objective, models, rng, n_models=int(self.n_models), on_step=step)

    def _positive_floor(self, rows: Rows) -> float:
        """Return a floor for the variances of starts, which must exist whatever reg_covar is."""
        return max(float(self.reg_covar), 1e-6 * float(np.mean(rows.scale**2)))

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.models_.weights.shape[1]

    def _energy(self):
        return gaussian_mixture(**self._config)

    def _factors(self, cholesky: Array) -> Array:
        """Return one model's factors with the axes S and C."""
        tied = COVARIANCE_TYPES[self._config["covariance_type"]][1]
        return cholesky[None, None] if tied else cholesky[None]

    def _parameters(self):
        models = self.models_
        factors = np.concatenate([self._factors(each) for each in models.precisions_cholesky])
        return MixtureParameters(models.weights, GaussianParameters(models.means, factors))

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row: :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self.predict_proba(X)

    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, hard or soft: ``Z @ means_``.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        Z = check_codes(Z, self._n_features_out, self)
        return Z @ self.means_.astype(Z.dtype, copy=False)

    def encode(self, X: Any) -> CategoricalCodes:
        """Return the distribution of each row's code, averaged over the kept models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        CategoricalCodes
        """
        return CategoricalCodes(self.predict_proba(X))

    def decode(self, Z: Any) -> GaussianMixtureRows:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components) or CategoricalCodes
            Probabilities of components (one-hot for hard codes), or what :meth:`encode` returned;
            then the result is the distribution of the reconstruction.

        Returns
        -------
        GaussianMixtureRows
        """
        check_is_fitted(self)
        if isinstance(Z, CategoricalCodes):
            Z = Z.probabilities
        Z = check_codes(Z, self._n_features_out, self).astype(np.float64)
        totals = Z.sum(axis=1)
        if np.any(Z < 0) or np.any(np.abs(totals - 1) > 1e-4):
            raise ValueError(
                "Z must hold probabilities of components (rows not negative, summing to 1), got "
                f"entries down to {Z.min():g} and row sums from {totals.min():g} to "
                f"{totals.max():g}"
            )
        energy = self._energy()
        covariances = energy.family.shape.expand(self.covariances_)
        covariances = np.broadcast_to(covariances, (Z.shape[1], *covariances.shape[-2:]))
        return GaussianMixtureRows(Z / totals[:, None], self.means_, covariances)
