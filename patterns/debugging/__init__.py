"""Finding out why a model does not learn: before training, on one batch, against baselines."""

from .finding import Finding, Findings, PreflightError
from .inspection import before_fit, preflight
from .ladder import DebugReport, debug
from .one_batch import OverfitReport, overfit_batch
from .references import Baselines, baseline

__all__ = [
    "Baselines",
    "DebugReport",
    "Finding",
    "Findings",
    "OverfitReport",
    "PreflightError",
    "baseline",
    "before_fit",
    "debug",
    "overfit_batch",
    "preflight",
]
