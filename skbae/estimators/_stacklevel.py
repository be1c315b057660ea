"""The ``stacklevel`` with which a warning points at the line of the user's code."""

from __future__ import annotations

import contextlib
import os
import sys

import joblib
import numpy
import sklearn

# Frames of these packages are skipped: pipelines, searches, joblib's workers and NumPy's wrappers
# of functions (np.errstate, from contextlib in older versions) may lie between the user's code and
# ours. (Python 3.12 has skip_file_prefixes in warnings.warn for this.)
_OWN = os.path.dirname(os.path.dirname(__file__))
_PASSED_THROUGH = (
    contextlib.__file__,
    *(
        os.path.join(folder, "")
        for folder in (
            _OWN,
            *(os.path.dirname(str(each.__file__)) for each in (sklearn, joblib, numpy)),
        )
    ),
)


def users_stacklevel() -> int:
    """Return the `stacklevel` for a warning by the calling function to point at the user's line.

    Returns
    -------
    int
        Number of the first frame that is neither in this package nor in scikit-learn, joblib or
        NumPy, counted as :func:`warnings.warn` does: 1 is the function that warns.

    Examples
    --------
    >>> users_stacklevel()
    1
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PASSED_THROUGH) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level
