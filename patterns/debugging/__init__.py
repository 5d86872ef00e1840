"""Finding out why a model does not learn: before training, on one batch, against baselines."""

from .finding import Finding, Findings, PreflightError
from .inspection import before_fit, preflight
from .one_batch import OverfitReport, overfit_batch

__all__ = [
    "Finding",
    "Findings",
    "OverfitReport",
    "PreflightError",
    "before_fit",
    "overfit_batch",
    "preflight",
]
