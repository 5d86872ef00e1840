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

from importlib import import_module
from typing import TYPE_CHECKING

from ._util.deprecated import renamed_classes
from ._util.loading import register_with_keras

if TYPE_CHECKING:
    from . import optimizers, schedules, stopping, testing, trackers
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
    from .debugging import (
        Baselines,
        BatchSizeReport,
        DebugReport,
        Diagnosis,
        Finding,
        Findings,
        LearningCurve,
        Observation,
        OverfitReport,
        PreflightError,
        baseline,
        debug,
        diagnose,
        learning_curve,
        overfit_batch,
        preflight,
        probe_batch_size,
    )
    from .finder import LearningRateSweep, find_learning_rate
    from .guard import NonFiniteError, NonFiniteGuard
    from .memorization import MemorizationReport, WorstExample, memorize, tabulate
    from .optimizers.old_names import layerwise_rates as layerwise_rates
    from .optimizers.old_names import one_cycle as one_cycle
    from .optimizers.old_names import with_momentum_schedule as with_momentum_schedule
    from .plots import plot_history
    from .run.checkpoint import Checkpoint
    from .run.fitting import fit
    from .run.history import RunHistory
    from .run.hooks import Hook
    from .run.numbered_batches import batches
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
    from .tuning import (
        Trial,
        TrialResult,
        TuneResult,
        TuningError,
        continue_trial,
        hyperband,
        population,
        successive_halving,
        tune,
    )
    from .weights import (
        ParameterCounts,
        ParameterRow,
        SwitchAugmentation,
        count_parameters,
        initialize,
        regularize,
    )

    __version__: str

__all__ = [
    "Baselines",
    "BatchSizeReport",
    "CachedFeatures",
    "Checkpoint",
    "CheckpointSelection",
    "CheckpointStore",
    "DamagedCheckpointError",
    "DataExhaustedError",
    "DebugReport",
    "Diagnosis",
    "EarlyStopping",
    "Finding",
    "Findings",
    "GeneralizationLoss",
    "GradualUnfreeze",
    "Hook",
    "KerasPatternsError",
    "LearningCurve",
    "LearningRateSweep",
    "LoadReport",
    "LoadRow",
    "MemorizationReport",
    "NewerFormatError",
    "NonFiniteError",
    "NonFiniteGuard",
    "Observation",
    "OverfitReport",
    "ParameterCounts",
    "ParameterRow",
    "Patience",
    "PreflightError",
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
    "SwitchAugmentation",
    "TrainableTable",
    "Trial",
    "TrialResult",
    "TuneResult",
    "TuningError",
    "WorstExample",
    "__version__",
    "average_checkpoints",
    "baseline",
    "batches",
    "cache_features",
    "continue_trial",
    "count_parameters",
    "debug",
    "diagnose",
    "find_learning_rate",
    "fine_tune",
    "fit",
    "freeze",
    "head_then_all",
    "hyperband",
    "initialize",
    "last_layers_first",
    "learning_curve",
    "load_pretrained",
    "memorize",
    "optimizers",
    "overfit_batch",
    "plot_history",
    "population",
    "preflight",
    "preserved",
    "probe_batch_size",
    "regularize",
    "replace_head",
    "schedules",
    "select_checkpoint",
    "stopping",
    "successive_halving",
    "suggest_patience",
    "tabulate",
    "testing",
    "trackers",
    "trainable_table",
    "tune",
    "unfreeze",
    "warm_start",
]

# The module of each public name, loaded when the name is first used: the same as above.
_HOMES = {
    name: module
    for module, names in {
        "": "optimizers schedules stopping testing trackers",
        "._util.errors": "KerasPatternsError",
        ".checkpoint": "CheckpointSelection SelectionRow average_checkpoints select_checkpoint "
        "warm_start",
        ".checkpoint.identity": "ResumeRefusedError",
        ".checkpoint.store": "CheckpointStore",
        ".data": "DataExhaustedError",
        ".debugging": "Baselines BatchSizeReport DebugReport Diagnosis Finding Findings "
        "LearningCurve Observation OverfitReport PreflightError baseline debug diagnose "
        "learning_curve overfit_batch preflight probe_batch_size",
        ".finder": "LearningRateSweep find_learning_rate",
        ".guard": "NonFiniteError NonFiniteGuard",
        ".memorization": "MemorizationReport WorstExample memorize tabulate",
        ".optimizers.old_names": "layerwise_rates one_cycle with_momentum_schedule",
        ".plots": "plot_history",
        ".run.checkpoint": "Checkpoint",
        ".run.fitting": "fit",
        ".run.history": "RunHistory",
        ".run.hooks": "Hook",
        ".run.numbered_batches": "batches",
        ".run.plan": "StepPlan",
        ".run.requests": "Rewind Save SetTrainable Stop",
        ".run.run": "Run",
        ".run.signals": "RunInterrupted",
        ".state.preservation": "preserved",
        ".state.snapshot": "StateMismatchError",
        ".stopping": "EarlyStopping GeneralizationLoss Patience ProgressQuotient SuccessiveRises "
        "suggest_patience",
        ".storage": "DamagedCheckpointError NewerFormatError StoreError StoreInUseError",
        ".transfer": "CachedFeatures GradualUnfreeze LoadReport LoadRow TrainableTable "
        "cache_features fine_tune freeze head_then_all last_layers_first load_pretrained "
        "replace_head trainable_table unfreeze",
        ".tuning": "Trial TrialResult TuneResult TuningError continue_trial hyperband population "
        "successive_halving tune",
        ".weights": (
            "ParameterCounts ParameterRow SwitchAugmentation count_parameters initialize regularize"
        ),
    }.items()
    for name in names.split()
}
# They do without Keras.
_PLAIN = {"._util.errors", ".storage"}


def _load(name: str) -> object:
    """Gives a public name, from now on without this function."""
    if name == "__version__":
        value: object = import_module("importlib.metadata").version("keras-patterns")
    elif name in _HOMES:
        home = _HOMES[name]
        if home not in _PLAIN:
            import_module(".backends.with_keras", __name__)
        module = import_module(home or f".{name}", __name__)
        value = getattr(module, name) if home else module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


# Hidden from type checkers, to which it would make any name of this module valid.
if not TYPE_CHECKING:
    __getattr__ = renamed_classes(
        __name__,
        _load,
        DamagedCheckpoint="DamagedCheckpointError",
        DataExhausted="DataExhaustedError",
        ResumeRefused="ResumeRefusedError",
        StateMismatch="StateMismatchError",
        StoreInUse="StoreInUseError",
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_keras()
