"""`kp.memorize`: training until every example of a table is within a tolerance."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import check_number, whole_number
from ..run.checks import check_model, flat_callbacks
from ..run.fitting import fit
from ..run.hooks import Hook
from ..run.requests import Boundary, Stop
from .certificate import MemorizationReport, certify
from .errors import ErrorFunction, Table

_CALLER = "kp.memorize"
# Of `kp.fit`, where nothing is given: so many steps, and as many epochs, at whose ends it looks.
_STEPS, _EPOCHS = 20_000, 200
_LENGTHS = ("total_steps", "epochs", "steps_per_epoch", "plan")
_VALIDATION = (
    *("validation_data", "validation_split", "validation_steps", "validation_batch_size"),
    *("validation_freq", "validate_every_steps"),
)


@_keras.quiet_arrays()
def memorize(
    model: keras.Model,
    x: Any,
    y: Any,
    tolerance: float,
    *,
    relative: bool = False,
    error: ErrorFunction | None = None,
    batch_size: int = 32,
    callbacks: Any = None,
    **fit_arguments: Any,
) -> MemorizationReport:
    """Trains a model until its largest error over all examples is within a tolerance: overfitting
    on purpose.

    It is for a table that covers its domain and is exact: a solution of an equation, the outputs of
    another net, a formula. There is nothing beyond the table to generalise to, so nothing is held
    out, and regularisation is in the way. A net stands in for the table between its points as well
    as those lie densely; look there too.

    It trains by `kp.fit`, which a `kp.Checkpoint` among the callbacks saves and resumes, and the
    optimizer's schedules are followed. At the end of each epoch, which is an interval of so many
    steps, the largest error is computed, stands in the logs as `"largest_error"`, and ends the
    training where it is within the tolerance. `kp.plot_history(report.history, "largest_error")`
    draws it; a `kp.EarlyStopping("largest_error")` gives up where it stands still.

    A largest error falls more slowly than a mean one: a rate that falls to nothing, such as that of
    `kp.schedules.OneCycle`, large batches and smooth activations help.

    An error, or Ctrl-C, leaves the model as its last whole step has left it. A second Ctrl-C does
    not wait for that step.

    Args:
        model: A compiled model.
        x: Inputs: arrays, in any structure, as in `kp.fit`.
        y: Targets, of the shapes of the outputs.
        tolerance: The largest difference between an output and its target that is allowed, in
            inference, in the unit of the targets. At least 0.
        relative: Whether `tolerance` is a fraction of the range of each array of targets, the
            highest number in it less the lowest. Defaults to False.
        error: In place of the absolute difference, a function of the targets and the outputs of
            some examples, as NumPy arrays in their structures, that gives an error for each, at
            least 0; such as `lambda y, p: p.argmax(1) != y` for classes, with a tolerance of 0.
            Defaults to None.
        batch_size: Examples in a batch, here and where errors are computed. Defaults to 32.
        callbacks: As in `kp.fit`.
        **fit_arguments: Further arguments of `kp.fit`, but for those of the validation. Where none
            says how long, there are at most 20,000 steps in 200 epochs.

    Returns:
        The largest error at the end, whether it is within the tolerance, and if not, by how much
        and where. To be printed, and to be saved as a certificate.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, a target is not finite, its shape is not that
            of the output, there is a validation, or `error` gives no error for each example, or one
            below 0.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.linspace(-1, 1, 9).reshape(-1, 1)
    >>> report = kp.memorize(model, x, 2 * x + 1, tolerance=1e-3, seed=0, verbose=0)
    >>> report.within, report.largest_error < 1e-3
    (True, True)
    >>> short = kp.memorize(model, x, x**2, tolerance=0.1, total_steps=200, epochs=2, seed=0,
    ...     verbose=0)
    >>> print(repr(short).split(",")[0])
    Fell short: the largest error over all 9 examples is 0.583

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4, "Useful Overfitting".
    """
    tolerance = check_number(_CALLER, "tolerance", tolerance)
    size = whole_number(_CALLER, "batch_size", batch_size)
    for name in _VALIDATION:
        if fit_arguments.get(name):
            raise ValueError(
                f"{_CALLER}: `{name}` has no place here: all examples are to be memorised, and "
                "the error is computed over all of them. Leave it out, or call kp.fit."
            )
    check_model(_CALLER, model, obeys_limits=True)
    table = Table(_CALLER, x, y, relative, error)
    table.check_shapes(model, size)
    if all(fit_arguments.get(name) is None for name in _LENGTHS):
        fit_arguments |= {"total_steps": _STEPS, "epochs": _EPOCHS}
    check = LargestErrorCheck(table, tolerance, size)
    try:
        with check.interrupted_between_steps():
            history = fit(
                model,
                x,
                y,
                batch_size=size,
                callbacks=[check, *flat_callbacks(_CALLER, callbacks)],
                **fit_arguments,
            )
    finally:
        current().sync(model)
    return certify(
        model,
        table,
        tolerance=tolerance,
        relative=relative,
        size=size,
        history=history,
        steps=max(history.epoch_end_steps, default=0),
    )


class LargestErrorCheck(Hook):
    """Computes the largest error at the ends of epochs, and stops where it is small enough.

    Args:
        table: What is memorised.
        tolerance: The largest error that is allowed.
        size: Examples that are computed at once.
    """

    def __init__(self, table: Table, tolerance: float, size: int) -> None:
        super().__init__()
        self._table = table
        self._tolerance = tolerance
        self._size = size
        self._is_interrupted = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the largest error to the logs, in which callbacks after it find it."""
        if logs is not None:
            current().sync(self.model)
            logs["largest_error"] = float(np.max(self._table.errors(self.model, self._size)))
        super().on_epoch_end(epoch, logs)

    def on_boundary(self, boundary: Boundary) -> Stop | None:
        """Stops at the end of an epoch if no error is too large, or nothing can make it smaller."""
        if boundary.epoch is None:
            return None
        found = boundary.logs["largest_error"]
        if found <= self._tolerance:
            return Stop(f"memorised: the largest error is {found:.3g}")
        return None if np.isfinite(found) else Stop("an output is not finite")

    def get_state(self) -> dict[str, Any]:
        """Nothing: what it says of a step is read off the weights."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing."""

    def on_step_logs(self, logs: Mapping[str, Any]) -> None:
        """Ends the run after a step if it was interrupted in it."""
        if self._is_interrupted:
            raise KeyboardInterrupt

    @contextmanager
    def interrupted_between_steps(self) -> Iterator[None]:
        """Within it, the first Ctrl-C waits for the end of the step. A `kp.Checkpoint` in the run
        takes it instead.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            # None says that it was not set from Python.
            signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if self._is_interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        self._is_interrupted = True
