"""BayesianPCAAutoEncoder: principal component analysis as an autoencoder with a temperature."""

from __future__ import annotations

import numbers
import warnings
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.pca._distributions import (
    GaussianCodes,
    GaussianRows,
    posterior_codes,
)
from skbae.energies.pca._energy import NOISE_FLOOR, PCAEnergy, PCAParameters
from skbae.energies.pca._incomplete import IncompletePCAEnergy, codes_of_gaps
from skbae.estimators._batches import BatchAutoEncoder
from skbae.estimators._checks import check_integer
from skbae.estimators._criteria import InformationCriteria
from skbae.estimators._fitted import Fit, single_model
from skbae.estimators._missing import CompletingAutoEncoder
from skbae.estimators._pieces import ReadsPieces
from skbae.estimators._posterior import DescribesPosterior
from skbae.estimators._progress import progress
from skbae.estimators._sampling import summarise
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._stream import Stream
from skbae.estimators.pca._dimension import sample_best_dimension
from skbae.estimators.pca._fit import (
    as_models,
    as_parameters,
    best_model,
    covariance_of_model,
    find_spectrum,
    least_noise,
    mean_variance,
    moments_of_stream,
    needs_covariance,
    reference_attributes,
    reference_model,
    row_moments,
    tilted_model,
    without_collapsed,
)
from skbae.estimators.pca._gaps import explained_variance, sample_with_gaps, start_with_gaps
from skbae.estimators.pca._settings import PCADetails, PCASettings
from skbae.estimators.pca._units import (
    moments_in_units,
    prior_in_units,
    run_from_units,
    unit_of,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._principal_axes import (
    SOLVERS_OF,
    SPARSE,
    TABLE,
    RowsWithCovariance,
    rows_with_covariance,
)
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._sources import has_missing
from skbae.operators._floating import own_errors
from skbae.operators._gaps import has_gaps
from skbae.operators._random import as_generator
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.estimators.pca._fit import PCAModels
    from skbae.inference.passes._rows import RowRunner

# The solver that needs the covariance of the features.
_OF_FEATURES = "covariance_eigh"


class BayesianPCAAutoEncoder(
    ReadsPieces[PCASettings, PCADetails],
    BatchAutoEncoder[PCASettings, PCADetails],
    CompletingAutoEncoder[PCASettings, PCADetails],
    InformationCriteria[PCASettings, PCADetails],
    DescribesPosterior[PCASettings, PCADetails],
):
    """Principal component analysis as a Bayesian autoencoder.

    The code of a row x is a point z of a d-dimensional subspace, and the energy is
    ``H = log N(z; 0, I) + log N(x; W z + mu, s2 I)``. With one model (``model_temperature=0``),
    ``temperature=0`` is scikit-learn's PCA and ``temperature=1`` probabilistic PCA (Tipping and
    Bishop 1999); there is a closed form at any temperature. By default models are drawn from their
    posterior.

    Parameters
    ----------
    n_components : int, float, "mle", "evidence" or None, default=None
        Dimension d of the code. None stands for min(N, D), a number between 0 and 1 for as many
        components as explain this share of the variance, ``"mle"`` for the estimate of Minka
        (2000), and ``"evidence"`` for the dimension with the largest `log_evidence_` (models must
        be sampled for that). From T = 1 on one direction at least is noise, so that with None and
        N > D the last code is always 0: D - 1 components make the same model.
    temperature : float, default=1.0
        Temperature T of the codes, not negative. Directions whose variance is below T times the
        noise variance have "melted": their codes are 0, and they count as noise.
    model_temperature : float or None, default=None
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``; 0 finds the
        single best model, None means the same as `temperature`. Up to 20 components are sampled
        within the span of the rows, whatever the number of features; more on few features only.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``; must be 0 if models are sampled.
    whiten : bool, default=False
        Divide codes by the standard deviation (divisor N - 1, as scikit-learn's) of the training
        rows along each component.
    svd_solver : {"auto", "full", "covariance_eigh", "gram", "arpack", "randomized"}, \
            default="auto"
        How the components of a single best model are found: ``"full"`` from the singular values of
        the rows, ``"covariance_eigh"`` from the covariance of the features, ``"gram"`` from the
        products of rows with each other, ``"arpack"`` from products of the covariance with single
        vectors, for few components of sparse rows, ``"randomized"`` from a Krylov space of the
        covariance with a random start. The space grows until residuals are below 1e-7 of the
        largest variance, or stops earlier where the leading variances are too close to each other;
        axes are then approximate, unlike those of the other solvers. ``"auto"`` takes the fastest.
    component_variance_prior : float or None, default=None
        Variance of the normal prior of each entry of the loadings W. None stands for ``v / max(d,
        1)``, with v the mean variance of a feature. Priors are used only if models are sampled.
    mean_prior : array-like of shape (n_features,) or None, default=None
        None stands for the mean of X.
    mean_precision_prior : float, default=0.01
        The prior of the mean is ``N(mean_prior, v / mean_precision_prior)``.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of the noise variance.
    noise_scale_prior : float or None, default=None
        Its scale. None stands for ``0.1 v``.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    tol : float, default=1e-3
        A tilted fit has converged when an iteration changes the objective by less.
    max_iter : int, default=100
        Largest number of iterations of a tilted fit; without a tilt there are none.
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
        Orthonormal directions, by decreasing variance, with scikit-learn's signs.
    mean_ : ndarray of shape (n_features,)
    noise_variance_ : float
        ``s2``, with divisor N rather than scikit-learn's N - 1. Where the components of a single
        model explain all variance it would be 0, and is 1e-12 times the largest variance along a
        component instead: scores then rest on this floor, of which they warn.
    explained_variance_ : ndarray of shape (n_components,)
        Variance of the training rows along the components, with divisor N.
    explained_variance_ratio_ : ndarray of shape (n_components,)
    singular_values_ : ndarray of shape (n_components,)
    component_precisions_ : ndarray of shape (n_components,)
        Inverse variance of the model's density along the components: 0 at T = 0, where codes have
        no prior, and that of the noise for melted directions.
    n_components_ : int
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row. The reference
        model, which the attributes above belong to, is the best fit or, when models are sampled,
        the mode of ``p(m)`` in the coordinates ``(W, mu, log s2)``.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)`` and its standard error;
        `hmaxe_` and 0 when a single model is fitted.
    log_evidence_ : float
        ``(N / tau) hmaxemax_``. Only when models are sampled.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models.
    sampling_ : SamplingResult
        Diagnostics of the sampling. Only when models are sampled.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration of a tilted fit. Only for a single best
        model.
    converged_ : bool
    n_iter_ : int
    models_ : PCAModels
        The kept models.
    n_samples_seen_ : int
        Number of rows fitted to, by all calls of ``partial_fit`` or the latest ``fit``.
    component_variance_prior_, mean_prior_, noise_scale_prior_ : float, ndarray, float
        The prior that was used, with what None stood for. Only when models are sampled.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.decomposition.PCA : The case T = 0, one model.
    BayesianMixturePCAAutoEncoder : Several local subspaces.

    Notes
    -----
    Codes, of shape (n_samples, n_components), are coordinates along `components_` in units of X, or
    of standard deviations when whitened. `transform` gives their mean under the reference model,
    shrunk by ``1 - T s2 / lam`` (not at all at T = 0); `encode` averages the posteriors of the
    codes over the kept models: with a single model its mean is that of `transform` and its
    variance ``T s2`` times the shrinkage. `inverse_transform` is ``mean_ + Z @
    components_``, unless whitened. `decode` gives normal distributions about these points.

    NaN in X means that an entry is missing, at random given the known ones: it is integrated out,
    in fits and in all methods. :meth:`impute` and :meth:`condition` return what is known of it.
    The single best model is then found by expectation maximisation, and models are sampled from
    the posterior's modes, by passes over the rows, with at most 1000 parameters.

    With ``lam_i`` the variances along the principal axes, the best model at temperature T has noise
    ``s2 = sum_{i > q} lam_i / (D - T q)``, where q is the number of directions that have not
    melted, ``lam_i > T s2``; its codes shrink coordinates by ``1 - T s2 / lam_i``.

    Sampling sees rows through their mean and the variances along their principal axes only. For up
    to 20 components, singular values and noise are drawn from a density fitted to their posterior,
    and the directions, given those, from one close to the matrix Bingham distribution that they
    have; weights and moves do the rest. The cost of a model is that of the axes that rows span.

    References
    ----------
    Tipping, M. and Bishop, C. (1999). Probabilistic principal component analysis. Journal of the
    Royal Statistical Society B 61, 611-622.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianPCAAutoEncoder
    >>> X = np.array([[-1.0, -1], [-2, -1], [-3, -2], [1, 1], [2, 1], [3, 2]])
    >>> model = BayesianPCAAutoEncoder(1, temperature=0).fit(X)
    >>> model.explained_variance_ratio_.round(4).tolist()
    [0.9924]
    >>> model.transform([[3.0, 2.0]]).round(4).tolist()
    [[3.6053]]
    >>> warm = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)  # probabilistic PCA
    >>> warm.transform([[3.0, 2.0]]).round(4).tolist()
    [[3.5779]]
    """

    _settings_class: ClassVar = PCASettings
    _code_class: ClassVar = GaussianCodes
    _reference_names: ClassVar = (
        "components_",
        "mean_",
        "noise_variance_",
        "component_precisions_",
    )

    components_: Array
    mean_: Array
    noise_variance_: float
    component_precisions_: Array
    n_components_: int
    models_: PCAModels

    def __init__(
        self,
        n_components: Any = None,
        *,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        whiten: bool = False,
        svd_solver: str = "auto",
        component_variance_prior: float | None = None,
        mean_prior: Any = None,
        mean_precision_prior: float = 0.01,
        noise_shape_prior: float = 1.0,
        noise_scale_prior: float | None = None,
        n_models: int = 50,
        tol: float = 1e-3,
        max_iter: int = 100,
        verbose: int = 0,
        verbose_interval: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.component_variance_prior = component_variance_prior
        self.mean_prior = mean_prior
        self.mean_precision_prior = mean_precision_prior
        self.noise_shape_prior = noise_shape_prior
        self.noise_scale_prior = noise_scale_prior
        self.n_models = n_models
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: PCASettings, n_rows: int, n_features: int) -> None:
        settings.check_data(n_rows, n_features)

    def _needs_rows(self, settings: PCASettings, n_rows: int, n_features: int) -> str:
        if settings.svd_solver not in SOLVERS_OF[TABLE]:
            return f"svd_solver={settings.svd_solver!r}"
        if settings.samples and n_rows < n_features:
            return f"model_temperature={settings.model_temperature:g} and fewer rows than columns"
        return ""

    def _refuses_sparse(self) -> str:
        if self.svd_solver in SOLVERS_OF[SPARSE]:
            return ""
        names = ", ".join(repr(each) for each in SOLVERS_OF[SPARSE])
        return (
            f"takes sparse rows only with svd_solver among {names}, got {self.svd_solver!r}; set it"
        )

    def _make_rows(
        self, settings: PCASettings, X: Any, weights: Array | None, runner: RowRunner
    ) -> Rows:
        """Return the rows with their mean and scale, and their covariance where it is needed."""
        if has_missing(X):
            return make_rows(X, weights)
        solver = settings.solver(*X.shape)
        n_rows, n_features = X.shape
        sampled = settings.samples and needs_covariance(n_rows, n_features, settings.layout)
        if sampled or settings.tilt != 0 or (not settings.samples and solver == _OF_FEATURES):
            return rows_with_covariance(X, weights, runner)
        return make_rows(X, weights)

    def _fit_rows(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[PCADetails]:
        mean_variance(rows)
        self._check_can_whiten(settings, rows)
        fit = self._fit_sampled if settings.samples else self._fit_best
        fitted = fit(settings, rows, rng, runner)
        return Fit(fitted, PCADetails(self._scale_of_codes(settings, rows, fitted)))

    @staticmethod
    def _check_can_whiten(settings: PCASettings, rows: Rows) -> None:
        if settings.whiten and not rows.total > 1:
            raise ValueError(
                "whiten=True divides by the standard deviation with divisor N - 1, and the sum N "
                f"of sample_weight is {rows.total:g}; give weights that sum to more than 1"
            )

    @staticmethod
    def _scale_of_codes(settings: PCASettings, rows: Rows, fitted: dict[str, Any]) -> Array:
        scale = np.ones(fitted["n_components_"])
        if settings.whiten:
            deviation = np.sqrt(fitted["explained_variance_"] * rows.total / (rows.total - 1))
            scale = np.where(deviation > 0, deviation, scale)
        return scale

    def _needs_all_rows(self) -> str:
        if isinstance(self.tilt, numbers.Real) and self.tilt == 0:
            return ""
        return (
            f"needs tilt=0, got {self.tilt!r}: the model follows from the mean and covariance of "
            "all rows, which are not tilted"
        )

    def _check_same_shape(self, settings: PCASettings, n_features: int, what: str) -> None:
        """Accept any number of components: they follow from the moments of all rows."""

    def _fit_batch(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[PCADetails]:
        """Add a batch to the moments of all rows so far, of which the best model is exact."""
        if rows.incomplete:
            raise ValueError(
                "partial_fit of BayesianPCAAutoEncoder needs rows without missing entries: the "
                "model follows from the mean and covariance of all rows so far. fit takes them all "
                "at once, and BayesianMixturePCAAutoEncoder in batches"
            )
        batch = rows_with_covariance(rows.X, rows.weights, runner)
        stream, covariance = Stream.begin(rows), batch.covariance
        if hasattr(self, "models_"):
            before, known = self._fitted.stream, self._fitted.details.covariance
            assert before is not None  # all models of PCA are fitted to rows
            if known is None:
                known = covariance_of_model(self.models_, float((before.frame.scale**2).sum()))
            stream = before.after(rows)
            share = rows.total / stream.seen
            apart = batch.centre - before.frame.centre
            covariance = (1 - share) * known + share * covariance
            covariance += share * (1 - share) * np.outer(apart, apart)
        seen = moments_of_stream(stream, covariance)
        mean_variance(seen)
        self._check_can_whiten(settings, seen)
        spectrum = find_spectrum(settings, seen, runner, rng, _OF_FEATURES)
        params, hmaxe = best_model(spectrum, settings.temperature)
        models = as_models(params, spectrum.variances[None], params)
        fitted = {
            **reference_attributes(models, seen),
            "models_": models,
            **single_model(hmaxe, [hmaxe]),
            "converged_": True,
            "n_iter_": 1,
        }
        scale = self._scale_of_codes(settings, seen, fitted)
        return Fit(fitted, PCADetails(scale, covariance), stream)

    def _fit_best(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> dict[str, Any]:
        """Fit the single best model."""
        if rows.incomplete:
            return self._fit_with_gaps(settings, rows, rng, runner)
        solver = "covariance_eigh" if settings.tilt != 0 else settings.solver(*rows.X.shape)
        spectrum = find_spectrum(settings, rows, runner, rng, solver)
        params, hmaxe = best_model(spectrum, settings.temperature)
        explained, n_iter, converged, history = spectrum.variances[None], 1, True, [hmaxe]
        if settings.tilt != 0:
            assert isinstance(rows, RowsWithCovariance)
            with progress(self, rows.X, None, settings.max_iter) as step:
                found = tilted_model(settings, params, rows, runner, step)
            params, hmaxe = found.params, float(found.hmaxe[0])
            history = [float(objective[0]) for objective in found.history]
            n_iter, converged = int(found.n_iter[0]), bool(found.converged[0])
            along = np.matmul(params.components, rows.covariance)
            explained = np.maximum((along * params.components).sum(axis=2), 0.0)
            if not converged and not step.stopped:
                self._warn_of_iterations(settings)
        models = as_models(params, explained, params)
        return {
            **reference_attributes(models, rows),
            "models_": models,
            **single_model(hmaxe, history),
            "converged_": converged,
            "n_iter_": n_iter,
        }

    def _fit_with_gaps(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> dict[str, Any]:
        """Fit the single best model to rows with missing entries."""
        start = start_with_gaps(settings, rows, runner, rng)
        energy = IncompletePCAEnergy(*start.components.shape[1:])
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        with progress(self, rows.X, None, settings.max_iter) as step:
            found = expectation_maximisation(
                objective, start, tol=settings.tol, max_iter=settings.max_iter, on_iteration=step
            )
        found = without_collapsed(found, attrgetter("noise"), start, least_noise(rows), settings)
        params, converged = found.params, bool(found.converged[0])
        if not converged and settings.max_iter and not step.stopped:
            self._warn_of_iterations(settings)
        explained = explained_variance(rows, runner, params, settings.temperature)
        models, hmaxe = as_models(params, explained, params), float(found.hmaxe[0])
        return {
            **reference_attributes(models, rows),
            "models_": models,
            "hmaxe_": hmaxe,
            "hmaxemax_": hmaxe,
            "hmaxemax_error_": 0.0,
            "internal_energy_": hmaxe,
            "lower_bound_": float(found.objective[0]),
            "lower_bounds_": [float(objective[0]) for objective in found.history],
            "converged_": converged,
            "n_iter_": int(found.n_iter[0]),
        }

    @staticmethod
    def _warn_of_iterations(settings: PCASettings) -> None:
        what = "tilted fit" if settings.tilt else "fit to rows with missing entries"
        warnings.warn(
            f"{settings.estimator}: the {what} did not converge within "
            f"max_iter={settings.max_iter} iterations; increase max_iter or tol",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )

    def _fit_sampled(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> dict[str, Any]:
        """Sample the models; the mode that the best of them leads to is the reference."""
        if rows.incomplete:
            return self._fit_sampled_with_gaps(settings, rows, rng, runner)
        raw = row_moments(rows, runner, rng)
        unit = unit_of(raw.mean_variance)
        moments = moments_in_units(raw, unit)
        settings = replace(settings, prior=prior_in_units(settings.prior, unit))
        run = sample_best_dimension(
            settings,
            moments,
            rows,
            rng,
            runner,
            partial(progress, self, rows.X, None, None),
        )
        reference, hmaxe = reference_model(settings, moments, run, runner)
        power = rows.total / settings.model_temperature
        run = run_from_units(run, unit, len(raw.mean), power)
        hmaxe -= len(raw.mean) * np.log(unit)
        models, best = (
            as_models(each, raw.variance_along(each.components), reference)
            for each in (run.params.in_units(1 / unit), reference.in_units(1 / unit))
        )
        return {
            **reference_attributes(best, rows),
            **summarise(settings, run, rows.total),
            "models_": models,
            "hmaxe_": hmaxe,
            "lower_bound_": hmaxe,
        }

    def _fit_sampled_with_gaps(
        self, settings: PCASettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> dict[str, Any]:
        """Sample the models of rows with missing entries."""
        open_progress = partial(progress, self, rows.X, None, None)
        found = sample_with_gaps(settings, rows, runner, rng, open_progress)
        models, best = (
            as_models(
                params,
                explained_variance(rows, runner, params, settings.temperature),
                found.reference,
            )
            for params in (found.params, found.reference)
        )
        return {
            **reference_attributes(best, rows),
            **summarise(settings, found.run, rows.total),
            "models_": models,
            "hmaxe_": found.hmaxe,
            "lower_bound_": found.hmaxe,
        }

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @property
    def _code_scale(self) -> Array:
        return self._fitted.details.code_scale

    def _posterior_dims(self) -> dict[str, tuple[str, ...]]:
        # the explained variance is that of the training rows, which hardly varies between models
        return {
            "components": ("direction", "feature"),
            "component_precisions": ("direction",),
            "noise_variance": (),
            "mean": ("feature",),
        }

    def _certainties(self) -> dict[str, Array]:
        cosines = np.einsum("sde,de->sd", self.models_.components, self.components_)
        return {"direction": (cosines**2).mean(axis=0)}

    def _energy(self) -> PCAEnergy:
        n_components, n_features = self.components_.shape
        return PCAEnergy(n_components, n_features)

    def _parameters(self) -> PCAParameters:
        return as_parameters(self.models_)

    def _reference(self) -> PCAParameters:
        return PCAParameters(
            self.mean_[None],
            self.components_[None],
            self.component_precisions_[None],
            np.array([self.noise_variance_]),
        )

    def _score_rows(self, X: NDArray[Any], temperature: float) -> Array:
        largest = self.explained_variance_.max(initial=0.0)
        if self.noise_variance_ <= 1.5 * NOISE_FLOOR * largest:
            warnings.warn(
                f"{type(self).__name__}: the {self.n_components_} components explain all variance, "
                f"and noise_variance_={self.noise_variance_:.3g} is a floor of {NOISE_FLOOR:g} "
                "times the largest variance, on which scores rest; decrease n_components",
                UserWarning,
                stacklevel=users_stacklevel(),
            )
        return super()._score_rows(X, temperature)

    def _has_density(self) -> bool:
        state = self._fitted
        return max(state.temperature, state.model_temperature) > 0 or not self.n_components_

    def _energy_for(self, X: NDArray[Any]) -> PCAEnergy:
        return IncompletePCAEnergy(*self.components_.shape) if has_gaps(X) else self._energy()

    def _condition_rows(
        self, params: PCAParameters, X: NDArray[Any], temperature: float
    ) -> ConditionalRows:
        energy = IncompletePCAEnergy(*self.components_.shape)
        return ConditionalRows(X, energy.bind(params, self._fitted.frame, np.float64), temperature)

    def _codes_of_gaps(self, params: PCAParameters, X: NDArray[Any]) -> tuple[Array, Array]:
        """Return codes (S, N, d) of rows with gaps, and their covariances by T."""
        energy = IncompletePCAEnergy(*self.components_.shape)
        bound = energy.bind(params, self._fitted.frame, np.float64)

        def function(chunk: NDArray[Any]) -> tuple[Array, Array]:
            codes, spreads = codes_of_gaps(bound, chunk)
            return np.swapaxes(codes[:, 0], 0, 1), np.swapaxes(spreads[:, 0], 0, 1)

        codes, spreads = self._map(function, X, bound.chunk_rows)
        return np.swapaxes(codes, 0, 1), np.swapaxes(spreads, 0, 1)

    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        if has_gaps(X):
            codes, _ = self._codes_of_gaps(self._reference(), X)
            return (codes[0] / self._code_scale).astype(X.dtype, copy=False)
        shrink = np.maximum(1.0 - self.noise_variance_ * self.component_precisions_, 0.0)
        encoder = (shrink / self._code_scale)[:, None] * self.components_
        # far from the origin, subtract the mean first: the difference of two products loses digits
        far = np.any(np.abs(self.mean_) > 100 * self._fitted.frame.scale)
        if isinstance(X, SparseRows) or (X.dtype == np.float64 and not far):
            return X @ encoder.T - self.mean_ @ encoder.T
        return self._map(
            lambda chunk: ((chunk - self.mean_) @ encoder.T).astype(X.dtype, copy=False),
            X,
            self._bound(X[:1]).chunk_rows,
        )

    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        decoder = self._code_scale[:, None] * self.components_
        return Z @ decoder.astype(Z.dtype, copy=False) + self.mean_.astype(Z.dtype, copy=False)

    def _encode_rows(self, X: NDArray[Any]) -> GaussianCodes:
        if has_gaps(X):
            return self._encode_gaps(X)
        coordinates, covariances = posterior_codes(
            X, self._parameters(), self.mean_, self.components_, self._fitted.temperature
        )
        scale = self._code_scale
        coordinates = (coordinates / scale).astype(X.dtype, copy=False)
        return GaussianCodes(coordinates, covariances / np.multiply.outer(scale, scale))

    def _encode_gaps(self, X: NDArray[Any]) -> GaussianCodes:
        """Return codes of rows with gaps, in the coordinates of the reference."""
        params, scale = self._parameters(), self._code_scale
        codes, spreads = self._codes_of_gaps(params, X)
        turned = np.matmul(self.components_, np.swapaxes(params.components, 1, 2))
        shift = (params.means - self.mean_) @ self.components_.T
        coordinates = np.matmul(codes, np.swapaxes(turned, 1, 2)) + shift[:, None]
        turn = turned[:, None]
        covariances = np.matmul(np.matmul(turn, spreads), np.swapaxes(turn, 2, 3))
        return GaussianCodes(
            (coordinates / scale).astype(X.dtype, copy=False),
            self._fitted.temperature * covariances / np.multiply.outer(scale, scale),
        )

    def _decode_distribution(self, codes: GaussianCodes) -> GaussianRows:
        scale = self._code_scale
        in_data_units = GaussianCodes(
            np.asarray(codes.coordinates, np.float64) * scale,
            codes.covariances * np.multiply.outer(scale, scale),
        )
        return GaussianRows(in_data_units, self.mean_, self.components_, self.noise_variance_)

    def _decode_codes(self, Z: Array) -> GaussianRows:
        size = Z.shape[1]
        return self._decode_distribution(GaussianCodes(Z[None], np.zeros((1, size, size))))

    # -- the density ---------------------------------------------------------------------------

    @own_errors()
    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, Any]:
        """Draw rows and their codes from the density at T = 1.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : None, int, RandomState or Generator, default=None
            With None, each call gives different draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        codes : ndarray of shape (n_samples, n_components)
            Coordinates along `components_`; for a single model :meth:`inverse_transform` maps them
            to the rows without noise.
        """
        self._check_usable()
        self._require_density("sample")
        n_samples = check_integer("n_samples", n_samples, minimum=1)
        rng, params = as_generator(random_state), self._parameters()
        models = rng.integers(params.n_models, size=n_samples)
        X, _, clean = self._energy().draw_from(params, models, rng)
        return X, (clean - self.mean_) @ self.components_.T / self._code_scale

    @own_errors()
    def get_covariance(self) -> Array:
        """Return the covariance of the reference model's density, ``W W' + s2 I``.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        self._check_usable()
        self._require_density("get_covariance")
        excess = 1.0 / self.component_precisions_ - self.noise_variance_
        covariance = (self.components_.T * excess) @ self.components_
        covariance.flat[:: len(covariance) + 1] += self.noise_variance_
        return covariance

    @own_errors()
    def get_precision(self) -> Array:
        """Return the inverse of :meth:`get_covariance`.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        self._check_usable()
        self._require_density("get_precision")
        excess = self.component_precisions_ - 1.0 / self.noise_variance_
        precision = (self.components_.T * excess) @ self.components_
        precision.flat[:: len(precision) + 1] += 1.0 / self.noise_variance_
        return precision
