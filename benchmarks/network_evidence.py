"""Log evidences of small network decoders, by a sampler that shares nothing with the package.

Models of one code and one hidden layer are drawn from the prior and annealed to the posterior. At
each temperature they are resampled by weight and moved by Metropolis steps: along differences of
two models of the other half of the population, whose hidden units are in the same order and have
the same signs, in all coordinates or in some; at random in one hidden unit and the constants; and
at random in one coordinate. Codes are integrated by the trapezoidal rule. The mean of independent
runs' evidences is unbiased, and their spread is the error.

``python benchmarks/network_evidence.py --particles 10000 --sweeps 40 --runs 4`` takes some ten
minutes for each run of 30 rows; ``--compare`` fits `BayesianVAEAutoEncoder` to the same rows. One
thread.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from skbae import BayesianVAEAutoEncoder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _data import bent_rows

PROBLEMS = {
    "three tanh units": (bent_rows(30), 3, "tanh"),
    "three relu units": (bent_rows(30), 3, "relu"),
    "five tanh units": (bent_rows(60, 3, seed=1), 5, "tanh"),
}
ACTIVATIONS = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}
# Effective share of the population that a change of temperature keeps, acceptances that moves are
# scaled to, and models that are evaluated at once.
KEPT, ACCEPTED, AT_ONCE = 0.7, 0.25, 64


@dataclass
class Problem:
    """Rows (N, D) and the default prior of decoders.

    Coordinates: weights into H units, their intercepts, weights out of them (H, D), then D
    intercepts, D weights of the linear map, and D logarithms of noise variances.
    """

    X: np.ndarray
    n_units: int
    activation: str
    n_nodes: int

    def __post_init__(self):
        unit = self.X.std(axis=0)
        self.scaled = ((self.X - self.X.mean(axis=0)) / unit).astype(np.float32)
        self.shift = -len(self.X) * np.log(unit).sum()
        self.d = self.X.shape[1]
        self.z = np.linspace(-5.5, 5.5, self.n_nodes, dtype=np.float32)
        shares = np.exp(-0.5 * self.z.astype(float) ** 2)
        self.log_shares = np.log(shares / shares.sum()).astype(np.float32)
        h, d = self.n_units, self.d
        self.precision = np.concatenate([np.ones(2 * h), np.full(h * d, h), np.ones(2 * d)])

    def draw(self, n, rng):
        """Return draws of the prior, (n, P)."""
        weights = rng.standard_normal((n, len(self.precision))) / np.sqrt(self.precision)
        noise = 0.1 / rng.standard_exponential((n, self.d))  # inverse gamma (1, 0.1)
        return np.concatenate([weights, np.log(noise)], axis=1)

    def log_prior(self, theta):
        """Return the log density of the prior, up to a constant."""
        logs = theta[:, -self.d :]
        squares = theta[:, : -self.d] ** 2 @ self.precision
        return -0.5 * squares - (logs + 0.1 * np.exp(-logs)).sum(axis=1)

    def parts(self, theta):
        """Return views of the weights into and out of units, and of the intercepts."""
        h, d = self.n_units, self.d
        out = theta[:, 2 * h : 2 * h + h * d].reshape(-1, h, d)
        return theta[:, :h], theta[:, h : 2 * h], out, theta[:, -3 * d : -2 * d]

    def log_likelihood(self, theta):
        """Return the log likelihood of models, but for the units of the rows."""
        parts = [theta[at : at + AT_ONCE] for at in range(0, len(theta), AT_ONCE)]
        return np.concatenate([self._log_likelihood(part) for part in parts])

    def _log_likelihood(self, theta):
        logs = np.clip(theta[:, -self.d :], -30, 30)
        into, bends, out, at = self.parts(theta.astype(np.float32))
        skip = theta[:, -2 * self.d : -self.d].astype(np.float32)
        hidden = ACTIVATIONS[self.activation](self.z[:, None] * into[:, None] + bends[:, None])
        curve = hidden @ out + at[:, None] + self.z[:, None] * skip[:, None]
        found = np.broadcast_to(self.log_shares, (len(theta), len(self.X), self.n_nodes)).copy()
        for feature in range(self.d):
            half = 0.5 * np.exp(-logs[:, feature]).astype(np.float32)
            found -= (
                half[:, None, None]
                * (self.scaled[:, feature, None] - curve[:, None, :, feature]) ** 2
            )
        peak = found.max(axis=2, keepdims=True)
        sums = np.log(np.exp(found - peak).sum(axis=2)) + peak[:, :, 0]
        each = -0.5 * (np.log(2 * np.pi) + logs).sum(axis=1)
        return sums.sum(axis=1, dtype=float) + len(self.X) * each

    def ordered(self, theta):
        """Return equal models with the sign of the code and the order and signs of units set."""
        theta = theta.copy()
        skip = theta[:, -2 * self.d : -self.d]
        into, bends, out, _ = self.parts(theta)
        turned = skip[:, 0] < 0
        skip[turned] *= -1
        into[turned] *= -1
        if self.activation == "tanh":
            signs = np.where(into < 0, -1.0, 1.0)
            into *= signs
            bends *= signs
            out *= signs[:, :, None]
        order = np.argsort(out[:, :, 0], axis=1)
        into[...] = np.take_along_axis(into, order, axis=1)
        bends[...] = np.take_along_axis(bends, order, axis=1)
        out[...] = np.take_along_axis(out, order[:, :, None], axis=1)
        return theta


def proposals(problem, theta, others, spread, scales, rng):
    """Return proposals of four kinds for models (S, P), one after the other."""
    n, p = theta.shape
    h, d = problem.n_units, problem.d

    def difference():
        first, second = rng.integers(len(others), size=(2, n))
        return others[first] - others[second]

    def by_all(theta):
        steps = scales[0] * 1.7 / np.sqrt(p) * rng.uniform(0.5, 1.5, n)
        return theta + np.where(rng.random(n) < 0.1, 1.0, steps)[:, None] * difference()

    def by_some(theta):
        chosen = rng.random(theta.shape) < 0.2
        return theta + scales[1] * rng.uniform(0.5, 1.5, (n, 1)) * chosen * difference()

    def by_unit(theta):
        unit, factor = rng.integers(h, size=n), np.zeros((n, p))
        for at in (unit, h + unit, *(2 * h + unit * d + feature for feature in range(d))):
            factor[np.arange(n), at] = 1.0
        factor[:, 2 * h + h * d :] = 0.3
        return theta + scales[2] * factor * spread * rng.standard_normal((n, p))

    def by_one(theta):
        step = np.zeros((n, p))
        step[np.arange(n), rng.integers(p, size=n)] = 3 * rng.standard_normal(n)
        return theta + scales[3] * step * spread

    return by_all, by_some, by_unit, by_one


def anneal(problem, n_particles, n_sweeps, seed):
    """Return the log evidence by one population."""
    rng = np.random.default_rng(seed)
    theta = problem.draw(n_particles, rng)
    likelihood, beta, found, scales = problem.log_likelihood(theta), 0.0, 0.0, np.ones(4)
    while beta < 1:
        excess, low, high = likelihood - likelihood.max(), 0.0, 1 - beta
        if np.exp(excess * high).sum() ** 2 < KEPT * n_particles * np.exp(2 * excess * high).sum():
            for _ in range(50):
                middle = 0.5 * (low + high)
                weights = np.exp(excess * middle)
                if weights.sum() ** 2 < KEPT * n_particles * (weights**2).sum():
                    high = middle
                else:
                    low = middle
            high = low
        weights = np.exp(excess * high)
        found += np.log(weights.mean()) + high * likelihood.max()
        beta = 1.0 if beta + high > 1 - 1e-9 else beta + high
        places = (np.arange(n_particles) + rng.random()) / n_particles
        chosen = np.searchsorted(np.cumsum(weights) / weights.sum(), places)
        chosen = rng.permutation(np.minimum(chosen, n_particles - 1))
        theta, likelihood = problem.ordered(theta[chosen]), likelihood[chosen]
        prior, spread = problem.log_prior(theta), theta.std(axis=0)
        half = n_particles // 2
        for _ in range(n_sweeps):
            accepted = np.zeros(4)
            for own, other in (
                (slice(0, half), slice(half, None)),
                (slice(half, None), slice(0, half)),
            ):
                moves = proposals(problem, theta[own], theta[other], spread, scales, rng)
                for number, propose in enumerate(moves):
                    moved = propose(theta[own])
                    its_prior, its = problem.log_prior(moved), problem.log_likelihood(moved)
                    change = its_prior - prior[own] + beta * (its - likelihood[own])
                    yes = np.log(rng.random(len(change))) < change
                    theta[own] = np.where(yes[:, None], moved, theta[own])
                    likelihood[own] = np.where(yes, its, likelihood[own])
                    prior[own] = np.where(yes, its_prior, prior[own])
                    accepted[number] += 0.5 * np.exp(np.minimum(change, 0)).mean()
            scales = np.minimum(scales * np.exp(0.7 * (accepted - ACCEPTED)), 3)
    return found + problem.shift


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="problems whose name contains this")
    parser.add_argument("--particles", type=int, default=10_000)
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=80)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--compare", type=int, default=0, help="number of fits of the package")
    given = parser.parse_args()
    for name, (X, n_units, activation) in PROBLEMS.items():
        if given.only not in name:
            continue
        problem = Problem(X, n_units, activation, given.nodes)
        for seed in range(given.runs):
            start = time.process_time()
            value = anneal(problem, given.particles, given.sweeps, seed)
            print(f"{name}: {value:.2f} ({time.process_time() - start:.0f} s)", flush=True)
        for seed in range(given.compare):
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = BayesianVAEAutoEncoder(
                    1,
                    hidden_layer_sizes=(n_units,),
                    activation=activation,
                    model_temperature=1.0,
                    random_state=seed,
                ).fit(X)
            found, spent = fitted.sampling_, time.process_time() - start
            values = f"{found.log_evidence:.2f} +- {found.log_evidence_error:.2f}"
            print(f"{name}: skbae {values}, {found.status} ({spent:.0f} s)", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
