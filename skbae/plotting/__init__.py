"""Pictures of fitted models, with matplotlib (extra ``plot``), in scikit-learn's Display style.

==========================  ====================================================================
display                     what it draws
==========================  ====================================================================
`CodesDisplay`              the codes of rows: points, stacked soft components, or bits
`ComponentsDisplay`         components as densities or ellipses, or their means or loadings
`ModelSelectionDisplay`     scores of a grid search with error bars
`FreeEnergyDisplay`         functionals of a family as its models cool
`SamplingDisplay`           evidence by estimate, R-hat and the verdict of the sampling
`ReconstructionDisplay`     rows and their reconstructions
==========================  ====================================================================

Each is made by a class method (``from_estimator``, ``from_cv_results``, ...), which draws on `ax`,
or on a new figure; the display keeps ``ax_``, ``figure_`` and the artists, and ``plot`` draws it
again. matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from skbae.plotting._codes import CodesDisplay
from skbae.plotting._components import ComponentsDisplay
from skbae.plotting._free_energy import FreeEnergyDisplay
from skbae.plotting._model_selection import ModelSelectionDisplay
from skbae.plotting._reconstruction import ReconstructionDisplay
from skbae.plotting._sampling import SamplingDisplay

__all__ = [
    "CodesDisplay",
    "ComponentsDisplay",
    "FreeEnergyDisplay",
    "ModelSelectionDisplay",
    "ReconstructionDisplay",
    "SamplingDisplay",
]
