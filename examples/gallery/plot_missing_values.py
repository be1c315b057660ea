"""
Missing values, and intervals for them
======================================

Rows with gaps need not be thrown away or filled in beforehand. You learn to fit a mixture to rows
as they are, to fill gaps with expected values, and above all to get the distribution of what is
missing: an interval that says how sure one can be, and whether intervals hold what they promise.
"""

# %%
# Irises with gaps
# ----------------
# A quarter of all entries is removed at random. We keep them, to see how well they are found again.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer

from skbae import BayesianGMMAutoEncoder

data = load_iris()
complete, names = data.data, data.feature_names
gaps = np.random.default_rng(0).random(complete.shape) < 0.25
X = np.where(gaps, np.nan, complete)
print(f"{gaps.sum()} of {gaps.size} entries are missing, in {gaps.any(axis=1).sum()} flowers")

# %%
# Fit to what is known
# --------------------
# Three components, for the three kinds of irises. Models are sampled, so that intervals count what
# is not known of the model, too. (``evidence_tol=None`` leaves out the evidence, which is not
# needed here.)

model = BayesianGMMAutoEncoder(3, evidence_tol=None, random_state=0).fit(X)
print(f"sampling of the models: {model.sampling_.status}")

# %%
# Fill in, and say how sure
# -------------------------
# ``impute`` gives expected values; ``condition`` gives the whole distribution, of which
# ``interval`` takes the middle part. Of 135 entries, chance alone makes a difference of some 3%
# from the level that was asked for.

spread = complete.std(axis=0)
for name, filled in (
    ("column means", SimpleImputer().fit_transform(X)),
    ("mixture", model.impute(X)),
):
    error = np.sqrt(np.mean(((filled - complete) / spread)[gaps] ** 2))
    print(f"filled in by {name}: error {error:.2f} standard deviations")

given = model.condition(X)
for level in (0.5, 0.8, 0.9, 0.95):
    low, high = given.interval(level)
    inside = ((low <= complete) & (complete <= high))[gaps].mean()
    print(f"{level:.0%} intervals hold {inside:.1%} of the missing entries")

# %%
# The intervals are as wide as what is known of the flower allows: where other measurements tell
# what kind of iris it is, narrow, and where little is known, wide.

low, high = given.interval(0.9)
figure, axes = plt.subplots(2, 2, figsize=(10, 6.6), layout="constrained")
for column, ax in enumerate(axes.flat):
    rows = np.flatnonzero(gaps[:, column])
    rows = rows[np.argsort(given.mean[rows, column])]
    place, truth = np.arange(len(rows)), complete[rows, column]
    hit = (low[rows, column] <= truth) & (truth <= high[rows, column])
    ax.vlines(place, low[rows, column], high[rows, column], color="#56B4E9", lw=2.5, label="90%")
    ax.plot(place[hit], truth[hit], "o", color="0.25", ms=4, label="truth, inside")
    ax.plot(place[~hit], truth[~hit], "X", color="#D55E00", ms=7, label="truth, outside")
    ax.set(ylabel=names[column], xlabel="flowers where it is missing, by expected value", xticks=[])
axes[0, 0].legend(loc="upper left", fontsize="small")
plt.show()

# %%
# Ask for one column given another
# --------------------------------
# A gap is also a question: how long are the petals of a flower of which only the length of the
# sepals is known? Sepals of 5 to 6 cm come with short petals and with long ones, and the interval
# of 90% spans both there.

sepals = np.linspace(4, 8.2, 150)
question = np.column_stack([sepals, np.full((150, 3), np.nan)])
answer = model.condition(question)
figure, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
for level, alpha in ((0.9, 0.25), (0.5, 0.5)):
    low, high = answer.interval(level)
    ax.fill_between(
        sepals, low[:, 2], high[:, 2], color="#56B4E9", alpha=alpha, lw=0, label=f"{level:.0%}"
    )
ax.plot(sepals, answer.mean[:, 2], color="#0072B2", label="expected")
both = ~gaps[:, [0, 2]].any(axis=1)
ax.plot(*complete[both][:, [0, 2]].T, "o", color="0.25", ms=4, label="seen in the fit")
ax.plot(*complete[~both][:, [0, 2]].T, "o", color="#D55E00", ms=4, mfc="none", label="not seen")
ax.set(xlabel=names[0], ylabel=names[2], title="Petal length given sepal length alone")
ax.legend(loc="upper left")
plt.show()
