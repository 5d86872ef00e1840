"""The random numbers of a generator, in a run that goes on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from keras_patterns.backends import current

from .. import _keras
from ..checkpoint.reading import SoundCheckpoint
from ..data import RandomStream, reads_in_order
from ..data.streams import global_state, set_global_state
from ..state.held import HeldStates, check_states, states_of


def generator_stream(x: Any, goes_on: SoundCheckpoint | None) -> RandomStream | None:
    """The random stream of a generator: as it began in the run that goes on, so that it gives the
    same batches again.
    """
    if not reads_in_order(x):
        return None
    if goes_on:
        _check_unused(x)
    # What the generator makes itself while it runs, nobody else draws from.
    held = HeldStates({"x": x}).find()

    def get_state() -> dict[str, Any]:
        return {
            "process": global_state(),
            "backend": current().random_state(),
            "keras": _keras.get_global_seed(),
            "held": states_of(held),
        }

    def set_state(state: Mapping[str, Any]) -> None:
        set_global_state(state["process"])
        current().set_random_state(state["backend"])
        if "keras" in state:
            _keras.set_global_seed(state["keras"])
            for place, (_, access) in held.items():
                if place in state.get("held", {}):
                    access.put(state["held"][place]["state"])

    began = goes_on.record.data.get("random") if goes_on else None
    if isinstance(began, Mapping) and "held" in began:
        check_states(held, began["held"])
    stream = RandomStream(get_state, set_state, began)
    stream.held_places = tuple(held)
    return stream


def _check_unused(x: Any) -> None:
    if inspect.isgenerator(x) and inspect.getgeneratorstate(x) != inspect.GEN_CREATED:
        raise ValueError(
            "kp.fit: the run goes on, and runs its generator again from the start to where it was; "
            "but this generator has given "
            "batches already. Make it anew: pass what the generator function returns now."
        )
