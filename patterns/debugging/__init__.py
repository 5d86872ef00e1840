"""Finding out why a model does not learn: before training, on one batch, against baselines, and by
its learning curves.
"""

from .diagnosis import Diagnosis, Observation, diagnose
from .examined import Examined
from .finding import Finding, Findings, PreflightError
from .inspection import before_fit, examine, preflight
from .ladder import DebugReport, debug
from .learning_curves import LearningCurve, learning_curve
from .one_batch import OverfitReport, overfit_batch
from .references import Baselines, baseline
from .sample import take_sample

__all__ = [
    "Baselines",
    "DebugReport",
    "Diagnosis",
    "Examined",
    "Finding",
    "Findings",
    "LearningCurve",
    "Observation",
    "OverfitReport",
    "PreflightError",
    "baseline",
    "before_fit",
    "debug",
    "diagnose",
    "examine",
    "learning_curve",
    "overfit_batch",
    "preflight",
    "take_sample",
]
