"""Numbers that many formulas share."""

import math

LOG_2PI = math.log(2 * math.pi)
"""Logarithm of 2 pi, of which a normal density has half a one per dimension."""
