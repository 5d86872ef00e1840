"""Finding out why a model does not learn: before training, on one batch, against baselines, by its
learning curves, and over sizes of a batch.
"""

from .batch_size import probe_batch_size
from .batch_size_noise import NoiseScale
from .batch_size_report import BatchSizeReport
from .batch_size_speed import Speed
from .diagnosis import Diagnosis, Observation, diagnose
from .examined import Examined, examine
from .finding import Finding, Findings, PreflightError, check_kinds
from .inspection import before_fit, preflight
from .ladder import DebugReport, debug
from .learning_curves import LearningCurve, learning_curve
from .length import steps_asked
from .one_batch import overfit_batch
from .overfit_report import OverfitReport
from .references import Baselines, baseline
from .sample import take_sample

__all__ = [
    "Baselines",
    "BatchSizeReport",
    "DebugReport",
    "Diagnosis",
    "Examined",
    "Finding",
    "Findings",
    "LearningCurve",
    "NoiseScale",
    "Observation",
    "OverfitReport",
    "PreflightError",
    "Speed",
    "baseline",
    "before_fit",
    "check_kinds",
    "debug",
    "diagnose",
    "examine",
    "learning_curve",
    "overfit_batch",
    "preflight",
    "probe_batch_size",
    "steps_asked",
    "take_sample",
]
