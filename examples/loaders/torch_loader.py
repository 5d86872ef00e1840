"""Images of classes that are not equally frequent, in a PyTorch DataLoader: drawn by weights,
augmented in worker processes, and put together by a function of one's own; any backend, with torch
beside it.

    KERAS_BACKEND=torch python examples/loaders/torch_loader.py runs/torch

Kill it and start it again: it goes on at the newest checkpoint, in the middle of a pass over the
images, and ends in the same weights. It may have another number of workers then.
"""

import random
import sys

import keras
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler, default_collate

import keras_patterns as kp

SIZE, EPOCHS, BATCH_SIZE = 16, 3, 8
ON_TORCH = keras.backend.backend() == "torch"
COUNTS = {0: 60, 1: 20}  # images of each class


class Stripes(Dataset):
    """Stripes from left to right, and from top to bottom, in noise.

    Args:
        augments: Whether images are mirrors of themselves, and brighter or darker, at random.
    """

    def __init__(self, augments: bool):
        random = np.random.default_rng(0)
        self.labels = np.repeat(list(COUNTS), list(COUNTS.values()))
        waves = np.sin(np.arange(SIZE) + random.uniform(0, 6, (len(self.labels), 1)))
        lying = np.broadcast_to(waves[:, :, None], (len(self.labels), SIZE, SIZE))
        images = np.where(self.labels[:, None, None], np.swapaxes(lying, 1, 2), lying)
        noise = random.normal(0, 0.6, images.shape)
        self.images = torch.from_numpy((images + noise).astype("float32"))
        self.augments = augments

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        image, label = self.images[place], float(self.labels[place])
        if self.augments:
            image = image.flip(random.randrange(2)) + 0.2 * torch.randn(1)
        return image, label


def mixed(examples):
    """A batch in which each image has a little of another one."""
    images, labels = default_collate(examples)
    share = float(np.random.beta(0.2, 8))
    others = torch.randperm(len(images))
    mixture = (1 - share) * images + share * images[others]
    return mixture[..., None], labels[:, None].float()


def loaders(workers):
    """The batches to train on, and those to validate on."""
    train, validation = Stripes(augments=True), Stripes(augments=False)
    weights = [1 / COUNTS[label] for label in train.labels]
    sampler = WeightedRandomSampler(weights, num_samples=len(train))
    in_workers = {
        "num_workers": workers,
        "collate_fn": mixed,
        # Other frameworks run threads, which a forked process would not have.
        "multiprocessing_context": "forkserver" if workers and not ON_TORCH else None,
    }
    return (
        DataLoader(train, batch_size=BATCH_SIZE, sampler=sampler, **in_workers),
        DataLoader(validation, batch_size=BATCH_SIZE, shuffle=True, collate_fn=mixed),
    )


def main(folder: str, workers: int = 2) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    train, validation = loaders(workers)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
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
        verbose=0,
        seed=0,
    )
    print("accuracy by epoch:", [round(value, 3) for value in history.history["val_accuracy"]])
    return {str(index): weight for index, weight in enumerate(model.get_weights())}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/torch")
