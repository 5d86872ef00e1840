"""`kp.find_learning_rate`: the range test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import (
    Fuse,
    check_choice,
    check_fuse,
    check_number,
    check_order,
    whole_number,
)
from ..optimizers.finalization import finalized_once
from ..optimizers.rates import steps_made, swept, with_rates
from ..run.checks import check_model
from ..run.keras_fit import train_by_fit
from ..run.opening import RunArguments, open_run
from ..run.plan import StepPlan
from ..state import copy_values, find_variables, preserved, preserved_attributes
from .listener import SweepListener
from .sweep import LearningRateSweep

Spacing = Literal["exponential", "linear"]


@_keras.quiet_arrays()
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
    loss_key: str = "loss",
    batch_size: int | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    verbose: int | str = "auto",
    fuse: Fuse = False,
) -> LearningRateSweep:
    """Trains for a few steps at a rate that rises from step to step, and records the loss of each
    batch.

    Afterwards everything is as before, bit for bit, also if it is interrupted: weights, slots,
    counters, schedules, BatchNorm statistics, seeds, random states, metrics: all that Keras tracks.
    A model that was not built is built. A generator has given its batches, and a PyDataset with an
    `on_epoch_end` has been told of the passes: give the training a new one.

    Args:
        model: A compiled model; its rate may be a schedule, its optimizer one of several, its
            `train_step` its own, as long as that returns the loss. Where several optimizers have
            rates, the highest is swept and the others keep their ratio to it.
        x, y, batch_size, sample_weight, class_weight, shuffle: As in `kp.fit`.
        start_rate: The first rate. Defaults to 1e-7.
        stop_rate: The last one. Defaults to 10.
        steps: How many, at least 10. Defaults to 200.
        spacing: Whether the rates grow by a factor, `"exponential"`, or by a summand, `"linear"`.
            Defaults to `"exponential"`.
        smoothing: The share of the past in the moving average of the losses. Defaults to 0.9;
            fastai's 0.98 lags far behind.
        divergence: The sweep ends where the smoothed loss exceeds the lowest so far by `divergence
            - 1` times its size, or times the spread of the losses in the first tenth of the steps
            if that is more. That tenth does not count. Defaults to 4.
        loss_key: The name of the loss among what the model's `train_step` returns: `"d_loss"`, say,
            of a GAN. Defaults to `"loss"`.
        seed: Of the order of the data. Defaults to 0.
        verbose: Whether to show a progress bar: 0, 1 or `"auto"`, which is 1.
        fuse: As in `kp.fit`. A program of several steps wins back what it costs in sweeps of
            thousands of steps. Defaults to False.

    Returns:
        The sweep: `.suggest()`, `.suggestions()`, `.range()`, `.plot()`, `.apply(model)`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the model is not compiled, or its `train_step` returns
            no such loss; the error lists the names there are.
        kp.DataExhaustedError: If the data end before the sweep does.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> sweep = kp.find_learning_rate(model, x, x.sum(1), verbose=0)
    >>> 1e-4 < sweep.suggest("valley") < 1
    True

    References:
        L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017,
            arXiv:1506.01186, section 3.3.
        S. Gugger, "How Do You Find A Good Learning Rate", 2018.
    """
    where = "find_learning_rate"
    check_model(where, model)
    rates = _rates(where, start_rate, stop_rate, steps, spacing)
    check_number(where, "smoothing", smoothing, below=1.0)
    check_number(where, "divergence", divergence, least=1.0)
    if not isinstance(loss_key, str):
        raise TypeError(f"{where}: `loss_key` must be a name. Received: {loss_key!r}.")
    check_fuse(where, fuse)
    listener = SweepListener(rates, smoothing, divergence, verbose != 0)
    asked = RunArguments(
        caller=where,
        model=model,
        data={
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "class_weight": class_weight,
        },
        make_plan=lambda source: StepPlan(len(rates), len(rates)),
        callbacks=[listener],
        seed=seed,
        verbose=0,
        data_must_last=True,
    )
    with preserved_attributes(model), closing(listener), ExitStack() as until_end:
        driver, start = open_run(asked, until_end)
        driver.data.is_fed = True
        driver.data.open_at(0, len(rates))
        current().build(model, driver.data.samples[0])
        current().prepare(model)
        _check_built(model)
        optimizers = _stepping(model, driver.data.samples)
        with preserved(model), _measured(model, optimizers, rates, listener, loss_key):
            history = train_by_fit(driver, start, verbose, fuse, each_log=True)
        listener.read_rest()
    return listener.result(tuple(optimizers), history.ways)


def _rates(where: str, start: float, stop: float, steps: int, spacing: str) -> np.ndarray:
    steps = whole_number(where, "steps", steps, least=10)
    check_choice(where, "spacing", spacing, get_args(Spacing))
    for name, rate in (("start_rate", start), ("stop_rate", stop)):
        # In single precision, as the optimizers have it.
        check_number(
            where,
            name,
            rate,
            above=float(np.finfo(np.float32).tiny),
            below=float(np.finfo(np.float32).max),
        )
    check_order(where, "start_rate", start, "stop_rate", stop)
    return (
        np.geomspace(start, stop, steps)
        if spacing == "exponential"
        else np.linspace(start, stop, steps)
    )


def _stepping(model: keras.Model, samples: Any) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers that `train_step` uses: where it has some of its own, `model.optimizer` may be
    one that nobody asked for.
    """
    optimizers = with_rates(model)
    if all(place.split("/")[0] == "optimizer" for place in optimizers):
        return optimizers
    before = {place: steps_made(one) for place, one in optimizers.items()}
    with preserved(model), finalized_once(model):
        model.fit(
            current().feed(iter(samples[:1]), samples[:1], False, model),
            steps_per_epoch=1,
            verbose=0,
            shuffle=False,
        )
        return {
            place: one for place, one in optimizers.items() if steps_made(one) > before[place]
        } or optimizers


@contextmanager
def _measured(
    model: keras.Model,
    optimizers: dict[str, keras.optimizers.Optimizer],
    rates: np.ndarray,
    listener: SweepListener,
    loss_key: str,
) -> Iterator[None]:
    """Within it, each step has its own rate, and gives the loss of its batch alone."""
    _keras.recompile_step(model)
    model.steps_per_execution = 1
    model.reset_metrics()
    metrics = find_variables(model).of("metric")
    fresh = copy_values(metrics)
    first = next(iter(optimizers.values()))
    listener.start_step = steps_made(first)
    with swept(optimizers, rates):
        step = current().measured_step(
            model, [(metrics[key], fresh[key]) for key in metrics], _keras.steps_of(first), loss_key
        )
        with _keras.replaced(model, "train_step", step):
            yield


def _check_built(model: keras.Model) -> None:
    """Raises if an optimizer would build itself in the sweep: it could not be made as before."""
    for place, optimizer in find_variables(model).optimizers.items():
        if place.split("/")[0] != "optimizer" and not optimizer.built:
            raise ValueError(
                f"find_learning_rate: the optimizer at {place!r} of {model.name!r} is not built "
                "yet, and could not be put back as "
                "it is. Call its build(variables) first, with the variables that it trains."
            )
