"""Hooks, and callbacks with a state of their own, whose state must survive a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..run.hooks import Hook
from ..state.callbacks import configuration, get_state, set_state
from ..state.codec import decode, encode
from .comparison import assert_same_state, callback_values, flat_state


@_keras.quiet_arrays()
def assert_restores(
    hook: keras.callbacks.Callback, make: Callable[[], keras.callbacks.Callback] | None = None
) -> None:
    """Asserts that a hook is the same again once a checkpoint has carried its state.

    Use the hook first, so that its state has moved: train with it for some steps.

    Args:
        hook: A used hook, or any callback that tells its state.
        make: Returns a new one with the same arguments. Defaults to None: its class is called with
            what its `get_config()`, or its attributes, say of its arguments.

    Raises:
        AssertionError: If a part of the state, or an attribute, is another one afterwards: the
            first ones are named.
        TypeError: If the state holds what a checkpoint cannot carry, or there is none to tell.

    Example:

    >>> import keras_patterns as kp
    >>> from keras_patterns.testing import assert_restores
    >>> class Counts(kp.Hook):
    ...     boundaries = 0
    ...     def on_boundary(self, boundary):
    ...         self.boundaries += 1
    ...     def get_state(self):
    ...         return {"boundaries": self.boundaries}
    ...     def set_state(self, state):
    ...         self.boundaries = state["boundaries"]
    >>> hook = Counts()
    >>> hook.boundaries = 3
    >>> assert_restores(hook)
    """
    state = get_state(hook)
    if state is None:
        raise TypeError(
            f"{type(hook).__name__} does not tell its state: give it get_state(), which returns a "
            "dict, and set_state(state)."
        )
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(encode(state, "state", arrays), allow_nan=False)
    restored = make() if make else type(hook)(**configuration(hook))
    set_state(restored, decode(json.loads(text), arrays))
    if isinstance(restored, Hook):
        restored.on_restore(rewound=False)
    expected, found = (_all_of(one) for one in (hook, restored))
    name = type(hook).__name__
    assert_same_state(expected, found, f"{name} is another one once its state is put back.")


def _all_of(hook: keras.callbacks.Callback) -> dict[str, Any]:
    return dict(flat_state({"state": get_state(hook), "attributes": callback_values(hook)}, ""))
