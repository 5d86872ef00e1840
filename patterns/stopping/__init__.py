"""Early stopping: rules as pure functions, the callback that follows one, and how much patience a
curve calls for.
"""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .best_weights import BestWeights, InMemory
from .early_stopping import EarlyStopping
from .rules import AllOf, AnyOf, Decision, Observation, Rule
from .rules_patience import Patience
from .rules_prechelt import GeneralizationLoss, ProgressQuotient, SuccessiveRises
from .suggestion import SuggestedPatience, suggest_patience

__all__ = [
    "AllOf",
    "AnyOf",
    "BestWeights",
    "Decision",
    "EarlyStopping",
    "GeneralizationLoss",
    "InMemory",
    "Observation",
    "Patience",
    "ProgressQuotient",
    "Rule",
    "SuccessiveRises",
    "SuggestedPatience",
    "suggest_patience",
]
