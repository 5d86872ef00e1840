"""Loud: a stop has a name, and a state that is not finite is not gone on with in silence."""

import keras
import numpy as np
import pytest
from killers import KillAt, Killed
from models import regressor

import keras_patterns as kp

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
BROKEN = X.copy()
BROKEN[25, 1] = np.nan


def train(*callbacks, x=X, **arguments):
    model = regressor(optimizer=keras.optimizers.SGD(0.01))
    arguments = {
        "epochs": 4,
        "batch_size": 8,
        "shuffle": False,
        "seed": 0,
        "verbose": 0,
    } | arguments
    checkpoint = kp.Checkpoint("run", every_steps=2, keep_last=None)
    return kp.fit(model, x, X[:, :1], callbacks=[*callbacks, checkpoint], **arguments)


def stops(history):
    return [
        (event["step"], event["text"]) for event in history.events if event["kind"] == "stopped"
    ]


def stop(callback):
    callback.model.stop_training = True


class StopsInStep(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            stop(self)


class StopsAtEpochEnd(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            stop(self)


class StopsInValidation(keras.callbacks.Callback):
    def on_test_end(self, logs=None):
        stop(self)


@pytest.mark.parametrize(
    ("callback", "step"),
    [
        (StopsInStep, 3),
        (StopsAtEpochEnd, 10),
        (StopsInValidation, 5),
        (lambda: keras.callbacks.EarlyStopping("loss", min_delta=9, patience=1), 10),
    ],
)
def test_a_stop_by_any_callback_is_noted_with_its_name(callback, step, capfd):
    callback = callback()
    history = train(callback, keras.callbacks.History(), validation_data=(X, X[:, :1]))
    name = type(callback).__name__
    assert stops(history) == [(step, f"by {name}")]
    capfd.readouterr()
    again = train(callback, validation_data=(X, X[:, :1]))
    assert stops(again) == stops(history)
    said = capfd.readouterr().out
    assert f"was stopped at step {step} of 20 (by {name}); there is nothing to train." in said


def test_a_stop_that_was_asked_for_is_noted_once():
    history = train(kp.EarlyStopping("loss", min_delta=9, patience=1, verbose=0))
    [(step, text)] = stops(history)
    assert step == 10
    assert text.startswith("loss: no improvement")


def test_a_run_that_ended_in_nan_says_so_when_it_is_begun_again(capfd):
    history = train(keras.callbacks.TerminateOnNaN(), x=BROKEN)
    assert stops(history) == [(4, "by TerminateOnNaN")]
    capfd.readouterr()
    train(keras.callbacks.TerminateOnNaN(), x=BROKEN)
    said = capfd.readouterr().out
    assert "was stopped at step 4 of 20 (by TerminateOnNaN); there is nothing to train." in said
    assert (
        "at step 4, layers/0/bias and 1 more is not finite; that of step 2 is the newest that is."
    ) in said


def test_a_resume_from_nan_is_named(capfd):
    with pytest.raises(Killed):
        train(KillAt(7), x=BROKEN)
    capfd.readouterr()
    train(x=BROKEN)
    said = capfd.readouterr().out
    assert "at step 6, layers/0/bias and 1 more is not finite; that of step 2 is the newe" in said


def test_a_run_that_never_was_finite_is_told_to_begin_anew(capfd):
    with pytest.raises(Killed):
        train(KillAt(3), x=np.full_like(X, np.nan))
    capfd.readouterr()
    train(x=np.full_like(X, np.nan))
    said = capfd.readouterr().out
    assert "and no earlier checkpoint that is kept is. Begin anew, with kp.NonFiniteGuard." in said


def test_a_mask_that_is_not_trained_is_no_fault(capfd):
    class Masked(keras.layers.Dense):
        def build(self, shape):
            super().build(shape)
            self.mask = self.add_weight(
                shape=(1,),
                initializer=keras.initializers.Constant(-np.inf),
                trainable=False,
                name="mask",
            )

    def run(*callbacks):
        model = regressor(Masked(3))
        checkpoint = kp.Checkpoint("run", every_steps=2)
        kp.fit(model, X, X[:, :1], epochs=2, seed=0, verbose=0, callbacks=[*callbacks, checkpoint])

    with pytest.raises(Killed):
        run(KillAt(3))
    run()
    assert "not finite" not in capfd.readouterr().out


def test_plain_fit_names_them_too(capfd):
    def run(epochs):
        model = regressor(optimizer=keras.optimizers.SGD(0.01))
        callbacks = [keras.callbacks.TerminateOnNaN(), kp.Checkpoint("run", keep_last=None)]
        arguments = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
        x = BROKEN if epochs > 2 else X
        model.fit(x, X[:, :1], callbacks=callbacks, **arguments)

    run(2)
    run(4)
    capfd.readouterr()
    run(5)
    said = capfd.readouterr().out
    assert "layers/0/bias and 1 more is not finite; that of step 10 is the newest that is" in said


def test_whoever_takes_them_from_a_store_is_told(capfd):
    train(keras.callbacks.TerminateOnNaN(), x=BROKEN)
    model = regressor(optimizer=keras.optimizers.SGD(0.01))
    store = kp.CheckpointStore("run")
    for take in (store.restore, store.warm_start):
        capfd.readouterr()
        take(model)
        assert "is not finite; that of step 2 is the newest that is" in capfd.readouterr().out
        take(model, step=2)
        assert "not finite" not in capfd.readouterr().out
