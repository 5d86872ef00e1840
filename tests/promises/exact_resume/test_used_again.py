"""Exact resume: objects can be used for more runs than one in a process, as in a notebook."""

import keras
import numpy as np
import pytest
from keras import layers
from killers import KillAt, Killed
from models import regressor

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X.sum(1)


def make_model():
    keras.utils.set_random_seed(1)
    return regressor(layers.Dense(4), layers.Dropout(0.5), optimizer=keras.optimizers.Adam(0.01))


def fit(model, *callbacks, x=X, y=Y, **arguments):
    data = {"batch_size": 8} if y is not None else {}
    total = {"total_steps": 24, "steps_per_epoch": 8, **arguments}
    return kp.fit(model, x, y, seed=0, verbose=0, callbacks=list(callbacks), **data, **total)


def halved():
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)


def test_a_checkpoint_that_is_used_again_saves_from_the_start():
    checkpoint = kp.Checkpoint("runs", every_steps=5, resume="never", keep_last=9)
    fit(make_model(), checkpoint)
    with pytest.raises(Killed):
        fit(make_model(), checkpoint, KillAt(13))
    positions = [entry.position for entry in kp.CheckpointStore("runs").entries()]
    assert [position.step for position in positions if position.run == 2] == [5, 10]


def test_a_rate_that_training_moved_is_not_the_script_s():
    expected_model = make_model()
    expected = run_state(expected_model, fit(expected_model, halved()))
    model = make_model()
    with pytest.raises(Killed):
        # The newest checkpoint is of step 5; the rate moved at step 8.
        fit(model, halved(), kp.Checkpoint("runs", every_steps=5), KillAt(9))
    found = run_state(model, fit(model, halved(), kp.Checkpoint("runs", every_steps=5)))
    assert_same_state(expected, found)


def test_a_rate_that_the_script_changed_is(capsys):
    with pytest.raises(Killed):
        fit(make_model(), kp.Checkpoint("runs", every_steps=5), KillAt(9))
    model = make_model()
    model.optimizer.learning_rate = 0.5
    fit(model, kp.Checkpoint("runs", every_steps=5))
    assert "optimizer.learning_rate is 0.5, it was 0.01." in capsys.readouterr().out
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == 0.5


def batches():
    while True:
        rows = np.random.randint(0, 64, 8)
        yield X[rows], Y[rows]


def test_a_generator_that_was_used_is_refused():
    generator = batches()
    with pytest.raises(Killed):
        fit(make_model(), kp.Checkpoint("runs", every_steps=5), KillAt(9), x=generator, y=None)
    with pytest.raises(
        ValueError, match=r"this generator has given batches already\. Make it anew"
    ):
        fit(make_model(), kp.Checkpoint("runs", every_steps=5), x=generator, y=None)


class Iterable:
    """Draws from NumPy's global random state, anew each time that it is begun."""

    def __iter__(self):
        return batches()


def test_an_iterable_goes_on_with_its_random_numbers():
    np.random.seed(3)
    expected = fit(make_model(), x=Iterable(), y=None).history
    np.random.seed(3)
    with pytest.raises(Killed):
        fit(make_model(), kp.Checkpoint("runs", every_steps=5), KillAt(9), x=Iterable(), y=None)
    np.random.seed(4)
    assert (
        fit(make_model(), kp.Checkpoint("runs", every_steps=5), x=Iterable(), y=None).history
        == expected
    )


def test_the_best_is_kept_where_not_every_epoch_is_validated():
    fit(
        make_model(),
        kp.Checkpoint("runs", keep_last=1, keep_best=1),
        validation_data=(X, Y),
        validation_freq=2,
    )
    assert kp.CheckpointStore("runs").best().position.step == 16


def test_the_best_by_a_validation_that_is_not_there_is_refused_at_once():
    with pytest.raises(
        ValueError,
        match=r"Checkpoint\(monitor='val_loss', keep_best=1\) needs validation data; there is none",
    ):
        fit(make_model(), kp.Checkpoint("runs", keep_best=1))


def test_metrics_inside_an_epoch():
    history = fit(make_model(), log_every_steps=3)
    assert [entry["step"] for entry in history.step_logs] == [3, 6, 9, 12, 15, 18, 21]
    assert all(entry["loss"] > 0 for entry in history.step_logs)
    with pytest.raises(ValueError, match=r"`log_every_steps` must be at least 1\. Received: 0"):
        fit(make_model(), log_every_steps=0)


def test_targets_that_are_left_out_of_one_output():
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mse"})
    weights = {"a": np.ones(64, "float32"), "b": None}
    history = kp.fit(
        model, X, {"a": Y, "b": Y}, sample_weight=weights, batch_size=8, seed=0, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
