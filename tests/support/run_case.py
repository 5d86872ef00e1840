"""Runs of cases of the table in a process of its own, each in a folder of its name: `python
run_case.py NAME... [--at STEP ...]`.

Each goes on where an earlier process left it, and writes the state that it ends with to a file. The
last one is killed where that is asked for.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
from killers import HOW, Sender, kill_in_block, kill_while_saving
from models import CASES, Case

import keras_patterns as kp
from keras_patterns import testing
from keras_patterns.data import stacked
from keras_patterns.run import fusing


def run(
    case: Case, extra: Sequence[keras.callbacks.Callback], train: Callable[..., Any] = kp.fit
) -> None:
    """Trains the case in the working directory, and writes the state that it ends with. Each
    process begins from other seeds.
    """
    with open("processes", "a+", encoding="utf-8") as file:
        file.write("|")
        seed = file.tell() - 1
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    model = case.make_model()
    made = {name: value() if callable(value) else value for name, value in case.arguments.items()}
    callbacks = made.pop("callbacks", [])
    history = train(model, **made, seed=0, verbose=0, callbacks=[*callbacks, *extra])
    Path("state.json").write_text(
        dumped(testing.run_state(model, history, callbacks)), encoding="utf-8"
    )


def dumped(state: dict[str, Any]) -> str:
    """A state as text, every bit of it."""
    return json.dumps({name: _dumped(value) for name, value in state.items()})


def loaded(text: str) -> dict[str, Any]:
    """The inverse of `dumped`."""
    return {name: _loaded(*value) for name, value in json.loads(text).items()}


def _dumped(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return ["array", value.dtype.name, list(value.shape), value.tobytes().hex()]
    return ["float", value.hex()] if isinstance(value, float) else ["plain", value]


def _loaded(kind: str, *content: Any) -> Any:
    if kind == "array":
        dtype, shape, bits = content
        return np.frombuffer(bytes.fromhex(bits), dtype).reshape(shape)
    return float.fromhex(content[0]) if kind == "float" else content[0]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--reference", action="store_true", help="no checkpoints")
    parser.add_argument(
        "--at", type=int, default=-1, help="steps of the last run after which the signals are sent"
    )
    parser.add_argument("--where", default="step", choices=("step", "validation"))
    parser.add_argument("--signals", nargs="*", default=["kill"], choices=HOW)
    parser.add_argument(
        "--saving",
        nargs=2,
        metavar=("EVENT", "COUNT"),
        help="kill inside the writing of a checkpoint",
    )
    parser.add_argument("--thread", action="store_true", help="run outside the main thread")
    parser.add_argument("--every", type=int, default=1, help="steps between checkpoints")
    parser.add_argument(
        "--blocks", action="store_true", help="steps in blocks, in one of which it is killed"
    )
    return parser.parse_args()


def main() -> int:
    """What the command line asks for; how many of the runs failed."""
    asked = _asked()
    train = kp.fit
    if asked.blocks:
        fusing._TIMED = 2
        # However slow this machine is.
        stacked._MOST_SECONDS = float("inf")
        train = functools.partial(kp.fit, fuse=True)
    if asked.saving:
        kill_while_saving(asked.saving[0], int(asked.saving[1]))
    home, failed, pool = os.getcwd(), 0, ThreadPoolExecutor(1)
    for name in asked.names:
        # Before the callbacks are made, whose folders are bound to the working directory.
        os.makedirs(name, exist_ok=True)
        os.chdir(name)
        saved = not asked.reference or CASES[name].saved
        extra = (
            [kp.Checkpoint("checkpoints", every_steps=asked.every, background=bool(asked.saving))]
            if saved
            else []
        )
        at = asked.at if name == asked.names[-1] else -1
        if asked.blocks:
            kill_in_block(at)
        elif not asked.reference:
            # It is always in the list, so that no run differs from the next in its callbacks.
            extra.append(Sender(asked.where, at, asked.signals))
        work = functools.partial(run, CASES[name], extra, train)
        failed += not _succeeds(pool.submit(work).result if asked.thread else work)
        os.chdir(home)
    return failed


def _succeeds(work: Callable[[], None]) -> bool:
    """Whether it did. An error is printed, and the next run is begun all the same."""
    try:
        work()
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
