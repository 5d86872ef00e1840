"""The part of the demo on transfer learning: a run thawed in stages is killed and compared; what
does the pretraining save?
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from ..._util.table import format_table
from ..._util.text import write_text
from ...transfer.freezing import trainable_table
from . import transfer
from .comparison import Outcome, compare, journey, verdict
from .picture import draw_accuracies
from .processes import PREDICTIONS, TrainingProcess, environment, run_to_its_end, run_until_killed

EXAMPLES = (2, 10, 30)
SCRATCH = "from scratch"
HEAD = "frozen, new head"
STAGES = "thawed in stages"
WAYS = (SCRATCH, HEAD, STAGES)

# The accuracies of the seeds, by examples per class and way.
Accuracies = Mapping[tuple[int, str], Sequence[float]]


def show(runs: Path, picture: Path, backend: str, seeds: int) -> bool:
    """Runs this part of the demo and prints what it finds.

    Args:
        runs: The folder for the pretrained net and the checkpoints.
        picture: Where to write the accuracies.
        backend: On which it runs.
        seeds: Of the comparison.

    Returns:
        Whether the run that was killed is equal to the one that was not.
    """
    backbone = runs / "backbone.keras"
    pretrain(backbone, backend)
    equal = kill_and_compare(runs, backbone, backend)
    accuracies = measure(backbone, backend, EXAMPLES, seeds, runs / "compiled")
    _, _, (images, _) = transfer.new_digits()
    draw_accuracies(picture, accuracies, WAYS, len(images), backend)
    of_seeds = f"median of {seeds} seeds" if seeds > 1 else "one seed"
    write_text(
        f"\nAccuracy on {len(images)} other images of the digits 5 to 9, "
        f"{of_seeds}:\n\n{table(accuracies)}"
    )
    return equal


def pretrain(backbone: Path, backend: str) -> None:
    """Pretrains the net in a new process, which prints what of it is trained with a new head."""
    run_to_its_end("pretrained", _pretrain, backend, str(backbone))


def train_in_process(
    folder: Path, backbone: Path, backend: str, kill_at: float = np.inf
) -> TrainingProcess:
    """Trains in stages in a new process, which is killed (SIGKILL) as soon as it says that it has
    begun a step.

    Args:
        folder: Of the checkpoints.
        backbone: The pretrained net.
        backend: On which it trains.
        kill_at: The step. Defaults to none.
    """
    return run_until_killed(
        f"trained in stages in {folder}", _transfer, backend, kill_at, str(folder), str(backbone)
    )


def measure(
    backbone: Path, backend: str, examples: Sequence[int], seeds: int, cache: Path
) -> Accuracies:
    """The accuracies on the test images, of all ways, in a new process.

    Args:
        backbone: The pretrained net.
        backend: On which they train.
        examples: Per class.
        seeds: How many of them, each with examples and initial weights of its own.
        cache: A folder for what JAX compiles: the same few steps for each seed.
    """
    found: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    with environment(
        JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"
    ):
        for key, accuracy in run_to_its_end(
            "trained on few examples", measure_here, backend, str(backbone), examples, seeds
        ):
            found[key].append(accuracy)
    return found


def kill_step() -> int:
    """A random step soon after the first stage."""
    return min(transfer.STAGES) + random.Random().randint(1, transfer.SAVE_EVERY_STEPS)


def kill_and_compare(runs: Path, backbone: Path, backend: str) -> bool:
    """Trains in stages, once left alone and once killed, prints where the two runs differ, and
    tells whether they are equal.
    """
    write_text("\nLeft alone:")
    reference = Outcome.read(
        runs / "stages", [train_in_process(runs / "stages", backbone, backend)]
    )
    write_text("\nOnce more, killed after the first stage:")
    processes = [train_in_process(runs / "stages-killed", backbone, backend, kill_step())]
    write_text(f"\n*** killed (SIGKILL) after step {processes[-1].last} had begun ***")
    killed = Outcome.read(
        runs / "stages-killed",
        [*processes, train_in_process(runs / "stages-killed", backbone, backend)],
    )
    table, differences = compare(reference, killed)
    write_text(f"\n{journey(reference, killed, stage_rows)}\n\n{table}\n\n{verdict(differences)}")
    return not differences


def table(accuracies: Accuracies) -> str:
    """The medians over the seeds, a row for each number of examples."""
    rows = [
        [per_class, transfer.STEPS, *(f"{median(accuracies[per_class, way]):.3f}" for way in WAYS)]
        for per_class in dict.fromkeys(per_class for per_class, _ in accuracies)
    ]
    return format_table(["examples per class", "steps", *WAYS], rows)


def stage_rows(outcome: Outcome) -> list[tuple[str, int | str]]:
    return [
        ("thawed after step", ", ".join(str(event["step"]) for event in outcome.history["events"]))
    ]


def _pretrain(backbone: str, sender: Connection) -> None:
    transfer.pretrain(backbone)
    write_text(
        f"\nWith a new head, the rest frozen:\n{trainable_table(transfer.with_new_head(backbone))}"
    )
    sender.close()


def _transfer(folder: str, backbone: str, sender: Connection) -> None:
    model = transfer.transfer(folder, backbone, sender.send)
    _, _, (images, _) = transfer.new_digits()
    np.save(Path(folder, PREDICTIONS), model.predict(images, verbose=0), allow_pickle=False)


def measure_here(backbone: str, examples: Sequence[int], seeds: int, sender: Connection) -> None:
    _, _, test = transfer.new_digits()
    for per_class in examples:
        for seed in range(seeds):
            few = transfer.draw_examples(per_class, seed)
            models = {
                SCRATCH: transfer.train_from_scratch(*few, seed=seed),
                HEAD: transfer.train_head(backbone, *few, seed=seed),
                STAGES: transfer.train_in_stages(backbone, *few, seed=seed, epochs=1, verbose=0),
            }
            for way, model in models.items():
                sender.send(((per_class, way), transfer.accuracy(model, *test)))
