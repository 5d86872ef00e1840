"""A run of `kp.fine_tune` in a process of its own: `python fine_tune_run.py NAME [--at STEP] [--state FILE]`."""

import argparse

import keras
from keras import layers
from models import FEATURES, LABELS
from run_case import Sender, dumped

import keras_patterns as kp
from keras_patterns import testing

HOW = {"x": FEATURES, "y": LABELS, "batch_size": 8, "epochs": 2, "log_every_steps": 3, "seed": 0, "verbose": 0}
RECIPE = {"head_steps": 3, "all_steps": 5, "base_rate": 0.05, "batch_norm": "adapt"}
LOSS = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def pretrained():
    hidden = [layers.Dense(8, "relu", name="stem"), layers.BatchNormalization(name="norm"), layers.Dropout(0.3, name="drop")]
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3, "softmax", name="head")])
    model.compile(keras.optimizers.AdamW(1.0, weight_decay=0.1), **LOSS)
    return model


def run(seed, callbacks=()):
    """Fine-tunes, and returns the state at the end."""
    keras.utils.set_random_seed(seed)
    model = pretrained()
    return testing.run_state(model, kp.fine_tune(model, **HOW, **RECIPE, callbacks=callbacks))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", type=int, default=-1)
    asked = parser.parse_args()
    state = run(asked.seed, [kp.Checkpoint("checkpoints", every_steps=1), Sender("step", asked.at, ["kill"])])
    if asked.state:
        with open(asked.state, "w", encoding="utf-8") as file:
            file.write(dumped(state))


if __name__ == "__main__":
    main()
