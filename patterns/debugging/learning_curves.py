"""`kp.learning_curve`: the score of a model against the number of examples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import whole_number
from .._util.display import Shown
from .._util.metrics import resolve_mode
from .._util.plots import given_or_new_axes
from .._util.progress import Progress, duration
from .._util.table import format_table, html_lines, html_table
from ..data import Permutation, split_validation
from ..data.rows import as_rows, count_examples, take
from ..data.streams import seeded, stream_words
from ..state.leftovers import Leftovers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALLER = "kp.learning_curve"
# Where none are given: halves of all examples, so many of them.
_SIZES = 5
# A gap above this fraction of the validation's score is one that more data can close.
_GAP = 0.2
# The purposes of random numbers.
_ORDER, _TRAINING = 1, 2


@dataclass(frozen=True, repr=False)
class LearningCurve:
    """The outcome of `kp.learning_curve`; to be printed, read and drawn.

    Attributes:
        sizes: The numbers of examples.
        training: The scores on the examples that each model was trained on, of shape
            `(sizes, repeats)`.
        validation: The scores on the examples that none was trained on, of that shape.
        metric: The metric.
        mode: `"min"` or `"max"`: whether less or more of it is better.
    """

    sizes: list[int]
    training: np.ndarray
    validation: np.ndarray
    metric: str
    mode: str

    @property
    def gap(self) -> float:
        """By how much the validation is worse than the training, with all examples."""
        return self._sign * float(np.mean(self.validation[-1]) - np.mean(self.training[-1]))

    @property
    def gain_per_doubling(self) -> float:
        """By how much the validation improves where the examples are doubled, by the last three
        sizes.
        """
        last = slice(-3, None)
        logarithms = np.log2(np.array(self.sizes, float)[last])
        return -self._sign * float(np.polyfit(logarithms, self.validation.mean(axis=1)[last], 1)[0])

    @property
    def verdict(self) -> str:
        """`"variance"` where the gap is above a fifth of the validation's score, and above two
        standard errors over the repeats; `"bias"` otherwise.
        """
        score = abs(float(np.mean(self.validation[-1])))
        repeats = self.validation.shape[1]
        error = (
            float(np.std(self.validation[-1], ddof=1)) / math.sqrt(repeats) if repeats > 1 else 0
        )
        return "variance" if self.gap > max(_GAP * score, 2 * error) else "bias"

    def __repr__(self) -> str:
        return f"{format_table(*self._table)}\n{self._words}"

    def _repr_html_(self) -> str:
        return html_table(*self._table) + html_lines(self._words)

    @property
    def _table(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [size, *(f"{float(np.mean(one)):.4g}" for one in pair)]
            for size, *pair in zip(self.sizes, self.training, self.validation, strict=True)
        ]
        return ["examples", self.metric, f"val_{self.metric}"], rows

    @property
    def _words(self) -> str:
        gain = f"Twice the examples would gain about {self.gain_per_doubling:.2g}."
        if self.verdict == "variance":
            return (
                f"Variance: with all examples the gap is {self.gap:.3g}. {gain} More data, "
                "augmentation or a penalty (kp.regularize) close it."
            )
        return (
            f"Bias: with all examples the gap is {self.gap:.3g}, so the two have met. {gain} "
            "Where the score is not good enough, try a larger net, more steps, better inputs."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws both scores against the number of examples, with the range over the repeats.

        Args:
            ax: The matplotlib axes to draw in. Defaults to None: those of a new figure.

        Returns:
            The axes; `.figure.savefig(path)` writes the picture to a file.

        Raises:
            ImportError: If matplotlib is missing.
        """
        axes: Any = given_or_new_axes("LearningCurve.plot", ax, (8, 4.6))
        parts = (
            ("training", self.training, "#2166ac"),
            ("validation", self.validation, "#d95f02"),
        )
        for name, scores, color in parts:
            axes.plot(self.sizes, scores.mean(axis=1), "o-", color=color, label=name)
            if scores.shape[1] > 1:
                low, high = scores.min(axis=1), scores.max(axis=1)
                axes.fill_between(self.sizes, low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(self.sizes, [f"{size:,}" for size in self.sizes])
        axes.minorticks_off()
        axes.set(xlabel="examples", ylabel=self.metric)
        axes.set_title(f"{self.verdict.capitalize()}: the gap is {self.gap:.3g}", fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.legend(frameon=False)
        return axes

    @property
    def _sign(self) -> float:
        return 1.0 if self.mode == "min" else -1.0


@_keras.quiet_arrays()
def learning_curve(
    build: Callable[[], keras.Model],
    x: Any,
    y: Any,
    sizes: Sequence[int] | None = None,
    *,
    metric: str = "loss",
    mode: str = "auto",
    validation_data: tuple[Any, Any] | None = None,
    validation_split: float = 0.2,
    repeats: int = 1,
    batch_size: int = 32,
    epochs: int = 10,
    seed: int = 0,
    verbose: int | str = "auto",
    **fit_arguments: Any,
) -> LearningCurve:
    """Trains a new model on more and more examples, and says whether more data would help.

    Each model is trained from the start by `model.fit`, on examples drawn at random, for as many
    steps as one on all of them, so that only their number differs. All of it is a function of the
    seed; the global random states are as before afterwards, however it ends.

    Args:
        build: Makes a new compiled model.
        x: Arrays of shape `(examples, ...)` in any structure.
        y: Targets.
        sizes: Numbers of examples, from few to many. Defaults to None: a sixteenth of all, an
            eighth, and so on to all that train.
        metric: The score, one of the names that `model.evaluate` gives. Defaults to `"loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the metric's name. Defaults to `"auto"`.
        validation_data: `(x, y)` to validate on. Defaults to None: a part of the examples, drawn at
            random.
        validation_split: The size of that part, as a fraction. Defaults to 0.2.
        repeats: Models for each size, each on other examples and from other weights. Defaults to 1.
        batch_size: Examples in a batch. Defaults to 32.
        epochs: Passes over all examples; over fewer there are more. Defaults to 10.
        seed: Of the draws, the initial weights and the order. Defaults to 0.
        verbose: 0 is silent; otherwise there is a progress bar. Defaults to `"auto"`.
        **fit_arguments: Further arguments of `model.fit`, such as `class_weight`.

    Returns:
        The scores, whether bias or variance keeps them, and a picture (`.plot()`).

    Raises:
        TypeError: If an argument is of the wrong type, or `build` makes no model.
        ValueError: If a number is out of range, or a model is not new, not compiled, or has no such
            metric.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> def build():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.SGD(0.05), "mse")
    ...     return model
    >>> x = np.random.default_rng(0).normal(size=(320, 4))
    >>> curve = kp.learning_curve(build, x, x[:, 0] * x[:, 1], sizes=[64, 256], verbose=0)
    >>> curve.verdict, curve.validation.shape
    ('bias', (2, 1))
    """
    for name, value in (("repeats", repeats), ("batch_size", batch_size), ("epochs", epochs)):
        whole_number(_CALLER, name, value)
    whole_number(_CALLER, "seed", seed, least=0)
    sign_mode = resolve_mode(_CALLER, metric, mode)
    x, y = as_rows(x, "x"), as_rows(y, "y")
    if validation_data is None:
        order = Permutation(count_examples(x=x, y=y), seed)
        (x, y, _), (*validation_data, _) = split_validation(
            *_rows(x, y, order(np.arange(count_examples(x=x)))), None, validation_split
        )
    wanted = _sizes(sizes, count_examples(x=x, y=y))
    steps = math.ceil(wanted[-1] / batch_size) * epochs
    training, validation = np.empty((2, len(wanted), repeats))
    shown, began, left = Shown(verbose), time.monotonic(), Leftovers()

    def progress(done: int) -> Progress:
        times = (duration(time.monotonic() - began),)
        return Progress("Learning curve", done, training.size, times)

    try:
        for number, (place, repeat) in enumerate(np.ndindex(training.shape)):
            if shown.is_due(time.monotonic()):
                shown.show(partial(progress, number))
            size = wanted[place]
            order = Permutation(count_examples(x=x), seed, stream=_ORDER + repeat)
            part = _rows(x, y, order(np.arange(size)))
            how = {"epochs": math.ceil(steps / math.ceil(size / batch_size)), **fit_arguments}
            with _alone(stream_words(seed, _TRAINING, place, repeat)):
                model = _new(build, left)
                with left.training(model, str(number)):
                    model.fit(*part, batch_size=batch_size, verbose=0, **how)
                training[place, repeat], validation[place, repeat] = (
                    _score(model, data, metric, batch_size) for data in (part, validation_data)
                )
        shown.finish(progress(training.size))
    finally:
        shown.close()
    return LearningCurve(wanted, training, validation, metric, sign_mode)


@contextmanager
def _alone(words: np.ndarray) -> Iterator[None]:
    """Within it, all global random states are a function of some words; after it they are as
    before.
    """
    with seeded(words), _keras.no_global_seed(), current().seeded(words):
        yield


def _new(build: Callable[[], keras.Model], left: Leftovers) -> keras.Model:
    model = build()
    if not isinstance(model, keras.Model):
        raise TypeError(f"{_CALLER}: `build` must make a Keras model. Received: {model!r}.")
    if not model.compiled:
        raise ValueError(f"{_CALLER}: `build` must compile the model that it makes.")
    found = left.find(model, "the next one")
    if found:
        raise ValueError(
            f"{_CALLER}: `build` must make a new model each time, and {found[0]!r} of "
            f"{model.name!r} is as a training before has left it. Make the model, its layers and "
            "its optimizer inside of `build`."
        )
    return model


def _score(model: keras.Model, data: Any, metric: str, batch_size: int) -> float:
    x, y = data
    found = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    if metric not in found:
        raise ValueError(f"{_CALLER}: the model has no metric {metric!r}. It has {sorted(found)}.")
    return float(found[metric])


def _rows(x: Any, y: Any, rows: np.ndarray) -> tuple[Any, Any]:
    x, y = (keras.tree.map_structure(lambda one: take(one, rows), part) for part in (x, y))
    return x, y


def _sizes(sizes: Sequence[int] | None, examples: int) -> list[int]:
    if sizes is None:
        halves = [examples >> power for power in reversed(range(_SIZES))]
        return sorted({max(1, size) for size in halves})
    found = [whole_number(_CALLER, "sizes", size) for size in sizes]
    if len(found) < 2 or found != sorted(set(found)) or found[-1] > examples:
        raise ValueError(
            f"{_CALLER}: `sizes` must be two numbers or more, each above the one before it, and at "
            f"most {examples:,}, the examples that train. Received: {sizes!r}."
        )
    return found
