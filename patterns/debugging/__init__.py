"""Finding out why a model does not learn: before training, on one batch, against baselines."""

from .examined import Examined
from .finding import Finding, Findings, PreflightError
from .inspection import before_fit, examine, preflight
from .ladder import DebugReport, debug
from .one_batch import OverfitReport, overfit_batch
from .references import Baselines, baseline
from .sample import take_sample

__all__ = [
    "Baselines",
    "DebugReport",
    "Examined",
    "Finding",
    "Findings",
    "OverfitReport",
    "PreflightError",
    "baseline",
    "before_fit",
    "debug",
    "examine",
    "overfit_batch",
    "preflight",
    "take_sample",
]
