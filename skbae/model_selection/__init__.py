"""Model selection: scorers and a splitter for GridSearchCV.

========================  =====================================  ===============================
scorer                    score                                  use it with
========================  =====================================  ===============================
`hmaxemax_scorer`         density of rows held out, in nats      any splitter
`evidence_scorer`         evidence of the training rows, in      ``cv=InSample()``
                          nats a row
`reconstruction_scorer`   minus the squared error of a           any splitter
                          reconstruction
========================  =====================================  ===============================

All have scikit-learn's signature ``(estimator, X, y=None)``, larger is better, and they take an
estimator, a Pipeline that ends with one, or a fitted search. They raise ValueError if a score is
not defined. By default GridSearchCV turns exceptions into NaN with a warning; set
``error_score="raise"`` to see them.

**Units.** A density has units: rescaling the columns changes it. To make candidates with different
preprocessing comparable, scores are densities of the rows that enter the Pipeline: the steps before
the last must be an invertible affine map (scalers, rotations, ``"passthrough"``), whose log
determinant is added. With any other step (one that drops dimensions, say) the input rows have no
density, and the scorers raise ValueError. ``make_hmaxemax_scorer(units="model")`` scores the rows
that enter the last step, for candidates with the same preprocessing.

`check_evidences` is no scorer: it says which evidences of a grid of mixtures contradict each other.
"""

from __future__ import annotations

from skbae.model_selection._contradictions import EvidenceCheck, EvidencePair, check_evidences
from skbae.model_selection._scorers import (
    HmaxemaxScorer as HmaxemaxScorer,
)
from skbae.model_selection._scorers import (
    evidence_scorer,
    hmaxemax_scorer,
    make_hmaxemax_scorer,
    reconstruction_scorer,
)
from skbae.model_selection._splitter import InSample

__all__ = [
    "EvidenceCheck",
    "EvidencePair",
    "InSample",
    "check_evidences",
    "evidence_scorer",
    "hmaxemax_scorer",
    "make_hmaxemax_scorer",
    "reconstruction_scorer",
]
