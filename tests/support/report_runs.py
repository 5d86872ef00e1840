"""Folders of runs for the report, written by the store without any training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from store_support import a_document

from keras_patterns.storage import CheckpointFolder, Position, Tensor

PROCESSES = [
    {"host": "one", "backend": "jax 0.10", "device": "cpu", "first_step": 0, "last_step": 40},
    {"host": "two", "backend": "torch 2", "device": "cpu", "first_step": 40, "last_step": 100},
]
for _process in PROCESSES:
    _process |= {"seconds": 2.5, "changed": []}
PROCESSES[1]["changed"] = ["optimizer.learning_rate is 0.1, it was 0.2."]


def a_history(steps: int = 100, every: int = 10) -> dict[str, Any]:
    """A History with values inside epochs, at their ends, of validations, and events."""
    ends = list(range(every, steps + 1, every))
    loss = [2.0 / math.sqrt(step) for step in ends]
    validation = [value + 0.1 + 0.001 * step for step, value in zip(ends, loss, strict=True)]
    return {
        "history": {"loss": loss, "val_loss": validation},
        "epoch": list(range(len(ends))),
        "step_logs": [
            {"step": step, "loss": 2.0 / math.sqrt(step)}
            for step in range(every // 2, steps, every)
        ],
        "validations": [
            {"step": step, "val_loss": value} for step, value in zip(ends, validation, strict=True)
        ],
        "epoch_end_steps": ends,
        "learning_rates": [0.1 * (1 - step / steps / 2) for step in ends],
        "momentums": [0.9 + 0.05 * step / steps for step in ends],
        "events": [
            {"kind": "rolled back", "step": 25, "text": "the loss is not finite"},
            {"kind": "thawed", "step": 60, "text": "block5_*"},
        ],
    }


def write_run(
    folder: Path,
    *,
    steps: int = 100,
    total_steps: int | None = None,
    history: dict[str, Any] | None = None,
    processes: list[dict[str, Any]] | None = None,
    resumed_at: int = 40,
    **identity: Any,
) -> CheckpointFolder:
    """A run with two checkpoints, the second at `steps`, one tensor of which is the first's."""
    store = CheckpointFolder(folder)
    history = a_history(steps) if history is None else history
    for step in (steps // 2, steps):
        document = a_document("kernel", step=step)
        document["identity"]["content"] |= {"total_steps": total_steps or steps, **identity}
        document["resumes"] = _section([resumed_at])
        document["callbacks"] = _section({"RunHistory": history})
        store.write(
            Position(1, step),
            document,
            [Tensor("variables/kernel", np.full(3, step, np.float32))],
            score={"monitor": "val_loss", "mode": "min", "value": 1.0 / step},
            made_with={
                "keras_patterns": "0.1.0",
                "keras": "3.15.1",
                "backend": "jax",
                "processes": PROCESSES if processes is None else processes,
            },
        )
    return store


def _section(content: Any) -> dict[str, Any]:
    return {"version": 1, "required": False, "content": content}
