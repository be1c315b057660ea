"""Scorers of fits: density of rows held out, evidence of training rows, reconstruction."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_choice, check_real
from skbae.model_selection._pipelines import log_determinant, transform_rows, unpack
from skbae.operators._tempered import log_mean_exp


class HmaxemaxScorer:
    """Scorer returned by :func:`make_hmaxemax_scorer`; it can be pickled."""

    def __init__(self, temperature: float = 1.0, units: str = "input") -> None:
        self.temperature = check_real("temperature", temperature, at_least=0)
        self.units = check_choice("units", units, ("input", "model"))

    def __repr__(self) -> str:
        return f"make_hmaxemax_scorer(temperature={self.temperature!r}, units={self.units!r})"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Return the score of a fitted estimator on rows."""
        steps, last = unpack(estimator)
        Z = transform_rows(steps, X)
        by_model = last._density_scores_by_model(Z, self.temperature)
        score = float(log_mean_exp(by_model.mean(axis=1)))
        if self.units == "input":
            score += log_determinant(steps, X, Z)
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
    prior. Default priors depend on the data. They do not depend on the number of components of a
    mixture.

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
    steps, last = unpack(estimator)
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
    Z = transform_rows(steps, X)
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
    score = float(last.hmaxemax_) + log_determinant(steps, X, Z)
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
        ``-mean (X - reconstruction)^2`` over all known entries.

    Raises
    ------
    TypeError
        If the estimator, or a step of it, has no ``inverse_transform``.
    ValueError
        If the score is NaN, or columns hold categories, which have no squared error.

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
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, BayesianAutoEncoder):
        last._check_reconstructions("reconstruction_scorer")
    reconstruction = np.asarray(estimator.inverse_transform(estimator.transform(X)), np.float64)
    difference = np.asarray(X, dtype=np.float64) - reconstruction
    known = ~np.isnan(np.asarray(X, dtype=np.float64))
    error = np.mean(np.square(difference), where=known) if known.any() else 0.0
    return _finite(-float(error), "reconstruction_scorer")


def _finite(score: float, name: str) -> float:
    """Return the score, or raise ValueError if it is NaN or plus infinity."""
    if np.isnan(score) or score == np.inf:
        raise ValueError(f"{name} is {score}; check X for missing or infinite values")
    return score
