"""Shared vocabulary: the axis legend, containers of arrays, frozen results.

Axes have one letter each, in shapes and in code:

======  ==============================================================
``S``   models held side by side: restarts, chains or posterior draws
``N``   rows of ``X`` (``n`` for the rows of one chunk)
``D``   features
``K``   components of a mixture
``d``   dimensions of a continuous code
``C``   covariances: ``K``, or 1 where all components share one
======  ==============================================================

Kernels work on chunks laid out features first, ``(D, n)``, so that every inner loop runs over
contiguous rows; the public interface has rows first, as everywhere in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skbae._report import html_report, number, svg_lines, text_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

Array: TypeAlias = NDArray[np.float64]
"""An array of float64, the type of nearly all numbers here."""

FloatArray: TypeAlias = NDArray[Any]
"""An array of float64 or float32: the networks compute in either precision."""


@dataclass(frozen=True)
class ArrayRecord:
    """Base of frozen dataclasses whose fields are arrays (or records) with a leading axis S."""

    def take(self, index: Any) -> Self:
        """Return the models selected by `index` (an integer array, a mask or a slice)."""
        return replace(self, **{f.name: _take(getattr(self, f.name), index) for f in fields(self)})

    def put(self, index: NDArray[np.intp], other: Self) -> Self:
        """Return a copy in which the models at `index` are those of `other`."""
        values: dict[str, Any] = {}
        for f in fields(self):
            value, new = getattr(self, f.name), getattr(other, f.name)
            if isinstance(value, ArrayRecord):
                values[f.name] = value.put(index, new)
            else:
                values[f.name] = value.copy()
                values[f.name][index] = new
        return replace(self, **values)

    @property
    def n_models(self) -> int:
        """Length of the leading axis S."""
        value = getattr(self, fields(self)[0].name)
        return value.n_models if isinstance(value, ArrayRecord) else len(value)

    @classmethod
    def concatenate(cls, records: Sequence[Self]) -> Self:
        """Join records along the axis S."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            parts = [getattr(record, f.name) for record in records]
            if isinstance(parts[0], ArrayRecord):
                values[f.name] = type(parts[0]).concatenate(parts)
            else:
                values[f.name] = np.concatenate(parts)
        return cls(**values)


def _take(value: Any, index: Any) -> Any:
    return value.take(index) if isinstance(value, ArrayRecord) else value[index]


@dataclass(frozen=True)
class Rows:
    """Training rows as the inference layer sees them.

    Attributes
    ----------
    X : ndarray of shape (N, D), or a table of this shape that is read piece by piece
        Sums over a table are those of ``inference/passes/_sources.py``.
    weights : ndarray of shape (N,) or None
        Positive weights of the rows; None stands for ones.
    total : float
        Sum of the weights.
    centre, scale : ndarrays of shape (D,)
        Weighted mean and standard deviation of the columns: the frame in which kernels compute.
    incomplete : bool
        Whether entries of X are missing, NaN; centre and scale are those of the known ones.
    memo : dict
        What functions of the rows have computed and keep for their next call.
    """

    X: Any
    weights: Array | None
    total: float
    centre: Array
    scale: Array
    incomplete: bool = field(default=False, kw_only=True)
    memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def frame(self) -> Frame:
        """The rows' centre and scale."""
        return Frame(self.centre, self.scale)


@dataclass(frozen=True)
class Frame:
    """Mean and standard deviation of the rows, both of shape (D,).

    Kernels subtract `centre` before they form products, and compare `scale` with a model's
    precisions to bound the rounding error of those products.
    """

    centre: Array
    scale: Array


@dataclass(frozen=True)
class EMResult:
    """Result of expectation maximisation from S starts.

    Attributes
    ----------
    params : ArrayRecord
        The models after the last step.
    objective, hmaxe : ndarrays of shape (S,)
        The tilted mean that was maximised and the plain mean ``Hmaxe_T``, at `params`.
    history : list of ndarrays of shape (S,)
        The objective after 0, 1, ... steps.
    n_iter : ndarray of int of shape (S,)
    converged : ndarray of bool of shape (S,)
    """

    params: Any
    objective: Array
    hmaxe: Array
    history: list[Array]
    n_iter: NDArray[np.intp]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class TemperedPath:
    """Log evidence and mean objective at J decreasing model temperatures on a sampler's path.

    Attributes
    ----------
    model_temperatures : ndarray of shape (J,)
    log_evidence : ndarray of shape (J, I)
        Of the target at each temperature, by each of I islands.
    objective : ndarray of shape (J, I)
        Mean objective under each target.
    """

    model_temperatures: Array
    log_evidence: Array
    objective: Array


@dataclass(frozen=True)
class TemperedPoint:
    """What a sampler's path found at a model temperature that it was asked to visit.

    Attributes
    ----------
    share : float
        Of ``N / tau`` at the end of the path.
    internal_energy : float
        Mean of ``Hmaxe`` over ``p(m)``.
    sampling : SamplingResult
    """

    share: float
    internal_energy: float
    sampling: SamplingResult

    def shifted(self, shift: float, power: float) -> TemperedPoint:
        """Return the point with larger energies, given ``N / tau`` at the end of the path."""
        log_evidence = self.sampling.log_evidence + self.share * power * shift
        sampling = replace(self.sampling, log_evidence=log_evidence)
        return replace(self, internal_energy=self.internal_energy + shift, sampling=sampling)


@dataclass(frozen=True)
class SamplingRun:
    """Result of a sampler of ``p(m)``: draws, traces and independent estimates of the evidence.

    Attributes
    ----------
    params : ArrayRecord
        Models kept, spread over chains and time, each as probable as any other.
    hmaxe : ndarray of shape (S, T)
        The objective (``Hmaxe_T``, or its tilted counterpart) along S chains.
    scores : ndarray of shape (S, T, P)
        Total gradients of the log target along the chains, whose expectation is zero.
    log_evidence, log_evidence_error : ndarrays of shape (I,)
        ``log of the integral of prior(m) exp((N / tau) Hmaxe)`` by each of I >= 2 independent
        islands, and their own standard errors; empty where a sampler can't estimate it.
    acceptance : float
        Share of proposed moves that were accepted.
    stopped : bool
        Whether a callback ended the run early.
    method : str
    n_sweeps : int
        Steps made by each chain.
    path : TemperedPath or None
        For samplers that start at higher model temperatures.
    doubts : tuple of str
        Reasons to doubt the result that the sampler itself found.
    estimates : dict
        From the name of a way to estimate the log evidence to its value and standard error; empty
        where there is one way only.
    log_evidence_lower_bound : float
        A rigorous lower bound of the log evidence; NaN where there is none.
    first_share : float
        Effective share of the draws from the proposal that the run started from; NaN if there was
        none.
    first_shape : float
        Shape of the generalised Pareto tail of the weights of draws from that proposal; minus
        infinity where they hardly vary.
    n_modes : int
        Modes, or groups of modes that chains travel between, that draws come from.
    mode_shares : tuple of float
        Shares of the evidence of modes that were sampled one by one; empty where they were not.
    hmaxe_spread : ndarray of shape (S, T) or float
        Variance of ``Hmaxe_T`` given what its trace is a mean over; 0 where the trace is of models.
    points : tuple of TemperedPoint
        Model temperatures that the path was asked to visit, in falling order.
    notes : tuple of str
        What the result does not say, however well the chains agree.
    witnesses : ndarray of shape (S, T, k) or None
        Functions of the models along the chains by which these are judged in place of `hmaxe`, if
        there are any.
    """

    params: Any
    hmaxe: Array
    scores: Array
    log_evidence: Array
    log_evidence_error: Array
    acceptance: float
    stopped: bool
    method: str
    n_sweeps: int
    path: TemperedPath | None = None
    doubts: tuple[str, ...] = ()
    estimates: dict[str, tuple[float, float]] = field(default_factory=dict)
    log_evidence_lower_bound: float = float("nan")
    n_modes: int = 1
    mode_shares: tuple[float, ...] = ()
    first_share: float = float("nan")
    first_shape: float = float("-inf")
    hmaxe_spread: Array | float = 0.0
    points: tuple[TemperedPoint, ...] = ()
    notes: tuple[str, ...] = ()
    witnesses: Array | None = None

    @property
    def judged(self) -> list[Array]:
        """What convergence is judged by, each of shape (S, T): `hmaxe`, or the witnesses."""
        if self.witnesses is None or not self.witnesses.shape[2]:
            return [self.hmaxe]
        return list(np.moveaxis(self.witnesses, 2, 0))


PARTICLES = ("smc", "nested", "modes")
"""Methods whose draws are particles, which have no order within their island."""


@dataclass(frozen=True)
class SamplingResult:
    """Diagnostics of the sampling of ``p(m)``.

    Attributes
    ----------
    method : str
        ``"gibbs"``, ``"allocations"`` (chains of allocations from the modes that searches found),
        ``"smc"`` (tempered from the prior), ``"nested"`` (weighed and moved draws of a fitted
        density), ``"modes"`` (annealed from normal
        densities fitted to modes), ``"langevin"`` (steps on batches around the best model) or
        ``"closed form"``.
    n_chains, n_sweeps : int
        Chains (or islands of particles), and the steps made by each.
    rhat : float
        R-hat of ``Hmaxe`` over the chains: 1 when they agree. Split R-hat; of 64 chains and more,
        only differences between chains that persist count.
    ess : float
        Effective number of independent draws of ``Hmaxe``.
    log_evidence, log_evidence_error : float
        ``log of the integral of prior(m) exp((N / tau) Hmaxe)``, and its standard error; NaN where
        the sampler can't estimate it.
    balance : float
        Root mean square, over coordinates, of the mean total gradient in units of its Monte Carlo
        error: about 1, since the expectation is zero.
    acceptance : float
        Share of the proposed long moves that were accepted; NaN where all moves are.
    status : {"ok", "suspect", "failed"}
    reasons : tuple of str
        Why the status is not ``"ok"``, and what even an ``"ok"`` does not say.
    log_evidence_lower_bound : float
        What the log evidence cannot be below; NaN where there is no such bound.
    n_modes : int
        Modes, or groups of modes that chains travel between, that the draws come from.
    estimates : dict
        From the name of a way to estimate the log evidence to its value and standard error.
    hmaxe_error, hmaxe_variance, hmaxe_variance_error : float
        Standard error of the mean of ``Hmaxe`` over ``p(m)`` (of its tilted counterpart where there
        is a tilt), its variance, and the standard error of this. Times ``(N / tau)^2`` the variance
        is the heat capacity of the models.
    points : tuple of TemperedPoint
        What a sampler that starts at the prior found at model temperatures it was asked to visit.
    trace : ndarray of shape (S, T) or None
        ``Hmaxe`` (or its tilted counterpart) of at most 200 draws along at most six chains, those
        with the lowest and the highest mean among them; of particles, which have no order, S counts
        islands. Where chains were compared within groups of modes, groups are moved to a common
        mean. None where nothing was drawn.
    """

    method: str
    n_chains: int
    n_sweeps: int
    rhat: float
    ess: float
    log_evidence: float
    log_evidence_error: float
    balance: float
    acceptance: float
    status: str
    reasons: tuple[str, ...]
    log_evidence_lower_bound: float = float("nan")
    n_modes: int = 1
    estimates: dict[str, tuple[float, float]] = field(default_factory=dict)
    hmaxe_error: float = float("nan")
    hmaxe_variance: float = float("nan")
    hmaxe_variance_error: float = float("nan")
    points: tuple[TemperedPoint, ...] = ()
    trace: Array | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return text_report("Sampling of the models", self.status, self.reasons, self._facts())

    def _repr_html_(self) -> str:
        """Return the diagnostics as HTML, which notebooks show."""
        name = "Hmaxe of draws of each " + (
            "island" if self.method in PARTICLES else "chain, in turn"
        )
        picture = "" if self.trace is None else svg_lines(self.trace, name)
        return html_report(
            "Sampling of the models", self.status, self.reasons, self._facts(), picture
        )

    def _facts(self) -> dict[str, str]:
        """Return what is shown beside the status, as texts by name."""
        facts = {
            "log evidence": number(self.log_evidence, self.log_evidence_error),
            "method": self.method,
            "chains": str(self.n_chains),
            "sweeps": str(self.n_sweeps),
            "R-hat": number(self.rhat),
            "effective draws": number(self.ess),
            "modes": str(self.n_modes),
        }
        if not np.isnan(self.log_evidence_lower_bound):
            facts["log evidence is at least"] = number(self.log_evidence_lower_bound)
        for name, (value, error) in self.estimates.items():
            facts[f"log evidence ({name})"] = number(value, error)
        if self.trace is not None and np.isfinite(self.trace).all():
            low, high = self.trace.min(axis=1), self.trace.max(axis=1)
            middle = self.trace.mean(axis=1)
            facts["Hmaxe of draws"] = f"{number(low.min())} to {number(high.max())}"
            facts["means of chains"] = f"{number(middle.min())} to {number(middle.max())}"
        return facts
