"""Batches that worker processes of Grain make; any backend.

    KERAS_BACKEND=jax python examples/loaders/grain_loader.py runs/grain

Kill it and start it again: it goes on at the newest checkpoint, in the middle of a pass over the
data, and ends in the same weights.
"""

import sys

import grain
import keras
import numpy as np

import keras_patterns as kp

EXAMPLES, SIZE, BATCH, EPOCHS = 192, 12, 16, 3


class Waves(grain.sources.RandomAccessDataSource):
    """Waves of two lengths in noise, each made when it is asked for."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        label = index % 2
        wave = np.sin(np.arange(SIZE) * (1.0, 0.5)[label] + random.uniform(0, 6))
        return {"wave": wave + random.normal(0, 0.4, SIZE), "label": label}


class Augment(grain.transforms.RandomMap):
    """Draws from the generator that Grain gives it, whose seed is that of the example."""

    def random_map(self, element, rng):
        wave = element["wave"] * rng.uniform(0.8, 1.2)
        return wave.astype("float32"), np.int32(element["label"])


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    data = (
        grain.MapDataset.source(Waves())
        .seed(3)
        .shuffle()
        .random_map(Augment())
        .batch(BATCH, drop_remainder=True)
        # Another order in each pass: an IterDataset alone has the same in all.
        .repeat(EPOCHS)
        .to_iter_dataset()
        .mp_prefetch(grain.MultiprocessingOptions(num_workers=2))
    )
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
        data,
        steps_per_epoch=EXAMPLES // BATCH,
        epochs=EPOCHS,
        callbacks=[kp.Checkpoint(f"{folder}/checkpoints", every_steps=5)],
        verbose=2,
    )
    print(f"accuracy {history.history['accuracy'][-1]:.2f}")
    return {str(index): weight for index, weight in enumerate(model.get_weights())}


# Worker processes import this file.
if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/grain")
