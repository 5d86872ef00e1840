"""The checks of a model and its data, and the kinds that each can find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from . import (
    architecture,
    copies,
    dependence,
    inputs,
    modes,
    own_losses,
    targets,
    training_settings,
    turned,
)
from .examined import Examined
from .finding import Finding

Check = Callable[[Examined], Iterator[Finding]]

# Where one of these is found, the framework's own refusal says no more.
_EXPLAIN_REFUSALS = {"index_range", "label_range", "output_width", "loss_mismatch", "frozen"}

# Each check, with the kinds that it can find.
CHECKS: tuple[tuple[Check, str], ...] = (
    (inputs.check_inputs, "constant_input input_scale"),
    (copies.check_repeated, "constant_input"),
    (inputs.check_target_scale, "target_scale"),
    (inputs.check_classes, "imbalance"),
    (inputs.check_split, "ordered_split validation_leak"),
    (targets.check_targets, "label_range output_width loss_mismatch"),
    (targets.check_activation, "output_activation logits"),
    (targets.check_loss, "loss_mismatch"),
    (targets.check_percentages, "loss_mismatch"),
    (own_losses.check_sign, "negated_loss"),
    (own_losses.check_targets_count, "loss_mismatch"),
    (own_losses.check_broadcast, "broadcast"),
    (own_losses.check_own_logits, "logits"),
    (architecture.check_ids, "index_range"),
    (architecture.check_frozen, "frozen"),
    (architecture.check_start, "symmetric_init"),
    (modes.check_modes, "train_mode"),
    (training_settings.check_regularisation, "over_regularised"),
    (training_settings.check_rates, "negated_loss lr_low lr_high"),
    (architecture.check_linear, "missing_nonlinearity hidden_activation"),
    (dependence.check_leak, "batch_leak"),
    (dependence.check_ignored, "ignored_input"),
    (dependence.check_look_ahead, "look_ahead"),
    (dependence.check_given, "look_ahead"),
    (turned.check_turned, "label_noise"),
    (dependence.check_padding, "vanishing"),
    (architecture.check_width, "capacity"),
    (architecture.check_flow, "dead_units saturated exploding vanishing"),
    (architecture.check_gradient, "no_gradient"),
    (inputs.check_finite, "non_finite"),
)


def look(
    examined: Examined, wanted: Collection[str] = (), batch_size: int | None = None
) -> Iterator[Finding]:
    """All findings of the checks that can find something wanted, in no order.

    Args:
        examined: The model and its data.
        wanted: Kinds; all if empty.
        batch_size: That of the training, if the data are arrays. None if it is not known.
    """
    # Other data have batches of their own.
    if batch_size and examined.sample.examples is not None:
        yield from modes.check_lone(examined, batch_size)
    is_explained = False
    for check, kinds in CHECKS:
        if not wanted or not set(kinds.split()).isdisjoint(wanted):
            for one in check(examined):
                is_explained |= one.kind in _EXPLAIN_REFUSALS and one.severity == "error"
                yield one
    if examined.problem and not is_explained:
        yield Finding(
            "shapes",
            "error",
            f"The model cannot be trained on these data: {examined.problem}",
            {},
            "Compare the shapes and dtypes of x and y with those of the model.",
        )
