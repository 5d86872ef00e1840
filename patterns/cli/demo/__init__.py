"""The demo: a rate is found; a run in one cycle, with a NaN in its data, is killed twice, and
compared with one left alone.

Then one of transfer learning, killed between its stages, and what the pretraining saves.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import tempfile
from pathlib import Path

from keras_patterns.backends import current, installed

from ..._util.text import write_text
from . import few_examples, training
from .comparison import Outcome, accuracy, compare, summary, verdict
from .picture import draw
from .processes import (
    TrainingFailedError,
    TrainingProcess,
    environment,
    find_rate,
    select,
    train_in_process,
)
from .training import STEPS_PER_EPOCH, make_optimizer

__all__ = ["TrainingFailedError", "run"]


def run(
    out: str | Path = "keras-patterns-demo",
    keep: bool = False,
    epochs: int = training.EPOCHS,
    kills: int = 2,
    seeds: int = 3,
) -> int:
    """Runs the demo and prints what it finds.

    Args:
        out: The folder for the pictures. Defaults to `"keras-patterns-demo"`.
        keep: Whether to keep the checkpoints there too. Defaults to False.
        epochs: Of each run in one cycle. Defaults to 20.
        kills: How many of them. Defaults to 2.
        seeds: Of the training on few examples. Defaults to 3.

    Returns:
        0 if the killed runs are equal to the bit to those left alone, else 1.

    Raises:
        TrainingFailedError: If a training process ended with an error, or a package is missing.
    """
    _check_packages()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    runs = Path(tempfile.mkdtemp(prefix="runs-", dir=out if keep else None))
    try:
        # Drawing may be what imports another framework than Keras's own.
        with environment():
            equal = _run(runs, out, epochs, kills, seeds)
    finally:
        if not keep:
            shutil.rmtree(runs, ignore_errors=True)
    if keep:
        write_text(
            f"The checkpoints: {runs}; look at them with `keras-patterns list {runs / 'killed'}`."
        )
    return 0 if equal else 1


def kill_steps(epochs: int, kills: int) -> list[int]:
    """The steps to kill at: in evenly spaced epochs, each in the middle half of one, at random."""
    quarter = STEPS_PER_EPOCH // 4
    starts = [epochs * (index + 1) // (kills + 1) * STEPS_PER_EPOCH for index in range(kills)]
    return [start + random.Random().randint(quarter, 3 * quarter) for start in starts]


def _run(runs: Path, out: Path, epochs: int, kills: int, seeds: int) -> bool:
    backend = current().name
    names = ("learning-rates", "learning-curve", "few-examples")
    pictures = [out / f"{name}-{backend}.png" for name in names]
    sweep, curve, few = pictures
    write_text(
        f"keras-patterns demo: scikit-learn's digits, {epochs} epochs of {STEPS_PER_EPOCH} steps, "
        f"on {backend}, on the CPU."
    )
    _headline("Which learning rate?")
    rate = find_rate(sweep, backend)
    _headline(
        f"A run on {backend} in one cycle, towards a rate of {rate:.2e}, that is left alone; one "
        "image has a broken pixel"
    )
    reference = Outcome.read(
        runs / "reference", [train_in_process(runs / "reference", rate, epochs, backend)]
    )
    killed = Outcome.read(
        runs / "killed",
        _live_and_die(runs / "killed", rate, epochs, backend, kill_steps(epochs, kills)),
    )
    table, differences = compare(reference, killed)
    longer = epochs + max(1, epochs // 4)
    continued = _continue(runs / "killed", rate, longer)
    draw(
        curve,
        reference,
        killed,
        make_optimizer(rate, epochs),
        continued,
        make_optimizer(rate, longer),
    )
    _headline("Is the killed run equal to the one that was left alone?")
    write_text(f"\n{summary(reference, killed)}\n\n{table}\n\n{verdict(differences)}")
    _headline("Looking back: which checkpoint is the best?")
    select(runs / "reference", backend)
    _headline(
        "What does a pretrained backbone save? Pretrained on the digits 0 to 4, trained on a few "
        "of 5 to 9, thawed in stages"
    )
    equal = few_examples.show(runs, few, backend, seeds)
    listed = "\n              ".join(map(str, pictures))
    write_text(f"\nThe pictures: {listed}")
    return equal and not differences


def _live_and_die(
    folder: Path, rate: float, epochs: int, backend: str, kill_at: list[int]
) -> list[TrainingProcess]:
    processes: list[TrainingProcess] = []
    for step in kill_at:
        _headline(
            f"The same on {backend}, killed in the middle of an epoch"
            if not processes
            else "Started again, and killed again"
        )
        processes.append(train_in_process(folder, rate, epochs, backend, step))
        write_text(f"\n*** killed (SIGKILL) after step {processes[-1].last} had begun ***")
    _headline("Started again, to the end")
    return [*processes, train_in_process(folder, rate, epochs, backend)]


def _continue(folder: Path, rate: float, epochs: int) -> Outcome | None:
    others = [name for name in installed() if name != current().name]
    if not others:
        _headline(
            "No other backend is installed here. To see the run continue on one: "
            "nox -s demo -- jax torch"
        )
        return None
    _headline(
        f"The killed run continues on {others[0]}, to {epochs} epochs; random streams differ from "
        "here on"
    )
    outcome = Outcome.read(folder, [train_in_process(folder, rate, epochs, others[0])])
    write_text(f"The validation accuracy of these weights: {accuracy(outcome):.4f}")
    return outcome


def _headline(text: str) -> None:
    write_text(f"\n=== {text}")


def _check_packages() -> None:
    missing = [name for name in ("sklearn", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainingFailedError(
            f"The demo needs {' and '.join(missing)}: pip install scikit-learn matplotlib."
        )
