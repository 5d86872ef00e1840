"""Finding out why a model does not learn: what its learning curves say."""

from .diagnosis import Diagnosis, Observation, diagnose
from .learning_curves import LearningCurve, learning_curve

__all__ = ["Diagnosis", "LearningCurve", "Observation", "diagnose", "learning_curve"]
