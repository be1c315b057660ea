"""Restricted Boltzmann machines against scikit-learn's, on binarised digits.

``python benchmarks/rbm.py [--units 12 100 256] [--seeds 3] [--rates 0.1 0.02]``. Both are fitted to
the same 1400 rows, one after the other in each repetition; ours with the default settings, theirs
for 200 epochs at each learning rate. Their likelihood is found from their attributes as ours is, by
enumeration or by annealing. Printed are the time of the whole fit and of one pass over the rows (an
exact fit has no passes: a step is one), the mean log-likelihood of 397 test rows with the error
of its log Z, and ratios of medians.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits

from skbae import BayesianRBMAutoEncoder
from skbae.energies.rbm._energy import RBMEnergy, base_rates
from skbae.energies.rbm._visible import LAYERS, RBMParameters
from skbae.inference.evidence._partition import estimate_partition
from skbae.inference.passes._rows import make_rows

EPOCHS = 200


def likelihood(machine, train, test):
    """Return the mean log-likelihood of test rows under scikit-learn's machine, and its error."""
    rows, layer = make_rows(train, None), LAYERS["bernoulli"]()
    size, n_units = train.shape[1], len(machine.components_)
    energy = RBMEnergy(n_units, size, layer, base_rates(layer, rows.centre, rows.scale))
    arrays = machine.components_, machine.intercept_visible_, machine.intercept_hidden_
    params = RBMParameters(*(array[None] for array in arrays), np.ones((1, 1)), np.full(1, np.nan))
    if n_units <= 20:
        log_partition, error = energy.log_partition(params)[0], 0.0
    else:
        found = estimate_partition(energy, params, np.random.default_rng(0))
        log_partition, error = found.log_partition, found.error
    activations = test @ machine.components_.T + machine.intercept_hidden_
    free = test @ machine.intercept_visible_ + np.logaddexp(0, activations).sum(axis=1)
    return float(free.mean() - log_partition), error


def timed(model, X):
    begin = time.perf_counter()
    model.fit(X)
    return time.perf_counter() - begin


def compare(n_units, seeds, rates, train, test):
    names = ["skbae", *(f"sklearn, rate {rate:g}" for rate in rates)]
    found = {name: [] for name in names}
    for seed in range(seeds):
        ours = BayesianRBMAutoEncoder(n_units, random_state=seed)
        taken = timed(ours, train)
        row = (taken, taken / ours.n_iter_, ours.score(test), ours.log_partition_error_)
        found["skbae"].append(row)
        for name, rate in zip(names[1:], rates, strict=True):
            theirs = BernoulliRBM(n_units, n_iter=EPOCHS, learning_rate=rate, random_state=seed)
            taken = timed(theirs, train)
            found[name].append((taken, taken / EPOCHS, *likelihood(theirs, train, test)))
    reference = np.median([row[0] for row in found[names[1]]])
    for name, rows in found.items():
        seconds, each, scores, errors = np.array(rows).T
        print(
            f"{n_units:4d} {name:20s} {np.median(seconds):6.1f}s {np.median(each) * 1e3:6.1f}ms "
            f"{np.median(scores):8.3f} ({scores.min():.3f} to {scores.max():.3f}) "
            f"+- {errors.max():.3f}  time ratio {np.median(seconds) / reference:.2f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, nargs="+", default=[12, 100, 256])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.02])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    X = (load_digits().data > 7).astype(float)
    print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}, {options.threads} threads")
    print("units, who, fit, one pass, test log-likelihood (range over seeds) +- error of log Z")
    with threadpool_limits(options.threads):
        for n_units in options.units:
            compare(n_units, options.seeds, options.rates, X[:1400], X[1400:])


if __name__ == "__main__":
    main()
