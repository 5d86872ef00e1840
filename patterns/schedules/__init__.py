"""Learning rates, and momentums, as functions of the step: Keras schedules for any Keras
optimizer."""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .._util.loading import load_registered
from .base import Schedule
from .compose import Join, Scaled, Warmup
from .cyclical import CyclicalLearningRate, CyclicalMomentum
from .one_cycle import OneCycle, OneCycleMomentum
from .plotting import plot
from .warmup_stable_decay import WarmupStableDecay

__all__ = [
    "CyclicalLearningRate",
    "CyclicalMomentum",
    "Join",
    "OneCycle",
    "OneCycleMomentum",
    "Scaled",
    "Schedule",
    "Warmup",
    "WarmupStableDecay",
    "plot",
]

# One that imports this room first of all has the other classes that Keras looks for, too.
load_registered()
