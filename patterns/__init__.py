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
from typing import TYPE_CHECKING

from . import optimizers, schedules, stopping, testing
from ._util.deprecated import renamed_classes, renamed_function
from ._util.errors import KerasPatternsError
from .checkpoint import (
    CheckpointSelection,
    SelectionRow,
    average_checkpoints,
    select_checkpoint,
    warm_start,
)
from .checkpoint.identity import ResumeRefusedError
from .checkpoint.store import CheckpointStore
from .data import DataExhaustedError
from .finder import LearningRateSweep, find_learning_rate
from .guard import NonFiniteError, NonFiniteGuard
from .plots import plot_history
from .run.checkpoint import Checkpoint
from .run.fitting import fit
from .run.history import RunHistory
from .run.hooks import Hook
from .run.plan import StepPlan
from .run.requests import Rewind, Save, SetTrainable, Stop
from .run.run import Run
from .run.signals import RunInterrupted
from .state.preservation import preserved
from .state.snapshot import StateMismatchError
from .stopping import (
    EarlyStopping,
    GeneralizationLoss,
    Patience,
    ProgressQuotient,
    SuccessiveRises,
    suggest_patience,
)
from .storage import DamagedCheckpointError, NewerFormatError, StoreError, StoreInUseError
from .transfer import (
    CachedFeatures,
    GradualUnfreeze,
    LoadReport,
    LoadRow,
    TrainableTable,
    cache_features,
    fine_tune,
    freeze,
    head_then_all,
    last_layers_first,
    load_pretrained,
    replace_head,
    trainable_table,
    unfreeze,
)

layerwise_rates = renamed_function(
    "kp.layerwise_rates", "kp.optimizers.with_layer_rates", optimizers.with_layer_rates
)
one_cycle = renamed_function(
    "kp.one_cycle", "kp.optimizers.with_one_cycle", optimizers.with_one_cycle
)
with_momentum_schedule = renamed_function(
    "kp.with_momentum_schedule", "kp.optimizers.with_momentum", optimizers.with_momentum
)

__version__ = version("keras-patterns")

__all__ = [
    "CachedFeatures",
    "Checkpoint",
    "CheckpointSelection",
    "CheckpointStore",
    "DamagedCheckpointError",
    "DataExhaustedError",
    "EarlyStopping",
    "GeneralizationLoss",
    "GradualUnfreeze",
    "Hook",
    "KerasPatternsError",
    "LearningRateSweep",
    "LoadReport",
    "LoadRow",
    "NewerFormatError",
    "NonFiniteError",
    "NonFiniteGuard",
    "Patience",
    "ProgressQuotient",
    "ResumeRefusedError",
    "Rewind",
    "Run",
    "RunHistory",
    "RunInterrupted",
    "Save",
    "SelectionRow",
    "SetTrainable",
    "StateMismatchError",
    "StepPlan",
    "Stop",
    "StoreError",
    "StoreInUseError",
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
    "load_pretrained",
    "optimizers",
    "plot_history",
    "preserved",
    "replace_head",
    "schedules",
    "select_checkpoint",
    "stopping",
    "suggest_patience",
    "testing",
    "trainable_table",
    "unfreeze",
    "warm_start",
]

# Hidden from type checkers, to which it would make any name of this module valid.
if not TYPE_CHECKING:
    __getattr__ = renamed_classes(
        __name__,
        DamagedCheckpoint="DamagedCheckpointError",
        DataExhausted="DataExhaustedError",
        ResumeRefused="ResumeRefusedError",
        StateMismatch="StateMismatchError",
        StoreInUse="StoreInUseError",
    )
