"""Local learning coefficients of networks: how many of their parameters count.

On pixels of scikit-learn's handwritten digits. Run it with ``python
examples/thermodynamics_networks.py``; it takes less than a minute.
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits

from skbae import BayesianVAEAutoEncoder
from skbae.thermodynamics import learning_coefficient

warnings.simplefilter("ignore")  # of doubts, which are printed here
X = load_digits().data[:900] / 16
X = X[:, X.std(axis=0) > 0.37]
print(f"{len(X)} digits, {X.shape[1]} pixels")


def report(what, network):
    """Print a network's coefficient, in all and for each parameter."""
    found = learning_coefficient(network, X)
    arrays = (*network.decoder_coefs_, *network.decoder_intercepts_, network.noise_variance_)
    size = sum(np.size(each) for each in arrays)
    print(
        f"{what}: Hmaxe {network.hmaxe_:6.2f}, coefficient {found.value:6.1f} "
        f"+- {found.error:.1f}, {found.value / size:5.2f} for each of {size} parameters "
        f"({found.status})"
    )


def fitted(n_components, hidden_layer_sizes, max_iter):
    """Return a network after some passes over the rows."""
    return BayesianVAEAutoEncoder(
        n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        noise="shared",
        max_iter=max_iter,
        alpha=0.0,
        n_score_samples=8,
        random_state=0,
    ).fit(X)


# -- 1. linear decoders: the more codes, the more rotations of them that change nothing ------------

for d in (1, 8):
    report(f"linear decoder, {d} code(s)", fitted(d, (), 100))

# -- 2. along training: below zero where chains find better networks than the one they start from --

for passes in (10, 150):
    report(f"8 tanh units after {passes:4d} passes", fitted(2, (8,), passes))
