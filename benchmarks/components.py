"""Mixtures of bits, categories and counts against StepMix and pomegranate, per iteration of EM.

``python benchmarks/components.py [--rows 100000] [--columns 20] [--components 5] [--repeats 3]``.
All make steps of expectation maximisation from starts of their own, with the tolerance at zero;
the time of a fit of two steps is subtracted, which leaves the time of a step. Fits alternate within
each repetition. Printed are the times of a step, the mean log likelihood after all steps, and the
median of the repetitions' ratios of the peer's time to ours.

Then both go on from one and the same model, and the log likelihoods of their steps are compared,
with and without gaps (StepMix's models for gaps are others). No prior has a part in this: neither
StepMix nor ``model_temperature=0`` has one.

It then fits a table of two Gaussian columns, a count and two categories, of which a fifth of the
entries is missing, and prints the adjusted Rand index of both with the true classes: ours with the
kind of covariances that has the least BIC, and of StepMix's models of the same columns the one with
the largest index, with several starts each. With ``--single`` our rows are of single precision.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from skbae import BayesianMixtureAutoEncoder
from skbae.components import Categorical, Gaussian, Poisson

# Steps of ours, which take less time, and of a peer.
STEPS = {"ours": 60, "peer": 10}
SHORT = 2


def data(kind, n_rows, n_columns, n_components, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_components, size=n_rows)
    if kind == "bernoulli":
        chances = rng.uniform(0.1, 0.9, (n_components, n_columns))
        return (rng.random((n_rows, n_columns)) < chances[labels]).astype(float)
    if kind == "poisson":
        return rng.poisson(rng.gamma(3.0, 2.0, (n_components, n_columns))[labels]).astype(float)
    chances = rng.dirichlet(np.ones(4), (n_components, n_columns)).cumsum(axis=2)
    return (rng.random((n_rows, n_columns, 1)) > chances[labels]).sum(axis=2).astype(float)


def ours(kind, n_components, n_steps):
    return BayesianMixtureAutoEncoder(
        n_components,
        kind,
        model_temperature=0,
        tol=0,
        max_iter=n_steps,
        init_params="random",
        random_state=0,
        n_jobs=1,
    )


def stepmix(measurement, n_components, n_steps, of=None):
    """Return StepMix, or a class made `of` it, that makes so many steps."""
    from stepmix import StepMix

    return (of or StepMix)(
        n_components,
        measurement=measurement,
        n_init=1,
        max_iter=n_steps,
        abs_tol=0,
        rel_tol=0,
        init_params="random",
        random_state=0,
        progress_bar=0,
        verbose=0,
    )


class Pomegranate:
    """Its mixtures of Poissons, with the interface of a fit."""

    def __init__(self, n_components, n_steps):
        from pomegranate.distributions import Poisson as Own
        from pomegranate.gmm import GeneralMixtureModel

        rng = np.random.default_rng(0)
        self.make = lambda size: GeneralMixtureModel(
            [Own(rng.gamma(3.0, 2.0, size).astype(np.float32)) for _ in range(n_components)],
            max_iter=n_steps,
            tol=-1e9,
        )

    def fit(self, X):  # noqa: D102
        self.model = self.make(X.shape[1]).fit(X.astype(np.float32))

    def score(self, X):  # noqa: D102
        return float(self.model.log_probability(X.astype(np.float32)).mean())


def seconds(model, X):
    begin = time.process_time()  # of one thread, so that other work on the machine matters less
    model.fit(X)
    return time.process_time() - begin


def compare(kind, peer, X, n_components, repeats, single):
    times = {"ours": [], "peer": []}
    peer_name = peer.__name__
    for _ in range(repeats):
        for name, make in (("ours", ours), ("peer", peer)):
            pair = []
            for n_steps in (SHORT, SHORT + STEPS[name]):
                model = make(kind, n_components, n_steps)
                rows = X.astype(np.float32) if single and name == "ours" else X
                taken = seconds(model, rows)
                # a fit that changes nothing any more stops before
                pair.append((taken, getattr(model, "n_iter_", n_steps)))
            (short, few), (long, many) = pair
            times[name].append((long - short) / (many - few))
            shown = "ours" if name == "ours" else peer_name
            print(f"  {shown}: {1e3 * times[name][-1]:8.2f} ms a step, {model.score(X):.4f}")
    ratios = np.divide(times["peer"], times["ours"])
    shape = f"{X.shape[0]} x {X.shape[1]}, K={n_components}"
    print(f"{kind}, {shape}: {peer_name} takes {np.median(ratios):.1f} times as long\n")


def same_start(kind, gaps, n_steps=40, n_rows=5000, n_columns=8, n_components=4):
    """Return the log likelihoods a row of each step from one model: StepMix's, and ours."""
    from stepmix import StepMix

    X = data(kind, n_rows, n_columns, n_components)
    if gaps:
        X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    # tol=0: no step is made longer
    model = ours(kind, n_components, 1).set_params(max_iter=2).fit(X)
    found = model.parameters_[kind]["probabilities"]
    # all columns of categories have as many of them
    pis = found if kind == "bernoulli" else np.concatenate(found, axis=1)

    class FromModel(StepMix):
        def _initialize_parameters(self, X, random_state):
            super()._initialize_parameters(X, random_state)
            self.weights_ = model.weights_.copy()
            self._mm.parameters["pis"] = pis.copy()
            self.course_ = []

        def _e_step(self, *args, **kwargs):
            result = super()._e_step(*args, **kwargs)
            self.course_.append(result[0])
            return result

    measurement = f"{kind}_nan" if gaps else kind
    peer = stepmix(measurement, n_components, n_steps, FromModel).fit(X)
    model.set_params(warm_start=True, max_iter=n_steps).fit(X)
    length = min(len(peer.course_), len(model.lower_bounds_), n_steps)
    return np.array(peer.course_[:length]), np.array(model.lower_bounds_[:length])


def compare_starts():
    for kind in ("bernoulli", "categorical"):
        for gaps in (False, True):
            theirs, own = same_start(kind, gaps)
            apart = np.abs(theirs - own).max()
            what = f"{kind}, {'a tenth missing' if gaps else 'complete'}"
            print(
                f"same start, {what}: from {own[0]:.6f} to {own[-1]:.6f} nats a row in {len(own)} "
                f"steps, at most {apart:.1e} apart"
            )


def pomegranate(kind, n_components, n_steps):
    return Pomegranate(n_components, n_steps)


def mixed_table(n=1000, seed=0, gaps=0.2, covariances=True):
    """Return two Gaussian columns, a count and two categories, and the classes.

    With `covariances`, classes differ by these; without, by the means.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    first, second = rng.standard_normal((2, n))
    if covariances:
        second = np.array([0.95, -0.95, 0.0])[labels] * first + 0.3 * second + 1.5 * (labels == 2)
    else:
        first, second = first + 2.0 * (labels == 1), second + 2.0 * (labels == 2)
    visits = rng.poisson(np.array([3.0, 4.0, 6.0])[labels])
    chances = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]])[labels].cumsum(axis=1)
    answers = [(rng.random(n)[:, None] > chances).sum(axis=1) for _ in range(2)]
    X = np.column_stack([first, second, visits, *answers]).astype(float)
    X[rng.random(X.shape) < gaps] = np.nan
    return X, labels


def mixed(covariances, seed, n_starts=20):
    import pandas as pd
    from stepmix import StepMix

    X, labels = mixed_table(seed=seed, covariances=covariances)
    models = [
        BayesianMixtureAutoEncoder(
            3,
            [
                ("sizes", Gaussian(kind), [0, 1]),
                ("visits", Poisson(), [2]),
                ("answers", Categorical(), [3, 4]),
            ],
            model_temperature=0,
            n_init=n_starts,
            random_state=0,
            max_iter=500,
        ).fit(X)
        for kind in ("full", "tied", "diag", "tied_spherical")
    ]
    chosen = min(models, key=lambda model: model.bic(X))
    found = adjusted_rand_score(labels, chosen.predict(X))
    theirs = []
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    for gaussian in ("gaussian_diag_nan", "gaussian_unit_nan"):
        measurement = {
            "numbers": {"model": gaussian, "n_columns": 3},
            "answers": {"model": "categorical_nan", "n_columns": 2},
        }
        peer = StepMix(
            3,
            measurement=measurement,
            n_init=n_starts,
            random_state=0,
            max_iter=500,
            progress_bar=0,
            verbose=0,
        )
        theirs.append(adjusted_rand_score(labels, peer.fit(frame).predict(frame)))
    return found, max(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--components", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    peers = (("bernoulli", stepmix), ("categorical", stepmix), ("poisson", pomegranate))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, peer in peers:
            X = data(kind, given.rows, given.columns, given.components)
            try:
                compare(kind, peer, X, given.components, given.repeats, given.single)
            except ImportError as error:
                print(f"{kind}: {error}\n")
        try:
            compare_starts()
        except ImportError as error:
            print(f"same start: {error}")
        for covariances in (True, False):
            for seed in range(given.seeds):
                found, best = mixed(covariances, seed)
                what = "covariances" if covariances else "means"
                print(f"classes by {what}, seed {seed}: ours {found:.3f}, StepMix {best:.3f}")


if __name__ == "__main__":
    main()
