"""The parts of the page that are words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .curves import Chart
from .markup import Markup, flat, pairs, paragraph, section, table, text
from .reading import FolderFacts, RunFacts

_CLASSES = {
    "resumed": "resumed",
    "rolled back": "rolled-back",
    "thawed": "thawed",
    "stopped": "stopped-mark",
    "best": "best",
}


class Happening(NamedTuple):
    """A thing that happened in the course of a run.

    Attributes:
        run: The index of the run on the page.
        step: Steps done then.
        kind: In a word or two.
        words: For people.
    """

    run: int
    step: int
    kind: str
    words: str


def happenings(runs: Sequence[RunFacts]) -> list[Happening]:
    """Resumes and events of all runs, by their steps."""
    found = []
    for index, run in enumerate(runs):
        for step in run.resumes:
            found.append(Happening(index, step, "resumed", _resume_words(run, step)))
        for event in run.history.get("events", []):
            found.append(Happening(index, event["step"], event["kind"], event["text"]))
    return sorted(found, key=lambda one: (one.run, one.step, one.kind != "resumed"))


def summary(runs: Sequence[RunFacts], charts: Sequence[Chart]) -> str:
    """A section for each run: how far it is, its best score, its time, its size."""
    return "".join(_tiles(index, run, charts, len(runs) > 1) for index, run in enumerate(runs))


def event_list(runs: Sequence[RunFacts], charts: Sequence[Chart]) -> str:
    """All that happened, in words."""
    found = happenings(runs)
    for chart in charts:
        for best in chart.best:
            prefix = "val_" if best["kind"] == "validation" else ""
            words = f"{prefix}{chart.title} {best['y']:.5g}"
            found.append(Happening(best["run"], best["x"], "best", words))
    rows = [
        [
            *([_run_name(runs, one.run)] if len(runs) > 1 else []),
            one.step,
            Markup(f'<span class="line {_CLASSES.get(one.kind, "")}"></span>{text(one.kind, 60)}'),
            one.words,
        ]
        for one in sorted(found, key=lambda one: (one.run, one.step))
    ]
    header = [*(["run"] if len(runs) > 1 else []), "step", "event", "what happened"]
    kinds = [*(["key"] if len(runs) > 1 else []), "number", "key", "words"]
    return section("Events", table(header, _counted(rows), kinds)) if rows else ""


def metric_table(runs: Sequence[RunFacts], charts: Sequence[Chart]) -> str:
    """The last and the best value of each metric."""
    rows = []
    for chart in charts:
        for series in chart.series:
            if series.kind == "running" or not len(series.at):
                continue
            best = next((one for one in chart.best if one["run"] == series.run), None)
            is_best = best is not None and best["kind"] == series.kind
            prefix = "val_" if series.kind == "validation" else ""
            rows.append(
                [
                    *([_run_name(runs, series.run)] if len(runs) > 1 else []),
                    f"{prefix}{chart.title}",
                    f"{series.values[-1]:.5g}",
                    f"{series.at[-1]:,}",
                    f"{best['y']:.5g}" if best and is_best else "",
                    f"{best['x']:,}" if best and is_best else "",
                ]
            )
    header = [*(["run"] if len(runs) > 1 else []), "metric", "last", "at step", "best", "at step"]
    kinds = [*(["key"] if len(runs) > 1 else []), "", *["number"] * 4]
    return section("Metrics", table(header, rows, kinds)) if rows else ""


def checkpoint_table(runs: Sequence[RunFacts]) -> str:
    """The checkpoints of each run with their sizes."""
    parts = []
    for run in runs:
        rows = [
            [
                row["run"],
                f"{row['step']:,}",
                row["state"] if row["problem"] is None else f"unreadable: {row['problem']}",
                str(row["created"] or "").replace("T", " ").replace("+00:00", " UTC"),
                row["backend"] or "",
                f"{row['bytes']:,}",
                f"{row['linked_bytes']:,}",
                _score(row["score"]),
            ]
            for row in run.checkpoints
        ]
        if len(runs) > 1:
            parts.append(f"<h3>{text(run.label, 200)}</h3>")
        header = ["run", "step", "state", "made", "backend", "bytes", "shared bytes", "score"]
        kinds = ["number", "number", "", "key", "", "number", "number", ""]
        count = (
            f"{len(rows)} checkpoint{'s'[: len(rows) != 1]}, {run.bytes_on_disk:,} bytes on disk"
        )
        parts += [
            table(header, rows, kinds),
            paragraph(f"{count}; a shared byte belongs to several and is there once.", "quiet"),
        ]
    return section("Checkpoints", *parts)


def process_table(runs: Sequence[RunFacts]) -> str:
    """The processes that have trained, and what was changed before each."""
    rows = []
    for index, run in enumerate(runs):
        for number, one in enumerate(run.processes, 1):
            changed = one.get("changed", [])
            lines = changed if isinstance(changed, list) else [changed]
            rows.append(
                [
                    *([_run_name(runs, index)] if len(runs) > 1 else []),
                    number,
                    f"{one.get('first_step', '?')} to {one.get('last_step', '?')}",
                    _duration(one.get("seconds")),
                    one.get("backend", ""),
                    one.get("device", ""),
                    one.get("host", ""),
                    Markup("<br>".join(text(line) for line in lines[:50])) if lines else "",
                ]
            )
    header = ["process", "steps", "time", "backend", "device", "host", "changed when it began"]
    kinds = ["number", "key", "number", "", "", "", "words"]
    if len(runs) > 1:
        header, kinds = ["run", *header], ["key", *kinds]
    return section("Processes", table(header, rows, kinds)) if rows else ""


def settings_table(runs: Sequence[RunFacts]) -> str:
    """The settings that the runs were given, and the versions that made them."""
    columns = [dict(_settings(run)) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    title = "Settings and environment"
    if len(runs) == 1:
        return section(title, pairs([(name, columns[0][name]) for name in names]))
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    # Those that differ stand first.
    rows.sort(key=lambda row: all(value == row[1] for value in row[1:]))
    header = ["setting", *(run.label for run in runs)]
    return section(title, table(header, rows, ["key", *["value"] * len(runs)]) if rows else "")


def diagnosis_section(folder: FolderFacts) -> str:
    """The diagnosis that was saved in a folder."""
    found = folder.diagnosis
    if found is None:
        return ""
    if not found.observations:
        return section(
            f"Diagnosis of {found.metric}", paragraph(f"Nothing can be said: {found.doubt}.")
        )
    rows = [[one.kind, f"{one.message} {one.caution}", one.remedy] for one in found.observations]
    header = ["kind", "what the curves show", "what to do"]
    return section(f"Diagnosis of {found.metric}", table(header, rows, ["key", "words", "words"]))


def sweep_section(folder: FolderFacts, place: str) -> str:
    """The sweep that was saved in a folder; its curve is drawn at `place`."""
    sweep = folder.sweep
    if sweep is None:
        return ""
    rows = [
        [one.rule, f"{one.rate:.2e}", f"{one.low:.2e}", f"{one.high:.2e}", ""]
        for one in sweep.suggestions
    ] + [[rule, "", "", "", f"not sure: {reason}"] for rule, reason in sweep.unsure.items()]
    words = f"{len(sweep.rates)} of {sweep.steps} steps; {sweep.ended}."
    if sweep.cycle:
        words += f" For a cycle: from {sweep.cycle[0]:.2e} to {sweep.cycle[1]:.2e}."
    header = ["rule", "rate", "noise: from", "to", ""]
    return section(
        "Sweep of the learning rate",
        f'<div id="{place}"></div>',
        paragraph(f"{words} {sweep.doubt}"),
        table(header, rows, ["key", "number", "number", "number", "words"]) if rows else "",
    )


def search_section(folder: FolderFacts) -> str:
    """The search that was saved in a folder: its trials, the best first."""
    search = folder.search
    if search is None:
        return ""
    sign = 1.0 if search.direction == "minimize" else -1.0

    def rank(trial: Any) -> tuple[bool, float]:
        value = math.inf if trial.value is None else sign * float(trial.value)
        return trial.state != "complete", math.inf if math.isnan(value) else value

    names = list(dict.fromkeys(name for trial in search.trials for name in trial.params))[:30]
    rows = [
        [
            trial.number,
            trial.state,
            "" if trial.value is None else f"{float(trial.value):.5g}",
            *(_shown(trial.params.get(name, "")) for name in names),
            trial.error or "",
        ]
        for trial in sorted(search.trials, key=rank)
    ]
    header = ["trial", "state", search.monitor, *names, ""]
    kinds = ["number", "", "number", *["number"] * len(names), "words"]
    title = f"Trials of {search.name}, to {search.direction} {search.monitor}"
    return section(title, table(header, rows, kinds))


def problem_section(folders: Sequence[FolderFacts]) -> str:
    """The files that could not be read, and why."""
    words = [
        problem
        for folder in folders
        for problem in (*folder.problems, *(one for run in folder.runs for one in run.problems))
    ]
    return section("Could not be read", *(paragraph(one) for one in words[:50]), kind="problem")


def _tiles(index: int, run: RunFacts, charts: Sequence[Chart], several: bool) -> str:
    total = run.total_steps
    cells = "".join(
        f"<div><dt>{text(name, 60)}</dt>"
        f"<dd>{text(value, 60)}<small>{text(more, 80)}</small></dd></div>"
        for name, value, more in [
            ("step", f"{run.step:,}", "" if total is None else f"of {total:,}"),
            *_best_tiles(index, charts),
            *_effort_tiles(run),
        ]
        if value
    )
    done = f'<progress max="{total}" value="{min(run.step, total)}"></progress>' if total else ""
    dot = f'<span class="dot c{index % 7}"></span>' if several else ""
    name = text(run.label, 200) if several else "Run"
    number = f", run {run.number}" if run.number > 1 else ""
    state, kind = _state(run)
    return (
        f'<section><h2>{dot}{name}{number} <span class="badge {kind}">{state}</span></h2>'
        f'<dl class="tiles">{cells}</dl>{done}</section>'
    )


def _state(run: RunFacts) -> tuple[str, str]:
    """The state of a run in words, and the CSS class that goes with it."""
    if not run.is_over:
        return "not finished", ""
    stopped = any(one["kind"] == "stopped" for one in run.history.get("events", []))
    return (
        ("stopped", "stopped") if stopped and run.step != run.total_steps else ("finished", "over")
    )


def _effort_tiles(run: RunFacts) -> list[tuple[str, str, str]]:
    processes = [one for one in run.processes if all(map(_is_count, _effort(one)))]
    seconds = sum(_effort(one)[2] for one in processes)
    steps = sum(last - first for first, last, _ in map(_effort, processes))
    resumed = f"resumed {len(run.resumes)} time{'s'[: len(run.resumes) != 1]}"
    made = run.created.replace("T", " ")
    return [
        ("time", _duration(seconds), f"{steps / seconds:,.1f} steps a second" if seconds else ""),
        ("processes", f"{len(run.processes) or 1}", resumed if run.resumes else ""),
        ("on disk", _bytes(run.bytes_on_disk), f"{len(run.checkpoints)} checkpoints"),
        ("newest checkpoint", made[11:19], f"{made[:10]} UTC"),
    ]


def _effort(process: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return process.get("first_step"), process.get("last_step"), process.get("seconds")


def _is_count(value: Any) -> bool:
    """True for a number that a process can have written; a stranger may have written others."""
    return isinstance(value, int | float) and 0 <= value < 1e18


def _best_tiles(index: int, charts: Sequence[Chart]) -> Iterator[tuple[str, str, str]]:
    for chart in charts[:2]:
        for best in chart.best:
            if best["run"] == index:
                prefix = "val_" if best["kind"] == "validation" else ""
                yield f"best {prefix}{chart.title}", f"{best['y']:.4g}", f"at step {best['x']:,}"


def _resume_words(run: RunFacts, step: int) -> str:
    words = "another process went on from here"
    for one in run.processes[1:]:
        if one.get("first_step") == step:
            words += f", on {one.get('backend', 'an unknown backend')}"
            changed = one.get("changed")
            if isinstance(changed, list) and changed:
                words += ": " + " ".join(map(str, changed))
            break
    return words


def _settings(run: RunFacts) -> Iterator[tuple[str, Any]]:
    made = {name: value for name, value in run.made_with.items() if name != "processes"}
    yield from ((f"made with {name}", value) for name, value in flat(made))
    identity = run.identity
    if identity:
        yield "seed", f"{identity['seed']} ({identity.get('seed_from', 'drawn')})"
        yield "steps", f"{identity['total_steps']} in epochs of {identity['steps_per_epoch']}"
    for name in ("optimizers", "data", "callbacks"):
        for key, value in flat(identity.get(name, {})):
            if value is not None:
                yield f"{name}.{key}", value


def _run_name(runs: Sequence[RunFacts], index: int) -> Markup:
    return Markup(f'<span class="dot c{index % 7}"></span>{text(runs[index].label, 200)}')


def _counted(rows: Sequence[list[Any]]) -> list[list[Any]]:
    return [[f"{cell:,}" if type(cell) is int else cell for cell in row] for row in rows]


def _score(score: Mapping[str, Any] | None) -> str:
    if not score:
        return ""
    value = score["value"]
    return f"{score['monitor']} {math.nan if value is None else value:.4g}"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: Any) -> str:
    if not _is_count(seconds) or not seconds:
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bytes(count: int) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000  # type: ignore[assignment]
    return f"{count:,} {unit}" if unit == "bytes" else f"{count:,.3g} {unit}"
