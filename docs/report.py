"""Draws docs/report.png, report-dark.png and report-long.png: `python docs/report.py RUNS`, where
RUNS is the folder of the checkpoints that `keras-patterns demo --keep` names. It needs playwright
and Chromium.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.cli.demo.training import find_rate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from report_runs import PROCESSES, a_history, write_run  # noqa: E402

# Width and height of the window; where the pointer stands in the first chart.
PICTURES = {
    "report": (["runs/digits"], "light", (1120, 1240), 0.235),
    "report-dark": (["runs/digits", "runs/alone"], "dark", (1120, 1010), 0.4),
    "report-long": (["runs/long"], "light", (1120, 660), 0.75),
}


def make(runs: Path) -> None:
    """Lays out the folders as the page names them, and takes the pictures."""
    os.chdir(tempfile.mkdtemp())
    for name, source in (("digits", "killed"), ("alone", "reference")):
        # By links, so that shared bytes stay shared.
        shutil.copytree(runs / source, f"runs/{name}", copy_function=os.link)
    find_rate().save("runs/digits")
    _, record = kp.CheckpointStore("runs/digits").read_record()
    history = kp.RunHistory()
    history.set_state(record.callbacks["RunHistory"])
    kp.diagnose(history).save("runs/digits")
    write_long_run(Path("runs/long"))
    with sync_playwright() as playwright:
        path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (folders, scheme, (width, height), share) in PICTURES.items():
            main(["report", *folders, "-o", f"{name}.html"])
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.goto(Path(f"{name}.html").absolute().as_uri())
            box = page.locator(".u-over").first.bounding_box()
            page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.4 * box["height"])
            page.screenshot(path=HERE / f"{name}.png")


def write_long_run(folder: Path) -> None:
    """A run of 100,000 steps that was never trained, with three metrics at each of them, a spike,
    and 10,000 validations.
    """
    steps = np.arange(1, 100_001)
    loss = 0.2 + 2 / steps**0.4 + 0.03 * np.random.default_rng(0).normal(size=len(steps))
    loss[54_320] = 1.7
    validation = 0.3 + 2 / steps**0.4 + 1e-6 * steps
    logged = {"loss": loss, "accuracy": 1 - loss / 3, "mae": 0.7 * loss}
    validated = {"val_loss": validation, "val_accuracy": 1 - validation / 3}
    history = a_history(100_000, 1_000)
    history["history"] = {
        name: values[999::1_000].tolist() for name, values in {**logged, **validated}.items()
    }
    history["step_logs"] = rows(steps, logged)
    history["validations"] = rows(steps[9::10], {k: v[9::10] for k, v in validated.items()})
    history["events"] = []
    first, second = PROCESSES
    killed = 23_400
    processes = [
        {**first, "last_step": killed, "seconds": 95},
        {**second, "first_step": killed, "last_step": 100_000, "seconds": 310},
    ]
    more = {"processes": processes, "resumed_at": killed, "steps_per_epoch": 1_000}
    write_run(folder, steps=100_000, history=history, **more)


def rows(steps: np.ndarray, metrics: dict[str, np.ndarray]) -> list[dict[str, float]]:
    columns = {"step": steps.tolist(), **{name: one.tolist() for name, one in metrics.items()}}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
