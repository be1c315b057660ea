"""Tables that are not arrays in memory: rows on disk, read piece by piece.

Run ``python examples/large_tables.py``; it takes some seconds.
"""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from skbae import BayesianGMMAutoEncoder

rng = np.random.default_rng(0)
centres = 3 * rng.normal(size=(4, 10))

# Rows on disk: a memory map of 80 MB is fitted in a tenth of that.
with tempfile.TemporaryDirectory() as folder:
    table = np.lib.format.open_memmap(Path(folder) / "X.npy", "w+", np.float64, (1_000_000, 10))
    for start in range(0, len(table), 50_000):
        piece = slice(start, start + 50_000)
        table[piece] = rng.normal(size=(50_000, 10)) + centres[rng.integers(4, size=50_000)]
    tracemalloc.start()
    model = BayesianGMMAutoEncoder(4, model_temperature=0, covariance_type="diag", random_state=0)
    model.fit(table)
    labels = np.lib.format.open_memmap(Path(folder) / "labels.npy", "w+", np.intp, (1_000_000,))
    model.predict(table, out=labels)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"rows on disk: {table.nbytes / 1e6:.0f} MB fitted and labelled in {peak:.0f} MB")
    print(f"  rows of each component: {np.bincount(labels).tolist()}")
