r"""What a family must offer, and what it may.

A family is written against this file alone. It consists of

*parameters*, a frozen :class:`~skbae._types.ArrayRecord`: arrays with a leading axis S, so that
restarts, chains and posterior draws run side by side in one product;

an :class:`Energy`, the family's fixed choices (number of features and codes, constraints,
regularisation) and what follows from parameters alone: drawing data, counting parameters,
adding noise;

a :class:`BoundEnergy`, that energy with parameters filled in and everything derived from them
computed once (natural parameters, log determinants), ready to meet chunks of rows.

Capabilities are abstract classes of their own. An inference algorithm asks for the one it needs
and refuses anything else by name (:func:`require`); it never probes for attributes. They are

:class:`StatisticsEnergy`, for expectation maximisation: the energy is linear in some statistics
of a row once the code is known, so that a pass over the rows only has to add. The pass itself is
a :class:`RowKernel`: the runner (``skbae.inference._rows``) calls ``accumulate`` once a chunk, on
several threads, and merges in a fixed order, so that results do not depend on their number.

To add a family: write parameters, energy and bound energy in one file here; whatever can be
phrased as a mixture of something only needs a ComponentFamily (``_components.py``) and gets the
rest from :class:`skbae.energies._mixture.MixtureEnergy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from skbae._types import Frame

    Array = NDArray[np.float64]

# Bytes of working arrays a chunk may take: about what a core's cache holds.
CHUNK_BYTES = 3 << 20


def chunk_rows(numbers_per_row: int) -> int:
    """Return how many rows to take at once when each needs so many float64 numbers of work space.

    Examples
    --------
    >>> chunk_rows(10), chunk_rows(1_000_000)
    (4096, 64)
    """
    rows = CHUNK_BYTES // (8 * max(numbers_per_row, 1))
    # products want some 256 rows, unless that would leave the outer cache as well
    fewest = 256 if numbers_per_row <= 4096 else 64
    return int(min(4096, max(fewest, rows // 64 * 64)))


class RowKernel(ABC):
    """A sum over rows, chunk by chunk: the E step of expectation maximisation, a Gibbs sweep.

    Implementations hold no state that changes from chunk to chunk: everything that does is in the
    accumulator (one a block of chunks) or in the workspace (one a thread).
    """

    chunk_rows: int
    """How many rows a chunk should have."""

    @abstractmethod
    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        """Return scratch arrays for chunks of up to `n_rows` rows, to be used by one thread.

        `previous` is the workspace of an earlier kernel, to be reused (with the features it
        holds) where it fits.
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
            From :meth:`workspace`. When the same array object `X` comes twice in a row, features
            computed from it may be reused.
        rng : Generator or None
            A source of randomness that belongs to this block of chunks, for sampled codes.
        """

    @abstractmethod
    def merge(self, accumulator: Any, other: Any) -> Any:
        """Return the sum of two accumulators (the first may be reused)."""

    @abstractmethod
    def finish(self, accumulator: Any, total: float) -> Any:
        """Turn the full sum into statistics; `total` is the sum of all weights."""


class BoundEnergy(ABC):
    """An energy with S models filled in, ready to be evaluated on chunks of rows."""

    chunk_rows: int
    """How many rows a chunk should have."""

    @abstractmethod
    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        """Return ``Hmax_T(x, m)``, of shape (S, n), for a chunk of shape (n, D)."""

    @abstractmethod
    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        """Return ``Hmax_T``, of shape (S, n), and its gradient in x, of shape (S, n, D)."""


class Energy(ABC):
    """A family of models: the fixed choices, without parameters.

    Attributes
    ----------
    n_features : int
        D.
    """

    n_features: int

    @abstractmethod
    def bind(self, params: Any, frame: Frame, dtype: Any) -> BoundEnergy:
        """Fill in parameters.

        Parameters
        ----------
        params : ArrayRecord
            S models of this family.
        frame : Frame
            Centre and scale of the data, for numerically sound products.
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
    def convolve(self, params: Any, variance: float) -> Any:
        """Return the models of data to which independent normal noise of `variance` was added."""

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
    """Capability: expectation maximisation."""

    @abstractmethod
    def maximise(self, statistics: Any, params: Any) -> Any:
        """Return the models that maximise the expected energy.

        Parameters
        ----------
        statistics : ArrayRecord
            From the pass of :meth:`expectation`.
        params : ArrayRecord
            The models of that pass; whatever the statistics do not determine (a component that
            received no row) is taken over from them.

        Raises
        ------
        ValueError
            If a maximum does not exist, naming the parameter that would help.
        """

    @abstractmethod
    def interpolate(self, params: Any, statistics: Any, step: Array) -> Any:
        """Return statistics a fraction `step` (S,) of the way from those that `params` expect.

        At 0 :meth:`maximise` gives back `params`, at 1 the full step; between them lies an
        ascent path, which backtracking follows.
        """


class ConjugateEnergy(StatisticsEnergy):
    """Capability: Gibbs sampling at T = tau, by drawing codes and models in turn.

    At equal temperatures the target is ``prior(m) prod_x sum_z exp(H(x, m, z) / T)``: given codes,
    models have a closed *conditional* (an ArrayRecord with the leading axis S), and the rest
    follows from it: Gibbs sweeps, proposals for long jumps, the evidence by bridge sampling.
    """

    @abstractmethod
    def sweep(self, params: Any, frame: Frame, dtype: Any, temperature: float) -> RowKernel:
        """Return the pass that draws codes from ``exp(H / T)`` and collects their statistics.

        Its statistics' ``hmaxe`` is exact, not a draw. Weights of rows must be integers: so many
        codes are drawn for the row.
        """

    @abstractmethod
    def conditional(self, statistics: Any, temperature: float) -> Any:
        """Return ``p(m | X, codes)``, S of them."""

    @abstractmethod
    def draw_conditional(self, conditional: Any, rng: np.random.Generator) -> Any:
        """Draw one model from each conditional."""

    @abstractmethod
    def log_conditional(self, conditional: Any, params: Any) -> Array:
        """Return the log density of S models under M conditionals, (S, M).

        Where the labels of codes are exchangeable, the density is averaged over all relabellings.
        """

    @abstractmethod
    def relabel(self, params: Any, rng: np.random.Generator) -> Any:
        """Return the models with exchangeable labels permuted at random."""

    @abstractmethod
    def log_prior(self, params: Any) -> Array:
        """Return the log prior density, (S,), in the measure of :meth:`log_conditional`."""

    @abstractmethod
    def scores(self, params: Any, statistics: Any, temperature: float, total: float) -> Array:
        """Return the gradient of the log joint density of models and codes drawn with them, (S, P).

        In unconstrained coordinates, so that its expectation over ``p(m)`` is zero ("balance").
        `statistics` are those of :meth:`sweep`, `total` is the sum of all weights. It must not
        rest on :meth:`conditional`, which it checks.
        """

    @abstractmethod
    def draw_prior(self, n_models: int, rng: np.random.Generator) -> Any:
        """Draw models from the prior."""

    @abstractmethod
    def maximise_posterior(self, statistics: Any, temperature: float) -> Any:
        """Return the modes of the conditionals of (soft) statistics: the M step of a MAP fit."""


class GradientEnergy(ExpectationEnergy):
    """Capability: the gradient of the objective in unconstrained coordinates.

    Coordinates theta have shape (S, P). Fisher's identity makes the gradient of ``Hmaxe_T`` (tilted
    or not) a function of the statistics of the pass :meth:`ExpectationEnergy.expectation`.
    """

    @abstractmethod
    def coordinate_kinds(self) -> NDArray[np.intp]:
        """Return a label for each coordinate, (P,); exchangeable coordinates share one.

        Coordinates of one kind (say, all components' mean in one feature) get one step size.
        """

    @abstractmethod
    def unconstrain(self, params: Any) -> Array:
        """Return coordinates (S, P) of models."""

    @abstractmethod
    def constrain(self, theta: Array) -> Any:
        """Return the models at coordinates (S, P)."""

    @abstractmethod
    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density in the coordinates, (S,), and its gradient, (S, P).

        The Jacobian belongs to the prior: the density integrates to one over theta.
        """

    @abstractmethod
    def objective_gradient(self, theta: Array, params: Any, statistics: Any, total: float) -> Array:
        """Return the gradient (S, P) of ``statistics.objective``, given the sum of all weights."""

    @abstractmethod
    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        """Draw coordinates (S, P) of models from the prior."""


class Charts(ABC):
    """Local coordinates around J models, in which the posterior near them is close to normal.

    Every model has coordinates in every chart, and every chart has its own prior density, which
    integrates to one. So a density *relative to the prior* is the same number in all of them, and
    densities that were fitted in different charts can be added.

    The coordinates of a chart, P of them, are B blocks of p, one for each exchangeable part of a
    model (a component), and then e that all parts share. Which part is in which block is a label;
    :meth:`locate` puts every part into every block. Arrays `local` of shape (J, n, P) hold n models
    in each chart, each in its own chart's coordinates.

    Attributes
    ----------
    n_charts, n_blocks, block_size, n_shared : int
        J, B, p and e.
    centres : ndarray of shape (J, P)
        Coordinates of the models the charts were made for, each in its own.
    """

    n_charts: int
    n_blocks: int
    block_size: int
    n_shared: int
    centres: Array

    @abstractmethod
    def take(self, index: Any) -> Charts:
        """Return the charts selected by `index`, a list of integers."""

    @abstractmethod
    def theta_at(self, local: Array) -> Array:
        """Return the energy's coordinates (J n, ...) of models at `local` (J, n, P)."""

    @abstractmethod
    def pull_back(self, local: Array, gradient: Array) -> Array:
        """Turn gradients in the energy's coordinates into those in the charts', (J, n, P)."""

    @abstractmethod
    def log_prior(self, local: Array) -> tuple[Array, Array]:
        """Return the charts' log prior density (J, n) and its gradient (J, n, P)."""

    @abstractmethod
    def locate(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return where models are in all charts.

        Parameters
        ----------
        theta : ndarray
            S models in the energy's coordinates.

        Returns
        -------
        blocks : ndarray of shape (J, B, S, B, p)
            Coordinates in block ``[j, b]`` of part ``[s, c]``.
        log_priors : ndarray of shape (J, B, S, B)
            Prior density of the parts there.
        shared : ndarray of shape (S, e)
        rest : ndarray of shape (S,)
            What is left of the log prior density, the same in all charts.
        """

    @abstractmethod
    def vacancy(self) -> tuple[Array, Array, Array]:
        """Describe a part that explains nothing, and so keeps its prior.

        Returns
        -------
        absent : ndarray of shape (p,)
            A block that takes no share of the rows from the others.
        means, variances : ndarrays of shape (p,)
            Of a block's coordinates under ``p(m)`` while it explains nothing.

        Charts with a single block, which is never vacant, need not have it.
        """


class ChartedEnergy(GradientEnergy):
    """Capability: local coordinates, in which a sampler fits normal densities to modes."""

    @abstractmethod
    def charts(self, params: Any, power: float) -> Charts:
        """Return charts around J models.

        `power` is ``N / tau``, which the objective is multiplied with: a chart may choose what
        becomes of coordinates that are no part of the model (the sum of gamma variables of which
        weights are shares) by how far the data determine the others.
        """


class PartitionEnergy(Energy):
    """Capability: a partition function Z(m) that is met by enumeration or by annealing.

    The path of annealing leads from a base model at ``beta = 0``, whose partition function and
    draws are exact, to a single model at ``beta = 1``. States are what the family makes of them.
    """

    @abstractmethod
    def n_enumerated(self) -> int:
        """Return how many binary units the exact sum runs over."""

    @abstractmethod
    def log_partition(self, params: Any) -> Array:
        """Return the exact log Z of S models, (S,)."""

    @abstractmethod
    def base_log_partition(self, params: Any) -> float:
        """Return the log partition function at ``beta = 0``."""

    @abstractmethod
    def base_states(self, params: Any, n_states: int, rng: np.random.Generator) -> Any:
        """Draw states at ``beta = 0``."""

    @abstractmethod
    def take_states(self, states: Any, index: NDArray[np.intp]) -> Any:
        """Return the states at `index`."""

    @abstractmethod
    def log_ratio(self, params: Any, states: Any, start: float, stop: float) -> Array:
        """Return the change of the states' log weights from one point of the path to another."""

    @abstractmethod
    def anneal(self, params: Any, states: Any, beta: float, rng: np.random.Generator) -> Any:
        """Move states, reversibly with respect to the distribution at `beta`."""


class ContrastiveEnergy(Energy):
    """Capability: stochastic ascent by the contrast of rows and of states of persistent chains.

    Coordinates are a vector theta (P,) of a single model.
    """

    @abstractmethod
    def at(self, theta: Array) -> Any:
        """Return the model at coordinates (P,)."""

    @abstractmethod
    def advance(self, params: Any, chains: Array, rng: np.random.Generator) -> Array:
        """Make a Gibbs step of chains (C, D)."""

    @abstractmethod
    def contrast(
        self, params: Any, X: Array, weights: Array, chains: Array, temperature: float
    ) -> Array:
        """Return a direction (P,) whose expectation is an ascent direction of ``Hmaxe_T``.

        Parameters
        ----------
        params : ArrayRecord
            One model.
        X : ndarray of shape (n, D)
        weights : ndarray of shape (n,)
        chains : ndarray of shape (C, D)
            States drawn from the model.
        temperature : float
        """

    @abstractmethod
    def proper_score(self, params: Any, X: Array) -> Array:
        """Return a score of rows, (n,), that needs no partition function; larger is better."""


def require(energy: Energy, capability: type, algorithm: str) -> None:
    """Raise TypeError unless `energy` has a `capability`, naming what is missing.

    Examples
    --------
    >>> class Silent(Energy):
    ...     bind = draw = convolve = n_parameters = None
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
        raise TypeError(
            f"{algorithm} needs a {capability.__name__}, but {name} lacks {', '.join(missing)}"
        )
