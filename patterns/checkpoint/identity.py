"""Changes that a script may have between a run and its resume, and those that are refused.

| changed in the script | what happens |
| --- | --- |
| nothing | goes on, exactly |
| a larger `total_steps` or `epochs` | goes on; said |
| a setting of the optimizer or a layer, the loss | the script wins; said |
| a callback that is new or gone | the script wins; said |
| batch size, seed, order or content of the data | refused, with the way out |
| a model of another shape | refused; the first differences are named |
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from .. import _keras
from .._util.deprecated import with_new_keywords_inside
from .._util.errors import KerasPatternsError
from ..state import callbacks as callback_states

Json = dict[str, Any]

# What a model has several of.
_PARTS = ("layers", "calls")
# Of a model's settings that are others: one change may be in all layers, such as of the dtype.
_MOST_LINES = 5


class ResumeRefusedError(KerasPatternsError, ValueError):
    """The script that calls `kp.fit` differs from the run in the folder in a way that no resume can
    bridge. Put the setting back that the message names, begin a new run from the old weights by
    `resume="weights"`, or give another folder.
    """


@dataclass(frozen=True)
class Identity:
    """The features by which a run is told from any other; kept in each of its checkpoints.

    Attributes:
        total_steps: Steps in the plan; None while nobody knows how long the data are.
        steps_per_epoch: Steps of an epoch, likewise.
        seed: The seed of the order of the data.
        data: What the source says of its data, the batch size and the order included.
        optimizers: For each optimizer by its place, its class and settings, as the script gave
            them.
        callbacks: For each callback by its name, its settings, as the script gave them.
        seed_from: Where the seed comes from: `"seed="`, `"set_random_seed"` or `"drawn"`.
        model: The settings of its layers, and its loss; None in a checkpoint that does not tell.
        validation: What can be said of its data and its times; empty if there is none, None in a
            checkpoint that does not tell.
    """

    total_steps: int | None
    steps_per_epoch: int | None
    seed: int
    data: Json
    optimizers: dict[str, Json] = field(default_factory=dict)
    callbacks: dict[str, Json] = field(default_factory=dict)
    seed_from: str = "drawn"
    model: Json | None = None
    validation: Json | None = None

    def as_json(self) -> Json:
        """A dictionary for the manifest. Its parts are shared with this, as the settings of a large
        model are many.
        """
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Identity:
        """The inverse of `as_json`."""
        optimizers = with_new_keywords_inside(value.get("optimizers", {}))
        return cls(**{**value, "optimizers": optimizers})


# For each optimizer that a run has used in this process: the settings that the script gave, and
# those that the run left.
_FINAL_CONFIGS: weakref.WeakKeyDictionary[keras.optimizers.Optimizer, tuple[Json, Json]] = (
    weakref.WeakKeyDictionary()
)


@_keras.quiet_arrays()
def describe_optimizers(optimizers: Mapping[str, keras.optimizers.Optimizer]) -> dict[str, Json]:
    """Each optimizer's class and settings, as JSON, as the script gave them.

    Training moves a rate that stands in the settings. Where a run is begun again in one process on
    the same model (a notebook cell run again), what the run before has left is not what the script
    says.
    """
    found = {place: _describe_optimizer(optimizer) for place, optimizer in optimizers.items()}
    for place, optimizer in optimizers.items():
        given, left = _FINAL_CONFIGS.get(optimizer, ({}, None))
        if found[place] == left:
            found[place] = given
    return found


@_keras.quiet_arrays()
def remember_final_config(
    optimizers: Mapping[str, keras.optimizers.Optimizer], given: Mapping[str, Json]
) -> None:
    """Remembers the settings that a run that ends here leaves in its optimizers."""
    for place, optimizer in optimizers.items():
        if place in given:
            _FINAL_CONFIGS[optimizer] = given[place], _describe_optimizer(optimizer)


def forget_final_config(optimizers: Mapping[str, keras.optimizers.Optimizer]) -> None:
    """Makes the configuration that the optimizers have now count as given by the script, whatever a
    run before has left.
    """
    for optimizer in optimizers.values():
        _FINAL_CONFIGS.pop(optimizer, None)


def describe_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, Json]:
    """Each callback's settings, by its name."""
    return {
        name: _plain(callback_states.configuration(c))
        for name, c in callback_states.named(callbacks).items()
    }


def _describe_optimizer(optimizer: keras.optimizers.Optimizer) -> Json:
    try:
        config = {key: value for key, value in optimizer.get_config().items() if key != "name"}
    except NotImplementedError:
        # A person's own schedule need not tell its settings to be trained with.
        config = {}
    # What is inside another optimizer stands under its own place.
    config = {key: value for key, value in config.items() if "optimizer" not in key}
    return {"class": type(optimizer).__name__, **_plain(config)}


def _plain(value: Any) -> Any:
    """A value as JSON and without automatic names; what JSON cannot hold becomes its text."""
    if isinstance(value, Mapping):
        return {
            str(key): _plain(item)
            for key, item in value.items()
            if key not in ("name", "registered_name", "build_config")
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    return value if isinstance(value, str | int | bool | None) else type(value).__name__


def check_same_run(saved: Identity, now: Identity, folder: str) -> None:
    """Raises if the script asks for another run than the one in the folder.

    Args:
        saved: From the checkpoint.
        now: From the script.
        folder: Where the checkpoints are, for the message.

    Raises:
        ResumeRefusedError: If the seed or anything about the data differs.
    """
    lines = (
        [
            f"seed: {saved.seed} ({saved.seed_from}) in the checkpoint, "
            f"{now.seed} ({now.seed_from}) in the script"
        ]
        if saved.seed != now.seed
        else []
    )
    lines += _differences("data", saved.data, now.data)
    if lines:
        raise ResumeRefusedError(
            f"The run in {folder} cannot go on with this script: its batches would be others.\n  "
            + "\n  ".join(lines)
            + "\nPut these back to go on with it. To begin a new run from its weights, say "
            'Checkpoint(..., resume="weights"); '
            "to begin one from nothing, give Checkpoint another folder."
        )


def changes(saved: Identity, now: Identity) -> list[str]:
    """The differences that do not refuse a resume, a line each; in all of them the script wins."""
    lines = []
    # What was not known then has been learnt since.
    if saved.total_steps is not None and saved.total_steps != now.total_steps:
        lines.append(f"total_steps is {now.total_steps:,}, it was {saved.total_steps:,}")
    for place in sorted(saved.optimizers.keys() | now.optimizers.keys()):
        lines += _differences(place, saved.optimizers.get(place, {}), now.optimizers.get(place, {}))
    lines += _model_changes(saved.model, now.model)
    lines += _validation_changes(saved.validation, now.validation)
    for name in sorted(now.callbacks.keys() - saved.callbacks.keys()):
        lines.append(f"{name} is new, and starts here")
    for name in sorted(saved.callbacks.keys() - now.callbacks.keys()):
        lines.append(f"{name} is gone, and its state with it")
    for name in sorted(saved.callbacks.keys() & now.callbacks.keys()):
        lines += _differences(name, saved.callbacks[name], now.callbacks[name])
    return lines


def _validation_changes(saved: Json | None, now: Json | None) -> list[str]:
    if saved is None or now is None:
        return []
    if bool(saved) != bool(now):
        return ["validation is new" if now else "validation is gone"]
    return _differences("validation", saved, now)


def _model_changes(saved: Json | None, now: Json | None) -> list[str]:
    if saved is None or now is None:
        return []
    # What was not known then has been learnt since.
    now = {key: now[key] for key in saved if key in now}
    counts = [
        f"model has {len(now[parts])} {parts}, it had {len(saved[parts])}"
        for parts in _PARTS
        if parts in now and len(now[parts]) != len(saved[parts])
    ]
    if counts:
        # What stands at one place is another part then.
        others = (
            {key: value for key, value in one.items() if key not in _PARTS} for one in (saved, now)
        )
        return counts + _differences("model", *others)
    lines = _differences("model", saved, now)
    more = [f"{len(lines) - _MOST_LINES} more settings of the model are others"]
    return lines[:_MOST_LINES] + (more if len(lines) > _MOST_LINES else [])


def _differences(place: str, saved: Any, now: Any) -> list[str]:
    if isinstance(saved, dict) and isinstance(now, dict):
        keys = [*saved, *(key for key in now if key not in saved)]
        return [
            line
            for key in keys
            for line in _differences(f"{place}.{key}", saved.get(key), now.get(key))
        ]
    if _are_parts(saved) and _are_parts(now) and len(saved) == len(now):
        return [
            line
            for i, pair in enumerate(zip(saved, now, strict=True))
            for line in _differences(f"{place}[{i}]", *pair)
        ]
    if saved == now:
        return []
    texts = _short(now), _short(saved)
    new, old = texts if texts[0] != texts[1] else (repr(now), repr(saved))
    return [f"{place} is {new}, it was {old}"]


def _short(value: Any) -> str:
    """A number as a person wrote it, not with all digits of a float of 32 bits."""
    return repr(float(f"{value:.7g}") if isinstance(value, float) else value)


def _are_parts(value: Any) -> bool:
    """True for a list of settings, such as those of schedules in a row."""
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)
