"""One process of test_loading.py: `python run_loading.py save FOLDER`, or `load FOLDER...`."""

import sys
from pathlib import Path

import numpy as np
from keras import layers
from models import digit_net

import keras_patterns as kp

X = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype("float32")


def make_model():
    return digit_net(layers.Dropout(0.2))


def save(folder):
    model = make_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    kp.fit(
        model,
        X,
        np.arange(16) % 10,
        batch_size=8,
        epochs=1,
        seed=0,
        verbose=0,
        callbacks=[kp.Checkpoint(folder / "runs")],
    )
    model.save(folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    kp.CheckpointStore(folder / "runs").export(folder / "net.safetensors")
    np.save(folder / "expected.npy", model.predict(X, verbose=0))


def load(folder):
    for name in ("runs", "net.keras", "net.weights.h5", "net.safetensors"):
        model = make_model()
        report = kp.load_pretrained(model, folder / name)
        assert len(report.matched) == 8, report
        np.testing.assert_allclose(
            model.predict(X, verbose=0), np.load(folder / "expected.npy"), rtol=1e-5, atol=1e-6
        )
    print(f"loaded {folder}")


def main(command, *folders):
    for folder in map(Path, folders):
        {"save": save, "load": load}[command](folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
