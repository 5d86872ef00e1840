"""The state of a training run: variables by their place in the model, random states, callbacks."""

from .codec import decode, encode
from .evaluation import Evaluation
from .preservation import preserved, preserved_attributes
from .randomness import get_random_state, set_random_state
from .snapshot import (
    Snapshot,
    StateMismatchError,
    VariableRecord,
    assign,
    check_fits,
    copy_values,
    differences,
    is_seed,
    put_back,
    putting_back,
    refresh_derived_state,
)
from .variables import Role, VariableIndex, find_variables, has_own_step

__all__ = [
    "Evaluation",
    "Role",
    "Snapshot",
    "StateMismatchError",
    "VariableIndex",
    "VariableRecord",
    "assign",
    "check_fits",
    "copy_values",
    "decode",
    "differences",
    "encode",
    "find_variables",
    "get_random_state",
    "has_own_step",
    "is_seed",
    "preserved",
    "preserved_attributes",
    "put_back",
    "putting_back",
    "refresh_derived_state",
    "set_random_state",
]
