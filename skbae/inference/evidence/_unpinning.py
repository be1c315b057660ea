"""The evidence of a mode of a mixture, by annealing from its best allocation, and back to it.

The path of densities over models

    ``gamma_t(m) = prior(m) prod_i [f(x_i, z*_i) + t sum_{k != z*_i} f(x_i, k)]``

with ``f(x, k) = exp(H(x, m, k) / T)`` leads from the conjugate posterior given an allocation z* (t
= 0), to which all rows are pinned, to the posterior itself (t = 1). The first has exact draws, and
its normaliser ``p(X, z*)`` has a closed form. Populations of models follow it: they are weighted,
drawn anew in proportion to their weights, and moved by drawing codes, redrawing these with the
models integrated out, and drawing models from their conditional (sequential Monte Carlo; Del Moral,
Doucet and Jasra 2006).

Other populations follow the path back, from draws of the posterior to the pinned allocation. What
one direction misses shows in the other: models far from z* are reached late on the way out, but are
present from the start on the way back. From both together, each step's ratio of normalisers is
estimated by Bennett's acceptance ratio (1976).

Labels: the space of models divides into as many equal tiles as z* has relabellings; a model is in
the first tile if no relabelling of it fits z* better. Populations stay in one tile, and the number
of tiles multiplies the result, so that no sum over permutations is needed, whatever the number of
components. Several modes divide the tile further: a model belongs to the mode whose allocation has
the highest density under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skbae._types import Array
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.inference.sample import _collapsed
from skbae.operators._draws import systematic_resample
from skbae.operators._labels import match_labels, one_hot
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from skbae._types import Frame
    from skbae.energies._capabilities import CollapsibleEnergy

# Effective share of a population that a step of t must leave.
_ESS_FRACTION = 0.6
# Values of log t at which every path stops: weights may be even although codes lag far behind.
_GRID = (-8, -6, -5, -4, -3, -2.5, -2, -1.5, -1, -0.7, -0.4, -0.2, 0)
_FROM = -60.0
_N_BISECTIONS = 18
_MAX_STEPS = 200
_BLOCK = 0.3


@dataclass(frozen=True)
class Unpinned:
    """Estimates of the evidence of one mode by populations.

    Attributes
    ----------
    log_evidence : ndarray of shape (I,)
        Log evidence of the mode, all its relabellings together, by each pair of populations.
    outward, back : ndarrays of shape (I,)
        The same by the populations on the way out alone, and by those on the way back.
    distances : ndarray of shape (I,)
        Mean number of rows off z* at the end of the way out, by population.
    highest : float
        Log mass of the best allocation at the end of the way out.
    n_steps : int
        Steps of the path.
    share_inside : float
        Share of the models drawn on the last step out that were inside the mode's tile.
    """

    log_evidence: Array
    outward: Array
    back: Array
    distances: Array
    highest: float
    n_steps: int
    share_inside: float


class ModeTile:
    """The models that belong to one mode and to one of its labellings.

    Parameters
    ----------
    origin : ndarray of int of shape (N,)
        The mode's allocation.
    rivals : ndarray of int of shape (R, N)
        Those of the other modes.
    n_components : int
    """

    def __init__(self, origin: Labels, rivals: Labels, n_components: int) -> None:
        self.origin = origin
        self.off = 1 - one_hot(origin[None], n_components)[0]
        self._own = 1 - self.off
        self._used = self._own.any(axis=1)
        self._rivals = one_hot(rivals, n_components)

    def contains(self, log_f: Array) -> NDArray[np.bool_]:
        """Return which models are inside, given their ``log f`` (S, K, N)."""
        fits = np.swapaxes(np.matmul(log_f, self._own.T), 1, 2)  # (S, of z*, of m)
        kept = np.diagonal(fits, axis1=1, axis2=2)
        value = kept.sum(axis=1)
        slack = 1e-9 * (1 + np.abs(value))
        inside = (kept >= fits.max(axis=2) - slack[:, None])[:, self._used].all(axis=1)
        for index in np.flatnonzero(~inside):
            inside[index] = _best_match(fits[index]) <= value[index] + slack[index]
        for rival in self._rivals:
            others = np.swapaxes(np.matmul(log_f, rival.T), 1, 2)
            # a bound first: each component of the rival where it fits best
            close = inside & (others.max(axis=2).sum(axis=1) > value)
            for index in np.flatnonzero(close):
                inside[index] = _best_match(others[index]) <= value[index]
        return inside

    def match(self, log_f: Array, labels: Labels) -> tuple[Array, Labels]:
        """Return models' ``log f`` (S, K, N) and codes (S, N) in the labelling that fits best."""
        fits = np.swapaxes(np.matmul(log_f, self._own.T), 1, 2)  # (S, of z*, of m)
        order = match_labels(fits)
        new_label = np.argsort(order, axis=1)
        matched = np.take_along_axis(log_f, order[:, :, None], axis=1)
        return matched, np.take_along_axis(new_label, labels, axis=1)

    def relabel(self, labels: Labels) -> Labels:
        """Return labels (S, N) permuted to agree best with the mode's."""
        n_components = len(self._own)
        memberships = one_hot(labels, n_components)
        overlaps = np.matmul(memberships, self._own.T)  # (S, of z, of z*)
        out = np.empty_like(labels)
        for index, overlap in enumerate(overlaps):
            out[index] = linear_sum_assignment(-overlap)[1][labels[index]]
        return out


def _best_match(fits: Array) -> float:
    return float(fits[linear_sum_assignment(-fits)].sum())


class PinnedModels:
    """Densities, conditionals and draws of a mixture's models, given allocations of its rows.

    Parameters
    ----------
    energy : CollapsibleEnergy
    mixture : CollapsedModel
        Of the same rows and prior.
    rows : ndarray of shape (N, D)
    frame : Frame
    temperature : float
    """

    def __init__(
        self,
        energy: CollapsibleEnergy,
        mixture: CollapsedModel,
        rows: Array,
        frame: Frame,
        temperature: float,
    ) -> None:
        self.energy, self.mixture, self.rows = energy, mixture, rows
        self.frame, self.temperature = frame, temperature

    def conditional(self, counts: Array, sums: Array) -> Any:
        """Return ``p(m | X, z)`` of allocations with such sums (times the heat)."""
        moments = self.mixture.moments(sums)
        return self.energy.conditional_of(counts / self.mixture.heat, moments, self.temperature)

    def draw(self, counts: Array, sums: Array, rng: np.random.Generator) -> Any:
        """Draw a model from each conditional."""
        return self.energy.draw_conditional(self.conditional(counts, sums), rng)

    def log_f(self, params: Any) -> Array:
        """Return ``H / T`` of all rows, (S, K, N)."""
        joint = self.energy.joint(params, self.rows, self.frame)
        return joint / self.temperature if self.temperature != 1 else joint

    def assess(self, params: Any, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return ``Hmaxe`` of models, (S,), and total gradients given fresh codes, (S, P)."""
        log_f = self.log_f(params)
        hmaxe = self.temperature * tempered_logsumexp(log_f, 1.0, axis=1).mean(axis=1)
        counts, sums = self.mixture.sums(_collapsed.draw_labels(log_f, rng))
        statistics = self.energy.allocated(counts / self.mixture.heat, self.mixture.moments(sums))
        total = float(self.mixture.n_rows)
        return hmaxe, self.energy.scores(params, statistics, self.temperature, total)


@dataclass
class _Population:
    """Models on the path: their ``log f``, codes and blocks, in I populations of P."""

    log_f: Array
    labels: Labels
    block: Array

    def take(self, index: NDArray[np.intp]) -> _Population:
        return _Population(self.log_f[index], self.labels[index], self.block[index])


class _Path:
    """Moves of populations along the path, and its densities."""

    def __init__(
        self,
        models: PinnedModels,
        tile: ModeTile,
        shape: tuple[int, int],
        n_moves: int,
        rng: np.random.Generator,
    ) -> None:
        self.models, self.tile, self.shape, self.rng = models, tile, shape, rng
        self.n_moves = n_moves
        self.share_inside = 1.0

    def split(self, population: _Population) -> tuple[Array, Array]:
        """Return ``log f`` at z* and the log of the sum of the others, each (S, N)."""
        return split_at(population.log_f, self.tile.origin)

    def rise(self, own: Array, other: Array, start: float, stop: float) -> Array:
        """Return the change of the log density from one log t to another, (I, P)."""
        change = log_path(own, other, stop) - log_path(own, other, start)
        return change.reshape(self.shape)

    def next_stop(self, own: Array, other: Array, start: float) -> float:
        """Return the largest next log t that leaves populations effective enough."""
        return next_log_t(own, other, start, self.shape)

    def resample(self, population: _Population, log_weights: Array) -> _Population:
        n = self.shape[1]
        chosen = [
            i * n + systematic_resample(row, n, self.rng) for i, row in enumerate(log_weights)
        ]
        return population.take(np.concatenate(chosen))

    def move(self, population: _Population, log_t: float) -> _Population:
        """Move all models, leaving the density at log t invariant."""
        mixture, rng = self.models.mixture, self.rng
        pinned = np.where(self.tile.off > 0, log_t, 0.0)
        log_f, labels = population.log_f.copy(), population.labels.copy()
        block, shares = population.block, []
        for _ in range(self.n_moves):
            codes = _collapsed.draw_labels(log_f + pinned, rng)
            state = _collapsed.CollapsedState(mixture.visit(codes), block)
            state, _ = _collapsed.step(mixture, state, rng, adapt=True, favour=pinned)
            block, there = state.block, state.allocations
            proposed = self.models.log_f(self.models.draw(there.counts, there.sums, rng))
            stays = self.tile.contains(proposed)
            log_f[stays], labels[stays] = proposed[stays], there.labels[stays]
            shares.append(stays.mean())
        self.share_inside = float(np.mean(shares))
        return _Population(log_f, labels, block)


def split_at(log_f: Array, origin: Labels) -> tuple[Array, Array]:
    """Return ``log f`` (S, K, N) at labels (N,) and the log of the sum of the others, (S, N)."""
    n = np.arange(len(origin))
    own = log_f[:, origin, n]
    peak = log_f.max(axis=1)
    terms = np.exp(log_f - peak[:, None])
    terms[:, origin, n] = 0.0
    with np.errstate(divide="ignore"):
        return own, np.log(terms.sum(axis=1)) + peak


def next_log_t(own: Array, other: Array, start: float, shape: tuple[int, int]) -> float:
    """Return the largest next log t that leaves populations effective enough.

    Parameters
    ----------
    own, other : ndarrays of shape (I * P, N)
        Log densities at z*, and of the sum of the others.
    start : float
        The last log t.
    shape : tuple of int
        I populations of P.
    """
    limit = float(next(each for each in _GRID if each > start))
    now = log_path(own, other, start)

    def effective(candidate: float) -> float:
        log_weights = (log_path(own, other, candidate) - now).reshape(shape)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        ess = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
        return float(np.median(ess)) / shape[1]

    if effective(limit) >= _ESS_FRACTION:
        return limit
    low, high = max(start, _FROM), limit
    for _ in range(_N_BISECTIONS):
        middle = 0.5 * (low + high)
        if effective(middle) >= _ESS_FRACTION:
            low = middle
        else:
            high = middle
    return low if low > start else 0.5 * (max(start, _FROM) + limit)


def log_path(own: Array, other: Array, log_t: float) -> Array:
    """Return the log of the path's density over the prior, (S,)."""
    if log_t == -np.inf:
        return own.sum(axis=1)
    return np.logaddexp(own, other + log_t).sum(axis=1)


def unpin(
    models: PinnedModels,
    tile: ModeTile,
    draws: Labels,
    rng: np.random.Generator,
    *,
    n_populations: int,
    n_models: int,
    n_moves: int = 2,
) -> Unpinned | None:
    """Estimate the evidence of a mode, both ways.

    Parameters
    ----------
    models : PinnedModels
    tile : ModeTile
    draws : ndarray of int of shape (I * P, N)
        Allocations drawn from the posterior within the mode: where the ways back start.
    rng : Generator
    n_populations, n_models : int
        I and P: models of each population.
    n_moves : int, default=2
        Moves at each step of the path.

    Returns
    -------
    Unpinned or None
        None if next to no draws given the allocation are in its own tile: it is atypical of the
        mode.
    """
    mixture = models.mixture
    path = _Path(models, tile, (n_populations, n_models), n_moves, rng)
    size = n_populations * n_models
    counts, sums = mixture.sums(tile.origin[None])
    start = float(mixture.log_joint(tile.origin[None])[0] + mixture.log_multiplicity(counts)[0])
    drawn = models.draw(np.repeat(counts, size, 0), np.repeat(sums, size, 0), rng)
    log_f = models.log_f(drawn)
    inside = tile.contains(log_f)
    if inside.reshape(path.shape).sum(axis=1).min() < 2:
        return None
    start += float(np.log(inside.mean()))
    pick = np.where(inside, np.arange(size), rng.choice(np.flatnonzero(inside), size))
    origin = np.broadcast_to(tile.origin, (size, mixture.n_rows)).copy()
    population = _Population(log_f[pick], origin, np.full(size, _BLOCK))

    stops, outward = [-np.inf], []
    while stops[-1] < 0 and len(stops) <= _MAX_STEPS:
        own, other = path.split(population)
        stops.append(path.next_stop(own, other, stops[-1]))
        outward.append(path.rise(own, other, stops[-2], stops[-1]))
        population = path.move(path.resample(population, outward[-1]), stops[-1])
    share_inside = path.share_inside
    masses = mixture.log_joint(population.labels)
    masses = masses + mixture.log_multiplicity(mixture.sums(population.labels)[0])

    distances = (tile.relabel(population.labels) != tile.origin).sum(axis=1)

    population = _back_start(models, tile, path, draws)
    back: list[Array] = []
    for low, high in zip(stops[-2::-1], stops[:0:-1], strict=True):
        own, other = path.split(population)
        back.append(path.rise(own, other, low, high))
        if low > -np.inf:
            population = path.move(path.resample(population, -back[-1]), low)
    back.reverse()
    ratios = [
        [acceptance_ratio(up, down) for up, down in zip(a, b, strict=True)]
        for a, b in zip(outward, back, strict=True)
    ]
    return Unpinned(
        start + np.sum(ratios, axis=0),
        start + np.sum([log_mean_exp(rise, axis=1) for rise in outward], axis=0),
        start - np.sum([log_mean_exp(-rise, axis=1) for rise in back], axis=0),
        distances.reshape(path.shape).mean(axis=1),
        float(masses.max()),
        len(stops) - 1,
        share_inside,
    )


def _back_start(models: PinnedModels, tile: ModeTile, path: _Path, draws: Labels) -> _Population:
    """Return models drawn from the posterior within the tile, given drawn allocations.

    Every model of the mode has a labelling in the tile. Models of other modes are replaced by draws
    from the rest, so that all are draws of the posterior within the tile.
    """
    labels = tile.relabel(draws)
    log_f = models.log_f(models.draw(*models.mixture.sums(labels), path.rng))
    log_f, labels = tile.match(log_f, labels)
    inside = np.flatnonzero(tile.contains(log_f))
    pick = np.arange(len(labels))
    if len(inside):
        missing = ~np.isin(pick, inside)
        pick[missing] = path.rng.choice(inside, int(missing.sum()))
    return _Population(log_f[pick], labels[pick], np.full(len(labels), _BLOCK))


def acceptance_ratio(outward: Array, back: Array, n_iterations: int = 100) -> float:
    """Return the log ratio of two normalisers from log density ratios at draws of both.

    Parameters
    ----------
    outward, back : ndarrays of shape (P,)
        Log of the second density over the first, at draws of the first and of the second.
    """
    value = 0.5 * float(log_mean_exp(outward) - log_mean_exp(-back))
    for _ in range(n_iterations):
        up = -np.logaddexp(0.0, value - outward)
        down = -np.logaddexp(0.0, back - value)
        new = value + float(log_mean_exp(up) - log_mean_exp(down))
        if abs(new - value) < 1e-10:
            break
        value = new
    return value
