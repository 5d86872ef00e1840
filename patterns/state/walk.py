"""A walk over the Python objects that a run holds: attributes, containers, functions."""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import keras

from keras_patterns.backends import current

from .. import _keras
from .variables import BOOK_KEEPING, SECOND_REFERENCES

# Objects that are looked at in one walk. A list of a million names is cut there, not a model.
_MOST = 200_000
_MOST_ITEMS = 10_000
# Whose classes hold nothing of a person's. The instances of the first are looked into all the same.
_OPEN_LIBRARIES = {"keras", "keras_patterns", "torch", "torchvision", "torchdata", "grain"}
_CLOSED_LIBRARIES = {
    *("tensorflow", "jax", "jaxlib", "numpy", "pandas", "scipy", "ml_dtypes", "h5py", "pyarrow"),
    *("matplotlib", "PIL", "rich", "optree", "xxhash", "safetensors", "_pytest", "pytest"),
    *("absl", "fsspec", "huggingface_hub", "multiprocess", "dill", "optuna", "sqlalchemy"),
}
_SMALL = (type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, type(...))
_SETTINGS = (*_SMALL, keras.DTypePolicy, keras.InputSpec, keras.KerasTensor, types.ModuleType)
CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_RUN = "keras_patterns.run."
# Of a torch.nn.Module.
REGISTERED = ("_buffers", "_parameters")
_ONLY_WAYS = ("_layers", "_modules", *REGISTERED)
# What leads from a callback back to the run, and Keras's book-keeping.
_SKIPPED = BOOK_KEEPING | frozenset(
    {
        *("_model", "params", "run", "__dict__", "__weakref__"),
        *("_nodes", "_tracker", "_operations", "_jax_state", "_parent_path", "_auto_config"),
        *("_call_signature", "_call_context_args", "_losses", "_loss_ids", "_losses_override"),
        # The values of a layer's variables, once more, for torch.
        "_torch_params",
    }
)


@dataclass(frozen=True)
class Node:
    """One object that a walk came to.

    Attributes:
        place: The way to it from the root: attribute names, list positions, keys.
        value: The object.
        owner: What it is a part of; None of a root.
        put: Puts another object in its place, where that can be done.
        is_own: Whether a person's own object has it, perhaps in a container, or a module of the
            framework as its buffer.
    """

    place: str
    value: Any
    owner: Any = None
    put: Callable[[Any], None] | None = None
    is_own: bool = False


def walk(
    roots: Mapping[str, Any], seen: set[int] | None = None, owns_globals: bool = False
) -> Iterator[Node]:
    """The objects that are reached from some roots, each once, by the shortest way.

    Looked into are attributes of instances and of a person's own classes, dicts, lists, tuples and
    sets, iterators, functions with what they close over and with the globals that their code
    names, also by way of a module of a person's own, and generators with their local variables. The
    order is the same in every process, but for sets of several objects.

    Args:
        roots: By name.
        seen: The `id` of what is passed over; it is added to. Defaults to None: nothing.
        owns_globals: Whether the numbers and lists of a module count as a person's own where code
            names them. Defaults to False: they belong to all that the module does.
    """
    seen = set() if seen is None else seen
    keep: list[Any] = []  # The id of what is gone could be that of another object.
    queue = deque(Node(name, value) for name, value in roots.items())
    second: deque[Node] = deque()
    while (queue or second) and len(keep) < _MOST:
        node = (queue or second).popleft()
        if type(node.value) in _SMALL:
            yield node
            continue
        if id(node.value) in seen:
            continue
        seen.add(id(node.value))
        keep.append(node.value)
        yield node
        is_in_container = node.is_own and isinstance(node.value, CONTAINERS)
        for name, child, put, is_own in _children(node.value):
            is_second = name in SECOND_REFERENCES and not isinstance(node.value, dict)
            place = f"{node.place}/{name}"
            is_own = is_own or is_in_container or (owns_globals and _puts_global(put))
            part = Node(place, child, node.value, put, is_own)
            (second if is_second else queue).append(part)


def quiet_parts(nodes: Iterable[Node], known: Set[int]) -> list[Any]:
    """The layers of Keras's own classes that lead to nothing of a person's, and whose variables are
    all known: a later walk can pass them over.

    Args:
        nodes: Of a walk, to its end.
        known: The `id` of each variable that is saved otherwise.
    """
    nodes = list(nodes)
    layers = [
        node
        for node in nodes
        if isinstance(node.value, keras.Layer)
        and not is_own(type(node.value))
        and all(id(variable) in known for variable in node.value.variables)
    ]
    places = {node.place for node in layers}
    ways: set[str] = set()
    for node in nodes:
        is_way = node.is_own or is_own(type(node.value))
        if is_way or (isinstance(node.value, types.FunctionType) and is_own(node.value)):
            # A layer is no way to itself, whoever holds it.
            place = node.place.rpartition("/")[0] if node.place in places else node.place
            while place and place not in ways:
                ways.add(place)
                place = place.rpartition("/")[0]
    return [node.value for node in layers if node.place not in ways]


_Child = tuple[str, Any, Callable[[Any], None] | None, bool]


def _children(value: Any) -> Iterator[_Child]:
    if isinstance(value, CONTAINERS) and _is_flat(value):
        return
    # Containers are copied at once: another thread may change them meanwhile.
    if isinstance(value, dict | types.MappingProxyType):
        items = list(itertools.islice(value.items(), _MOST_ITEMS))
        yield from ((str(key), item, _item_put(value, key), False) for key, item in items)
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(list(itertools.islice(value, _MOST_ITEMS))):
            yield str(index), item, _item_put(value, index), False
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{index}}}", item, None, False) for index, item in enumerate(list(value)))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__, None, False
        yield "function", value.__func__, None, False
    elif isinstance(value, functools.partial):
        yield from (("function", value.func, None, False), ("args", value.args, None, False))
        yield "keywords", value.keywords, None, False
    elif inspect.isgenerator(value):
        yield from _of_generator(value)
    elif type(value).__module__ in ("builtins", "itertools") and isinstance(value, Iterator):
        yield from ((str(i), item, None, False) for i, item in enumerate(gc.get_referents(value)))
    elif isinstance(value, type):
        if is_own(value):
            yield from _of_class(value, {})
    elif _is_open(value):
        yield from _of_instance(value)
    elif isinstance(wrapped := getattr(value, "__wrapped__", None), types.FunctionType):
        yield "function", wrapped, None, False


def _is_flat(value: Any) -> bool:
    """True of a container of nothing but numbers and text, such as the names of many files."""
    items = value.values() if isinstance(value, dict) else value
    return all(type(item) in _SMALL for item in items)


def _of_instance(value: Any) -> Iterator[_Child]:
    kind = type(value)
    own = is_own(kind)
    if isinstance(value, keras.Model) and _keras.is_graph(value):
        yield "layers", value.layers, None, False
    attributes = dict(current().attributes(value)) if hasattr(value, "__dict__") else {}
    for name in _slots(kind):  # type: ignore[arg-type]
        if hasattr(value, name):
            attributes.setdefault(name, getattr(value, name))
    of_keras = _keras.keras_attributes(value) if own else ()
    is_callback = isinstance(value, keras.callbacks.Callback)
    chosen = [
        (name, child)
        for name, child in attributes.items()
        if name not in _SKIPPED
        if (own and name not in of_keras) or not _is_setting(name, child)
        if not (is_callback and name == "model")
    ]
    for name, child in sorted(chosen, key=lambda item: (item[0].startswith("_"), item[0])):
        put = functools.partial(setattr, value, name)
        is_persons = own and name not in of_keras
        yield name, child, put, is_persons or name in REGISTERED
    for base in kind.__mro__ if own else ():
        if is_own(base):
            yield from _of_class(base, attributes)


def _is_setting(name: str, child: Any) -> bool:
    """True of an attribute of a library's own object that leads to nothing of a person's."""
    if isinstance(child, _SETTINGS) or (name in SECOND_REFERENCES and name not in _ONLY_WAYS):
        return True
    if isinstance(child, CONTAINERS):
        return not child
    return isinstance(child, types.FunctionType) and not is_own(child)


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return tuple(names)


def _of_class(kind: type, hidden: Mapping[str, Any]) -> Iterator[_Child]:
    for name, value in sorted(vars(kind).items()):
        if name in hidden or (name.startswith("__") and not callable(value)):
            continue
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(function, types.FunctionType):
            for inner, child, put, own in _of_function(function):
                yield f"{name}()/{inner}", child, put, own
        elif not isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
            yield name, value, functools.partial(setattr, kind, name), True


def _of_function(function: types.FunctionType) -> Iterator[_Child]:
    if not is_own(function):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        yield name, content, functools.partial(setattr, cell, "cell_contents"), True
    yield "defaults", function.__defaults__ or (), None, False
    yield "defaults", function.__kwdefaults__ or {}, None, False
    yield from _of_globals(function.__code__, function.__globals__)


def _of_globals(code: types.CodeType, known: dict[str, Any]) -> Iterator[_Child]:
    names = dict.fromkeys(_names(code))
    modules = {f"{name}.": vars(known[name]) for name in names if _is_a_persons(known.get(name))}
    for prefix, space in {"": known, **modules}.items():
        for name in names:
            if name in space and not isinstance(space[name], types.ModuleType):
                # Numbers and lists of a module belong to all that it does.
                own = not isinstance(space[name], (*CONTAINERS, *_SMALL))
                yield prefix + name, space[name], functools.partial(_put_global, space, name), own


def _is_a_persons(value: Any) -> bool:
    """True of a module that is not installed."""
    if not isinstance(value, types.ModuleType):
        return False
    file = getattr(value, "__file__", None) or ""
    return "site-packages" not in file and _is_own_module(value.__name__.partition(".")[0])


def _put_global(known: dict[str, Any], name: str, value: Any) -> None:
    known[name] = value


def _puts_global(put: Callable[[Any], None] | None) -> bool:
    return isinstance(put, functools.partial) and put.func is _put_global


def _names(code: types.CodeType) -> list[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for one in inner for name in _names(one))]


def _of_generator(generator: Any) -> Iterator[_Child]:
    frame = generator.gi_frame
    is_own_code = frame is not None and _is_own_module(
        str(frame.f_globals.get("__name__")).partition(".")[0]
    )
    if frame is not None:
        for name, child in sorted(frame.f_locals.items()):
            yield name.lstrip("."), child, None, is_own_code
        yield from _of_globals(frame.f_code, frame.f_globals)
    yield "yields from", generator.gi_yieldfrom, None, False


def _item_put(container: Any, key: Any) -> Callable[[Any], None] | None:
    if isinstance(container, tuple | types.MappingProxyType):
        return None
    return functools.partial(container.__setitem__, key)


def is_registered(node: Node) -> bool:
    """True of a buffer or a parameter of a torch.nn.Module."""
    return node.place.split("/")[-2:-1] in [[name] for name in REGISTERED]


def is_own(thing: Any) -> bool:
    """True if a class or function is a person's own, and not of Python or of a library."""
    return _is_own_module(str(thing.__module__).partition(".")[0])


@functools.lru_cache(maxsize=4096)
def _is_own_module(top: str) -> bool:
    is_library = is_open_library(top) or top in _CLOSED_LIBRARIES
    return not is_library and (top == "__main__" or top not in sys.stdlib_module_names)


def is_open_library(top: str) -> bool:
    """True of a top module of which only the instances are looked into."""
    # A person's own module may be named "datasets", too.
    return top in _OPEN_LIBRARIES or (top == "datasets" and "datasets.arrow_dataset" in sys.modules)


def _is_open(value: Any) -> bool:
    if isinstance(value, _SETTINGS):
        return False
    module = str(type(value).__module__)
    top = module.partition(".")[0]
    if isinstance(value, keras.Variable):
        return False
    # What leads to the run leads to all that the run makes for itself.
    if module.startswith(_RUN) and not isinstance(value, keras.callbacks.Callback):
        return False
    # Grain's generators for `random_map` are set anew for each element.
    if top == "grain" and type(value).__name__ == "RngPool":
        return False
    if is_open_library(top):
        return not keras.ops.is_tensor(value)
    return is_own(type(value)) or isinstance(value, types.SimpleNamespace)
