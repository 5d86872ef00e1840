"""The document of a checkpoint of a run: its sections, in both formats, checked and decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from .._util.random_states import check_numpy, check_python, check_seed
from .._util.schema import MOST, Count, Fields, SchemaError, checked, require, shown, table
from .decoding import decode
from .errors import NewerFormatError
from .manifest import Position

VARIABLES = "variables/"
# The version of each section of a document, as it is written now. A reader that does not know a
# section keeps it where it is optional, and refuses the checkpoint where it is not.
REQUIRED = {"identity": 1, "cursor": 1, "variables": 1, "optimizers": 1, "data": 1}
OPTIONAL = {"callbacks": 1, "random": 1, "held": 1, "tracked": 1, "resumes": 1}
DUTIES = ("log", "validate", "hooks", "close_epoch", "save")

_Arrays = Mapping[str, np.ndarray]
_Role = Literal["weight", "metric", "optimizer"]
_Settings = dict[str, Any]


class _Section(msgspec.Struct):
    """The frame of every section, those of newer releases included."""

    version: Annotated[int, Meta(ge=1)]
    required: bool
    content: Any


class _OptimizerSettings(msgspec.Struct):
    """Of the settings, those that are read; the others are compared."""

    class_: str = msgspec.field(name="class")


class _ModelSettings(msgspec.Struct):
    """Of the settings of a model, those that are read; the others are compared."""

    layers: list[dict[str, Any]]


class _Identity(Fields, frozen=True):
    total_steps: Count | None
    steps_per_epoch: Annotated[int, Meta(ge=1, le=MOST)] | None
    seed: Annotated[int, Meta(ge=0)]
    data: _Settings
    start_mode: Literal["auto", "weights", "never"]
    optimizers: dict[str, Any] = msgspec.field(default_factory=dict)
    callbacks: dict[str, Any] = msgspec.field(default_factory=dict)
    seed_from: Literal["seed=", "set_random_seed", "drawn"] = "drawn"
    model: _ModelSettings | None = None
    validation: dict[str, Any] | None = None


class _Cursor(Fields, frozen=True):
    step: Count
    todo: list[Literal["log", "validate", "hooks", "close_epoch", "save"]]
    logs: dict[str, Any] | None
    ended: bool


class _Optimizer(Fields, frozen=True):
    trained: list[str] | None
    first_steps: dict[str, Count]


class _Skipped(Fields, frozen=True):
    numbers: list[Count] = msgspec.field(default_factory=list)
    examples: list[Count] = msgspec.field(default_factory=list)
    known: Count = 0


class _LoaderPosition(Fields, frozen=True):
    step: Count
    pass_number: Count
    pass_start: Count
    state: Any
    random: Any


class _Data(Fields, frozen=True):
    skipped: _Skipped = msgspec.field(default_factory=_Skipped)
    validated: Count = 0
    random: Any = None
    position: Any = None
    seconds_per_batch: Annotated[float, Meta(ge=0)] | None = None
    first_pass: Literal[0, 1] = 0


class _Random(Fields, frozen=True):
    python: dict[str, Any]
    numpy: dict[str, Any]
    keras: Any


class _Stream(Fields, frozen=True):
    process: dict[str, Any]
    backend: dict[str, Any]
    keras: Any = None
    held: dict[str, Any] = msgspec.field(default_factory=dict)


class _Format1(Fields, frozen=True):
    """The document of release 0.1. The first of them had fewer fields."""

    identity: dict[str, Any]
    start_mode: str = msgspec.field(name="begun")
    variables: dict[str, Any]
    built_on: dict[str, list[str] | None]
    callbacks: dict[str, Any]
    random: dict[str, Any]
    source: dict[str, Any]
    logs: dict[str, Any] | None
    stopped: bool
    validated: int
    first_steps: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    validates: bool = False
    save_due: bool = False
    resumes: list[Any] = msgspec.field(default_factory=list)
    skipped: dict[str, Any] = msgspec.field(default_factory=dict)


class Contents(NamedTuple):
    """The sections of a document by name, states decoded.

    Attributes:
        sections: Those that are known here.
        unknown: Those of a newer release, as they are.
    """

    sections: dict[str, Any]
    unknown: dict[str, Any]


def read_document(document: Mapping[str, Any], arrays: _Arrays, position: Position) -> Contents:
    """Checks and decodes the document of a checkpoint of a run, of either format.

    Args:
        document: As the manifest has it.
        arrays: The tensors of the checkpoint.
        position: Of the checkpoint.

    Raises:
        SchemaError: If it is not as such a document must be; names the place.
        NewerFormatError: If a section that cannot be left out is not known here.
    """
    sections, unknown = _split(document, position.step)
    _check_identity(sections["identity"])
    _check_variables(sections, arrays)
    sections["cursor"] = _read_cursor(sections["cursor"], arrays, position)
    sections["data"] = _read_data(sections["data"], arrays, position.step)
    for name in ("callbacks", "held", "tracked", "random"):
        sections[name] = _decoded(sections.get(name, {}), arrays, name)
    table(sections["callbacks"], dict[str, Any], "callbacks")
    extra = sections["tracked"].get("extra", {})
    require(isinstance(extra, dict), "tracked.extra", f"expected a dict, received {shown(extra)}")
    if sections["random"]:
        _check_random(sections["random"], "random")
    sections["resumes"] = checked(sections.get("resumes", []), list[Count], "resumes")
    return Contents(sections, unknown)


def read_outline(document: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Of a document of either format, the sections for which none of its tensors is needed,
    checked: `identity`, `resumes`, and of `cursor` all but the logs. The states of `callbacks` are
    as they were encoded.

    Raises:
        SchemaError, NewerFormatError: As `read_document`.
    """
    sections, _ = _split(document, step)
    _check_identity(sections["identity"])
    cursor = checked(sections["cursor"], _Cursor, "cursor")
    return {
        "identity": sections["identity"],
        "cursor": {"step": cursor.step, "todo": cursor.todo, "ended": cursor.ended},
        "resumes": checked(sections.get("resumes", []), list[Count], "resumes"),
        "callbacks": table(sections.get("callbacks", {}), Any, "callbacks"),
    }


def _split(document: Mapping[str, Any], step: int) -> Contents:
    """The contents of the sections of a document, none of them looked at."""
    if "begun" in document:
        return Contents(_from_format_1(document, step), {})
    envelopes = table(document, _Section, "document")
    lost = sorted(REQUIRED.keys() - envelopes.keys())
    require(not lost, "document", f"there is no section {', '.join(lost)}")
    contents = {name: _content(name, section) for name, section in envelopes.items()}
    known = REQUIRED | OPTIONAL
    return Contents(
        {name: content for name, content in contents.items() if name in known},
        {name: section for name, section in document.items() if name not in known},
    )


def _content(name: str, section: _Section) -> Any:
    known = (REQUIRED | OPTIONAL).get(name)
    if known is None and section.required:
        what = f"the checkpoint has a section {name!r:.60} that this keras-patterns does not know"
        raise NewerFormatError(name, what, "Upgrade keras-patterns.")
    if known is not None and section.version > known:
        what = (
            f"the section {name!r} of the checkpoint has version {section.version}, and this "
            f"keras-patterns reads version {known}"
        )
        raise NewerFormatError(name, what, "Upgrade keras-patterns.")
    return section.content


def _check_identity(content: Any) -> None:
    found = checked(content, _Identity, "identity")
    table(found.optimizers, _OptimizerSettings, "identity.optimizers")
    table(found.callbacks, _Settings, "identity.callbacks")


def _check_variables(sections: Mapping[str, Any], arrays: _Arrays) -> None:
    roles = table(sections["variables"], _Role, "variables")
    stored = {key.removeprefix(VARIABLES) for key in arrays if key.startswith(VARIABLES)}
    for key in roles.keys() ^ stored:
        what = "its role is not said" if key in stored else "there is no tensor of it"
        raise SchemaError(f"variables[{shown(key)}]: {what}")
    for place, one in table(sections["optimizers"], _Optimizer, "optimizers").items():
        trained = one.trained or []
        said = f"optimizers[{shown(place)}].trained"
        require(len(set(trained)) == len(trained), said, "a variable stands twice")


def _read_cursor(content: Any, arrays: _Arrays, position: Position) -> dict[str, Any]:
    found = checked(content, _Cursor, "cursor")
    said = f"expected the step of the checkpoint, {position.step}, received {found.step}"
    require(found.step == position.step, "cursor.step", said)
    ordered = sorted(set(found.todo), key=DUTIES.index)
    require(ordered == found.todo, "cursor.todo", f"{found.todo} are not in order, each once")
    said = f"{found.todo} is left to do, which a checkpoint of phase {position.phase} has not"
    require(bool(found.todo) == (position.phase == 0), "cursor.todo", said)
    logs = decode(found.logs, arrays, "cursor.logs")
    require(
        logs is not None or "close_epoch" not in found.todo, "cursor.logs", "an epoch ends without"
    )
    if logs is not None:
        _check_logs(logs)
    return {"step": found.step, "todo": found.todo, "logs": logs, "ended": found.ended}


def _check_logs(logs: Any) -> None:
    require(isinstance(logs, dict), "cursor.logs", f"expected a dict, received {shown(logs)}")
    for name, value in logs.items():
        number = isinstance(value, int | float | np.ndarray | np.number | list | dict)
        require(isinstance(name, str) and number, f"cursor.logs[{shown(name)}]", "it is no metric")


def _read_data(content: Any, arrays: _Arrays, step: int) -> dict[str, Any]:
    found = checked(content, _Data, "data")
    state: dict[str, Any] = {
        "skipped": msgspec.to_builtins(found.skipped),
        "validated": found.validated,
        "first_pass": found.first_pass,
    }
    if found.seconds_per_batch is not None:
        state["seconds_per_batch"] = found.seconds_per_batch
    if found.random is not None:
        state["random"] = decode(found.random, arrays, "data.random")
        _check_stream(state["random"], "data.random")
    if found.position is not None:
        state["position"] = decode(found.position, arrays, "data.position")
        place = checked(state["position"], _LoaderPosition, "data.position")
        ordered = place.pass_start <= place.step <= step
        require(ordered, "data.position.step", f"{place.step} lies behind the step, {step}")
        _check_stream(place.random, "data.position.random")
    return state


def _check_stream(random: Any, place: str) -> None:
    stream = checked(random, _Stream, place)
    process = checked(stream.process, dict[Literal["python", "numpy"], Any], f"{place}.process")
    require(len(process) == 2, f"{place}.process", "expected a state of python and of numpy")
    check_python(process["python"], f"{place}.process.python")
    check_numpy(process["numpy"], f"{place}.process.numpy")
    check_seed(stream.keras, f"{place}.keras")


def _decoded(content: Any, arrays: _Arrays, name: str) -> dict[str, Any]:
    checked(content, dict[str, Any], name)
    return table(decode(content, arrays, name), Any, name)


def _check_random(state: Mapping[str, Any], place: str) -> None:
    """Checks the global random states; of the backends', only that there are no other ones."""
    own = {name: state[name] for name in ("python", "numpy", "keras") if name in state}
    found = checked(own, _Random, place)
    check_python(found.python, f"{place}.python")
    check_numpy(found.numpy, f"{place}.numpy")
    check_seed(found.keras, f"{place}.keras")
    for name in state.keys() - own.keys():
        checked(state[name], dict[str, Any], f"{place}.{name}")


def _from_format_1(document: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The sections that stand for a document that release 0.1 wrote."""
    old = checked(document, _Format1, "document")
    places = dict.fromkeys([*old.built_on, *old.first_steps])
    return {
        "identity": {**old.identity, "start_mode": old.start_mode},
        "cursor": {
            "step": step,
            "todo": _todo_of_format_1(old),
            "logs": old.logs,
            "ended": old.stopped,
        },
        "variables": old.variables,
        "optimizers": {
            place: {
                "trained": old.built_on.get(place),
                "first_steps": old.first_steps.get(place, {}),
            }
            for place in places
        },
        "data": {
            **({"random": old.source["random"]} if "random" in old.source else {}),
            "skipped": old.skipped,
            "validated": old.validated,
        },
        "callbacks": {
            "RunHistory" if name == "History" else name: state
            for name, state in old.callbacks.items()
        },
        "random": old.random,
        "resumes": old.resumes,
    }


def _todo_of_format_1(old: _Format1) -> list[str]:
    ends_epoch = old.logs is not None
    if not (ends_epoch or old.validates):
        return []
    todo = {"validate": True, "hooks": not ends_epoch, "close_epoch": ends_epoch}
    return [duty for duty, left in {**todo, "save": old.save_due}.items() if left]
