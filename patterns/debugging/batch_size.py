"""`kp.probe_batch_size`: a batch size from speed, noise and memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, get_args

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import check_choice, whole_number
from ..data import data_parts
from ..state import preserved, preserved_attributes
from ..state.compiled import check_compiled
from .batch_size_loss import LossPlan, RateRule, SizeLoss, measure_losses
from .batch_size_memory import find_largest
from .batch_size_noise import measure_noise
from .batch_size_report import BatchSizeReport
from .batch_size_rows import Rows, rows_of
from .batch_size_speed import measure_speeds, timed_steps

_CALLER = "probe_batch_size"
_LARGEST_DEFAULT = 1024
_MICRO_BATCH = 32
_DEFAULT_PARTS = ("noise", "memory")
_PARTS = (*_DEFAULT_PARTS, "loss")
# Of the examples, held out where no validation data are given.
_HELD_OUT = 0.2
_MEBIBYTE = 2**20


@_keras.quiet_arrays()
def probe_batch_size(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    sizes: Iterable[int] | None = None,
    rounds: int = 5,
    measure: Collection[str] = _DEFAULT_PARTS,
    micro_batch_size: int | None = None,
    validation_data: Any = None,
    loss_examples: int | None = None,
    loss_seeds: int = 3,
    rate_rule: RateRule = "kept",
    memory_limit: int = 512 * _MEBIBYTE,
    seed: int = 0,
) -> BatchSizeReport:
    """Times batches of several sizes, estimates the gradient noise scale, looks for the largest
    size that fits, and recommends one.

    Afterwards everything is as before, bit for bit, also if it is interrupted or raises. A model
    that was not built is built. The noise scale is that of the weights of now; it grows during
    training, so a probe at initial weights gives a low one. It takes 40 gradients.

    On a CPU, memory is never probed to the limit in this process: a child process makes the model
    from its configuration and trains it in batches that double, until it is refused memory or dies.
    Where the model cannot be made there, the report has an estimate and says so. On other devices
    sizes double in this process until one is refused.

    Args:
        model: A compiled model. Speed is that of its `train_step`; the gradients are those of the
            loss that it is compiled with.
        x, y, sample_weight: As in `kp.fit`, but arrays only.
        sizes: Batch sizes to time, at most the number of examples. Defaults to None: powers of two
            up to 1024, or the size that the model's inputs fix.
        rounds: How often each size is timed. Defaults to 5.
        measure: Beside the speed, any of `"noise"`, `"memory"` and `"loss"`: the validation loss
            of each size after the same number of examples, which trains sizes times seeds times.
            Defaults to the first two.
        micro_batch_size: Examples in each gradient for the noise scale. Defaults to None: 32, or
            fewer where there are few examples.
        validation_data: For `"loss"`, arrays as in `kp.fit`. Defaults to None: a fifth of the
            examples, drawn at random and left out of that training.
        loss_examples: For `"loss"`, the examples of a run, cut to whole steps of the largest size.
            Defaults to None: one pass over those that are trained on.
        loss_seeds: For `"loss"`, runs of each size, which differ in the order of the examples and
            begin with the weights of now. Defaults to 3.
        rate_rule: For `"loss"`, what becomes of the learning rate, which is meant for a size of 32:
            `"kept"`; `"linear"`, times size / 32; or `"sqrt"`, times its square root. Defaults to
            `"kept"`.
        memory_limit: Bytes that training may take on a CPU beside what the process has after its
            start. Defaults to 512 MiB.
        seed: Of the draws of examples and of the order of the sizes. Defaults to 0.

    Returns:
        The report: `.recommended`, `.recommendation`, `.speeds`, `.noise`, `.largest`, `.losses`,
        `.plot()`.

    Raises:
        TypeError: If an argument is of the wrong type, or the data are no arrays.
        ValueError: If one is out of range, the model is not compiled, has no loss for its noise
            scale, or not even the smallest size fits.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> report = kp.probe_batch_size(model, x, x.sum(1), sizes=[16, 64], measure=["noise"])
    >>> report.recommended in (16, 64), report.noise.critical_batch_size > 0
    (True, True)

    References:
        S. McCandlish, J. Kaplan, D. Amodei, "An Empirical Model of Large-Batch Training", 2018,
            arXiv:1812.06162, section 2 and appendix A.1.
        E. C. Fieller, "Some Problems in Interval Estimation", Journal of the Royal Statistical
            Society B 16 (1954), 175-185.
    """
    check_compiled(_CALLER, model)
    parts = _parts(measure)
    if "noise" in parts:
        _check_loss(model)
    rounds = whole_number(_CALLER, "rounds", rounds)
    seed = whole_number(_CALLER, "seed", seed, least=0)
    limit = whole_number(_CALLER, "memory_limit", memory_limit)
    rows = rows_of(_CALLER, x, y, sample_weight)
    fixed = _fixed_size(model)
    timed = _sizes(sizes, rows, fixed)
    check_choice(_CALLER, "rate_rule", rate_rule, get_args(RateRule))
    loss_seeds = whole_number(_CALLER, "loss_seeds", loss_seeds)
    plan = None
    if "loss" in parts:
        train, held_out = _held_out(rows, validation_data, fixed, seed)
        wanted = train.examples
        if loss_examples is not None:
            wanted = whole_number(_CALLER, "loss_examples", loss_examples)
        plan = LossPlan(train, held_out, wanted, loss_seeds, rate_rule, seed)
    micro = fixed or min(_MICRO_BATCH, rows.examples)
    if micro_batch_size is not None:
        micro = whole_number(_CALLER, "micro_batch_size", micro_batch_size)
    with preserved_attributes(model):
        current().build(model, rows.step_batch(timed[0]))
        current().prepare(model)
        with preserved(model):
            noise = measure_noise(model, rows, micro, seed) if "noise" in parts else None
        with preserved(model), timed_steps(model, rows) as timer:
            speeds = measure_speeds(timer, timed, rounds, seed)
            searched = "memory" in parts and not fixed
            largest = find_largest(model, rows, timer, limit) if searched else None
        losses: tuple[SizeLoss, ...] = ()
        if plan:
            # From the weights of now, which the timing has moved.
            with preserved(model), timed_steps(model, rows):
                losses = measure_losses(model, plan, [one.size for one in speeds])
    return BatchSizeReport(speeds, noise, largest, rows.examples, losses)


def _held_out(rows: Rows, validation_data: Any, fixed: int, seed: int) -> tuple[Rows, Rows]:
    """The examples that are trained on, and those that are not."""
    if validation_data is not None:
        x, y, weight = (*data_parts("validation_data", validation_data), None, None)[:3]
        return rows, rows_of(_CALLER, x, y, weight)
    order = np.random.default_rng(seed).permutation(rows.examples)
    held = int(rows.examples * _HELD_OUT)
    # A model with a fixed size takes whole batches only.
    held -= held % (fixed or 1)
    if not held:
        raise ValueError(
            f"{_CALLER}: of {rows.examples} examples none can be held out for the loss. Give "
            "validation_data=, or more examples."
        )
    return rows.at(order[held:]), rows.at(order[:held])


def _check_loss(model: keras.Model) -> None:
    """Raises if only the model's `train_step` knows its loss."""
    own = getattr(type(model), "compute_loss", None) is not keras.Model.compute_loss
    if getattr(model, "loss", None) is None and not model.losses and not own:
        raise ValueError(
            f"{_CALLER}: {model.name!r} is compiled without a loss, so its gradients cannot be "
            "had for the noise scale. Compile it with a loss, give it a compute_loss, or leave "
            'the noise out: measure=["memory"].'
        )


def _parts(measure: Any) -> set[str]:
    if isinstance(measure, str) or not isinstance(measure, Collection):
        raise TypeError(f"{_CALLER}: `measure` must be a list of names. Received: {measure!r}.")
    for part in measure:
        check_choice(_CALLER, "measure", part, _PARTS)
    return set(measure)


def _fixed_size(model: keras.Model) -> int:
    """The batch size that the model's inputs fix; 0 if none does."""
    shapes = [one.shape for one in getattr(model, "inputs", None) or []]
    return next((int(shape[0]) for shape in shapes if shape and shape[0] is not None), 0)


def _sizes(sizes: Iterable[int] | None, rows: Rows, fixed: int) -> list[int]:
    """The sizes to time, the smallest first."""
    if sizes is None:
        most = min(rows.examples, _LARGEST_DEFAULT)
        return [fixed] if fixed else [2**power for power in range(most.bit_length())]
    found = sorted({whole_number(_CALLER, "sizes", size) for size in sizes})
    if not found or found[-1] > rows.examples or (fixed and found != [fixed]):
        wanted = f"{fixed}, which its inputs fix" if fixed else "up to the number of examples"
        raise ValueError(
            f"{_CALLER}: `sizes` must be batch sizes, {wanted}. Received: {found} for "
            f"{rows.examples:,} examples."
        )
    return found
