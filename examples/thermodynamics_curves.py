"""Free energies, learning coefficients and codes at falling temperatures.

On scikit-learn's irises. Run it with ``python
examples/thermodynamics_curves.py``; it takes less than a minute.
"""

import warnings

import numpy as np
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder, BayesianRBMAutoEncoder
from skbae.thermodynamics import (
    code_temperature_curve,
    free_energy_curve,
    learning_coefficient,
)

warnings.simplefilter("ignore")  # of doubts, which are printed here
X = load_iris().data
N = len(X)

# -- 1. free energy: how models concentrate as they cool ------------------------------------------

TAUS = [150.0, 40.0, 12.0, 8.0, 6.0, 4.0, 2.0, 1.0]
for K in (1, 2):
    curve = free_energy_curve(BayesianGMMAutoEncoder(K, random_state=0), X, TAUS)
    print(f"irises, {K} component(s)")
    print("    tau  Hmaxemax        G   information gain   heat capacity  status")
    for j, tau in enumerate(curve.model_temperatures):
        print(
            f"{tau:7.0f} {curve.hmaxemax[j]:9.3f} {curve.internal_energy[j]:8.3f}"
            f" {curve.information_gain[j]:9.2f} +- {curve.information_gain_error[j]:.2f}"
            f" {curve.heat_capacity[j]:8.2f} +- {curve.heat_capacity_error[j]:.2f}"
            f"  {curve.status[j]}"
        )
    if K == 1:
        differences, errors = curve.integrated()
        found = np.diff(N / curve.model_temperatures * curve.hmaxemax)
        gap = np.abs(differences - found) / errors
        print(f"the integral of G misses the log evidence by {gap.max():.1f} errors at most")

# -- 2. two parametrisations of one family ---------------------------------------------------------
# the order of magnitude of the prior: how much a model has to be told apart from what was expected

print("\ntwo priors of the same family (normal distributions of irises)")
for factor in (1.0, 1e-3):
    model = BayesianGMMAutoEncoder(1, mean_precision_prior=0.01 * factor, random_state=0)
    curve = free_energy_curve(model, X, [1.0])
    print(
        f"means 10 or more standard deviations wide (precision {0.01 * factor:g}): "
        f"log evidence {N * curve.hmaxemax[0]:.2f}, G {curve.internal_energy[0]:.3f}, "
        f"information gain {curve.information_gain[0]:.2f} nats"
    )
print(f"four means, each {np.sqrt(1e3):.0f} times wider: {2 * np.log(1e3):.2f} nats more to learn")

# -- 3. learning coefficients ----------------------------------------------------------------------

rng = np.random.default_rng(0)
line = 1.5 * rng.standard_normal((2000, 1)) @ rng.standard_normal((1, 5))
line += 0.5 * rng.standard_normal(line.shape)
print("\nlearning coefficients of PCA on rows about a line in 5 dimensions")
for d, exact, regular in ((1, 5.5, 5.5), (2, 6.5, 7.5), (3, 7.5, 9.0)):
    found = learning_coefficient(BayesianPCAAutoEncoder(d, random_state=0), line)
    print(
        f"{d} axes: {found.value:.2f} +- {found.error:.2f} (slope of G {found.slope:.2f} +- "
        f"{found.slope_error:.2f}); {exact} in the limit, {regular} if all parameters counted half"
    )

print("with N: two components of variance 1 on standard normal rows (0.75 in the limit),")
print("and a machine with one unit on three independent bits (2.25 in the limit)")
normals = BayesianGMMAutoEncoder(
    2,
    covariance_type="tied_spherical",
    degrees_of_freedom_prior=1e6,
    covariance_prior=1e6,
    mean_precision_prior=0.1,
    random_state=0,
)
machine = BayesianRBMAutoEncoder(1, random_state=0)
for n_rows in (100, 1000):
    mixture = learning_coefficient(normals, rng.standard_normal((n_rows, 1)))
    bits = (rng.random((n_rows, 3)) < [0.3, 0.5, 0.6]).astype(float)
    unit = learning_coefficient(machine, bits)
    print(
        f"N = {n_rows:5d}: {mixture.value:.2f} +- {mixture.error:.2f}, "
        f"{unit.value:.2f} +- {unit.error:.2f}"
    )

# -- 4. codes at several temperatures --------------------------------------------------------------

model = BayesianGMMAutoEncoder(
    3, covariance_type="tied_spherical", n_init=5, tol=1e-6, max_iter=500, random_state=0
)
print("\ncodes of irises (3 components), heated from T = 0")
curve = code_temperature_curve(model, X, [0.0, 1.0, 3.0, 6.0, 12.0, 30.0])
print("      T    Hmaxe  entropy (nats)  heat capacity  error of reconstruction")
for j, T in enumerate(curve.temperatures):
    print(
        f"{T:7.0f} {curve.hmaxe[j]:8.3f} {curve.code_entropy[j]:10.3f}"
        f" {curve.code_heat_capacity[j]:14.3f} {curve.reconstruction_error[j]:14.3f}"
    )
