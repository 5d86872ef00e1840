"""Writes curves.json: the losses of real sweeps, from a convolutional net and from a dense one.

KERAS_BACKEND=jax python tests/oracles/make_curves.py    # in an environment with this package and
scikit-learn
"""

import json
from pathlib import Path

import keras
from sklearn.datasets import load_breast_cancer, load_digits

import keras_patterns as kp

OUT = Path(__file__).with_name("curves.json")
layers = keras.layers


def digits():
    images, labels = load_digits(return_X_y=True)
    hidden = [layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dropout(0.3)]
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *hidden, layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, images.reshape(-1, 8, 8, 1) / 16, labels


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(momentum=0.9), "binary_crossentropy")
    return model, x, y


def main():
    curves = {}
    for make in (digits, cancer):
        for steps in (60, 150):
            keras.utils.set_random_seed(1)
            model, x, y = make()
            sweep = kp.find_learning_rate(model, x.astype("float32"), y, steps=steps, verbose=0)
            curves[f"{make.__name__}, {steps} steps"] = {
                "steps": steps,
                "rates": [float(f"{rate:.9g}") for rate in sweep.rates],
                "losses": [float(f"{loss:.7g}") for loss in sweep.losses],
            }
    OUT.write_text(json.dumps(curves) + "\n")


if __name__ == "__main__":
    main()
