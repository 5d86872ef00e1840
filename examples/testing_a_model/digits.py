"""Handwritten digits, from image files to a scored model: a small project in plain Keras.

`python digits.py` writes the files, trains and prints the accuracy. `pytest` in this folder runs
its tests, which are written with keras_patterns.testing; the project itself does not use it.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

CLASSES = 10
# Of 1797 images, the last ones.
HELD_OUT = 360


def write_files(folder: Path) -> None:
    """Writes scikit-learn's digits as plain grey images, `train/7/0123.pgm` and the like."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    cut = len(digits.images) - HELD_OUT
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / ("train" if number < cut else "test") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(" ".join(str(int(value)) for value in row) for row in image)
        (place / f"{number:04}.pgm").write_text(f"P2\n8 8\n16\n{rows}\n")


def read_image(path: Path) -> np.ndarray:
    """The values of a grey image, from 0 to 1, of shape `(height, width)`."""
    kind, width, height, largest, *values = path.read_text().split()
    if kind != "P2" or len(values) != int(width) * int(height):
        raise ValueError(f"{path} is no whole image of the kind P2.")
    return np.array(values, "float32").reshape(int(height), int(width)) / float(largest)


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of shape `(examples, 8, 8, 1)` and their labels, in the order of the files' names."""
    paths = sorted(folder.glob("*/*.pgm"), key=lambda path: path.name)
    images = np.stack([read_image(path) for path in paths])
    return images[..., None], np.array([int(path.parent.name) for path in paths])


def make_model() -> keras.Model:
    """A new compiled model."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def train(folder: Path, epochs: int = 15, seed: int = 0) -> keras.Model:
    """A model that is trained on the files of a folder."""
    keras.utils.set_random_seed(seed)
    model = make_model()
    x, y = read_folder(folder / "train")
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def accuracy(model: keras.Model, folder: Path) -> float:
    """The share of the held-out images that it names rightly."""
    x, y = read_folder(folder / "test")
    return float((model.predict(x, verbose=0, batch_size=90).argmax(axis=1) == y).mean())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        write_files(where)
        print(f"accuracy on {HELD_OUT} held-out images: {accuracy(train(where), where):.3f}")
