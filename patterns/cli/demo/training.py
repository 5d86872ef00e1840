"""The training script of the demo, as a person would write it: run it, kill it, run it again.

python -m keras_patterns.cli.demo.training FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..._util.text import write_text
from ...checkpoint import select_checkpoint
from ...finder import LearningRateSweep, find_learning_rate
from ...guard import NonFiniteGuard
from ...optimizers import with_one_cycle
from ...run.checkpoint import Checkpoint
from ...run.fitting import fit
from ...stopping import EarlyStopping, Patience

EPOCHS = 20
BATCH_SIZE = 32
STEPS_PER_EPOCH = 45
SAVE_EVERY_STEPS = 30
KEEP_EVERY_STEPS = 180
LOG_EVERY_STEPS = 9
# Of the 1,797 images; the others are to test on.
TRAINING_IMAGES = STEPS_PER_EPOCH * BATCH_SIZE
VALIDATION_IMAGES = 180
# Of the noisy copies; it happens to be in the batch of step 52.
BROKEN_IMAGE = 11_803

Data = tuple[np.ndarray, np.ndarray]


def load_digits() -> tuple[Data, Data, Data]:
    """Handwritten digits, images of shape `(images, 8, 8, 1)` and their labels: to train on, to
    validate on, and to test on.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images[..., np.newaxis].astype("float32") / 16
    labels = digits.target.astype("int32")
    ends = [TRAINING_IMAGES, TRAINING_IMAGES + VALIDATION_IMAGES]
    training, validation, test = zip(np.split(images, ends), np.split(labels, ends), strict=True)
    return training, validation, test


def noisy_copies(x: np.ndarray, y: np.ndarray) -> Data:
    """Twenty noisy copies of each image, so that no epoch of the demo sees one twice; and a single
    broken pixel.
    """
    x, y = np.tile(x, (EPOCHS, 1, 1, 1)), np.tile(y, EPOCHS)
    x += np.random.default_rng(8).normal(scale=0.05, size=x.shape)
    # Planted, for the guard to find.
    x[BROKEN_IMAGE, 4, 4] = np.nan
    return x, y


def make_model(optimizer: str | keras.optimizers.Optimizer = "adam") -> keras.Model:
    """A convolutional net with all that makes a run hard to repeat: augmentation, BatchNorm,
    dropout.
    """
    keras.utils.set_random_seed(8)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1))])
    model.add(layers.RandomContrast(0.3, value_range=(0, 1)))
    model.add(layers.RandomErasing(0.5, scale=(0.05, 0.15), fill_value=0.0, value_range=(0, 1)))
    for filters in (32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    for layer in (
        layers.Flatten(),
        layers.Dropout(0.4),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.4),
    ):
        model.add(layer)
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class StepCounter(keras.callbacks.Callback):
    """Tells which step begins. Its count goes into the checkpoint, by the two methods that any
    callback may have.

    Args:
        tell: Is called with the number of the step, from 1; or None.
    """

    def __init__(self, tell: Callable[[int], Any] | None) -> None:
        super().__init__()
        self._tell = tell
        self._step = 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        if self._tell:
            self._tell(self._step)

    def get_state(self) -> dict[str, Any]:
        """The steps that have begun."""
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on counting from a checkpoint: in another process, or after a rollback."""
        self._step = state["step"]


def find_rate() -> LearningRateSweep:
    """Sweeps the learning rate of the model."""
    (x, y), _, _ = load_digits()
    return find_learning_rate(make_model(), x, y, batch_size=BATCH_SIZE, seed=8)


def make_optimizer(rate: float, epochs: int) -> keras.optimizers.Optimizer:
    """Adam, in one cycle of rate and momentum over all epochs.

    Args:
        rate: The highest rate.
        epochs: Passes over the training data in all.
    """
    return with_one_cycle("adam", rate, total_steps=epochs * STEPS_PER_EPOCH)


def train(
    folder: str | Path, rate: float, epochs: int = EPOCHS, tell: Callable[[int], Any] | None = None
) -> keras.Model:
    """Trains, or goes on training.

    Args:
        folder: Of the checkpoints.
        rate: The highest learning rate.
        epochs: Passes over the training data in all. Defaults to 20.
        tell: Is called with the number of each step as it begins. Defaults to nothing.

    Returns:
        The trained model.
    """
    training, validation, _ = load_digits()
    x, y = noisy_copies(*training)
    model = make_model(make_optimizer(rate, epochs))
    fit(
        model,
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        validation_data=validation,
        callbacks=[
            NonFiniteGuard(),
            # When the loss has not fallen by 1 % for ten epochs.
            EarlyStopping(
                "val_loss",
                rule=Patience(10, min_delta=0.01, relative=True),
                restore_best_weights=True,
            ),
            StepCounter(tell),
            Checkpoint(folder, every_steps=SAVE_EVERY_STEPS, keep_every_steps=KEEP_EVERY_STEPS),
        ],
        log_every_steps=LOG_EVERY_STEPS,
        seed=8,
    )
    return model


def select(folder: str | Path) -> None:
    """Looks back: which checkpoint of those that were kept is the best on the validation images,
    and what is it on others?

    Args:
        folder: Of the checkpoints.
    """
    _, validation, test = load_digits()
    model = make_model()
    selection = select_checkpoint(folder, model, validation, verbose=0)
    write_text(f"{selection}\n\nOn the {len(test[0])} test images:")
    shown = {"best": selection.best_step, "last": selection.rows[-1].step}
    tested = {
        row.step: row.values
        for row in select_checkpoint(folder, model, test, steps=shown.values(), verbose=0).rows
    }
    for name, step in shown.items():
        write_text(
            f"  the {name}, of step {step}: loss {tested[step]['loss']:.4f}, accuracy "
            f"{tested[step]['accuracy']:.4f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("One argument is expected: the folder of the checkpoints.")
    train(sys.argv[1], find_rate().suggest())
