"""`kp.fine_tune`: the head of a pretrained model first, and then everything."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from .. import _keras
from .._util.arguments import check_number, whole_number
from .._util.deprecated import renamed_keywords
from ..optimizers import groups_below, with_layer_rates, with_momentum
from ..optimizers.where import Selection, Where, describe, nodes_of, select
from ..run.checks import check_model
from ..run.fitting import fit
from ..schedules import Join, OneCycle, OneCycleMomentum, Schedule
from .freezing import GradualUnfreeze, Trained

_WHERE = "kp.fine_tune"
# Of the head's cycle, in fastai: its rate rises almost to the end.
_HEAD_WARMUP_FRACTION, _HEAD_DIV_FACTOR = 0.99, 25.0

# For each optimizer that was made here, the one with which the model was compiled.
_COMPILED: weakref.WeakKeyDictionary[keras.optimizers.Optimizer, keras.optimizers.Optimizer] = (
    weakref.WeakKeyDictionary()
)


@renamed_keywords(pct_start="warmup_fraction")
@_keras.quiet_arrays()
def fine_tune(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    head_steps: int,
    all_steps: int,
    base_rate: float = 2e-3,
    head: Where = -1,
    lowest: float = 0.01,
    groups: int | Sequence[Where] | None = None,
    warmup_fraction: float = 0.3,
    div_factor: float = 5.0,
    batch_norm: str = "frozen",
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
    **arguments: Any,
) -> keras.callbacks.History:
    """Trains the head of a pretrained model alone, and then everything, each in one cycle of rate
    and momentum.

    This is the recipe of fastai's `fine_tune`, with its rates and momenta at every step, as one run
    of `kp.fit`: with a `kp.Checkpoint` among the callbacks it can be killed in either part, and
    goes on exactly.

    | steps | trained | rate of the head | momentum |
    | --- | --- | --- | --- |
    | `head_steps` | the head | from `base_rate / 25` to `base_rate` | 0.95 down to 0.85 |
    | `all_steps` | everything | up to `base_rate / 2`, and down | 0.95, 0.85, 0.95 |

    The rate of the head alone rises in 99 % of its steps; with everything trained it begins at
    `base_rate / 2 / div_factor`. The first layers then have `lowest` times the rate of the head,
    and those between rise in equal ratios.

    The model keeps its loss and its metrics. Its optimizer is replaced by a new one of the same
    class and settings (weight decay, clipping, ...) that has these rates and momenta: the rate it
    was compiled with does not count, and what it has gathered is left behind. SGD and RMSprop have
    a momentum here also if they were compiled without. The new one stays afterwards, at the end of
    its schedules: compile the model, to train it otherwise. What is thawed stays thawed.

    In two things fastai differs: it trains the BatchNormalization layers of the frozen part, too,
    at a tenth of the rate (see `batch_norm`), and forgets what the optimizer knows of the head when
    it thaws the rest. Steps that a LossScaleOptimizer skips do not move the schedules, as in Keras;
    the rest is thawed after `head_steps` steps all the same.

    Args:
        model: A built, compiled model, with its new head (see `kp.replace_head`).
        x, y: As in `kp.fit`.
        head_steps: Optimizer steps of the head alone.
        all_steps: Optimizer steps of everything after that.
        base_rate: The highest rate of the head alone; with everything trained, half of it is.
            `kp.find_learning_rate` finds one. Defaults to 0.002.
        head: What is trained from the start; see `kp.freeze` for what can stand here. What of it is
            frozen stays so; all else is frozen, whatever it was before, and thawed later. Defaults
            to -1: the last layer with weights.
        lowest: The rate of the first group over that of the head, in (0, 1]. Defaults to 0.01.
        groups: As in `kp.optimizers.with_layer_rates`, the head in the last one. Defaults to None:
            each depth below the head, and the head.
        warmup_fraction: The fraction of `all_steps` in which the rate rises. Defaults to 0.3.
        div_factor: With everything trained, the highest rate over the first. Defaults to 5.
        batch_norm: What the BatchNormalization layers outside the head do until they are thawed:
            `"frozen"`, they run in inference mode; `"adapt"`, their statistics follow the data.
            Defaults to `"frozen"`.
        callbacks: As in `kp.fit`.
        **arguments: The others of `kp.fit`, but for `total_steps` and `plan`. `epochs` or
            `steps_per_epoch` says how the steps are reported; by default once in a pass over the
            data.

    Returns:
        The `History` of the whole run; its `events` have the step at which the rest was thawed.

    Raises:
        TypeError: If an argument is of the wrong type, or the optimizer has no momentum that can
            follow a schedule: it must be Keras's own SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Lamb
            or Lion, alone or in a LossScaleOptimizer.
        ValueError: If an argument is out of range, the model is not built or not compiled or
            compiled with a schedule, `head` is nothing, everything or frozen, or the callbacks thaw
            too. Until it trains, whatever raises changes nothing.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> body = [keras.layers.Dense(4, "relu", name=name) for name in ("stem", "body")]
    >>> model = keras.Sequential([keras.Input((3,)), *body, keras.layers.Dense(1, name="head")])
    >>> model.compile("adamw", "mse")
    >>> x, y = np.ones((32, 3)), np.ones((32, 1))
    >>> history = kp.fine_tune(model, x, y, head_steps=4, all_steps=12, batch_size=8, seed=0,
    ...     verbose=0)
    >>> history.events[0]["step"], history.events[0]["text"]
    (4, 'all but depth -1 is thawed')

    References:
        J. Howard, S. Gugger, "fastai: A Layered API for Deep Learning", Information 2020,
            arXiv:2002.04688.
        J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
            2018, arXiv:1801.06146.
    """
    check_model(_WHERE, model)
    callbacks = keras.tree.flatten(callbacks) if callbacks is not None else []
    head_steps, all_steps = (
        whole_number(_WHERE, "head_steps", head_steps),
        whole_number(_WHERE, "all_steps", all_steps),
    )
    total_steps = head_steps + all_steps
    _check_free(total_steps, callbacks, arguments)
    base_rate = check_number(_WHERE, "base_rate", base_rate, above=0.0)
    warmup_fraction = check_number(_WHERE, "warmup_fraction", warmup_fraction, above=0.0, below=1.0)
    div_factor = check_number(_WHERE, "div_factor", div_factor, least=1.0)
    selection = _head(model, head)
    verbose = 0 if arguments.get("verbose") == 0 else 1
    rest = _all_but(model, selection, head)
    stage = FineTuneStage({head_steps: rest}, batch_norm, verbose)
    phases = (
        (head_steps, base_rate, _HEAD_WARMUP_FRACTION, _HEAD_DIV_FACTOR),
        (all_steps, base_rate / 2, warmup_fraction, div_factor),
    )
    rates = [OneCycle(rate, n, warmup, div, convention="fastai") for n, rate, warmup, div in phases]
    momenta = [
        OneCycleMomentum(n, warmup_fraction=warmup, convention="fastai")
        for n, _, warmup, _ in phases
    ]
    groups = groups_below(model, selection.weights) if groups is None else groups
    optimizer = _optimizer(
        model, Join(rates, [head_steps]), Join(momenta, [head_steps]), lowest=lowest, groups=groups
    )
    with _as_before_unless_begun(model, stage):
        _keras.put_optimizer(model, optimizer)
        # So that the optimizer has one description in all checkpoints, whatever was frozen before.
        Trained.of(model).without(
            select(_WHERE, model, rest), adapt=batch_norm == "adapt"
        ).put_into(model)
        return fit(model, x, y, total_steps=total_steps, callbacks=[stage, *callbacks], **arguments)


class FineTuneStage(GradualUnfreeze):
    """Knows, too, whether the run that it is part of has begun."""

    has_begun = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """The first step is to follow."""
        self.has_begun = True


def _check_free(
    total_steps: int, callbacks: Sequence[keras.callbacks.Callback], arguments: Mapping[str, Any]
) -> None:
    """Raises if what the recipe says is said by the person too."""
    for name in ("total_steps", "plan"):
        if name in arguments:
            raise ValueError(
                f"{_WHERE}: leave `{name}` out: the run has head_steps + all_steps = "
                f"{total_steps:,} steps. `epochs` or "
                "`steps_per_epoch` says how they are reported. Received: "
                f"{name}={arguments[name]!r}."
            )
    setters = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
    for callback in callbacks:
        if isinstance(callback, setters):
            raise ValueError(
                f"{_WHERE}: {type(callback).__name__} would set the rate, which goes through the "
                "cycles of the recipe. Leave it "
                "out, or train with kp.fit."
            )
    if any(isinstance(callback, GradualUnfreeze) for callback in callbacks):
        raise ValueError(
            f"{_WHERE}: it thaws by itself. Leave the GradualUnfreeze out, or train with kp.fit, "
            "for stages of your own."
        )


def _head(model: keras.Model, head: Where) -> Selection:
    """The part that is trained from the start."""
    selection = select(_WHERE, model, head)
    weights = {id(weight) for weight in selection.weights}
    if not weights:
        raise ValueError(
            f"{_WHERE}: head={head!r} selects nothing in {model.name!r} that could be trained."
        )
    if not weights & Trained.of(model).variables:
        raise ValueError(
            f"{_WHERE}: head={head!r} is frozen in {model.name!r}. kp.unfreeze it first."
        )
    if weights >= {id(weight) for weight in select(_WHERE, model, model).weights}:
        raise ValueError(
            f"{_WHERE}: head={head!r} is all of {model.name!r} that could be trained, so nothing "
            "is left to thaw. Select less, or "
            "train with kp.fit."
        )
    return selection


def _all_but(model: keras.Model, selection: Selection, head: Where) -> Where:
    """The part that is thawed: layers as wholes, as BatchNormalization is treated, and what is
    beside the head in other layers.
    """
    nodes, weights = nodes_of(model), {id(weight) for weight in selection.weights}
    in_head = {id(node.layer) for node in selection.nodes}
    in_head |= {
        id(node.layer) for node in nodes if any(id(variable) in weights for variable in node.own)
    }
    holds_head = in_head | {
        id(layer) for node in nodes if id(node.layer) in in_head for layer in node.above
    }

    def rest(layer: keras.Layer) -> bool:
        return bool(layer.variables) and id(layer) not in holds_head

    rest.__name__ = f"all but {describe(head)}"
    whole = {id(variable) for node in nodes if rest(node.layer) for variable in node.own}
    beside = [
        weight
        for weight in select(_WHERE, model, model).weights
        if id(weight) not in weights | whole
    ]
    return [rest, *beside] if whole else beside


def _optimizer(
    model: keras.Model, rate: Schedule, momentum: Schedule, **factors: Any
) -> keras.optimizers.Optimizer:
    """A new optimizer like the one with which the model was compiled."""
    compiled = _COMPILED.get(model.optimizer, model.optimizer)
    scales = isinstance(compiled, keras.optimizers.LossScaleOptimizer)
    made = with_layer_rates(
        _cycled(model, compiled.inner_optimizer if scales else compiled, rate, momentum),
        model,
        **factors,
    )
    if scales:
        settings = {
            name: getattr(compiled, name)
            for name in ("initial_scale", "dynamic_growth_steps", "name")
        }
        made = type(compiled)(made, **settings)
    _COMPILED[made] = compiled
    return made


def _cycled(
    model: keras.Model, given: keras.optimizers.Optimizer, rate: Schedule, momentum: Schedule
) -> Any:
    """A new optimizer like the given one, that goes through the cycles."""
    try:
        plain = _keras.made_anew(given)
        _keras.copy_weight_decay_exclusions(given, plain)
        made = with_momentum(plain, momentum, learning_rate=rate)
    except TypeError as error:
        raise TypeError(
            f"{_WHERE}: the {type(given).__name__} with which {model.name!r} is compiled has no "
            "momentum that could go through a "
            "cycle. Compile the model with SGD, RMSprop or an optimizer of the Adam family of "
            "Keras's own, or write stages and "
            "schedules out for kp.fit."
        ) from error
    if not isinstance(_keras.get_rate(given), keras.Variable) or hasattr(
        given, "momentum_schedule"
    ):
        raise ValueError(
            f"{_WHERE}: {model.name!r} is compiled with a schedule, in whose place the recipe's "
            "would come. Compile it with a "
            "constant rate, or write stages and schedules out for kp.fit."
        )
    return made


@contextmanager
def _as_before_unless_begun(model: keras.Model, stage: FineTuneStage) -> Iterator[None]:
    """Puts the optimizer and what is trained back where the run does not come to its first step."""
    optimizer, trained = model.optimizer, Trained.of(model)
    try:
        yield
    except BaseException:
        if not stage.has_begun:
            trained.put_into(model)
            _keras.put_optimizer(model, optimizer)
        raise
