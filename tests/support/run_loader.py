"""Runs of cases of `loaders.py` in a process of its own, each in a folder of its name: `python
run_loader.py NAME... [--at STEP]`.

Each goes on where an earlier process left it, and writes the state that it ends with, and how its
data were opened, to files. The last one kills its process before a step, where that is asked for.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from killers import Sender
from loaders import CASES, EVERY, STEPS, LoaderCase, small_model
from run_case import dumped

import keras_patterns as kp
from keras_patterns import testing
from keras_patterns.data import positions
from keras_patterns.run import opening


def run(case: LoaderCase, at: int, saved: bool, goes_wrong: bool) -> None:
    """Trains the case in the working directory."""
    with open("processes", "a+", encoding="utf-8") as file:
        file.write("|")
        number = file.tell() - 1
    Path("opened").touch()
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(number if case.global_seed is None else case.global_seed)
    model = (case.make_model or small_model)()
    callbacks: list[keras.callbacks.Callback] = [Sender("step", at, ["kill"])]
    if saved:
        callbacks.append(kp.Checkpoint("checkpoints", every_steps=EVERY, background=False))
    opening.make_source = functools.partial(_watched, goes_wrong and number > 0)
    history = kp.fit(
        model, **case.make(), total_steps=STEPS, epochs=3, seed=0, verbose=0, callbacks=callbacks
    )
    state = testing.run_state(model, history)
    Path("state.json").write_text(dumped(state), encoding="utf-8")


def _watched(goes_wrong: bool, *args: Any, **kwargs: Any) -> Any:
    """A source that notes how its loader is opened in the file `opened`.

    Args:
        goes_wrong: Forget a saved state; where there is none, leave out a batch.
    """
    source = _make_source(*args, **kwargs)
    loader = getattr(source, "loader", None)
    for name in ("open", "set_state", "fetch"):
        if hasattr(loader, name):
            call = functools.partial(_noted, name, getattr(loader, name), loader, goes_wrong)
            setattr(loader, name, call)
    return source


def _noted(name: str, call: Any, loader: Any, goes_wrong: bool, *args: Any) -> Iterator[Any]:
    with open("opened", "a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    if not goes_wrong:
        return call(*args)
    if name == "fetch":
        jobs, seeded = args
        return call(itertools.islice(jobs, 1, None), seeded)
    if name == "set_state":
        return type(loader).open(loader, args[0])
    batches = call(*args)
    # Now, not when it is read: the backend may read the loader's iterator by itself.
    next(batches)
    return batches


_make_source = opening.make_source


def main() -> int:
    """What the command line asks for; how many of the runs failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--reference", action="store_true", help="no checkpoints")
    parser.add_argument("--at", type=int, default=-1, help="the step of the last run to die at")
    parser.add_argument("--wrong", action="store_true", help="a control: the place is lost")
    asked = parser.parse_args()
    # A state before every batch.
    positions.SHARE = math.inf
    home, failed = os.getcwd(), 0
    for name in asked.names:
        os.makedirs(name, exist_ok=True)
        os.chdir(name)
        at = asked.at if name == asked.names[-1] else -1
        try:
            run(CASES[name], at, not asked.reference, asked.wrong)
        except Exception:
            traceback.print_exc()
            failed += 1
        os.chdir(home)
    return failed


if __name__ == "__main__":
    sys.exit(main())
