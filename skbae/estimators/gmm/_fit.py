"""Starts, prior and fitted attributes of Gaussian mixtures: parts of BayesianGMMAutoEncoder.fit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._types import ArrayRecord, Frame
from skbae.energies.gaussian._components import GaussianMoments, GaussianParameters
from skbae.energies.gaussian._mixture import (
    GaussianMixtureEnergy,
    conjugate_gaussian_mixture,
    gaussian_mixture,
    models_from_assignment,
    nearest_mean_models,
)
from skbae.energies.gaussian._span import (
    ColumnSpan,
    column_span,
    columns_that_vary,
    dependent_columns,
    independent_of,
)
from skbae.energies.gaussian._ties import gains_from_ties
from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.energies.mixture._energy import MixtureParameters, MixtureStatistics
from skbae.estimators._mixture import (
    initial_means,
    of_rows,
    random_codes,
    rows_to_start_from,
)
from skbae.estimators._mixture_sampling import MOST_ALLOCATION_WORK
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.gmm._settings import (
    GaussianMixtureForm,
    GaussianMixtureSettings,
    GivenStart,
    relative_floor,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._dask import DaskRows
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._sources import Fold, RowSource, chunk_of, extremes, fold, rows_at
from skbae.inference.passes._starting_points import distinct_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skbae._types import Array, EMResult, Rows, SamplingRun
    from skbae.inference.passes._rows import RowRunner

# Smallest ratio of a variance to what was added to it that is not worth a warning.
_MOSTLY_FLOOR = 2.0
# The default prior expects a component to fill one over this of the volume of all rows, whatever
# the number of components: chosen by benchmarks/default_prior.py.
_TYPICAL_COMPONENTS = 5.0
# Nats that ties may add to the log evidence without a word: about what decides between numbers of
# components.
_GAIN_FROM_TIES = 3.0
# Rows of a table that is not in memory, at most about, of which gaps between values are taken.
_ROWS_WITH_TIES = 100_000
# Effective number of modes beyond which models sampled from modes are in doubt.
_MANY_MODES = 4.0
# Columns that a warning names.
_MOST_NAMED = 10
# Part of the mean variance that is added to the covariance of rows with gaps, the default scale of
# the prior, so that it has an inverse.
_PRIOR_FLOOR = 1e-8
# Searches for modes on rows with gaps, at most.
_MOST_SEARCHES = 5


@dataclass(frozen=True)
class GaussianMixtureModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, components in matching order.

    Attributes
    ----------
    weights : ndarray of shape (S, K)
    means : ndarray of shape (S, K, D)
    covariances, precisions_cholesky : ndarrays of shape (S,) + scikit-learn's shape
    """

    weights: Array
    means: Array
    covariances: Array
    precisions_cholesky: Array


# -- starts ----------------------------------------------------------------------------------------


def starts(
    settings: GaussianMixtureSettings,
    energy: GaussianMixtureEnergy,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> MixtureParameters:
    """Return up to `n_starts` models: the user's initial values, the rest chosen from the rows."""
    given = settings.given_start(energy.n_features)
    if given.weights is not None and given.means is not None and given.factors is not None:
        return MixtureParameters(given.weights, GaussianParameters(given.means, given.factors))
    random = settings.init_params == "random" and settings.annealing is None
    if random and given.means is None:
        models = random_models(energy, rows, rng, n_starts)
        return with_given(given, models)
    means = given.means
    if means is None:
        means = initial_means(settings, rows, rng, runner, n_starts)
    assigned = nearest_mean_models(energy, means, float(np.mean(rows.scale**2)) or 1.0)
    # in double precision, since groups may be much narrower than the spread of all rows
    kernel = energy.expectation(assigned, rows.frame, np.float64, 0.0, 0.0)
    # of a distinct row, so that a common factor of all weights, or giving all rows twice, makes no
    # difference
    unit = rows.total / len(distinct_rows(rows)[0])
    models = models_from_assignment(energy, runner.reduce(kernel, rows), assigned, unit)

    return with_given(given, models)


def with_given(given: GivenStart, models: MixtureParameters) -> MixtureParameters:
    """Return models in which the user's initial values take the place of what was chosen."""

    def choose(own: Array | None, value: Array) -> Array:
        return value if own is None else np.broadcast_to(own, value.shape).copy()

    components = GaussianParameters(
        choose(given.means, models.components.means),
        choose(given.factors, models.components.factors),
    )
    return MixtureParameters(choose(given.weights, models.weights), components)


def random_models(
    energy: GaussianMixtureEnergy, rows: Rows, rng: np.random.Generator, n_starts: int
) -> MixtureParameters:
    """Return models that fit random soft components of the rows."""
    X, weights = rows_to_start_from(rows, energy.n_components)
    return models_of_codes(
        energy, X, random_codes(weights, energy.n_components, n_starts, rng), rows
    )


def models_of_codes(
    energy: GaussianMixtureEnergy, X: Array, codes: Array, rows: Rows
) -> MixtureParameters:
    """Return models that fit distinct rows (N, D) with codes (S, K, N) times their weights."""
    counts = codes.sum(axis=-1)
    safe = np.where(counts > 0, counts, 1.0)
    means = np.where(counts[..., None] > 0, codes @ X / safe[..., None], rows.centre)
    shape = energy.family.shape
    second = np.empty((*counts.shape, *shape.tail))
    for s, k in np.ndindex(counts.shape):
        second[s, k] = shape.sum_moment(X - means[s, k], codes[s, k])
    if energy.family.tied:
        second = second.sum(axis=1, keepdims=True)
    values = np.zeros(len(codes))
    moments = GaussianMoments(np.zeros_like(means), second, means)
    statistics = MixtureStatistics(counts, moments, values, values)
    spread = float(np.mean(rows.scale**2)) or 1.0
    assigned = nearest_mean_models(energy, means, spread)
    return models_from_assignment(energy, statistics, assigned, rows.total / len(X))


# -- the prior -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResolvedPrior:
    """The prior of a Gaussian mixture, as in the constructor, with nothing left to the rows.

    Attributes
    ----------
    concentration, mean_precision, degrees_of_freedom : float
    mean : ndarray of shape (D,)
    covariance : ndarray of the shape of one covariance
    """

    concentration: float
    mean_precision: float
    degrees_of_freedom: float
    mean: Array
    covariance: Array

    def attributes(self) -> dict[str, Any]:
        """Return the prior as fitted attributes, with scikit-learn's names."""
        return {
            "weight_concentration_prior_": self.concentration,
            "mean_precision_prior_": self.mean_precision,
            "mean_prior_": self.mean,
            "degrees_of_freedom_prior_": self.degrees_of_freedom,
            "covariance_prior_": np.asarray(self.covariance),
        }


def conjugate_energy(
    settings: GaussianMixtureSettings, rows: Rows, runner: RowRunner
) -> ConjugateMixture:
    """Return the mixture with its prior; parameters given as None are computed from the rows."""
    form = settings.form(rows.X.shape[1])
    prior = resolved_prior(settings, rows, runner)
    energy = conjugate_gaussian_mixture(
        form.n_components,
        form.n_features,
        form.covariance_type,
        form.equal_weights,
        0.0,  # the prior takes the place of a floor
        concentration=prior.concentration,
        mean_precision=prior.mean_precision,
        mean=prior.mean,
        degrees_of_freedom=prior.degrees_of_freedom,
        covariance=prior.covariance,
        centre=rows.centre,
    )
    return of_rows(energy, rows)


def resolved_prior(
    settings: GaussianMixtureSettings, rows: Rows, runner: RowRunner
) -> ResolvedPrior:
    """Return the prior, with what was given as None computed from the rows."""
    form = settings.form(rows.X.shape[1])
    given, size = settings.given_prior(form.n_features), float(form.n_features)
    dof, covariance = given.degrees_of_freedom, given.covariance
    if covariance is None:
        covariance = _row_covariance(form, rows, runner) / _TYPICAL_COMPONENTS ** (2 / size)
    return ResolvedPrior(
        concentration=given.concentration,
        mean_precision=given.mean_precision,
        mean=rows.centre if given.mean is None else given.mean,
        degrees_of_freedom=size + 2.0 if dof is None else dof,
        covariance=covariance,
    )


def _row_covariance(form: GaussianMixtureForm, rows: Rows, runner: RowRunner) -> Array:
    """Return the covariance of the rows (divisor N) in the given shape.

    Where the rows do not span all columns, a millionth of the mean variance is added to make the
    prior proper.
    """
    shape = form.shape
    single = of_rows(gaussian_mixture(1, form.n_features, form.covariance_type), rows)
    variance = float(np.mean(rows.scale**2))
    if variance == 0:
        raise ValueError(
            "all rows of X are equal, so that the default covariance_prior would be zero; give "
            "covariance_prior, or set model_temperature=0"
        )
    models = nearest_mean_models(single, rows.centre[None, None], variance)
    if rows.incomplete:
        return _fitted_covariance(form, single, models, rows, runner)
    statistics = runner.reduce(single.expectation(models, rows.frame, np.float64, 0.0, 0.0), rows)
    second = statistics.moments.second - statistics.counts.sum() * shape.moment(
        statistics.moments.first / rows.total
    )
    for floor in (0.0, 1e-6 * variance):
        covariance = shape.from_scatter(second, statistics.counts, floor)
        try:
            shape.factorise(covariance)
        except np.linalg.LinAlgError:
            continue
        return covariance[0, 0]
    raise ValueError(
        "the covariance of X, the default of covariance_prior, is singular; drop constant or "
        "linearly dependent columns, or give "
        "covariance_prior"
    )


def _fitted_covariance(
    form: GaussianMixtureForm,
    single: GaussianMixtureEnergy,
    start: MixtureParameters,
    rows: Rows,
    runner: RowRunner,
) -> Array:
    """Return the covariance of a single normal distribution fitted to rows with gaps."""
    single.family.reg_covar = _PRIOR_FLOOR * float(np.mean(rows.scale**2))
    found = expectation_maximisation(
        Objective(single, rows, runner, 1.0), start, tol=1e-6, max_iter=500, dtype=np.float64
    )
    return form.shape.covariances(found.params.components.factors)[0, 0]


def search_rows(
    energy: GaussianMixtureEnergy, rows: Rows, models: MixtureParameters, rng: np.random.Generator
) -> list[Rows]:
    """Return sets of rows whose missing entries are drawn from a mixture of fitted models.

    Searches for allocations look at complete rows, each at a set of its own; their modes are
    improved on the known entries.
    """
    bound = energy.bind(models, rows.frame, np.float64)
    drawn = ConditionalRows(rows.X.astype(np.float64), bound, 1.0).sample(_MOST_SEARCHES, rng)
    return [make_rows(each, rows.weights) for each in drawn]


# -- negative tilts --------------------------------------------------------------------------------


def local_maximum(
    objective: Objective,
    form: GaussianMixtureForm,
    starts: MixtureParameters,
    floor: Array,
    maximise: Callable[..., EMResult],
) -> EMResult:
    """Maximise with a negative tilt, from the maxima without one.

    Without bounds on covariances, a component that shrinks onto a single row has an objective
    without bound, whatever the other rows; ordinary fits are local maxima. So the tilt is reached
    from 0, in one step, or in several where this leads to a collapse.

    Parameters
    ----------
    objective : Objective
        Of a mixture of Gaussians.
    form : GaussianMixtureForm
    starts : MixtureParameters
        S models.
    floor : ndarray of shape (D,)
        What is added to the variance of each feature.
    maximise : callable
        :func:`~skbae.inference.optimise._em.expectation_maximisation`, with settings.

    Returns
    -------
    EMResult
        In which collapsed models have objective minus infinity.

    Raises
    ------
    ValueError
        If all have collapsed.
    """
    quietly = partial(maximise, on_iteration=None)  # only steps with the tilt itself are reported
    plain = quietly(replace(objective, tilt=0.0), starts)
    before = collapsed(form, plain.params, floor, objective.rows)
    for steps in (1, 4):
        params = plain.params
        try:
            for step in range(steps):
                tilted = replace(objective, tilt=objective.tilt * (step + 1) / steps)
                found = (maximise if steps == 1 else quietly)(tilted, params)
                params = found.params
        except ValueError:  # without a floor, the covariance of a collapsed component is singular
            continue
        # where rows depend linearly on each other, fits without a tilt are no better
        lost = collapsed(form, params, floor, objective.rows) & ~before
        if not lost.all():
            return replace(found, objective=np.where(lost, -np.inf, found.objective))
    raise ValueError(
        f"with tilt={objective.tilt:g} all fits end in a component that has collapsed onto few rows"
        ", where the objective has no maximum; choose a tilt closer to 0, fewer n_components, or a "
        "covariance_type with fewer parameters"
    )


def collapsed(
    form: GaussianMixtureForm, params: MixtureParameters, floor: Array, rows: Rows
) -> NDArray[np.bool_]:
    """Return which of S models have a component whose variance is about that of the floor.

    Where nothing is added, the default floor is what a component may not come near to.
    """
    varies = rows.scale > 0
    if not varies.any():
        return np.zeros(params.n_models, dtype=bool)
    shape, floor = form.shape, np.maximum(floor, relative_floor(rows, form.n_components))
    ratios = [
        shape.smallest_ratio(shape.covariances(factors), floor, varies).min()
        for factors in params.components.factors
    ]
    return np.asarray(ratios) < _MOSTLY_FLOOR


# -- floors ----------------------------------------------------------------------------------------


def warn_of_floor(
    settings: GaussianMixtureSettings, params: MixtureParameters, floor: Array, rows: Rows
) -> None:
    """Warn of components whose variance, in some direction, is mostly what was added to it."""
    form = settings.form(rows.X.shape[1])
    # features that are constant in X have no variance anywhere
    varies = rows.scale > 0
    if not (np.all(floor > 0) and varies.any()):
        return
    smallest = form.shape.smallest_ratio(
        form.shape.covariances(params.components.factors[0]), floor, varies
    )
    few = np.flatnonzero(smallest < _MOSTLY_FLOOR)
    if not len(few):
        return
    which = (
        "the common covariance" if form.tied else f"the covariances of components {few.tolist()}"
    )
    given = "" if settings.reg_covar is None else f"={settings.reg_covar:g}"
    advice = (
        "These have collapsed onto few distinct rows, or columns depend linearly on each other in "
        "them: decrease n_components, or choose a covariance_type with fewer parameters."
        if settings.reg_covar is None
        else "Decrease it, or leave it at None, which is relative to the variances of X (the "
        f"smallest standard deviation of a column is {rows.scale[varies].min():.2g})."
    )
    warnings.warn(
        f"{settings.estimator}: reg_covar{given} dominates {which}: in some direction, most of the "
        f"variance is what was added to it. {advice}",
        ConvergenceWarning,
        stacklevel=users_stacklevel(),
    )


# -- columns ---------------------------------------------------------------------------------------


def on_columns_with_density(
    settings: GaussianMixtureSettings, rows: Rows, names: Sequence[str]
) -> tuple[GaussianMixtureSettings, Rows]:
    """Return settings and rows without columns that are constant or affine functions of others.

    A single best model has the floor `reg_covar` of its variances, which is the same for every
    component and number of components, as in scikit-learn: it keeps all columns. Spherical
    components share one variance among columns, so that a repeated column is a heavier one there,
    as in k-means, and not a narrow direction.
    """
    if not settings.samples:
        return settings, rows
    if isinstance(rows.X, RowSource):
        _refuse_without_density(settings, rows, names)
        return settings, rows
    span = column_span(rows, dependent=not settings.spherical)
    if rows.incomplete and not settings.spherical:
        _refuse_dependent(rows, names)
    if span is None:
        return settings, rows
    reduced = make_rows(np.ascontiguousarray(rows.X[:, span.kept]), rows.weights)
    return settings.on_span(span), reduced


def rows_to_sample(rows: Rows) -> Rows:
    """Return rows in memory where they are few, or where sampling needs more of them than passes.

    Raises
    ------
    TypeError
        If rows are those of a dask array that does not fit in.
    """
    X = rows.X
    if not isinstance(X, RowSource):
        return rows
    fractions = rows.weights is not None and bool(np.any(rows.weights != np.round(rows.weights)))
    if X.shape[0] * X.shape[1] > MOST_ALLOCATION_WORK:
        if not (rows.incomplete or fractions):
            return rows
        if isinstance(X, DaskRows):
            what = "missing entries" if rows.incomplete else "a sample_weight of fractions"
            raise TypeError(
                f"X is a dask array, and sampling models with {what} needs all rows in memory; "
                "set model_temperature=0, or give X.compute()"
            )
    return replace(rows, X=next(X.chunks(0, len(X), len(X))))


def _refuse_without_density(
    settings: GaussianMixtureSettings, rows: Rows, names: Sequence[str]
) -> None:
    """Raise ValueError if columns of a table are constant or affine functions of others."""
    varies = columns_that_vary(*extremes(rows.X), rows.scale)
    columns, what = np.flatnonzero(~varies), "constant"
    if varies.all() and not settings.spherical:
        standard = partial(_correlations, rows.centre, rows.scale)
        (products,) = fold(Fold(standard, chunk_of(rows.X.shape[1])), rows.X, rows.weights)
        kept = independent_of(products / rows.total, rows.X.dtype)
        columns, what = np.setdiff1d(np.arange(len(varies)), kept), "affine functions of others"
    if len(columns):
        raise ValueError(
            f"columns of X are {what} ({_listed(columns, names)}): sampling models of a table that "
            "is not in memory needs X without such columns"
        )


def _correlations(
    centre: Array, scale: Array, X: NDArray[Any], weights: Array | None
) -> tuple[Array]:
    """Return the sum of products of standardised columns."""
    rows = (X - centre) / scale
    return (rows.T @ (rows if weights is None else weights[:, None] * rows),)


def _refuse_dependent(rows: Rows, names: Sequence[str]) -> None:
    columns = dependent_columns(rows)
    if len(columns):
        raise ValueError(
            f"columns of X are affine functions of others ({_listed(columns, names)}), and rows "
            "have missing entries: sampling models needs X without such columns"
        )


def warn_of_columns(span: ColumnSpan | None, names: Sequence[str]) -> None:
    """Warn of columns that are left out of the density, by name."""
    if span is None:
        return
    parts = []
    for columns, what in ((span.constant, "constant"), (span.dependent, "determined by others")):
        if len(columns):
            parts.append(f"{what}: {_listed(columns, names)}")
    warnings.warn(
        f"columns of X are left out of the density ({'; '.join(parts)}); the fitted attributes "
        "contain them, and new rows are scored by the other columns",
        UserWarning,
        stacklevel=users_stacklevel(),
    )


def doubts_about_ties(
    settings: GaussianMixtureSettings,
    rows: Rows,
    models: MixtureParameters,
    names: Sequence[str],
) -> list[str]:
    """Return a doubt that names columns of few values whose ties add to the evidence.

    What a component gains that has shrunk onto one value is set by the prior of its variance. A
    user who gives this prior is told so by a warning; the default prior is not meant to decide it,
    which is a reason for doubt.
    """
    form = settings.form(rows.X.shape[1])
    precisions = form.shape.diagonal(form.shape.precisions(models.components.factors))
    shape = (models.n_models, form.n_components, form.n_features)
    counts = rows.total * np.broadcast_to(models.weights, shape[:2])
    some = rows
    if isinstance(rows.X, RowSource):  # gaps between values, as far as some of the rows tell
        step = max(len(rows.X) // _ROWS_WITH_TIES, 1)
        some = replace(rows, X=rows_at(rows.X, np.arange(0, len(rows.X), step)), weights=None)
    gains = gains_from_ties(some, counts, np.broadcast_to(precisions, shape))
    if not gains.sum() >= _GAIN_FROM_TIES:
        return []
    columns = np.flatnonzero(gains >= min(0.5 * _GAIN_FROM_TIES, gains.max()))
    if form.span is not None:
        columns = form.span.kept[columns]
    found = (
        "components have shrunk onto single values of columns with few distinct values "
        f"({_listed(columns, names)}); what that adds to the log evidence, some {gains.sum():.0f} "
        "nats, is set by the prior of their variance"
    )
    if settings.covariance_prior is None:
        return [f"{found}, so that it does not tell how many components there are"]
    warnings.warn(f"{found}, covariance_prior", UserWarning, stacklevel=users_stacklevel())
    return []


def _listed(columns: NDArray[np.intp], names: Sequence[str]) -> str:
    listed = ", ".join(names[j] for j in columns[:_MOST_NAMED])
    more = len(columns) - _MOST_NAMED
    return f"{listed} and {more} more" if more > 0 else listed


def doubts_about_modes(run: SamplingRun) -> list[str]:
    """Return a doubt if the posterior is spread over so many modes that it is more than these.

    Five full components of irises have a log evidence of -321.03 +- .03 by allocations, at T = tau
    = 1, and of -321.26 to -321.35, with errors of .04 to .08, from a dozen modes, nearly all of
    which several starts had found.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> doubts_about_modes(SimpleNamespace(mode_shares=(0.5, 0.4, 0.1)))
    []
    >>> doubts_about_modes(SimpleNamespace(mode_shares=(0.2,) * 5))[0][:53]
    'the posterior is spread over many modes (as many as 5'
    """
    shares = np.array(run.mode_shares)
    shares = shares[shares > 0]
    effective = float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 1.0
    if effective <= _MANY_MODES:
        return []
    return [
        f"the posterior is spread over many modes (as many as {effective:.1f} equal ones; limit "
        f"{_MANY_MODES:g}) and what lies around these may not be all of it: log evidences were .3 "
        "nats too low in such cases"
    ]


# -- results ---------------------------------------------------------------------------------------


def as_models(form: GaussianMixtureForm, params: MixtureParameters) -> GaussianMixtureModels:
    """Return models in the form of the public attribute ``models_``."""
    means, factors = params.components.means, params.components.factors
    covariances = form.shape.covariances(factors)
    if form.span is not None:
        means = form.span.complete(means)
        covariances = form.span.complete_covariances(form.shape, covariances)
        factors = form.span.embed_factors(form.shape, factors)
    if form.tied:
        factors, covariances = factors[:, 0], covariances[:, 0]
    return GaussianMixtureModels(params.weights, means, covariances, factors)


def frame_of(form: GaussianMixtureForm, params: MixtureParameters) -> Frame:
    """Return the mean and standard deviation of each feature under one model."""
    weights, means = params.weights[0], params.components.means[0]
    variances = form.shape.diagonal(form.shape.covariances(params.components.factors[0]))
    centre = weights @ means
    spread = weights @ (means - centre) ** 2
    own = np.broadcast_to(variances, means.shape)
    return Frame(centre, np.sqrt(spread + weights @ own))


def reference_attributes(form: GaussianMixtureForm, params: MixtureParameters) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    models = as_models(form, params)
    factors = params.components.factors
    if form.span is not None:
        factors = form.span.embed_factors(form.shape, factors)
    precisions = form.shape.precisions(factors)
    return {
        "weights_": models.weights[0],
        "means_": models.means[0],
        "covariances_": models.covariances[0],
        "precisions_": (precisions[:, 0] if form.tied else precisions)[0],
        "precisions_cholesky_": models.precisions_cholesky[0],
    }
