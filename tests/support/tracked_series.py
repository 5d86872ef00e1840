"""What trackers keep of a run, read from their files: for each metric, its steps and values."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Series = dict[str, list[tuple[int, float]]]


def from_tensorboard(folder: Path) -> Series:
    """By TensorBoard's own reader: what it shows. There is one run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "logs").iterdir()
    found = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def from_mlflow(folder: Path) -> Series:
    """By MLflow's own client. There is one run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    place = client.get_experiment_by_name(folder.name).experiment_id
    (run,) = client.search_runs([place])
    return {
        name: [
            (found.step, found.value)
            for found in sorted(
                client.get_metric_history(run.info.run_id, name), key=lambda found: found.step
            )
        ]
        for name in run.data.metrics
        if name != "kp/step"
    }


def from_wandb(folder: Path) -> Series:
    """By W&B's own records, from the files of all processes, in the order of their times."""
    from wandb.proto.wandb_internal_pb2 import Record

    from keras_patterns.trackers.wandb_runs import _records

    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1, "one id"
    series: Series = defaultdict(list)
    for file in files:
        for data in _records(file.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                row: dict[str, Any] = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                assert row["kp/step"] == row["_step"]
                for name, value in row.items():
                    if name[0] != "_" and name != "kp/step" and not name.startswith("events/"):
                        series[name].append((row["_step"], value))
    return dict(series)


READERS = {
    "tensorboard": from_tensorboard,
    "tensorboard-saved": from_tensorboard,
    "mlflow": from_mlflow,
    "wandb": from_wandb,
}
