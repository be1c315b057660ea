"""How many groups of galaxies? The evidence of mixtures, with its errors, bounds and checks.

The velocities of 82 galaxies (Postman, Huchra and Geller 1986), under the prior of Hairault, Robert
and Rousseau. Run it with ``python examples/mixture_evidence.py``; it takes about ten seconds. If
matplotlib is installed, it saves a picture as ``mixture_evidence.png`` in the current directory, or
under the name given as argument.
"""

import sys

import numpy as np

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import check_evidences

# fmt: off
velocities = np.array(
    [
        9172, 9350, 9483, 9558, 9775, 10227, 10406, 16084, 16170, 18419, 18552, 18600, 18927, 19052,
        19070, 19330, 19343, 19349, 19440, 19473, 19529, 19541, 19547, 19663, 19846, 19856, 19863,
        19914, 19918, 19973, 19989, 20166, 20175, 20179, 20196, 20215, 20221, 20415, 20629, 20795,
        20821, 20846, 20875, 20986, 21137, 21492, 21701, 21814, 21921, 21960, 22185, 22209, 22242,
        22249, 22314, 22374, 22495, 22746, 22747, 22888, 22914, 23206, 23241, 23263, 23484, 23538,
        23542, 23666, 23706, 23711, 24129, 24285, 24289, 24366, 24717, 24990, 25633, 26690, 26995,
        32065, 32789, 34279,
    ]
)
# fmt: on
X = velocities[:, None] / 1000  # thousands of km/s

# all fits have the same prior of a component: only then do their evidences compare
prior = {
    "mean_precision_prior": 2.6 / np.ptp(X),
    "degrees_of_freedom_prior": 2.56,
    "covariance_prior": [[0.72 * X.var()]],
}
fits = [
    BayesianGMMAutoEncoder(
        n_components,
        n_models=400,  # more than the default 50: they say how often a component is empty
        random_state=n_components,
        **prior,
    ).fit(X)
    for n_components in range(1, 8)
]

print("K  log evidence    lower bound  status   by each way to estimate it")
for n_components, fitted in enumerate(fits, start=1):
    sampling = fitted.sampling_
    ways = ", ".join(
        f"{name} {value:.2f} +- {error:.2f}" for name, (value, error) in sampling.estimates.items()
    )
    print(
        f"{n_components}  {fitted.log_evidence_:.2f} +- {sampling.log_evidence_error:.2f} "
        f"{sampling.log_evidence_lower_bound:12.2f}  {sampling.status:7s}  {ways}"
    )

check = check_evidences(fits, X)
print(f"\n{check}")

# the probability of each number of components, if all were equally probable before
log_evidences = np.array([fitted.log_evidence_ for fitted in fits])
shares = np.exp(log_evidences - np.logaddexp.reduce(log_evidences))
print("\nprobability of K = 1, 2, ...:", " ".join(f"{share:.2f}" for share in shares))

try:
    from matplotlib.figure import Figure
except ImportError:
    sys.exit()

numbers = np.arange(1, len(fits) + 1)
errors = np.array([fitted.sampling_.log_evidence_error for fitted in fits])
bounds = [fitted.sampling_.log_evidence_lower_bound for fitted in fits]
figure = Figure(figsize=(12, 3.4), layout="constrained")
left, middle, right = figure.subplots(1, 3)

left.plot(numbers, log_evidences, "o-", ms=4, label="evidence")
left.plot(numbers, bounds, "v", color="grey", label="lower bound")
left.set(
    title="evidence of K components",
    xlabel="components K",
    ylabel="log evidence (nats)",
    xticks=numbers,
)
left.legend()

# what K + 1 components say of K: their own evidence, and how often a component of theirs is empty
middle.errorbar(numbers, log_evidences, 2 * errors, fmt="o-", ms=4, capsize=3, label="evidence")
told = [pair for pair in check.pairs if pair.informative]
smaller = np.array([pair.n_components[0] for pair in told])
middle.errorbar(
    smaller + 0.15,
    log_evidences[smaller] + [pair.expected for pair in told],
    [2 * pair.expected_error for pair in told],
    fmt="s",
    ms=4,
    capsize=3,
    label="by empty components of K + 1",
)
middle.set(title="the largest (bars: 2 errors)", xlabel="components K", xticks=numbers)
middle.set(
    xlim=(2.7, numbers[-1] + 0.5), ylim=(log_evidences.max() - 1.3, log_evidences.max() + 0.5)
)
middle.legend(loc="lower right")

best = fits[int(np.argmax(log_evidences))]
grid = np.linspace(7, 37, 400)[:, None]
right.hist(X[:, 0], bins=40, density=True, color="lightgrey")
right.plot(grid, np.exp(best.score_samples(grid)), label=f"K = {len(best.weights_)}")
right.set(title="predictive density", xlabel="velocity (1000 km/s)", ylim=(0, 0.3))
right.legend()
path = sys.argv[1] if len(sys.argv) > 1 else "mixture_evidence.png"
figure.savefig(path, dpi=120)
print(f"\nsaved {path}")
