"""Rows that arrive in batches: PCA and mixtures by partial_fit, and rows that change as they come.

Run ``python examples/batches.py``; it takes some seconds.
"""

import numpy as np
from sklearn.datasets import load_digits

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder

rng = np.random.default_rng(0)


def batches(rows, size):
    """Return the rows in batches, in their order."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


# PCA: the moments of all rows add up, so that any batches give the same model as one fit.
X = load_digits().data
whole = BayesianPCAAutoEncoder(10, model_temperature=0).fit(X)
parts = BayesianPCAAutoEncoder(10, model_temperature=0)
for batch in batches(X, 100):
    parts.partial_fit(batch)
print(f"PCA of {parts.n_samples_seen_} digits in batches of 100:")
print(f"  mean log density {parts.score(X):.6f}, of one fit {whole.score(X):.6f}")

# Mixtures: one step of expectation maximisation a batch, shorter and shorter.
centres = rng.normal(size=(6, 5)) * 2
X = centres[rng.integers(6, size=60_000)] + rng.normal(size=(60_000, 5))
stream = BayesianGMMAutoEncoder(6, model_temperature=0, random_state=0)
for number, batch in enumerate(batches(X, 1000), 1):
    stream.partial_fit(batch)
    if number in (1, 10, 60):
        print(f"mixture after {number:2d} batches: mean log density {stream.score(X):.4f}")
start = {
    "weights_init": stream.weights_,
    "means_init": stream.means_,
    "precisions_init": stream.precisions_,
}
whole = BayesianGMMAutoEncoder(6, model_temperature=0, **start).fit(X)
print(f"the fit to all rows that this leads to:      {whole.score(X):.4f}")

# Rows that move: what is forgotten makes room for what is new.
drift = rng.normal(size=(20_000, 1)) + np.linspace(0, 10, 20_000)[:, None]
for forgetting in (0.0, 0.2):
    model = BayesianGMMAutoEncoder(1, model_temperature=0, forgetting=forgetting)
    for batch in batches(drift, 100):
        model.partial_fit(batch)
    print(f"rows end at 10; with forgetting={forgetting} the mean is {model.means_[0, 0]:.2f}")
