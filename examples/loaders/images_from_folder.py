"""Images from a folder, read and augmented by tf.data; any backend, with TensorFlow beside it.

    KERAS_BACKEND=tensorflow python examples/loaders/images_from_folder.py runs/images

Kill it and start it again: it goes on at the newest checkpoint, in the middle of a pass over the
images, and ends in the same weights.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_patterns as kp

SIZE, PER_CLASS, EPOCHS = 16, 30, 3


def write_images(folder: Path) -> None:
    """Stripes from left to right, and from top to bottom, in noise."""
    random = np.random.default_rng(0)
    for name, axis in (("lying", 0), ("standing", 1)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(PER_CLASS):
            wave = np.sin(np.arange(SIZE) + random.uniform(0, 6))
            image = np.moveaxis(np.broadcast_to(wave, (SIZE, SIZE)), 1, axis)
            noisy = 127 + 60 * image + random.normal(0, 40, image.shape)
            pixels = np.clip(noisy, 0, 255).astype("uint8")[..., np.newaxis]
            (folder / name / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())


def augment(batch, seed):
    """Mirrors and brightens, by functions of a seed: no state, so many threads may do it."""
    images, labels = batch
    images = tf.image.stateless_random_flip_left_right(images, seed)
    return tf.image.stateless_random_brightness(images, 20.0, seed), labels


def datasets(folder: Path):
    """The batches to train on, augmented, and those to validate on."""
    options = {
        "labels": "inferred",
        "color_mode": "grayscale",
        "image_size": (SIZE, SIZE),
        "batch_size": 8,
        "validation_split": 0.2,
        "subset": "both",
        "seed": 3,
        "verbose": False,
    }
    train, validation = keras.utils.image_dataset_from_directory(folder, **options)
    seeds = tf.data.Dataset.random(seed=5, rerandomize_each_iteration=True).batch(2)
    augmented = tf.data.Dataset.zip(train, seeds).map(
        lambda batch, seed: augment(batch, tf.cast(seed, tf.int32)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return augmented.prefetch(2), validation


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    images = Path(folder) / "images"
    if not images.exists():
        write_images(images)
    train, validation = datasets(images)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    history = kp.fit(
        model,
        train,
        epochs=EPOCHS,
        validation_data=validation,
        callbacks=[kp.Checkpoint(f"{folder}/checkpoints", every_steps=4)],
        verbose=2,
        seed=0,
    )
    print("accuracy by epoch:", [round(value, 3) for value in history.history["val_accuracy"]])
    return {str(index): weight for index, weight in enumerate(model.get_weights())}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/images")
