"""The page: one file that needs no other, and in which only its own script runs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np

from ...storage.results import SweepFile
from . import sections
from .curves import Chart, Series, as_json, metric_charts, rate_charts
from .markup import paragraph, script_json, text
from .reading import FolderFacts, RunFacts

# With it begins what a report may be written over.
MARK = "<!doctype html>\n<!-- keras-patterns report -->\n"
_MOST_MARKS = 500
_MOST_WORDS = 300


def make_page(folders: Sequence[FolderFacts], reload_seconds: float | None = None) -> str:
    """The page of some folders.

    Args:
        folders: What is shown, side by side.
        reload_seconds: After which the page reads its file again. Defaults to None: never.
    """
    runs = [run for folder in folders for run in folder.runs]
    metrics, left_out = metric_charts(runs)
    rates = rate_charts(runs)
    drawn, thinned = as_json([*metrics, *rates])
    data = {
        "runs": [{"label": run.label[:100], "step": run.step} for run in runs],
        "metrics": drawn[: len(metrics)],
        "rates": drawn[len(metrics) :],
        "sweeps": [_sweep_json(folder.sweep) for folder in folders if folder.sweep],
        "marks": _marks(runs),
        "reload": reload_seconds,
    }
    title = " and ".join(folder.label for folder in folders)
    library, script = _asset("uplot/uPlot.iife.min.js"), _asset("page.js")
    style = _asset("uplot/uPlot.min.css") + _asset("page.css")
    return _filled(
        {
            "policy": _policy([library, script], style),
            "generator": f"keras-patterns {text(version('keras-patterns'))}",
            "title": text(title, 200),
            "subtitle": _subtitle(folders, reload_seconds),
            "style": style,
            "summary": sections.problem_section(folders) + sections.summary(runs, metrics),
            "charts": _charts(metrics, rates),
            "sections": _sections(folders, runs, metrics),
            "notes": _notes(left_out, thinned),
            "licence": text(_asset("uplot/LICENSE.txt")),
            "data": script_json(data),
            "library": library,
            "script": script,
        }
    )


def _filled(values: dict[str, str]) -> str:
    """The template with its holes filled, each once: what is put in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: values[hole[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str], style: str) -> str:
    """A Content-Security-Policy by which nothing is loaded, and nothing runs but these."""

    def digest(source: str) -> str:
        made = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        return f"'sha256-{made}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(digest, scripts))}; "
        f"style-src {digest(style)}; base-uri 'none'; form-action 'none'"
    )


def _subtitle(folders: Sequence[FolderFacts], reload_seconds: float | None) -> str:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    words = f"Made {made}"
    if reload_seconds:
        words += f"; it follows the run{'s'[: len(folders) > 1]} and reloads itself"
    if all(folder.is_empty for folder in folders):
        words += "; there is no checkpoint yet"
    return text(words)


def _charts(metrics: Sequence[Chart], rates: Sequence[Chart]) -> str:
    if not metrics and not rates:
        return ""
    key = "".join(
        f'<span><span class="line {kind}"></span>{words}</span>'
        for kind, words in (
            ("resumed", "resumed after a kill or an end"),
            ("rolled-back", "rolled back"),
            ("thawed", "thawed"),
            ("stopped-mark", "stopped"),
        )
    )
    return (
        f'<div class="bar"><h2>Curves</h2>{key}<span><span class="star">★</span>best</span>'
        '<span class="grow"></span><span>drag to zoom, double-click to go back</span></div>'
        "<noscript><p>The curves need JavaScript; all else here does without.</p></noscript>"
        '<div class="charts" id="metrics"></div><div class="charts" id="rates"></div>'
    )


def _sections(
    folders: Sequence[FolderFacts], runs: Sequence[RunFacts], metrics: Sequence[Chart]
) -> str:
    swept = [folder for folder in folders if folder.sweep]
    return "".join(
        [
            *(sections.diagnosis_section(folder) for folder in folders),
            sections.event_list(runs, metrics),
            sections.metric_table(runs, metrics),
            *(sections.sweep_section(folder, f"sweep-{i}") for i, folder in enumerate(swept)),
            *(sections.search_section(folder) for folder in folders),
            sections.process_table(runs),
            sections.checkpoint_table(runs) if runs else "",
            sections.settings_table(runs),
        ]
    )


def _notes(left_out: Sequence[str], thinned: Sequence[str]) -> str:
    said = [*thinned, *(f"Not drawn: {words}" for words in left_out[:20])]
    return "".join(paragraph(f"{words}.".replace("..", ".")) for words in said)


def _marks(runs: Sequence[RunFacts]) -> list[dict[str, Any]]:
    found = sections.happenings(runs)
    if len(found) > _MOST_MARKS:
        stride = len(found) / _MOST_MARKS
        found = [found[int(index * stride)] for index in range(_MOST_MARKS)]
    return [
        {
            "run": one.run,
            "x": one.step,
            "kind": one.kind[:40],
            "text": (
                (f"{runs[one.run].label[:60]}: " if len(runs) > 1 else "")
                + f"{one.kind[:40]} at step {one.step:,}: {one.words[:_MOST_WORDS]}"
                + ("..." if len(one.words) > _MOST_WORDS else "")
            ),
        }
        for one in found
    ]


def _sweep_json(sweep: SweepFile) -> dict[str, Any]:
    rates = np.array(sweep.rates)
    both = [
        Series(0, kind, rates, np.array([float(value) for value in values]))
        for kind, values in (("loss of the batch", sweep.losses), ("smoothed", sweep.smoothed))
    ]
    (chart,), _ = as_json([Chart("loss against the learning rate", both)])
    for series in chart["series"]:
        series["label"] = series["kind"]
    chart["marks"] = [
        {"x": one.rate, "kind": one.rule, "text": f"{one.rule}: {one.rate:.2e}"}
        for one in sweep.suggestions
    ]
    return chart
