"""Loud: several runs of one script in one folder are told apart, or refused."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers
from killers import KillAt, Killed

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


def make_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="body"), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, *callbacks, **arguments):
    arguments = {"epochs": 2, "batch_size": 8, "seed": 0, "verbose": 0} | arguments
    return kp.fit(model, X, X[:, :1], callbacks=list(callbacks), **arguments)


def two_phases(*killers):
    """The head, and then all, as a script would."""
    model = make_model()
    kp.freeze(model, "body")
    fit(model, kp.Checkpoint("run", every_steps=3, phase="head"), *killers[:1])
    kp.unfreeze(model)
    history = fit(model, kp.Checkpoint("run", every_steps=3, phase="all"), *killers[1:], epochs=3)
    return run_state(model, history)


@pytest.mark.parametrize(
    "killers", [(KillAt(4),), (keras.callbacks.Callback(), KillAt(8))], ids=["first", "second"]
)
def test_a_script_of_two_phases_goes_on_in_the_one_that_was_killed(killers, capfd):
    expected = two_phases()
    shutil.rmtree("run")
    with pytest.raises(Killed):
        two_phases(*killers)
    capfd.readouterr()
    assert_same_state(expected, two_phases())
    said = capfd.readouterr().out
    if len(killers) == 2:
        assert "the run in run/phase-head is finished at step 10 of 10; there is no" in said
        assert "going on from step 6 of 15: the newest checkpoint in run/phase-all." in said
    assert kp.CheckpointStore("run", phase="head").steps()[-1] == 10
    assert kp.CheckpointStore("run", phase="all").steps()[-1] == 15
    assert kp.CheckpointStore("run").steps() == []


WAYS_OUT = r"larger total_steps= .*phase=\"name\".*another folder"


def test_a_loop_over_fit_is_refused_at_its_second_turn():
    model = make_model()
    fit(model, kp.Checkpoint("run"), epochs=1)
    weights = model.get_weights()
    with pytest.raises(ValueError, match=WAYS_OUT) as caught:
        fit(model, kp.Checkpoint("run"), epochs=1)
    assert "to the end of its plan of 5. This call asks for 5 in all" in str(caught.value)
    assert all(map(np.array_equal, model.get_weights(), weights))
    assert kp.CheckpointStore("run").steps() == [5]


def test_a_loop_over_plain_fit_is_refused_at_its_second_turn():
    model = make_model()
    model.fit(X, X[:, :1], epochs=1, verbose=0, callbacks=[kp.Checkpoint("run")])
    with pytest.raises(ValueError, match=WAYS_OUT):
        model.fit(X, X[:, :1], epochs=1, verbose=0, callbacks=[kp.Checkpoint("run")])
    model.fit(X, X[:, :1], epochs=3, verbose=0, callbacks=[kp.Checkpoint("run")])
    assert kp.CheckpointStore("run").steps() == [2, 4, 6]


@pytest.mark.once
def test_a_loop_of_one_s_own_is_refused_too():
    model = make_model()

    def run():
        plan, checkpoint = kp.StepPlan(4, 2), kp.Checkpoint("run")
        with kp.Run(model, plan=plan, data=(X, X[:, :1]), checkpoint=checkpoint, seed=0) as one:
            one.fit()

    run()
    with pytest.raises(ValueError, match=WAYS_OUT):
        run()


@pytest.mark.once
def test_other_trainable_variables_are_another_phase():
    model = make_model()
    fit(model, kp.Checkpoint("run"))
    kp.freeze(model, "body")
    with pytest.raises(ValueError, match=r"other variables are trainable now"):
        fit(model, kp.Checkpoint("run"), epochs=4)


@pytest.mark.once
def test_a_larger_plan_goes_on(capfd):
    model = make_model()
    for epochs in (1, 2, 3):
        history = fit(model, kp.Checkpoint("run"), epochs=epochs)
    assert len(history.history["loss"]) == 3
    assert "going on from step 10 of 15" in capfd.readouterr().out


@pytest.mark.once
def test_a_new_model_gets_the_finished_run():
    first = fit(make_model(), kp.Checkpoint("run"))
    assert fit(make_model(), kp.Checkpoint("run")).history == first.history


@pytest.mark.once
def test_an_interrupted_run_goes_on_with_the_same_model():
    model = make_model()
    with pytest.raises(Killed):
        fit(model, kp.Checkpoint("run", every_steps=2), KillAt(5))
    assert len(fit(model, kp.Checkpoint("run", every_steps=2)).history["loss"]) == 2


@pytest.mark.once
def test_a_folder_that_was_emptied_is_a_new_start():
    model = make_model()
    fit(model, kp.Checkpoint("run"))
    shutil.rmtree("run")
    fit(model, kp.Checkpoint("run"))


@pytest.mark.once
@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x" * 65, "ä", 3])
def test_a_phase_has_a_name_that_every_file_system_takes(name):
    with pytest.raises(ValueError, match="Received: phase="):
        kp.Checkpoint("run", phase=name)
