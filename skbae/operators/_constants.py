"""Mathematical constants."""

import math

import numpy as np

LOG_2PI = math.log(2 * math.pi)
"""Logarithm of 2 pi."""

LEAST_EXPONENTS = {np.dtype(np.float64): -700.0, np.dtype(np.float32): -80.0}
"""Exponents below which a term adds nothing to a sum of which another is one.

Exponentials that underflow take ten times as long as others, those that lose digits fifty times.
"""
