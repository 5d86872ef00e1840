"""Searches for parameters by Optuna, in which every trial is a run that can be killed and goes
on.
"""

from .errors import TuningError
from .result import TrialResult, TuneResult
from .searching import tune
from .trial import Trial

__all__ = ["Trial", "TrialResult", "TuneResult", "TuningError", "tune"]
