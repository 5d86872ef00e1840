"""Runs that a process has finished, so that the next call on the same model and folder is told
apart from a restart.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path

import keras

from ..state.variables import find_variables


@dataclass(frozen=True)
class _Finished:
    """A run that has come to its end in this process.

    Attributes:
        total_steps: Of its plan.
        trainable: The keys of the variables that were trained at its end.
    """

    total_steps: int
    trainable: frozenset[str]


_FINISHED: weakref.WeakKeyDictionary[keras.Model, dict[Path, _Finished]] = (
    weakref.WeakKeyDictionary()
)


def remember_finished(model: keras.Model, folder: Path, total_steps: int) -> None:
    """Remembers that a model has been trained to the end of a plan, in a folder."""
    runs = _FINISHED.setdefault(model, {})
    runs[folder.resolve()] = _Finished(total_steps, _trainable(model))


def check_not_finished(
    caller: str, model: keras.Model, folder: Path, label: str, total_steps: int
) -> None:
    """Raises if this process has trained the model to the end of a run in the folder, and this call
    would train nothing, or train other variables as if it were the same run.

    Args:
        caller: For the message.
        model: To be trained.
        folder: Of the run that would go on.
        label: The folder as it was given.
        total_steps: Of the plan that is asked for; epochs in plain `model.fit`.

    Raises:
        ValueError: With the three ways out.
    """
    before = _FINISHED.get(model, {}).get(folder.resolve())
    if before is None:
        return
    if total_steps <= before.total_steps:
        why = (
            f"to the end of its plan of {before.total_steps:,}. This call asks for {total_steps:,} "
            "in all, and would train nothing"
        )
    elif _trainable(model) != before.trainable:
        why = "and other variables are trainable now, which is another phase and not the same run"
    else:
        return
    raise ValueError(
        f"{caller}: this process has trained this model in {label}, {why}. To train longer, ask "
        "for more in all: a larger total_steps= (or epochs=). For another phase of the script, say "
        'kp.Checkpoint(..., phase="name"). For another run, give another folder.'
    )


def _trainable(model: keras.Model) -> frozenset[str]:
    weights = find_variables(model).of("weight")
    return frozenset(key for key, variable in weights.items() if variable.trainable)
