"""Searches for parameters by Optuna, in which every trial is a run that can be killed and goes
on.
"""

from .budgets import continue_trial, hyperband, population, successive_halving
from .errors import TuningError
from .result import TrialResult, TuneResult
from .searching import tune
from .trial import Trial

__all__ = [
    "Trial",
    "TrialResult",
    "TuneResult",
    "TuningError",
    "continue_trial",
    "hyperband",
    "population",
    "successive_halving",
    "tune",
]
