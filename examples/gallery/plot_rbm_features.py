"""
Features of a Boltzmann machine for a classifier
================================================

A restricted Boltzmann machine codes a row by bits, which it learns without labels. You learn to fit
one, to look at what its units respond to, to draw images from it, and to give its features to a
linear classifier, to which they are worth more than the pixels.
"""

# %%
# Digits that are out of place
# ----------------------------
# Black and white digits, each also shifted by a pixel up, down, left and right: that is hard for a
# linear classifier of pixels, since none of them means the same any more. 1200 digits are for
# training and 597 for testing, chosen before they are shifted, so that no test digit is a copy of
# a training digit.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skbae import BayesianRBMAutoEncoder
from skbae.plotting import ComponentsDisplay

images, labels = load_digits(return_X_y=True)
bits = (images > 7).astype(float)


def shifted(rows):
    """Return images as they are, and shifted by a pixel in four directions."""
    framed = np.pad(rows.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    parts = [framed[:, 1 + down : 9 + down, 1 + right : 9 + right] for down, right in shifts]
    return np.concatenate(parts).reshape(-1, 64)


train, test, y_train, y_test = train_test_split(
    bits, labels, train_size=1200, stratify=labels, random_state=0
)
X_train, y_train = shifted(train), np.tile(y_train, 5)
X_test, y_test = shifted(test), np.tile(y_test, 5)

# %%
# Fit the machine
# ---------------
# 100 hidden units, by persistent contrastive divergence; ``model_temperature=0`` asks for the best
# machine. Unlike most implementations the score is a log-likelihood, partition function included:
# that is estimated in two directions, with an error.

machine = BayesianRBMAutoEncoder(100, model_temperature=0, max_iter=15, random_state=0)
machine.fit(X_train)
print(f"log likelihood of test digits: {machine.score(X_test):.2f} nats each")
print(f"error of the log partition function: {machine.log_partition_error_:.2f} nats")
frequency = X_train.mean(axis=0).clip(1e-3, 1 - 1e-3)
independent = X_test @ np.log(frequency) + (1 - X_test) @ np.log(1 - frequency)
print(f"for comparison, of independent pixels: {independent.mean():.2f} nats each")

# %%
# What units respond to
# ---------------------
# The weights of the units, as images: red pixels turn a unit on, blue ones off. Each weighs some
# pixels against their neighbours. Beside them are images that the machine draws: some are digits,
# others only have the strokes of digits.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=[1.6, 1]
)
ComponentsDisplay.from_estimator(machine, image_shape=(8, 8), ax=left)
left.set_title("Weights of 100 hidden units")
drawn = machine.sample(36, random_state=0)[0]
sheet = np.pad(drawn.reshape(6, 6, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
right.imshow(sheet.swapaxes(1, 2).reshape(60, 60), cmap="gray_r", vmin=0, vmax=1)
right.set(xticks=[], yticks=[], title="Images drawn from the machine")
plt.show()

# %%
# Pixels or features?
# -------------------
# The same classifier on both, as more and more images have a label. The machine has seen all
# training images, but no label; ``make_pipeline(machine, LogisticRegression())`` does both in one.
# With few labels there is no difference to speak of; with thousands, features have the advantage.
# Bars are standard errors for 597 test digits, since shifted copies are not independent.

numbers = [100, 300, 1000, 3000, 6000]
accuracy = {"pixels": [], "features of the machine": []}
order = np.random.default_rng(0).permutation(len(X_train))
codes = {"pixels": (X_train, X_test)}
codes["features of the machine"] = (machine.transform(X_train), machine.transform(X_test))
for name, (rows, rows_test) in codes.items():
    for n_labelled in numbers:
        chosen = order[:n_labelled]
        classifier = LogisticRegression(max_iter=1000).fit(rows[chosen], y_train[chosen])
        accuracy[name].append(classifier.score(rows_test, y_test))
    print(name, " ".join(f"{share:.3f}" for share in accuracy[name]))

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, shares), colour, marker in zip(
    accuracy.items(), ["#E69F00", "#0072B2"], "so", strict=True
):
    error = np.sqrt(np.multiply(shares, np.subtract(1, shares)) / len(test))
    ax.errorbar(numbers, shares, error, fmt=f"{marker}-", color=colour, capsize=3, label=name)
ax.set_xscale("log")
ax.set_xticks(numbers, labels=[str(number) for number in numbers])
ax.minorticks_off()
ax.set(xlabel="images with a label", ylabel="accuracy on test images")
ax.set_title("A linear classifier of shifted digits")
ax.legend()
plt.show()
