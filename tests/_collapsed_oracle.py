"""Log evidence of Gaussian mixtures by sampling allocations: plain NumPy, and slow.

It shares nothing with the package. Models are integrated out, so that all that is left is
``p(X, z)`` of an allocation z of rows to components; ``c = 1 / T`` is what a row counts. A row
that joins a component with posterior ``(strength kappa, mean m, scale S)`` adds the outer product
of ``x - m``, times ``kappa c / (kappa + c)``, to S; one that leaves takes ``kappa c / (kappa - c)``
times it away, so that the conditional of every row given all others is exact, and cheap.

Populations of chains follow two paths of distributions, each in both directions:

an origin        ``p(X, z) sum_s t^(rows that differ from the origin relabelled by s)``: at small t
                 little but the origin is left, and the rest is counted;
independent rows ``q(z)^(1 - b) p(X, z)^b``, where q has the marginals of draws of the posterior.

And modes are found by letting rows come one after the other: while there are few, chains mix.

All ratios of normalisers are unbiased (sequential Monte Carlo: Del Moral, Doucet and Jasra 2006).
A path that misses modes on its way up is too low; one that starts from draws of the posterior and
goes down estimates the inverse, and is too high (Grosse, Ghahramani and Adams 2015). Where the two
meet, and the paths too, the evidence is known, but for modes that no search has found.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from itertools import permutations
from math import lgamma, log, pi

import numpy as np
from scipy.special import gammaln, logsumexp, multigammaln

# Rows that all chains are offered at once, at most.
_MAX_BLOCK = 64


# -- the joint of rows and allocations -------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Rows and prior; `kind` is "full", "diag" or "tied", and `scale` of the shape of its kind."""

    X: np.ndarray
    n_components: int
    kind: str
    scale: np.ndarray
    mean: np.ndarray
    concentration: float = 1.0
    strength: float = 0.01
    dof: float | None = None
    temperature: float = 1.0

    @property
    def degrees(self):
        return self.X.shape[1] + 2.0 if self.dof is None else self.dof

    def population(self, labels, present=None):
        """Return chains at such allocations (S, N)."""
        return _KINDS[self.kind](self, labels, present)


class Population:
    """Chains of allocations, with the posteriors of all their components."""

    tied = False

    def __init__(self, problem, labels, present=None):
        self.problem, self.labels = problem, np.array(labels)
        # rows that count (S, n); the labels of others are -1
        everything = np.broadcast_to(np.arange(self.labels.shape[1]), self.labels.shape)
        self.present = everything if present is None else present
        n_rows, size = problem.X.shape
        self.heat = heat = 1 / problem.temperature
        n = np.arange(n_rows + 1)
        alpha = problem.concentration
        self.of_weights = gammaln(alpha + heat * n) - gammaln(alpha)
        self.of_counts = -size / 2 * np.log(problem.strength + heat * n)
        self.of_counts -= self.of_counts[0] + heat * n * size / 2 * log(pi)
        if not self.tied:
            half = (problem.degrees + heat * n) / 2
            gammas = self.log_gamma(half)
            self.of_counts += gammas - gammas[0]
        total = problem.n_components * alpha
        self.of_rows = gammaln(total) - gammaln(total + heat * n)
        self.chains = np.arange(len(self.labels))
        self.rebuild()

    def rebuild(self):
        """Compute all posteriors anew: updates lose digits."""
        problem, heat = self.problem, self.heat
        K = problem.n_components
        member = (self.labels[:, None] == np.arange(K)[:, None]).astype(float)  # (S, K, N)
        self.n = member.sum(axis=2).astype(int)
        X, strength = problem.X - problem.mean, problem.strength
        kappa = strength + heat * self.n
        self.mean = heat * (member @ X) / kappa[..., None]
        self.build_scales(X, heat * member, kappa)
        self.mean += problem.mean

    def select(self, which):
        """Return a population of some of the chains, repeated where asked."""
        found = copy(self)
        for name in ("labels", "present", "n", "mean", "log_det", *self.of_scales):
            setattr(found, name, getattr(self, name)[which])
        found.chains = np.arange(len(which))
        return found

    @property
    def log_joint(self):
        """Log of the integral of prior(m) exp(sum of H(x, m, z) / T), (S,)."""
        rows = self.present.shape[1]
        weights = self.of_weights[self.n].sum(axis=1) + self.of_rows[rows]
        return weights + self.log_marginal()

    def table(self, rows):
        """Return log probabilities of components (S, K, B) of rows (S, B), but for a constant.

        Each given all other rows. And the components that they are in, (S, B).
        """
        own = self.labels[self.chains[:, None], rows]
        is_own = own[:, None] == np.arange(self.problem.n_components)[:, None]
        others = self.n[:, :, None] - is_own
        found = self.marginal_gains(rows, own, is_own, others)
        return found + np.diff(self.of_weights)[others], own

    def log_marginal(self):
        problem = self.problem
        prior = self.log_det_prior * problem.degrees / 2
        half = (problem.degrees + self.heat * self.n) / 2
        return (self.of_counts[self.n] - half * self.log_det + prior).sum(axis=1)

    def marginal_gains(self, rows, own, is_own, others):
        heat, n = self.heat, self.n
        kappa = self.problem.strength + heat * n
        with np.errstate(divide="ignore"):
            leave, join = -kappa * heat / (kappa - heat), kappa * heat / (kappa + heat)
        factor = np.where(is_own, leave[:, :, None], join[:, :, None])
        ratio = self.log_det_ratio(rows, factor)
        half = (self.problem.degrees + heat * n[:, :, None]) / 2
        power = np.where(is_own, half - heat / 2, -half - heat / 2)
        return np.diff(self.of_counts)[others] - heat / 2 * self.log_det[:, :, None] + power * ratio

    def predict(self, rows):
        """Return the log joint with a row of each chain (S,) in each component less that without.

        Of shape (S, K); the rows do not count yet.
        """
        own = np.full((len(rows), 1), -1)
        is_own = np.zeros((len(rows), self.problem.n_components, 1), dtype=bool)
        others, present = self.n[:, :, None], self.present.shape[1]
        found = self.marginal_gains(rows[:, None], own, is_own, others)
        found += np.diff(self.of_weights)[others]
        return found[:, :, 0] + np.diff(self.of_rows)[present]

    def move(self, chains, rows, new):
        """Give a row of each of some chains to another component."""
        self.change(chains, rows, self.labels[chains, rows], -1)
        self.change(chains, rows, new, 1)
        self.labels[chains, rows] = new

    def change(self, chains, rows, k, sign):
        """Add or take away (-1) a row."""
        kappa = self.problem.strength + self.heat * self.n[chains, k]
        deviation = self.problem.X[rows] - self.mean[chains, k]
        after = kappa + sign * self.heat
        self.change_scale(chains, k, deviation, sign * kappa * self.heat / after)
        self.mean[chains, k] += (sign * self.heat / after)[:, None] * deviation
        self.n[chains, k] += sign


class Full(Population):
    """Each component has a full precision, with a Wishart prior."""

    of_scales = ("inverse",)

    def log_gamma(self, half):
        return np.array([multigammaln(value, self.problem.X.shape[1]) for value in half])

    def scatter(self, X, member, kappa):
        """Return scatter matrices with the prior's, (S, K, D, D); the mean is the centre."""
        size = X.shape[1]
        products = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
        second = (member @ products).reshape(*member.shape[:2], size, size)
        shift = kappa[..., None, None] * self.mean[..., :, None] * self.mean[..., None, :]
        return second - shift

    def build_scales(self, X, member, kappa):
        scale = self.problem.scale + self.scatter(X, member, kappa)
        self.inverse = np.linalg.inv(scale)
        self.log_det = np.linalg.slogdet(scale)[1]
        self.log_det_prior = np.linalg.slogdet(self.problem.scale)[1]

    def log_det_ratio(self, rows, factor):
        deviations = self.problem.X[rows][:, None] - self.mean[:, :, None]  # (S, K, B, D)
        square = np.einsum("skbd,skbd->skb", deviations @ self.inverse, deviations)
        return np.log1p(factor * square)

    def change_scale(self, chains, k, deviation, factor):
        product = np.einsum("sij,sj->si", self.inverse[chains, k], deviation)
        ratio = 1 + factor * (product * deviation).sum(axis=1)
        change = (factor / ratio)[:, None, None] * product[:, :, None] * product[:, None, :]
        self.inverse[chains, k] -= change
        self.log_det[chains, k] += np.log(ratio)


class Diagonal(Population):
    """Each feature of each component has a precision, with a gamma prior."""

    of_scales = ("scale",)

    def log_gamma(self, half):
        return self.problem.X.shape[1] * gammaln(half)

    def build_scales(self, X, member, kappa):
        second = member @ X**2 - kappa[..., None] * self.mean**2
        self.scale = self.problem.scale + second
        self.log_det = np.log(self.scale).sum(axis=2)
        self.log_det_prior = np.log(self.problem.scale).sum()

    def log_det_ratio(self, rows, factor):
        deviations = self.problem.X[rows][:, None] - self.mean[:, :, None]
        each = 1 + factor[..., None] * deviations**2 / self.scale[:, :, None]
        return np.log(each.prod(axis=3))

    def change_scale(self, chains, k, deviation, factor):
        before = self.scale[chains, k]
        after = before + factor[:, None] * deviation**2
        self.scale[chains, k] = after
        self.log_det[chains, k] += np.log(after / before).sum(axis=1)


class Tied(Full):
    """All components share a full precision, with a Wishart prior."""

    tied = True

    def build_scales(self, X, member, kappa):
        scale = self.problem.scale + self.scatter(X, member, kappa).sum(axis=1)
        self.inverse = np.linalg.inv(scale)
        self.log_det = np.linalg.slogdet(scale)[1]

    def log_marginal(self):
        problem, size = self.problem, self.problem.X.shape[1]
        before = problem.degrees
        after = before + self.heat * self.present.shape[1]
        value = multigammaln(after / 2, size) - multigammaln(before / 2, size)
        value += before / 2 * np.linalg.slogdet(problem.scale)[1]
        return value - after / 2 * self.log_det + self.of_counts[self.n].sum(axis=1)

    def marginal_gains(self, rows, own, is_own, others):
        heat = self.heat
        half = (self.problem.degrees + heat * self.present.shape[1]) / 2
        deviations = self.problem.X[rows][:, None] - self.mean[:, :, None]
        product = deviations @ self.inverse[:, None]
        square = np.einsum("skbd,skbd->skb", product, deviations)
        kappa = self.problem.strength + heat * self.n
        join = (kappa * heat / (kappa + heat))[:, :, None]
        found = np.diff(self.of_counts)[others]
        if not is_own.any():  # new rows
            size = self.problem.X.shape[1]
            found = found + multigammaln(half + heat / 2, size) - multigammaln(half, size)
            found -= heat / 2 * self.log_det[:, None, None]
            return found - (half + heat / 2) * np.log1p(join * square)
        own_deviation = np.take_along_axis(deviations, own[:, None, :, None], axis=1)
        cross = np.einsum("skbd,skbd->skb", product, np.broadcast_to(own_deviation, product.shape))
        own_square = np.take_along_axis(square, own[:, None], axis=1)
        own_kappa = np.take_along_axis(kappa, own, axis=1)[:, None]
        leave = own_kappa * heat / (own_kappa - heat)
        ratio = (1 - leave * own_square) * (1 + join * square) + leave * join * cross**2
        return found - half * np.log(np.where(is_own, 1.0, ratio))

    def change_scale(self, chains, k, deviation, factor):
        product = np.einsum("sij,sj->si", self.inverse[chains], deviation)
        ratio = 1 + factor * (product * deviation).sum(axis=1)
        change = (factor / ratio)[:, None, None] * product[:, :, None] * product[:, None, :]
        self.inverse[chains] -= change
        self.log_det[chains] += np.log(ratio)


_KINDS = {"full": Full, "diag": Diagonal, "tied": Tied}


# -- an origin -------------------------------------------------------------------------------------


class Origin:
    """An allocation, and how far chains are from all its relabellings."""

    def __init__(self, labels, n_components):
        self.labels, self.n_components = np.array(labels), n_components
        orders = np.array(list(permutations(range(n_components))))
        self.n_orders, self.orders = len(orders), orders
        # [order, k, j]: whether the order takes component k of a chain to j of the origin
        self.pairs = (orders[:, :, None] == np.arange(n_components)).astype(float)

    def distances(self, labels):
        """Return the number of rows that differ, for every relabelling, (S, K!)."""
        K = self.n_components
        index = labels * K + self.labels
        index = index + np.arange(len(labels))[:, None] * K * K
        overlap = np.bincount(index.ravel(), minlength=len(labels) * K * K).reshape(-1, K * K)
        return len(self.labels) - overlap @ self.pairs.reshape(self.n_orders, -1).T


class Pin:
    """The factor ``sum_s t^distance_s`` of the density of chains."""

    def __init__(self, origin, log_t, labels):
        self.origin, self.log_t, self.t = origin, log_t, np.exp(log_t)
        self.distances = origin.distances(labels)
        self.marginals = np.empty((len(labels), origin.n_components, origin.n_components))
        self.update(np.arange(len(labels)))

    def update(self, chains):
        """Compute how probable it is that a component is one of the origin's, (S, K, K)."""
        distances = self.distances[chains]
        shares = np.exp(self.log_t * (distances - distances.min(axis=1, keepdims=True)))
        shares /= shares.sum(axis=1, keepdims=True)
        self.marginals[chains] = np.tensordot(shares, self.origin.pairs, axes=1)

    def log_factors(self, rows, own):
        """Return what the pin adds to the log probabilities of components, (S, K, B)."""
        chains = np.arange(len(own))[:, None]
        theirs = self.origin.labels[rows]
        found = np.moveaxis(self.marginals[chains, :, theirs], 2, 1)  # (S, K, B)
        at_own = self.marginals[chains, own, theirs]
        t = self.t
        elsewhere = np.maximum(1 - at_own, 0)[:, None] + t * at_own[:, None]
        factor = elsewhere + (1 - t) / t * found
        np.put_along_axis(factor, own[:, None], 1.0, axis=1)
        return np.log(factor)

    def move(self, chains, rows, old, new):
        theirs = self.origin.labels[rows]
        self.distances[chains] += self.origin.pairs[:, old, theirs].T
        self.distances[chains] -= self.origin.pairs[:, new, theirs].T
        self.update(chains)

    def log_density(self, log_t):
        return logsumexp(log_t * self.distances, axis=1)


# -- chains ----------------------------------------------------------------------------------------


def sweep(population, rng, *, power=1.0, pin=None, rate=None):
    """Redraw every row of every chain given all others, one after the other; return the move rate.

    Chains go ahead to their next move: rows before it have been redrawn with what was known.
    """
    labels, present = population.labels, population.present
    n_chains, n_rows = present.shape
    block = int(np.clip(0.7 / max(rate or 1.0, 1e-9), 1, min(_MAX_BLOCK, n_rows)))
    order = np.take_along_axis(present, rng.random((n_chains, n_rows)).argsort(axis=1), axis=1)
    at, moves = np.zeros(n_chains, dtype=int), 0
    steps, chains = np.arange(block), np.arange(n_chains)
    while (at < n_rows).any():
        places = at[:, None] + steps
        rows = order[chains[:, None], np.minimum(places, n_rows - 1)]
        logits, own = population.table(rows)
        logits *= power
        if pin is not None:
            logits += pin.log_factors(rows, own)
        logits -= np.log(rng.exponential(size=logits.shape))
        new = logits.argmax(axis=1)
        moved = (new != own) & (places < n_rows)
        first = moved.argmax(axis=1)
        some = np.flatnonzero(moved[chains, first])
        if len(some):
            row, to = rows[some, first[some]], new[some, first[some]]
            if pin is not None:
                pin.move(some, row, labels[some, row], to)
            population.move(some, row, to)
        at += block
        at[some] += first[some] + 1 - block
        moves += len(some)
    population.rebuild()
    return moves / (n_chains * n_rows)


@dataclass
class Visited:
    """Distinct allocations that were visited, whatever their labels, and the bound they give."""

    n_components: int
    found: dict = field(default_factory=dict)

    def add(self, labels, log_joint):
        for each, value in zip(labels, log_joint, strict=True):
            names, first, inverse = np.unique(each, return_index=True, return_inverse=True)
            rank = np.empty(len(names), dtype=np.int8)
            rank[np.argsort(first)] = np.arange(len(names))
            empty = self.n_components - len(names)
            ways = lgamma(self.n_components + 1) - lgamma(empty + 1)
            self.found.setdefault(rank[inverse].tobytes(), value + ways)

    @property
    def bound(self):
        """The sum of the joint over all labellings of all visited allocations: at most p(X)."""
        return float(logsumexp(list(self.found.values())))


# -- paths -----------------------------------------------------------------------------------------


class OriginPath:
    """From one allocation, at a small t, to the posterior at log t = 0."""

    def __init__(self, origin):
        self.origin = origin

    def moving(self, population, at):
        return {"pin": Pin(self.origin, at, population.labels)}

    def log_density(self, population, at, moving):
        # of p(X, z) there is no need: it is the same all along
        return moving["pin"].log_density(at)


class IndependentRows:
    """From independent rows at 0 to the posterior at 1, there times the share of its labelling.

    That share is ``q(z)`` over the sum of q of all relabellings: such factors sum to one, so that
    the normaliser at 1 is that of the posterior over K!, whatever labels the chains have.

    Parameters
    ----------
    log_q : ndarray of shape (N, K)
        Log probabilities of the components of each row.
    """

    def __init__(self, log_q):
        self.log_q = log_q
        self.orders = np.array(list(permutations(range(log_q.shape[1]))))

    def draw(self, n_chains, rng):
        """Return allocations (S, N)."""
        noise = rng.exponential(size=(n_chains, *self.log_q.shape))
        return (self.log_q - np.log(noise)).argmax(axis=2)

    def relabel(self, labels, rng):
        """Return allocations with labels drawn in proportion to q."""
        logs = self.of_relabelled(labels)
        which = (logs - np.log(rng.exponential(size=logs.shape))).argmax(axis=1)
        return np.take_along_axis(self.orders[which], labels, axis=1)

    def of_relabelled(self, labels):
        """Return log q of all relabellings, (S, K!)."""
        K = self.log_q.shape[1]
        found = np.zeros((len(labels), K, K))  # [s, k, j]: the rows in k, were they in j
        for k in range(K):
            found[:, k] = (labels == k) @ self.log_q
        return found[:, np.arange(K), self.orders].sum(axis=2)

    def moving(self, population, at):
        return {"power": at, "pin": Marginals((1 - at) * self.log_q)}

    def log_density(self, population, at, moving):
        q = self.log_q[np.arange(len(self.log_q)), population.labels].sum(axis=1)
        if at == 1:
            q -= logsumexp(self.of_relabelled(population.labels), axis=1)
            return population.log_joint + q
        return at * population.log_joint + (1 - at) * q


class Marginals:
    """The factor of independent rows."""

    def __init__(self, logs):
        self.logs = logs

    def log_factors(self, rows, own):
        return np.moveaxis(self.logs[rows], 2, 1)

    def move(self, chains, rows, old, new):
        pass


def follow(path, population, schedule, rng, *, n_groups=1, n_sweeps=1, adapt=None, visited=None):
    """Take chains along a path; return the log ratio of normalisers of each group, and the end.

    Parameters
    ----------
    path : OriginPath or IndependentRows
    population : Population
        Draws of the first distribution.
    schedule : sequence of float
        With `adapt`, only the first and the last count.
    rng : Generator
    n_groups : int
        Groups that never exchange chains: their results are independent.
    n_sweeps : int
        After each step.
    adapt : float or None
        Standard deviation of log weights by which a step is chosen.
    visited : Visited or None
        What collects the last allocations.

    Returns
    -------
    log_ratios : ndarray of shape (G,)
    population : Population
        Resampled: draws of the last distribution.
    schedule : list of float
    """
    size = len(population.labels) // n_groups
    log_ratios, log_weights = np.zeros(n_groups), np.zeros((n_groups, size))
    taken, end, rate, index = [schedule[0]], schedule[-1], None, 0
    moving = path.moving(population, taken[0])
    while taken[-1] != end:
        at = taken[-1]
        start = path.log_density(population, at, moving)
        index += 1
        after = schedule[index] if adapt is None else end
        if adapt is not None:
            after = _next_step(path, population, at, end, moving, start, adapt)
        change = path.log_density(population, after, moving) - start
        log_weights += change.reshape(n_groups, size)
        taken.append(after)
        population, log_weights, log_ratios = _resample(
            population, log_weights, log_ratios, rng, always=after == end
        )
        for _ in range(n_sweeps):
            moving = path.moving(population, after)
            rate = sweep(population, rng, rate=rate, **moving)
        moving = path.moving(population, after)
    if visited is not None:
        visited.add(population.labels, population.log_joint)
    return log_ratios, population, taken


def _next_step(path, population, at, end, moving, start, adapt):
    """Return how far along the path log weights have such a standard deviation."""

    def too_far(after):
        return (path.log_density(population, after, moving) - start).std() > adapt

    if not too_far(end):
        return end
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        low, high = (low, share) if too_far(at + share * (end - at)) else (share, high)
    # of what is left a part at least, since the density may jump at the end
    return end if low > 0.95 else at + max(low, 0.01) * (end - at)


def _resample(population, log_weights, log_ratios, rng, *, always):
    """Resample groups of less than half the effective size; return all three arguments anew."""
    n_groups, size = log_weights.shape
    which = np.arange(n_groups * size).reshape(n_groups, size)
    log_weights = log_weights.copy()
    for group in range(n_groups):
        weights = np.exp(log_weights[group] - log_weights[group].max())
        if always or weights.sum() ** 2 / (weights**2).sum() < size / 2:
            log_ratios[group] += logsumexp(log_weights[group]) - log(size)
            which[group] = which[group][_systematic(weights / weights.sum(), rng)]
            log_weights[group] = 0.0
    if (which.ravel() != np.arange(which.size)).any():
        population = population.select(which.ravel())
    return population, log_weights, log_ratios


def _systematic(weights, rng):
    """Return indices of draws in proportion to weights (P,)."""
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    return np.minimum(np.searchsorted(weights.cumsum(), places), len(weights) - 1)


def add_rows(problem, orders, rng, *, n_groups=1, n_sweeps=1, growth=0.03):
    """Let rows come one after the other; return log evidences of groups (G,), and the end.

    Each row joins a component in proportion to the joint (Kong, Liu and Wong 1994; Fearnhead
    2004). Whenever rows have grown by such a share, all of them are redrawn. That finds modes; the
    evidence is right for few rows only: weights remember how poorly the first ones were fitted.

    Parameters
    ----------
    problem : Problem
    orders : ndarray of int of shape (S, N)
        Of the rows; the same within a group.
    rng : Generator
    n_groups, n_sweeps : int
    growth : float
    """
    n_chains, n_rows = orders.shape
    population = problem.population(np.full(orders.shape, -1), orders[:, :0])
    log_ratios, log_weights = np.zeros(n_groups), np.zeros((n_groups, n_chains // n_groups))
    refreshed, rate, chains = 0, None, np.arange(n_chains)
    for n in range(n_rows):
        rows = orders[:, n]
        gains = population.predict(rows)
        log_weights += logsumexp(gains, axis=1).reshape(n_groups, -1)
        new = (gains - np.log(rng.exponential(size=gains.shape))).argmax(axis=1)
        population.change(chains, rows, new, 1)
        population.labels[chains, rows] = new
        population.present = orders[:, : n + 1]
        population, log_weights, log_ratios = _resample(
            population, log_weights, log_ratios, rng, always=n + 1 == n_rows
        )
        if n + 1 > (1 + growth) * refreshed or n + 1 == n_rows:
            refreshed = n + 1
            for _ in range(n_sweeps):
                rate = sweep(population, rng, rate=rate)
    return log_ratios, population


def pooled(log_ratios):
    """Return the log of the mean of ratios of groups, and its error."""
    if np.isneginf(log_ratios).all():
        return -np.inf, np.inf
    ratios = np.exp(log_ratios - log_ratios.max())
    error = ratios.std(ddof=1) / np.sqrt(len(ratios)) / ratios.mean()
    return float(log(ratios.mean()) + log_ratios.max()), float(error)
