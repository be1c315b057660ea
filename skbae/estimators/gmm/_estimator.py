"""BayesianGMMAutoEncoder: Gaussian mixtures as autoencoders with a temperature."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae._types import Frame
from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.gaussian._covariance import COVARIANCE_TYPES
from skbae.energies.gaussian._mixture import BayesianGaussianMixture, nearest_mean_models
from skbae.energies.gaussian._span import CompletedConditional, CompletedRows, same_columns
from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.mixture._conjugate import MAX_RELABELLED
from skbae.energies.mixture._distributions import CategoricalCodes, GaussianMixtureRows
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators._checks import check_codes, check_probabilities, check_shape
from skbae.estimators._fitted import Fit
from skbae.estimators._mixture import MixtureAutoEncoder, best_of, match_to_reference, of_rows
from skbae.estimators._mixture_sampling import rows_of_weight_one, sample_by_codes, sweeps
from skbae.estimators._progress import progress
from skbae.estimators._sampling import (
    internal_energy,
    run_charted,
    run_tempered,
    summarise,
)
from skbae.estimators.gmm._fit import (
    as_models,
    collapsed,
    conjugate_energy,
    doubts_about_modes,
    doubts_about_ties,
    frame_of,
    local_maximum,
    on_columns_with_density,
    reference_attributes,
    resolved_prior,
    rows_to_sample,
    search_rows,
    starts,
    warn_of_columns,
    warn_of_floor,
)
from skbae.estimators.gmm._mode_starts import sampling_starts
from skbae.estimators.gmm._settings import (
    GaussianMixtureForm,
    GaussianMixtureSettings,
    checked_factors,
    checked_weights,
    relative_floor,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._rows import RowRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skbae._types import Array, Rows, SamplingRun
    from skbae.energies._distribution import DistributionWithDensity
    from skbae.energies.gaussian._mixture import GaussianMixtureEnergy
    from skbae.energies.mixture._completion import ConditionalDistribution
    from skbae.estimators.gmm._fit import GaussianMixtureModels

# At other temperatures, densities of so many components at most are summed over all labellings.
_MOST_CHARTED = 8


class BayesianGMMAutoEncoder(MixtureAutoEncoder[GaussianMixtureSettings, GaussianMixtureForm]):
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
        ``-(1/t) log mean exp(-t Hmax)``: positive values give more weight to rows that fit badly,
        negative ones less, so that outliers count little. Below 0 there are only local maxima: a
        component that shrinks onto one row has an objective without bound. The fit starts from that
        without a tilt, and raises ValueError rather than return such a component.
    covariance_type : str, default="full"
        ``"full"``, ``"tied"``, ``"diag"``, ``"spherical"``, ``"tied_diag"`` or
        ``"tied_spherical"``; tied components share one covariance.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    weight_concentration_prior : float, default=1.0
        Concentration of the weights' Dirichlet prior. Priors are used only if models are sampled.
    mean_precision_prior : float, default=0.01
        Number of rows that the means' prior counts as: ``mu | Lambda ~ N(mean_prior, inverse(
        mean_precision_prior Lambda))``.
    mean_prior : array-like of shape (n_features,) or None, default=None
        None stands for the mean of X.
    degrees_of_freedom_prior : float or None, default=None
        Of the precisions' prior, ``Lambda ~ Wishart(dof, inverse(covariance_prior))``, or gamma
        with shape ``dof / 2`` and rate ``covariance_prior / 2`` for diagonal and spherical
        types. None stands for ``n_features + 2``.
    covariance_prior : array-like or None, default=None
        In the shape of one covariance. None stands for ``cov(X) / 5^(2/D)``, with D columns and
        divisor N: a component is expected to fill a fifth of the volume of all rows, whatever the
        number of components.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    evidence_tol : float or None, default=0.1
        Standard error of the log evidence, in nats, below which sampling stops to refine it; None
        if the evidence is not wanted: sampling is much cheaper without, and `log_evidence_` is NaN.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How starts are chosen: the centres of k-means (the best of two runs), rows far from each
        other, random soft components of all rows, or random rows. The choice does not depend on the
        order of the rows, nor on whether a row of weight two is given as two rows.
    annealing : None, "auto" or list of float, default=None
        Start from means on which rows have settled as the temperature fell, instead of those of
        `init_params`, for fits of a single best model. Spherical components, one at first, are
        split where they are unstable: see :func:`skbae.thermodynamics.critical_temperatures`.
        ``"auto"`` takes critical temperatures, a list those that it holds, in decreasing order and
        not below `temperature`. The starts, one or two, do not depend on `random_state` or
        `n_init`.
    weights_init, means_init, precisions_init : array-like or None, default=None
        Initial values, in the shapes of the fitted attributes; with None, `init_params` decides.
    reg_covar : float or None, default=None
        Added to the variances in each maximisation of a single best model, in squared units of X.
        None stands for a millionth of the variance of each feature within groups of rows, so that
        units do not matter. Components that it dominates are named in a warning.
    tol : float, default=1e-3
        A start has converged when an iteration gains less than a hundredth of this, in nats a row,
        and all further iterations are estimated to gain less too; see Notes. With 0, when an
        iteration changes nothing.
    max_iter : int, default=100
        Largest number of iterations. With 0 the start itself is kept and scored.
    learning_decay : float, default=0.7
        How fast the steps of ``partial_fit`` become shorter: after t batches like ``t^-decay``. At
        1 all batches count alike, below 1 later ones count more; above 0.5 their noise averages
        out.
    forgetting : float, default=0.0
        Least share of the model that a batch replaces, below 1, to follow rows that change.
    warm_start : bool, default=False
        Start from the current fitted model, if there is one.
    verbose : int, default=0
        If positive, print the objective of each iteration.
    verbose_interval : int, default=1
        Number of steps from one that is printed to the next.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Number of threads for passes over the rows; None: as many as BLAS would use. Results do
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
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)``, by which families are
        compared, and its standard error; `hmaxe_` and 0 when a single model is fitted.
    log_evidence_ : float
        ``(N / tau) hmaxemax_``; at ``temperature=1`` the log marginal likelihood. Only when models
        are sampled.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models: `hmaxe_` when there is one.
    mean_prior_, degrees_of_freedom_prior_, covariance_prior_ : ndarray, float, ndarray
        The prior that was used, with what None stood for (of the columns that have a density);
        also `weight_concentration_prior_` and `mean_precision_prior_`, as in scikit-learn's
        BayesianGaussianMixture. Only when models are sampled.
    sampling_ : SamplingResult
        Diagnostics of the sampling. Only when models are sampled.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration. Only for a single best model.
    converged_ : bool
        Whether the fit converged; when models are sampled, whether the status is ``"ok"``.
    n_iter_ : int
        Passes over the rows that steps of the best start took, those included whose step was not
        made since it would have lowered the objective; or sweeps of each chain.
    models_ : GaussianMixtureModels
        The kept models, with components in the order of the reference model's.
    n_samples_seen_ : int
        Number of rows fitted to, by all calls of ``partial_fit`` or the latest ``fit``.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.mixture.GaussianMixture : The case T = 1, one model.
    sklearn.cluster.KMeans : The case T = 0, tied spherical covariance, equal weights.

    Notes
    -----
    Codes, of shape (n_samples, n_components), are the components: `transform` gives the soft ones,
    as :meth:`predict_proba`, averaged over the kept models; `encode` a categorical distribution,
    whose draws are one-hot. `inverse_transform` is ``Z @ means_``. `decode` takes probabilities of
    components and gives for each row a Gaussian mixture.

    NaN in X means that an entry is missing, at random given the known ones: it is integrated out,
    in fits and in all methods. :meth:`impute` and :meth:`condition` return what is known of it.

    When models are sampled, columns of X that are constant, or affine functions of columns before
    them (not for spherical components), are left out of the density; a warning names them. Fitted
    attributes contain them, with zeros in `precisions_`, and new rows are scored by their other
    columns. If components have shrunk onto single values of a column of few distinct values, and
    that adds more than 3 nats to the log evidence, the default prior decides what it counts, and
    the status is ``"suspect"``.

    Expectation maximisation never lowers the objective when ``reg_covar=0`` (Neal and Hinton
    1998, with the entropy of the codes multiplied by T). Where a step gains less than 0.003 nats a
    row, every second one is made longer, unless that would lower the objective: this gets
    further where plain steps are slow, and what a longer step gains, in comparison with the plain
    one before it, tells what is left to gain. With ``tol=0`` all steps are plain.

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

    _settings_class: ClassVar = GaussianMixtureSettings
    _code_class: ClassVar = CategoricalCodes
    _reference_names: ClassVar = (
        "weights_",
        "means_",
        "covariances_",
        "precisions_",
        "precisions_cholesky_",
    )

    weights_: Array
    means_: Array
    covariances_: Array
    precisions_cholesky_: Array
    models_: GaussianMixtureModels

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
        evidence_tol: float | None = 0.1,
        n_init: int = 1,
        init_params: str = "kmeans",
        annealing: Any = None,
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        reg_covar: float | None = None,
        tol: float = 1e-3,
        max_iter: int = 100,
        learning_decay: float = 0.7,
        forgetting: float = 0.0,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 1,
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
        self.evidence_tol = evidence_tol
        self.n_init = n_init
        self.init_params = init_params
        self.annealing = annealing
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.reg_covar = reg_covar
        self.tol = tol
        self.max_iter = max_iter
        self.learning_decay = learning_decay
        self.forgetting = forgetting
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    @classmethod
    def from_parameters(
        cls, weights: Any, means: Any, covariances: Any, **settings: Any
    ) -> BayesianGMMAutoEncoder:
        """Return a fitted model with given weights, means and covariances.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Not negative, with sum 1.
        means : array-like of shape (n_components, n_features)
        covariances : array-like
            In the shape of `covariances_` for the `covariance_type`.
        **settings
            Parameters of the constructor, such as ``covariance_type="diag"`` or `temperature`;
            `n_components` is the number of means.

        Returns
        -------
        BayesianGMMAutoEncoder
            With the fitted attributes of the model itself, and without those that describe a fit,
            such as `hmaxe_`. ``fit`` with ``warm_start=True`` starts from it.

        Examples
        --------
        >>> from skbae import BayesianGMMAutoEncoder
        >>> model = BayesianGMMAutoEncoder.from_parameters(
        ...     [0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], covariance_type="spherical")
        >>> model.predict([[1.0], [3.0]]).tolist()
        [0, 1]
        """
        locations = np.asarray(means, dtype=np.float64)
        if locations.ndim != 2 or 0 in locations.shape:
            raise ValueError(
                f"means must have shape (n_components, n_features), got {locations.shape}"
            )
        model = cls(len(locations), **settings)
        form = model._check_parameters().form(locations.shape[1])
        params = MixtureParameters(
            checked_weights("weights", weights, form.n_components),
            GaussianParameters(
                check_shape("means", means, locations.shape, "(n_components, n_features)")[None],
                checked_factors("covariances", covariances, form),
            ),
        )
        attributes = {**reference_attributes(form, params), "models_": as_models(form, params)}
        return model._adopt(Fit(attributes, form), frame_of(form, params))

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: GaussianMixtureSettings, n_rows: int, n_features: int) -> None:
        settings.check_data(n_rows, n_features)

    def _needs_rows(self, settings: GaussianMixtureSettings, n_rows: int, n_features: int) -> str:
        single = settings.n_components == 1 and settings.tilt == 0
        if settings.samples and (settings.sweeps or single):
            # sweeps are passes over the rows; a few rows are read as a whole
            few = settings.n_components <= MAX_RELABELLED
            return "" if few else f"n_components={settings.n_components} sampled"
        return super()._needs_rows(settings, n_rows, n_features)

    def _refuses_sparse(self) -> str:
        tau = self.temperature if self.model_temperature is None else self.model_temperature
        types = [name for name, (kind, _) in COVARIANCE_TYPES.items() if kind.name != "full"]
        if tau == 0 and self.covariance_type in types and self.annealing is None:
            return ""
        return (
            "takes sparse rows only with model_temperature=0, annealing=None and a covariance_type "
            f"among {', '.join(map(repr, types))}, got model_temperature="
            f"{self.model_temperature!r}, annealing={self.annealing!r} and covariance_type="
            f"{self.covariance_type!r}; set these"
        )

    def _check_same_shape(
        self, settings: GaussianMixtureSettings, n_features: int, what: str
    ) -> None:
        has, new = self._fitted.details, settings.form(n_features)
        columns = self.means_.shape[1]
        if (has.n_components, columns, has.covariance_type) != (
            new.n_components,
            new.n_features,
            new.covariance_type,
        ):
            raise ValueError(
                f"{what} needs the n_components, number of features and covariance_type of "
                f"the fitted model, {has.n_components}, {columns} and "
                f"{has.covariance_type!r}; got {new.n_components}, {new.n_features} and "
                f"{new.covariance_type!r}"
            )

    def _fit_rows(
        self,
        settings: GaussianMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[GaussianMixtureForm]:
        if settings.samples:
            rows = rows_to_sample(rows)
        settings, rows = on_columns_with_density(settings, rows, self._column_names())
        fit = self._fit_sampled if settings.samples else self._fit_best
        found = Fit(fit(settings, rows, rng, runner), settings.form(rows.X.shape[1]))
        warn_of_columns(settings.span, self._column_names())
        return found

    def _column_names(self) -> list[str]:
        """Return the names of the columns of X, or their numbers as text."""
        names = getattr(self, "feature_names_in_", None)
        return [str(name) for name in (range(self.n_features_in_) if names is None else names)]

    def _start(
        self,
        settings: GaussianMixtureSettings,
        energy: GaussianMixtureEnergy,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
        n_starts: int,
    ) -> MixtureParameters:
        """Return the fitted model for a warm start, otherwise `n_starts` new models."""
        if self._continues(settings):
            if not same_columns(settings.span, self._fitted.details.span):
                raise ValueError(
                    "warm_start=True needs rows in which the same columns have a density as in the "
                    "rows of the earlier fit (columns that are constant, or determined by others, "
                    "have none); fit with warm_start=False"
                )
            return self._reference()
        return starts(settings, energy, rows, rng, runner, n_starts)

    def _fit_best(
        self,
        settings: GaussianMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Fit the single best model."""
        form = settings.form(rows.X.shape[1])
        if rows.incomplete:
            settings.check_gaps(rows, getattr(self, "feature_names_in_", None))
        floor = settings.floor(rows)
        energy = of_rows(form.energy(floor), rows)
        models = self._start(settings, energy, rows, rng, runner, settings.n_init)
        earlier = getattr(self, "lower_bounds_", []) if self._continues(settings) else []
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        with progress(self, rows.X, None, settings.max_iter) as step:
            maximise = partial(
                expectation_maximisation,
                tol=settings.tol,
                max_iter=settings.max_iter,
                on_iteration=step,
            )
            bounded = settings.tilt >= 0 or settings.max_iter == 0
            if bounded or self._continues(settings) or settings.start_is_given:
                found = maximise(objective, models, earlier=earlier)
                bounded = bounded or not collapsed(form, found.params, floor, rows).all()
            if not bounded:
                found = local_maximum(objective, form, models, floor, maximise)
        best, attributes = best_of(found, settings.max_iter, step.stopped)
        if settings.max_iter:
            warn_of_floor(settings, best, floor, rows)
        return {**self._public(settings, energy, best, rows, runner), **attributes}

    def _continued(self, rng: np.random.Generator) -> MixtureParameters:
        return self._reference()

    def _energy_of_batch(
        self, settings: GaussianMixtureSettings, rows: Rows
    ) -> GaussianMixtureEnergy:
        return of_rows(self._fitted.details.energy(settings.floor(rows)), rows)

    def _public(
        self,
        settings: GaussianMixtureSettings,
        energy: Any,
        params: MixtureParameters,
        rows: Rows,
        runner: RowRunner,
    ) -> dict[str, Any]:
        form = settings.form(rows.X.shape[1])
        return {**reference_attributes(form, params), "models_": as_models(form, params)}

    def _fit_sampled(
        self,
        settings: GaussianMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Sample the models; the reference is the mode found from the best of them."""
        if rows.incomplete and settings.sweeps:
            rows = rows_of_weight_one(rows)
        form, tau = settings.form(rows.X.shape[1]), settings.model_temperature
        energy = conjugate_energy(settings, rows, runner)
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        run = self._sample(settings, objective, rng)
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        reference = best.params
        doubts = doubts_about_ties(settings, rows, run.params, self._column_names())
        run = replace(run, doubts=(*run.doubts, *doubts))
        matched = match_to_reference(energy, run.params, reference, rows, settings.temperature)
        return {
            **reference_attributes(form, reference),
            **summarise(settings, run, rows.total),
            **resolved_prior(settings, rows, runner).attributes(),
            "internal_energy_": internal_energy(objective, run),
            "models_": as_models(form, matched),
            "hmaxe_": float(best.hmaxe[0]),
            "lower_bound_": float(best.objective[0]),
        }

    def _sample(
        self, settings: GaussianMixtureSettings, objective: Objective, rng: np.random.Generator
    ) -> SamplingRun:
        """Sample by sweeps if T = tau, t = 0 and weights are integers, else from modes or prior."""
        rows, runner = objective.rows, objective.runner
        single = settings.n_components == 1 and settings.tilt == 0 and not rows.incomplete
        if single:  # with one code, Hmax_T does not depend on T
            objective = replace(objective, temperature=settings.model_temperature)
        if not sweeps(objective, settings.model_temperature, rows.incomplete):
            with progress(self, rows.X, None, None) as step:
                if rows.incomplete or settings.n_components > _MOST_CHARTED:
                    return run_tempered(objective, rng, settings, step)
                with_prior = objective.require(BayesianGaussianMixture, "sampling from modes")
                starts = settings.plans.starts_at(
                    settings.model_temperature,
                    lambda: sampling_starts(settings, with_prior, rows, rng, runner),
                )
                run = run_charted(objective, starts, rng, settings, step)
                return replace(run, doubts=(*run.doubts, *doubts_about_modes(run)))
        return sample_by_codes(
            self,
            settings,
            objective,
            rng,
            evidence_tol=settings.evidence_tol,
            draws_gaps=rows.incomplete,
            start=partial(self._start_of_sweeps, settings, rows, rng, runner),
        )

    def _start_of_sweeps(
        self,
        settings: GaussianMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> tuple[MixtureParameters, Sequence[Rows]]:
        """Return models that sweeps start from, and complete rows where entries are missing."""
        # starts need positive variances, even with reg_covar=0
        form = settings.form(rows.X.shape[1])
        floor = np.maximum(settings.floor(rows), relative_floor(rows, form.n_components))
        plain = of_rows(form.energy(floor), rows)
        models = self._start(settings, plain, rows, rng, runner, max(settings.n_init, 8))
        return models, search_rows(plain, rows, models, rng) if rows.incomplete else ()

    def _closed_log_evidence(
        self, X: Any, sample_weight: Any
    ) -> tuple[Callable[[float], float], float] | None:
        settings = self._check_parameters()
        if settings.n_components > 1 or settings.tilt or not settings.samples:
            return None
        X = self._rows_to_fit(settings, X)
        settings = settings.of_rows(X)
        with RowRunner(settings.n_threads) as runner:
            rows = self._checked_rows(settings, X, sample_weight, runner, self._check_data)
            if rows.incomplete:
                return None
            rows = rows_to_sample(rows)
            settings, rows = on_columns_with_density(settings, rows, self._column_names())
            warn_of_columns(settings.span, self._column_names())
            energy = conjugate_energy(settings, rows, runner)
            # the moments of all rows, whatever the one component that they belong to
            variance = float(np.mean(rows.scale**2))
            plain = settings.form(rows.X.shape[1]).energy(settings.floor(rows))
            single = nearest_mean_models(plain, rows.centre[None, None], variance)
            statistics = Objective(energy, rows, runner, settings.temperature).expect(single)
        total = rows.total
        return lambda power: float(energy.log_joint(statistics, total / power)[0]), total

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.models_.weights.shape[1]

    def _energy(self) -> GaussianMixtureEnergy:
        return self._fitted.details.energy_of_rows()

    def _energy_to_fit(self, rows: Rows) -> GaussianMixtureEnergy:
        form = self._fitted.details
        if form.span is not None:
            return form.energy_of_rows()
        return form.energy(self._check_parameters().floor(rows))

    def _names_by_component(self) -> tuple[str, ...]:
        return self._reference_names[: 2 if self._fitted.details.tied else None]

    def _posterior_dims(self) -> dict[str, tuple[str, ...]]:
        own = () if self._fitted.details.tied else ("component",)
        features = ("feature", "feature_other")[: self.models_.covariances.ndim - 1 - len(own)]
        return {
            "weights": ("component",),
            "means": ("component", "feature"),
            "covariances": (*own, *features),
        }

    def _factors(self, cholesky: Array) -> Array:
        """Return the precision factors of one model, with leading axes S and C."""
        return cholesky[None, None] if self._fitted.details.tied else cholesky[None]

    def _parameters(self) -> MixtureParameters:
        models = self.models_
        factors = np.concatenate([self._factors(each) for each in models.precisions_cholesky])
        return self._on_span(models.weights, models.means, factors)

    def _reference(self) -> MixtureParameters:
        factors = self._factors(self.precisions_cholesky_)
        return self._on_span(self.weights_[None], self.means_[None], factors)

    def _on_span(self, weights: Array, means: Array, factors: Array) -> MixtureParameters:
        """Return models of the columns that have a density."""
        form = self._fitted.details
        if form.span is not None:
            factors = form.span.restrict_factors(form.shape, factors)
            means = np.ascontiguousarray(means[..., form.span.kept])
        return MixtureParameters(weights, GaussianParameters(means, factors))

    def _condition_rows(
        self, params: MixtureParameters, X: NDArray[Any], temperature: float
    ) -> ConditionalDistribution:
        span = self._fitted.details.span
        # models of noisy rows have a density of all columns
        if span is None or params.components.means.shape[-1] == X.shape[1]:
            return super()._condition_rows(params, X, temperature)
        kept, frame = span.kept, self._fitted.frame
        energy = self._fitted.details.energy().of_incomplete_rows()
        own = Frame(frame.centre[kept], frame.scale[kept])
        bound = energy.bind(params, own, np.float64)
        inner = ConditionalRows(np.ascontiguousarray(X[:, kept]), bound, temperature)
        return CompletedConditional(X, inner, span)

    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        return self._component_probabilities(X)

    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        return Z @ self.means_.astype(Z.dtype, copy=False)

    def _encode_rows(self, X: NDArray[Any]) -> CategoricalCodes:
        return CategoricalCodes(self._component_probabilities(X))

    def _decode_distribution(self, codes: CategoricalCodes) -> DistributionWithDensity:
        Z = check_codes(codes.probabilities, self._n_features_out, self)
        return self._decode_codes(Z.astype(np.float64))

    def _decode_codes(self, Z: Array) -> DistributionWithDensity:
        probabilities, form = check_probabilities(Z), self._fitted.details
        means, factors = self.means_, self._factors(self.precisions_cholesky_)[0]
        if form.span is None:
            covariances = form.shape.expand(self.covariances_)
        else:
            factors = form.span.restrict_factors(form.shape, factors)
            covariances = form.shape.expand(form.shape.covariances(factors))
            means = means[:, form.span.kept]
        covariances = np.broadcast_to(covariances, (Z.shape[1], *covariances.shape[-2:]))
        rows = GaussianMixtureRows(probabilities, means, covariances)
        return rows if form.span is None else CompletedRows(rows, form.span)
