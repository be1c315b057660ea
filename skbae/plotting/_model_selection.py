"""Scores of a grid search, with error bars."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.plotting._canvas import NEUTRAL, axes_for, colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from skbae._types import Array

_LOG_RANGE = 50.0  # ratios of positive values beyond which their axis is logarithmic
_MAX_TICKS = 12


class ModelSelectionDisplay:
    """Scores of the candidates of a grid search, with error bars.

    Parameters
    ----------
    values : list
        The value of the parameter on the axis, for each candidate.
    scores, errors : ndarrays of shape (n_candidates,)
        Errors are NaN where none are known.
    groups : list of str
        What is written of the other parameters of each candidate; empty if there are none.
    param, score_name : str
        Names of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One for each combination of the other parameters.
    best_ : matplotlib Line2D
        The ring around the best score.
    n_left_out_ : int
        Candidates without a finite score, which are not drawn.

    See Also
    --------
    skbae.model_selection : Scorers for grid searches.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV, KFold
    >>> from skbae import BayesianPCAAutoEncoder
    >>> from skbae.model_selection import hmaxemax_scorer
    >>> from skbae.plotting import ModelSelectionDisplay
    >>> search = GridSearchCV(
    ...     BayesianPCAAutoEncoder(model_temperature=0),
    ...     {"n_components": [1, 2, 3]},
    ...     scoring=hmaxemax_scorer,
    ...     cv=KFold(5, shuffle=True, random_state=0),
    ... ).fit(load_iris().data)
    >>> display = ModelSelectionDisplay.from_cv_results(search.cv_results_)
    >>> display.ax_.get_xlabel()
    'n_components'
    """

    ax_: Any
    figure_: Any
    errorbars_: list[Any]
    best_: Any
    n_left_out_: int

    def __init__(
        self,
        values: Sequence[Any],
        scores: Array,
        errors: Array,
        *,
        groups: Sequence[str],
        param: str,
        score_name: str,
    ) -> None:
        self.values = values
        self.scores = scores
        self.errors = errors
        self.groups = groups
        self.param = param
        self.score_name = score_name

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Any,
        *,
        param: str | None = None,
        score: str | None = None,
        error: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the mean test scores of a search.

        Parameters
        ----------
        cv_results : dict or fitted search
            ``search.cv_results_``, or the search.
        param : str or None, default=None
            The parameter on the axis; its last part will do (``"n_components"``). None stands for
            the one that differs between candidates, or the only numeric one of these. Each
            combination of the others is a line of its own.
        score : str or None, default=None
            The score, if the search has several.
        error : str or None, default=None
            Of a search with several scores, the one that is the standard error of `score`, such as
            ``hmaxemax_error_`` with ``evidence_scorer``. None stands for the standard error of the
            mean over splits, if there are at least two; splits share training rows, so that it is
            a rough one.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        ModelSelectionDisplay

        Raises
        ------
        ValueError
            If there is no such parameter or score, it must be named, or no score is finite.
        """
        table = _table(cv_results)
        ax = axes_for(ax, "ModelSelectionDisplay")
        score = _check_score(score, table, "score")
        params: list[dict[str, Any]] = list(table["params"])
        differing = {
            name: [each.get(name) for each in params]
            for name in dict.fromkeys(name for each in params for name in each)
        }
        differing = {
            name: values
            for name, values in differing.items()
            if len({repr(value) for value in values}) > 1 or name == param
        }
        chosen = _check_param(param, differing)
        others = [name for name in differing if name != chosen]
        groups = [
            ", ".join(f"{_last_part(name)}={each.get(name)}" for name in others) for each in params
        ]
        return cls(
            differing[chosen],
            np.asarray(table[f"mean_test_{score}"], dtype=np.float64),
            _errors(table, score, error),
            groups=groups if others else [],
            param=_last_part(chosen),
            score_name=score.replace("_", " "),
        ).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        ModelSelectionDisplay
            Itself.
        """
        finite = np.isfinite(self.scores)
        if not finite.any():
            raise ValueError(
                "no candidate has a finite score: fit the search with error_score='raise' to see "
                "why (models without a density score -inf)"
            )
        self.ax_ = axes_for(ax, "ModelSelectionDisplay")
        self.figure_ = self.ax_.figure
        self.n_left_out_ = int((~finite).sum())
        at = self._positions()
        groups = np.array(self.groups or [""] * len(self.scores), dtype=object)
        labels = list(dict.fromkeys(groups[finite]))
        self.errorbars_ = []
        for label, colour in zip(labels, colours(len(labels)), strict=True):
            own = np.flatnonzero(finite & (groups == label))
            own = own[np.argsort(at[own], kind="stable")]
            known = np.where(np.isfinite(self.errors[own]), self.errors[own], 0.0)
            bars = self.ax_.errorbar(
                at[own],
                self.scores[own],
                known if known.any() else None,
                fmt="o-",
                ms=5,
                capsize=3,
                color=colour,
                label=label or None,
            )
            self.errorbars_.append(bars)
        best = int(np.argmax(np.where(finite, self.scores, -np.inf)))
        (self.best_,) = self.ax_.plot(
            at[best], self.scores[best], "o", ms=13, mfc="none", mec=NEUTRAL, mew=2, label="best"
        )
        named = self.errorbars_ if self.groups else []
        handles = [*named, self.best_]
        if self.n_left_out_:
            candidates = "candidate" if self.n_left_out_ == 1 else "candidates"
            label = f"{self.n_left_out_} {candidates} without a finite score"
            handles += self.ax_.plot([], [], " ", label=label)
        self.ax_.set(xlabel=self.param, ylabel=self.score_name)
        self.ax_.legend(handles=handles)
        return self

    def _positions(self) -> Array:
        """Return where the candidates are on the axis, and name the values there."""
        if all(isinstance(value, Real) and not isinstance(value, bool) for value in self.values):
            at = np.array([float(value) for value in self.values])
            ticks = np.unique(at)
            if ticks[0] > 0 and ticks[-1] / ticks[0] > _LOG_RANGE:
                self.ax_.set_xscale("log")
            elif len(ticks) <= _MAX_TICKS:
                self.ax_.set_xticks(ticks)
            return at
        names = [str(value) for value in self.values]
        distinct = list(dict.fromkeys(names))
        self.ax_.set_xticks(range(len(distinct)), labels=distinct)
        return np.array([float(distinct.index(name)) for name in names])


def _table(cv_results: Any) -> Mapping[str, Any]:
    table = getattr(cv_results, "cv_results_", cv_results)
    if not hasattr(table, "keys") or "params" not in table:
        raise TypeError(
            "cv_results must be the cv_results_ of a search, or a fitted search, got "
            f"{type(cv_results).__name__}"
        )
    return table


def _scores(table: Mapping[str, Any]) -> list[str]:
    start = "mean_test_"
    return [name.removeprefix(start) for name in table if name.startswith(start)]


def _check_score(score: str | None, table: Mapping[str, Any], what: str) -> str:
    """Return the name of a score of the search, or raise ValueError with those that there are."""
    names = _scores(table)
    if score is None and len(names) == 1:
        return names[0]
    if score is None or score not in names:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, names))}, got {score!r}")
    return score


def _errors(table: Mapping[str, Any], score: str, error: str | None) -> Array:
    """Return standard errors of the mean scores; NaN where there are none."""
    if error is not None:
        name = _check_score(error, table, "error")
        return np.asarray(table[f"mean_test_{name}"], dtype=np.float64)
    deviations = np.asarray(table[f"std_test_{score}"], dtype=np.float64)
    n_splits = sum(name.startswith("split") and name.endswith(f"_test_{score}") for name in table)
    if n_splits < 2:
        return np.full(len(deviations), np.nan)
    return deviations / np.sqrt(n_splits - 1)  # deviations have the divisor n_splits


def _check_param(param: str | None, differing: Mapping[str, list[Any]]) -> str:
    """Return the full name of the parameter on the axis, or raise ValueError."""
    if param is None:
        numeric = [
            name
            for name, values in differing.items()
            if all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
        ]
        found = list(differing) if len(differing) == 1 else numeric
    else:
        found = [name for name in differing if name == param or _last_part(name) == param]
    if len(found) != 1:
        names = ", ".join(map(repr, differing)) or "none"
        raise ValueError(
            f"param must name one of the parameters that differ between candidates, {names}, got "
            f"{param!r}"
        )
    return found[0]


def _last_part(name: str) -> str:
    return name.rsplit("__", 1)[-1]
