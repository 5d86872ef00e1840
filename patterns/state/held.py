"""State that Keras does not track: random generators and variables that the objects of a run hold.

Each is known by its place: the way to it from the model, a callback or the validation data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import StateAccess, current, generator_access

from .. import _keras
from .._util.messages import say
from .snapshot import StateMismatchError, as_dtype, is_seed, np_dtype, put_back
from .walk import Node, is_registered, quiet_parts, walk

States = dict[str, Any]

# Libraries whose objects tell the state of their generators themselves, or make it from a seed.
_TELL_THEMSELVES = {"keras_patterns", "grain", "datasets"}
# Those of NumPy: the states of others are not checked here.
_BIT_GENERATORS = (
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
)
# A whole number as text: see `_with_text`.
_NUMBER = re.compile("0x[0-9a-f]{1,32}")
# The largest number that a generator takes under a name. It uses some as an index, unchecked.
_LARGEST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "has_gauss": 1, "uinteger": 2**32 - 1}


def access_to(thing: Any) -> StateAccess | None:
    """The way to the state of a random generator, a variable or a table; None of anything else."""
    if isinstance(thing, np.random.Generator):
        return _numpy_access(thing.bit_generator)
    if isinstance(thing, np.random.RandomState):
        return _random_state_access(thing)
    if isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom):
        return _python_access(thing)
    if isinstance(thing, keras.Variable):
        return _variable_access(thing)
    return current().state_access(thing) or generator_access(thing)


def identity_of(thing: Any) -> int:
    """The `id` of what holds the state: two generators may draw from one."""
    return id(thing.bit_generator if isinstance(thing, np.random.Generator) else thing)


class HeldStates:
    """The state that is found by a walk from some roots, by place.

    Args:
        roots: By name.
        known: Gives the variables that are saved otherwise, and are left out. Defaults to none.
    """

    def __init__(
        self,
        roots: Mapping[str, Any],
        known: Callable[[], Iterable[keras.Variable]] = tuple,
    ) -> None:
        self._roots = roots
        self._known = known
        self._quiet: list[Any] = []
        self._passed_over: set[int] | None = None
        self._places: set[str] = set()

    def begin(self, known: Iterable[keras.Variable] | None = None) -> list[Node]:
        """Takes note of what leads to nothing, and will be passed over; returns the nodes of its
        walk.

        Args:
            known: What the function of this name would give. Defaults to None: it is asked.
        """
        self._passed_over = None if known is None else _ids_of(known)
        nodes, _ = self.look()
        self._quiet = quiet_parts(nodes, self._passed_over or set())
        return nodes

    def nodes(self) -> Iterator[Node]:
        """The nodes of a walk, variables that are saved otherwise among them."""
        return walk(self._roots, set(map(id, self._quiet)))

    def find(self) -> dict[str, tuple[Any, StateAccess]]:
        """All that there is now: the object and the way to its state, by place."""
        return self.look()[1]

    def look(self) -> tuple[list[Node], dict[str, tuple[Any, StateAccess]]]:
        """The nodes of a walk, without what is passed over, and what `find` gives."""
        is_known_now = self._passed_over is None
        if is_known_now:
            self._passed_over = _ids_of(self._known())
        nodes, found = self._look()
        if not (is_known_now or found.keys() <= self._places):
            # A variable that is new may be one of the model's.
            self._passed_over = _ids_of(self._known())
            nodes, found = self._look()
        self._places = set(found)
        return nodes, found

    def _look(self) -> tuple[list[Node], dict[str, tuple[Any, StateAccess]]]:
        nodes = list(walk(self._roots, {*(self._passed_over or ()), *map(id, self._quiet)}))
        return nodes, dict(found_in(nodes))

    def forget_known(self) -> None:
        """The variables that are saved otherwise have changed."""
        self._passed_over = None

    def states(self) -> States:
        """The state of each, by place."""
        return states_of(self.find())

    def restore(self, states: Mapping[str, Any]) -> list[Node]:
        """Puts states back. What is new or gone is named. Returns the nodes of its walk.

        Raises:
            StateMismatchError: If one does not fit; nothing has been changed then.
        """
        nodes, found = self.look()
        self._put(found, states)
        for place in sorted(found.keys() - states.keys()):
            say(
                f"{place} ({found[place][1].kind}) has no state in the checkpoint, and starts here."
            )
        for place in sorted(states.keys() - found.keys()):
            say(f"{place} is not there any more, and its state is gone.")
        return nodes

    def _put(self, found: Mapping[str, tuple[Any, StateAccess]], states: Mapping[str, Any]) -> None:
        check_states(found, states)
        fitting = {place: states[place] for place in found if place in states}
        for place, saved in fitting.items():
            try:
                found[place][1].put(saved["state"])
            except (ValueError, TypeError, RuntimeError, OverflowError) as error:
                raise StateMismatchError(f"The state of {place!r} does not fit: {error}") from error


def _ids_of(variables: Iterable[keras.Variable]) -> set[int]:
    """The `id` of some variables, and of the framework's in them, where it has such. Those live as
    long as the variable; the `id` of a mere value could soon be another's.
    """
    variables = list(variables)
    inner = [_keras.raw_value(variable) for variable in variables]
    access = current().state_access
    return {*map(id, variables), *(id(one) for one in inner if access(one) is not None)}


def states_of(found: Mapping[str, tuple[Any, StateAccess]]) -> States:
    """The state of each object that was found, by place."""
    return {
        place: {"kind": access.kind, "state": access.get()} for place, (_, access) in found.items()
    }


def found_in(nodes: Iterable[Node]) -> Iterator[tuple[str, tuple[Any, StateAccess]]]:
    """The places, objects and ways to states among the nodes of a walk."""
    held: set[int] = set()
    for node in nodes:
        access = access_to(node.value)
        if access is None or identity_of(node.value) in held:
            continue
        if type(node.owner).__module__.partition(".")[0] in _TELL_THEMSELVES:
            continue
        # What Keras's own layers keep beside their variables, such as vocabularies, stays.
        is_own = is_registered(node) if access.is_value else node.is_own
        if not (is_own or access.seed or isinstance(node.value, keras.Variable)):
            continue
        held.add(identity_of(node.value))
        yield node.place, (node.value, access)


def check_states(found: Mapping[str, tuple[Any, StateAccess]], states: Any) -> None:
    """Raises if one of some saved states is not one that the object of its place can take.

    Raises:
        StateMismatchError: Naming the place, and in what it differs.
    """
    if not isinstance(states, Mapping):
        raise StateMismatchError(f"States must stand by their places. Received: {states!r:.80}")
    for place, (_, access) in found.items():
        if place in states:
            check_state(place, access, states[place])


def check_state(place: str, access: StateAccess, saved: Any) -> None:
    """Raises if a saved state is not one that an object can take.

    Raises:
        StateMismatchError: Naming the place, and in what it differs.
    """
    if not isinstance(saved, Mapping) or set(saved) != {"kind", "state"}:
        raise StateMismatchError(f"The checkpoint holds no state for {place!r}: {saved!r:.80}")
    if not isinstance(saved["kind"], str) or saved["kind"] != access.kind:
        raise StateMismatchError(
            f"{place!r} is a {access.kind}, and the checkpoint holds {saved['kind']!r:.80}. "
            "Make it what it was, or give another folder to begin a new run."
        )
    if access.has_fixed_form:
        problem = _problem(access.get(), saved["state"], "state")
        if problem:
            raise StateMismatchError(
                f"The state that the checkpoint holds for {place!r} ({access.kind}) does not fit: "
                f"{problem}."
            )


def _problem(live: Any, saved: Any, name: str) -> str:
    """The first way in which a saved state has another form than a live one; empty if none."""
    if isinstance(live, Mapping):
        if not isinstance(saved, Mapping) or live.keys() != saved.keys():
            return f"{name} must hold {sorted(live)}"
        problems = (_problem(live[key], saved[key], key) for key in live)
        return next(filter(None, problems), "")
    if isinstance(live, np.ndarray):
        if not isinstance(saved, np.ndarray):
            return f"{name} must be an array"
        if (saved.shape, saved.dtype) != (live.shape, live.dtype):
            both = [f"{a.dtype} of shape {a.shape}" for a in (saved, live)]
            return f"{name} is {both[0]}, and must be {both[1]}"
        return ""
    if name == "gauss":
        return "" if saved is None or type(saved) is float else "gauss must be a float or None"
    if type(live) is not type(saved):
        return f"{name} must be a {type(live).__name__}; received {saved!r:.80}"
    if not isinstance(live, str | int):
        return ""
    if isinstance(live, str) and not _NUMBER.fullmatch(live):
        return "" if live == saved else f"{name} must be {live!r}; received {saved!r:.80}"
    if isinstance(live, str) and not _NUMBER.fullmatch(saved):
        return f"{name} must be a whole number; received {saved!r:.80}"
    number = int(saved, 16) if isinstance(saved, str) else saved
    if not 0 <= number <= _LARGEST.get(name, 2**128 - 1):
        return f"{name} is out of range: {saved!r:.80}"
    return ""


# NumPy's and Python's generators.


def _numpy_access(generator: Any) -> StateAccess | None:
    if type(generator) not in _BIT_GENERATORS:
        return None

    def put(state: Any) -> None:
        generator.state = _with_numbers(state)

    def seed(words: np.ndarray) -> None:
        generator.state = type(generator)(np.random.SeedSequence(words.tolist())).state

    kind = f"numpy.random.Generator({type(generator).__name__})"
    return StateAccess(kind, lambda: _with_text(generator.state), put, seed)


def _random_state_access(generator: np.random.RandomState) -> StateAccess | None:
    if type(generator._bit_generator) is not np.random.MT19937:
        return None

    def get() -> Any:
        return _with_text(generator.get_state(legacy=False))

    def put(state: Any) -> None:
        generator.set_state(_with_numbers(state))

    return StateAccess("numpy.random.RandomState", get, put, generator.seed)


def _with_text(state: Any) -> Any:
    """A state with its whole numbers as text: some have 128 bits, which not every JSON keeps."""
    if isinstance(state, dict):
        return {key: _with_text(value) for key, value in state.items()}
    return hex(state) if isinstance(state, int) else state


def _with_numbers(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _with_numbers(value) for key, value in state.items()}
    return int(state, 16) if isinstance(state, str) and _NUMBER.fullmatch(state) else state


def _python_access(generator: random.Random) -> StateAccess:
    def get() -> Any:
        version, words, gauss = generator.getstate()
        return {"version": version, "words": np.array(words[:-1], np.uint32), "pos": words[-1]} | {
            "gauss": gauss
        }

    def put(state: Any) -> None:
        words = (*map(int, state["words"]), state["pos"])
        generator.setstate((state["version"], words, state["gauss"]))

    def seed(words: np.ndarray) -> None:
        generator.seed(int.from_bytes(words.astype("<u4").tobytes(), "little"))

    return StateAccess("random.Random", get, put, seed)


# Keras's variables.


def _variable_access(variable: keras.Variable) -> StateAccess:
    def get() -> Any:
        return np.array(keras.ops.convert_to_numpy(variable.value))

    def put(state: Any) -> None:
        if not isinstance(state, np.ndarray):
            raise TypeError(f"it must be an array; received {state!r:.80}")
        put_back({"": variable}, {"": state})

    def seed(words: np.ndarray) -> None:
        # As `SeedGenerator` begins: a seed, and a count.
        state = np.array([words[0], 0], np.uint32)
        variable.assign(as_dtype(state, np_dtype(variable), seed=True))

    # Another backend keeps seeds and counters as other integers.
    form = np_dtype(variable).kind not in "iu"
    return StateAccess("keras.Variable", get, put, seed if is_seed(variable) else None, form)
