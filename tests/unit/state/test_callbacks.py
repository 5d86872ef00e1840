"""The states of callbacks: Keras's by the table, a user's by protocol, and what is said of the
others.
"""

import keras
import numpy as np
import pytest

from keras_patterns.state import callbacks as states

pytestmark = pytest.mark.once

STOCK = {
    "BackupAndRestore",  # refused by kp.fit
    "CallbackList",
    "Callback",
    "CSVLogger",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "OrbaxCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
}


class Counts(keras.callbacks.Callback):
    def __init__(self, start=0):
        super().__init__()
        self.start, self.seen = start, 0


class Tells(Counts):
    def get_state(self):
        return {"seen": self.seen}

    def set_state(self, state):
        self.seen = state["seen"]


class TellsLikeTorch(Counts):
    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class MoreThanItsBase(keras.callbacks.EarlyStopping):
    def __init__(self):
        super().__init__(patience=3)
        self.seen = 0


class LessThanItsBase(keras.callbacks.EarlyStopping):
    def on_train_end(self, logs=None):
        pass


def test_the_table_knows_every_callback_of_keras():
    """A new release may bring a callback whose state would be lost."""
    exported = {
        name for name in dir(keras.callbacks) if isinstance(getattr(keras.callbacks, name), type)
    }
    assert exported == STOCK
    unknown = {kind.__name__ for kind in states._MOVING} ^ (
        exported - {"BackupAndRestore", "CallbackList"}
    )
    assert not unknown


@pytest.mark.parametrize("kind", [Tells, TellsLikeTorch])
def test_a_users_callback_tells_its_state(kind):
    callback = kind()
    callback.seen = 7
    restored = kind()
    states.set_state(restored, states.get_state(callback))
    assert restored.seen == 7


def test_early_stopping_carries_what_it_moves_and_nothing_that_the_script_sets():
    callback = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)
    callback.wait, callback.best, callback.best_weights, callback.best_epoch = (
        2,
        0.5,
        [np.ones(3)],
        1,
    )
    state = states.get_state(callback)
    assert set(state) == {"wait", "stopped_epoch", "best", "best_weights", "best_epoch"}
    restored = keras.callbacks.EarlyStopping(patience=9)
    states.set_state(restored, state)
    assert (restored.wait, restored.best, restored.patience) == (2, 0.5, 9)


def test_configuration_is_what_the_script_gave():
    callback = keras.callbacks.EarlyStopping("loss", patience=4, min_delta=0.5)
    callback.wait, callback.min_delta = 3, -0.5
    found = states.configuration(callback)
    assert (found["patience"], found["min_delta"]) == (4, 0.5)
    assert found["monitor"] == "loss"
    assert "wait" not in found
    assert states.configuration(Counts(start=3)) == {"start": 3}


@pytest.mark.parametrize("kind", [Counts, MoreThanItsBase])
def test_a_callback_whose_state_is_lost_is_named_once(kind):
    with pytest.warns(
        UserWarning, match=rf"The state of {kind.__name__} is not in the checkpoint.*get_state\(\)"
    ) as caught:
        states.warn_of_untold([kind(), keras.callbacks.History()])
    assert len(caught) == 1


def test_a_callback_that_has_nothing_to_tell_is_not_named():
    states.warn_of_untold(
        [Tells(), LessThanItsBase(), keras.callbacks.LambdaCallback(), keras.callbacks.Callback()]
    )


def test_a_state_that_is_no_dict_is_refused():
    callback = Tells()
    callback.get_state = lambda: 3
    with pytest.raises(TypeError, match=r"Tells\.get_state\(\) returned a int; expected a dict"):
        states.get_state(callback)


def test_names_number_what_occurs_again():
    first, second = Counts(), Counts()
    found = states.named([first, Tells(), second])
    assert list(found) == ["Counts", "Tells", "Counts#2"]
    assert (found["Counts"], found["Counts#2"]) == (first, second)


def test_rows_of_a_csv_file_after_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.0\n1,0.5\n")
    logger = keras.callbacks.CSVLogger(str(path))
    saved = {"CSVLogger": {"bytes": len("epoch,loss\n0,1.0\n")}}
    with states.files_go_on({"CSVLogger": logger}, saved):
        logger.on_train_begin()
        states.cut_files({"CSVLogger": logger}, saved)
        assert path.read_text() == "epoch,loss\n0,1.0\n"
        logger.on_epoch_end(1, {"loss": 0.25})
        logger.on_train_end()
    assert path.read_text().splitlines()[-1].startswith("1,0.25")
    assert not logger.append


def test_a_csv_file_that_lost_rows_is_said(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch\n")
    logger, saved = keras.callbacks.CSVLogger(str(path)), {"CSVLogger": {"bytes": 50}}
    text = r"log\.csv has 6 bytes, but had 50 when the checkpoint was made"
    with states.files_go_on({"CSVLogger": logger}, saved):
        logger.on_train_begin()
        with pytest.warns(UserWarning, match=text):
            states.cut_files({"CSVLogger": logger}, saved)
        logger.on_train_end()
    assert path.read_text() == "epoch\n"
