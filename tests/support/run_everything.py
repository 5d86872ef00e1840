"""A program that uses most of the library once, in a folder: see test_strict_processes.py."""

import sys
import warnings


def main(folder):
    import keras
    import numpy as np

    import keras_patterns as kp
    from keras_patterns.cli import main as command

    warnings.simplefilter("error")
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = x[:, :1]

    def make(optimizer="adam"):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(1, name="head")]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile(optimizer, "mse", metrics=["mae"])
        return model

    def fit(model, epochs, **arguments):
        callbacks = [
            kp.Checkpoint(folder, keep_best=1),
            kp.EarlyStopping("val_loss", rule=kp.Patience(9)),
            kp.NonFiniteGuard(),
            keras.callbacks.CSVLogger(f"{folder}.csv"),
            keras.callbacks.ModelCheckpoint(f"{folder}.keras"),
        ]
        data = {"validation_data": (x, y), "batch_size": 8, "seed": 0}
        return kp.fit(model, x, y, epochs=epochs, callbacks=callbacks, **data, **arguments)

    fit(make(), 2)
    fit(make(), 4, verbose=2)
    model = make()
    kp.select_checkpoint(folder, model, (x, y))
    kp.average_checkpoints(folder, model)
    kp.warm_start(folder, model)
    kp.CheckpointStore(folder).restore(model)
    str(kp.find_learning_rate(make(), x, y, batch_size=8, steps=20))
    scheduled = kp.optimizers.with_one_cycle(keras.optimizers.SGD(momentum=0.9), 0.1, 8)
    kp.fit(make(scheduled), x, y, epochs=2, batch_size=8, seed=0)
    kp.freeze(model, "body")
    str(kp.trainable_table(model))
    kp.cache_features(model, "body", x)
    with kp.Run(make(), plan=kp.StepPlan(4, 2), data=(x, y), seed=0, verbose="auto") as run:
        for step, _ in run.steps():
            run.log({"loss": float(step)})
    for name in ("list", "verify", "diff"):
        assert command([name, folder, *([folder] if name == "diff" else [])]) == 0
    assert command(["list", folder, "--json"]) == 0


if __name__ == "__main__":
    main(sys.argv[1])
