"""Capabilities of energies beyond expectation maximisation, which samplers and other fits need.

An algorithm asks for one of these classes by :func:`~skbae.energies._base.require`:

:class:`StartableEnergy`, for models to start fits from; :class:`DecodableEnergy`, for rows given
codes; :class:`ParameterGradientEnergy`, for gradients in a model's parameters;
:class:`SplittableEnergy` and :class:`MeltingEnergy`, for critical temperatures;
:class:`NoisyEnergy`, for removing noise;
:class:`ConjugateEnergy`, for Gibbs sampling at T = tau; :class:`GradientEnergy`, for tempered
sampling at any temperatures; :class:`ChartedEnergy`, for sampling from modes;
:class:`PinnableEnergy`, for sampling mixtures of components that are no conjugate ones;
:class:`NestedPosterior`, for sampling few coordinates and the other parameters given these;
:class:`PartitionEnergy` and :class:`ContrastiveEnergy`, for models whose partition function may
have too many terms to sum; :class:`MinibatchEnergy`, for fits to batches of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import Energy, ExpectationEnergy, StatisticsEnergy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from numpy.typing import DTypeLike, NDArray

    from skbae._types import Array, FloatArray, Frame, Rows
    from skbae.energies._allocations import CollapsedModel, Labels
    from skbae.energies._base import RowKernel
    from skbae.energies._distribution import DistributionWithDensity


class ParameterGradientEnergy(Energy):
    """Capability: the gradient of ``Hmaxe_T`` in a model's own parameters.

    :class:`GradientEnergy` has it in the coordinates of samplers, which depend on the prior.
    """

    @abstractmethod
    def gradient_kernel(self, params: Any, frame: Frame, temperature: float) -> RowKernel:
        """Return the pass that computes the gradient of ``Hmaxe_T``, by Fisher's identity.

        Its result is a dict from names of parameters, as public models have them, to gradients of
        the parameters' shapes with a leading axis S (lists of these where a parameter is a list of
        arrays). Parameters that a constraint ties have their gradient projected on the directions
        in which they may move: weights whose sum is 1, orthonormal directions, symmetric matrices.
        """


@dataclass(frozen=True)
class Splits:
    """Where the components of a mixture split.

    Attributes
    ----------
    temperatures : ndarray of shape (K,)
        Below which a component's two halves move apart.
    shares : ndarray of shape (K,)
        Of all rows, by their codes.
    centres : ndarray of shape (K, D)
        Mean row of each component; NaN where it has none.
    halves : tuple of K callables
        ``halves[k](params, step)`` returns a single model with the two halves of component k moved
        apart by `step`, in units of the component's own scale: the first in its place, the second
        after all others.
    """

    temperatures: Array
    shares: Array
    centres: Array
    halves: tuple[Callable[[Any, float], Any], ...]


class SplittableEnergy(StatisticsEnergy):
    """Capability: mixtures whose components split as the temperature falls."""

    n_components: int

    @abstractmethod
    def critical_splits(
        self, params: Any, X: Array, weights: Array | None, frame: Frame, temperature: float
    ) -> Splits:
        """Return where the components of a single model split, given rows (N, D)."""

    @abstractmethod
    def single(self, params: Any) -> Any:
        """Return one of a model's components as a mixture of its own."""

    @abstractmethod
    def resized(self, n_components: int) -> Self:
        """Return the energy of mixtures of another number of components."""


class MeltingEnergy(Energy):
    """Capability: directions of a continuous code that melt as the temperature rises."""

    @abstractmethod
    def melting_temperatures(self, X: Array, weights: Array | None) -> tuple[Array, Array]:
        """Return the variances of rows along the directions, and where these melt, both (d,)."""


class NoisyEnergy(Energy):
    """Capability: models of data to which normal noise was added, for rows of real numbers."""

    @abstractmethod
    def convolve(self, params: Any, variance: float) -> Any:
        """Return the models of data to which independent normal noise of `variance` was added."""


class IncompleteEnergy(Energy):
    """Capability: rows with missing entries, NaN, of which the energy is that of the known ones.

    Missing entries are integrated out at T = 1 given the code. The energy of a row without any is
    that of the complete row.
    """

    @abstractmethod
    def of_incomplete_rows(self) -> Self:
        """Return the energy of such rows; for complete rows the plain one is faster."""


class SparseEnergy(Energy):
    """Capability: rows of which only the entries that are not zero are kept."""

    @abstractmethod
    def of_sparse_rows(self) -> Self:
        """Return the energy of such rows, whose kernels take sparse chunks."""


class StartableEnergy(Energy):
    """Capability: models to start fits from, given the rows."""

    @abstractmethod
    def starts(self, X: Array, weights: Array, n_starts: int, rng: np.random.Generator) -> Any:
        """Return S = `n_starts` models for distinct rows (N, D) of positive weights (N,)."""


class DecodableEnergy(Energy):
    """Capability: the distribution of rows given a distribution over finitely many codes."""

    @abstractmethod
    def decode(self, params: Any, probabilities: Array, frame: Frame) -> DistributionWithDensity:
        """Return the rows of a single model, given probabilities of its codes (N, K)."""


class ConjugateEnergy(StatisticsEnergy):
    """Capability: Gibbs sampling at T = tau, by drawing codes and models in turn.

    At equal temperatures the target is ``prior(m) prod_x sum_z exp(H(x, m, z) / T)``: given codes,
    models have a *conditional* density in closed form (an ArrayRecord with the leading axis S), on
    which Gibbs sweeps, proposals of Metropolis-Hastings steps and bridge sampling are based.
    """

    @abstractmethod
    def sweep(self, params: Any, frame: Frame, dtype: Any, temperature: float) -> RowKernel:
        """Return the pass that draws codes from ``exp(H / T)`` and collects their statistics.

        The ``hmaxe`` of the statistics is exact, not estimated from the draws. Weights of rows must
        be integers: a row gets as many draws as its weight.
        """

    @abstractmethod
    def conditional(self, statistics: Any, temperature: float) -> Any:
        """Return ``p(m | X, codes)`` for S sets of codes."""

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
        `statistics` are those of :meth:`sweep`, `total` is the sum of all weights. It must not use
        :meth:`conditional`, since it serves as a check of it.
        """

    @abstractmethod
    def draw_prior(self, n_models: int, rng: np.random.Generator) -> Any:
        """Draw models from the prior."""

    @abstractmethod
    def maximise_posterior(self, statistics: Any, temperature: float) -> Any:
        """Return the modes of the conditionals given expected statistics: the M step of a MAP fit.

        Modes are those of the density over coordinates in which a mode always exists, such as the
        logarithms of weights and scales: see :meth:`log_mode_measure`.
        """

    @abstractmethod
    def log_mode_measure(self, params: Any) -> Array:
        """Return the log Jacobian of the parameters by the coordinates of the mode, (S,).

        Added to :meth:`log_prior` it gives the density over the coordinates of
        :meth:`maximise_posterior`.
        """


class CollapsibleEnergy(ConjugateEnergy):
    """Capability: categorical codes whose joint density with the rows is closed.

    The models are integrated out, which leaves the codes: an algorithm moves these, and draws
    models from their conditionals.
    """

    @abstractmethod
    def collapse(self, X: Array, temperature: float) -> CollapsedModel:
        """Return the energy on rows (N, D) with its models integrated out."""

    @abstractmethod
    def allocation_size(self) -> float:
        """Return about how many operations a row takes in a look at one allocation."""

    @abstractmethod
    def conditional_of(self, counts: Array, moments: Any, temperature: float) -> Any:
        """Return ``p(m | X, z)`` of allocations with such counts (S, K) and moments."""

    @abstractmethod
    def allocated(self, counts: Array, moments: Any) -> Any:
        """Return such counts and moments as the statistics of a pass; the objectives are zero."""

    @abstractmethod
    def joint(self, params: Any, X: Array, frame: Frame) -> Array:
        """Return ``H(x, m, z)`` of S models, (S, K, n), for a chunk of rows (n, D)."""


class GradientEnergy(ExpectationEnergy):
    """Capability: the gradient of the objective in unconstrained coordinates.

    Coordinates theta have shape (S, P). By Fisher's identity the gradient of ``Hmaxe_T`` (tilted or
    not) is a function of the statistics from :meth:`ExpectationEnergy.expectation`.
    """

    force_dtype: DTypeLike = np.float64
    """Precision of the gradients along a trajectory, whose end is judged in double precision."""

    @abstractmethod
    def coordinate_kinds(self) -> NDArray[np.intp]:
        """Return a label for each coordinate, (P,); exchangeable coordinates share one.

        Coordinates with the same label, such as the means of all components in one feature, share
        one step size.
        """

    @abstractmethod
    def unconstrain(self, params: Any) -> Array:
        """Return coordinates (S, P) of models."""

    @abstractmethod
    def constrain(self, theta: Array) -> Any:
        """Return the models at coordinates (S, P)."""

    @abstractmethod
    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density over the coordinates, (S,), and its gradient, (S, P).

        It includes the Jacobian, so that the density integrates to one over theta.
        """

    @abstractmethod
    def objective_gradient(
        self, theta: Array, params: Any, statistics: Any, total: float, temperature: float
    ) -> Array:
        """Return the gradient (S, P) of ``statistics.objective``.

        Parameters
        ----------
        theta : ndarray of shape (S, P)
        params : ArrayRecord
            The same models.
        statistics : ArrayRecord
            From the pass of :meth:`expectation` with these models.
        total : float
            Sum of the weights of all rows.
        temperature : float
            T, of that pass.
        """

    @abstractmethod
    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        """Draw coordinates (S, P) of models from the prior."""


class Proposal(ABC):
    """Draws of all of a model that its coordinates do not say, with a known density.

    It may have more coordinates, C, than the posterior it proposes for.

    Attributes
    ----------
    n_numbers : int
        Independent standard normal numbers, Q, that the rest of a model is made of.
    """

    n_numbers: int

    @abstractmethod
    def embed(self, centre: Array, axes: Array) -> tuple[Array, Array]:
        """Return the proposal's own coordinates of a fit to the posterior's.

        Parameters
        ----------
        centre : ndarray of shape (P,)
        axes : ndarray of shape (P, P)
            In rows, of a deviation's length.

        Returns
        -------
        centre : ndarray of shape (C,)
        axes : ndarray of shape (C, C)
            Those of which only the direction is known have NaN where it is not zero.
        """

    @abstractmethod
    def log_ratio(self, theta: Array, numbers: Array) -> Array:
        """Return the log of the joint density over that of the rest given the coordinates, (S,).

        ``-inf`` where it is not finite. Over all numbers, its exponential is the marginal density
        of the coordinates on average.

        Parameters
        ----------
        theta : ndarray of shape (S, C)
        numbers : ndarray of shape (S, Q)
        """

    @abstractmethod
    def objective(self, theta: Array, numbers: Array) -> tuple[Array, Array]:
        """Return ``Hmaxe_T`` (S,), and numbers (S, B) whose expectation over ``p(m)`` is zero."""

    def spread(self, theta: Array, numbers: Array) -> Array | float:
        """Return the variance of ``Hmaxe_T`` given these, where `objective` is a mean, (S,)."""
        return 0.0

    @abstractmethod
    def models(self, theta: Array, numbers: Array, rng: np.random.Generator) -> Any:
        """Return the models, an ArrayRecord; what neither says is drawn given the rest."""


class NestedPosterior(ABC):
    """``p(m)`` as a density of few coordinates, and of the rest of a model given those.

    Attributes
    ----------
    n_coordinates : int
        P.
    """

    n_coordinates: int

    @abstractmethod
    def starts(self) -> Array:
        """Return coordinates (S, P) from which modes are searched."""

    @abstractmethod
    def approximate(self, theta: Array) -> Array:
        """Return about the log of the marginal density of coordinates (S, P), unnormalised, (S,).

        Its integral is about the evidence.
        """

    @abstractmethod
    def proposal(self, theta: Array) -> Proposal:
        """Return the proposal of the rest, for coordinates about theta, (P,)."""


class Charts(ABC):
    """Local coordinates around J models, in which the posterior near them is close to normal.

    Every model has coordinates in every chart, and every chart has its own prior density, which
    integrates to one. A density *relative to the prior* has the same value in all charts, so that
    densities fitted in different charts can be added.

    The P coordinates of a chart are B blocks of p coordinates, one for each exchangeable component
    of a model, and then e coordinates that all components share. The assignment of components to
    blocks is a labelling; :meth:`locate` computes the coordinates of every component in every
    block. Arrays `local` of shape (J, n, P) hold n models in each chart, in the coordinates of that
    chart.

    Attributes
    ----------
    n_charts, n_blocks, block_size, n_shared : int
        J, B, p and e.
    centres : ndarray of shape (J, P)
        Coordinates of the models around which the charts were made, each in its own chart.
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
        """Return the coordinates of models in all charts.

        Parameters
        ----------
        theta : ndarray
            S models in the energy's coordinates.

        Returns
        -------
        blocks : ndarray of shape (J, B, S, B, p)
            Coordinates in block ``[j, b]`` of component ``[s, c]``.
        log_priors : ndarray of shape (J, B, S, B)
            Log prior density of the components in these coordinates.
        shared : ndarray of shape (S, e)
        rest : ndarray of shape (S,)
            The remaining terms of the log prior density, the same in all charts.
        """

    @abstractmethod
    def empty_component(self) -> tuple[Array, Array, Array]:
        """Return coordinates of a component with no rows, whose posterior is its prior.

        Returns
        -------
        absent : ndarray of shape (p,)
            Coordinates with which the component takes no rows from the others.
        means, variances : ndarrays of shape (p,)
            Moments of the coordinates under ``p(m)``.

        Charts with a single block, which always has all rows, need not implement it.
        """


class ChartedEnergy(GradientEnergy):
    """Capability: local coordinates, in which a sampler fits normal densities to modes."""

    @abstractmethod
    def charts(self, params: Any, power: float) -> Charts:
        """Return charts around J models.

        `power` is ``N / tau``, the factor of the objective. Charts may use it to choose the prior
        of auxiliary coordinates, such as the sum of the gamma variables of which weights are
        shares.
        """


class PinnableEnergy(GradientEnergy):
    """Capability: models given the component of each row, at T = tau.

    Given the components of the rows, the posterior is a product over components. Each factor is the
    posterior of a model of its own, which has no closed form.
    """

    @abstractmethod
    def log_joint(self, params: Any, X: Array, frame: Frame, temperature: float) -> Array:
        """Return ``H(x, m, k) / T`` of S models, the components' own codes integrated out.

        Of shape (S, K, n), for a chunk of rows (n, D).
        """

    @abstractmethod
    def redraw(
        self,
        params: Any,
        X: Array,
        labels: Labels,
        temperature: float,
        rng: np.random.Generator,
    ) -> Any:
        """Move S models by a scan that leaves ``p(m | X, labels)`` invariant.

        Parameters
        ----------
        params : ArrayRecord
            S models.
        X : ndarray of shape (N, D)
        labels : ndarray of int of shape (S, N)
        temperature : float
            T.
        rng : Generator
        """

    @abstractmethod
    def pinned(self, X: Array, temperature: float) -> NestedPosterior | None:
        """Return the posterior of one component given its rows (n, D), n > 0.

        None where components are not independent given their rows.
        """

    @abstractmethod
    def log_allocation(self, counts: NDArray[Any], temperature: float) -> float:
        """Return the log prior probability of labels that give components (K,) so many rows."""

    @abstractmethod
    def assemble(
        self,
        parts: Sequence[Any | None],
        counts: NDArray[Any],
        n_models: int,
        temperature: float,
        rng: np.random.Generator,
    ) -> Any:
        """Return models made of draws of each component, with weights drawn given the counts.

        Parameters
        ----------
        parts : sequence of K draws
            Of n_models models by the samplers of :meth:`pinned`; None for components without rows,
            which are drawn from the prior.
        counts : ndarray of shape (K,)
        n_models : int
        temperature : float
            T.
        rng : Generator
        """

    @abstractmethod
    def free_coordinates(self, params: Any, rng: np.random.Generator) -> Array:
        """Return coordinates (S, P); those that the model does not determine are drawn."""


class PartitionEnergy(Energy):
    """Capability: a partition function Z(m), computed by enumeration or estimated by annealing.

    The path of annealing leads from a base model at ``beta = 0``, whose partition function and
    draws are exact, to a single model at ``beta = 1``. The family defines the type of states.
    """

    @abstractmethod
    def n_enumerated(self) -> int:
        """Return the number of binary units over whose states the exact sum runs."""

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
        """Move states by a transition reversible with respect to the distribution at `beta`."""


@dataclass(frozen=True)
class BatchStep:
    """Direction and value of the objective, estimated from a batch of rows.

    Attributes
    ----------
    direction : ndarray of shape (P,)
        Direction of a step of the coordinates, along which the objective increases on average. The
        caller may overwrite it.
    value : float or None
        Estimate of the objective on all rows; None if there is none.
    memory : object
        State for the next step, such as persistent chains; None if there is none.
    """

    direction: FloatArray
    value: float | None
    memory: Any = None


class MinibatchObjective(ABC):
    """A mean over rows as a function of one model's coordinates, estimated batch by batch.

    Attributes
    ----------
    n_rows : int
        Distinct rows, M.
    """

    n_rows: int

    @abstractmethod
    def step(
        self, theta: FloatArray, index: NDArray[np.intp], memory: Any, rng: np.random.Generator
    ) -> BatchStep:
        """Return the direction of a step, estimated from a batch.

        Parameters
        ----------
        theta : ndarray of shape (P,)
        index : ndarray of int
            The rows of the batch, a random sample of all rows.
        memory : object
            State from the step before; None at the first step of most fits.
        rng : Generator
        """

    @abstractmethod
    def score(self, theta: FloatArray) -> float:
        """Return a score of a model (P,) on all rows; larger is better.

        It has no penalty and uses the same random numbers at every call; rows held out are scored
        by it.
        """

    @abstractmethod
    def constrain(self, theta: FloatArray) -> None:
        """Set coordinates (P,) that are out of bounds to the nearest bound, in place."""


class MinibatchEnergy(Energy):
    """Capability: minibatch fits."""

    @abstractmethod
    def minibatch_objective(
        self, rows: Rows, temperature: float, batch_size: int
    ) -> MinibatchObjective:
        """Return ``Hmaxe_T`` of rows minus a penalty, estimated from batches.

        Parameters
        ----------
        rows : Rows
            Distinct rows.
        temperature : float
        batch_size : int
            Largest number of rows of a batch.
        """


class ContrastiveEnergy(Energy):
    """Capability: persistent contrastive divergence.

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
        """Return a direction (P,) along which ``Hmaxe_T`` increases on average.

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
