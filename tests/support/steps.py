"""Models with a `train_step` of their own, in each framework's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

LOSS = keras.losses.SparseCategoricalCrossentropy()


class OneStep(keras.Model):
    """A network, trained in a step of its own and measured with a metric of its own."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network
        self.tracker = keras.metrics.Mean(name="loss")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.network(x, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.tracker]

    def train_step(self, *arguments: Any) -> Any:
        return (
            self._pure_step(*arguments)
            if keras.backend.backend() == "jax"
            else self._step(*arguments)
        )

    def _pure_step(self, state: Any, data: Any) -> Any:
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data

        def loss_of(trainable: Any, others: Any) -> Any:
            outputs, others = self.stateless_call(trainable, others, x, training=True)
            return LOSS(y, outputs), others

        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        metrics = self.tracker.stateless_update_state(metrics, loss)
        return {"loss": self.tracker.stateless_result(metrics)}, (
            trainable,
            others,
            optimizer,
            metrics,
        )

    def _step(self, data: Any) -> dict[str, Any]:
        x, y = data
        variables = self.trainable_variables
        loss, gradients = gradients_of(lambda: LOSS(y, self(x, training=True)), variables)
        self.optimizer.apply(gradients, variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class TwoOptimizers(keras.Model):
    """Two networks on the same data, each with an optimizer of its own; the second one is an
    attribute.
    """

    def __init__(
        self, first: keras.Model, second: keras.Model, optimizer: keras.optimizers.Optimizer
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.second_optimizer = optimizer
        self.tracker = keras.metrics.Mean(name="loss")
        optimizer.build(second.trainable_variables)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.first(x, training=training) + self.second(x, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.tracker]

    def compile(self, optimizer: Any) -> None:
        super().compile(optimizer)
        self.optimizer.build(self.first.trainable_variables)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        for network, optimizer in (
            (self.first, self.optimizer),
            (self.second, self.second_optimizer),
        ):
            variables = network.trainable_variables
            loss, gradients = gradients_of(
                lambda network=network: LOSS(y, network(x, training=True)), variables
            )
            optimizer.apply(gradients, variables)
            self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def gradients_of(
    compute_loss: Callable[[], Any], variables: list[keras.Variable]
) -> tuple[Any, list[Any]]:
    """The loss and its gradients, on TensorFlow or torch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = compute_loss()
        return loss, tape.gradient(loss, [variable.value for variable in variables])
    import torch

    loss = compute_loss()
    gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
    return loss.detach(), list(gradients)
