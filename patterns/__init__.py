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

from . import optimizers, schedules, stopping
from ._util.deprecated import renamed_function
from .checkpoint import (
    CheckpointSelection,
    SelectionRow,
    average_checkpoints,
    select_checkpoint,
    warm_start,
)
from .checkpoint.identity import ResumeRefused
from .checkpoint.store import CheckpointStore
from .data import DataExhausted
from .finder import LearningRateSweep, find_learning_rate
from .guard import NonFiniteError, NonFiniteGuard
from .plots import plot_history
from .run.checkpoint import Checkpoint
from .run.fit import fit
from .run.plan import StepPlan
from .run.signals import RunInterrupted
from .state.snapshot import StateMismatch
from .stopping import (
    EarlyStopping,
    GeneralizationLoss,
    Patience,
    ProgressQuotient,
    SuccessiveRises,
    suggest_patience,
)
from .storage import DamagedCheckpoint, StoreError, StoreInUse
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
    "load_pretrained",
    "optimizers",
    "plot_history",
    "replace_head",
    "schedules",
    "select_checkpoint",
    "stopping",
    "suggest_patience",
    "trainable_table",
    "unfreeze",
    "warm_start",
]
