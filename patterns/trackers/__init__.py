"""Trackers: TensorBoard, Weights & Biases, MLflow or one's own get the curves of a run, each point
once, whatever is killed.
"""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .event_files import TensorBoard
from .mlflow_runs import MLflow
from .protocol import Row, RunEvent, TrackedRun, Tracker
from .tracking import Tracking
from .wandb_runs import WandB

__all__ = [
    "MLflow",
    "Row",
    "RunEvent",
    "TensorBoard",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "WandB",
]
