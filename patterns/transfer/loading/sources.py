"""The sources of weights: files, checkpoints and models."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from ... import _keras
from ..._util.messages import say
from ..._util.paths import bound_path
from ...checkpoint.reading import open_folder
from ...optimizers.where import Node, nodes_of
from ...state.snapshot import copy_values, is_seed, np_dtype
from ...state.variables import find_variables
from ...storage import CheckpointFolder, StoreError
from ...storage.errors import refusals
from ...storage.parts import weights_in
from .files import open_h5, open_keras, open_safetensors
from .matching import Loadable

_READERS = {".keras": open_keras, ".weights.h5": open_h5, ".safetensors": open_safetensors}


@dataclass(frozen=True)
class Source:
    """The variables of a source.

    Attributes:
        label: Where it is from, for people.
        entries: The variables in it.
        by_groups: Whether their places are groups of Keras's weights files, and their own names
            numbers.
    """

    label: str
    entries: list[Loadable]
    by_groups: bool = False


@contextmanager
def open_source(caller: str, source: Any, step: int | None) -> Iterator[Source]:
    """Opens what `load_pretrained` was given; values are read while it is open."""
    if isinstance(source, str | os.PathLike):
        bound_path(source)  # raises if it is none
    if isinstance(source, str | os.PathLike) and not os.path.isdir(source):
        with _open_file(caller, Path(source), step) as opened:
            yield opened
    elif isinstance(source, CheckpointFolder | str | os.PathLike):
        yield _from_checkpoint(open_folder(source), step)
    elif isinstance(source, keras.Model):
        _refuse_step(caller, source.name, step)
        if not source.built:
            raise ValueError(
                f"{caller}: the source {source.name!r} is not built, so it has no weights yet. "
                "Call it on a batch first."
            )
        yield Source(
            f"the model {source.name!r}", [_readable(entry) for entry in model_entries(source)]
        )
    else:
        raise TypeError(
            f"{caller}: `source` must be a file, a folder of checkpoints, a kp.CheckpointStore or "
            f"a built model. Received: {source!r} ({type(source).__name__})."
        )


def model_entries(model: keras.Model, by_groups: bool = False) -> list[Loadable]:
    """The weights of a built model, by their places in the object tree, or in a weights file of
    Keras's.
    """
    places = {id(variable): key for key, variable in find_variables(model).of("weight").items()}
    groups = _keras.saved_groups(model) if by_groups else {}
    found = []
    for node in [Node(model, ""), *nodes_of(model)]:
        for number, variable in enumerate(node.own):
            if is_seed(variable):
                continue
            name = str(number) if by_groups else variable.name
            place = (
                f"{groups.get(id(node.layer), '')}/vars/{number}".lstrip("/")
                if by_groups
                else places[id(variable)]
            )
            names = tuple(tuple(f"{path}/{name}".lstrip("/").split("/")) for path in node.paths)
            label = f"{node.path}/{variable.name}".lstrip("/")
            at = tuple(place.split("/"))
            shape = tuple(variable.shape)
            found.append(Loadable(label, names, at, shape, np_dtype(variable), variable))
    return found


def _readable(entry: Loadable) -> Loadable:
    variable = entry.value
    return replace(entry, value=lambda: copy_values({"value": variable})["value"])


def _from_checkpoint(store: CheckpointFolder, step: int | None) -> Source:
    if step is None:
        checkpoint, damaged = store.newest_sound()
        if checkpoint is None and damaged:
            raise damaged[0]
        if checkpoint is None:
            raise StoreError.empty(store.label)
        for error in damaged:
            say(
                f"{error} Step {checkpoint.position.step} is loaded instead.", level=logging.WARNING
            )
    else:
        checkpoint = store.read_at(step)
    rows = checkpoint.entry.manifest.tensors
    entries = []
    for key, array in weights_in(checkpoint).items():
        if key.endswith("seed_generator/state"):
            continue
        path = rows[f"variables/{key}"].path
        names = (tuple(path.split("/")),) if path else ()
        place = tuple(key.split("/"))
        entries.append(
            Loadable(key, names, place, array.shape, array.dtype, lambda array=array: array)
        )
    return Source(f"step {checkpoint.position.step} of {store.label}", entries)


@contextmanager
def _open_file(caller: str, path: Path, step: int | None) -> Iterator[Source]:
    _refuse_step(caller, str(path), step)
    reader = next(
        (reader for ending, reader in _READERS.items() if path.name.endswith(ending)), None
    )
    with refusals(path, "look for the file", "Nothing was loaded."):
        is_there = path.exists()
    if not is_there:
        hint = (
            ""
            if reader
            else " For the weights of keras.applications, give the model: "
            'VGG19(weights="imagenet").'
        )
        raise FileNotFoundError(f"{caller}: there is no file or folder {str(path)!r}.{hint}")
    if reader is None:
        raise ValueError(
            f"{caller}: {str(path)!r} is none of the files that can be read: "
            f"{_listed(list(_READERS))}. If Keras can load it "
            "(model.load_weights), load it into a model, and give that as the source."
        )
    with reader(caller, path) as entries:
        if not entries:
            raise ValueError(f"{caller}: {str(path)!r} holds no weights as Keras 3 writes them.")
        yield Source(str(path), entries, by_groups=reader is not open_safetensors)


def _refuse_step(caller: str, source: str, step: int | None) -> None:
    if step is not None:
        raise ValueError(
            f"{caller}: `step` names a checkpoint in a folder, and {source!r} is none. Received: "
            f"step={step!r}."
        )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
