"""`kp.cache_features`: the outputs of the frozen part of a model, computed once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ... import _keras
from ..._util.arguments import whole_number
from ..._util.messages import listed, say
from ..._util.step_counter import StepCounter
from ...data.rows import as_rows, count_examples, describe, is_rows, take
from ...optimizers.where import Where
from . import stored
from .constant import check_constant, check_frozen, close
from .loaded import of_batches
from .split import SplitModel, split_model

_CALLER = "cache_features"
# How far the first of the stored features may be from those computed now, as a fraction of the
# largest: kernels, devices and backends differ in the last bits, other computations by more.
_SAME = 1e-2


@dataclass(frozen=True, repr=False)
class CachedFeatures:
    """The outcome of `kp.cache_features`.

    Attributes:
        features: An array of shape `(examples, ...)`, in memory or mapped from its file, which is
            then read only.
        head: From features to the outputs of the model, with whose layers it is made: what trains
            it trains the model. It is not compiled.
        targets: Of the examples, in the same order, where `x` gives them; None of arrays.
        at: The path of the last layer of the part whose outputs the features are.
    """

    features: np.ndarray
    head: keras.Model
    at: str
    _model: keras.Model
    _part: keras.Model
    _weights: stored.Digests
    _batch_size: int
    targets: Any = None

    def __repr__(self) -> str:
        return (
            f"CachedFeatures(at={self.at!r}, features of shape {self.features.shape}, "
            f"{self.features.dtype})"
        )

    def of(
        self,
        x: Any,
        *,
        y: Any = None,
        path: str | os.PathLike[str] | None = None,
        verbose: int | str = "auto",
    ) -> Any:
        """The features of other examples, such as those for validation.

        Args:
            x: As in `kp.cache_features`.
            y: As in `kp.cache_features`. Defaults to None.
            path: As in `kp.cache_features`. Defaults to None: in memory.
            verbose: As in `kp.cache_features`. Defaults to `"auto"`.

        Returns:
            An array of shape `(examples, ...)`; of data that give targets, the pair of it and them,
            as `validation_data` takes it.

        Raises:
            ValueError: If the part has been changed since, so that these would not go with the
                features that there are.
            TypeError, kp.StoreError: As in `kp.cache_features`.
        """
        split = SplitModel(self.at, self._part, self.head)
        check_frozen(_CALLER, self._model, split)
        weights = stored.weight_digests(self._model, self._part)
        if changed := stored.changed_weights(self._weights, weights):
            raise ValueError(
                f"{_CALLER}: {listed(changed, 3)} changed since the features were computed, so "
                "those of other examples would not go "
                "with them. Call cache_features again, for all of them."
            )
        features, targets = _features(
            self._model, split, weights, (x, y), self._batch_size, path, verbose
        )
        return features if targets is None else (features, targets)


@_keras.quiet_arrays()
def cache_features(
    model: keras.Model,
    at: Where,
    x: Any,
    *,
    y: Any = None,
    batch_size: int = 32,
    path: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
) -> CachedFeatures:
    """Computes the outputs of the frozen part of a model once, for its head to be trained on.

    Where a part of a model is frozen, and nothing in it is random, each pass over the data computes
    the same outputs again. With them kept, a step of training costs what a step of the head costs.
    The head shares its layers with the model: once it is trained, so is the model.

    ```python
    cached = kp.cache_features(model, "vgg19", x)
    cached.head.compile("adam", "sparse_categorical_crossentropy")
    kp.fit(cached.head, cached.features, y, validation_data=(cached.of(x_val), y_val), epochs=20)
    model.predict(x_test)
    ```

    Training the head on the features ends with the same weights as training the frozen model on
    `x`, up to rounding: kernels add up in an order that may depend on the size of the batch. What
    the model has beside its layers (its optimizer, losses, metrics, a `train_step` of its own) is
    not the head's. Penalties on frozen weights are a constant in the model's loss, and not in the
    head's.

    Args:
        model: A functional model or a Sequential, built. It need not be compiled, and is left as it
            was.
        at: The last layer of the part that is cached, selected as by `where` everywhere: its path,
            or the layer itself. It may be inside a nested functional model.
        x: Arrays of shape `(examples, ...)`, in the structure of the model's inputs. Memory-mapped
            ones are read a batch at a time. Or data that give whole batches, whose targets are kept
            beside the features: a loader (a Hugging Face dataset included), a `PyDataset` or an
            iterable, of which one pass is read, in its own order.
        y: The columns of a Hugging Face dataset that are targets. Defaults to None.
        batch_size: How many examples are computed at once. Defaults to 32.
        path: A `.npy` file for the features. If it is there, and shown to hold the features of
            these `x` by these weights, it is used; if it holds others, that is an error. Beside it
            lies a `.npy.json` that says what they were computed from (for arrays of more than 16
            MiB, a sample of their rows stands for them). Only with arrays. Defaults to None: in
            memory.
        verbose: As in `model.predict`: 0 is silent, 1 a progress bar, 2 a line at the end. Defaults
            to `"auto"`: 1.

    Returns:
        The features, the head, and a method `of` for the features of other examples.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, the model cannot be cut at `at`, or training
            would change what the part gives: a trainable variable, dropout or augmentation, moving
            statistics, state.
        kp.StoreError: If `path` holds something else or is damaged, or cannot be written.

    Example:

    >>> import keras, numpy as np
    >>> import keras_patterns as kp
    >>> backbone = keras.layers.Dense(8, activation="relu", trainable=False, name="backbone")
    >>> model = keras.Sequential([keras.Input((4,)), backbone, keras.layers.Dense(1)])
    >>> x, y = np.ones((40, 4)), np.ones((40, 1))
    >>> cached = kp.cache_features(model, "backbone", x, verbose=0)
    >>> cached.features.shape
    (40, 8)
    >>> cached.head.compile("adam", "mse")
    >>> history = kp.fit(cached.head, cached.features, y, epochs=2, seed=0, verbose=0)
    >>> float(abs(cached.head.predict(cached.features, verbose=0) - model.predict(x,
    ...     verbose=0)).max()) < 1e-5
    True

    References:
        F. Chollet, "Deep Learning with Python", 2nd ed., Manning, 2021, section 8.3.1: fast feature
            extraction.
    """
    whole_number(_CALLER, "batch_size", batch_size)
    split = split_model(_CALLER, model, at)
    check_frozen(_CALLER, model, split)
    weights = stored.weight_digests(model, split.part)
    features, targets = _features(model, split, weights, (x, y), batch_size, path, verbose)
    return CachedFeatures(
        features, split.head, split.at, model, split.part, weights, batch_size, targets
    )


def _features(
    model: keras.Model,
    split: SplitModel,
    weights: stored.Digests,
    data: tuple[Any, Any],
    batch_size: int,
    path: Any,
    verbose: int | str,
) -> tuple[np.ndarray, Any]:
    x, y = data
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"{_CALLER}: `verbose` must be 'auto', 0, 1 or 2. Received: {verbose!r}.")
    target = None if path is None else stored.path_of_features(_CALLER, path)
    if not is_rows(x):
        if target is not None:
            raise ValueError(
                f"{_CALLER}: path= goes with arrays only, whose values tell whether the file holds "
                f"their features. Received: x of type {type(x).__name__}."
            )
        return of_batches(_CALLER, model, split, x, y, batch_size)
    if y is not None:
        raise ValueError(f"{_CALLER}: `y` names columns of a Hugging Face dataset only.")
    x = as_rows(x, "x")
    examples = count_examples(x=x)
    size = min(batch_size, examples)
    first = check_constant(_CALLER, model, split, _batch(x, np.arange(size)))
    shape = (examples, *first.shape[1:])

    def batches() -> Iterator[np.ndarray]:
        return _computed(split.part, x, examples, size, 1 if verbose == "auto" else int(verbose))

    if target is None:
        features = np.empty(shape, first.dtype)
        reached = 0
        for rows in batches():
            features[reached : reached + len(rows)] = rows
            reached += len(rows)
        return features, None
    about = {"at": split.at, "weights": weights, "x": describe(x, "x")}
    if not stored.is_stored(target):
        stored.write(target, about, shape, first.dtype, batches)
    else:
        say(f"cache_features uses the features that are in {target}.", verbose=verbose)
    features = stored.read(
        target, about, lambda features: close(first, np.asarray(features[: len(first)]), _SAME)
    )
    return features, None


def _batch(x: Any, indices: np.ndarray) -> Any:
    return keras.tree.map_structure(
        lambda array: None if array is None else take(array, indices), x
    )


def _computed(
    part: keras.Model, x: Any, examples: int, size: int, verbose: int
) -> Iterator[np.ndarray]:
    """The outputs, a batch at a time."""
    steps = -(-examples // size)
    with StepCounter(steps, verbose) as counter:
        for step in range(steps):
            # The last batch is filled up with the last example: a smaller one would be compiled
            # anew.
            indices = np.arange(step * size, (step + 1) * size)
            rows = part.predict_on_batch(_batch(x, np.minimum(indices, examples - 1)))
            counter.update(step + 1)
            yield rows[: examples - step * size]
