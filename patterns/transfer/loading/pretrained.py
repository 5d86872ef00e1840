"""`kp.load_pretrained`: weights from elsewhere into a model, or a part of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import keras
import numpy as np

from ... import _keras
from ..._util.table import format_table, html_lines, html_table
from ...checkpoint.store import CheckpointStore
from ...optimizers.where import Where, nodes_of, select
from ...state.snapshot import StateMismatchError, as_dtype, put_back, refresh_derived_state
from .matching import Loadable, Matching
from .sources import Source, model_entries, open_source

_CALLER = "load_pretrained"
_SHOWN = 8


class LoadRow(NamedTuple):
    """The outcome of `kp.load_pretrained` for one variable.

    Attributes:
        variable: Its path in the model; empty if it is in the source alone.
        source: What it is in the source; empty if it is in the model alone.
        why: Why it was not loaded; empty if it was.
    """

    variable: str
    source: str
    why: str


@dataclass(frozen=True)
class LoadReport:
    """The outcome of `kp.load_pretrained`. Its text is a table, with what was not loaded first.

    Attributes:
        source: Where the weights are from.
        matched: The variables that were loaded.
        mismatched: Those that were found with another shape or dtype.
        missing: Those of the model, or of the part that `where` selects, that were not found.
        unused: Those that are in the source alone.
        loaded: The number of parameters that were loaded.
    """

    source: str
    matched: tuple[LoadRow, ...]
    mismatched: tuple[LoadRow, ...]
    missing: tuple[LoadRow, ...]
    unused: tuple[LoadRow, ...]
    loaded: int

    def __str__(self) -> str:
        return f"{self._summary()}\n{format_table(LoadRow._fields, self._rows)}"

    def _repr_html_(self) -> str:
        return html_lines(self._summary()) + html_table(LoadRow._fields, self._rows)

    @property
    def _rows(self) -> list[LoadRow]:
        return [*self.mismatched, *self.missing, *self.unused, *self.matched]

    def _summary(self) -> str:
        others = ", ".join(
            f"{len(getattr(self, name))} {name}" for name in ("mismatched", "missing", "unused")
        )
        return (
            f"{self.loaded:,} parameters in {len(self.matched)} variables from {self.source}; "
            f"{others}."
        )


@_keras.quiet_arrays()
def load_pretrained(
    model: keras.Model,
    source: keras.Model | CheckpointStore | str | os.PathLike[str],
    where: Where | None = None,
    *,
    step: int | None = None,
    partial: bool = False,
    cast: bool = False,
) -> LoadReport:
    """Loads weights into a model, or into a part of it, from a model that need not be the same.

    A layer with a name that a person has given is found by its path, wherever that path ends the
    same and no other does: `block1_conv1/kernel` of a VGG-19 is `vgg19/block1_conv1/kernel` where
    it is nested in another model. An automatic name, such as `dense_12`, says nothing. Such a layer
    is found in a model that has, but for layers with given names, the same layers of the same
    shapes, nested or not; else by its place among the layers, as Keras's weights files have it. A
    name that was given is never that of a layer without one: give a new head a name. What fits two
    ways is not loaded. To say what belongs together, give names to the layers, or
    `model.get_layer(name)` as the model.

    Files are read without making the model in them, and run no code. Seeds of random layers are
    left alone, and so is an optimizer: compile after loading, unless it is new.

    Args:
        model: A built model, or one nested in it.
        source: A `.keras`, `.weights.h5` or `.safetensors` file; a folder of `kp.Checkpoint`, or
            its `kp.CheckpointStore`, of any backend; or a built model, such as
            `keras.applications.VGG19(weights="imagenet")`.
        where: The part that is to be loaded, see `where`. Defaults to None: all of it.
        step: Of a checkpoint in a folder. Defaults to None: the newest sound one.
        partial: Whether what is not found, or does not fit, is left as it is. Defaults to False: an
            error.
        cast: Whether floats of another precision are converted. Defaults to False: they do not fit.
            Integers always are.

    Returns:
        What was loaded from where, and what was not; print it.

    Raises:
        TypeError: If an argument is of the wrong type.
        FileNotFoundError: If there is no such file.
        ValueError: If a file is damaged or of another kind, the model is not built, or `where`
            selects nothing.
        kp.StoreError: If there is no such checkpoint, or it is damaged.
        kp.StateMismatchError: If something is missing or does not fit and `partial` is False, or if
            nothing fits at all. Whatever is raised, the model is as it was.

    Example:

    >>> import keras, keras_patterns as kp
    >>> def make_model(classes):
    ...     body = keras.layers.Dense(4, name="body")
    ...     return keras.Sequential([keras.Input((8,)), body, keras.layers.Dense(classes,
    ...         name=f"to_{classes}")], name="net")
    >>> print(kp.load_pretrained(make_model(3), make_model(10), where="body"))
    36 parameters in 2 variables from the model 'net'; 0 mismatched, 0 missing, 2 unused.
    variable     source        why
    -----------  ------------  -------------------------
                 to_10/kernel  nothing in the model fits
                 to_10/bias    nothing in the model fits
    body/kernel  body/kernel
    body/bias    body/bias
    """
    chosen = {
        id(variable)
        for variable in select(_CALLER, model, model if where is None else where).variables
    }
    nodes = nodes_of(model)
    with open_source(_CALLER, source, step) as opened:
        targets = model_entries(model, opened.by_groups)
        matching = Matching(
            targets,
            opened.entries,
            _keras.automatic_names([model, *(node.layer for node in nodes)]),
        )
        wanted = [target for target in targets if id(target.value) in chosen]
        fitting, report = _compare(opened, wanted, matching, cast)
        if report.missing or report.mismatched or not fitting:
            _check_loadable(report, model.name, partial)
        values = {
            str(number): _converted(matching.found[target], target)
            for number, target in enumerate(fitting)
        }
    put_back({str(number): target.value for number, target in enumerate(fitting)}, values)
    refresh_derived_state(model)
    return report


def _compare(
    source: Source, wanted: Sequence[Loadable], matching: Matching, cast: bool
) -> tuple[list[Loadable], LoadReport]:
    """The variables of the model that can be loaded, and the report on all."""
    fitting = []
    mismatched = []
    missing = []
    for target in wanted:
        found = matching.found.get(target)
        if found is None:
            missing.append(LoadRow(target.label, "", matching.reason(target)))
        elif misfit := _misfit(found, target, cast):
            mismatched.append(LoadRow(target.label, found.label, misfit))
        else:
            fitting.append(target)
    rows = [LoadRow(target.label, matching.found[target].label, "") for target in fitting]
    loaded = sum(prod(target.shape) for target in fitting)
    unused = _unused(source.entries, wanted, matching)
    return fitting, LoadReport(
        source.label, tuple(rows), tuple(mismatched), tuple(missing), tuple(unused), loaded
    )


def _unused(
    sources: Sequence[Loadable], wanted: Sequence[Loadable], matching: Matching
) -> list[LoadRow]:
    used = {matching.found[target] for target in wanted if target in matching.found}
    others = {
        source: f"{target.label} is not selected" for target, source in matching.found.items()
    }
    return [
        LoadRow("", one.label, others.get(one, "nothing in the model fits"))
        for one in sources
        if one not in used
    ]


def _misfit(source: Loadable, target: Loadable, cast: bool) -> str:
    if source.shape != target.shape:
        return f"shape {source.shape} in the source, {target.shape} in the model"
    kinds = {_kind(source.dtype), _kind(target.dtype)}
    if source.dtype == target.dtype or kinds == {"integer"} or (cast and kinds == {"float"}):
        return ""
    advice = "; floats are converted with cast=True only" if kinds == {"float"} else ""
    return f"dtype {source.dtype} in the source, {target.dtype} in the model{advice}"


def _kind(dtype: np.dtype) -> str:
    return (
        "float"
        if keras.backend.is_float_dtype(dtype.name)
        else {"i": "integer", "u": "integer"}.get(dtype.kind, dtype.name)
    )


def _converted(source: Loadable, target: Loadable) -> np.ndarray:
    value = source.value()
    return (
        value.astype(target.dtype)
        if _kind(value.dtype) == "float"
        else as_dtype(value, target.dtype, seed=False)
    )


def _check_loadable(report: LoadReport, model: str, partial: bool) -> None:
    """Raises unless a part is enough, and there is one."""
    if partial and report.matched:
        return
    rows = [*report.mismatched, *report.missing]
    lines = [f"{row.variable}: {row.why}" for row in rows[:_SHOWN]]
    lines += [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    if report.matched:
        advice = (
            "Select the part that is to be loaded with `where`, or say partial=True to leave these "
            "as they are."
        )
    else:
        advice = (
            "Nothing fits. Give the same names to the layers of both, or the part of the model "
            "that the source is of as the model."
        )
    what = (
        f"{len(rows)} of {len(rows) + len(report.matched)} variables of {model!r} cannot be loaded "
        f"from {report.source}"
    )
    raise StateMismatchError(
        f"{_CALLER}: {what}; nothing was changed.\n  " + "\n  ".join(lines) + f"\n{advice}"
    )
