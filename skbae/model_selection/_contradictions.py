"""Evidences of mixtures that contradict each other: what empty components say about them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skbae._report import html_report, html_table, number
from skbae.estimators._checks import check_sample_weight
from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder
from skbae.estimators.gmm._evidences import (
    chance_of_empty_component,
    check_comparable,
    check_has_evidence,
    check_rows,
    log_ratio_if_empty,
    weighted_rows,
)
from skbae.model_selection._pipelines import transform_rows, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

# Draws with an empty component from which on the standard error of their share can be believed.
_LEAST_EMPTY = 5.0
# Two evidences contradict each other if they are off by more than so many joint errors, and nats on
# top of these: the evidence_tol that fits stop at.
_CONTRADICTION, _SLACK = 4.0, 0.1


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

    def _repr_html_(self) -> str:
        """Return the pairs as HTML, which notebooks show."""
        status = "ok" if self.consistent else "failed"
        reasons = [
            f"the evidences of {low} and {high} components contradict each other"
            for low, high in self.contradictions
        ]
        columns = {
            "K - 1, K": [f"{low}, {high}" for low, high in (p.n_components for p in self.pairs)],
            "reported": [number(p.reported, p.reported_error) for p in self.pairs],
            "expected": [
                number(p.expected, p.expected_error) if p.informative else "-" for p in self.pairs
            ],
            "limits": [f"{number(p.limits[0])} to {number(p.limits[1])}" for p in self.pairs],
            "verdict": [p.verdict for p in self.pairs],
        }
        title = "Log evidence of K - 1 components minus that of K"
        return html_report(title, status, reasons, {}, html_table(columns))


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
    pairs = [unpack(each, "check_evidences") for each in fitted_estimators]
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
        Z = last._read_rows(transform_rows(steps, X))
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
