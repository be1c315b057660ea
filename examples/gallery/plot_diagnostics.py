"""
Can this sampling be trusted?
=============================

A fit that samples models can go wrong without a sign, unless somebody looks. You learn where the
verdict of a fit is, what it rests on, how neighbouring numbers of components check each other, and
what a suspect fit looks like.
"""

# %%
# A fit that can be trusted
# -------------------------
# Irises with four measurements, two components. The evidence is estimated in several ways that do
# not share their weaknesses; chains are compared with each other.

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import check_evidences
from skbae.plotting import SamplingDisplay

X = load_iris(as_frame=True).data
model = BayesianGMMAutoEncoder(2, random_state=0).fit(X)
print(model.sampling_)

# %%
# What was sampled: the mean and the spread of each parameter, and how sure it is which component is
# which (1 is certain). These are weights and means; covariances follow.

print(model.summary().round(2).head(10).to_string())

# %%
# A check across numbers of components
# ------------------------------------
# How often a component of a model of K is empty tells what the evidence of K - 1 must be. That
# takes no fit, and shares nothing with the estimates above. It tells something only where K
# components are not much better than K - 1. Here two and three components are about as good as
# each other, and four are worse.

fits = [model] + [BayesianGMMAutoEncoder(k, n_models=400, random_state=k).fit(X) for k in (3, 4)]
check = check_evidences(fits, X)
print(check)
print(f"contradictions: {check.contradictions or 'none'}")

# %%
# A suspect fit
# -------------
# Now one column is whether petals are longer than 4 cm: zeros and ones, which are not normal at
# all. A component that lies on the ones alone gains as much density as the prior of variances
# allows, and that has nothing to do with irises. The fit says so, in a warning and in its verdict.

flags = X.iloc[:, :2].assign(long_petals=(X.iloc[:, 2] > 4).astype(float))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    suspect = BayesianGMMAutoEncoder(2, random_state=0).fit(flags)
print(f"status: {suspect.sampling_.status}; warnings: {len(caught)}")
for reason in suspect.sampling_.reasons:
    print(f"reason: {reason}")

# %%
# The verdict with its reasons, the estimates of the evidence, and traces of some chains. In the
# suspect fit chains and estimates agree as well: the number is right, but it does not answer
# the question of how many components there are. A ``BayesianMixtureAutoEncoder`` with a Bernoulli
# column would be the model for this table.

figure, axes = plt.subplots(2, 1, figsize=(8, 8), layout="constrained")
SamplingDisplay.from_estimator(model, ax=axes[0])
SamplingDisplay.from_estimator(suspect, ax=axes[1])
plt.show()
