"""`kp.trackers.MLflow`: the curves of a run on an MLflow server, or in its database."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .extras import check_installed
from .protocol import Row, Status, TrackedRun
from .tracking import Tracking

# The tag with the id of the run, and the metric that says how far its rows reach. It is sent in one
# transaction with them.
_ID = "keras_patterns.run"
_STEP = "kp/step"
# What MLflow takes at once, and how long a text may be.
_MOST_METRICS, _MOST_TEXTS, _LONGEST = 999, 100, 5000
_REFUSED = re.compile(r"[^/\w.\- ]")


class MLflow(Tracking):
    """Sends the curves of a run of `kp.fit` or `kp.Run` to MLflow, each point once.

    Needs the extra `mlflow`, which is `mlflow-skinny` with what a database of one's own takes. Rows
    are sent when a checkpoint that holds them is on disk, with the time at which they were made.
    The settings are params; what a later process says otherwise is a tag. Events are tags. The
    status becomes FINISHED, KILLED (left by a signal or a pause, to go on) or FAILED; after a
    SIGKILL it stays RUNNING until the run goes on.

    In names, characters that MLflow refuses become their number between underscores. It keeps
    infinities as the largest numbers there are.

    Args:
        experiment: The name of the experiment. Made if it does not exist.
        tracking_uri: Of the server, or of a database: `"sqlite:////data/mlflow.db"`. Defaults to
            None: what MLflow is set to.
        name: Of the run, for people. Defaults to None: its id.
        settings: As in `kp.trackers.Tracking`.

    Raises:
        ImportError: If MLflow is missing.

    Example:

    >>> import keras_patterns as kp
    >>> callback = kp.trackers.MLflow("digits", "sqlite:///mlflow.db",
    ...     settings={"dropout": 0.5})  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment: str,
        tracking_uri: str | None = None,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_installed("MLflow", "mlflow", "mlflow")
        super().__init__(_MlflowRun(experiment, tracking_uri), "saved", name, settings)


class _MlflowRun:
    """A run of an experiment, found by a tag."""

    def __init__(self, experiment: str, tracking_uri: str | None) -> None:
        self._experiment, self._uri = experiment, tracking_uri
        self._client: Any = None
        self._run_id = ""

    def open(self, run: TrackedRun) -> int:
        """Finds the run, or makes it; compares the settings with its params."""
        from mlflow import MlflowClient

        self._client = client = MlflowClient(self._uri)
        experiment = client.get_experiment_by_name(self._experiment)
        place = (
            experiment.experiment_id if experiment else client.create_experiment(self._experiment)
        )
        found = client.search_runs([place], f"tags.`{_ID}` = '{run.id}'")
        if found:
            self._run_id = found[0].info.run_id
            client.update_run(self._run_id, "RUNNING")
        else:
            made = client.create_run(place, tags={_ID: run.id}, run_name=run.name)
            self._run_id = made.info.run_id
        data = client.get_run(self._run_id).data
        last = int(data.metrics.get(_STEP, -1))
        self._take_settings(run.settings, data.params, last)
        return last

    def send(self, rows: Sequence[Row]) -> None:
        """Logs batches of whole rows, each with the step up to which it reaches."""
        from mlflow.entities import Metric, RunTag

        for batch in _batches(rows):
            metrics = [
                Metric(_accepted(name), value, _milliseconds(row), row.step)
                for row in batch
                for name, value in row.metrics.items()
            ]
            events = defaultdict(list)
            for row in batch:
                for event in row.events:
                    events[_accepted(f"{event.kind} at step {row.step}")].append(event.text)
            tags = [RunTag(name, "\n".join(texts)[:_LONGEST]) for name, texts in events.items()]
            newest = batch[-1]
            reach = Metric(_STEP, newest.step, _milliseconds(newest), newest.step)
            for start in range(_MOST_METRICS, len(metrics), _MOST_METRICS):
                # Of a row so wide that it does not go at once.
                self._client.log_batch(self._run_id, metrics[start : start + _MOST_METRICS])
            self._client.log_batch(self._run_id, [*metrics[:_MOST_METRICS], reach], tags=tags)

    def rewind(self, step: int) -> bool:
        """MLflow keeps what it has."""
        return False

    def close(self, status: Status) -> None:
        """Sets the status."""
        self._client.set_terminated(self._run_id, status)

    def _take_settings(
        self, settings: Mapping[str, Any], known: Mapping[str, str], last: int
    ) -> None:
        from mlflow.entities import Param, RunTag

        values = {_accepted(name): str(value)[:_LONGEST] for name, value in settings.items()}
        new = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(new), _MOST_TEXTS):
            self._client.log_batch(self._run_id, params=new[start : start + _MOST_TEXTS])
        changed = [
            RunTag(f"{name} after step {max(last, 0)}", value)
            for name, value in values.items()
            if known.get(name, value) != value
        ]
        for start in range(0, len(changed), _MOST_TEXTS):
            self._client.log_batch(self._run_id, tags=changed[start : start + _MOST_TEXTS])


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Groups of rows that MLflow takes at once."""
    batch: list[Row] = []
    metrics = texts = 0
    for row in rows:
        is_full = (
            metrics + len(row.metrics) > _MOST_METRICS or texts + len(row.events) > _MOST_TEXTS
        )
        if batch and is_full:
            yield batch
            batch, metrics, texts = [], 0, 0
        batch.append(row)
        metrics, texts = metrics + len(row.metrics), texts + len(row.events)
    if batch:
        yield batch


def _accepted(name: str) -> str:
    """A name that MLflow takes, and that no other name becomes.

    Example:

    >>> _accepted("top 5 (%)"), _accepted("a//b"), _accepted("Genauigkeit/größte")
    ('top 5 _28__25__29_', 'a_2f__2f_b', 'Genauigkeit/größte')
    """
    parts = name.split("/")
    # It takes names for paths, and only paths that are as short as can be.
    if any(part in ("", ".", "..") for part in parts):
        name = "".join(f"_{ord(c):x}_" if c in "/." else c for c in name) or "_"
    return _REFUSED.sub(lambda found: f"_{ord(found[0]):x}_", name)[:250]


def _milliseconds(row: Row) -> int:
    return int(row.time * 1000)
