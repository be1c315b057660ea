"""Data that several tests share."""

from __future__ import annotations

import numpy as np

# Velocities of 82 galaxies in km/s (Postman, Huchra and Geller 1986; the version of R's MASS, with
# 26690), divided by 1000.
# fmt: off
GALAXIES = np.array(
    [
        9172, 9350, 9483, 9558, 9775, 10227, 10406, 16084, 16170, 18419, 18552, 18600,
        18927, 19052, 19070, 19330, 19343, 19349, 19440, 19473, 19529, 19541, 19547, 19663,
        19846, 19856, 19863, 19914, 19918, 19973, 19989, 20166, 20175, 20179, 20196, 20215,
        20221, 20415, 20629, 20795, 20821, 20846, 20875, 20986, 21137, 21492, 21701, 21814,
        21921, 21960, 22185, 22209, 22242, 22249, 22314, 22374, 22495, 22746, 22747, 22888,
        22914, 23206, 23241, 23263, 23484, 23538, 23542, 23666, 23706, 23711, 24129, 24285,
        24289, 24366, 24717, 24990, 25633, 26690, 26995, 32065, 32789, 34279,
    ]
)[:, None] / 1000
# fmt: on

# The prior of Hairault, Robert and Rousseau, and log evidences with standard errors by long runs of
# an independent program; one component is exact.
GALAXIES_PRIOR = {
    "weight_concentration_prior": 1.0,
    "mean_precision_prior": 2.6 / np.ptp(GALAXIES),
    "mean_prior": GALAXIES.mean(axis=0),
    "degrees_of_freedom_prior": 2.56,
    "covariance_prior": [[0.72 * GALAXIES.var()]],
}
GALAXIES_EVIDENCE = {
    1: (-246.1799, 0.0),
    2: (-231.492, 0.010),
    3: (-227.065, 0.005),
    4: (-226.435, 0.005),
    5: (-226.272, 0.004),
    6: (-226.334, 0.004),
    8: (-226.789, 0.004),
}
