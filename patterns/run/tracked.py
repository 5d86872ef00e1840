"""State beside the model that a loop of one's own gives to its run to carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from xxhash import xxh3_128_hexdigest

from keras_patterns.backends import beside, current

from .._util.messages import say
from .._util.schema import checked
from .._util.warn import warn
from ..state.codec import encode
from ..state.held import access_to
from ..state.snapshot import StateMismatchError, copy_values, put_back, putting_back

Get = Callable[[], Any]
Set = Callable[[Any], Any]


class Tracked:
    """Named state, read at boundaries and put back on a resume."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Get, Set]] = {}
        # Those whose first change is still to be seen, with the step and the digest that were.
        self._watched: dict[str, tuple[int, str] | None] = {}

    def add(self, name: str, what: Any, moves: bool = True) -> None:
        """Adds one part.

        Args:
            name: For the checkpoint.
            what: See `kp.Run.track`.
            moves: Whether it is said where it does not change. Defaults to True.

        Raises:
            TypeError: If it is none of what can be tracked.
            ValueError: If there is one of that name, or it is not built yet.
        """
        if name in self._parts:
            raise ValueError(f"kp.Run.track: {name!r} is tracked already. Give it another name.")
        self._parts[name] = _accessors(name, what)
        if moves:
            self._watched[name] = None

    def state(self, step: int) -> dict[str, Any]:
        """The state of each part after `step` steps. A part that has not moved since an earlier
        step is named in a warning, once: most likely another object is the one that is trained.
        """
        states = {name: get() for name, (get, _) in self._parts.items()}
        for name, before in list(self._watched.items()):
            digest = _digest(name, states[name])
            if before is None or before[0] == step:
                self._watched[name] = (step, digest)
                continue
            # Once is enough.
            del self._watched[name]
            if digest == before[1]:
                _warn_of_still(name, before[0], step)
        return states

    def restore(self, states: Mapping[str, Any]) -> None:
        """Puts states back; those that are new or gone are named."""
        for name in sorted(self._parts.keys() - states.keys()):
            say(f"{name} is tracked now, was not before, and starts here.")
        for name in sorted(states.keys() - self._parts.keys()):
            say(f"{name} is not tracked any more, and its state is gone.")
        for name in self._parts.keys() & states.keys():
            with putting_back(name):
                self._parts[name][1](states[name])


def _digest(name: str, state: Any) -> str:
    arrays: dict[str, np.ndarray] = {}
    plain = repr(encode(state, name, arrays)).encode()
    parts = [plain, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
    return " ".join(map(xxh3_128_hexdigest, parts))


def _warn_of_still(name: str, before: int, step: int) -> None:
    warn(
        f"kp.Run: {name!r} has not changed from step {before:,} to step {step:,}. If it is "
        "trained, the run tracks another object than the loop uses: give run.track a pair "
        "(get, set) of functions that reach the live one.",
    )


def _accessors(name: str, what: Any) -> tuple[Get, Set]:
    """The functions that read the state of one part and put it back."""
    if isinstance(what, tuple) and len(what) == 2 and all(map(callable, what)):
        return _tree_accessors(name, *what)
    variables = _variables_of(what)
    if variables:

        def put(state: Any) -> None:
            checked(state, dict[str, np.ndarray], "variables")
            try:
                put_back(variables, state, variables.keys() | state.keys())
            except KeyError as error:
                raise StateMismatchError(
                    f"kp.Run: {name!r} has other variables than in the checkpoint; the first is "
                    f"{error}."
                ) from error

        return lambda: copy_values(variables), put
    # What PyTorch's generator gives is a tensor.
    if _has(what, "get_state", "set_state") and current().state_access(what) is None:
        return what.get_state, what.set_state
    if _has(what, "state_dict", "load_state_dict"):
        return what.state_dict, lambda state: what.load_state_dict(
            _with_tensors(state, what.state_dict())
        )
    access = access_to(what)
    if access is not None and not access.is_value:
        return access.get, access.put
    if variables is not None:
        raise ValueError(
            f"kp.Run.track: {name!r} has no variables yet. Build it first, so that a checkpoint "
            "can be put back into it."
        )
    raise TypeError(
        f"kp.Run.track: {name!r} is a {type(what).__name__}. Expected Keras variables or an object "
        "that has some; an object with get_state and set_state, or state_dict and load_state_dict; "
        "a random generator; or a pair of functions (get, set) over a tree of arrays."
    )


def _has(what: Any, *methods: str) -> bool:
    return all(callable(getattr(what, method, None)) for method in methods)


def _with_tensors(state: Any, live: Any) -> Any:
    """A state with tensors in the place of arrays that were some, as `state_dict` gave it: each on
    the device of the one that stands there now, or on the host, as if it came from a file.
    """
    if isinstance(state, np.ndarray):
        if keras.ops.is_tensor(live):
            return beside(live, keras.ops.convert_to_tensor(state))
        if isinstance(live, np.ndarray):
            return state.copy()
        with keras.device("cpu"):
            return keras.ops.convert_to_tensor(state)
    if isinstance(state, Mapping):
        old = live if isinstance(live, Mapping) else {}
        return {key: _with_tensors(value, old.get(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        items = live if isinstance(live, list | tuple) else ()
        pairs = zip(state, [*items, *[None] * len(state)], strict=False)
        return type(state)(_with_tensors(value, one) for value, one in pairs)
    return state


def _variables_of(what: Any) -> dict[str, keras.Variable] | None:
    """The variables in `what`, by name; None if it is nothing that could hold any."""
    if isinstance(what, keras.random.SeedGenerator):
        what = what.state
    if isinstance(what, keras.Variable):
        return {"value": what}
    if isinstance(what, Mapping) and all(isinstance(v, keras.Variable) for v in what.values()):
        return dict(what)
    if isinstance(what, keras.Layer | keras.Metric | keras.optimizers.Optimizer):
        what = what.variables
    if isinstance(what, list | tuple) and all(isinstance(v, keras.Variable) for v in what):
        return {f"{index}": variable for index, variable in enumerate(what)}
    return None


def _tree_accessors(name: str, get: Get, put: Set) -> tuple[Get, Set]:
    def state() -> dict[str, np.ndarray]:
        return current().tree_to_arrays(get())

    def restore(arrays: Mapping[str, np.ndarray]) -> None:
        checked(arrays, dict[str, np.ndarray], "tree")
        live = get()
        now = current().tree_to_arrays(live)
        lines = [f"{path}: only in the checkpoint" for path in arrays.keys() - now.keys()]
        lines += [f"{path}: not in the checkpoint" for path in now.keys() - arrays.keys()]
        lines += [
            f"{path}: {arrays[path].dtype} of shape {arrays[path].shape} in the checkpoint, "
            f"{now[path].dtype} of shape {now[path].shape} now"
            for path in now.keys() & arrays.keys()
            if (now[path].shape, now[path].dtype) != (arrays[path].shape, arrays[path].dtype)
        ]
        if lines:
            raise StateMismatchError(
                f"kp.Run: the tree of {name!r} is another one than in the checkpoint:\n  "
                + "\n  ".join(sorted(lines)[:5])
            )
        put(current().tree_from_arrays(live, arrays))

    return state, restore
