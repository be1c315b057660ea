"""What floating-point errors do here, whatever the caller has set with ``np.seterr``."""

from __future__ import annotations

import numpy as np


def own_errors() -> np.errstate:
    """Return NumPy's defaults as a context manager or decorator: underflow is zero, others warn.

    Probabilities and densities underflow everywhere, and rightly so. The other errors are avoided,
    or handled where they occur: a warning is a fault of this package.

    Examples
    --------
    >>> import numpy as np
    >>> with np.errstate(all="raise"), own_errors():
    ...     np.exp(np.array([-1e4])).item()
    0.0
    """
    return np.errstate(divide="warn", over="warn", invalid="warn", under="ignore")
