"""Reference log evidences of Gaussian mixtures, by samplers that share nothing with the package.

For each problem: a search for modes (rows one after the other; k-means in raw and whitened axes,
also with fewer components; merges and splits), then two paths, an origin and independent rows, in
both directions, and the rigorous lower bound of the allocations that were visited. Away from all
modes, where rows are spread over components at random, there may be mass too: paths up from such
rows tell, and it is counted if it matters (wine, tied, at T = 2). See
``tests/_collapsed_oracle.py``. A reference is established if all four numbers agree within three
errors and a fifth of a nat, its error is below .15 nats, and it is not below the bound.

Where components overlap so much that these paths leave more than .05 nats, mixtures of three or
more components of one column are taken from two estimates over models instead: importance
sampling, and how often a component is empty. See ``tests/_uncollapsed_oracle.py``.

``--compare`` fits `BayesianGMMAutoEncoder` with defaults besides the prior of the reference, five
seeds each. Results go to ``evidence_references.json`` beside this file; problems that are there
are not computed anew unless ``--again`` is given. One thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from math import lgamma, log
from pathlib import Path

import numpy as np
from evidence import digits_axes, overlapping, standardised
from scipy.special import logsumexp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from skbae import BayesianGMMAutoEncoder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _collapsed_oracle import (
    IndependentRows,
    Origin,
    OriginPath,
    Pin,
    Problem,
    Visited,
    add_rows,
    follow,
    pooled,
    sweep,
)
from _data import ACIDITY, GALAXIES
from _uncollapsed_oracle import Column, estimates

STORED = Path(__file__).with_name("evidence_references.json")
N_GROUPS = 8


# -- modes -----------------------------------------------------------------------------------------


def k_means(X, n_clusters, rng, n_steps=15):
    """Return labels of k-means from rows drawn far apart."""
    centres = X[rng.integers(len(X), size=1)]
    for _ in range(n_clusters - 1):
        nearest = ((X[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
        centres = np.vstack([centres, X[rng.choice(len(X), p=nearest / nearest.sum())]])
    for _ in range(n_steps):
        labels = ((X[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack([
            X[labels == k].mean(axis=0) if (labels == k).any() else centres[k]
            for k in range(len(centres))
        ])  # fmt: skip
    return labels


def starts(problem, n, rng):
    """Return allocations (n, N): k-means in three frames, and random ones."""
    X, K = problem.X, problem.n_components
    left, sizes, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    found = []
    for index in range(n):
        fewer = K if index % 3 else int(rng.integers(1, K + 1))
        n_axes = int(rng.integers(1, X.shape[1] + 1))
        frame = (X / X.std(axis=0), left, left[:, :n_axes] * sizes[:n_axes], None)[index % 4]
        if frame is None:
            found.append(rng.integers(fewer, size=len(X)))
        else:
            found.append(k_means(frame, fewer, rng))
    return np.stack(found)


def children(problem, parents, n, rng):
    """Return allocations with two components merged, and one split by k-means."""
    K, found = problem.n_components, []
    for _ in range(n):
        labels = parents[rng.integers(len(parents))].copy()
        into, empty = rng.choice(K, size=2, replace=False)
        labels[labels == empty] = into
        rows = np.flatnonzero(labels == rng.choice(np.delete(np.arange(K), empty)))
        if len(rows) > 3:
            frame = problem.X[rows]
            if rng.random() < 0.5:
                frame = np.linalg.svd(frame - frame.mean(axis=0), full_matrices=False)[0]
            labels[rows[k_means(frame, 2, rng) == 1]] = empty
        found.append(labels)
    return np.stack(found)


def settle(population, rng, n_sweeps, visited):
    """Run chains at the posterior."""
    rate = None
    for _ in range(n_sweeps):
        rate = sweep(population, rng, rate=rate)
        visited.add(population.labels, population.log_joint)
    return population


def search(problem, rng, size, visited):
    """Return the best allocations of many short searches, best first, of different modes."""
    n_rows = len(problem.X)
    orders = np.stack([rng.permutation(n_rows) for _ in range(size // 2)])
    orders = np.repeat(orders, 4, axis=0)
    _, population = add_rows(problem, orders, rng, n_groups=size // 2)
    sources = [("rows", population.select(np.arange(0, len(orders), 2)))]
    sources.append(("starts", problem.population(starts(problem, 2 * size, rng))))
    kept = Modes(problem)
    for name, population in sources:
        settle(population, rng, 30, visited)
        kept.add(name, population)
    for generation in range(3):
        parents = kept.labels[:4]
        population = problem.population(children(problem, parents, size, rng))
        settle(population, rng, 20, visited)
        kept.add(f"children {generation}", population)
    return kept


class Modes:
    """Allocations that differ by more than a row or a hundredth of all, best first."""

    def __init__(self, problem):
        self.problem, self.labels, self.values, self.best = problem, [], [], {}

    def add(self, source, population):
        """Add the allocations of chains, and note the best of them."""
        self.best[source] = round(float(population.log_joint.max()), 2)
        labels = [*self.labels, *population.labels]
        values = [*self.values, *population.log_joint]
        kept = []
        for index in np.argsort(values)[::-1]:
            if values[index] < max(values) - 20 or len(kept) == 8:
                break
            distances = [
                Origin(labels[each], self.problem.n_components).distances(labels[index][None]).min()
                for each in kept
            ]
            if not distances or min(distances) > max(1, 0.01 * len(self.problem.X)):
                kept.append(index)
        self.labels, self.values = [labels[i] for i in kept], [values[i] for i in kept]


# -- estimates -------------------------------------------------------------------------------------


def region(labels, origins):
    """Return which origin allocations are nearest to."""
    return np.argmin([each.distances(labels).min(axis=1) for each in origins], axis=0)


def inside(log_ratios, population, origins, index):
    """Return log ratios of groups with the share of chains in the region of an origin."""
    share = (region(population.labels, origins) == index).reshape(len(log_ratios), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return log_ratios + np.log(share)


def origin_start(problem, origin, n_chains, rng):
    """Return t, chains at it, and the log of the sum of ``p(X, z) sum_s t^distance`` there.

    By how often chains are at the origin.
    """
    top = problem.population(origin.labels[None])
    K = problem.n_components
    ways = lgamma(K + 1) - lgamma(K - len(np.unique(origin.labels)) + 1)
    log_t, rate = -1.0, None
    while True:
        # chains start anew, since they may have gone to another mode for good
        population, shares = top.select(np.zeros(n_chains, dtype=int)), []
        for step in range(24):
            rate = sweep(population, rng, rate=rate, pin=Pin(origin, log_t, population.labels))
            at = origin.distances(population.labels).min(axis=1) == 0
            if step >= 8:
                shares.append(at.mean())
            elif step == 7 and at.mean() < 0.25:
                break
        if shares and np.mean(shares) > 0.25:
            break
        log_t *= 1.4
    doubt = abs(log(np.mean(shares[:8])) - log(np.mean(shares[8:]))) / 2
    base = top.log_joint[0] + ways + Pin(origin, log_t, top.labels).log_density(log_t)[0]
    return log_t, population, float(base - log(np.mean(shares))), doubt


def local_estimates(problem, origins, index, rng, size, n_sweeps, adapt, visited):
    """Return estimates of the mass in the region of an origin, and draws of the posterior there."""
    origin, K = origins[index], problem.n_components
    relabelled = lgamma(K + 1)
    n_chains = N_GROUPS * size
    more = {"n_groups": N_GROUPS, "n_sweeps": n_sweeps}
    log_t, start, base, doubt = origin_start(problem, origin, n_chains, rng)
    base -= relabelled
    path, every = OriginPath(origin), np.arange(0, n_chains, N_GROUPS)
    pilot = {"adapt": adapt, "n_sweeps": n_sweeps}
    _, _, schedule = follow(path, start.select(every), [log_t, 0.0], rng, **pilot)
    ratios, end, _ = follow(path, start, schedule, rng, **more)
    value, error = pooled(inside(ratios, end, origins, index))
    found = {"origin up": (base + value, np.hypot(error, doubt))}
    mine = np.flatnonzero(region(end.labels, origins) == index)
    if len(mine) < n_chains / 2:  # chains go to other modes: it is counted there
        return found, None
    draws = end.select(np.resize(mine, n_chains))
    settle(draws, rng, 10 * n_sweeps, visited)
    value, error = pooled(follow(path, draws, schedule[::-1], rng, **more)[0])
    found["origin down"] = (base - value, np.hypot(error, doubt))

    matched = draws.labels.copy()
    distances = origin.distances(matched)
    matched = np.take_along_axis(origin.orders[distances.argmin(axis=1)], matched, axis=1)
    counts = np.stack([(matched == k).mean(axis=0) for k in range(K)], axis=1)
    q = (counts * n_chains + 0.5) / (n_chains + 0.5 * K)
    path = IndependentRows(np.log(q))
    start = problem.population(path.draw(len(every), rng))
    _, _, schedule = follow(path, start, [0.0, 1.0], rng, **pilot)
    start = problem.population(path.draw(n_chains, rng))
    ratios, end, _ = follow(path, start, schedule, rng, **more)
    value, error = pooled(inside(ratios, end, origins, index))
    found["rows up"] = (value + relabelled, error)
    settle(draws, rng, 5 * n_sweeps, visited)
    start = problem.population(path.relabel(draws.labels, rng))
    value, error = pooled(follow(path, start, schedule[::-1], rng, **more)[0])
    found["rows down"] = (relabelled - value, error)
    return found, draws


def diffuse_estimates(problem, origins, reach, rng, size, adapt):
    """Return the mass of allocations at random to 2, 3, ... components, away from all origins.

    Farther than `reach` from these; components of less than a fiftieth of the rows do not count.
    """
    n_rows, K = len(problem.X), problem.n_components
    more, ups, downs = {"n_groups": N_GROUPS}, [], []
    for n_filled in range(2, K + 1):
        q = np.full((n_rows, K), 1e-3)
        q[:, :n_filled] = (1 - q[:, n_filled:].sum(axis=1, keepdims=True)) / n_filled
        path = IndependentRows(np.log(q))
        start = problem.population(path.draw(size, rng))
        _, _, schedule = follow(path, start, [0.0, 1.0], rng, adapt=adapt)
        start = problem.population(path.draw(N_GROUPS * size, rng))
        ratios, end, _ = follow(path, start, schedule, rng, **more)
        counts = (end.labels[:, :, None] == np.arange(K)).sum(axis=1)
        away = (counts > 0.02 * n_rows).sum(axis=1) == n_filled
        for origin in origins:
            away &= origin.distances(end.labels).min(axis=1) > reach
        if not away.any():
            continue
        with np.errstate(divide="ignore"):
            ratios = ratios + np.log(away.reshape(N_GROUPS, -1).mean(axis=1))
        value, error = pooled(ratios)
        ups.append((value + lgamma(K + 1), error))
        draws = end.select(np.resize(np.flatnonzero(away), len(away)))
        for _ in range(10):
            sweep(draws, rng)
        start = problem.population(path.relabel(draws.labels, rng))
        value, error = pooled(follow(path, start, schedule[::-1], rng, **more)[0])
        downs.append((lgamma(K + 1) - value, error))
    return {"rows up": log_sum(ups), "rows down": log_sum(downs)}


def log_sum(estimates):
    """Return the log of the sum of estimates whose logs and errors are given, and its error."""
    if not estimates:
        return -np.inf, 0.0
    logs, errors = np.array(estimates).T
    value = float(logsumexp(logs))
    return value, float(np.linalg.norm(np.exp(logs - value) * errors))


def estimate(problem, rng, *, size=32, n_sweeps=1, adapt=0.5, n_search=32, verbose=True):
    """Return all that is known of the log evidence of a problem."""
    begin = time.process_time()
    visited = Visited(problem.n_components)
    if problem.n_components == 1:
        value = float(problem.population(np.zeros((1, len(problem.X)), dtype=int)).log_joint[0])
        return {"log_evidence": value, "error": 0.0, "bound": value, "status": "exact"}
    modes = search(problem, rng, n_search, visited)
    if verbose:
        print("   modes", np.round(modes.values, 2), modes.best, round(visited.bound, 3),
              f"{time.process_time() - begin:.0f} s", flush=True)  # fmt: skip
    origins = [Origin(labels, problem.n_components) for labels in modes.labels]
    chosen, masses, reached = [], [], []
    for origin in origins:
        # a mode that chains from another one come to often is counted there
        nearest = region(np.vstack(reached), [*chosen, origin]) if reached else np.zeros(1)
        if chosen and (nearest == len(chosen)).mean() > 0.05:
            continue
        candidates = [*chosen, origin]
        found, draws = local_estimates(
            problem, candidates, len(chosen), rng, max(size // 4, 8), n_sweeps, 1.0, visited
        )
        if draws is None or found["origin up"][0] < max([*masses, -np.inf]) - 6:
            continue
        chosen, masses = candidates, [*masses, found["origin up"][0]]
        reached.append(draws.labels)
    if verbose:
        print("   masses", np.round(masses, 2), f"{time.process_time() - begin:.0f} s", flush=True)
    parts = []
    for index in range(len(chosen)):
        found, _ = local_estimates(problem, chosen, index, rng, size, n_sweeps, adapt, visited)
        parts.append(found)
        if verbose:
            shown = {name: (round(v, 3), round(float(e), 3)) for name, (v, e) in found.items()}
            print("   mode", index, shown, f"{time.process_time() - begin:.0f} s", flush=True)
    reach = max(
        origin.distances(labels).min(axis=1).max()
        for origin, labels in zip(chosen, reached, strict=True)
    )
    diffuse = diffuse_estimates(problem, chosen, reach, rng, max(size // 4, 8), 1.0)
    if diffuse["rows up"][0] > max(masses) - 6:
        diffuse = diffuse_estimates(problem, chosen, reach, rng, 2 * size, adapt)
        if verbose:
            print("   away from modes", diffuse, flush=True)
        parts.append(diffuse)
        parts.append({name.replace("rows", "origin"): diffuse[name] for name in diffuse})
    total = {}
    for name in ("origin up", "origin down", "rows up", "rows down"):
        found = [part[name] for part in parts if name in part]
        total[name] = log_sum([each for each in found if np.isfinite(each[0])])
    found = summarise(total, visited.bound, time.process_time() - begin)
    if found["error"] < 0.05 or problem.X.shape[1] > 1 or problem.n_components < 3:
        return found
    column = Column(
        problem.X[:, 0], problem.n_components, problem.scale[0, 0], problem.mean[0],
        problem.concentration, problem.strength, problem.degrees,
    )  # fmt: skip
    return summarise(estimates(column, rng), visited.bound, time.process_time() - begin)


def summarise(total, bound, seconds):
    """Return the value with its error, and whether it is established.

    Ways up are rather too low, and ways down too high: half of what they differ by counts, too; and
    half of what importance sampling and empty components differ by.
    """
    values, errors = np.array(list(total.values())).T
    errors = np.maximum(errors, 0.01)
    value = float(np.average(values, weights=errors**-2))
    up, down = (np.average(values[way::2], weights=errors[way::2] ** -2) for way in (0, 1))
    error = float(np.hypot((errors**-2).sum() ** -0.5, (down - up) / 2))
    good = (np.abs(values - value) < 0.2 + 3 * errors).all() and error < 0.15
    good = good and bound < value + 3 * error
    return {
        "log_evidence": value,
        "error": error,
        "bound": bound,
        "status": "established" if good else "not established",
        "estimates": total,
        "seconds": round(seconds),
    }


# -- problems --------------------------------------------------------------------------------------


def covariance_prior(X, kind, fill):
    """Return ``cov(X) / fill^(2/D)``, the default for ``fill = 5``."""
    covariance = np.atleast_2d(np.cov(X.T, bias=True)) / fill ** (2 / X.shape[1])
    return np.diagonal(covariance).copy() if kind == "diag" else covariance


def problems():
    """Yield name, rows, kind, K, T and by what the prior's scale fills the rows."""
    wine, cancer = standardised(load_wine().data), standardised(load_breast_cancer().data)
    iris, digits = load_iris().data, digits_axes()
    for fill in (0, 5):
        for k in (2, 3, 4):
            yield "iris", iris, "full", k, 1.0, fill
        for kind in ("full", "diag"):
            for k in (2, 3, 4):
                yield "wine", wine, kind, k, 1.0, fill
    for fill in (5, 0):
        for k in range(1, 5):
            yield "diabetes", load_diabetes().data, "full", k, 1.0, fill
        for kind in ("full", "diag"):
            for k in range(1, 5):
                yield "breast cancer", cancer, kind, k, 1.0, fill
        for kind in ("full", "diag"):
            for k in (1, 3):
                yield "digits, ten axes", digits, kind, k, 1.0, fill
        yield "overlapping", overlapping(), "full", 6, 1.0, fill
    for name, X in (("galaxies", GALAXIES), ("acidity", ACIDITY)):
        for k in range(1, 6):
            yield name, X, "full", k, 1.0, 5
    heated = (("full", 0.5), ("full", 2.0), ("tied", 0.5), ("tied", 1.0), ("tied", 2.0))
    for kind, temperature in heated:
        yield "wine", wine, kind, 3, temperature, 5


def key_of(name, kind, k, temperature, fill):
    return f"{name} {kind} K={k} T={temperature:g} fill={fill or 'K'}"


def compare(X, kind, k, temperature, prior, seed):
    """Return what a default fit says."""
    begin = time.process_time()
    model = BayesianGMMAutoEncoder(
        k, covariance_type=kind, temperature=temperature, covariance_prior=prior, random_state=seed
    ).fit(X)
    found = model.sampling_
    return {
        "status": found.status,
        "log_evidence": found.log_evidence,
        "error": found.log_evidence_error,
        "bound": found.log_evidence_lower_bound,
        "seconds": round(time.process_time() - begin, 2),
        "reasons": list(found.reasons),
    }


def is_wrong(fit, reference):
    """Return whether a fit says "ok" and is off by more than .3 nats and three errors."""
    joint = np.hypot(fit["error"], reference["error"])
    off = abs(fit["log_evidence"] - reference["log_evidence"]) > 0.3 + 3 * joint
    return bool(fit["status"] == "ok" and off)


def table(stored):
    """Return a table of all that is stored, in Markdown."""
    lines = [
        "| data | covariance | K | T | scale | log evidence | lower bound | default fits: ok |"
        " furthest ok |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, _, kind, k, temperature, fill in problems():
        row = stored.get(key_of(name, kind, k, temperature, fill))
        if row is None:
            continue
        value = f"{row['log_evidence']:.2f}"
        if row["status"] != "exact":
            value += f" ± {row['error']:.2f}"
        if row["status"] == "not established":
            value += " (not established)"
        good = [fit for fit in row["fits"] if fit["status"] == "ok"]
        furthest = max(
            (fit["log_evidence"] - row["log_evidence"] for fit in good), key=abs, default=0
        )
        compared = f"{len(good)} of {len(row['fits'])}" if row["fits"] else "-"
        compared += f" | {furthest:+.2f}" if good else " | -"
        scale = f"/ {fill or 'K'}^(2/D)"
        cells = (name, kind, k, f"{temperature:g}", scale, value, f"{row['bound']:.2f}", compared)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of keys")
    parser.add_argument("--again", action="store_true", help="compute anew what is stored")
    parser.add_argument("--compare", type=int, default=0, help="number of default fits each")
    parser.add_argument("--size", type=int, default=32, help="chains of each of eight groups")
    parser.add_argument("--sweeps", type=int, default=4, help="after each step of a path")
    parser.add_argument("--adapt", type=float, default=0.5, help="spread of log weights of a step")
    parser.add_argument("--search", type=int, default=32, help="chains of searches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only show what is stored")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if options.table:
        print(table(stored))
        return
    with threadpool_limits(1):
        for name, X, kind, k, temperature, fill in problems():
            key = key_of(name, kind, k, temperature, fill)
            if options.only and not any(each in key for each in options.only):
                continue
            prior = covariance_prior(X, kind, fill or k)
            if key not in stored or options.again:
                problem = Problem(X, k, kind, prior, X.mean(axis=0), temperature=temperature)
                rng = np.random.default_rng(options.seed)
                print(key, flush=True)
                fits = stored.get(key, {}).get("fits", [])
                stored[key] = estimate(
                    problem, rng, size=options.size, n_sweeps=options.sweeps,
                    adapt=options.adapt, n_search=options.search,
                )  # fmt: skip
                stored[key]["fits"] = fits
                STORED.write_text(json.dumps(stored, indent=1) + "\n")
            row = stored[key]
            print(f"{key:45s} {row['log_evidence']:11.3f} {row['error']:6.3f} "
                  f"bound {row['bound']:11.3f} {row['status']}", flush=True)  # fmt: skip
            while len(row["fits"]) < options.compare:
                fit = compare(X, kind, k, temperature, prior, len(row["fits"]))
                row["fits"].append(fit)
                STORED.write_text(json.dumps(stored, indent=1) + "\n")
                print(f"      {fit['log_evidence']:11.3f} {fit['error']:6.3f} {fit['status']} "
                      f"{fit['seconds']} s", "WRONG" if is_wrong(fit, row) else "",
                      *fit["reasons"], flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
