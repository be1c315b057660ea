"""Model selection: scorers and a splitter for GridSearchCV.

========================  =====================================  ===============================
scorer                    score                                  use it with
========================  =====================================  ===============================
`hmaxemax_scorer`         density of rows held out, in nats      any splitter
`evidence_scorer`         evidence of the training rows, in      ``cv=InSample()``
                          nats a row
`reconstruction_scorer`   minus the squared error of a           any splitter
                          reconstruction
========================  =====================================  ===============================

All have scikit-learn's signature ``(estimator, X, y=None)``, larger is better, and they take an
estimator, a Pipeline that ends with one, or a fitted search. They raise ValueError if a score is
not defined. By default GridSearchCV turns exceptions into NaN with a warning; set
``error_score="raise"`` to see them.

**Units.** A density has units: rescaling the columns changes it. To make candidates with different
preprocessing comparable, scores are densities of the rows that enter the Pipeline: the steps before
the last must be an invertible affine map (scalers, rotations, ``"passthrough"``), whose log
determinant is added. With any other step (one that drops dimensions, say) the input rows have no
density, and the scorers raise ValueError. ``make_hmaxemax_scorer(units="model")`` scores the rows
that enter the last step, for candidates with the same preprocessing.

`check_evidences` is no scorer: it says which evidences of a grid of mixtures contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_choice, check_real, check_sample_weight
from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder
from skbae.estimators.gmm._evidences import (
    chance_of_empty_component,
    check_comparable,
    check_has_evidence,
    check_rows,
    log_ratio_if_empty,
    weighted_rows,
)
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


__all__ = [
    "EvidenceCheck",
    "EvidencePair",
    "InSample",
    "check_evidences",
    "evidence_scorer",
    "hmaxemax_scorer",
    "make_hmaxemax_scorer",
    "reconstruction_scorer",
]

# Draws with an empty component from which on the standard error of their share can be believed.
_LEAST_EMPTY = 5.0
# Joint errors by which two evidences may be off, and nats on top of these: the evidence_tol that
# fits stop at.
_CONTRADICTION, _SLACK = 4.0, 0.1

# Largest deviation of a map from an affine one, relative to the range of its values.
_ROUNDING = {np.dtype(np.float64): 1e-7, np.dtype(np.float32): 1e-3}


class HmaxemaxScorer:
    """Scorer returned by :func:`make_hmaxemax_scorer`; it can be pickled."""

    def __init__(self, temperature: float = 1.0, units: str = "input") -> None:
        self.temperature = check_real("temperature", temperature, at_least=0)
        self.units = check_choice("units", units, ("input", "model"))

    def __repr__(self) -> str:
        return f"make_hmaxemax_scorer(temperature={self.temperature!r}, units={self.units!r})"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Return the score of a fitted estimator on rows."""
        steps, last = _unpack(estimator)
        Z = _transform(steps, X)
        by_model = last._density_scores_by_model(Z, self.temperature)
        score = float(log_mean_exp(by_model.mean(axis=1)))
        if self.units == "input":
            score += _log_determinant(steps, X, Z)
        return _finite(score, "hmaxemax_scorer")


_DENSITY = HmaxemaxScorer()


def hmaxemax_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score a fit by the density of rows held out.

    The models are draws ``m_s`` of ``p(m | training rows)`` (one model, if the fit found a single
    best), and the score is ``log mean_s exp(mean_x log p(x | m_s))``: the source of the name,
    Hmaxemax at model temperature N, on the rows given. It is evaluated at T = 1 whatever the
    temperature of the fit, so that fits at different temperatures compare.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, a Pipeline that ends with one (its other steps an
        invertible affine map: see this module's introduction), or a fitted search.
    X : array-like of shape (n_samples, n_features)
        Rows held out.
    y : Ignored

    Returns
    -------
    float
        In nats a row and in the units of X. ``-inf`` for a model without a density: a continuous
        code fitted at ``temperature=0``.

    Raises
    ------
    TypeError
        If the estimator is not one of this package.
    ValueError
        If the score is NaN, or if the steps before the last are not an invertible affine map.

    See Also
    --------
    make_hmaxemax_scorer : The same at another temperature, or in the model's own units.
    evidence_scorer : The evidence of the training rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV, KFold
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.model_selection import hmaxemax_scorer
    >>> X = load_iris().data
    >>> search = GridSearchCV(
    ...     BayesianGMMAutoEncoder(model_temperature=0, n_init=5, random_state=0),
    ...     {"n_components": [1, 3], "covariance_type": ["spherical", "tied"]},
    ...     scoring=hmaxemax_scorer,
    ...     cv=KFold(5, shuffle=True, random_state=0),  # KFold alone does not shuffle
    ...     error_score="raise",
    ... ).fit(X)
    >>> search.best_params_
    {'covariance_type': 'tied', 'n_components': 3}
    """
    return _DENSITY(estimator, X, y)


def make_hmaxemax_scorer(temperature: float = 1.0, units: str = "input") -> HmaxemaxScorer:
    """Return a scorer like :func:`hmaxemax_scorer` at another temperature or in other units.

    Parameters
    ----------
    temperature : float, default=1.0
        Temperature T of ``log mean_s exp(Hmaxe_T(m_s, X))``. Only at 1 is it a density; at 0 it
        scores the best code alone. Scores at different T do not compare.
    units : {"input", "model"}, default="input"
        Whether to score the input rows of a Pipeline, or the rows that enter its last step. The
        latter is for candidates with the same preprocessing only.

    Returns
    -------
    HmaxemaxScorer
        A callable ``(estimator, X, y=None)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.model_selection import hmaxemax_scorer, make_hmaxemax_scorer
    >>> X = np.random.default_rng(0).normal(scale=100.0, size=(200, 1))
    >>> pipeline = make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(model_temperature=0))
    >>> pipeline = pipeline.fit(X)
    >>> inside = make_hmaxemax_scorer(units="model")(pipeline, X)
    >>> difference = inside - hmaxemax_scorer(pipeline, X)
    >>> bool(np.isclose(difference, np.log(X.std())))
    True
    """
    return HmaxemaxScorer(temperature, units)


def evidence_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score a fit by the evidence of its own training rows, ``log p(X) / N``.

    No rows need to be held out, since the evidence averages over models instead of selecting the
    best; with ``cv=InSample()`` each candidate takes one fit. The value is the fit's ``hmaxemax_``,
    plus the log determinant of the Pipeline's other steps, so it is in the units of X. Times N,
    differences of two candidates are log Bayes factors (at ``model_temperature=1``);
    ``hmaxemax_error_`` is the standard error.

    The evidence depends on the prior as well as the family, so candidates should have the same
    prior. Default priors depend on the data and may depend on the family: the ``covariance_prior``
    of a mixture decreases with the number of components, which favours many components if clusters
    are much narrower than the spread of all rows.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, a Pipeline that ends with one (its other steps an
        invertible affine map: see this module's introduction), or a fitted search. Fitted with
        ``temperature=1``, ``tilt=0`` and ``model_temperature`` above 0 (the same in all candidates:
        values at different model temperatures do not compare).
    X : array-like of shape (n_samples, n_features)
        The rows that the estimator was fitted to, in any order.
    y : Ignored

    Returns
    -------
    float
        In nats a row.

    Raises
    ------
    TypeError
        If the estimator is not one of this package.
    ValueError
        If X are not the training rows, if ``temperature`` is not 1 or ``tilt`` not 0, if models
        were not sampled, or if sampling failed.

    See Also
    --------
    InSample : The splitter to use.
    hmaxemax_scorer : The density of rows held out.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.model_selection import InSample, evidence_scorer
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-5, 1, (30, 1)), rng.normal(5, 1, (30, 1))])
    >>> search = GridSearchCV(
    ...     BayesianGMMAutoEncoder(covariance_prior=[[1.0]], random_state=0),
    ...     {"n_components": [1, 2, 3]},
    ...     scoring=evidence_scorer,
    ...     cv=InSample(),
    ...     refit=False,
    ...     error_score="raise",
    ... ).fit(X)
    >>> search.best_params_
    {'n_components': 2}
    """
    steps, last = _unpack(estimator)
    check_is_fitted(last)
    name = type(last).__name__
    if last._fitted.temperature != 1 or last._fitted.tilt != 0:
        raise ValueError(
            "evidence_scorer needs temperature=1 and tilt=0, since others are not comparable; "
            f"this {name} was fitted with temperature={last._fitted.temperature:g} and "
            f"tilt={last._fitted.tilt:g}. Use hmaxemax_scorer on rows held out instead."
        )
    if last._fitted.model_temperature == 0:
        raise ValueError(
            f"evidence_scorer needs sampled models, and this {name} was fitted with "
            "model_temperature=0. Set model_temperature=1, or use hmaxemax_scorer on rows held out."
        )
    Z = _transform(steps, X)
    if not last._was_fitted_to(Z):
        raise ValueError(
            f"evidence_scorer needs the training rows, and X has other rows than this {name} was "
            "fitted to. Use cv=InSample(), or hmaxemax_scorer on rows held out."
        )
    if not hasattr(last, "log_evidence_"):
        raise ValueError(
            f"the evidence of this {name} is not available: its models are sampled around one "
            "optimum only, which does not determine the evidence. Use hmaxemax_scorer on rows held "
            "out."
        )
    sampling = last.sampling_
    if sampling.status == "failed":
        raise ValueError(
            f"evidence_scorer needs a reliable evidence, and sampling the models of this {name} "
            f"failed: {'; '.join(sampling.reasons)}. {last._settings_class.sampling_advice} or use "
            "hmaxemax_scorer on rows held out."
        )
    score = float(last.hmaxemax_) + _log_determinant(steps, X, Z)
    return _finite(score, "evidence_scorer")


def reconstruction_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score a fit by minus the mean squared error of its reconstructions.

    Rows are encoded and decoded by ``inverse_transform(transform(X))``, through all steps of a
    Pipeline, so the error is in squared units of X. It compares models of any kind and temperature,
    those of other packages too. Codes of more dimensions or components reconstruct better.

    Parameters
    ----------
    estimator : object
        Anything fitted that has ``transform`` and ``inverse_transform``.
    X : array-like of shape (n_samples, n_features)
    y : Ignored

    Returns
    -------
    float
        ``-mean (X - reconstruction)^2`` over all entries.

    Raises
    ------
    TypeError
        If the estimator, or a step of it, has no ``inverse_transform``.
    ValueError
        If the score is NaN.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import cross_validate
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.model_selection import hmaxemax_scorer, reconstruction_scorer
    >>> X = load_iris().data
    >>> scores = cross_validate(
    ...     BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0),
    ...     X,
    ...     scoring={"density": hmaxemax_scorer, "reconstruction": reconstruction_scorer},
    ...     error_score="raise",
    ... )
    >>> bool(scores["test_reconstruction"].max() < 0)
    True
    >>> round(reconstruction_scorer(PCA(4).fit(X), X), 6) == 0  # four of four columns
    True
    """
    missing = [each for each in ("transform", "inverse_transform") if not hasattr(estimator, each)]
    if missing:
        raise TypeError(
            f"reconstruction_scorer needs transform and inverse_transform, and "
            f"{type(estimator).__name__} (or one of its steps) lacks {' and '.join(missing)}"
        )
    reconstruction = np.asarray(estimator.inverse_transform(estimator.transform(X)), np.float64)
    difference = np.asarray(X, dtype=np.float64) - reconstruction
    return _finite(-float(np.mean(difference**2)), "reconstruction_scorer")


class InSample:
    """Splitter with one split, whose train and test are all rows.

    For scores that hold nothing out, such as :func:`evidence_scorer`.

    Examples
    --------
    >>> from skbae.model_selection import InSample
    >>> [(train.tolist(), test.tolist()) for train, test in InSample().split([[1.0], [2.0], [3.0]])]
    [([0, 1, 2], [0, 1, 2])]
    """

    def __repr__(self) -> str:
        return "InSample()"

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1.

        Parameters
        ----------
        X, y, groups : Ignored

        Returns
        -------
        int
        """
        return 1

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the indices of all rows, twice.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y, groups : Ignored

        Yields
        ------
        train, test : ndarrays of int of shape (n_samples,)
        """
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        yield np.arange(n_rows), np.arange(n_rows)


# -- evidences that contradict each other ----------------------------------------------------------


@dataclass(frozen=True)
class EvidencePair:
    """Evidences of K - 1 and K components, against empty components under K.

    Attributes
    ----------
    n_components : tuple of int
        (K - 1, K).
    reported, reported_error : float
        ``log Z_{K-1} - log Z_K`` of the two fits, and its standard error.
    expected, expected_error : float
        The same by the draws of the larger mixture, and its standard error.
    limits : tuple of float
        What the difference cannot be below or above. Each is wrong with a chance of less than one
        in 10,000, however few of the draws have an empty component.
    n_empty : float
        Draws that have a given component empty, on average, which `expected` rests on.
    """

    n_components: tuple[int, int]
    reported: float
    reported_error: float
    expected: float
    expected_error: float
    limits: tuple[float, float]
    n_empty: float

    @property
    def gap(self) -> float:
        """The reported minus the expected difference, in units of their joint error."""
        joint = float(np.hypot(self.reported_error, self.expected_error))
        return (self.reported - self.expected) / joint if joint > 0 else 0.0

    @property
    def informative(self) -> bool:
        """Whether enough draws have an empty component for `expected_error` to mean something.

        Where not, only `limits` count.
        """
        return self.n_empty >= _LEAST_EMPTY

    @property
    def consistent(self) -> bool:
        """False if the two evidences contradict each other."""
        slack = _CONTRADICTION * self.reported_error + _SLACK
        if not self.limits[0] - slack <= self.reported <= self.limits[1] + slack:
            return False
        joint = float(np.hypot(self.reported_error, self.expected_error))
        off = abs(self.reported - self.expected)
        return not self.informative or off <= _CONTRADICTION * joint + _SLACK

    @property
    def verdict(self) -> str:
        """``"consistent"``, ``"contradiction"`` or ``"not informative"``."""
        if not self.consistent:
            return "contradiction"
        return "consistent" if self.informative else "not informative"


@dataclass(frozen=True)
class EvidenceCheck:
    """Result of :func:`check_evidences`.

    Attributes
    ----------
    pairs : tuple of EvidencePair
        For rising numbers of components.
    """

    pairs: tuple[EvidencePair, ...]

    @property
    def consistent(self) -> bool:
        """Whether no evidences contradict each other."""
        return not self.contradictions

    @property
    def contradictions(self) -> tuple[tuple[int, int], ...]:
        """Pairs of numbers of components whose evidences contradict each other."""
        return tuple(pair.n_components for pair in self.pairs if not pair.consistent)

    def __str__(self) -> str:
        lines = [
            "log evidence of K - 1 components minus that of K",
            f"{'K-1, K':>7s} {'reported':>18s} {'expected':>18s} {'limits':>20s}  verdict",
        ]
        for pair in self.pairs:
            reported = f"{pair.reported:.2f} +- {pair.reported_error:.2f}"
            expected = f"{pair.expected:.2f} +- {pair.expected_error:.2f}"
            limits = f"{pair.limits[0]:.2f} to {pair.limits[1]:.2f}"
            gap = f" (gap of {pair.gap:.1f} errors)" if pair.informative else ""
            lines.append(
                f"{pair.n_components[0]:>4d}, {pair.n_components[1]:<d} {reported:>18s} "
                f"{expected if pair.informative else '-':>18s} {limits:>20s}  {pair.verdict}{gap}"
            )
        return "\n".join(lines)


def check_evidences(
    fitted_estimators: Sequence[Any], X: Any, sample_weight: Any = None
) -> EvidenceCheck:
    """Say which evidences of mixtures with K, K + 1, ... components contradict each other.

    The posterior probability that a given one of K components has no rows is ``Z_{K-1} / Z_K``
    times a known number (Nobile 2004, 2007): each fit's draws say what the smaller mixture's
    evidence must be. This shares nothing with how evidences are estimated, and takes no fit.

    Where K components are much better than K - 1, none is ever empty, and the pair is "not
    informative": then there are only limits, of which the upper one always exists (the evidence
    of K components cannot be far below that of K - 1). More draws (`n_models`) say more.

    Parameters
    ----------
    fitted_estimators : sequence
        At least two fitted BayesianGMMAutoEncoder, Pipelines that end with one, or fitted searches,
        in any order, whose numbers of components follow on each other. All else must be equal: the
        rows, as they enter the last step; the covariance type; and the prior of a component. Their
        models must be sampled at ``model_temperature`` equal to ``temperature``, without a tilt.
    X : array-like of shape (n_samples, n_features)
        The training rows, which fits do not keep: the probability that a component has none of
        them is computed anew from the draws.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Those of the fits.

    Returns
    -------
    EvidenceCheck
        To be printed; its `contradictions` name the pairs.

    Raises
    ------
    TypeError
        If an estimator is no mixture of Gaussians.
    ValueError
        If there are fewer than two, or numbers of components do not follow on each other; if X are
        not the training rows; if fits have no evidence, or differ in anything but `n_components`.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.model_selection import check_evidences
    >>> X = np.random.default_rng(0).normal(size=(40, 1))
    >>> fits = [
    ...     BayesianGMMAutoEncoder(k, covariance_prior=[[1.0]], random_state=0).fit(X)
    ...     for k in (1, 2)
    ... ]
    >>> check_evidences(fits, X).consistent
    True
    >>> fits[1].log_evidence_ -= 3.0
    >>> check_evidences(fits, X).contradictions
    ((1, 2),)
    """
    pairs = [_unpack(each, "check_evidences") for each in fitted_estimators]
    if len(pairs) < 2:
        raise ValueError(f"check_evidences needs at least two fitted estimators, got {len(pairs)}")
    fits: list[BayesianGMMAutoEncoder] = []
    for _, last in pairs:
        if not isinstance(last, BayesianGMMAutoEncoder):
            raise TypeError(
                "check_evidences needs mixtures of Gaussians (BayesianGMMAutoEncoder), got "
                f"{type(last).__name__}"
            )
        check_is_fitted(last)
        check_has_evidence(last)
        fits.append(last)
    fits.sort(key=lambda fitted: fitted.models_.weights.shape[1])
    sizes = [fitted.models_.weights.shape[1] for fitted in fits]
    if any(more != fewer + 1 for fewer, more in pairwise(sizes)):
        raise ValueError(
            "check_evidences needs numbers of components that follow on each other, each once, got "
            f"{sizes}"
        )
    for steps, last in pairs:
        Z = last._read(_transform(steps, X))
        rows = weighted_rows(Z, check_sample_weight(sample_weight, len(Z)))
        for fitted in (last, fits[0]):  # both, since steps before the last may differ
            check_rows(fitted, Z, rows)
    checked = []
    for fewer, more in pairwise(fits):
        check_comparable(fewer, more, rows)
        chance, ratio = chance_of_empty_component(more, rows), log_ratio_if_empty(more, rows)
        errors = [fitted.sampling_.log_evidence_error for fitted in (fewer, more)]
        checked.append(
            EvidencePair(
                n_components=(len(fewer.weights_), len(more.weights_)),
                reported=float(fewer.log_evidence_ - more.log_evidence_),
                reported_error=float(np.hypot(*errors)),
                expected=chance.log_mean - ratio,
                expected_error=chance.error,
                limits=(chance.log_limits[0] - ratio, chance.log_limits[1] - ratio),
                n_empty=chance.n_empty,
            )
        )
    return EvidenceCheck(tuple(checked))


# -- Pipelines -------------------------------------------------------------------------------------


def _unpack(estimator: Any, caller: str = "this scorer") -> tuple[list[Any], BayesianAutoEncoder]:
    """Return the transformers in front of an autoencoder, and the autoencoder."""
    steps = []
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                steps.append(estimator[:-1])
            estimator = estimator[-1]
        else:
            break
    if not isinstance(estimator, BayesianAutoEncoder):
        raise TypeError(
            f"{caller} needs an estimator of skbae, or a Pipeline that ends with one, got "
            f"{type(estimator).__name__}"
        )
    return steps, estimator


def _transform(steps: list[Any], X: Any) -> Any:
    for step in steps:
        X = step.transform(X)
    return X


def _log_determinant(steps: list[Any], X: Any, Z: Any) -> float:
    """Return log |dz/dx| of steps that make an invertible affine map, or raise ValueError.

    The map is computed from its values at points around the rows, and checked at the rows.
    """
    if not steps:
        return 0.0
    rows, image = np.asarray(X), np.asarray(Z, dtype=np.float64)
    rounding = _ROUNDING.get(rows.dtype, _ROUNDING[np.dtype(np.float64)])
    rows = rows.astype(np.float64)
    size = rows.shape[1]
    what = "density scorers need the steps before the last to be an invertible affine map, but they"
    instead = (
        "For candidates that share their preprocessing, transform the rows beforehand or score "
        'with make_hmaxemax_scorer(units="model")'
    )
    if image.shape != rows.shape:
        shown = image.shape[1:] or "a scalar"
        raise ValueError(f"{what} turn {size} columns into {shown[0]}. {instead}.")
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale == 0] = 1.0
    points = np.vstack([centre, centre + np.diag(scale)])
    if hasattr(X, "iloc"):  # pandas: steps may ask for columns by name
        points = type(X)(points, columns=X.columns)
    mapped = np.asarray(_transform(steps, points), dtype=np.float64)
    slopes = (mapped[1:] - mapped[0]) / scale[:, None]
    deviation = np.abs(mapped[0] + (rows - centre) @ slopes - image).max(axis=0)
    spread = np.abs(image - image.mean(axis=0)).max(axis=0) + np.abs(image).max(axis=0)
    if not np.all(deviation <= rounding * np.maximum(spread, np.finfo(float).tiny)):
        raise ValueError(f"{what} are not affine. {instead}.")
    sign, log_det = np.linalg.slogdet(slopes)
    if sign == 0 or not np.isfinite(log_det):
        raise ValueError(f"{what} are singular. {instead}.")
    return float(log_det)


def _finite(score: float, name: str) -> float:
    """Return the score, or raise ValueError if it is NaN or plus infinity."""
    if np.isnan(score) or score == np.inf:
        raise ValueError(f"{name} is {score}; check X for missing or infinite values")
    return score
