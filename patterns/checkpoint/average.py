"""`kp.average_checkpoints`: one model of several checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

from .. import _keras
from .._util.arguments import check_choice, check_number
from .._util.models import check_built
from ..state.preservation import preserved
from ..state.snapshot import check_fits, put_back, refresh_derived_state
from ..state.variables import VariableIndex, find_variables
from ..storage import CheckpointFolder, Entry
from .contents import Record
from .reading import entries_by_step, listed, open_folder, read_first_sound
from .statistics import input_batches, layers_with_moving_statistics, recomputed_statistics

Weighting = Literal["uniform", "exponential"]
_CALLER = "average_checkpoints"
_DECAY = 0.9


@_keras.quiet_arrays()
def average_checkpoints(
    store: CheckpointFolder | str | os.PathLike[str],
    model: keras.Model,
    steps: Iterable[int] | None = None,
    weighting: Weighting = "uniform",
    decay: float | None = None,
    data: Any = None,
    batch_size: int | None = None,
) -> list[int]:
    """Averages the weights of several checkpoints of a run into the model.

    The average lies more in the middle of a valley of the loss than any one of them. It pays most
    among checkpoints from a rate that is still high: a constant one, or the low points of a cycle.

    The average is computed in float64 and rounded once, to each weight's own dtype. Integers and
    the states of seeds are the newest checkpoint's. The moving statistics of BatchNormalization are
    no average, since that of others' activations would be wrong: they are computed anew in a pass
    over `data` in training mode, as the mean over the batches, each counting alike. Layers that are
    not trainable keep their averages. The optimizer, the metrics and the global random states are
    as before. If anything fails, or is interrupted, the model is as before.

    Args:
        store: A `kp.CheckpointStore`, or its folder. The newest run in it counts.
        model: A built model of the same shape, on any backend.
        steps: Which checkpoints, by their steps. Defaults to None: all that are kept.
        weighting: `"uniform"`, or `"exponential"`: an exponential moving average from the oldest to
            the newest, `average = decay * average + (1 - decay) * weights`, begun at 0 and divided
            by `1 - decay**n` after n checkpoints, as Adam does: each weighs `decay` times what the
            next newer one weighs.
        decay: Of `"exponential"`, at least 0 and below 1. Defaults to 0.9.
        data: What the model is trained on: arrays `x`, `(x, y)` or `(x, y, sample_weight)`, of
            which `x` is used, a `keras.utils.PyDataset`, or a loader of another library that can be
            read anew. Needed, and read, only if the model has BatchNormalization layers that are
            trainable.
        batch_size: Of arrays; that of the training is right. Defaults to None: 32.

    Returns:
        The steps, in order.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the model has BatchNormalization and there is no `data`,
            or a number in a checkpoint, or in the statistics, is not finite.
        kp.StoreError: If there is no checkpoint, none of a step, or one is damaged: name the others
            by `steps`.
        kp.StateMismatchError: If the model is another one.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = kp.fit(model, x, y, epochs=3, seed=0, verbose=0,
    ...         callbacks=[kp.Checkpoint(folder)])
    ...     kp.average_checkpoints(folder, model, steps=[4, 6])
    [4, 6]

    References:
        P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI
            2018, arXiv:1803.05407:
            stochastic weight averaging, with the pass for the statistics;
            `torch.optim.swa_utils.update_bn`.
        J. Kaddour, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest
            Weight Averaging", 2022,
            arXiv:2209.14981: the average of the latest checkpoints.
        A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 6.1:
            of the last 5 or 20.
    """
    check_choice(_CALLER, "weighting", weighting, get_args(Weighting))
    if decay is not None:
        check_number(_CALLER, "decay", decay, below=1.0)
        if weighting != "exponential":
            raise ValueError(
                f'{_CALLER}: `decay` goes with weighting="exponential". Received: {decay!r} with '
                f"{weighting!r}."
            )
    check_built(_CALLER, model)
    layers = layers_with_moving_statistics(model)
    if layers and data is None:
        raise ValueError(
            f"{_CALLER}: {model.name!r} has BatchNormalization, {layers[0].path!r} first, whose "
            "moving statistics must be computed "
            "anew for the averaged weights. Give data=, the inputs that it is trained on."
        )
    store = open_folder(store)
    index = find_variables(model)
    weights = index.of("weight")
    wanted = listed(_CALLER, steps)

    def read_average() -> tuple[list[int], dict[str, np.ndarray]]:
        entries = entries_by_step(_CALLER, store, wanted)
        share = shares(len(entries), _DECAY if decay is None else decay, weighting)
        return [*entries], averaged(_checked_weights(model, index, store, entries), share)

    found, values = store.again(read_average)
    if layers:
        inputs = input_batches(_CALLER, data, batch_size)
        with preserved(model):
            put_back(weights, values)
            statistics = recomputed_statistics(_CALLER, layers, model, inputs)
        values |= {
            key: statistics[id(variable)]
            for key, variable in weights.items()
            if id(variable) in statistics
        }
    put_back(weights, values)
    refresh_derived_state(model)
    return found


def shares(count: int, decay: float, weighting: Weighting) -> list[float]:
    """The share by which each of `count` checkpoints, oldest first, moves the average of those up
    to it.

    Example:

    >>> shares(3, 0.5, "uniform"), shares(2, 0.5, "exponential")
    ([1.0, 0.5, 0.3333333333333333], [1.0, 0.6666666666666666])
    """
    if weighting == "uniform":
        return [1 / number for number in range(1, count + 1)]
    return [(1 - decay) / (1 - decay**number) for number in range(1, count + 1)]


def averaged(
    sources: Iterable[Mapping[str, np.ndarray]], shares: Sequence[float]
) -> dict[str, np.ndarray]:
    """The average of floats, in float64 and then in their dtype again; of what is no float, the
    last one.

    Args:
        sources: Arrays by key, of equal shapes and dtypes.
        shares: How far each moves the average.
    """
    means: dict[str, np.ndarray] = {}
    newest: dict[str, np.ndarray] = {}
    for source, share in zip(sources, shares, strict=True):
        newest = dict(source)
        for key, array in newest.items():
            if keras.backend.is_float_dtype(array.dtype.name):
                wide = array.astype(np.float64)
                mean = means.get(key, wide)
                # By the difference from the nearer one: what is equal in all, or all of one of
                # them, is not rounded.
                means[key] = (
                    mean + share * (wide - mean)
                    if share < 0.5
                    else wide - (1 - share) * (wide - mean)
                )
    return newest | {key: mean.astype(newest[key].dtype) for key, mean in means.items()}


def _checked_weights(
    model: keras.Model,
    index: VariableIndex,
    store: CheckpointFolder,
    entries: Mapping[int, Sequence[Entry]],
) -> Iterator[dict[str, np.ndarray]]:
    """The weights of each checkpoint, checked against the model."""
    for step, candidates in entries.items():
        record = read_first_sound(store, candidates)
        check_fits(model, index, record.variables)
        _check_finite(step, record)
        yield record.of("weight")


def _check_finite(step: int, record: Record) -> None:
    for key, array in record.of("weight").items():
        if (
            keras.backend.is_float_dtype(array.dtype.name)
            and not np.isfinite(array.astype(np.float64)).all()
        ):
            raise ValueError(
                f"{_CALLER}: {key!r} is not finite in the checkpoint of step {step}. Name the "
                "other steps by steps=."
            )
