"""Examples per second over batch sizes, and the largest that a device can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import perf_counter

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .batch_size_rows import Rows

# A timing is of so many seconds, or of so many steps.
_SECONDS, _MOST_STEPS = 0.05, 200


@dataclass(frozen=True)
class Speed:
    """The speed of training at one batch size.

    Attributes:
        size: Examples in a batch.
        rates: Examples per second in each round, of shape `(rounds,)`.
        peak_bytes: The most memory that the device had in use until after its first step; None
            where the device does not say, as a CPU.
    """

    size: int
    rates: np.ndarray
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        """Examples per second."""
        return float(np.median(self.rates))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the rounds lie between these."""
        low, high = np.quantile(self.rates, (0.25, 0.75))
        return float(low), float(high)


class StepTimer:
    """Times the train steps of a model.

    Args:
        model: With its train function, inside `preserved`.
        rows: From which the batches come.
    """

    def __init__(self, model: keras.Model, rows: Rows) -> None:
        self._model = model
        self._rows = rows

    def seconds(self, size: int, steps: int = 1) -> float:
        """The time of some steps, the making of the batch apart."""
        batch = self._rows.step_batch(size)
        with closing(current().feed(iter([batch] * steps), [batch], False, self._model)) as data:
            start = perf_counter()
            logs = current().run_function(self._model, self._model.train_function, data, steps)
            # The step has ended when what it gives can be read.
            _keras.plain_logs(logs)
            end = perf_counter()
        current().sync(self._model)
        return end - start

    def fits(self, size: int) -> bool:
        """False if the device has no memory for a step of this size."""
        try:
            self.seconds(size)
        except Exception as error:
            if not current().is_out_of_memory(error):
                raise
            return False
        return True


@contextmanager
def timed_steps(model: keras.Model, rows: Rows) -> Iterator[StepTimer]:
    """Makes a train function of single steps. It belongs inside `preserved`."""
    model.steps_per_execution = 1
    _keras.recompile_step(model)
    model.make_train_function()
    model.reset_metrics()
    yield StepTimer(model, rows)


def measure_speeds(
    timer: StepTimer, sizes: Sequence[int], rounds: int, seed: int
) -> tuple[Speed, ...]:
    """Times every size once a round, in an order drawn anew, so that what slows the machine for a
    while strikes all of them. Sizes from the first that does not fit on are left out.
    """
    peaks = _peaks(timer, sizes)
    fitting = list(peaks)
    steps = {}
    for size in fitting:
        # The first step of a size is also compiled; it is over.
        steps[size] = int(np.clip(_SECONDS / timer.seconds(size), 1, _MOST_STEPS))
    rates: dict[int, list[float]] = {size: [] for size in fitting}
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        for size in rng.permutation(fitting).tolist():
            rates[size].append(size * steps[size] / timer.seconds(size, steps[size]))
    return tuple(Speed(size, np.array(found), peaks[size]) for size, found in rates.items())


def _peaks(timer: StepTimer, sizes: Sequence[int]) -> dict[int, int | None]:
    """The memory after a first step of each size that fits. Sizes grow, and so the peak does."""
    found: dict[int, int | None] = {}
    for size in sizes:
        if not timer.fits(size):
            break
        found[size] = current().peak_memory()
    if not found:
        raise ValueError(
            f"probe_batch_size: not even a batch of {sizes[0]} fits into the memory of "
            f"{current().device()}. Give smaller `sizes`, or a smaller model."
        )
    return found
