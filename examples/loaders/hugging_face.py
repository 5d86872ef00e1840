"""A Hugging Face dataset, streamed from files of parquet that this program writes; any backend.

    KERAS_BACKEND=jax python examples/loaders/hugging_face.py runs/parquet

Kill it and start it again: it goes on at the newest checkpoint, in the middle of a pass over the
files, and ends in the same weights.
"""

import sys
from pathlib import Path

import datasets
import keras
import numpy as np

import keras_patterns as kp

FILES, ROWS, SIZE, BATCH, EPOCHS = 4, 48, 8, 16, 3


def write_files(folder: Path) -> None:
    """Points around one of two centres, in columns `point` and `label`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(FILES):
        labels = random.integers(0, 2, ROWS)
        points = random.normal(size=(ROWS, SIZE)) + labels[:, np.newaxis]
        rows = datasets.Dataset.from_dict({"point": points.astype("float32"), "label": labels})
        rows.to_parquet(folder / f"part-{number}.parquet")


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    datasets.disable_progress_bars()
    files = Path(folder) / "files"
    if not files.exists():
        write_files(files)
    stream = datasets.load_dataset(
        "parquet",
        data_files=sorted(map(str, files.iterdir())),
        split="train",
        streaming=True,
        cache_dir=f"{folder}/cache",
    )
    # The files in another order in each pass, one after the other. A buffer of more than one row
    # would shuffle rows, and have a resume read all from the start.
    stream = stream.shuffle(seed=3, buffer_size=1, max_buffer_input_shards=1)
    model = keras.Sequential(
        [
            keras.Input((SIZE,)),
            keras.layers.Dense(16, activation="relu"),
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
        stream,
        y="label",
        batch_size=BATCH,
        epochs=EPOCHS,
        callbacks=[kp.Checkpoint(f"{folder}/checkpoints", every_steps=5)],
        verbose=2,
    )
    print(f"accuracy {history.history['accuracy'][-1]:.2f}")
    return {str(index): weight for index, weight in enumerate(model.get_weights())}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/parquet")
