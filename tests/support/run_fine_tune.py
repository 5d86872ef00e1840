"""A run of `kp.fine_tune` in its own process: `python run_fine_tune.py NAME [--at STEP |
--reference]`, in the folder that holds the run's.
"""

import argparse
import os

import keras
from keras import layers
from killers import Sender
from models import FEATURES, LABELS, Case
from run_case import run

import keras_patterns as kp

HOW = {"x": FEATURES, "y": LABELS, "batch_size": 8, "epochs": 2, "log_every_steps": 3}
RECIPE = {"head_steps": 3, "all_steps": 5, "base_rate": 0.05, "batch_norm": "adapt"}
LOSS = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def pretrained():
    hidden = [
        layers.Dense(8, "relu", name="stem"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.3, name="drop"),
    ]
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3, "softmax", name="head")])
    model.compile(keras.optimizers.AdamW(1.0, weight_decay=0.1), **LOSS)
    return model


CASE = Case(pretrained, {**HOW, **RECIPE}, 8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--at", type=int, default=-1)
    parser.add_argument("--reference", action="store_true", help="no checkpoints")
    asked = parser.parse_args()
    os.makedirs(asked.name, exist_ok=True)
    os.chdir(asked.name)
    extra = [kp.Checkpoint("checkpoints", every_steps=1), Sender("step", asked.at, ["kill"])]
    run(CASE, [] if asked.reference else extra, train=kp.fine_tune)


if __name__ == "__main__":
    main()
