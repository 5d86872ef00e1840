"""Texts from a folder, split into words and numbered by `TextVectorization` inside tf.data; any
backend, with TensorFlow beside it.

    KERAS_BACKEND=tensorflow python examples/loaders/texts_from_folder.py runs/texts

Kill it and start it again: it goes on at the newest checkpoint, in the middle of a pass over the
texts, and ends in the same weights.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_patterns as kp

WORDS, LENGTH, PER_CLASS, EPOCHS = 40, 12, 30, 3


def write_texts(folder: Path) -> None:
    """Words at random, some of them more often in one class than in the other."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(WORDS)])
    for label, name in enumerate(("down", "up")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        weights = np.where(np.arange(WORDS) % 2 == label, 3.0, 1.0)
        for number in range(PER_CLASS):
            drawn = random.choice(words, int(random.integers(5, 15)), p=weights / weights.sum())
            (folder / name / f"{number}.txt").write_text(" ".join(drawn), encoding="utf-8")


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    texts = Path(folder) / "texts"
    if not texts.exists():
        write_texts(texts)
    batches = keras.utils.text_dataset_from_directory(texts, batch_size=8, seed=3, verbose=False)
    vectorize = keras.layers.TextVectorization(WORDS, output_sequence_length=LENGTH)
    vectorize.adapt(batches.map(lambda text, label: text))
    data = batches.map(
        lambda text, label: (vectorize(text), label), num_parallel_calls=tf.data.AUTOTUNE
    ).prefetch(2)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(WORDS, 8),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = kp.fit(
        model,
        data,
        epochs=EPOCHS,
        callbacks=[kp.Checkpoint(f"{folder}/checkpoints", every_steps=5)],
        verbose=2,
        seed=0,
    )
    print("accuracy by epoch:", [round(value, 3) for value in history.history["accuracy"]])
    return {str(index): weight for index, weight in enumerate(model.get_weights())}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/texts")
