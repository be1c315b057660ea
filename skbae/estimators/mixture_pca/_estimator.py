"""BayesianMixturePCAAutoEncoder: local linear subspaces as an autoencoder with a temperature."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.mixture_pca._distributions import (
    SubspaceCodes,
    SubspaceRows,
    linear_code,
    split_code,
)
from skbae.energies.pca._incomplete import codes_of_gaps
from skbae.estimators._checks import check_probabilities
from skbae.estimators._fitted import Fit
from skbae.estimators._mixture import MixtureAutoEncoder, best_of, match_to_reference, of_rows
from skbae.estimators._progress import progress
from skbae.estimators._sampling import internal_energy, summarise
from skbae.estimators.mixture_pca._fit import (
    PCAMixtureModels,
    as_models,
    as_parameters,
    closed_form,
    continued,
    energy_with_prior,
    form_for,
    in_units,
    reference_attributes,
    starts_of_fit,
    starts_with_gaps,
)
from skbae.estimators.mixture_pca._sampling import sample_models
from skbae.estimators.mixture_pca._settings import PCAMixtureForm, PCAMixtureSettings
from skbae.estimators.pca._fit import least_noise, mean_variance, without_collapsed
from skbae.estimators.pca._units import (
    known_per_row,
    prior_in_units,
    rows_in_units,
    run_from_units,
    unit_of,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.operators._gaps import has_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies.mixture._energy import MixtureParameters
    from skbae.energies.mixture_pca._components import PCAMixture
    from skbae.inference.passes._rows import RowRunner


class BayesianMixturePCAAutoEncoder(MixtureAutoEncoder[PCAMixtureSettings, PCAMixtureForm]):
    """Mixture of PCA as a Bayesian autoencoder: codes are a subspace and a point in it.

    The code of a row x is a pair (k, z) of a component and a point of its d-dimensional subspace,
    and the energy is ``H = log w_k + log N(z; 0, I) + log N(x; W_k z + mu_k, s2_k I)``.
    ``temperature=1`` with one model is the mixture of probabilistic PCA (Tipping and Bishop 1999);
    ``temperature=0`` is the locally linear autoencoder, which alternates between assigning rows to
    the subspace that reconstructs them best and fitting PCA to each group. With a single component
    the model is PCA, at any temperature.

    Parameters
    ----------
    n_components : int, default=1
        Number K of subspaces.
    n_latent : int, default=1
        Dimension d of each subspace, at most the number of features; with 0, components are
        spherical Gaussians.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=None
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``; 0 finds the
        single best model, None means the same as `temperature`. Models of more than a thousand
        parameters are sampled only at ``model_temperature=None`` with rows of whole weights, by
        chains over the codes of all rows; otherwise they raise ValueError. With `tied_noise` these
        chains have no evidence.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    tied_noise : bool, default=False
        Give all components the same noise variance. With `equal_weights`, at T = 0, the fit
        minimises the squared error of the reconstruction.
    weight_concentration_prior : float, default=1.0
        Concentration of the weights' Dirichlet prior. Priors are used only if models are sampled.
    component_variance_prior : float or None, default=None
        Variance of the normal prior of each entry of the loadings W. None stands for ``v / max(d,
        1)``, with v the mean variance of a feature.
    mean_prior : array-like of shape (n_features,) or None, default=None
        None stands for the mean of X.
    mean_precision_prior : float, default=0.01
        The prior of the means is ``N(mean_prior, v / mean_precision_prior)``.
    noise_shape_prior : float, default=1.0
        Shape of the inverse gamma prior of the noise variance.
    noise_scale_prior : float or None, default=None
        Its scale. None stands for ``0.1 v``.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    n_init : int, default=1
        Number of starts, of which the best is kept. Of at most 20 distinct rows, 30 more have means
        at random rows. If models are sampled, their modes are searched for from at least this many
        starts.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How the means of the initial groups of rows are chosen.
    annealing : None, "auto" or list of float, default=None
        Start from means on which rows have settled as the temperature fell, instead of those of
        `init_params`, for fits of a single best model. Spherical components, one at first, are
        split where they are unstable: see :func:`skbae.thermodynamics.critical_temperatures`.
        ``"auto"`` takes critical temperatures, a list those that it holds, in decreasing order and
        not below `temperature`. The starts, one or two, do not depend on `random_state` or
        `n_init`.
    tol : float, default=1e-3
        A start has converged when an iteration gains less than a hundredth of this, in nats a row,
        and all further iterations are estimated to gain less too, as in
        :class:`BayesianGMMAutoEncoder`.
    max_iter : int, default=100
        Largest number of iterations.
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
    components_ : ndarray of shape (n_components, n_latent, n_features)
        Orthonormal directions of each subspace.
    noise_variance_ : ndarray of shape (n_components,), or () where it is tied
    explained_variance_ : ndarray of shape (n_components, n_latent)
        Variance of the training rows along the directions, weighted by their soft components.
    component_precisions_ : ndarray of shape (n_components, n_latent)
        Inverse variance of the model's density along the directions: 0 at T = 0, where
        coordinates have no prior, and that of the noise for melted directions (those whose variance
        is below T times the noise variance).
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row. The reference
        model, which the attributes above belong to, is the best fit or, when models are sampled,
        the mode of ``p(m)`` in the coordinates ``(log w, mu, W, log s2)``.
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
        The objective at the start and after each iteration. Only for a single best model.
    converged_ : bool
    n_iter_ : int
        Passes over the rows that steps of the best start took.
    models_ : PCAMixtureModels
        The kept models, with components in the order of the reference model's.
    n_samples_seen_ : int
        Number of rows fitted to, by all calls of ``partial_fit`` or the latest ``fit``.
    component_variance_prior_, mean_prior_, noise_scale_prior_ : float, ndarray, float
        The prior that was used, with what None stood for. Only when models are sampled.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.decomposition.PCA : The case of one component, T = 0.
    BayesianGMMAutoEncoder : Components without coordinates.

    Notes
    -----
    Codes, of shape (n_samples, n_components * (1 + n_latent)), are linear:
    ``[r_1..r_K | r_1 y_1 .. r_K y_K]``, soft components r, averaged over the kept models, then each
    component's coordinates y along its directions in the reference model, in data units and shrunk
    by the noise, times its r. So `inverse_transform` is one matrix product. `encode` gives r with
    normal coordinates, of variance ``T s2 (1 - s2 p)`` with p in `component_precisions_`; `decode`
    a Gaussian mixture for each row.

    NaN in X means that an entry is missing, at random given the known ones: it is integrated out,
    in fits and in all methods. :meth:`impute` and :meth:`condition` return what is known of it.

    A fit forms no covariance matrix of the features: each iteration multiplies the covariances with
    a few directions, and takes the best subspace within their span. The objective never decreases.
    With several components the noise variance of each is kept above a millionth of the mean
    variance of a feature, so that no component collapses onto a few rows.

    References
    ----------
    Tipping, M. and Bishop, C. (1999). Mixtures of probabilistic principal component analysers.
    Neural Computation 11, 443-482.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianMixturePCAAutoEncoder
    >>> t = np.linspace(-1, 1, 50)[:, None]
    >>> X = np.vstack([t * [1.0, 0.0] + [0.0, 5.0], t * [0.0, 1.0]])  # two line segments
    >>> model = BayesianMixturePCAAutoEncoder(
    ...     2, n_latent=1, temperature=0, tied_noise=True, random_state=0).fit(X)
    >>> np.abs(X - model.inverse_transform(model.transform(X))).max().round(6).item()
    0.0
    >>> np.abs(model.components_[np.argsort(model.means_[:, 1])]).round(6).tolist()
    [[[0.0, 1.0]], [[1.0, 0.0]]]
    """

    _settings_class: ClassVar = PCAMixtureSettings
    _code_class: ClassVar = SubspaceCodes
    _reference_names: ClassVar = (
        "weights_",
        "means_",
        "components_",
        "component_precisions_",
        "noise_variance_",
    )

    weights_: Array
    means_: Array
    components_: Array
    component_precisions_: Array
    noise_variance_: Array
    explained_variance_: Array
    models_: PCAMixtureModels

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_latent: int = 1,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        equal_weights: bool = False,
        tied_noise: bool = False,
        weight_concentration_prior: float = 1.0,
        component_variance_prior: float | None = None,
        mean_prior: Any = None,
        mean_precision_prior: float = 0.01,
        noise_shape_prior: float = 1.0,
        noise_scale_prior: float | None = None,
        n_models: int = 50,
        n_init: int = 1,
        init_params: str = "kmeans",
        annealing: Any = None,
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
        self.n_latent = n_latent
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.equal_weights = equal_weights
        self.tied_noise = tied_noise
        self.weight_concentration_prior = weight_concentration_prior
        self.component_variance_prior = component_variance_prior
        self.mean_prior = mean_prior
        self.mean_precision_prior = mean_precision_prior
        self.noise_shape_prior = noise_shape_prior
        self.noise_scale_prior = noise_scale_prior
        self.n_models = n_models
        self.n_init = n_init
        self.init_params = init_params
        self.annealing = annealing
        self.tol = tol
        self.max_iter = max_iter
        self.learning_decay = learning_decay
        self.forgetting = forgetting
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: PCAMixtureSettings, n_rows: int, n_features: int) -> None:
        settings.check_data(n_rows, n_features)

    def _refuses_sparse(self) -> str:
        return (
            "takes arrays only; use BayesianPCAAutoEncoder, or BayesianGMMAutoEncoder with a "
            "covariance_type without covariances, such as 'diag'"
        )

    def _check_same_shape(self, settings: PCAMixtureSettings, n_features: int, what: str) -> None:
        form = self._fitted.details
        has = (form.n_components, form.n_latent, form.n_features, form.tied_noise)
        new = (settings.n_components, settings.n_latent, n_features, settings.tied_noise)
        if new != has:
            raise ValueError(
                f"{what} needs the n_components, n_latent, number of features and "
                f"tied_noise of the fitted model, {has}; got {new}"
            )

    def _fit_rows(
        self,
        settings: PCAMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[PCAMixtureForm]:
        fit = self._fit_sampled if settings.samples else self._fit_best
        return Fit(fit(settings, rows, rng, runner), form_for(settings, rows))

    def _fit_best(
        self,
        settings: PCAMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Fit the single best model."""
        energy = of_rows(form_for(settings, rows).energy(), rows)
        if self._continues(settings):
            models = self._continued(rng)
        elif rows.incomplete:
            models = starts_with_gaps(settings, rows, rng, runner)
        elif settings.n_components == 1:
            models = closed_form(settings, rows, runner, rng)
        else:
            models = starts_of_fit(settings, energy, rows, rng, runner)
        with progress(self, rows.X, None, settings.max_iter) as step:
            found = expectation_maximisation(
                Objective(energy, rows, runner, settings.temperature, settings.tilt),
                models,
                tol=settings.tol,
                max_iter=settings.max_iter,
                on_iteration=step,
            )
        noise, floor = attrgetter("components.noise"), 1.5 * energy.family.noise_floor
        least = max(least_noise(rows), floor)
        found = without_collapsed(found, noise, models, least, settings)
        best, attributes = best_of(found, settings.max_iter, step.stopped)
        return {**self._public(settings, energy, best, rows, runner), **attributes}

    def _continued(self, rng: np.random.Generator) -> MixtureParameters:
        return continued(self._reference(), rng)

    def _energy_of_batch(self, settings: PCAMixtureSettings, rows: Rows) -> PCAMixture:
        return of_rows(self._fitted.details.energy(), rows)

    def _public(
        self,
        settings: PCAMixtureSettings,
        energy: Any,
        params: MixtureParameters,
        rows: Rows,
        runner: RowRunner,
    ) -> dict[str, Any]:
        kept = as_models(energy, params, rows, runner, settings.temperature)
        return {**reference_attributes(kept), "models_": kept}

    def _fit_sampled(
        self,
        settings: PCAMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Sample the models; the reference is the mode found from the best of them."""
        temperature, tau = settings.temperature, settings.model_temperature
        unit, n_known = unit_of(mean_variance(rows)), known_per_row(rows)
        raw, rows = rows, rows_in_units(rows, unit)
        settings = replace(settings, prior=prior_in_units(settings.prior, unit))
        energy = of_rows(energy_with_prior(settings, rows), rows)
        objective = Objective(energy, rows, runner, temperature, settings.tilt)
        with progress(self, rows.X, None, None) as step:
            run = sample_models(objective, energy, rng, settings, step)
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        mode, draws = energy.canonical(best.params), energy.canonical(run.params)
        matched = match_to_reference(energy, draws, mode, rows, temperature)
        reference, models = (
            as_models(energy, in_units(params, 1 / unit), raw, runner, temperature)
            for params in (mode, matched)
        )
        shift = n_known * np.log(unit)
        internal = internal_energy(objective, run) - shift
        run = run_from_units(run, unit, n_known, rows.total / tau)
        return {
            **reference_attributes(reference),
            **summarise(settings, run, rows.total),
            "internal_energy_": internal,
            "models_": models,
            "hmaxe_": float(best.hmaxe[0] - shift),
            "lower_bound_": float(best.objective[0] - shift),
        }

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        n_components, n_latent = self.components_.shape[:2]
        return n_components * (1 + n_latent)

    def _energy(self) -> PCAMixture:
        return self._fitted.details.energy()

    def _parameters(self) -> MixtureParameters:
        return as_parameters(self.models_)

    def _names_by_component(self) -> tuple[str, ...]:
        names = (*self._reference_names, "explained_variance_")
        tied = np.ndim(self.noise_variance_) == 0
        return tuple(name for name in names if not (tied and name == "noise_variance_"))

    def _posterior_dims(self) -> dict[str, tuple[str, ...]]:
        tied = np.ndim(self.noise_variance_) == 0
        return {
            "weights": ("component",),
            "means": ("component", "feature"),
            "components": ("component", "direction", "feature"),
            "component_precisions": ("component", "direction"),
            "noise_variance": () if tied else ("component",),
        }

    def _certainties(self) -> dict[str, Array]:
        cosines = np.einsum("skde,kde->skd", self.models_.components, self.components_)
        return {**super()._certainties(), "component direction": (cosines**2).mean(axis=0)}

    def _reference(self) -> MixtureParameters:
        """Return the reference model as the energy's parameters."""
        models = PCAMixtureModels(
            self.weights_[None],
            self.means_[None],
            self.components_[None],
            self.component_precisions_[None],
            np.asarray(self.noise_variance_)[None],
            self.explained_variance_[None],
        )
        return as_parameters(models)

    def _has_density(self) -> bool:
        return self._fitted.temperature > 0 or self.components_.shape[1] == 0

    def _noise(self) -> Array:
        """Return the noise variance of each component, (K,)."""
        return np.broadcast_to(self.noise_variance_, self.weights_.shape)

    def _shrink(self) -> Array:
        """Return the factors by which codes are shorter than coordinates of rows, (K, d)."""
        return 1.0 - self._noise()[:, None] * self.component_precisions_

    def _codes_of_gaps(self, X: NDArray[Any]) -> tuple[Array, Array]:
        """Return expected codes (N, K, d) of rows with gaps, and their covariances by T."""
        energy = self._energy().of_incomplete_rows()
        bound = energy.bind(self._reference(), self._fitted.frame, np.float64)

        def function(chunk: NDArray[Any]) -> tuple[Array, Array]:
            codes, spreads = codes_of_gaps(bound, chunk)
            return np.swapaxes(codes[0], 0, 1), np.swapaxes(spreads[0], 0, 1)

        return self._map(function, X, bound.chunk_rows)

    def _coordinates(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return expected codes (N, K, d) under each component of the reference model."""
        if has_gaps(X):
            return self._codes_of_gaps(X)[0].astype(X.dtype, copy=False)
        offsets = np.einsum("kid,kd->ki", self.components_, self.means_)
        directions = self.components_.reshape(offsets.size, X.shape[1])
        along = (X @ directions.T).reshape(len(X), *offsets.shape) - offsets
        return (self._shrink() * along).astype(X.dtype, copy=False)

    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        return linear_code(self._component_probabilities(X), self._coordinates(X))

    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        n_components, n_latent, n_features = self.components_.shape
        directions = self.components_.reshape(n_components * n_latent, n_features)
        return Z @ np.concatenate([self.means_, directions]).astype(Z.dtype, copy=False)

    def _encode_rows(self, X: NDArray[Any]) -> SubspaceCodes:
        if has_gaps(X):
            coordinates, spreads = self._codes_of_gaps(X)
            return SubspaceCodes(
                self._component_probabilities(X),
                coordinates.astype(X.dtype, copy=False),
                self._fitted.temperature * spreads,
            )
        spread = self._fitted.temperature * self._noise()[:, None] * np.maximum(self._shrink(), 0.0)
        return SubspaceCodes(self._component_probabilities(X), self._coordinates(X), spread)

    def _decode_distribution(self, codes: SubspaceCodes) -> SubspaceRows:
        probabilities = np.asarray(codes.probabilities, np.float64)
        return SubspaceRows(
            probabilities / probabilities.sum(axis=1, keepdims=True),
            np.asarray(codes.coordinates, np.float64),
            self.means_,
            self.components_,
            codes.spread,
            self._noise(),
        )

    def _decode_codes(self, Z: Array) -> SubspaceRows:
        n_components, n_latent, _ = self.components_.shape
        probabilities, coordinates = split_code(Z, n_components, n_latent)
        check_probabilities(probabilities, f"the first {n_components} columns of Z")
        certain = np.zeros((n_components, n_latent))
        return self._decode_distribution(SubspaceCodes(probabilities, coordinates, certain))
