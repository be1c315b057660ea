"""Tables of results, for pandas where it is installed."""

from __future__ import annotations

from typing import Any


def frame(columns: dict[str, Any], index: str) -> Any:
    """Return a pandas DataFrame with these columns, whose rows are numbered by `index`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas, which is not installed") from error
    return pd.DataFrame(columns).rename_axis(index)
