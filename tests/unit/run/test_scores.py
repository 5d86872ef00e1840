"""The best by score: the same step for `keep_best`, early stopping and selection, whatever saves,
validations and epochs coincide.
"""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from killers import KillAt, Killed

import keras_patterns as kp

X = np.ones((20, 1), "float32")
STEPS = 30


def wave(step):
    """A metric with many minima that differ; the deepest of the first 30 steps is at 19."""
    return math.cos(0.7 * step) + 0.02 * abs(step - 17)


def counter():
    """A model whose one weight is the number of its steps."""

    def mean_wave(target, output):
        return ops.mean(ops.cos(0.7 * output) + 0.02 * ops.abs(output - 17))

    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(
        keras.optimizers.SGD(1.0), lambda target, output: -ops.mean(output), metrics=[mean_wave]
    )
    return model


def train(folder, *callbacks, model=None, **arguments):
    arguments = {"total_steps": STEPS, "steps_per_epoch": 5, "batch_size": 4, **arguments}
    checkpoint = {"every_steps": arguments.pop("every_steps", None), "keep_last": 2, "keep_best": 1}
    checkpoint = kp.Checkpoint(folder, **checkpoint, monitor="val_mean_wave", mode="min")
    return kp.fit(
        model or counter(),
        X,
        X,
        validation_data=(X, X),
        seed=0,
        verbose=0,
        callbacks=[*callbacks, checkpoint],
        **arguments,
    )


# Where a run saves and validates has no backend: few of the pairs go through each of them.
SAVES = [(None, True), (3, False), (50, False)]
VALIDATIONS = [
    {},
    {"validation_freq": 2},
    {"validate_every_steps": 2},
    {"validate_every_steps": 3, "validation_freq": ()},
    {"validate_every_steps": 7, "validation_freq": [2, 5]},
]
EVERYWHERE = [(0, 2), (1, 3), (2, 1)]


@pytest.mark.parametrize(
    ("every_steps", "restores", "validations"),
    [
        pytest.param(
            *saves,
            validations,
            id=f"{validations}-{saves[0]}",
            marks=() if (one, other) in EVERYWHERE else pytest.mark.once,
        )
        for one, saves in enumerate(SAVES)
        for other, validations in enumerate(VALIDATIONS)
    ],
)
def test_all_agree_on_the_best_step(tmp_path, every_steps, restores, validations):
    arguments = {"mode": "min", "patience": 99, "verbose": 0, "restore_best_weights": restores}
    stopping = kp.EarlyStopping("val_mean_wave", unit="steps", **arguments)
    model = counter()
    history = train(tmp_path, stopping, model=model, every_steps=every_steps, **validations)
    validated = [row["step"] for row in history.validations]
    best = min(validated, key=wave)
    store = kp.CheckpointStore(tmp_path)
    assert store.best().position.step == best
    assert stopping.best_step == best
    assert float(model.get_weights()[0].item()) == (best if restores else STEPS)
    selection = kp.select_checkpoint(
        store, counter_built(), (X, X), "mean_wave", mode="min", steps=None, verbose=0
    )
    # It may choose any checkpoint that is kept, validated in the run or not.
    assert selection.best.values["mean_wave"] <= wave(best) + 1e-5
    assert best in [row.step for row in selection.rows]


def counter_built():
    model = counter()
    model.optimizer.build(model.trainable_variables)
    return model


def test_the_best_is_kept_where_it_was_validated_between_two_saves(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    history = kp.fit(
        model,
        x,
        y,
        validation_data=(x, -y),
        batch_size=4,
        epochs=6,
        shuffle=False,
        seed=0,
        verbose=0,
        validate_every_steps=2,
        callbacks=[kp.Checkpoint(tmp_path, every_steps=3, keep_last=2, keep_best=1)],
    )
    best = min(history.validations, key=lambda row: row["val_loss"])
    entry = kp.CheckpointStore(tmp_path).best()
    assert (entry.position.step, entry.score) == (best["step"], best["val_loss"])
    assert best["step"] == 2
    assert kp.CheckpointStore(tmp_path).steps() == [2, 27, 30]


@pytest.mark.once
@pytest.mark.parametrize("kill_at", [8, 19, 20])
def test_a_killed_run_keeps_the_same(tmp_path, kill_at):
    arguments = {"validate_every_steps": 2, "every_steps": 3}
    whole = train(tmp_path / "whole", **arguments)
    with pytest.raises(Killed):
        train(tmp_path / "killed", KillAt(kill_at), **arguments)
    again = train(tmp_path / "killed", **arguments)
    assert again.validations == whole.validations
    whole, again = (kp.CheckpointStore(tmp_path / name) for name in ("whole", "killed"))
    assert again.steps() == whole.steps()
    assert again.best().position == whole.best().position


@pytest.mark.once
def test_a_best_whose_bytes_have_decayed_counts_no_more(tmp_path):
    arguments = {"every_steps": 4, "validate_every_steps": 1, "total_steps": 11}
    with pytest.raises(Killed):
        train(tmp_path, KillAt(9), **arguments)
    store = kp.CheckpointStore(tmp_path)
    assert (store.steps(), store.best().position.step) == ([5, 8], 5)
    file = max(store.best().folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    train(tmp_path, **arguments)
    # Step 10 is better than step 8, the only sound one that there was.
    assert kp.CheckpointStore(tmp_path).steps() == [5, 10, 11]


@pytest.mark.once
def test_of_equal_values_the_earlier_is_the_best(tmp_path):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    stopping = kp.EarlyStopping(patience=99, verbose=0, unit="steps")
    kp.fit(
        model,
        X,
        X,
        validation_data=(X, X),
        epochs=4,
        seed=0,
        verbose=0,
        callbacks=[stopping, kp.Checkpoint(tmp_path, every_steps=3, keep_last=9, keep_best=1)],
    )
    assert kp.CheckpointStore(tmp_path).best().position.step == stopping.best_step == 1


def test_in_plain_fit_the_best_epoch_is_kept(tmp_path):
    checkpoint = kp.Checkpoint(
        tmp_path, every_steps=12, keep_last=1, keep_best=1, monitor="val_mean_wave", mode="min"
    )
    model = counter()
    model.fit(
        X, X, batch_size=4, epochs=6, validation_data=(X, X), verbose=0, callbacks=[checkpoint]
    )
    assert kp.CheckpointStore(tmp_path).best().position.step == min(range(5, 31, 5), key=wave)


@pytest.mark.parametrize(
    ("monitor", "arguments", "found"),
    [
        ("val_wave", {}, r"There are \['loss', 'mean_wave', 'val_loss', 'val_mean_wave'\]"),
        ("val_wave", {"validate_every_steps": 2}, r"There are \['val_loss', 'val_mean_wave'\]"),
        ("wave", {}, r"There are \['loss', 'mean_wave', 'val_loss', 'val_mean_wave'\]"),
    ],
)
def test_a_monitor_that_does_not_exist_is_refused_where_it_is_missed(
    tmp_path, monitor, arguments, found
):
    model = counter()
    checkpoint = kp.Checkpoint(tmp_path, 2, keep_best=1, monitor=monitor, mode="min")
    with pytest.raises(ValueError, match=found):
        kp.fit(
            model,
            X,
            X,
            batch_size=4,
            epochs=3,
            validation_data=(X, X),
            seed=0,
            verbose=0,
            callbacks=[checkpoint],
            **arguments,
        )
    assert model.optimizer.iterations.numpy() == (2 if arguments else 5)
