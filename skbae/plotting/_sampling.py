"""The verdict of the sampling, and what it rests on."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import PARTICLES, SamplingResult
from skbae.plotting._canvas import NEUTRAL, axes_for, below, colours
from skbae.plotting._subject import fitted_autoencoder

if TYPE_CHECKING:
    from typing import Self

_WIDTH = 76  # characters of a line of text
_MAX_LINES = 8
_LEAST_RANGE = 0.5  # of the axis, in nats: smaller differences are none


class SamplingDisplay:
    """The evidence by each estimate with its error, and the verdict of the sampling.

    Above it are the status, R-hat, the effective number of draws, and the reasons why the status
    is not "ok". The log evidence that the fit reports comes first; a dashed line is what it cannot
    be below, where there is such a bound. Below it are traces of ``Hmaxe``, where draws were kept:
    chains that agree lie on each other, and those with the lowest and the highest mean are among
    them. For these the axes make room.

    Parameters
    ----------
    sampling : SamplingResult

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One for each estimate of the log evidence that is known; bars are standard errors.
    bound_ : matplotlib Line2D or None
        The lower bound.
    title_ : matplotlib Text
        The verdict, R-hat and reasons.
    trace_ax_ : matplotlib Axes or None
        The axes of the traces, below `ax_`.
    traces_ : list of matplotlib Line2D
        One for each chain that is drawn.

    See Also
    --------
    ModelSelectionDisplay : Evidences of several candidates.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.plotting import SamplingDisplay
    >>> model = BayesianGMMAutoEncoder(1, random_state=0).fit(load_iris().data)
    >>> display = SamplingDisplay.from_estimator(model)
    >>> display.title_.get_text().splitlines()[0]
    'Sampling of the models: ok'
    """

    ax_: Any
    figure_: Any
    errorbars_: list[Any]
    bound_: Any
    title_: Any
    trace_ax_: Any
    traces_: list[Any]

    def __init__(self, sampling: SamplingResult) -> None:
        self.sampling = sampling

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the diagnostics of a fit.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skbae whose models were sampled, or a Pipeline or search that ends
            with one.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        SamplingDisplay

        Raises
        ------
        TypeError
            If it is no estimator of skbae.
        ValueError
            If no models were sampled.
        """
        last: Any = fitted_autoencoder(estimator, "SamplingDisplay")
        ax = axes_for(ax, "SamplingDisplay")
        if not hasattr(last, "sampling_"):
            raise ValueError(
                f"SamplingDisplay needs sampled models, and this {type(last).__name__} was fitted "
                "with model_temperature=0: a single best model has no diagnostics"
            )
        return cls(last.sampling_).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the diagnostics.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        SamplingDisplay
            Itself.
        """
        self.ax_ = axes_for(ax, "SamplingDisplay")
        self.figure_ = self.ax_.figure
        self.errorbars_, self.bound_ = [], None
        result = self.sampling
        estimates = {"reported": (result.log_evidence, result.log_evidence_error)}
        estimates |= result.estimates
        known = {name: pair for name, pair in estimates.items() if np.isfinite(pair[0])}
        blue, orange = colours(2)
        for height, (name, (value, error)) in enumerate(known.items()):
            self.errorbars_.append(
                self.ax_.errorbar(
                    value,
                    height,
                    xerr=error if np.isfinite(error) else None,
                    fmt="D" if name == "reported" else "o",
                    color=orange if name == "reported" else blue,
                    capsize=4,
                )
            )
        if known:
            self.ax_.set_yticks(range(len(known)), labels=list(known))
            self.ax_.set_ylim(len(known) - 0.5, -0.5)
            self.ax_.ticklabel_format(axis="x", useOffset=False)
            self.ax_.set_xlabel("log evidence (nats); bars: standard error")
            self._draw_bound()
            ends = [end for value, error in known.values() for end in _ends(value, error)]
            ends += [result.log_evidence_lower_bound] if self.bound_ is not None else []
            low, high = min(ends), max(ends)
            margin = max(0.05 * (high - low), 0.5 * (_LEAST_RANGE - (high - low)))
            self.ax_.set_xlim(low - margin, high + margin)
        else:
            self.ax_.text(
                0.5,
                0.5,
                "this sampler does not estimate the evidence",
                ha="center",
                va="center",
                transform=self.ax_.transAxes,
            )
            self.ax_.set(xticks=[], yticks=[])
        self.title_ = self.ax_.set_title(self._text(), loc="left", fontsize="small")
        self._draw_traces()
        return self

    def _draw_traces(self) -> None:
        self.trace_ax_, self.traces_ = None, []
        trace = self.sampling.trace
        if trace is None:
            return
        self.trace_ax_ = below(self.ax_)
        for chain, colour in zip(trace, colours(len(trace)), strict=True):
            self.traces_ += self.trace_ax_.plot(chain, color=colour, lw=0.8, alpha=0.8)
        self.trace_ax_.set_ylabel("Hmaxe")
        self.trace_ax_.set_xlabel(
            "draws of each island, in no order"
            if self.sampling.method in PARTICLES
            else "draws along each chain"
        )
        self.trace_ax_.ticklabel_format(axis="y", useOffset=False)

    def _draw_bound(self) -> None:
        bound = self.sampling.log_evidence_lower_bound
        if np.isfinite(bound):
            self.bound_ = self.ax_.axvline(bound, color=NEUTRAL, ls="--", label="lower bound")
            self.ax_.legend()

    def _text(self) -> str:
        result = self.sampling
        lines = [
            f"Sampling of the models: {result.status}",
            f"R-hat {_shown(result.rhat, '.3f')}, effective draws {_shown(result.ess, '.0f')}, "
            f"chains {result.n_chains}, modes {result.n_modes} ({result.method})",
        ]
        reasons = [line for reason in result.reasons for line in wrap(f"- {reason}", _WIDTH)]
        if len(reasons) > _MAX_LINES:
            reasons = [*reasons[: _MAX_LINES - 1], "- more: see sampling_.reasons"]
        return "\n".join([*lines, *reasons])


def _ends(value: float, error: float) -> tuple[float, float]:
    """Return the ends of an error bar."""
    error = error if np.isfinite(error) else 0.0
    return value - error, value + error


def _shown(value: float, digits: str) -> str:
    return format(value, digits) if np.isfinite(value) else "not estimated"
