"""Tilted means: fits that look after the worst rows, and fits that outliers do not move.

Run it with ``python examples/thermodynamics_robustness.py``; it takes some seconds.
"""

import numpy as np

from skbae import BayesianGMMAutoEncoder

rng = np.random.default_rng(0)

# -- 1. tilt > 0: a small cluster that plain fits ignore is coded ----------------------------------
# two wide groups of 500 rows, and 4 rows of their own at (0, 8)

large = np.repeat([[-5.0, 0.0], [5.0, 0.0]], 500, axis=0) + rng.standard_normal((1000, 2)) * [2, 1]
small = [0.0, 8.0] + 0.3 * rng.standard_normal((4, 2))
X = np.concatenate([large, small])
print("3 components, 1000 rows in two groups and 4 in a third, at (0, 8)")
for tilt in (0.0, 0.5, 1.0, 3.0):
    model = BayesianGMMAutoEncoder(
        3, covariance_type="tied_spherical", tilt=tilt, model_temperature=0, n_init=10,
        max_iter=2000, random_state=0,
    ).fit(X)  # fmt: skip
    nearest = model.means_[np.argmin(np.linalg.norm(model.means_ - [0, 8], axis=1))]
    scores = model.score_samples(X)
    print(
        f"tilt {tilt:3.1f}: nearest component at ({nearest[0]:5.2f}, {nearest[1]:5.2f}), "
        f"mean energy {scores.mean():6.2f}, of the small group {scores[-4:].mean():7.2f}, worst "
        f"row {scores.min():7.2f}"
    )

# -- 2. tilt < 0: 5% of gross outliers do not move the means ---------------------------------------

clean = rng.standard_normal((950, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
outliers = rng.uniform(0.0, 40.0, (50, 2))
Y = np.concatenate([clean, outliers])
print("\na normal distribution of 950 rows about (0, 0), and 50 outliers up to (40, 40)")
for tilt in (0.0, -0.1, -0.3, -0.5):
    model = BayesianGMMAutoEncoder(1, tilt=tilt, model_temperature=0, max_iter=2000).fit(Y)
    deviations = np.sqrt(np.diag(model.covariances_[0]))
    print(
        f"tilt {tilt:4.1f}: mean ({model.means_[0, 0]:5.2f}, {model.means_[0, 1]:5.2f}), "
        f"standard deviations {deviations.round(2).tolist()}"
    )
print(f"without the outliers: {clean.mean(axis=0).round(2)}, {clean.std(axis=0).round(2)}")

# -- 3. the harmonic mean, and the limit -----------------------------------------------------------

harmonic = BayesianGMMAutoEncoder(1, tilt=1.0, model_temperature=0).fit(clean)
plain = BayesianGMMAutoEncoder(1, model_temperature=0).fit(clean)
ratio = np.linalg.det(harmonic.covariances_[0]) / np.linalg.det(plain.covariances_[0])
print(f"\ntilt=1, the harmonic mean of densities: a covariance {np.sqrt(ratio):.2f} times as large")
try:
    BayesianGMMAutoEncoder(1, tilt=np.inf, model_temperature=0).fit(clean)
except ValueError as error:
    print(f"tilt=inf is refused: {error}")
