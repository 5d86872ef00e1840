"""Functions of this room by the names that they had in `keras_patterns`; a call warns."""

from .._util.deprecated import renamed_function
from .layer_rates import with_layer_rates
from .momentum import with_momentum, with_one_cycle

layerwise_rates = renamed_function(
    "kp.layerwise_rates", "kp.optimizers.with_layer_rates", with_layer_rates
)
one_cycle = renamed_function("kp.one_cycle", "kp.optimizers.with_one_cycle", with_one_cycle)
with_momentum_schedule = renamed_function(
    "kp.with_momentum_schedule", "kp.optimizers.with_momentum", with_momentum
)
