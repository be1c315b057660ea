"""The components of mixtures, and the directions of PCA and the weights of Boltzmann machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder
from skbae.estimators.mixture._estimator import BayesianMixtureAutoEncoder
from skbae.estimators.mixture_pca._estimator import BayesianMixturePCAAutoEncoder
from skbae.estimators.pca._estimator import BayesianPCAAutoEncoder
from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
from skbae.plotting._canvas import (
    NEUTRAL,
    PIXELS,
    SIGNED,
    axes_for,
    check_image_shape,
    colours,
    columns_of,
    draw_colour_bar,
    draw_mosaic,
    draw_table,
    limits_of,
    mosaic,
    symmetric_limits,
)
from skbae.plotting._subject import (
    feature_names,
    feature_numbers,
    fitted_autoencoder,
    numbers_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from skbae._types import Array

_N_POINTS = 400  # of a curve
_REACH = 4.0  # standard deviations that curves go beyond means
_MAX_IN_LEGEND = 12
_MAX_NAMED_IMAGES = 60


@dataclass(frozen=True)
class Normals:
    """Weighted normal densities of rows: K weights, means (K, D) and covariances (K, D, D)."""

    weights: Array
    means: Array
    covariances: Array

    def of_columns(self, columns: Sequence[int]) -> Normals:
        """Return the marginal densities of some columns."""
        columns = list(columns)
        return Normals(
            self.weights, self.means[:, columns], self.covariances[:, columns][:, :, columns]
        )


@dataclass(frozen=True)
class Patterns:
    """Rows of numbers, one for each column of X, by which components are known.

    Attributes
    ----------
    values : ndarray of shape (M, D)
    kind : str
        What each of them belongs to.
    numbers : list of str
        Which one that is.
    meaning : str
        What a number is.
    signed : bool
        Whether zero is the middle, and the sign of a number tells something.
    table : ndarray of shape (M, D)
        The numbers in units that columns share, for a table of colours.
    table_meaning : str
    per_line : int or None
        How many of them belong side by side.
    """

    values: Array
    kind: str
    numbers: list[str]
    meaning: str
    signed: bool
    table: Array
    table_meaning: str
    per_line: int | None = None


def _loadings(values: Array, kind: str, meaning: str = "loading") -> Patterns:
    return Patterns(values, kind, _numbers(len(values)), meaning, True, values, meaning)


def _numbers(n_numbers: int) -> list[str]:
    return [str(number) for number in range(n_numbers)]


@singledispatch
def normals_of(model: Any) -> Normals | None:
    """Return the normal densities that a fitted model consists of; None if there are none."""
    return None


@normals_of.register
def _(model: BayesianGMMAutoEncoder) -> Normals:
    each = model.decode(np.eye(len(model.weights_)))  # rows given that the code is a component
    return Normals(model.weights_, each.mean, each.covariance)


@normals_of.register
def _(model: BayesianPCAAutoEncoder) -> Normals | None:
    if not np.all(model.component_precisions_ > 0):  # T = 0: no density
        return None
    return Normals(np.ones(1), model.mean_[None], model.get_covariance()[None])


@normals_of.register
def _(model: BayesianMixturePCAAutoEncoder) -> Normals | None:
    precisions, directions = model.component_precisions_, model.components_
    if not np.all(precisions > 0):
        return None
    noise = np.broadcast_to(model.noise_variance_, len(model.weights_))
    excess = 1.0 / precisions - noise[:, None]
    covariances = np.einsum("kji,kj,kjl->kil", directions, excess, directions)
    covariances += noise[:, None, None] * np.eye(directions.shape[2])
    return Normals(model.weights_, model.means_, covariances)


@singledispatch
def patterns_of(model: Any) -> Patterns:
    """Return the patterns by which the components of a fitted model are known."""
    raise TypeError(
        "ComponentsDisplay draws mixtures, PCA, mixtures of PCA and Boltzmann machines, got "
        f"{type(model).__name__}; ReconstructionDisplay and CodesDisplay draw what it does"
    )


@patterns_of.register
def _(model: BayesianGMMAutoEncoder) -> Patterns:
    return _of_means(model.weights_, model.means_, model.decode(np.eye(len(model.means_))).variance)


@patterns_of.register
def _(model: BayesianMixtureAutoEncoder) -> Patterns:
    if np.isnan(model.means_).any():
        raise TypeError(
            "ComponentsDisplay draws means, and columns of categories have none; see parameters_"
        )
    return _of_means(model.weights_, model.means_, model.decode(np.eye(len(model.means_))).variance)


@patterns_of.register
def _(model: BayesianPCAAutoEncoder) -> Patterns:
    return _loadings(model.components_, "direction")


@patterns_of.register
def _(model: BayesianMixturePCAAutoEncoder) -> Patterns:
    n_components, n_latent, n_features = model.components_.shape
    patterns = _loadings(model.components_.reshape(-1, n_features), "component.direction")
    numbers = [f"{k}.{j}" for k in range(n_components) for j in range(n_latent)]
    return replace(patterns, numbers=numbers, per_line=n_latent or None)


@patterns_of.register
def _(model: BayesianRBMAutoEncoder) -> Patterns:
    return _loadings(model.components_, "unit", "weight")


def _of_means(weights: Array, means: Array, variances: Array) -> Patterns:
    """Return means; in a table they are told from the mixture's, in its standard deviations."""
    centre = weights @ means
    spread = np.sqrt(weights @ (variances + (means - centre) ** 2))
    spread[spread == 0] = 1.0
    table = (means - centre) / spread
    numbers, in_table = _numbers(len(means)), "mean, in standard deviations of all rows"
    return Patterns(means, "component", numbers, "mean", False, table, in_table)


class ComponentsDisplay:
    """The components of a fitted model.

    Of one column, weighted densities and their sum are drawn; of two, ellipses; of more, a table
    of loadings (of PCA, of mixtures of PCA and of Boltzmann machines) or of means (of mixtures),
    as images where a shape is given. With `features`, one or two of many columns are drawn as if
    there were no others.

    Parameters
    ----------
    normals : Normals or None
        Weights, means and covariances of one or two columns, to be drawn as densities or ellipses;
        None to draw `patterns`.
    patterns : Patterns or None
        Means or loadings of all columns.
    feature_names : sequence of str
        Names of the columns that are drawn.
    image_shape : tuple of int or None, default=None
        Height and width in pixels, to draw patterns as images.
    rows : ndarray of shape (n_samples, 1) or (n_samples, 2), or None, default=None
        Rows to draw behind densities and ellipses.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The densities of the components, and their sum; empty for others.
    ellipses_ : list of matplotlib Ellipse
        One for each component; empty for others.
    image_ : matplotlib AxesImage or None
        The table, or all images side by side.

    See Also
    --------
    CodesDisplay : Which component a row belongs to.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.plotting import ComponentsDisplay
    >>> X = load_iris().data
    >>> model = BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0).fit(X)
    >>> display = ComponentsDisplay.from_estimator(model, X, features=(2, 3))
    >>> len(display.ellipses_)
    3
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    ellipses_: list[Any]
    image_: Any

    def __init__(
        self,
        normals: Normals | None,
        patterns: Patterns | None,
        *,
        feature_names: Sequence[str],
        image_shape: tuple[int, int] | None = None,
        rows: Array | None = None,
    ) -> None:
        self.normals = normals
        self.patterns = patterns
        self.feature_names = feature_names
        self.image_shape = image_shape
        self.rows = rows

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        features: Any = None,
        image_shape: tuple[int, int] | None = None,
        n_std: float = 2.0,
        ax: Any = None,
    ) -> Self:
        """Draw the components of the reference model.

        Parameters
        ----------
        estimator : estimator of skbae
            Fitted. Of a Pipeline give the last step: components are in the units of the rows that
            enter it.
        X : array-like of shape (n_samples, n_features) or None, default=None
            Rows to draw behind densities and ellipses.
        features : int, str, pair of these, or None, default=None
            Columns, by number or name, whose densities are drawn. None stands for all: as densities
            or ellipses if there are one or two and the family has normal components.
        image_shape : tuple of int or None, default=None
            Height and width in pixels, if rows are images.
        n_std : float, default=2.0
            Half the axes of ellipses in standard deviations along them.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        ComponentsDisplay

        Raises
        ------
        TypeError
            If the family has no components to draw, or none that are normal for `features`.
        ValueError
            If there are no such columns, or `image_shape` does not fit.
        """
        model: Any = fitted_autoencoder(estimator, "ComponentsDisplay")
        if model is not estimator:
            raise TypeError(
                "ComponentsDisplay needs an estimator of skbae, since components have the units of "
                f"the rows that enter it, got {type(estimator).__name__}: give its last step"
            )
        ax = axes_for(ax, "ComponentsDisplay")
        names = feature_names(model, model.n_features_in_)
        if features is not None and image_shape is not None:
            raise ValueError("features are one or two columns, which are no images: give one only")
        if image_shape is not None:
            image_shape = check_image_shape(image_shape, len(names))
        normals = normals_of(model)
        drawn = normals is not None and len(names) <= 2 and image_shape is None
        if features is None and not drawn:
            patterns = patterns_of(model)
            if not len(patterns.values):
                raise ValueError(f"this {type(model).__name__} has no directions to draw")
            return cls(None, patterns, feature_names=names, image_shape=image_shape).plot(ax)
        if normals is None:
            patterns_of(model)  # raises if nothing of the family can be drawn
            raise TypeError(
                f"features are for normal components, and this {type(model).__name__} has none "
                "(codes that are vectors have no density at T = 0)"
            )
        columns = list(range(len(names))) if features is None else None
        columns = columns or feature_numbers(features, names, (1, 2))
        rows = None if X is None else numbers_of(X, columns)
        shown = [names[column] for column in columns]
        return cls(normals.of_columns(columns), None, feature_names=shown, rows=rows).plot(
            ax, n_std=n_std
        )

    def plot(self, ax: Any = None, *, n_std: float = 2.0, cmap: Any = None) -> Self:
        """Draw the components.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        n_std : float, default=2.0
            Half the axes of ellipses in standard deviations along them.
        cmap : str, matplotlib Colormap or None, default=None
            Of tables and images; None stands for one with a middle for loadings and weights, and
            grey levels for images of means.

        Returns
        -------
        ComponentsDisplay
            Itself.
        """
        self.ax_ = axes_for(ax, "ComponentsDisplay")
        self.figure_ = self.ax_.figure
        self.lines_, self.ellipses_, self.image_ = [], [], None
        if self.normals is not None:
            one = self.normals.means.shape[1] == 1
            self._draw_curves(self.normals) if one else self._draw_ellipses(self.normals, n_std)
        elif self.image_shape is not None:
            self._draw_images(self.image_shape, cmap)
        else:
            self._draw_table(cmap)
        return self

    def _labels(self) -> list[str | None]:
        """Return what components are called in the legend: nothing, if there are many."""
        assert self.normals is not None
        weights = self.normals.weights
        if len(weights) > _MAX_IN_LEGEND:
            return [None] * len(weights)
        return [f"{k}: {100 * weight:.0f}%" for k, weight in enumerate(weights)]

    def _draw_curves(self, normals: Normals) -> None:
        centres, deviations = normals.means[:, 0], np.sqrt(normals.covariances[:, 0, 0])
        if self.rows is not None:
            self.ax_.hist(
                self.rows[np.isfinite(self.rows[:, 0]), 0],
                bins="auto",
                density=True,
                color=NEUTRAL,
                alpha=0.35,
            )
        low, high = centres - _REACH * deviations, centres + _REACH * deviations
        grids = [np.linspace(a, b, 41) for a, b in zip(low, high, strict=True)]  # narrow ones too
        grid = np.unique(np.concatenate([np.linspace(low.min(), high.max(), _N_POINTS), *grids]))
        z = (grid - centres[:, None]) / deviations[:, None]
        height = normals.weights / (np.sqrt(2 * np.pi) * deviations)
        densities = height[:, None] * np.exp(-0.5 * z**2)
        for density, colour, label in zip(
            densities, colours(len(centres)), self._labels(), strict=True
        ):
            self.lines_ += self.ax_.plot(grid, density, color=colour, label=label)
        self.lines_ += self.ax_.plot(
            grid, densities.sum(axis=0), color=NEUTRAL, ls="--", label="sum", zorder=1
        )
        self.ax_.set(xlabel=_axis_name(self.feature_names[0]), ylabel="density")
        self.ax_.set_ylim(bottom=0)
        self.ax_.legend(title="component")

    def _draw_ellipses(self, normals: Normals, n_std: float) -> None:
        from matplotlib.patches import Ellipse

        if self.rows is not None:
            self.ax_.scatter(*self.rows.T, color=NEUTRAL, s=8, alpha=0.6, zorder=1)
        for mean, covariance, colour, label in zip(
            normals.means,
            normals.covariances,
            colours(len(normals.weights)),
            self._labels(),
            strict=True,
        ):
            variances, axes = np.linalg.eigh(covariance)
            width, height = 2 * n_std * np.sqrt(np.maximum(variances[::-1], 0.0))
            angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
            ellipse = Ellipse(
                mean, width, height, angle=angle, fc="none", ec=colour, lw=2, label=label, zorder=3
            )
            self.ellipses_.append(self.ax_.add_patch(ellipse))
            self.ax_.plot(*mean, "+", color=colour, ms=8, mew=2, zorder=3)
        self.ax_.autoscale_view()
        across, up = (_axis_name(name) for name in self.feature_names)
        self.ax_.set(xlabel=across, ylabel=up)
        if len(normals.weights) <= _MAX_IN_LEGEND:
            self.ax_.legend(title="component")

    def _draw_images(self, shape: tuple[int, int], cmap: Any) -> None:
        patterns = self._patterns()
        limits = symmetric_limits if patterns.signed else limits_of
        values, n_images = patterns.values, len(patterns.values)
        n_columns = patterns.per_line or columns_of(n_images)
        named = n_images <= _MAX_NAMED_IMAGES
        room = 0.35 if named else 0.1
        picture, across, down = mosaic(values.reshape(-1, *shape), n_columns, room)
        cmap = cmap or (SIGNED if patterns.signed else PIXELS)
        self.image_ = draw_mosaic(self.ax_, picture, cmap, limits(values))
        draw_colour_bar(self.ax_, self.image_, patterns.meaning)
        if not named:
            return
        self.ax_.set_ylim(top=-0.5 - room * shape[0])
        self.ax_.set_title(patterns.kind)
        for number, name in enumerate(patterns.numbers):
            line, column = divmod(number, n_columns)
            self.ax_.annotate(
                name,
                (across[column], down[line] - shape[0] / 2),
                (0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize="small",
            )

    def _draw_table(self, cmap: Any) -> None:
        patterns = self._patterns()
        limits = symmetric_limits(patterns.table)
        self.image_ = draw_table(
            self.ax_, patterns.table, cmap or SIGNED, limits, self.feature_names
        )
        self.ax_.set(xlabel="column", ylabel=patterns.kind)
        if len(patterns.numbers) <= 30:
            self.ax_.set_yticks(range(len(patterns.numbers)), labels=patterns.numbers)
        draw_colour_bar(self.ax_, self.image_, patterns.table_meaning)

    def _patterns(self) -> Patterns:
        assert self.patterns is not None
        return self.patterns


def _axis_name(name: str) -> str:
    return f"column {name}" if name.isdigit() else name
