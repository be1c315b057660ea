"""BayesianMixtureAutoEncoder: mixtures of any components, as autoencoders with a temperature."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from skbae.energies._capabilities import ConjugateEnergy
from skbae.energies.components._conditional import ConditionalTable
from skbae.energies.components._noise import NoisyFamily
from skbae.energies.gaussian._mixture import BayesianGaussianMixture
from skbae.energies.mixture._distributions import CategoricalCodes
from skbae.estimators._checks import check_codes, check_probabilities
from skbae.estimators._fitted import Fit
from skbae.estimators._mixture import (
    MixtureAutoEncoder,
    best_of,
    match_to_reference,
    of_rows,
)
from skbae.estimators._mixture_sampling import rows_of_weight_one, sample_by_codes, sweeps
from skbae.estimators._progress import progress
from skbae.estimators._sampling import internal_energy, run_charted, run_tempered, summarise
from skbae.estimators.gmm._fit import doubts_about_modes, local_maximum
from skbae.estimators.gmm._mode_starts import sampling_starts
from skbae.estimators.mixture._fit import (
    energy_with_prior,
    noise_box,
    plain_energy,
    search_rows,
    starts,
)
from skbae.estimators.mixture._gaussian import Gaussian
from skbae.estimators.mixture._settings import ComponentMixtureSettings, MixtureForm
from skbae.estimators.mixture._table import Table, columns_of, table_of
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.operators._floating import own_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Rows, SamplingRun
    from skbae.energies._distribution import DistributionWithDensity
    from skbae.energies.components._noise import Box
    from skbae.energies.mixture._completion import ConditionalDistribution
    from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
    from skbae.inference.passes._rows import RowRunner

# At other temperatures, densities of so many Gaussian components at most are summed over all
# labellings.
_MOST_CHARTED = 8


class BayesianMixtureAutoEncoder(MixtureAutoEncoder[ComponentMixtureSettings, MixtureForm]):
    """Mixture of components of any kind as a Bayesian autoencoder: counts, categories, bits, ...

    The energy of a row x under component k is ``H = log w_k + sum_b log p_b(x_b; m_kb)``, a sum
    over blocks of columns, which are independent given the code; the code is the component.
    ``temperature=1`` is the ordinary mixture (of bits or categories: latent class analysis), fitted
    by maximum likelihood; ``temperature=0`` gives hard codes (with equal weights: k-modes). With
    ``components="gaussian"`` it is :class:`BayesianGMMAutoEncoder`.

    Parameters
    ----------
    n_components : int, default=1
        Number K of components.
    components : str, component, or list of (name, component, columns), default="gaussian"
        What each component of the mixture is made of. ``"gaussian"``, ``"bernoulli"``,
        ``"categorical"``, ``"poisson"`` and ``"exponential"`` stand for these classes of
        :mod:`skbae.components` with their defaults; an instance of one of its classes has other
        priors. A list describes tables of columns of several kinds, as in
        :class:`~sklearn.compose.ColumnTransformer`: `columns` is a name or number, a list of
        these, a slice (of names, the last is included) or a mask. Each column of X must belong to
        one component.
    noise : None, "uniform" or Uniform, default=None
        A component of noise beside the K others, the last of all: uniform on the box of the rows,
        for rows far from all others. Its weight has the same prior as the others.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=None
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``: 1 (at
        ``temperature=1``) is the Bayesian posterior, 0 finds the single best model; None means the
        same as `temperature`.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    weight_concentration_prior : float, default=1.0
        Concentration of the weights' Dirichlet prior. Priors are used only if models are sampled.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    evidence_tol : float or None, default=0.1
        Standard error of the log evidence, in nats, below which sampling stops to refine it; None
        if the evidence is not wanted.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How starts are chosen: groups of rows about the centres of k-means, about rows far from each
        other or random rows, all in coordinates in which columns of all kinds have about the same
        scale (indicators of categories, square roots of counts); or random soft components.
    tol : float, default=1e-3
        A start has converged when an iteration gains less than a hundredth of this, in nats a row,
        and all further iterations are estimated to gain less too.
    max_iter : int, default=100
        Largest number of iterations.
    learning_decay : float, default=0.7
        How fast the steps of ``partial_fit`` become shorter: after t batches like ``t^-decay``.
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
        Number of threads for passes over the rows; None: as many as BLAS would use.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
        Expected entries of each column; NaN for columns of categories.
    parameters_ : dict
        For each component by name, a dict of arrays of the reference model: ``"probabilities"`` of
        bits, of shape (n_components, n_columns); of categories, a list with an array
        (n_components, n_categories) for each column; ``"rates"`` of counts and waiting times;
        ``"means"`` and ``"covariances"`` of Gaussian columns.
    categories_ : list
        For each column of X, its categories in the order of their probabilities, or None.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row. The reference
        model is the best fit, or, when models are sampled, the mode of ``p(m)``.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)`` and its standard error;
        `hmaxe_` and 0 when a single model is fitted.
    log_evidence_ : float
        ``(N / tau) hmaxemax_``; at ``temperature=1`` the log marginal likelihood. Only when models
        are sampled.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models.
    priors_ : dict
        For each component by name, its prior with what None stood for. Only when models are
        sampled.
    sampling_ : SamplingResult
        Diagnostics of the sampling. Only when models are sampled.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration. Only for a single best model.
    converged_ : bool
    n_iter_ : int
        Passes over the rows that steps of the best start took; or sweeps of each chain.
    models_ : MixtureParameters
        The kept models, with components in the order of the reference model's.
    n_samples_seen_ : int
        Number of rows fitted to, by all calls of ``partial_fit`` or the latest ``fit``.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    BayesianGMMAutoEncoder : The case of Gaussian components.
    skbae.components : The kinds of components.

    Notes
    -----
    Codes, of shape (n_samples, n_components), are the components: `transform` gives the soft ones,
    as :meth:`predict_proba`. `inverse_transform` gives expected numbers, and the most probable
    category of columns of categories; it returns objects where categories are not numbers, as
    `sample` and `impute` do. `decode` and `condition` return distributions of rows in which
    categories are numbered, in the order of `categories_`.

    NaN or None in X means that an entry is missing, at random given the known ones: it drops out of
    the sum over columns (of Gaussian columns it is integrated out), in fits and in all methods.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianMixtureAutoEncoder
    >>> X = np.array([[0, 0, 1], [0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]])
    >>> model = BayesianMixtureAutoEncoder(
    ...     2, "bernoulli", model_temperature=0, random_state=0).fit(X)
    >>> codes = model.predict(X)
    >>> (codes[:3] == codes[0]).all().item(), (codes[3:] != codes[0]).all().item()
    (True, True)
    """

    _settings_class: ClassVar = ComponentMixtureSettings
    _code_class: ClassVar = CategoricalCodes
    _reference_names: ClassVar = ("weights_", "means_")

    weights_: Array
    means_: Array
    parameters_: dict[str, dict[str, Any]]
    models_: MixtureParameters
    _table: Table

    def __init__(
        self,
        n_components: int = 1,
        components: Any = "gaussian",
        *,
        noise: Any = None,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        equal_weights: bool = False,
        weight_concentration_prior: float = 1.0,
        n_models: int = 50,
        evidence_tol: float | None = 0.1,
        n_init: int = 1,
        init_params: str = "kmeans",
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
        self.components = components
        self.noise = noise
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.equal_weights = equal_weights
        self.weight_concentration_prior = weight_concentration_prior
        self.n_models = n_models
        self.evidence_tol = evidence_tol
        self.n_init = n_init
        self.init_params = init_params
        self.tol = tol
        self.max_iter = max_iter
        self.learning_decay = learning_decay
        self.forgetting = forgetting
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- rows ----------------------------------------------------------------------------------

    def _validated(self, X: Any, **kwargs: Any) -> NDArray[Any]:
        """Return rows as numbers: categories are numbered, and NaN is missing."""
        reset = kwargs.get("reset", True)
        columns = columns_of(X) if self._may_be_labelled(reset) else None
        if columns is None:
            try:
                numbers = super()._validated(X, **kwargs)
            except ValueError:
                self._check_numbers(X, reset)
                raise
            columns = list(numbers.T)
        else:
            validate_data(self, X, reset=reset, skip_check_array=True)
            numbers = None
        if reset:
            names = self._column_names()
            components = self._check_parameters().components
            named = hasattr(self, "feature_names_in_")
            self._table = table_of(components, names, named).learned(columns)
        table = self._table
        if numbers is None or table.labelled:
            kind = np.float64 if numbers is None else numbers.dtype
            numbers = table.encoded(columns).astype(kind, copy=False)
            kwargs.pop("reset", None)
            check_array(numbers, estimator=self, input_name="X", **kwargs)
        table.check_values(numbers)
        return numbers

    def _check_numbers(self, X: Any, reset: bool) -> None:
        """Raise ValueError if a column holds no numbers, naming it and its component."""
        columns = columns_of(X)
        if columns is None:
            return
        if reset:
            named = hasattr(X, "columns")
            names = [str(name) for name in (X.columns if named else range(len(columns)))]
            table = table_of(self._check_parameters().components, names, named)
        else:
            table = self._table
        if len(columns) == table.n_features:
            table.encoded(columns)

    def _may_be_labelled(self, reset: bool) -> bool:
        """Return whether components are such that columns may hold other things than numbers."""
        if not reset:
            return self._table.labelled
        return any(own._categories for _, own, _ in self._check_parameters().components)

    def _column_names(self) -> list[str]:
        """Return the names of the columns of X, or their numbers as text."""
        names = getattr(self, "feature_names_in_", None)
        return [str(name) for name in (range(self.n_features_in_) if names is None else names)]

    def _check_data(self, settings: ComponentMixtureSettings, n_rows: int, n_features: int) -> None:
        settings.check_data(n_rows, n_features)

    def _needs_rows(self, settings: ComponentMixtureSettings, n_rows: int, n_features: int) -> str:
        return "components of columns"

    def _refuses_sparse(self) -> str:
        return (
            "takes arrays only; use BayesianGMMAutoEncoder with a covariance_type without "
            "covariances, such as 'diag'"
        )

    def _check_same_shape(
        self, settings: ComponentMixtureSettings, n_features: int, what: str
    ) -> None:
        has, new = self._fitted.details, self._table
        same_noise = (has.box is None) == (settings.noise is None)
        same = has.n_components == settings.n_components and same_noise
        if not same or not has.table.same_form(new):
            raise ValueError(
                f"{what} needs the n_components ({has.n_components}), the components, their "
                "columns, the categories and the noise of the fitted model; got others"
            )

    # -- fit -----------------------------------------------------------------------------------

    def _fit_rows(
        self,
        settings: ComponentMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[MixtureForm]:
        for block, own in self._table.each(rows):
            block.component._check_rows(own, block.place, settings)
        fit = self._fit_sampled if settings.samples else self._fit_best
        return self._with_form(settings, Fit(fit(settings, rows, rng, runner), None))

    def _fit_batch(
        self,
        settings: ComponentMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[MixtureForm]:
        return self._with_form(settings, super()._fit_batch(settings, rows, rng, runner))

    def _with_form(self, settings: ComponentMixtureSettings, found: Fit[Any]) -> Fit[MixtureForm]:
        """Return the result of a fit with its reference model in the form."""
        attributes = dict(found.attributes)
        if "reference" not in attributes:
            return found
        form = MixtureForm(
            settings.n_components,
            settings.equal_weights,
            self._table,
            attributes.pop("reference"),
            attributes.pop("box"),
        )
        return Fit(attributes, form, found.stream)

    def _start(
        self,
        settings: ComponentMixtureSettings,
        energy: MixtureEnergy[Any],
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
        n_starts: int,
    ) -> MixtureParameters:
        """Return the fitted model for a warm start, otherwise `n_starts` new models."""
        if self._continues(settings):
            return self._reference()
        return starts(settings, self._table, energy, rows, rng, runner, n_starts)

    def _fit_best(
        self,
        settings: ComponentMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Fit the single best model."""
        box = self._box(settings, rows)
        energy = of_rows(plain_energy(settings, self._table, rows, box), rows)
        models = self._start(settings, energy, rows, rng, runner, settings.n_init)
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        earlier = getattr(self, "lower_bounds_", []) if self._continues(settings) else []
        with progress(self, rows.X, None, settings.max_iter) as step:
            maximise = partial(
                expectation_maximisation,
                tol=settings.tol,
                max_iter=settings.max_iter,
                on_iteration=step,
            )
            bounded = settings.tilt >= 0 or settings.max_iter == 0
            if bounded or self._continues(settings) or type(self._table.alone) is not Gaussian:
                found = maximise(objective, models, earlier=earlier)
            else:
                own = self._table.alone.as_mixture(settings)
                form, floor = own.form(rows.X.shape[1]), own.floor(rows)
                found = local_maximum(objective, form, models, floor, maximise)
        best, attributes = best_of(found, settings.max_iter, step.stopped)
        if settings.max_iter:
            self._warn_of_collapse(settings, energy, best, rows)
        return {**self._public(settings, energy, best, rows, runner), **attributes}

    def _warn_of_collapse(
        self,
        settings: ComponentMixtureSettings,
        energy: MixtureEnergy[Any],
        best: MixtureParameters,
        rows: Rows,
    ) -> None:
        family = energy.family.inner if settings.noise is not None else energy.family
        factors = [family] if self._table.alone is not None else family.families
        parts = self._table.parts(best.components)
        weights = best.weights[:, : settings.n_components]
        for (block, own), factor, part in zip(self._table.each(rows), factors, parts, strict=True):
            block.component._warn(factor, part, weights, own, block.place, settings)

    def _doubts(
        self, settings: ComponentMixtureSettings, params: MixtureParameters, rows: Rows
    ) -> list[str]:
        """Return reasons for doubt in sampled models, from each block of columns."""
        parts, weights = self._table.parts(params.components), params.weights
        own_weights = weights[:, : settings.n_components]
        found: list[str] = []
        for (block, own), part in zip(self._table.each(rows), parts, strict=True):
            found += block.component._doubts(part, own_weights, own, block.place, settings)
        return found

    def _continued(self, rng: np.random.Generator) -> MixtureParameters:
        # what no row of a component has had yet may come with the next batch: without the share of
        # a row, it would be taken for impossible for ever
        before, table = self._reference(), self._table
        stream = self._fitted.stream
        share = 1.0 if stream is None else 1.0 / (1.0 + stream.n_rows)
        n_own = self._fitted.details.n_components
        parts = [
            block.component._softened(own, before.weights[:, :n_own], share)
            for block, own in zip(table.blocks, table.parts(before.components), strict=True)
        ]
        components = parts[0] if table.alone is not None else table.joined(parts)
        return replace(before, components=components)

    def _energy_of_batch(
        self, settings: ComponentMixtureSettings, rows: Rows
    ) -> MixtureEnergy[Any]:
        plain = plain_energy(settings, self._table, rows, self._fitted.details.box)
        return of_rows(plain, rows)

    def _box(self, settings: ComponentMixtureSettings, rows: Rows) -> Box | None:
        """Return the box of the noise: that of the fitted model, for a warm start."""
        if self._continues(settings):
            return self._fitted.details.box
        return noise_box(settings, self._table, rows)

    def _public(
        self,
        settings: ComponentMixtureSettings,
        energy: Any,
        params: MixtureParameters,
        rows: Rows,
        runner: RowRunner,
    ) -> dict[str, Any]:
        box = energy.family.box if isinstance(energy.family, NoisyFamily) else None
        return {**self._reference_attributes(params, box), "models_": params}

    def _reference_attributes(self, params: MixtureParameters, box: Box | None) -> dict[str, Any]:
        n_components = params.weights.shape[1] - (box is not None)
        form = MixtureForm(n_components, self.equal_weights, self._table, params, box)
        return {
            "weights_": params.weights[0],
            "means_": form.means(),
            "parameters_": form.parameters(),
            "categories_": self._table.categories,
            "reference": params,
            "box": box,
        }

    def _fit_sampled(
        self,
        settings: ComponentMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Sample the models; the reference is the mode found from the best of them."""
        tau = settings.model_temperature
        if rows.incomplete and settings.temperature == tau and not settings.tilt:
            rows = rows_of_weight_one(rows)
        box = self._box(settings, rows)
        energy = energy_with_prior(settings, self._table, rows, runner, box)
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        run = self._sample(settings, objective, rng)
        doubts = self._doubts(settings, run.params, rows)
        run = replace(run, doubts=(*run.doubts, *doubts))
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        matched = match_to_reference(
            energy,
            run.params,
            best.params,
            rows,
            settings.temperature,
            settings.n_components,
        )
        names = [block.place.name for block in self._table.blocks]
        priors = settings.priors(self._table, rows, runner)
        return {
            **self._reference_attributes(best.params, box),
            **summarise(settings, run, rows.total),
            "priors_": dict(zip(names, priors, strict=True)),
            "internal_energy_": internal_energy(objective, run),
            "models_": matched,
            "hmaxe_": float(best.hmaxe[0]),
            "lower_bound_": float(best.objective[0]),
        }

    def _draws_gaps(self) -> bool:
        """Return whether some components draw missing entries, since they don't drop out."""
        return any(type(block.component) is Gaussian for block in self._table.blocks)

    def _sample(
        self, settings: ComponentMixtureSettings, objective: Objective, rng: np.random.Generator
    ) -> SamplingRun:
        """Sample through codes if T = tau, t = 0 and weights are integers, else by gradients."""
        rows, runner, tau = objective.rows, objective.runner, settings.model_temperature
        draws_gaps = rows.incomplete and self._draws_gaps()
        single = settings.n_components == 1 and settings.tilt == 0 and not draws_gaps
        if single:  # with one code, Hmax_T does not depend on T
            objective = replace(objective, temperature=tau)
        conjugate = isinstance(objective.energy, ConjugateEnergy)
        if conjugate and sweeps(objective, tau, draws_gaps):
            return sample_by_codes(
                self,
                settings,
                objective,
                rng,
                evidence_tol=settings.evidence_tol,
                draws_gaps=draws_gaps,
                start=partial(self._start_of_sweeps, settings, rows, rng, runner),
            )
        alone = self._table.alone
        with progress(self, rows.X, None, None) as step:
            many = settings.n_components > _MOST_CHARTED
            if type(alone) is not Gaussian or not conjugate or rows.incomplete or many:
                return run_tempered(objective, rng, settings, step)
            with_prior = objective.require(BayesianGaussianMixture, "sampling from modes")
            own = alone.as_mixture(settings)
            modes = settings.plans.starts_at(
                tau, lambda: sampling_starts(own, with_prior, rows, rng, runner)
            )
            run = run_charted(objective, modes, rng, settings, step)
            return replace(run, doubts=(*run.doubts, *doubts_about_modes(run)))

    def _start_of_sweeps(
        self,
        settings: ComponentMixtureSettings,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> tuple[MixtureParameters, Sequence[Rows]]:
        """Return models that sweeps start from, and complete rows where entries are missing."""
        plain = of_rows(plain_energy(settings, self._table, rows), rows)  # conjugate: no noise
        models = self._start(settings, plain, rows, rng, runner, max(settings.n_init, 8))
        draws_gaps = rows.incomplete and self._draws_gaps()
        return models, search_rows(plain, rows, models, rng) if draws_gaps else ()

    # -- fitted models -------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.models_.weights.shape[1]

    def _energy(self) -> MixtureEnergy[Any]:
        return self._fitted.details.energy()

    def _parameters(self) -> MixtureParameters:
        return self.models_

    def _reference(self) -> MixtureParameters:
        return self._fitted.details.reference

    def _names_by_component(self) -> tuple[str, ...]:
        return self._reference_names

    def _n_labels(self) -> int:
        return int(self._fitted.details.n_components)

    def _posterior_arrays(self) -> dict[str, Array]:
        form, models, n = self._fitted.details, self.models_, self._n_labels()
        draws = [
            replace(form, reference=models.take(slice(s, s + 1))).parameters()
            for s in range(models.n_models)
        ]
        arrays = {"weights": models.weights[:, :n]}
        if form.box is not None:
            arrays["noise_weight"] = models.weights[:, n]
        for block, own in draws[0].items():
            for name, value in own.items():
                if block != "noise" and np.shape(value)[:1] == (n,):
                    arrays[f"{block}_{name}"] = np.stack([each[block][name] for each in draws])
        return arrays

    def _posterior_dims(self) -> dict[str, tuple[str, ...]]:
        return {
            name: ("component", *(f"{name}_{axis}" for axis in range(draws.ndim - 2)))
            if draws.ndim > 1
            else ()
            for name, draws in self._posterior_arrays().items()
        }

    def reorder_components(self, order: Any) -> Self:
        before, models = self._reference(), self.models_
        last = self._fitted.details.n_components
        if self._fitted.details.box is not None and np.ravel(order)[-1:].tolist() != [last]:
            raise ValueError(f"order must end with {last}, which is noise, got {order!r}")
        super().reorder_components(order)  # checks the order, and reorders the weights
        energy = self._energy()
        index = np.asarray(order)[None]
        reference = energy.permute(before, index)
        kept = energy.permute(models, np.repeat(index, models.n_models, axis=0))
        details = replace(self._fitted.details, reference=reference)
        fitted = replace(self._fitted, details=details)
        self.__dict__.update(models_=kept, parameters_=details.parameters(), _fitted=fitted)
        return self

    reorder_components.__doc__ = MixtureAutoEncoder.reorder_components.__doc__

    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        return self._component_probabilities(X)

    def _encode_rows(self, X: NDArray[Any]) -> CategoricalCodes:
        return CategoricalCodes(self._component_probabilities(X))

    def _decode_distribution(self, codes: CategoricalCodes) -> DistributionWithDensity:
        Z = check_codes(codes.probabilities, self._n_features_out, self)
        return self._decode_codes(Z.astype(np.float64))

    def _decode_codes(self, Z: Array) -> ConditionalTable:
        probabilities = check_probabilities(Z)
        unknown = np.full((len(Z), self.n_features_in_), np.nan)
        bound = self._incomplete(self._reference())
        return ConditionalTable(unknown, bound, 1.0, probabilities)

    def _incomplete(self, params: MixtureParameters) -> Any:
        energy = self._energy().of_incomplete_rows()
        return energy.bind(params, self._fitted.frame, np.float64)

    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        found = np.empty((len(Z), self.n_features_in_))
        form = self._fitted.details
        own_codes = Z[:, : form.n_components]
        for block, family, own in form.factors():
            found[:, block.columns] = block.component._expected(family, own, own_codes)
            if form.box is not None and not block.component._categories:
                found[:, block.columns] += Z[:, -1:] * form.box.mean[block.columns]
        return found

    def _check_reconstructions(self, caller: str) -> None:
        for block in self._table.blocks:
            if block.component._categories:
                raise ValueError(
                    f"{caller} needs columns of numbers, and {block.place.column(0)} holds "
                    "categories, whose squared error means nothing; use hmaxemax_scorer"
                )

    @own_errors()
    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            As from :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Of columns of categories, the most probable one. Objects if some categories are not
            numbers, else float32 for float32 codes.
        """
        return self._table.decoded(super().inverse_transform(Z))

    @own_errors()
    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, Any]:
        """Draw rows and their codes from the density at T = 1.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : None, int, RandomState or Generator, default=None

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Objects if some categories are not numbers.
        codes : ndarray of shape (n_samples,)
        """
        X, codes = super().sample(n_samples, random_state)
        return self._table.decoded(X), codes

    # -- missing entries -----------------------------------------------------------------------

    def _condition_rows(
        self, params: MixtureParameters, X: NDArray[Any], temperature: float
    ) -> ConditionalDistribution:
        return ConditionalTable(X, self._incomplete(params), temperature)

    @own_errors()
    def impute(self, X: Any) -> NDArray[Any]:
        """Return rows with missing entries filled in, given the known ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN or None where an entry is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Expected numbers, and the most probable categories; known entries are those of X.
            Objects if some categories are not numbers, else float32 for float32 rows.
        """
        X = self._read_rows(X)
        filled, gaps = X.copy(), np.isnan(X)
        some = gaps.any(axis=1)
        if some.any():
            own = self._conditional(X[some])
            assert isinstance(own, ConditionalTable)
            filled[some] = np.where(gaps[some], own.most_probable(), X[some])
        return self._table.decoded(filled)

    def _gradient(self, params: Any, X: NDArray[Any], temperature: float) -> Array:
        if self._fitted.details.box is not None:
            raise TypeError("gradients in x need a density without steps: noise has a box")
        if not all(type(block.component) is Gaussian for block in self._table.blocks):
            others = [
                f"{block.place.name!r} ({type(block.component).__name__})"
                for block in self._table.blocks
                if type(block.component) is not Gaussian
            ]
            raise TypeError(
                "gradients in x need rows of real numbers with Gaussian components; components "
                f"{', '.join(others)} have none"
            )
        return super()._gradient(params, X, temperature)
