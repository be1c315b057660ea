"""
Two numbers for a digit: codes and samples of a network
=======================================================

A variational autoencoder has a network as decoder, so that its codes may lie on a curved surface
through the data. You learn to fit one, to look at its codes, to walk through them, to draw new
digits, and to compare it fairly with probabilistic PCA, which is the same model without the bend.
"""

# %%
# Fit on 1200 digits
# ------------------
# Grey levels are divided by 16. Both models have two codes and one noise variance for all pixels;
# 597 digits are held out.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skbae import BayesianPCAAutoEncoder, BayesianVAEAutoEncoder
from skbae.plotting import CodesDisplay

images, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(
    images / 16, digits, train_size=1200, stratify=digits, random_state=0
)
network = BayesianVAEAutoEncoder(
    2,
    hidden_layer_sizes=(64,),
    noise="shared",
    max_iter=60,
    model_temperature=0,
    random_state=0,
).fit(X)
line = BayesianPCAAutoEncoder(2, model_temperature=0).fit(X)

# %%
# Digits that neither has seen: the error of their reconstructions, and how often the digit is that
# of most of the ten nearest codes.

for name, model in (("probabilistic PCA", line), ("network", network)):
    error = np.mean((X_test - model.inverse_transform(model.transform(X_test))) ** 2)
    nearest = KNeighborsClassifier(10).fit(model.transform(X), y)
    hits = nearest.score(model.transform(X_test), y_test)
    print(f"{name}: squared error {error:.4f} a pixel, digits right {hits:.0%}")

# %%
# Codes
# -----

figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for ax, model, name in zip(axes, (line, network), ("Probabilistic PCA", "Network"), strict=True):
    CodesDisplay.from_estimator(model, X_test, y=y_test, ax=ax)
    ax.set_title(f"{name}: codes of digits held out")
axes[0].get_legend().remove()
plt.show()

# %%
# Walk through the codes, and draw digits
# ---------------------------------------
# On the left, the images that a grid of codes is decoded to, from -2 to 2 in both directions: codes
# are standard normal beforehand. On the right, draws from the density, which have the noise of
# pixels, too.

size = 10
steps = np.linspace(-2, 2, size)
grid = np.array([[across, up] for up in steps[::-1] for across in steps])


def sheet(rows):
    """Return images side by side, with white between them."""
    framed = np.pad(rows.reshape(size, size, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return framed.swapaxes(1, 2).reshape(10 * size, 10 * size)


drawn, _ = network.sample(size**2, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(10, 5.2), layout="constrained")
axes[0].imshow(
    sheet(network.inverse_transform(grid)), cmap="gray_r", vmin=0, vmax=1, extent=(-2, 2, -2, 2)
)
axes[0].set(title="Decoded from a grid of codes", xlabel="code 0", ylabel="code 1")
axes[1].imshow(sheet(drawn), cmap="gray_r", vmin=0, vmax=1)
axes[1].set(title="Drawn from the density", xticks=[], yticks=[])
plt.show()
