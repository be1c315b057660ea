"""Conversion of `random_state` to a Generator."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def as_generator(random_state: Any) -> np.random.Generator:
    """Turn scikit-learn's `random_state` into a Generator.

    Parameters
    ----------
    random_state : None, int, RandomState or Generator
        None stands for NumPy's global state, which ``np.random.seed`` sets, as in scikit-learn; it
        is advanced, as are a RandomState and a Generator.

    Returns
    -------
    Generator

    Raises
    ------
    TypeError
        If `random_state` is none of these.

    Examples
    --------
    >>> as_generator(3).random() == as_generator(3).random()
    True
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None:
        random_state = check_random_state(None)
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**32, size=4, dtype=np.uint32))
    if isinstance(random_state, numbers.Integral) and int(random_state) >= 0:
        return np.random.default_rng(int(random_state))
    raise TypeError(
        "random_state must be None, an integer >= 0, a numpy RandomState or a numpy Generator, got "
        f"{random_state!r}"
    )
