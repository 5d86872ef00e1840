"""Outputs that become one for all examples, because of what layers add to the loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from .. import _keras
from ..state.preservation import preserved
from .examined import Examined
from .finding import Finding
from .observed import observe

# Beside what targets differ by.
NEARLY_ONE = 0.05


def spread_of_outputs(examined: Examined) -> float | None:
    """By how much the outputs differ from one example to another, beside the targets; None if they
    are not alike.
    """
    found, _ = observe(examined.model, examined.batch[0])
    y = examined.batch[1]
    if not isinstance(found, np.ndarray) or not isinstance(y, np.ndarray) or found.shape != y.shape:
        return None
    size = float(np.std(y, axis=0, dtype="float64").mean())
    return float(found.std(axis=0, dtype="float64").mean()) / size if size else None


def spread_without_added(examined: Examined, batches: Iterable[tuple[Any, ...]]) -> float | None:
    """The same after a training without what layers add to the loss; None if the model cannot be
    trained without it. The model is put back.
    """
    model = examined.model
    try:
        with preserved(model), _keras.quiet_faults(), ExitStack() as stack:
            for layer in _keras.all_layers(model):
                stack.enter_context(_keras.replaced(layer, "add_loss", lambda loss: None))
            stack.enter_context(_keras.batches_as_in_fit(model))
            model.steps_per_execution, model.train_function = 1, None
            for batch in batches:
                model.train_on_batch(*(*batch, None, None)[:3])
            return spread_of_outputs(examined)
    except Exception:
        # A step of its own may take for granted that there are such losses.
        return None


def check_collapse(spread: float | None, freed: float | None) -> Iterator[Finding]:
    """One answer for all, where there are many without what layers add."""
    if spread is not None and freed is not None and freed > 4 * spread + 0.1:
        yield Finding(
            "over_regularised",
            "warning",
            f"After a short run the outputs differ by {spread:.1%} of what the targets do: nearly "
            f"one answer for all. Without the losses that layers add they differ by {freed:.0%}.",
            {"spread": spread, "without": freed},
            "Give these losses a smaller factor: one that is summed over a code meets a loss that "
            "is the mean over the outputs.",
        )
