"""Mathematical constants."""

import math

LOG_2PI = math.log(2 * math.pi)
"""Logarithm of 2 pi."""
