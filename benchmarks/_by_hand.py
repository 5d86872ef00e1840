"""The loop that somebody who knows a framework well writes for a Keras model: one compiled step a
batch, the framework's own optimizer where it has one, the data and the sum of the losses on the
device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

RATE, EPSILON = 1e-3, 1e-7
Loss = Callable[[Any, Any], Any]


def train_by_hand(
    model: keras.Model,
    loss: Any,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    epochs: int,
    shuffle: bool,
) -> float:
    """Trains with Adam; returns the seconds of all epochs but the first.

    Args:
        model: Built.
        loss: A loss of Keras's, or its name.
        x: Inputs, a whole number of batches of them.
        y: Targets.
        batch_size: Examples of a batch.
        epochs: Over the data.
        shuffle: Whether each epoch has an order of its own.
    """
    compute = keras.losses.get(loss)

    def mean_loss(targets: Any, outputs: Any) -> Any:
        return keras.ops.mean(compute(targets, outputs))

    kind = {"jax": _Jax, "tensorflow": _TensorFlow, "torch": _Torch}[keras.backend.backend()]
    loop = kind(model, mean_loss, x, y, batch_size, shuffle)
    loop.epoch()
    began = time.perf_counter()
    for _ in range(epochs - 1):
        loop.epoch()
    seconds = time.perf_counter() - began
    loop.finish()
    return seconds


def _places(count: int, batch_size: int, shuffle: bool) -> Iterator[np.ndarray]:
    order = np.random.permutation(count) if shuffle else np.arange(count)
    yield from order.reshape(-1, batch_size)


class _Jax:
    """`stateless_call` with Optax, in a step that gives its arrays away."""

    def __init__(self, model: Any, loss: Loss, x: Any, y: Any, size: int, shuffle: bool) -> None:
        import jax
        import optax

        optimizer = optax.adam(RATE, eps=EPSILON)

        def step(state: Any, arrays: Any, places: Any) -> Any:
            trained, other, slots, total = state
            x, y = (array[places] for array in arrays)

            def compute(trained: Any) -> Any:
                outputs, moved, losses = model.stateless_call(
                    trained, other, x, training=True, return_losses=True
                )
                return loss(y, outputs) + sum(losses), moved

            (value, other), gradients = jax.value_and_grad(compute, has_aux=True)(trained)
            updates, slots = optimizer.update(gradients, slots, trained)
            return optax.apply_updates(trained, updates), other, slots, total + value

        copies = [
            [jax.numpy.copy(variable.value) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        self._state = (*copies, optimizer.init(copies[0]), jax.numpy.zeros(()))
        self._step = jax.jit(step, donate_argnums=0)
        self._model, self._data = model, jax.device_put((x, y))
        self._how = len(x), size, shuffle

    def epoch(self) -> None:
        for places in _places(*self._how):
            self._state = self._step(self._state, self._data, places)
        self._state[-1].block_until_ready()

    def finish(self) -> None:
        trained, other, *_ = self._state
        for variable, value in zip(self._model.trainable_variables, trained, strict=True):
            variable.assign(value)
        for variable, value in zip(self._model.non_trainable_variables, other, strict=True):
            variable.assign(value)


class _TensorFlow:
    """A tape in a `tf.function`, fed by `tf.data`."""

    def __init__(self, model: Any, loss: Loss, x: Any, y: Any, size: int, shuffle: bool) -> None:
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices((x, y))
        dataset = dataset.shuffle(len(x)) if shuffle else dataset
        self._dataset = dataset.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
        optimizer = keras.optimizers.Adam(RATE, epsilon=EPSILON)
        optimizer.build(model.trainable_variables)
        self._total = tf.Variable(0.0)

        @tf.function
        def step(x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                outputs = model(x, training=True)
                value = loss(y, outputs) + sum(model.losses)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(value, variables), variables)
            self._total.assign_add(value)

        self._step = step

    def epoch(self) -> None:
        for x, y in self._dataset:
            self._step(x, y)
        self._total.numpy()

    def finish(self) -> None:
        """The variables are the model's own."""


class _Torch:
    """`torch.optim.Adam`, over all parameters at once."""

    def __init__(self, model: Any, loss: Loss, x: Any, y: Any, size: int, shuffle: bool) -> None:
        import torch

        parameters = [variable.value for variable in model.trainable_variables]
        self._optimizer = torch.optim.Adam(parameters, RATE, eps=EPSILON, foreach=True)
        self._model, self._loss = model, loss
        device = parameters[0].device
        self._total = torch.zeros((), device=device)
        self._data = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
        self._how = (len(x), size, shuffle)

    def epoch(self) -> None:
        x, y = self._data
        for places in _places(*self._how):
            self._optimizer.zero_grad(set_to_none=True)
            value = self._loss(y[places], self._model(x[places], training=True))
            value = value + sum(self._model.losses)
            value.backward()
            self._optimizer.step()
            self._total += value.detach()
        self._total.item()

    def finish(self) -> None:
        """The variables are the model's own."""
