"""The arguments of `model.fit`, in `kp.fit`: the same meaning, or a refusal by name."""

import inspect
import re

import keras
import numpy as np
import pytest
from killers import KillAt, Killed
from models import regressor
from places import ROOT

import keras_patterns as kp
from keras_patterns.backends import current

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = X[:, :1]
VALIDATED = {"validation_data": (X, Y)}
OWN = {"total_steps", "plan", "log_every_steps", "validate_every_steps", "seed", "fuse"}
OWN |= {"preflight"}


def fit(model, *data, **arguments):
    return kp.fit(model, *(data or (X, Y)), **{"seed": 0, "verbose": 0, **arguments})


def start(*hidden, **compiled):
    """A model that always begins with the same weights."""
    keras.utils.set_random_seed(1)
    return regressor(*hidden, **compiled)


class Epochs(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.heard = []

    def on_epoch_begin(self, epoch, logs=None):
        self.heard.append(epoch)


def batches(count=10**6):
    """Numbered, so that it shows which ones a run has had."""
    for number in range(count):
        yield X[:8] * 0 + number, Y[:8] * 0 + number


class Numbered(keras.utils.PyDataset):
    num_batches = 3

    def __getitem__(self, index):
        return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]


def same_weights(one, other):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_arguments_are_those_of_model_fit_in_its_order_and_ours_come_after_by_name():
    theirs = inspect.signature(keras.Model.fit).parameters
    ours = inspect.signature(kp.fit).parameters
    names = [name for name in ours if name not in OWN]
    assert names == ["model", *list(theirs)[1:]]
    for name in names[1:]:
        assert ours[name].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD
        # None lets total_steps= and steps_per_epoch= give the epochs.
        assert ours[name].default == (None if name == "epochs" else theirs[name].default)
    assert all(ours[name].kind == inspect.Parameter.KEYWORD_ONLY for name in OWN)


@pytest.mark.once
def test_the_page_has_every_argument_of_model_fit_in_its_order():
    page = (ROOT / "docs" / "model-fit.md").read_text(encoding="utf-8")
    table = page.split("## The arguments")[1].split("##")[0]
    rows = re.findall(r"^\| `(\w+)` \| (same|differs|refused) \| (.*) ?\|$", table, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(inspect.signature(keras.Model.fit).parameters)[1:]
    assert all(why for _, kind, why in rows if kind != "same")


def test_all_arguments_by_position():
    by_name, by_position = start(), start()
    weights = np.arange(40.0)
    fit(by_name, X, Y, batch_size=8, epochs=3, validation_data=(X, Y), sample_weight=weights)
    given = (X, Y, 8, 3, 0, None, 0.0, (X, Y), True, None, weights, 0, None, None, None, 1)
    kp.fit(by_position, *given, seed=0)
    same_weights(by_name, by_position)


@pytest.mark.parametrize(
    "make", [lambda: (X, Y), lambda: (Numbered(),)], ids=["arrays", "a PyDataset"]
)
def test_a_run_from_an_initial_epoch_is_the_rest_of_the_whole_run(make):
    whole, parts = start(optimizer="adam"), start(optimizer="adam")
    fit(whole, *make(), epochs=4)
    fit(parts, *make(), epochs=2)
    heard = Epochs()
    history = fit(parts, *make(), epochs=4, initial_epoch=2, callbacks=[heard])
    same_weights(whole, parts)
    assert heard.heard == history.epoch == [2, 3]
    steps = 3 if len(make()) == 1 else 2
    assert history.epoch_end_steps == [3 * steps, 4 * steps]


def test_a_generator_begins_with_its_first_batch_at_an_initial_epoch():
    whole, parts = start(), start()
    plan = {"steps_per_epoch": 3, "epochs": 3}
    fit(whole, batches(), **plan)
    once = batches()
    fit(parts, once, **{**plan, "epochs": 1})
    fit(parts, once, **plan, initial_epoch=1)
    same_weights(whole, parts)


@pytest.mark.parametrize(
    "make", [lambda: (X, Y), lambda: (batches(),)], ids=["arrays", "generator"]
)
def test_a_run_from_an_initial_epoch_that_is_killed_goes_on_exactly(make):
    given = {"steps_per_epoch": 4, "epochs": 4, "initial_epoch": 2}
    whole, killed, other = start(), start(), start()
    fit(whole, *make(), **given)
    callbacks = [kp.Checkpoint("runs", every_steps=1)]
    with pytest.raises(Killed):
        fit(killed, *make(), **given, callbacks=[*callbacks, KillAt(3)])
    assert kp.CheckpointStore("runs").steps() == [9, 10, 11]
    history = fit(other, *make(), **given, callbacks=callbacks)
    same_weights(whole, other)
    assert history.epoch == [2, 3]
    # And once more: it is finished.
    assert fit(start(), *make(), **given, callbacks=callbacks).epoch == [2, 3]


def test_a_resume_says_that_its_checkpoint_decides_and_not_the_initial_epoch(capsys):
    given = {"batch_size": 8, "callbacks": [kp.Checkpoint("runs")]}
    fit(start(), **given, epochs=1)
    history = fit(start(), **given, epochs=4, initial_epoch=2, verbose=2)
    assert history.epoch == [0, 1, 2, 3]
    assert "initial_epoch= is for a run that begins" in capsys.readouterr().out


def test_a_generator_of_another_initial_epoch_is_refused_on_a_resume():
    given = {"steps_per_epoch": 2, "epochs": 3}
    fit(start(), batches(), **given, initial_epoch=1, callbacks=[kp.Checkpoint("runs")])
    with pytest.raises(kp.ResumeRefusedError, match=r"data\.first_step is None, it was 2"):
        fit(start(), batches(), **given, callbacks=[kp.Checkpoint("runs")])


@pytest.mark.parametrize("initial", [2, 5])
def test_an_initial_epoch_past_the_last_one_trains_nothing(initial, capsys):
    model = start()
    before = model.get_weights()
    history = fit(model, epochs=2, initial_epoch=initial, verbose=2)
    assert history.epoch == []
    assert f"initial_epoch={initial}, and there are 2 epochs" in capsys.readouterr().out
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_parts_that_are_thawed_before_the_initial_epoch_are_trained():
    model = start(keras.layers.Dense(3, name="body"))
    kp.freeze(model, "body")
    before = model.layers[0].get_weights()[0]
    thaw = kp.GradualUnfreeze({6: "body"})
    fit(model, steps_per_epoch=4, epochs=4, initial_epoch=2, callbacks=[thaw])
    assert model.layers[0].trainable
    assert not np.array_equal(model.layers[0].get_weights()[0], before)


@pytest.mark.parametrize("steps", [1, 3, 7, 40])
def test_steps_in_an_epoch_without_a_batch_size_make_one_pass_as_in_keras(steps):
    ours, theirs = start(), start()
    fit(ours, steps_per_epoch=steps, epochs=1, shuffle=False)
    theirs.fit(X, Y, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_with_a_number_of_steps_in_all_a_batch_has_32():
    model = start()
    history = fit(model, total_steps=4, steps_per_epoch=2, callbacks=[kp.Checkpoint("runs")])
    assert history.epoch_end_steps == [2, 4]
    _, record = kp.CheckpointStore("runs").read_record()
    assert record.identity.data["batch_size"] == 32


def test_the_limits_of_keras_cut_a_run_short(capsys):
    heard = Epochs()
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(3)
    try:
        history = fit(start(), batch_size=8, epochs=4, verbose=2, callbacks=[heard])
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
    assert heard.heard == [0, 1]
    assert history.epoch_end_steps == [3, 6]
    assert "trying out: 2 of 4 epochs of 3 of 5 steps" in capsys.readouterr().out


def test_limits_that_are_no_less_change_nothing(capsys):
    keras.config.set_max_epochs(4)
    try:
        assert fit(start(), batch_size=8, epochs=4, verbose=2).epoch == [0, 1, 2, 3]
    finally:
        keras.config.set_max_epochs(None)
    assert "trying out" not in capsys.readouterr().out


def frozen(model):
    model.trainable = False
    model.compile("sgd", "mse")
    return model


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)])


def unbuilt_with_frozen_layers():
    model = unbuilt()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    return model


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, trainable=False)

    def call(self, inputs):
        return self.dense(inputs)


def unbuilt_of_ones_own():
    model = Own()
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: frozen(start()),
        lambda: frozen(unbuilt()),
        unbuilt_with_frozen_layers,
        unbuilt_of_ones_own,
    ],
)
def test_a_model_that_is_frozen_as_a_whole_is_refused_built_or_not(make):
    with pytest.raises(ValueError, match=r"is frozen, so there is nothing to train"):
        fit(make())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs=0 trains nothing"),
        ({"epochs": -1}, ValueError, "epochs=-1 trains nothing"),
        ({"epochs": 2.0}, TypeError, "`epochs` must be a whole number"),
        ({"steps_per_epoch": np.int64(-1)}, ValueError, "steps_per_epoch must be at least 1"),
        ({"steps_per_epoch": 2.0}, TypeError, "`steps_per_epoch` must be a whole number"),
        ({"shuffle": 1}, ValueError, "`shuffle` must be True, False or"),
        ({"steps_per_epoch": -1}, ValueError, "steps_per_epoch must be at least 1. Received: -1"),
        ({"initial_epoch": -1}, ValueError, "`initial_epoch` must be at least 0"),
        ({"initial_epoch": 1.5}, TypeError, "`initial_epoch` must be a whole number"),
        ({"callbacks": [None]}, TypeError, "Callback objects. Received: None"),
        ({"callbacks": [keras.callbacks.History]}, TypeError, "Received: <class .*History"),
        (
            {"callbacks": keras.callbacks.CallbackList([])},
            TypeError,
            "the run makes a CallbackList of its own",
        ),
        ({"validation_data": (X, Y[:3])}, ValueError, "`validation_data/y` has 3"),
        ({"validation_data": X.tolist()}, ValueError, "received 40 parts"),
        (VALIDATED | {"validation_freq": 0}, ValueError, "`validation_freq` must be at least 1"),
        (VALIDATED | {"validation_freq": 1.5}, TypeError, "`validation_freq` must be a whole numb"),
        (VALIDATED | {"validation_steps": 0}, ValueError, "`validation_steps` must be at least 1"),
        (VALIDATED | {"validation_batch_size": 0}, ValueError, "`validation_batch_size` must be"),
        ({"class_weight": {"p": {0: 1.0}}}, ValueError, "Received: a dict for 'p'"),
        ({"sample_weight": [1.0] * 40}, TypeError, "`sample_weight/0` is no array"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        fit(start(), **arguments)


def test_whole_numbers_of_numpy_are_numbers():
    names = ("epochs", "batch_size", "validation_freq", "validation_steps", "validation_batch_size")
    numbers = dict.fromkeys(names, np.int64(2))
    history = fit(start(), **VALIDATED, **numbers, callbacks=[kp.Checkpoint("run")])
    assert len(history.history["val_loss"]) == 1


def test_a_batch_size_beside_a_dataset_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"a PyDataset gives whole batches. Leave it out; .*valid"):
        fit(start(), Numbered(), batch_size=8)


@pytest.mark.skipif(not current().fuses_steps, reason="this backend runs one step at a time")
def test_steps_that_run_together_may_be_more_than_an_epoch_has():
    heard = []

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            heard.append(batch)

    model = start(steps_per_execution=8)
    fit(model, batch_size=8, epochs=3, callbacks=[Steps()])
    # Five steps make an epoch, and each epoch is one program.
    assert heard == [0, 0, 0]
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 15
