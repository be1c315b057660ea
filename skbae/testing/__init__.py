"""Checks whether the methods of an energy that you write agree with each other.

:func:`check_energy` computes by brute force what an energy's methods compute cleverly.
"""

from __future__ import annotations

from skbae.testing._check import check_energy

__all__ = ["check_energy"]
