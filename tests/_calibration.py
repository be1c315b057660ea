"""Whether ranks are uniform."""

from __future__ import annotations

import numpy as np
from scipy import stats


def p_values(uniform):
    """Return p-values of uniformity of every column: its shape, mean, spread and histogram."""
    n = len(uniform)
    shape = [stats.kstest(column, "uniform").pvalue for column in uniform.T]
    z = (uniform.mean(axis=0) - 0.5) * np.sqrt(12 * n)
    square = (((uniform - 0.5) ** 2).mean(axis=0) - 1 / 12) * np.sqrt(180 * n)
    counts = [np.histogram(column, 10, (0, 1))[0] for column in uniform.T]
    chi2 = [stats.chisquare(count).pvalue for count in counts]
    return np.array([shape, *(2 * stats.norm.sf(np.abs([z, square]))), chi2])


# With 20 dependent p-values, below this by chance in at most one of 50 runs of a right sampler.
CRITICAL = 1e-3
