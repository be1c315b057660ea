"""
Anomalies, with a threshold from the predictive density
=======================================================

A model of ordinary rows tells which new rows are not ordinary: those of low density. But how low?
You learn to set the threshold without any anomaly and without rows held out: rows drawn from
the model itself say which density one ordinary row in twenty falls below. Then we look whether that
rate of false alarms is kept on rows that the model has not seen.
"""

# %%
# Benign and malignant tumours
# ----------------------------
# Two measurements of the cell nuclei of each of 569 tumours, the largest radius and the largest
# texture (the spread of grey levels), in the units of the data set. We take logarithms, since both
# are positive and skewed. The model sees 200 benign tumours only; 157 other benign ones and 212
# malignant ones are for testing.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skbae import BayesianGMMAutoEncoder

data = load_breast_cancer(as_frame=True)
measured = data.data[["worst radius", "worst texture"]].to_numpy()
benign = data.target.to_numpy() == 1
train, ordinary = train_test_split(np.log(measured[benign]), train_size=200, random_state=0)
malignant = np.log(measured[~benign])

# %%
# The model, and how many components it needs
# -------------------------------------------
# Models are sampled, and the evidence tells how many components are needed.

fits = {k: BayesianGMMAutoEncoder(k, random_state=0).fit(train) for k in (1, 2, 3)}
for k, fitted in fits.items():
    sampling = fitted.sampling_
    print(
        f"{k} component(s): log evidence {fitted.log_evidence_:.2f} "
        f"+- {sampling.log_evidence_error:.2f} ({sampling.status})"
    )
model = max(fits.values(), key=lambda fitted: fitted.log_evidence_)
print(f"chosen: {model.n_components}")

# %%
# One normal density of the logarithms is enough for benign tumours: more components are not worth
# their parameters.
#

# The threshold
# -------------
# ``score_samples`` is the log of the predictive density, an average over the sampled models, and
# ``sample`` draws rows from the same density. The threshold is a percentile of their scores. Unseen
# benign tumours keep to the rate that was asked for, within what chance allows with so few.

drawn, _ = model.sample(20_000, random_state=0)
scores = {
    "drawn from the model": model.score_samples(drawn),
    "benign, not seen": model.score_samples(ordinary),
    "malignant": model.score_samples(malignant),
}
for rate in (0.01, 0.05, 0.1):
    threshold = np.quantile(scores["drawn from the model"], rate)
    alarms = (scores["benign, not seen"] < threshold).sum()
    expected, spread = rate * len(ordinary), np.sqrt(rate * (1 - rate) * len(ordinary))
    caught = (scores["malignant"] < threshold).mean()
    print(
        f"rate {rate:.0%}: {alarms} false alarms, expected {expected:.1f} +- {spread:.1f}; "
        f"{caught:.0%} of the malignant ones are found"
    )
both = np.concatenate([scores["benign, not seen"], scores["malignant"]])
is_malignant = np.arange(len(both)) >= len(ordinary)
print(f"area under the ROC curve: {roc_auc_score(is_malignant, -both):.3f}")
threshold = np.quantile(scores["drawn from the model"], 0.05)

# %%
# On the left, the contour of the threshold: outside it, a tumour is called an anomaly. Only
# benign tumours were needed to draw it. On the right, the scores.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
low, high = np.log(measured).min(axis=0) - 0.1, np.log(measured).max(axis=0) + 0.1
across, up = np.meshgrid(*np.linspace(low, high, 150).T)
density = model.score_samples(np.column_stack([across.ravel(), up.ravel()])).reshape(across.shape)
left.contour(
    np.exp(across),
    np.exp(up),
    density,
    levels=[threshold],
    colors="#000000",
    linewidths=2,
    linestyles="solid",
)
for rows, name, colour, marker in (
    (ordinary, "benign, not seen", "#0072B2", "o"),
    (malignant, "malignant", "#D55E00", "^"),
):
    left.scatter(*np.exp(rows).T, s=16, color=colour, marker=marker, alpha=0.7, label=name)
left.plot([], [], color="#000000", lw=2, label="threshold: 5% false alarms")
left.set(xscale="log", yscale="log", xlabel="largest radius (units of the data)")
left.set(ylabel="largest texture (units of the data)", title="Anomalies are outside the line")
for axis, ticks in ((left.xaxis, [8, 10, 15, 20, 30]), (left.yaxis, [12, 20, 30, 50])):
    axis.set_ticks(ticks, labels=[str(tick) for tick in ticks])
    axis.set_ticks([], minor=True)
left.legend(loc="lower right", fontsize="small")

bins = np.linspace(-15, 5, 61)
for (name, values), colour in zip(scores.items(), ["0.5", "#0072B2", "#D55E00"], strict=True):
    filled = name != "drawn from the model"
    right.hist(
        values.clip(bins[0]),
        bins=bins,
        density=True,
        histtype="stepfilled" if filled else "step",
        color=colour,
        alpha=0.5 if filled else 1,
        lw=2,
        label=name,
    )
right.axvline(threshold, color="#000000", lw=2, label="threshold")
right.set(xlabel="log predictive density (nats)", ylabel="share of rows (per nat)")
right.set_title("Scores; the lowest are in the first bin")
right.legend(loc="upper left")
plt.show()
