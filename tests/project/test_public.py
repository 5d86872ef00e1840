"""The public names, and that each says what it is for."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

import keras_patterns as kp

pytestmark = pytest.mark.once


def test_the_public_names_are_sorted_and_exist():
    assert list(kp.__all__) == sorted(kp.__all__)
    assert [name for name in kp.__all__ if not hasattr(kp, name)] == []


def test_no_module_takes_the_place_of_a_public_name(backend):
    before = {name: id(getattr(kp, name)) for name in kp.__all__}
    for module in pkgutil.walk_packages(kp.__path__, "keras_patterns."):
        own = module.name.removeprefix("keras_patterns.backends._")
        # The adapters of the other backends cannot be imported, nor those of loaders whose library
        # is not there, and __main__ runs the program.
        loader = module.name.partition("keras_patterns.backends.loaders._")[2].partition("_")[0]
        if loader and not importlib.util.find_spec(loader):
            continue
        if own in {module.name, backend} and not own.endswith("__main__"):
            importlib.import_module(module.name)
    assert "keras_patterns.cli.demo.training" in sys.modules
    assert {name: id(getattr(kp, name)) for name in kp.__all__} == before
    modules = {name for name in kp.__all__ if inspect.ismodule(getattr(kp, name))}
    assert modules == {"optimizers", "schedules", "stopping", "testing", "trackers"}


def test_type_checkers_see_the_names_that_are_loaded_when_used():
    (block,) = (
        node
        for node in ast.parse(Path(kp.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.name: f".{node.module}" if node.module else ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == kp._HOMES
    assert {*kp._HOMES, "__version__"} >= set(kp.__all__)


def test_all_public_names_are_listed():
    assert set(dir(kp)) >= set(kp.__all__)


def test_version_is_the_distribution_s():
    assert kp.__version__.split(".")[0].isdigit()


@pytest.mark.parametrize("name", [name for name in kp.__all__ if not name.startswith("__")])
def test_every_public_name_is_documented(name):
    undocumented = [
        where for where, item in public_parts(name, getattr(kp, name)) if not item_doc(item)
    ]
    assert undocumented == []


ERRORS = {
    "DamagedCheckpointError": Exception,
    "DataExhaustedError": RuntimeError,
    "NewerFormatError": Exception,
    "NonFiniteError": ArithmeticError,
    "PreflightError": ValueError,
    "ResumeRefusedError": ValueError,
    "StateMismatchError": ValueError,
    "StoreError": Exception,
    "StoreInUseError": Exception,
    "TuningError": RuntimeError,
}
RENAMED = ("DamagedCheckpoint", "DataExhausted", "ResumeRefused", "StateMismatch", "StoreInUse")


def test_the_public_errors_are_known_here():
    errors = {name for name in kp.__all__ if name.endswith("Error")}
    assert errors == {*ERRORS, "KerasPatternsError"}


@pytest.mark.parametrize(("name", "builtin"), ERRORS.items())
def test_an_error_is_one_of_ours_and_of_a_builtin_class(name, builtin):
    assert issubclass(getattr(kp, name), kp.KerasPatternsError)
    assert issubclass(getattr(kp, name), builtin)


def test_an_interrupted_run_ends_the_process_as_before():
    assert issubclass(kp.RunInterrupted, SystemExit)
    assert not issubclass(kp.RunInterrupted, Exception)


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_name_of_an_error_warns_and_still_catches(name):
    error = getattr(kp, f"{name}Error")
    with pytest.warns(
        DeprecationWarning, match=f"keras_patterns.{name} is now keras_patterns.{name}Error"
    ):
        old = getattr(kp, name)
    assert old is error


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        kp.nothing  # noqa: B018 - it raises


def item_doc(item):
    """A class needs a docstring of its own; a method may inherit one."""
    return item.__doc__ if inspect.isclass(item) else inspect.getdoc(item)


def public_parts(name, item):
    """The object itself and, of a class, the public methods and properties that it defines."""
    yield name, item
    if inspect.isclass(item):
        for attribute, value in vars(item).items():
            if not attribute.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, property)
            ):
                yield f"{name}.{attribute}", value
