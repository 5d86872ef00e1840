"""Training patterns for Keras 3, on JAX, TensorFlow and PyTorch.

Example:

>>> import keras_patterns as kp
>>> "fit" in kp.__all__
True
"""

if __name__ != "keras_patterns":
    raise ImportError(
        f"This folder is the package 'keras_patterns', but it was imported as {__name__!r}, which "
        "would make "
        "every class twice. Install it (`pip install .` in the project's folder) and `import "
        "keras_patterns`."
    )

from importlib.metadata import version

from . import schedules, stopping
from .checkpoint import Checkpoint
from .checkpoint_store import CheckpointStore
from .data import DataExhausted
from .driver.signals import RunInterrupted
from .features import CachedFeatures, cache_features
from .finder import LearningRateSweep, find_learning_rate
from .fine_tune import fine_tune
from .fit import fit
from .freezing import TrainableTable, freeze, trainable_table, unfreeze
from .guard import NonFiniteError, NonFiniteGuard
from .history_plot import plot_history
from .identity import ResumeRefused
from .layerwise import layerwise_rates
from .momentum import one_cycle, with_momentum_schedule
from .plan import StepPlan
from .selection import (
    CheckpointSelection,
    SelectionRow,
    average_checkpoints,
    select_checkpoint,
    warm_start,
)
from .state.snapshot import StateMismatch
from .stopping import (
    EarlyStopping,
    GeneralizationLoss,
    Patience,
    ProgressQuotient,
    SuccessiveRises,
    suggest_patience,
)
from .store import DamagedCheckpoint, StoreError, StoreInUse
from .thawing import GradualUnfreeze, head_then_all, last_layers_first
from .transfer import LoadReport, LoadRow, load_pretrained, replace_head

__version__ = version("keras-patterns")

__all__ = [
    "CachedFeatures",
    "Checkpoint",
    "CheckpointSelection",
    "CheckpointStore",
    "DamagedCheckpoint",
    "DataExhausted",
    "EarlyStopping",
    "GeneralizationLoss",
    "GradualUnfreeze",
    "LearningRateSweep",
    "LoadReport",
    "LoadRow",
    "NonFiniteError",
    "NonFiniteGuard",
    "Patience",
    "ProgressQuotient",
    "ResumeRefused",
    "RunInterrupted",
    "SelectionRow",
    "StateMismatch",
    "StepPlan",
    "StoreError",
    "StoreInUse",
    "SuccessiveRises",
    "TrainableTable",
    "__version__",
    "average_checkpoints",
    "cache_features",
    "find_learning_rate",
    "fine_tune",
    "fit",
    "freeze",
    "head_then_all",
    "last_layers_first",
    "layerwise_rates",
    "load_pretrained",
    "one_cycle",
    "plot_history",
    "replace_head",
    "schedules",
    "select_checkpoint",
    "stopping",
    "suggest_patience",
    "trainable_table",
    "unfreeze",
    "warm_start",
    "with_momentum_schedule",
]
