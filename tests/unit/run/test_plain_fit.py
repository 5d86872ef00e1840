"""kp.Checkpoint in plain model.fit: saves and resumes at the ends of epochs."""

import keras
import numpy as np
import pytest
from keras import layers
from killers import KillAt, Killed
from models import regressor

import keras_patterns as kp


def make_model(rate=0.5):
    keras.utils.set_random_seed(3)
    return regressor(layers.Dense(8, "relu"), layers.Dropout(rate))


def fit(folder, *callbacks, epochs=4, fit_once_more=False, rate=0.5, **arguments):
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    model = make_model(rate)
    checkpoint = [kp.Checkpoint(folder, **arguments)] if folder else []
    history = model.fit(
        x,
        x.sum(1),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, *checkpoint],
        shuffle=False,
    )
    return model, history


def assert_same(first, second):
    assert first[1].history == second[1].history
    assert first[1].epoch == second[1].epoch
    for one, other in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(first[0].optimizer.variables, second[0].optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one.value), keras.ops.convert_to_numpy(other.value)
        )


def test_a_killed_run_goes_on_at_the_start_of_its_epoch(capsys):
    whole = fit(None)
    with pytest.raises(Killed):
        fit("runs", KillAt(12))
    resumed = fit("runs")
    assert (
        "going on from epoch 3, after step 10: the newest checkpoint in" in capsys.readouterr().out
    )
    assert_same(whole, resumed)


def test_a_finished_run_trains_nothing_and_a_longer_one_goes_on():
    whole, longer = fit("runs"), fit(None, epochs=6)
    assert_same(fit("runs"), whole)
    assert_same(fit("runs", epochs=6), longer)


def test_what_the_script_changed_is_named(capsys):
    fit("runs", epochs=2)
    fit("runs", epochs=3)
    assert "it was" not in capsys.readouterr().out
    fit("runs", epochs=4, rate=0.25)
    assert "model.layers[1].rate is 0.25, it was 0.5." in capsys.readouterr().out


def test_a_later_fit_begins_at_its_first_epoch():
    fit("runs")
    model, _ = fit("runs")
    x = np.ones((8, 4), "float32")
    assert model.fit(x, x[:, 0], epochs=2, verbose=0).epoch == [0, 1]


def test_the_weights_alone_begin_a_new_run():
    _first, _ = fit("runs")
    model, history = fit("runs", epochs=1, resume="weights")
    assert history.epoch == [0]
    assert [entry.position.run for entry in kp.CheckpointStore("runs").entries()] == [1, 1, 1, 2]
    fresh, _ = fit(None, epochs=1)
    assert not np.array_equal(model.get_weights()[0], fresh.get_weights()[0])


def test_every_steps_saves_at_the_ends_of_the_epochs_in_which_it_is_due():
    fit("runs", every_steps=7, keep_last=9)
    assert kp.CheckpointStore("runs").steps() == [10, 15, 20]


class StopAfter(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


@pytest.mark.parametrize("first", ["the stop", "the checkpoint"])
def test_a_run_is_saved_at_its_end(first):
    x = np.ones((40, 4), "float32")
    callbacks = [StopAfter(1), kp.Checkpoint("runs", every_steps=100)]
    model = make_model()
    model.fit(
        x,
        x[:, 0],
        batch_size=8,
        epochs=4,
        verbose=0,
        callbacks=callbacks if first == "the stop" else callbacks[::-1],
    )
    assert kp.CheckpointStore("runs").steps() == [10]


def test_a_run_of_kp_fit_is_refused():
    x = np.ones((8, 4), "float32")
    kp.fit(make_model(), x, x[:, 0], seed=0, verbose=0, callbacks=[kp.Checkpoint("runs")])
    with pytest.raises(
        kp.ResumeRefusedError, match=r"saved by kp\.fit, and only kp\.fit can go on with it"
    ):
        fit("runs")


def test_kp_fit_refuses_a_run_of_model_fit():
    fit("runs")
    x = np.ones((8, 4), "float32")
    with pytest.raises(kp.ResumeRefusedError, match=r"data\.kind is 'arrays', it was 'model\.fit"):
        kp.fit(
            make_model(),
            x,
            x[:, 0],
            seed=0,
            total_steps=100,
            steps_per_epoch=10,
            verbose=0,
            callbacks=[kp.Checkpoint("runs")],
        )
