"""Old names of functions, classes and keywords. They work, with a warning, until they go."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from .warn import warn

REMOVED_IN = "0.3"

# By the name of a class, the new name of each of its old keywords.
_NEW_KEYWORDS: dict[str, Mapping[str, str]] = {}

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Target = TypeVar("_Target", bound=Callable[..., Any])


def renamed_function(
    old: str, new: str, function: Callable[_Arguments, _Result]
) -> Callable[_Arguments, _Result]:
    """A function under its old name: a call warns.

    Args:
        old: The old name, as people write it.
        new: The new name, as people write it.
        function: The function.

    Example:

    >>> import warnings
    >>> add = renamed_function("kp.add", "kp.total", sum)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     add([1, 2])
    3
    >>> print(caught[0].message)
    kp.add is now kp.total; the old name goes in release 0.3.
    """

    @functools.wraps(function)
    def under_old_name(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        _warn(old, new)
        return function(*args, **kwargs)

    return under_old_name


def renamed_classes(
    module: str, load: Callable[[str], Any] | None = None, **new_names: str
) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose classes have new names: reading an old one warns.

    It gives the class itself, so that `except` and `isinstance` take both names for one. A module
    that type checkers read assigns it under `if not TYPE_CHECKING:`, else they take every name for
    one that it has.

    Args:
        module: The module's `__name__`.
        load: Gives the module's other names, where they are not loaded yet. Defaults to None: it
            has no others.
        **new_names: The new name of each old one.

    Example:

    >>> __getattr__ = renamed_classes("builtins", Failure="Exception")
    """

    def get_renamed(name: str) -> Any:
        if name not in new_names and load:
            return load(name)
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{module}.{new_names[name]}")
        return getattr(sys.modules[module], new_names[name])

    return get_renamed


def renamed_keywords(**new_names: str) -> Callable[[_Target], _Target]:
    """A decorator with which a function, or the constructor of a class, takes keywords by their old
    names, too: a call with one warns.

    A class has its attributes by their old names, too. Its `from_config` calls
    `with_new_keywords`, which does not warn.

    Args:
        **new_names: The new name of each old one.

    Example:

    >>> @renamed_keywords(pct="fraction")
    ... def part(whole, fraction=0.5):
    ...     return whole * fraction
    >>> part(8, fraction=0.25)
    2.0
    """

    def decorate(target: Any) -> Any:
        where, is_class = target.__name__, isinstance(target, type)
        function = target.__init__ if is_class else target

        @functools.wraps(function)
        def accepting(*args: Any, **kwargs: Any) -> Any:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(
                        f"{where}: `{old}` is the old name of `{new}`. Give one of them."
                    )
                _warn(f"{where}: `{old}`", f"`{new}`")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        if not is_class:
            return accepting
        target.__init__ = accepting
        for old, new in new_names.items():
            setattr(target, old, _renamed_attribute(where, old, new))
        _NEW_KEYWORDS[where] = new_names
        return target

    return decorate


def with_new_keywords(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of a class that may have been saved under old keywords."""
    names = _NEW_KEYWORDS.get(class_name, {})
    return {names.get(name, name): value for name, value in config.items()}


def with_new_keywords_inside(value: Any) -> Any:
    """JSON in which objects of ours may have been saved under old keywords."""
    if isinstance(value, list):
        return [with_new_keywords_inside(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: with_new_keywords_inside(item) for name, item in value.items()}
    if "config" in found and str(found.get("module")).startswith("keras_patterns."):
        found["config"] = with_new_keywords(found["class_name"], found["config"])
    return found


def _renamed_attribute(where: str, old: str, new: str) -> property:
    def read(instance: Any) -> Any:
        _warn(f"{where}.{old}", f"{where}.{new}")
        return getattr(instance, new)

    return property(read, doc=f"The old name of `{new}`.")


def _warn(old: str, new: str) -> None:
    warn(f"{old} is now {new}; the old name goes in release {REMOVED_IN}.", DeprecationWarning)
