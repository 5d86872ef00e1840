"""Training patterns for Keras 3 that run unchanged on JAX, TensorFlow and PyTorch."""

from __future__ import annotations

if __name__ != "keras_patterns":
    raise ImportError("The folder `patterns` is the package `keras_patterns`: install the project, then `import keras_patterns as kp`.")

from ._version import __version__
from .checkpoint import Checkpoint
from .driver.signals import RunInterrupted
from .fit import fit
from .identity import ResumeRefused
from .plan import StepPlan
from .state.snapshot import StateMismatch
from .store import CheckpointStore
