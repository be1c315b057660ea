"""The codes of rows: points, soft components, or bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators.pca._estimator import BayesianPCAAutoEncoder
from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
from skbae.estimators.vae._estimator import BayesianVAEAutoEncoder
from skbae.plotting._canvas import SHARES, axes_for, colours, draw_colour_bar, draw_table, marks
from skbae.plotting._subject import (
    feature_names,
    feature_numbers,
    fitted_autoencoder,
    numbers_of,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array

# What codes are drawn as, by family; all others have components as codes.
_VECTORS = (BayesianPCAAutoEncoder, BayesianVAEAutoEncoder)
_BITS = (BayesianRBMAutoEncoder,)
_MAX_CLASSES = 10


class CodesDisplay:
    """The codes of rows.

    Codes that are vectors (of PCA and of networks) are drawn as points, two coordinates of each,
    or as a histogram if there is only one; the probabilities of components as a stack for each
    row, ordered by the most probable component, or as mixed colours of the rows themselves; the
    probabilities of bits as a table of colours.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_codes)
        Coordinates, or probabilities.
    kind : {"points", "stacks", "colours", "bits"}
    axes : tuple of int, default=(0, 1)
        The coordinates that are drawn as points.
    y : ndarray of shape (n_samples,) or None, default=None
        What points are coloured by: classes, if there are at most ten, or numbers.
    rows : ndarray of shape (n_samples, 2) or None, default=None
        The two columns of X that rows are drawn at, in mixed colours.
    row_names : sequence of str, default=()
        Names of these columns.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    artists_ : list of matplotlib artists
        Points (one for each class), histograms, stacks (one for each component) or the image.
    order_ : ndarray of shape (n_samples,)
        The order in which rows are drawn as stacks; their own order otherwise.

    See Also
    --------
    ReconstructionDisplay : What the rows become when their codes are decoded.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbae import BayesianPCAAutoEncoder
    >>> from skbae.plotting import CodesDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BayesianPCAAutoEncoder(2, model_temperature=0).fit(X)
    >>> display = CodesDisplay.from_estimator(model, X, y=y)
    >>> display.ax_.get_xlabel(), len(display.artists_)
    ('code 0', 3)
    """

    ax_: Any
    figure_: Any
    artists_: list[Any]
    order_: NDArray[Any]

    def __init__(
        self,
        codes: Array,
        *,
        kind: str,
        axes: tuple[int, int] = (0, 1),
        y: Any = None,
        rows: Array | None = None,
        row_names: Any = (),
    ) -> None:
        self.codes = codes
        self.kind = kind
        self.axes = axes
        self.y = y
        self.rows = rows
        self.row_names = row_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        y: Any = None,
        axes: tuple[int, int] = (0, 1),
        features: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the codes of rows.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skbae, or a Pipeline or search that ends with one.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            What points are coloured by.
        axes : tuple of int, default=(0, 1)
            The coordinates of codes that are drawn.
        features : pair of int or str, or None, default=None
            Two columns of X: rows are drawn there in the colours of their components, mixed by
            their probabilities.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        CodesDisplay

        Raises
        ------
        TypeError
            If it is no estimator of skbae, or `features` are given and codes are no components.
        ValueError
            If `axes` or `features` are none of X's, or `y` has another length.
        """
        last = fitted_autoencoder(estimator, "CodesDisplay")
        ax = axes_for(ax, "CodesDisplay")
        kind = "points" if isinstance(last, _VECTORS) else "stacks"
        kind = "bits" if isinstance(last, _BITS) else kind
        rows, names = None, []
        if features is not None:
            if kind != "stacks":
                raise TypeError(
                    "features are for codes that are components, of mixtures, and those of "
                    f"{type(last).__name__} are not"
                )
            shown = feature_names(estimator, np.shape(X)[1])
            numbers = feature_numbers(features, shown, (2,))
            kind, rows = "colours", numbers_of(X, numbers)
            names = [_column_name(shown[number]) for number in numbers]
        encode = estimator.predict_proba if kind in ("stacks", "colours") else estimator.transform
        codes = np.asarray(encode(X), dtype=np.float64)
        if kind == "points" and codes.shape[1] > 1:
            _check_axes(axes, codes.shape[1])
        if y is not None:
            y = _check_y(y, len(codes))
        return cls(codes, kind=kind, axes=axes, y=y, rows=rows, row_names=names).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the codes.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        CodesDisplay
            Itself.
        """
        self.ax_ = axes_for(ax, "CodesDisplay")
        self.figure_ = self.ax_.figure
        self.order_ = np.arange(len(self.codes))
        draw = {
            "points": self._draw_points if self.codes.shape[1] > 1 else self._draw_histogram,
            "stacks": self._draw_stacks,
            "colours": self._draw_colours,
            "bits": self._draw_bits,
        }
        self.artists_ = draw[self.kind]()
        return self

    def _draw_points(self) -> list[Any]:
        across, up = (self.codes[:, axis] for axis in self.axes)
        self.ax_.set(xlabel=f"code {self.axes[0]}", ylabel=f"code {self.axes[1]}")
        if self.y is not None and len(np.unique(self.y)) > _MAX_CLASSES:
            points = self.ax_.scatter(across, up, c=self.y, cmap=SHARES, s=14)
            draw_colour_bar(self.ax_, points)
            return [points]
        classes = self._classes()
        found = [
            self.ax_.scatter(
                across[own], up[own], color=colour, marker=marker, label=label, s=14, alpha=0.8
            )
            for (label, own), (colour, marker) in zip(classes, marks(len(classes)), strict=True)
        ]
        if self.y is not None:
            self._name_beside("class")
        return found

    def _classes(self) -> list[tuple[str | None, Array]]:
        """Return the label and the rows of each class; with no classes, of all rows together."""
        labels: Any = [] if self.y is None else np.unique(self.y)
        if not 0 < len(labels) <= _MAX_CLASSES:
            return [(None, np.ones(len(self.codes), dtype=bool))]
        return [(str(label), self.y == label) for label in labels]

    def _draw_histogram(self) -> list[Any]:
        values = self.codes[:, 0]
        edges = np.histogram_bin_edges(values, bins="auto")
        self.ax_.set(xlabel="code 0", ylabel="rows")
        classes = self._classes()
        found: list[Any] = []
        base: NDArray[Any] = np.zeros(len(edges) - 1)
        for (label, own), colour in zip(classes, colours(len(classes)), strict=True):
            top = base + np.histogram(values[own], edges)[0]
            found.append(
                self.ax_.stairs(top, edges, baseline=base, fill=True, color=colour, label=label)
            )
            base = top
        if classes[0][0] is not None:
            self._name_beside("class")
        return found

    def _draw_stacks(self) -> list[Any]:
        shares = self.codes
        self.order_ = np.lexsort((-shares.max(axis=1), shares.argmax(axis=1)))
        edges = np.arange(len(shares) + 1) - 0.5
        tops = shares[self.order_].cumsum(axis=1)
        found, base = [], np.zeros(len(shares))
        for k, colour in enumerate(colours(shares.shape[1])):
            found.append(
                self.ax_.stairs(
                    tops[:, k], edges, baseline=base, fill=True, color=colour, label=f"{k}"
                )
            )
            base = tops[:, k]
        self.ax_.set(
            xlim=(edges[0], edges[-1]),
            ylim=(0, 1),
            xlabel="rows, by their most probable component",
            ylabel="probability of components",
        )
        self._name_beside("component")
        return found

    def _draw_colours(self) -> list[Any]:
        from matplotlib.colors import to_rgb

        assert self.rows is not None
        own = colours(self.codes.shape[1])
        mixed = np.clip(self.codes @ np.array([to_rgb(colour) for colour in own]), 0.0, 1.0)
        points = self.ax_.scatter(*self.rows.T, c=mixed, s=18)
        for k, colour in enumerate(own):
            self.ax_.scatter([], [], color=colour, label=f"{k}", s=18)
        self.ax_.set(xlabel=self.row_names[0], ylabel=self.row_names[1])
        self._name_beside("component")
        return [points]

    def _name_beside(self, title: str) -> None:
        """Add a legend beside the axes, unless it would be longer than these."""
        if title == "class" or self.codes.shape[1] <= 2 * _MAX_CLASSES:
            self.ax_.legend(title=title, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    def _draw_bits(self) -> list[Any]:
        names = [str(unit) for unit in range(self.codes.shape[1])]
        image = draw_table(self.ax_, self.codes, SHARES, (0.0, 1.0), names)
        self.ax_.set(xlabel="hidden unit", ylabel="row")
        draw_colour_bar(self.ax_, image, "probability of one")
        return [image]


def _column_name(name: str) -> str:
    return f"column {name}" if name.isdigit() else name


def _check_axes(axes: Any, n_codes: int) -> None:
    if len(axes) != 2 or not all(0 <= axis < n_codes for axis in axes):
        raise ValueError(
            f"axes must be two coordinates of codes, from 0 to {n_codes - 1}, got {axes!r}"
        )


def _check_y(y: Any, n_rows: int) -> Array:
    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise ValueError(
            f"y must have one entry for each of the {n_rows} rows of X, got the shape {y.shape}"
        )
    return y
