"""The demo's script of transfer learning: a net that was pretrained on the digits 0 to 4 learns 5
to 9 from a few examples.

python -m keras_patterns.cli.demo.transfer FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..._util.text import write_text
from ...optimizers import with_layer_rates
from ...run.checkpoint import Checkpoint
from ...run.fitting import fit
from ...transfer import replace_head
from ...transfer.features import cache_features
from ...transfer.freezing import GradualUnfreeze, freeze, trainable_table
from .training import Data, StepCounter

SIDE = 12
PRETRAINING_STEPS = 500
STEPS = 120
# From the outputs to the inputs: what is general lies in the first blocks, and moves last.
STAGES = {30: "block3_*", 60: ["block1_*", "block2_*"]}
BATCH_SIZE = 10
SAVE_EVERY_STEPS = 15
# For each way the best in the mean over 2, 10 and 30 examples, on the validation images and JAX, of
# four or five rates.
SCRATCH_RATE = 1e-3
HEAD_RATE = 1e-2
STAGED_RATE = 1e-2


def load_digits() -> tuple[Data, Data]:
    """Handwritten digits, images of shape `(images, 8, 8)` and labels from 0 to 4: of the digits 0
    to 4, and of 5 to 9.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype("float32") / 16, digits.target.astype("int32")
    new = labels >= 5
    return (images[~new], labels[~new]), (images[new], labels[new] - 5)


def on_sheets(images: np.ndarray, seed: int) -> np.ndarray:
    """Each image somewhere on a larger sheet, `(images, 12, 12, 1)`: that the place says nothing
    must be learned.
    """
    sheets = np.zeros((len(images), SIDE, SIDE, 1), "float32")
    places = np.random.default_rng(seed).integers(SIDE - 8 + 1, size=(len(images), 2))
    for sheet, image, (row, column) in zip(sheets, images, places, strict=True):
        sheet[row : row + 8, column : column + 8, 0] = image
    return sheets


def new_digits() -> tuple[Data, Data, Data]:
    """The digits 5 to 9 on sheets: 400 to draw the few examples from, 100 to validate on, 396 to
    test on.
    """
    _, (images, labels) = load_digits()
    training, validation, test = zip(
        np.split(on_sheets(images, seed=8), [400, 500]), np.split(labels, [400, 500]), strict=True
    )
    return training, validation, test


def draw_examples(per_class: int, seed: int) -> Data:
    """Draws so many of each of the digits 5 to 9."""
    (x, y), _, _ = new_digits()
    random = np.random.default_rng(seed)
    chosen = np.concatenate(
        [random.choice(np.flatnonzero(y == label), per_class, replace=False) for label in range(5)]
    )
    return x[chosen], y[chosen]


def make_model() -> keras.Model:
    """A small VGG."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1))], name="small_vgg")
    for block, filters in enumerate((16, 32, 64), 1):
        for number in (1, 2):
            model.add(
                layers.Conv2D(
                    filters, 3, padding="same", activation="relu", name=f"block{block}_conv{number}"
                )
            )
        if block < 3:
            model.add(layers.MaxPooling2D(name=f"block{block}_pool"))
    model.add(layers.GlobalAveragePooling2D(name="features"))
    model.add(layers.Dropout(0.2, name="dropout"))
    model.add(layers.Dense(5, activation="softmax", name="digits"))
    return model


def compile_with(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Compiles a model, all of which have the same loss."""
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def pretrain(path: str | Path, steps: int = PRETRAINING_STEPS) -> None:
    """Trains the net on the digits 0 to 4, each of 700 images on ten sheets, and saves it.

    Args:
        path: A new `.keras` file.
        steps: Optimizer steps. Defaults to 500.
    """
    (images, labels), _ = load_digits()
    keras.utils.set_random_seed(8)
    model = make_model()
    compile_with(model, keras.optimizers.Adam(2e-3))
    x = on_sheets(np.tile(images[:700], (10, 1, 1)), seed=8)
    y = np.tile(labels[:700], 10)
    others = on_sheets(images[700:], seed=9), labels[700:]
    fit(model, x, y, total_steps=steps, epochs=1, validation_data=others, seed=8, verbose=2)
    model.save(path)


def with_new_head(backbone: str | Path) -> keras.Model:
    """The pretrained net, frozen, with a new layer for the digits 5 to 9 in place of its last."""
    model = replace_head(
        keras.models.load_model(backbone),
        keras.layers.Dense(5, activation="softmax", name="new_digits"),
    )
    freeze(model, "block*")
    return model


def train_in_stages(
    backbone: str | Path,
    x: np.ndarray,
    y: np.ndarray,
    seed: int = 8,
    callbacks: Sequence[Any] = (),
    **how: Any,
) -> keras.Model:
    """The new head, then the last block too, then all: the first layers at the lowest rates."""
    keras.utils.set_random_seed(seed)
    model = with_new_head(backbone)
    compile_with(model, with_layer_rates(keras.optimizers.Adam(STAGED_RATE), model, decay=0.7))
    thaw = GradualUnfreeze(STAGES, verbose=how.get("verbose", 1))
    fit(
        model,
        x,
        y,
        batch_size=BATCH_SIZE,
        total_steps=STEPS,
        callbacks=[thaw, *callbacks],
        seed=seed,
        **how,
    )
    return model


def train_head(backbone: str | Path, x: np.ndarray, y: np.ndarray, seed: int) -> keras.Model:
    """The new head alone, on features that are computed once."""
    keras.utils.set_random_seed(seed)
    model = with_new_head(backbone)
    cached = cache_features(model, "features", x, verbose=0)
    compile_with(cached.head, keras.optimizers.Adam(HEAD_RATE))
    fit(
        cached.head,
        cached.features,
        y,
        batch_size=BATCH_SIZE,
        total_steps=STEPS,
        epochs=1,
        seed=seed,
        verbose=0,
    )
    return model


def train_from_scratch(x: np.ndarray, y: np.ndarray, seed: int) -> keras.Model:
    """The same net without the pretraining."""
    keras.utils.set_random_seed(seed)
    model = make_model()
    compile_with(model, keras.optimizers.Adam(SCRATCH_RATE))
    fit(model, x, y, batch_size=BATCH_SIZE, total_steps=STEPS, epochs=1, seed=seed, verbose=0)
    return model


def transfer(
    folder: str | Path, backbone: str | Path, tell: Callable[[int], Any] | None = None
) -> keras.Model:
    """Trains in stages on ten examples of each digit, or goes on training.

    Args:
        folder: Of the checkpoints.
        backbone: What `pretrain` saved.
        tell: Is called with the number of each step as it begins. Defaults to nothing.

    Returns:
        The trained model.
    """
    _, validation, _ = new_digits()
    callbacks = [StepCounter(tell), Checkpoint(folder, every_steps=SAVE_EVERY_STEPS)]
    return train_in_stages(
        backbone,
        *draw_examples(10, seed=8),
        callbacks=callbacks,
        epochs=4,
        validation_data=validation,
        verbose="auto",
    )


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """The fraction of the images that a model names rightly."""
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("One argument is expected: a folder for the pretrained net and the checkpoints.")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    backbone = folder / "backbone.keras"
    if not backbone.exists():
        pretrain(backbone)
    write_text(trainable_table(with_new_head(backbone)))
    transfer(folder / "run", backbone)
