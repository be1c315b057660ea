"""Memory that a fit adds to the process beyond X: 1,000,000 rows, 20 features, 20 components.

Each library runs in a process of its own. The growth is the peak resident size after the fit less
the resident size before it, both as the kernel counts them (Linux only).

Run ``python benchmarks/memory.py``. The limit is 100 MB: nothing of shape (N, K) may be kept.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder

ROWS, FEATURES, COMPONENTS, ITERATIONS = 1_000_000, 20, 20, 3
LIMIT = 100  # MB

MODELS = {
    "skbae": lambda: BayesianGMMAutoEncoder(
        COMPONENTS, model_temperature=0, max_iter=ITERATIONS, tol=0, random_state=0
    ),
    "scikit-learn": lambda: GaussianMixture(
        COMPONENTS, max_iter=ITERATIONS, tol=0, init_params="random_from_data", random_state=0
    ),
}


def resident(field):
    """Return VmRSS (now) or VmHWM (the peak so far), in MB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def measure(library):
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng = np.random.default_rng(0)
    X = np.empty((ROWS, FEATURES))
    rng.standard_normal(out=X)  # in place: no temporary may raise the peak before the fit
    for part in np.array_split(X, 100):
        part += 3 * rng.integers(COMPONENTS, size=(len(part), 1))
    model = MODELS[library]()
    before = resident("VmRSS")
    model.fit(X)
    growth = resident("VmHWM") - before
    print(f"{library:12s} X {X.nbytes / 1e6:.0f} MB, process {before:.0f} MB, fit +{growth:.0f} MB")
    return growth


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        print(f"{ROWS:,} x {FEATURES}, {COMPONENTS} components, full covariances; ", end="")
        print(f"limit for skbae: {LIMIT} MB", flush=True)
        for name in MODELS:
            subprocess.run([sys.executable, __file__, name], check=True)
