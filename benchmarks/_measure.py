"""Measuring two or more sides in turn, so that what else the machine does falls on all of them
alike.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import keras
import numpy as np

PACKAGES = (
    "keras-patterns",
    "keras",
    "jax",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
    "numpy",
    "safetensors",
)

_BEGAN = time.perf_counter()


def rounds_asked(default: int) -> int:
    """How many rounds to run: `--rounds`, or the default."""
    return _asked(default).rounds


def is_asked_for(row: str) -> bool:
    """Whether a row is to be measured: all, or those that `--only` names; none after `--seconds`,
    which is said.
    """
    asked = _asked(0)
    if time.perf_counter() - _BEGAN < asked.seconds:
        return asked.only in row
    print(f"Not measured, as the time is over: {row}", file=sys.stderr)
    return False


def _asked(default: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--rounds",
        type=int,
        default=default,
        help=f"measure each side so many times (default {default})",
    )
    parser.add_argument(
        "--only", default="", help="rows that have this text in their names, where a script has it"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="begin no row after so many, where a script has it",
    )
    return parser.parse_args()


def interleave(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Measures each side once a round, the order turning from round to round.

    Args:
        sides: By name, a function that does the work and returns its seconds. The first call of
            each is not counted.
        rounds: How often each is measured.

    Returns:
        The seconds of each side, one for each round.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        sides[name]()
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(sides[name]())
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(over: np.ndarray, under: np.ndarray) -> str:
    """The median of the ratios round by round, with their quartiles."""
    low, middle, high = np.percentile(over / under, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def interval(ratios: np.ndarray) -> str:
    """The median of the ratios round by round, with the interval that holds 90 % of the medians of
    rounds drawn again.
    """
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (2_000, len(ratios))), axis=1)
    low, high = np.percentile(medians, (5, 95))
    return f"{np.median(ratios):.2f} ({low:.2f}-{high:.2f})"


def milliseconds(seconds: np.ndarray) -> str:
    """The median, in milliseconds."""
    return f"{1e3 * np.median(seconds):,.2f}"


def same_bits(arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Whether two lists of arrays are equal bit for bit."""
    pairs = zip(arrays, others, strict=True)
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as Markdown, which is readable as it stands."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            + " |"
        )

    print(
        f"\n{title}\n",
        line(header),
        line(["-" * width for width in widths]),
        *map(line, rows),
        sep="\n",
        flush=True,
    )


def say_where() -> None:
    """Prints what the figures depend on: the backend, the versions, the day. Kernels repeat to the
    bit from here on, so that results can be compared.
    """
    if keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    print(
        f"{keras.backend.backend()}, {datetime.now(UTC):%Y-%m-%d}, Python "
        f"{platform.python_version()}; {', '.join(found)}",
        flush=True,
    )


def leave(failures: Sequence[str]) -> None:
    """Ends the script: with an error only if the sides computed different things."""
    for failure in failures:
        print(f"NOT EQUAL: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)
