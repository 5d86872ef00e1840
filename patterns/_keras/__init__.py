"""The only place that touches private parts of Keras, each with its reason. True for Keras 3.15
(tests/test_keras_private.py).
"""

from .arrays import quiet_arrays
from .attributes import replace_attribute, replaced
from .graphs import Call, calls_in_order, graph_calls, graph_nodes, graph_of, is_graph, mask_of
from .layers import (
    all_layers,
    draws,
    leaf_layers,
    own_variables,
    replace_sublayer,
    sublayers,
    weights_made_trainable,
    weights_to_train,
)
from .optimizers import (
    build_anew,
    config_without_rate,
    copy_weight_decay_exclusions,
    get_rate,
    inner_optimizers,
    made_anew,
    put_rate,
    set_constant_rate,
    steps_of,
    trained_variables,
)
from .own_steps import first_steps, put_first_steps
from .saving import saved_groups, snake_case
from .training import (
    begin_at_epoch,
    finish_batch_ends,
    forget_initial_epoch,
    get_global_seed,
    has_trainer,
    plain_logs,
    put_optimizer,
    random_seed,
    recompile_step,
    set_global_seed,
    shut_down,
)

__all__ = [
    "Call",
    "all_layers",
    "begin_at_epoch",
    "build_anew",
    "calls_in_order",
    "config_without_rate",
    "copy_weight_decay_exclusions",
    "draws",
    "finish_batch_ends",
    "first_steps",
    "forget_initial_epoch",
    "get_global_seed",
    "get_rate",
    "graph_calls",
    "graph_nodes",
    "graph_of",
    "has_trainer",
    "inner_optimizers",
    "is_graph",
    "leaf_layers",
    "made_anew",
    "mask_of",
    "own_variables",
    "plain_logs",
    "put_first_steps",
    "put_optimizer",
    "put_rate",
    "quiet_arrays",
    "random_seed",
    "recompile_step",
    "replace_attribute",
    "replace_sublayer",
    "replaced",
    "saved_groups",
    "set_constant_rate",
    "set_global_seed",
    "shut_down",
    "snake_case",
    "steps_of",
    "sublayers",
    "trained_variables",
    "weights_made_trainable",
    "weights_to_train",
]
