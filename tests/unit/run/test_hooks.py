"""Hooks: the order in which they are asked, their requests, and what is refused."""

import keras
import numpy as np
import pytest
from models import FEATURES, TRAIN

import keras_patterns as kp
from keras_patterns.run.requests import Pause
from keras_patterns.run.signals import RunPaused
from keras_patterns.storage import Position
from keras_patterns.testing import assert_restores, assert_same_state, run_state

NUMBERS = FEATURES[:, :1]
DATA = {**TRAIN, "y": NUMBERS}


def net():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("adam", "mse")
    return model


class Asks(kp.Hook):
    """Returns a request at a boundary."""

    def __init__(self, request=None, at=3):
        super().__init__()
        self.request = request
        self.at = at
        self.seen = []

    def next_boundary(self, step):
        return self.at if step < self.at else None

    def on_boundary(self, boundary):
        self.seen.append((boundary.step, boundary.epoch))
        return self.request if boundary.step == self.at else None

    def get_state(self):
        return {"seen": [list(one) for one in self.seen]}

    def set_state(self, state):
        self.seen = [tuple(one) for one in state["seen"]]


def train(*callbacks, **more):
    model = net()
    history = kp.fit(model, **{**DATA, **more}, seed=0, verbose=0, callbacks=list(callbacks))
    return model, history


def test_a_hook_is_asked_at_its_steps_and_at_the_ends_of_epochs():
    hook = Asks()
    train(hook)
    assert hook.seen == [(3, None), (4, 0), (8, 1)]


def test_a_stop_ends_the_run_and_the_epoch_there():
    hook = Asks(kp.Stop("enough"))
    model, history = train(hook)
    assert int(model.optimizer.iterations) == 3
    assert history.epoch_end_steps == [3]
    assert history.events == [{"kind": "stopped", "step": 3, "text": "enough"}]


def test_a_save_is_made_at_the_step_that_asks_for_it():
    train(Asks(kp.Save()), kp.Checkpoint("run", every_steps=100))
    assert kp.CheckpointStore("run").steps() == [3, 8]


def test_what_is_trained_changes_at_the_step_that_asks_for_it():
    def freeze(model):
        model.layers[0].trainable = False

    model = net()
    kp.fit(model, **{**DATA, "total_steps": 3, "epochs": 1}, seed=0, verbose=0)
    expected = model.layers[0].get_weights()
    model = net()
    kp.fit(model, **DATA, seed=0, verbose=0, callbacks=[Asks(kp.SetTrainable(freeze))])
    for found, weight in zip(model.layers[0].get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, weight)
    assert int(model.optimizer.iterations) == 8


def test_a_rewind_trains_the_steps_again():
    class Once(Asks):
        def on_run_start(self, run):
            self.target = getattr(self, "target", None) or run.position
            return kp.Save() if run.step == 0 else None

        def on_boundary(self, boundary):
            first = (3, None) not in self.seen
            self.seen.append((boundary.step, boundary.epoch))
            return kp.Rewind(self.target) if boundary.step == 3 and first else None

        def set_state(self, state):
            pass

    hook = Once()
    model, history = train(hook, kp.Checkpoint("run", every_steps=100))
    assert [step for step, _ in hook.seen] == [3, 3, 4, 8]
    other, expected = train()
    assert history.history == expected.history
    for found, weight in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight)


def test_a_rewind_of_data_that_cannot_go_back_deletes_nothing():
    def batches():
        while True:
            yield FEATURES[:8], NUMBERS[:8]

    hook = Asks(kp.Rewind(Position(1, 1, 1)))
    checkpoint = kp.Checkpoint("run", every_steps=1, keep_last=9)
    with pytest.raises(ValueError, match="the run cannot: the data"):
        kp.fit(net(), batches(), total_steps=8, epochs=2, verbose=0, callbacks=[hook, checkpoint])
    assert kp.CheckpointStore("run").steps() == [1, 2]


@pytest.mark.parametrize("run", [2, "../elsewhere/run-1"])
def test_a_rewind_to_another_run_s_checkpoint_is_refused(run):
    hook = Asks(kp.Rewind(Position(run, 1, 1)))
    checkpoint = kp.Checkpoint("run", every_steps=1, keep_last=9)
    with pytest.raises(ValueError, match="A run goes back to checkpoints of its own, which is run"):
        train(hook, checkpoint)
    assert kp.CheckpointStore("run").steps() == [1, 2]


@pytest.mark.parametrize("request_", [kp.Save(), kp.Rewind((1, 0, 1))], ids=["save", "rewind"])
def test_a_checkpoint_is_not_asked_for_where_there_are_none(request_):
    with pytest.raises(
        ValueError, match=r"Asks asked for kp.* no checkpoints\. Give it a kp\.Checkp"
    ):
        train(Asks(request_))


def test_anything_else_that_a_hook_returns_is_refused():
    with pytest.raises(TypeError, match=r"Asks returned 'stop' to the run; expected kp\.Rewind, "):
        train(Asks(["stop"]))


def test_a_boundary_that_does_not_lie_ahead_is_refused():
    class Stays(kp.Hook):
        def next_boundary(self, step):
            return step

    with pytest.raises(ValueError, match=r"Stays.next_boundary\(0\) must be a later step, or None"):
        train(Stays())


def test_plain_fit_asks_a_hook_at_the_ends_of_epochs():
    hook = Asks(kp.Stop("enough"), at=12)
    model = net()
    history = model.fit(FEATURES, NUMBERS, batch_size=8, epochs=5, verbose=0, callbacks=[hook])
    assert hook.seen == [(6, 0), (12, 1)]
    assert len(history.history["loss"]) == 2
    assert history.events[0]["text"] == "enough"


def test_the_state_of_a_hook_is_shown_to_survive():
    hook = Asks()
    train(hook)
    assert_restores(hook, Asks)


def test_a_state_that_leaves_something_out_is_found():
    class Forgets(Asks):
        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    hook = Forgets()
    train(hook)
    with pytest.raises(AssertionError, match=r"Forgets is another one .*\n  attributes/seen"):
        assert_restores(hook, Forgets)


@pytest.mark.parametrize("at", [3, 6, 7])
def test_a_run_that_a_hook_leaves_goes_on_as_if_it_had_not_been_left(tmp_path, at):
    """Inside an epoch, at the end of one, and at the first step of one."""
    steps = {"total_steps": 12, "epochs": 2}
    expected, straight = train(kp.Checkpoint(tmp_path / "straight"), Asks(at=at), **steps)
    with pytest.raises(RunPaused) as left:
        train(kp.Checkpoint(tmp_path / "left"), Asks(Pause(), at), **steps)
    assert left.value.step == at
    model, history = train(kp.Checkpoint(tmp_path / "left"), Asks(at=at), **steps)
    assert_same_state(run_state(expected, straight), run_state(model, history))
    assert history.events == []


def test_a_run_without_checkpoints_cannot_be_left():
    with pytest.raises(ValueError, match=r"asked for kp\.Pause, and the run has no checkpoint"):
        train(Asks(Pause()))
    with pytest.raises(ValueError, match=r"goes on where it was left is not to be had in plain"):
        net().fit(FEATURES, NUMBERS, batch_size=8, verbose=0, callbacks=[Asks(Pause(), at=6)])
