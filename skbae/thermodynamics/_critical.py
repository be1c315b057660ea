"""Critical temperatures: where directions of a code melt, and components of a mixture split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import MeltingEnergy, SplittableEnergy
from skbae.estimators._checks import check_sample_weight
from skbae.estimators._mixture import MixtureAutoEncoder
from skbae.inference._objective import Objective
from skbae.inference.optimise._splitting import cool
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._floating import own_errors
from skbae.operators._gaps import has_gaps
from skbae.thermodynamics._frames import ShowsColumns, frame
from skbae.thermodynamics._gradient import checked_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.inference.optimise._splitting import Cooled


@dataclass(frozen=True)
class SplitTree(ShowsColumns):
    """The hierarchy of a mixture's components, from one at high temperature to those of a fit.

    Nodes are components in the order in which they come about; the first is all rows, and the two
    halves of a component follow it.

    Attributes
    ----------
    parents : ndarray of int of shape (n_nodes,)
        The node of which each is a half; -1 for the first.
    begins : ndarray of shape (n_nodes,)
        Temperature at which the parent was split; infinite for the first.
    critical_temperatures : ndarray of shape (n_nodes,)
        Of each node where it was split, or where cooling ended.
    ends : ndarray of shape (n_nodes,)
        Temperature at which it was split, just below its critical temperature, or further below if
        this has jumped, since other splits narrowed what it is measured by; NaN for the leaves.
    shares : ndarray of shape (n_nodes,)
        Of the rows, where it was split or cooling ended.
    centres : ndarray of shape (n_nodes, n_features)
        Mean of its rows there.
    hmaxe : float
        ``Hmaxe_T`` of the mixture of the leaves, at the temperature of the estimator. If it is
        below the estimator's, cooling has ended in a worse optimum: the tree is not that of the
        fit.
    """

    parents: NDArray[np.intp]
    begins: Array
    critical_temperatures: Array
    ends: Array
    shares: Array
    centres: Array
    hmaxe: float

    @property
    def leaves(self) -> NDArray[np.intp]:
        """The nodes that were not split."""
        return np.flatnonzero(np.isnan(self.ends))

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each node."""
        return frame(self._columns(), "node")

    def _columns(self) -> dict[str, Any]:
        return {
            "parent": self.parents,
            "begins": self.begins,
            "critical_temperature": self.critical_temperatures,
            "ends": self.ends,
            "share": self.shares,
        }


@dataclass(frozen=True)
class CriticalTemperatures(ShowsColumns):
    """Critical temperatures of a fitted model.

    Attributes
    ----------
    temperatures : ndarray of shape (n_components,)
        Of PCA's directions, which are codes below and noise above; of a mixture's components, which
        are one above and split below.
    temperature : float
        T of the fit.
    tree : SplitTree or None
        Of mixtures: the hierarchy of splits.
    """

    temperatures: Array
    temperature: float
    tree: SplitTree | None

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each direction or component."""
        return frame(self._columns(), "component")

    def _columns(self) -> dict[str, Any]:
        return {
            "critical_temperature": self.temperatures,
            "above": self.temperatures > self.temperature,
        }


@own_errors()
def critical_temperatures(
    estimator: Any, X: Any, sample_weight: Any = None
) -> CriticalTemperatures:
    """Return where the codes of a fitted model change their kind as the temperature T changes.

    **PCA**: a direction of variance ``lam_i`` melts into the noise at ``T = lam_i / s2``, with the
    noise variance s2 of that temperature: in closed form ``D lam_i / (lam_{i+1} + ... + lam_D + i
    lam_i)``.

    **Mixtures**: a component splits below its critical temperature, where its two halves gain more
    from the choice that rows have between them than they lose by being off the optimum. For means
    alone, this is the largest eigenvalue of its rows' scatter relative to its covariance, as for
    covariances that components share. Where a component has a covariance of its own, this follows
    the rows, and the condition is one on fourth moments: the largest eigenvalue of the covariance
    of the scores in mean and covariance (of an outlier, for instance, which its component explains
    badly whatever the covariance). One step of expectation maximisation multiplies a small
    difference of two halves by ``critical temperature / T``.

    Parameters
    ----------
    estimator : fitted estimator
        PCA, a Gaussian mixture or a mixture of PCA, without a tilt.
    X : array-like of shape (n_samples, n_features)
        The rows of the fit.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        How many rows each row counts as.

    Returns
    -------
    CriticalTemperatures
        Its `tree` is that of cooling a mixture of one component to the estimator's temperature,
        splitting components below their critical temperatures until there are as many as in the
        estimator. This takes about as long as some fits.

    Notes
    -----
    The condition is that of instability: a mixture whose components are well apart may be better
    than one whose components are one already above the critical temperature, but no small
    difference grows into it.

    Components of full covariance have critical temperatures of 1 at least, and components of a
    mixture of PCA with a code those of the fit at least, since their mean may move along the code
    at no cost. One component whose full covariance is shared (``"tied"``) is on the edge at T = 1,
    where it is not split: the tree is the root alone. Critical temperatures of components are those
    of the given model, whose noise and codes change with the temperature, too.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder
    >>> from skbae.thermodynamics import critical_temperatures
    >>> rng = np.random.default_rng(0)
    >>> centres = np.repeat([[0.0, 0.0], [2.0, 0.0], [9.0, 1.0], [9.0, 4.0]], 50, axis=0)
    >>> X = centres + 0.3 * rng.standard_normal(centres.shape)
    >>> pca = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)
    >>> critical_temperatures(pca, X).temperatures.round(2).tolist()
    [1.89]
    >>> model = BayesianGMMAutoEncoder(
    ...     4, covariance_type="tied_spherical", model_temperature=0, random_state=0).fit(X)
    >>> tree = critical_temperatures(model, X).tree
    >>> tree.parents.tolist()  # two groups of two
    [-1, 0, 0, 1, 1, 2, 2]
    >>> bool(np.isclose(tree.hmaxe, model.hmaxe_, atol=1e-3))
    True
    """
    estimator = checked_kind(estimator, "critical_temperatures")
    X = estimator._read_rows(X)
    if has_gaps(X):
        raise ValueError(
            "critical_temperatures needs complete rows: what a row with missing entries adds to "
            "the scores by which a direction melts or a component splits depends on entries that "
            "are not known; pass estimator.impute(X), or rows without missing entries"
        )
    X = X.astype(np.float64, copy=False)
    weights = check_sample_weight(sample_weight, len(X))
    if weights is not None:
        X, weights = X[weights > 0], weights[weights > 0]
    energy, state = estimator._energy(), estimator._fitted
    if state.tilt:
        raise ValueError(f"critical_temperatures needs a fit without a tilt, got tilt={state.tilt}")
    if isinstance(energy, MeltingEnergy):
        melting = energy.melting_temperatures(X, weights)[1]
        return CriticalTemperatures(melting, state.temperature, None)
    if not isinstance(energy, SplittableEnergy) or not isinstance(estimator, MixtureAutoEncoder):
        raise TypeError(
            "critical_temperatures is for PCA, Gaussian mixtures and mixtures of PCA, got "
            f"{type(estimator).__name__}"
        )
    reference, T = estimator._reference(), state.temperature
    splits = energy.critical_splits(reference, X, weights, state.frame, T)
    rows = make_rows(X, weights)
    to_fit = estimator._energy_to_fit(rows)
    with RowRunner() as runner:
        objective = Objective(to_fit, rows, runner, T)
        cooled = cool(objective, to_fit.single(reference), energy.n_components)
    return CriticalTemperatures(splits.temperatures, T, _tree(cooled))


def _tree(cooled: Cooled) -> SplitTree:
    nodes = cooled.nodes
    return SplitTree(
        np.array([node.parent for node in nodes]),
        np.array([node.begins for node in nodes]),
        np.array([node.critical for node in nodes]),
        np.array([node.ends for node in nodes]),
        np.array([node.share for node in nodes]),
        np.array([node.centre for node in nodes]),
        cooled.objective,
    )
