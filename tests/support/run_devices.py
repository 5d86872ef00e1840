"""A run on two devices of this host, which are the CPU seen twice; prints what came of each case.

Usage: run_devices.py
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import contextlib
import json

import keras
import numpy as np

import keras_patterns as kp

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def model():
    keras.utils.set_random_seed(1)
    net = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=2),
            keras.layers.Dense(1),
        ]
    )
    net.compile("adam", "mse")
    return net


def fit(net, x=X, y=Y, **arguments):
    given = {"batch_size": 4, "epochs": 2, "seed": 0, "verbose": 0, **arguments}
    return kp.fit(net, x, y, **given)


def trained(**arguments):
    net = model()
    fit(net, **arguments)
    return net.get_weights()


def said(function, *arguments, **more):
    """The error, or None."""
    try:
        function(*arguments, **more)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def odd_batches():
    while True:
        yield X[:4], Y[:4]
        yield X[:4], Y[:4]
        yield X[:3], Y[:3]


class Stop(keras.callbacks.Callback):
    """Leaves the run before its eighth step."""

    left = 7

    def on_train_batch_begin(self, batch, logs=None):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1


def on_jax():
    alone = trained()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    both = trained()
    with contextlib.suppress(KeyboardInterrupt):
        fit(model(), callbacks=[kp.Checkpoint("runs", every_steps=3), Stop()])
    resumed = trained(callbacks=[kp.Checkpoint("runs", every_steps=3)])
    bare = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    return {
        "off by": max(float(np.abs(a - b).max()) for a, b in zip(alone, both, strict=True)),
        "resumed": all(np.array_equal(a, b) for a, b in zip(both, resumed, strict=True)),
        "tail": said(fit, model(), X[:19], Y[:19]),
        "tail that is not reached": said(
            fit, model(), X[:19], Y[:19], epochs=None, total_steps=4, steps_per_epoch=4
        ),
        "batch": said(fit, model(), batch_size=5),
        "validation": said(fit, model(), validation_data=(X[:7], Y[:7])),
        "generator": said(kp.fit, model(), odd_batches(), steps_per_epoch=3, seed=0, verbose=0),
        "finder": said(kp.find_learning_rate, model(), X, Y, batch_size=5, steps=10, verbose=0),
        "loop": said(own_loop, bare),
    }


def own_loop(net):
    with kp.Run(net, plan=kp.StepPlan(2, 2), data=(X, Y), seed=0) as run:
        for _ in run.steps():
            pass


def on_tensorflow():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    found = {}
    for name, strategy in {
        "mirrored": tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"]),
        "one device": tf.distribute.OneDeviceStrategy("cpu:0"),
    }.items():
        with strategy.scope():
            inside = model()
            part = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        outside = keras.Sequential([keras.Input((4,)), part, keras.layers.Dense(1)])
        outside.compile("adam", "mse")
        found[f"{name}, model"] = said(fit, inside, callbacks=[kp.Checkpoint("runs")])
        found[f"{name}, part"] = said(fit, outside)
        found[f"{name}, plain"] = said(
            inside.fit, X, Y, verbose=0, callbacks=[kp.Checkpoint("plain")]
        )
        found[f"{name}, finder"] = said(kp.find_learning_rate, inside, X, Y, verbose=0)
        found[f"{name}, loop"] = said(own_loop, inside)
        net = model()
        with strategy.scope():
            found[f"{name}, fit"] = said(fit, net)
    return {**found, **ignored()}


def ignored():
    """A distribution to which this backend pays no heed."""
    devices = ["cpu:0", "cpu:1"]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return {"ignored": said(fit, model())}


if __name__ == "__main__":
    cases = {"jax": on_jax, "tensorflow": on_tensorflow, "torch": ignored}
    print(json.dumps(cases[BACKEND]()))
