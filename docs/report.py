"""Draws docs/report.png and docs/report-dark.png: `python docs/report.py RUNS`, where RUNS is the
folder of the checkpoints that `keras-patterns demo --keep` names. It needs playwright and Chromium.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.cli.demo.training import find_rate

HERE = Path(__file__).parent
# Width and height of the window; where the pointer stands in the first chart.
PICTURES = {
    "report": (["runs/digits"], "light", (1120, 1240), 0.235),
    "report-dark": (["runs/digits", "runs/alone"], "dark", (1120, 1010), 0.4),
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


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
