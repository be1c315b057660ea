"""Tables of columns of several kinds: which component describes which, and codes of categories."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from skbae.energies.components._product import Parts, ProductFamily
from skbae.estimators.mixture._specs import Component, Place
from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from skbae._types import Array, Rows


@dataclass(frozen=True)
class Block:
    """The columns of one component.

    Attributes
    ----------
    place : Place
    component : Component
    columns : ndarray of int
    categories : tuple of ndarrays
        Of each column, sorted; empty for columns of numbers.
    """

    place: Place
    component: Any
    columns: NDArray[np.intp]
    categories: tuple[NDArray[Any], ...] = ()


@dataclass(frozen=True)
class Table:
    """All columns of X.

    Attributes
    ----------
    blocks : tuple of Block
        That have each column once.
    n_features : int
    """

    blocks: tuple[Block, ...]
    n_features: int

    @property
    def labelled(self) -> bool:
        """Whether some columns hold categories."""
        return any(block.component._categories for block in self.blocks)

    @property
    def categories(self) -> list[NDArray[Any] | None]:
        """The categories of each column; None for columns of numbers."""
        found: list[NDArray[Any] | None] = [None] * self.n_features
        for block in self.blocks:
            for column, values in zip(block.columns, block.categories, strict=False):
                found[column] = values
        return found

    @property
    def alone(self) -> Any:
        """The component that describes all columns in their order, or None."""
        first = self.blocks[0]
        ordered = np.array_equal(first.columns, np.arange(self.n_features))
        return first.component if len(self.blocks) == 1 and ordered else None

    def same_form(self, other: Table) -> bool:
        """Return whether another table has the same kinds of components, columns and categories."""
        if len(self.blocks) != len(other.blocks) or self.n_features != other.n_features:
            return False
        return all(
            own.component._form_key() == new.component._form_key()
            and own.place.name == new.place.name
            and np.array_equal(own.columns, new.columns)
            and len(own.categories) == len(new.categories)
            and all(map(np.array_equal, own.categories, new.categories))
            for own, new in zip(self.blocks, other.blocks, strict=True)
        )

    def family(self, factors: Sequence[Any]) -> Any:
        """Return the family whose factors are those of the blocks."""
        if self.alone is not None:
            return factors[0]
        return ProductFamily(factors, [block.columns for block in self.blocks])

    def parts(self, params: Any) -> Sequence[Any]:
        """Return the parameters of each block's components."""
        return (params,) if self.alone is not None else params.parts

    @staticmethod
    def joined(parts: Sequence[Any]) -> Parts:
        """Return the parameters of a product: the inverse of :meth:`parts`."""
        return Parts(tuple(parts))

    def each(self, rows: Rows) -> Iterator[tuple[Block, Rows]]:
        """Give the blocks and their columns of rows."""
        if self.alone is not None:
            yield self.blocks[0], rows
            return
        for block in self.blocks:
            yield block, make_rows(np.ascontiguousarray(rows.X[:, block.columns]), rows.weights)

    def check_values(self, X: NDArray[Any]) -> None:
        """Raise ValueError for entries that cannot be, naming column and component."""
        for block in self.blocks:
            block.component._check_values(X[:, block.columns], block.place)

    # -- categories -------------------------------------------------------------------------------

    def encoded(self, columns: Sequence[Any]) -> Array:
        """Return columns of numbers, in which categories are numbered and NaN is missing."""
        found = np.empty((len(columns[0]), self.n_features))
        for block in self.blocks:
            for number, column in enumerate(block.columns):
                what = block.place.column(number)
                if block.component._categories:
                    ignore = block.component.handle_unknown == "ignore"
                    values = block.categories[number]
                    found[:, column] = _numbered(columns[column], values, ignore, what)
                else:
                    found[:, column] = _as_numbers(columns[column], what)
        return found

    def learned(self, columns: Sequence[Any]) -> Table:
        """Return the table with the categories of columns."""
        blocks = []
        for block in self.blocks:
            if not block.component._categories:
                blocks.append(block)
                continue
            given, found = block.component.categories, []
            if not isinstance(given, str) and len(given) != len(block.columns):
                raise ValueError(
                    f"categories of component {block.place.name!r} must be a list of "
                    f"{len(block.columns)}, one for each of its columns, got {len(given)}"
                )
            for number, column in enumerate(block.columns):
                own = given if isinstance(given, str) else given[number]
                found.append(_categories(columns[column], own, block.place.column(number)))
            sizes = tuple(len(values) for values in found)
            place = replace(block.place, n_categories=sizes)
            blocks.append(replace(block, place=place, categories=tuple(found)))
        return replace(self, blocks=tuple(blocks))

    def decoded(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows in which numbers of categories are the categories again.

        The result holds objects if there are categories that are not numbers.
        """
        values = [(column, own) for column, own in enumerate(self.categories) if own is not None]
        if not values:
            return rows
        numbers = all(own.dtype.kind in "biuf" for _, own in values)
        found = rows.copy() if numbers else rows.astype(object)
        for column, own in values:
            known = ~np.isnan(rows[:, column])
            found[known, column] = own[rows[known, column].astype(np.intp)]
        return found


def table_of(
    components: Sequence[tuple[str, Component, Any]], names: Sequence[str], named: bool
) -> Table:
    """Return the table of columns of such names.

    Parameters
    ----------
    components : sequence of (name, component, columns)
        Columns None stands for all.
    names : sequence of str
    named : bool
        Whether X came with names.
    """
    blocks, owner = [], dict[int, str]()
    for name, component, columns in components:
        chosen = _chosen(columns, name, names, named)
        for column in chosen:
            if column in owner:
                raise ValueError(
                    f"column {names[column]!r} belongs to component {owner[column]!r} and to "
                    f"component {name!r}; a column has one component"
                )
            owner[int(column)] = name
        place = Place(name, tuple(names[column] for column in chosen))
        blocks.append(Block(place, clone(component), chosen))
    left = [names[column] for column in range(len(names)) if column not in owner]
    if left:
        raise ValueError(
            f"columns of X belong to no component: {', '.join(map(repr, left[:10]))}"
            f"{' and more' if len(left) > 10 else ''}; give them one, or drop them"
        )
    return Table(tuple(blocks), len(names))


def _chosen(columns: Any, name: str, names: Sequence[str], named: bool) -> NDArray[np.intp]:
    """Return the numbers of the columns that a user means."""
    n = len(names)
    if columns is None:
        return np.arange(n)

    def number(column: Any) -> int:
        if isinstance(column, str):
            if not named:
                raise ValueError(
                    f"columns of component {name!r} are given by name ({column!r}), and X has no "
                    "names of columns; give a pandas frame, or numbers"
                )
            if column not in names:
                raise ValueError(
                    f"component {name!r} is for column {column!r}, which X does not have"
                )
            return list(names).index(column)
        if isinstance(column, (int, np.integer)) and not isinstance(column, (bool, np.bool_)):
            if not -n <= column < n:
                raise ValueError(
                    f"component {name!r} is for column {column}, and X has {n} columns"
                )
            return int(column) % n
        raise TypeError(
            f"columns of component {name!r} must be a name, a number, a slice, a mask, or a list "
            f"of names or numbers, got {columns!r}"
        )

    if isinstance(columns, slice):
        start, stop = columns.start, columns.stop
        if isinstance(start, str):
            start = number(start)
        if isinstance(stop, str):
            stop = number(stop) + 1  # of names, the last is included, as in pandas
        found = np.arange(n)[slice(start, stop, columns.step)]
    elif isinstance(columns, (str, int, np.integer)) or not np.iterable(columns):
        found = np.array([number(columns)])
    elif all(isinstance(column, (bool, np.bool_)) for column in columns):
        mask = np.asarray(columns)
        if len(mask) != n:
            raise ValueError(
                f"the mask of columns of component {name!r} must have {n} entries, got {len(mask)}"
            )
        found = np.flatnonzero(mask)
    else:
        found = np.array([number(column) for column in columns], dtype=np.intp)
    if not len(found):
        raise ValueError(f"component {name!r} has no columns, got {columns!r}")
    return found


def columns_of(X: Any) -> list[Any] | None:
    """Return the columns of X, if some are not numbers, or None for a table of numbers.

    A column of pandas categories is returned as it is.
    """
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        if all(getattr(kind, "kind", "O") in "biuf" for kind in X.dtypes):
            return None
        return [X.iloc[:, column] for column in range(X.shape[1])]
    if hasattr(X, "get_column") and hasattr(X, "columns"):  # polars
        columns = [X.get_column(name).to_numpy() for name in X.columns]
        return None if all(own.dtype.kind in "biuf" for own in columns) else columns
    if not hasattr(X, "dtype") and not isinstance(X, (list, tuple)):
        return None
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "OUS":
        return None
    return list(array.T)


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which entries are None, NaN or the like."""
    if values.dtype.kind in "biu":
        return np.zeros(len(values), dtype=bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "US":
        return np.zeros(len(values), dtype=bool)
    return np.array([_is_missing(value) for value in values], dtype=bool)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA has no truth
        return True


def _as_array(column: Any) -> NDArray[Any]:
    """Return a column as an array; of pandas' own types, as objects."""
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if hasattr(column, "iloc") and kind not in "biuf":
        return np.asarray(column.astype(object), dtype=object)
    return np.asarray(column)


def _as_numbers(column: Any, what: str) -> Array:
    values = _as_array(column)
    missing = _missing(values)
    found = np.full(len(values), np.nan)
    try:
        found[~missing] = values[~missing].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must hold numbers: {error}; skbae.components.Categorical takes labels"
        ) from error
    if np.isinf(found).any():
        raise ValueError(f"{what} must be finite, and contains infinity")
    return found


def _distinct(known: NDArray[Any], what: str) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the distinct entries in sorted order, and which of these each entry is."""
    try:
        values, index = np.unique(known, return_inverse=True)
    except TypeError as error:
        raise TypeError(
            f"{what} must hold categories of one type, strings or numbers: {error}"
        ) from error
    return values, index.reshape(-1)


def _categories(column: Any, given: Any, what: str) -> NDArray[Any]:
    """Return the categories of a column, of at least one value."""
    if not isinstance(given, str):
        values = np.asarray(given)
        if len(np.unique(values)) != len(values):
            raise ValueError(f"categories of {what} must differ, got {given!r}")
    elif hasattr(column, "cat"):
        values = np.asarray(column.cat.categories)
    else:
        entries = _as_array(column)
        known = entries[~_missing(entries)]
        values = _distinct(known, what)[0]
    if not len(values):
        raise ValueError(f"{what} has no known entry, so that nothing is known of it; drop it")
    if values.dtype.kind in "US":
        values = values.astype(object)
    return values


def _numbered(column: Any, categories: NDArray[Any], ignore: bool, what: str) -> Array:
    """Return the numbers of a column's categories; NaN where it is missing or not known."""
    values = _as_array(column)
    missing = _missing(values)
    number = {value: float(index) for index, value in enumerate(categories.tolist())}
    found = np.full(len(values), np.nan)
    distinct, index = _distinct(values[~missing], what)
    codes = np.array([number.get(value, np.nan) for value in distinct.tolist()], dtype=np.float64)
    unknown = np.isnan(codes)
    if unknown.any() and not ignore:
        raise ValueError(
            f"{what} has the category {distinct[unknown].tolist()[0]!r}, which the rows of the fit "
            f"had not ({', '.join(map(repr, categories.tolist()[:8]))}); give it in `categories`, "
            'or set handle_unknown="ignore" to take it for missing'
        )
    found[~missing] = codes[index]
    return found
