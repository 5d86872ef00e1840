"""The same training by a library for loops of one's own: Flax NNX on JAX, Lightning on PyTorch.

For nets of dense layers alone, with ReLUs between them, whose weights begin as those of a Keras
model.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from _by_hand import EPSILON, RATE

PEERS = {"jax": "Flax NNX", "torch": "Lightning"}


def train_by_peer(
    model: keras.Model, x: np.ndarray, y: np.ndarray, batch_size: int, epochs: int, shuffle: bool
) -> float:
    """Trains with Adam on a crossentropy from logits; returns the seconds of all epochs but the
    first.

    Args:
        model: Built; it has the weights at the end.
        x: Inputs, a whole number of batches of them.
        y: Labels.
        batch_size: Examples of a batch.
        epochs: Over the data.
        shuffle: Whether each epoch has an order of its own.
    """
    train = {"jax": _by_nnx, "torch": _by_lightning}[keras.backend.backend()]
    weights = [layer.get_weights() for layer in model.layers]
    seconds, weights = train(weights, x, y, batch_size, epochs, shuffle)
    for layer, values in zip(model.layers, weights, strict=True):
        layer.set_weights(values)
    return seconds


def _by_nnx(
    weights: Any, x: Any, y: Any, size: int, epochs: int, shuffle: bool
) -> tuple[float, Any]:
    import jax
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.layers = nnx.List(
                [nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0)) for kernel, _ in weights]
            )
            for layer, (kernel, bias) in zip(self.layers, weights, strict=True):
                layer.kernel[...] = jax.numpy.array(kernel)
                layer.bias[...] = jax.numpy.array(bias)

        def __call__(self, x: Any) -> Any:
            *hidden, last = self.layers
            for layer in hidden:
                x = nnx.relu(layer(x))
            return last(x)

    net = Net()
    optimizer = nnx.Optimizer(net, optax.adam(RATE, eps=EPSILON), wrt=nnx.Param)
    losses = nnx.metrics.Average("loss")

    @nnx.jit
    def step(net: Any, optimizer: Any, losses: Any, arrays: Any, places: Any) -> None:
        x, y = (array[places] for array in arrays)

        def loss(net: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

        value, gradients = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradients)
        losses.update(loss=value)

    step = nnx.cached_partial(step, net, optimizer, losses)
    data = jax.device_put((x, y))

    def epoch() -> None:
        order = np.random.permutation(len(x)) if shuffle else np.arange(len(x))
        for places in order.reshape(-1, size):
            step(data, places)
        jax.block_until_ready(losses.compute())

    seconds = _timed(epoch, epochs)
    return seconds, [
        [np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])] for layer in net.layers
    ]


def _timed(epoch: Callable[[], None], epochs: int) -> float:
    epoch()
    began = time.perf_counter()
    for _ in range(epochs - 1):
        epoch()
    return time.perf_counter() - began


def _by_lightning(
    weights: Any, x: Any, y: Any, size: int, epochs: int, shuffle: bool
) -> tuple[float, Any]:
    import lightning
    import torch

    marks: list[float] = []

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(
                [torch.nn.Linear(*kernel.shape) for kernel, _ in weights]
            )
            with torch.no_grad():
                for layer, (kernel, bias) in zip(self.layers, weights, strict=True):
                    layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
                    layer.bias.copy_(torch.from_numpy(bias))

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            *hidden, last = self.layers
            for layer in hidden:
                x = torch.relu(layer(x))
            return torch.nn.functional.cross_entropy(last(x), y)

        def on_train_epoch_start(self) -> None:
            marks.append(time.perf_counter())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), RATE, eps=EPSILON, foreach=True)

    net = Net()
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(dataset, size, shuffle=shuffle)
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(max_epochs=epochs, devices=1, **quiet).fit(net, loader)
    ended = time.perf_counter()
    found = list(_weights_of(net.layers))
    return ended - marks[1] if epochs > 1 else 0.0, found


def _weights_of(layers: Any) -> Iterator[list[np.ndarray]]:
    for layer in layers:
        yield [layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy()]
