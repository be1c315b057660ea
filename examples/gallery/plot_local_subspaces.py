"""
Local subspaces: an image by a mixture of PCA
=============================================

PCA describes all rows by the same few directions. A mixture of PCA has several such subspaces, and
codes a row by the one that fits best and its coordinates there. You learn what that gains, on the
patches of a photograph: with as many numbers for each patch, and three bits to say which subspace,
edges are sharper.
"""

# %%
# Patches of a photograph
# -----------------------
# The roof of a Chinese temple, in grey levels from 0 to 1, in patches of 8 x 8 pixels: each is a
# row of 64 numbers.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.plotting import ComponentsDisplay

SIZE, N_SUBSPACES, N_DIRECTIONS = 8, 8, 8

photograph = load_sample_image("china.jpg").mean(axis=2) / 255
photograph = photograph[:424]  # whole patches
height, width = (length // SIZE for length in photograph.shape)


def patches(image):
    """Return the patches of an image as rows."""
    return image.reshape(height, SIZE, width, SIZE).swapaxes(1, 2).reshape(-1, SIZE**2)


def assembled(rows):
    """Return the image of which these are the patches."""
    blocks = rows.reshape(height, width, SIZE, SIZE)
    return blocks.swapaxes(1, 2).reshape(height * SIZE, width * SIZE)


X = patches(photograph)
print(f"{len(X)} patches of {X.shape[1]} pixels")

# %%
# Code and decode
# ---------------
# At temperature 0 both are deterministic autoencoders, which make the squared error as small as
# they can. The mixture gives each patch to the nearest of eight subspaces of eight directions. PCA
# may have one more direction, so that nobody can say it was the code's size.


def decibels(reconstruction):
    """Return the ratio of the largest signal to the error."""
    return -10 * np.log10(np.mean((reconstruction - X) ** 2))


def decoded(model):
    """Return what is left of the patches after coding and decoding."""
    return model.inverse_transform(model.transform(X))


pca = BayesianPCAAutoEncoder(N_DIRECTIONS + 1, temperature=0).fit(X)
mixture = BayesianMixturePCAAutoEncoder(
    N_SUBSPACES,
    n_latent=N_DIRECTIONS,
    temperature=0,
    equal_weights=True,
    tied_noise=True,
    max_iter=300,
    random_state=0,
).fit(X)
print(f"PCA, {N_DIRECTIONS + 1} numbers a patch: {decibels(decoded(pca)):.2f} dB")
print(
    f"mixture of PCA, {N_DIRECTIONS} numbers and {np.log2(N_SUBSPACES):.0f} bits a patch: "
    f"{decibels(decoded(mixture)):.2f} dB"
)
for n_directions in (12, 13, 14):
    more = BayesianPCAAutoEncoder(n_directions, temperature=0).fit(X)
    print(f"PCA, {n_directions} numbers a patch: {decibels(decoded(more)):.2f} dB")

# %%
# PCA needs 14 numbers a patch to do as well.
#
# A detail of the photograph, and what the two make of it. The last picture says which subspace each
# patch belongs to: nearly all of the sky is one, and roof and windows are others.

detail = np.s_[120:264, 200:440]
figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
for ax, name, image in (
    (axes[0, 0], "photograph", photograph),
    (axes[0, 1], f"PCA: {decibels(decoded(pca)):.1f} dB", assembled(decoded(pca))),
    (
        axes[1, 0],
        f"mixture of PCA: {decibels(decoded(mixture)):.1f} dB",
        assembled(decoded(mixture)),
    ),
):
    ax.imshow(image[detail], cmap="gray", vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
labels = mixture.predict(X).reshape(height, width).repeat(SIZE, axis=0).repeat(SIZE, axis=1)
axes[1, 1].imshow(photograph[detail], cmap="gray", vmin=0, vmax=1)
axes[1, 1].imshow(labels[detail], cmap="tab10", vmin=0, vmax=9, alpha=0.45)
axes[1, 1].set(title="subspace of each patch", xticks=[], yticks=[])
plt.show()

# %%
# What subspaces are for
# ----------------------
# The directions of each, in order of their variance. The first is brightness everywhere; then come
# edges and stripes of some orientation, such as the tiles of the roof have.

figure, ax = plt.subplots(figsize=(7.8, 6.4), layout="constrained")
ComponentsDisplay.from_estimator(mixture, image_shape=(SIZE, SIZE), ax=ax)
ax.set_title("Directions of eight subspaces (a line each)")
plt.show()
