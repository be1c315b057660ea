"""Tables of results, for pandas where it is installed, for print and for notebooks."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._report import html_table, text_table

if TYPE_CHECKING:
    from collections.abc import Iterable


def frame(columns: dict[str, Any], index: str) -> Any:
    """Return a pandas DataFrame with these columns, whose rows are numbered by `index`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas, which is not installed") from error
    return pd.DataFrame(columns).rename_axis(index)


class ShowsColumns:
    """A result that shows itself as a table, as text and in notebooks."""

    @abstractmethod
    def _columns(self) -> dict[str, Any]:
        """Return the columns of the table by name."""

    def __str__(self) -> str:
        return text_table(self._texts())

    def _repr_html_(self) -> str:
        """Return the table as HTML, which notebooks show."""
        return html_table(self._texts())

    def _texts(self) -> dict[str, list[str]]:
        rows = {name: list(map(_text, values)) for name, values in self._columns().items()}
        return {"": [str(row) for row in range(_length(rows.values()))], **rows}


def _length(columns: Iterable[list[str]]) -> int:
    return max(map(len, columns), default=0)


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return "" if np.isnan(value) else f"{value:.6g}"
