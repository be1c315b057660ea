r"""Abstract classes of a family: its energy, and the capabilities that algorithms ask for.

A family depends on this file alone. It consists of

*parameters*, a frozen :class:`~skbae._types.ArrayRecord`: arrays with a leading axis S, so that all
restarts, chains or posterior draws are computed in one matrix product;

an :class:`Energy`, the family's fixed choices (number of features and codes, constraints,
regularisation) and what follows from parameters alone: drawing data, counting parameters;

a :class:`BoundEnergy`, that energy with parameters filled in and everything derived from them
computed once (natural parameters, log determinants), to be evaluated on chunks of rows.

Capabilities are further abstract classes. An inference algorithm asks for the one it needs by
:func:`require`, which raises TypeError naming the missing methods; it never tests for attributes.
The first is

:class:`StatisticsEnergy`, for expectation maximisation: the energy is linear in some statistics
of a row given the code, so that a pass over the rows only adds these up. The pass is a
:class:`RowKernel`: the runner (``inference/passes/_rows.py``) calls ``accumulate`` for each chunk,
in several threads, and merges in a fixed order, so that results do not depend on the number of
threads.

The capabilities that samplers need are in ``_capabilities.py``.

To add a family, write parameters, energy and bound energy in a folder beside this file. A mixture
of new components only needs a ComponentFamily (``mixture/_components.py``) and inherits the rest
from :class:`skbae.energies.mixture._energy.MixtureEnergy`; components that are linear in features
of a row need about fifty lines (``mixture/_exponential.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from skbae._types import Array, Frame, Rows


# Largest size in bytes of the working arrays of a chunk, about that of a core's cache.
CHUNK_BYTES = 3 << 20


def chunk_rows(numbers_per_row: int) -> int:
    """Return the number of rows of a chunk, given the float64 numbers of work space of each row.

    Examples
    --------
    >>> chunk_rows(10), chunk_rows(1_000_000)
    (4096, 64)
    """
    rows = CHUNK_BYTES // (8 * max(numbers_per_row, 1))
    # matrix products are efficient from about 256 rows on; fewer if these would not fit the cache
    fewest = 256 if numbers_per_row <= 4096 else 64
    return int(min(4096, max(fewest, rows // 64 * 64)))


class RowKernel(ABC):
    """A sum over rows, chunk by chunk: the E step of expectation maximisation, a Gibbs sweep.

    Implementations have no state that changes from chunk to chunk: such state is in the accumulator
    (one for each block of chunks) or in the workspace (one for each thread).
    """

    chunk_rows: int
    """Number of rows of a chunk."""

    @abstractmethod
    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        """Return scratch arrays for chunks of up to `n_rows` rows, to be used by one thread.

        `previous` is the workspace of an earlier kernel, which is used again, with the features it
        holds, if it has the right shape.
        """

    @abstractmethod
    def zero(self) -> Any:
        """Return an empty accumulator."""

    @abstractmethod
    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        """Add a chunk's contribution to `accumulator`, in place.

        Parameters
        ----------
        accumulator : object
            From :meth:`zero`.
        X : ndarray of shape (n, D)
        weights : ndarray of shape (n,) or None
            Weights of the rows; None stands for ones.
        workspace : object
            From :meth:`workspace`. If two successive calls have the same array object `X`, features
            computed from it may be used again.
        rng : Generator or None
            The generator of this block of chunks, for drawing codes.
        """

    @abstractmethod
    def merge(self, accumulator: Any, other: Any) -> Any:
        """Return the sum of two accumulators (the first may be reused)."""

    @abstractmethod
    def finish(self, accumulator: Any, total: float) -> Any:
        """Turn the full sum into statistics; `total` is the sum of all weights."""

    def condensed(self, rows: Rows) -> tuple[RowKernel, Rows]:
        """Return a kernel and rows with the same statistics, which repeated passes read faster.

        For kernels that draw no codes.
        """
        return self, rows


class DerivedKernel(RowKernel):
    """A pass whose statistics are turned into something else at the end.

    Parameters
    ----------
    kernel : RowKernel
    derive : callable
        ``derive(statistics, total)`` returns what :meth:`finish` returns.
    """

    def __init__(self, kernel: RowKernel, derive: Callable[[Any, float], Any]) -> None:
        self.kernel, self.derive = kernel, derive
        self.chunk_rows = kernel.chunk_rows

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return self.kernel.workspace(n_rows, previous)

    def zero(self) -> Any:
        return self.kernel.zero()

    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        self.kernel.accumulate(accumulator, X, weights, workspace, rng)

    def merge(self, accumulator: Any, other: Any) -> Any:
        return self.kernel.merge(accumulator, other)

    def finish(self, accumulator: Any, total: float) -> Any:
        return self.derive(self.kernel.finish(accumulator, total), total)


class BoundEnergy(ABC):
    """An energy with the parameters of S models, to be evaluated on chunks of rows."""

    chunk_rows: int
    """Number of rows of a chunk."""

    @abstractmethod
    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        """Return ``Hmax_T(x, m)``, of shape (S, n), for a chunk of shape (n, D)."""


class SmoothBoundEnergy(BoundEnergy):
    """Capability: the gradient of ``Hmax_T`` in x, for rows of real numbers."""

    @abstractmethod
    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        """Return ``Hmax_T``, of shape (S, n), and its gradient in x, of shape (S, n, D)."""


class EnumerableBoundEnergy(BoundEnergy):
    """Capability: the energies of all codes, where these are finitely many."""

    @abstractmethod
    def code_energies(self, X: NDArray[Any]) -> Array:
        """Return ``H(x, m, z)`` of every code z, of shape (S, K, n), for a chunk of rows.

        Raises
        ------
        ValueError
            If codes are continuous, or too many.
        """


class Energy(ABC):
    """A family of models: the fixed choices, without parameters.

    An energy serves codes at any temperature T: methods whose result depends on T take it as an
    argument. ``Objective`` stores it.

    Attributes
    ----------
    n_features : int
        D.
    """

    n_features: int

    @abstractmethod
    def bind(self, params: Any, frame: Frame, dtype: Any) -> BoundEnergy:
        """Return the energy with the parameters of S models.

        Parameters
        ----------
        params : ArrayRecord
            S models of this family.
        frame : Frame
            Centre and scale of the data, by which rounding errors of products are kept small.
        dtype : dtype
            float32 allows, but does not force, products in single precision.

        Returns
        -------
        BoundEnergy
        """

    @abstractmethod
    def draw(
        self, params: Any, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        """Draw ``(X, codes)`` from the density at T = 1, each row from a model chosen at random."""

    @abstractmethod
    def n_parameters(self) -> int:
        """Return the number of free parameters of one model, as AIC and BIC count them."""


class ExpectationEnergy(Energy):
    """Capability: statistics of the rows under codes ``p_T(z | x, m)``, in one pass.

    The statistics are an :class:`~skbae._types.ArrayRecord` with fields ``objective`` and
    ``hmaxe`` of shape (S,) among others: the tilted and the plain mean of ``Hmax_T`` under the
    models the pass was made with.
    """

    @abstractmethod
    def expectation(
        self, params: Any, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> RowKernel:
        """Return the pass that collects statistics under the codes ``p_T(z | x, m)``."""


class StatisticsEnergy(ExpectationEnergy):
    """Capability: expectation maximisation.

    Attributes
    ----------
    exact_moments : bool
        Whether the statistics that a maximum expects of itself are those it is the maximum for, as
        in exponential families.
    """

    exact_moments: bool = False

    @abstractmethod
    def maximise(self, statistics: Any, params: Any, temperature: float) -> Any:
        """Return the models that maximise the expected energy at T.

        Parameters
        ----------
        statistics : ArrayRecord
            From the pass of :meth:`expectation`.
        params : ArrayRecord
            The models of that pass; what the statistics do not determine (a component without
            rows) is copied from them.
        temperature : float
            T.

        Raises
        ------
        ValueError
            If no maximum exists; the message names the parameters to change.
        """

    @abstractmethod
    def interpolate(self, params: Any, statistics: Any, step: Array, temperature: float) -> Any:
        """Return statistics between those expected by `params` (step 0) and those given (step 1).

        `step` has shape (S,). At 0 :meth:`maximise` returns `params`, at 1 it makes the full step.
        For small steps the objective increases, so that backtracking ends.
        """


Capability = TypeVar("Capability")


def require(energy: object, capability: type[Capability], algorithm: str) -> Capability:
    """Return the energy if it has a `capability`; else raise TypeError naming the missing methods.

    Bound energies, families of components and their kernels are checked in the same way.

    Examples
    --------
    >>> class Silent(Energy):
    ...     bind = draw = n_parameters = None
    >>> require(Silent(), StatisticsEnergy, "Gibbs")
    Traceback (most recent call last):
    TypeError: Gibbs needs a StatisticsEnergy, but Silent lacks expectation, interpolate, maximise
    """
    if not isinstance(energy, capability):
        name = type(energy).__name__
        missing = sorted(
            method
            for method in getattr(capability, "__abstractmethods__", ())
            if not hasattr(energy, method)
        )
        lacks = ", ".join(missing) or f"{capability.__name__} among its bases"
        article = "an" if capability.__name__[0] in "AEIOU" else "a"
        raise TypeError(
            f"{algorithm} needs {article} {capability.__name__}, but {name} lacks {lacks}"
        )
    return energy
