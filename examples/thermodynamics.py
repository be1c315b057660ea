"""What temperature does to codes: functionals, gradients, melting and splitting.

On scikit-learn's irises and handwritten digits. Run it with ``python examples/thermodynamics.py``;
it takes some seconds.
"""

import numpy as np
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder
from skbae.functionals import entropy, hmaxe, hmaxemax, hmem, internal_energy
from skbae.thermodynamics import critical_temperatures, hmaxe_gradient

X = load_iris().data

# -- 1. functionals of an energy: a grid of models ------------------------------------------------
# H(x, m, z) for one measurement, two components at m - 1 and m + 1 of width 1/2

petals = X[:, 2]
centres = np.linspace(0, 8, 161)
H = -2.0 * (petals[:, None, None] - centres[:, None] - np.array([-1.0, 1.0])) ** 2
print("a grid of 161 models of petal lengths")
print("   tau   Hmaxemax        G   entropy of p(m)")
for tau in (len(X), 10.0, 1.0, 0.0):
    values = [f(H, 1.0, tau) for f in (hmaxemax, internal_energy, entropy)]
    print(f"{tau:6.0f} {values[0]:10.4f} {values[1]:8.4f} {values[2]:10.4f}")
print(f"best single model: {hmaxe(H).max():.4f}; with hard codes, too: {hmem(H):.4f}\n")

# -- 2. the gradient of Hmaxe: what rows ask of a model --------------------------------------------

model = BayesianGMMAutoEncoder(3, model_temperature=0, reg_covar=0, tol=1e-9, random_state=0)
model.fit(X)
for rows, name in ((X, "at the fit"), (X + np.array([0.0, 0.0, 0.1, 0.0]), "petals 1 mm longer")):
    pull = hmaxe_gradient(model, rows)["means_"]
    print(f"gradient in means, {name}: {np.abs(pull).max():.5f} nats a row and cm at most")

# -- 3. PCA: directions melt -----------------------------------------------------------------------

digits = load_digits().data
pca = BayesianPCAAutoEncoder(20, model_temperature=0).fit(digits)
melting = critical_temperatures(pca, digits).temperatures
print("\ndigits: directions melt at T =", ", ".join(f"{T:.1f}" for T in melting[:8]), "...")
for T in (1.0, 3.0, 6.0):
    hot = BayesianPCAAutoEncoder(20, temperature=T, model_temperature=0).fit(digits)
    solid = int(np.sum(hot.component_precisions_ * hot.noise_variance_ < 1 - 1e-9))
    print(f"a fit at T = {T:.0f} has {solid} of 20 directions, as foreseen: {np.sum(melting > T)}")

# -- 4. mixtures: components split -----------------------------------------------------------------

mixture = BayesianGMMAutoEncoder(
    4, covariance_type="tied_spherical", model_temperature=0, n_init=10, random_state=0
).fit(X)
tree = critical_temperatures(mixture, X).tree
print(f"\nirises, cooled from one component (Hmaxe {tree.hmaxe:.4f}, fit {mixture.hmaxe_:.4f}):")


def show(node, indent=0):
    """Print a node of the tree, and those below it."""
    rows, petal = len(X) * tree.shares[node], tree.centres[node][2]
    leaf = np.isnan(tree.ends[node])
    what = f"{rows:.0f} flowers" if leaf else f"splits at T = {tree.ends[node]:.2f}"
    print(f"{'  ' * indent}petals of {petal:.1f} cm: {what}")
    for child in np.flatnonzero(tree.parents == node):
        show(child, indent + 1)


show(0)

# -- 5. annealed starts ----------------------------------------------------------------------------

angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
ring = np.repeat(centres, 50, axis=0) + 0.5 * np.random.default_rng(0).standard_normal((1000, 2))
annealed = BayesianGMMAutoEncoder(20, annealing="auto", model_temperature=0).fit(ring)
single = [
    BayesianGMMAutoEncoder(20, init_params="k-means++", model_temperature=0, random_state=seed)
    .fit(ring)
    .hmaxe_
    for seed in range(20)
]
print(f"\n20 clusters on a circle: annealed {annealed.hmaxe_:.4f} nats a row,")
print(f"20 single starts {min(single):.4f} to {max(single):.4f}")
