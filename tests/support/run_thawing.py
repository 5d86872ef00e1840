"""One process of test_thawing.py: `python run_thawing.py FOLDER`."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_patterns as kp

RNG = np.random.default_rng(8)
X = RNG.normal(size=(40, 6, 6, 1)).astype("float32")
Y = RNG.integers(0, 3, 40)
STAGES = {4: "high*", 8: "low*"}


class Noting(keras.callbacks.Callback):
    """What is trained in each step."""

    def __init__(self):
        super().__init__()
        self.trained = []

    def on_train_batch_begin(self, batch, logs=None):
        self.trained.append(
            ["/".join(variable.path.split("/")[-2:]) for variable in self.model.trainable_variables]
        )


def make_model():
    """Its weights come from NumPy. No bias stands before a BatchNormalization: its gradient would
    be noise, Adam's step full.
    """
    body = [
        layers.Conv2D(3, 3, activation="relu", name="stem"),
        layers.Conv2D(4, 3, use_bias=False, name="low"),
        layers.BatchNormalization(name="low_norm"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(5, use_bias=False, name="high"),
        layers.BatchNormalization(name="high_norm"),
        layers.ReLU(),
    ]
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), *body, layers.Dense(3, activation="softmax", name="head")]
    )
    model.set_weights(
        [
            RNG.uniform(0.1, 1.0, weight.shape) - 0.5 * (weight.ndim > 1)
            for weight in model.get_weights()
        ]
    )
    kp.freeze(model, "stem")
    optimizer = kp.optimizers.with_layer_rates(keras.optimizers.Adam(1e-3), model, decay=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def main(folder):
    noting, thaw = Noting(), kp.GradualUnfreeze(STAGES, batch_norm="frozen")
    callbacks = [thaw, noting, kp.Checkpoint(folder / "runs", every_steps=2, keep_last=9)]
    history = kp.fit(
        make_model(),
        X,
        Y,
        batch_size=8,
        total_steps=12,
        epochs=2,
        seed=3,
        verbose=0,
        callbacks=callbacks,
    )
    said = {"trained": noting.trained, "loss": history.history["loss"]}
    (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
