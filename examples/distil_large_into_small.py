"""A large net distilled into a small one: the outputs of the large one are the table.

    python examples/distil_large_into_small.py

The table is what the large net says of each image, its targets and its mistakes alike; so the small
one is to memorise it, and no image of it is held out. Images that neither has seen show what that
is worth.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_patterns as kp

STEPS = 6_000


def make_net(*widths: int) -> keras.Model:
    """A net for digits of 8 x 8 pixels, whose outputs are logits."""
    hidden = [keras.layers.Dense(width, "gelu") for width in widths]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def main() -> kp.MemorizationReport:
    """Trains the large net, distils it, and compares the two on images that neither has seen."""
    keras.utils.set_random_seed(0)
    x, labels = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    known, unseen = slice(1_000), slice(1_000, None)
    large = make_net(512, 512)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    large.compile("adam", loss, metrics=["accuracy"])
    kp.fit(large, x[known], labels[known], epochs=10, verbose=0)

    logits = large.predict(x[known], verbose=0)
    small = make_net(128)
    rate = keras.optimizers.schedules.CosineDecay(0.01, STEPS)
    small.compile(keras.optimizers.Adam(rate), "mse")
    report = kp.memorize(
        small, x[known], logits, 0.02, relative=True, batch_size=250, total_steps=STEPS, epochs=60
    )
    print(report)
    said = [net.predict(x[unseen], verbose=0).argmax(1) for net in (large, small)]
    sizes = [net.count_params() for net in (large, small)]
    print(
        f"{sizes[0]:,} weights are right on {np.mean(said[0] == labels[unseen]):.1%} of the unseen"
    )
    print(
        f"{sizes[1]:,} weights are right on {np.mean(said[1] == labels[unseen]):.1%} of the unseen"
    )
    print(f"They agree on {np.mean(said[0] == said[1]):.1%}.")
    return report


if __name__ == "__main__":
    main()
