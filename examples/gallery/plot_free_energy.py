"""
Free energy, and a phase transition of models
=============================================

A posterior can be heated. At a high temperature of the models, rows hardly count, and every model
of the prior is possible; as it falls to 1, the posterior, models concentrate on what fits. You
learn to follow that with ``free_energy_curve``, to read off how much the rows had to tell, and to
recognise the temperature at which two groups of flowers are told apart: a peak of the heat
capacity.
"""

# %%
# Cool the models of irises
# -------------------------
# 150 flowers with four measurements, described by one and by two normal components. The model
# temperature starts at N = 150, where all rows together count as one. Each point is a sampling of
# the models by itself, with standard errors and a status.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder
from skbae.plotting import FreeEnergyDisplay
from skbae.thermodynamics import free_energy_curve

X = load_iris().data
temperatures = [150, 40, 14, 10, 8, 7, 6, 4, 2, 1]
curves = {
    n_components: free_energy_curve(
        BayesianGMMAutoEncoder(n_components, random_state=0), X, temperatures
    )
    for n_components in (1, 2)
}

for n_components, curve in curves.items():
    print(f"{n_components} component(s)")
    print("temperature  Hmaxemax  internal energy  information gain  heat capacity  status")
    for point in zip(
        curve.model_temperatures,
        curve.hmaxemax,
        curve.internal_energy,
        curve.information_gain,
        curve.heat_capacity,
        curve.status,
        strict=True,
    ):
        print("{:11.0f} {:9.3f} {:16.3f} {:17.1f} {:14.1f}  {}".format(*point))

# %%
# What the columns mean
# ---------------------
# - The internal energy G is the mean log density of a flower under the models of that temperature.
# - Hmaxemax is minus the free energy of a flower; at temperature 1 it is the log evidence for each.
# - The information gain is how far the models have come from the prior, in nats.
# - The heat capacity is how much the energy varies between models. Where the rows determine all
#   parameters it is half their number.
#
# One normal distribution of four columns has 14 parameters, and its heat capacity comes down to 7.
# Two have 29, but at first their heat capacity is hardly more than that of one: the two
# components lie on each other. Then there is a peak, where some models have parted and some
# have not, and the energy differs much between these. From temperature 6 on, two components have
# the larger Hmaxemax: it takes that much weight of the rows to pay for the second. Their heat
# capacity stays above half the number of their parameters down to temperature 1.

figure, (left, ax) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
FreeEnergyDisplay.from_curve(curves[2], ax=left)
left.set_title("Functionals of two components")
for (n_components, curve), colour, marker in zip(
    curves.items(), ["#E69F00", "#0072B2"], "so", strict=True
):
    ax.errorbar(
        curve.model_temperatures,
        curve.heat_capacity,
        curve.heat_capacity_error,
        fmt=f"{marker}-",
        color=colour,
        capsize=3,
        label=f"{n_components} component{'s' * (n_components > 1)}",
    )
ax.axhline(7, color="#E69F00", ls=":", label="half the parameters of one")
ax.axhline(14.5, color="#0072B2", ls=":", label="half the parameters of two")
ax.set_xscale("log")
ax.invert_xaxis()
for each in (left, ax):
    each.set_xticks([100, 30, 10, 3, 1], labels=["100", "30", "10", "3", "1"])
    each.minorticks_off()
ax.set(xlabel="model temperature", ylabel="heat capacity")
ax.set_title("Two groups of irises part")
ax.legend()
plt.show()

# %%
# Is that right?
# --------------
# Evidence and internal energy are estimated in different ways, and the one is an integral of the
# other. ``integrated`` gives the differences of the log evidence between temperatures from the
# internal energy alone, with errors. The two ways should agree to a few of these.

differences, errors = curves[2].integrated()
direct = np.diff(len(X) / np.array(temperatures) * curves[2].hmaxemax)
print("differences of the log evidence of two components between temperatures, in nats")
print("direct    ", " ".join(f"{value:8.2f}" for value in direct))
print("integrated", " ".join(f"{value:8.2f}" for value in differences))
print("error     ", " ".join(f"{value:8.2f}" for value in errors))
