"""Makes docs/history.png: a large net overfits three hundred examples. Run it in this folder."""

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer

import keras_patterns as kp

x, y = load_breast_cancer(return_X_y=True)
order = np.random.default_rng(0).permutation(len(x))
x, y = ((x - x.mean(0)) / x.std(0))[order].astype("float32"), y[order]
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(512, activation="relu") for _ in range(2)]
model = keras.Sequential([*layers, keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(4e-4), keras.losses.BinaryCrossentropy(from_logits=True))
history = kp.fit(
    model,
    x[:300],
    y[:300],
    validation_data=(x[300:], y[300:]),
    total_steps=400,
    epochs=40,
    log_every_steps=2,
    validate_every_steps=5,
    callbacks=[keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=10)],
    seed=0,
    verbose=0,
)
kp.plot_history(history).figure.savefig("history.png", pil_kwargs={"optimize": True})
