"""`kp.find_learning_rate`: the range test."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_patterns.backends import current

from .._arguments import whole_number
from ..data import make_source
from ..driver.checks import check_model
from ..driver.finalization import finalized_once
from ..driver.recorded import Recorded
from ..driver.streams import generator_stream
from ..schedules.base import check_choice, check_order, check_rate
from ..state.snapshot import copy_values
from ..state.tree import find_variables
from .optimizers import swept
from .sweep import SETTLING, LearningRateSweep
from .untouched import untouched

Spacing = Literal["exponential", "linear"]

# A loss is read so many steps after it was computed, when it lies ready: nothing waits for the device.
_BEHIND = 4
# By so many steps, one lucky batch at the start no longer makes the average.
_LEAST_SETTLING = 5


def find_learning_rate(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    start_rate: float = 1e-7,
    stop_rate: float = 10.0,
    steps: int = 200,
    spacing: Spacing = "exponential",
    smoothing: float = 0.9,
    divergence: float = 4.0,
    batch_size: int | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    verbose: int | str = "auto",
) -> LearningRateSweep:
    """Trains for a few steps at a rate that rises from step to step, and records the loss of each batch.

    Afterwards everything is as before, bit for bit, also if it is interrupted: weights, slots, counters, schedules, BatchNorm
    statistics, seeds, random states, metrics. A model that was not built is built. A generator has given its batches: give the
    training a new one.

    Args:
        model: A compiled model; its rate may be a schedule, its optimizer one of several, its `train_step` its own, as long as that
            returns a `"loss"`. Where several optimizers have rates, the highest is swept and the others keep their ratio to it.
        x, y, batch_size, sample_weight, class_weight, shuffle: As in `kp.fit`.
        start_rate: The first rate. Defaults to 1e-7.
        stop_rate: The last one. Defaults to 10.
        steps: How many, at least 10. Defaults to 200.
        spacing: Whether the rates grow by a factor, `"exponential"`, or by a summand, `"linear"`. Defaults to `"exponential"`.
        smoothing: The share of the past in the moving average of the losses. Defaults to 0.9; fastai's 0.98 lags far behind.
        divergence: The sweep ends where the smoothed loss exceeds the lowest so far by `divergence - 1` times its size. The first
            tenth of the steps, in which the average settles, does not count. Defaults to 4.
        seed: Of the order of the data. Defaults to 0.
        verbose: Whether to show a progress bar: 0, 1 or `"auto"`, which is 1.

    Returns:
        The sweep: `.suggest()`, `.suggestions()`, `.range()`, `.plot()`, `.apply(model)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the model is not compiled, or its `train_step` returns no loss.
        kp.DataExhausted: If the data end before the sweep does.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> sweep = kp.find_learning_rate(model, x, x.sum(1), verbose=0)
    >>> 1e-4 < sweep.suggest("valley") < 1
    True

    References:
        L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, arXiv:1506.01186, section 3.3.
        S. Gugger, "How Do You Find A Good Learning Rate", 2018.
    """
    where = "find_learning_rate"
    check_model(where, model)
    rates = _rates(where, start_rate, stop_rate, steps, spacing)
    check_rate(where, "smoothing", smoothing, below=1.0)
    check_rate(where, "divergence", divergence, least=1.0)
    source = make_source(
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        shuffle=shuffle,
        class_weight=class_weight,
        seed=whole_number(where, "seed", seed, least=0),
        stream=generator_stream(x, None),
        verbose=False,
    )
    listener = _Listener(rates, smoothing, divergence, verbose != 0)
    with closing(Recorded(source.batches(0), source.for_train_step)) as batches:
        samples = batches.peek(2)
        current().build(model, samples[0])
        current().prepare(model)
        _check_built(model)
        with untouched(model):
            _sweep(model, rates, listener, itertools.islice(batches, len(rates)), samples, batches, source.thread_safe)
    return listener.result()


def _rates(where: str, start: float, stop: float, steps: int, spacing: str) -> np.ndarray:
    steps = whole_number(where, "steps", steps, least=10)
    check_choice(where, "spacing", spacing, get_args(Spacing))
    for name, rate in (("start_rate", start), ("stop_rate", stop)):
        check_rate(where, name, rate)
        check_order(where, "0", 0, name, rate)
    check_order(where, "start_rate", start, "stop_rate", stop)
    return np.geomspace(start, stop, steps) if spacing == "exponential" else np.linspace(start, stop, steps)


def _sweep(
    model: keras.Model, rates: np.ndarray, listener: _Listener, feed: Any, samples: Any, batches: Recorded, ahead: bool
) -> None:
    model.train_function, model.steps_per_execution = None, 1
    model.reset_metrics()
    metrics = find_variables(model).of("metric")
    fresh = copy_values(metrics)
    with swept(model, rates) as clock, finalized_once(model), batches.errors_first():
        listener.begin(model, int(keras.ops.convert_to_numpy(clock.value)))
        step = current().measured_step(model, [(metrics[key], fresh[key]) for key in metrics], clock)
        # Not through Keras, which would track it.
        vars(model)["train_step"] = step
        try:
            data = current().feed(feed, samples, ahead)
            model.fit(data, steps_per_epoch=len(rates), callbacks=listener, verbose=0, shuffle=False)
            listener.take_rest()
        except _Enough:
            pass
        finally:
            del vars(model)["train_step"]


def _check_built(model: keras.Model) -> None:
    """Raises if an optimizer would build itself in the sweep: it could not be made as before."""
    for place, optimizer in find_variables(model).optimizers.items():
        if place.split("/")[0] != "optimizer" and not optimizer.built:
            raise ValueError(
                f"find_learning_rate: the optimizer at {place!r} of {model.name!r} is not built yet, and could not be put back as "
                "it is. Call its build(variables) first, with the variables that it trains."
            )


class _Enough(Exception):
    """Leaves `model.fit`."""


class _Listener(keras.callbacks.CallbackList):
    """Takes the place of the callbacks, and gets the logs before Keras reads them."""

    def __init__(self, rates: np.ndarray, smoothing: float, divergence: float, shows: bool) -> None:
        # The History is what `fit` returns.
        super().__init__([], add_history=True, add_progbar=False)
        self._rates, self._smoothing, self._divergence = rates, smoothing, divergence
        self._waiting: deque[dict[str, Any]] = deque()
        self._indices: list[int] = []
        self._losses: list[float] = []
        self._begun, self._mean, self._best = 0, 0.0, np.inf
        self._ended = "all steps were made"
        self._bar = keras.utils.Progbar(len(rates), stateful_metrics=["learning_rate", "loss"]) if shows else None

    def begin(self, model: keras.Model, step: int) -> None:
        """Says which model is swept, and where its counter of steps stands."""
        self.set_model(model)
        self._begun = step

    def on_train_begin(self, logs: Any = None) -> None:
        # Without Keras's threads, which end with on_train_end only.
        for callback in self.callbacks:
            callback.on_train_begin()

    def on_train_end(self, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._waiting.append(logs)
        if len(self._waiting) > _BEHIND:
            self._take(self._waiting.popleft())

    def take_rest(self) -> None:
        """Reads what is left."""
        while self._waiting:
            self._take(self._waiting.popleft())

    def result(self) -> LearningRateSweep:
        """The sweep. Steps whose update was left out, because its gradients overflowed, share a rate, and so their mean loss."""
        indices = np.array(self._indices)
        found = np.unique(indices)
        losses = np.array([np.mean(np.array(self._losses)[indices == index]) for index in found])
        return LearningRateSweep(self._rates[found], losses, len(self._rates), self._ended, self._smoothing)

    def _take(self, logs: Mapping[str, Any]) -> None:
        loss = float(keras.ops.convert_to_numpy(logs["loss"]))
        if not np.isfinite(loss):
            self._end("the loss was not finite")
        index = int(keras.ops.convert_to_numpy(logs["step"])) - self._begun
        self._indices.append(index)
        self._losses.append(loss)
        count = len(self._losses)
        if self._bar:
            last = count == len(self._rates)
            self._bar.update(count, [("learning_rate", float(self._rates[index])), ("loss", loss)], finalize=last)
        self._mean = self._smoothing * self._mean + (1 - self._smoothing) * loss
        if count < max(_LEAST_SETTLING, len(self._rates) // SETTLING):
            return
        smoothed = self._mean / (1 - self._smoothing**count)
        self._best = min(self._best, smoothed)
        if smoothed > self._best + (self._divergence - 1) * abs(self._best):
            self._end("the loss diverged")

    def _end(self, why: str) -> None:
        self._ended = why
        if self._bar:
            print(flush=True)
        raise _Enough
