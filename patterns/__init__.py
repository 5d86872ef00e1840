"""Training patterns for Keras 3, on JAX, TensorFlow and PyTorch.

Example:

>>> import keras_patterns as kp
>>> "fit" in kp.__all__
True
"""

if __name__ != "keras_patterns":
    raise ImportError(
        f"This folder is the package 'keras_patterns', but it was imported as {__name__!r}, which would make "
        "every class twice. Install it (`pip install .` in the project's folder) and `import keras_patterns`."
    )

from importlib.metadata import version

from . import schedules, stopping
from .checkpoint import Checkpoint
from .checkpoint_store import CheckpointStore
from .data import DataExhausted
from .driver.signals import RunInterrupted
from .finder import LearningRateSweep, find_learning_rate
from .fit import fit
from .identity import ResumeRefused
from .momentum import one_cycle, with_momentum_schedule
from .plan import StepPlan
from .state.snapshot import StateMismatch
from .stopping import EarlyStopping, GeneralizationLoss, Patience, ProgressQuotient, SuccessiveRises, suggest_patience
from .store import DamagedCheckpoint, StoreError, StoreInUse

__version__ = version("keras-patterns")

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "DamagedCheckpoint",
    "DataExhausted",
    "EarlyStopping",
    "GeneralizationLoss",
    "LearningRateSweep",
    "Patience",
    "ProgressQuotient",
    "ResumeRefused",
    "RunInterrupted",
    "StateMismatch",
    "StepPlan",
    "StoreError",
    "StoreInUse",
    "SuccessiveRises",
    "__version__",
    "find_learning_rate",
    "fit",
    "one_cycle",
    "schedules",
    "stopping",
    "suggest_patience",
    "with_momentum_schedule",
]
