"""Messages to the person who started a run, and how they are switched off."""

import logging
import warnings

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns._util.messages import say
from keras_patterns._util.warn import warn


@pytest.fixture
def without_interactive_logging():
    keras.config.disable_interactive_logging()
    yield
    keras.config.enable_interactive_logging()


def test_a_message_is_printed_and_names_the_package(capsys):
    say("step 3 is damaged.")
    assert capsys.readouterr().out == "keras-patterns: step 3 is damaged.\n"


def test_a_message_below_an_open_bar_begins_a_line(capsys):
    say("thawed.", below_bar=True)
    assert capsys.readouterr().out == "\nkeras-patterns: thawed.\n"


def test_with_verbose_0_a_message_goes_to_the_log(capsys, caplog):
    with caplog.at_level(logging.INFO, "keras_patterns"):
        say("resumed.", verbose=0)
    assert capsys.readouterr().out == ""
    assert caplog.record_tuples == [("keras_patterns", logging.INFO, "resumed.")]


def test_without_interactive_logging_a_message_goes_to_the_log(
    without_interactive_logging, capsys, caplog
):
    with caplog.at_level(logging.INFO, "keras_patterns"):
        say("resumed.")
    assert capsys.readouterr().out == ""
    assert caplog.record_tuples == [("keras_patterns", logging.INFO, "resumed.")]


class Counting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)


@pytest.mark.parametrize("kept", [True, False])
def test_a_warning_points_to_the_line_of_the_person(tmp_path, kept):
    """Of `kp.fit`, whose own code finds it out, and of a callback that Keras calls."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [Counting(), kp.Checkpoint(tmp_path)] if kept else [kp.EarlyStopping()]
    fit = kp.fit if kept else keras.Model.fit
    name = "Counting" if kept else "EarlyStopping"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, np.ones((4, 2)), np.ones((4, 1)), callbacks=callbacks, verbose=0)
    files = {warning.filename for warning in caught if name in str(warning.message)}
    assert files == {__file__}


def test_a_warning_of_no_person_points_to_what_calls_first():
    with pytest.warns(DeprecationWarning, match="old") as caught:
        warn("old", DeprecationWarning)
    assert caught[0].filename == __file__


def test_what_must_be_seen_is_a_warning_in_the_log(without_interactive_logging, caplog):
    say("step 3 is damaged.", level=logging.WARNING)
    assert caplog.record_tuples == [("keras_patterns", logging.WARNING, "step 3 is damaged.")]


def selected(verbose, capsys):
    """What a selection prints."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 4)), np.ones((8, 1))
    kp.fit(model, x, y, epochs=1, seed=0, verbose=0, callbacks=[kp.Checkpoint("runs")])
    capsys.readouterr()
    kp.select_checkpoint("runs", model, (x, y), verbose=verbose)
    return capsys.readouterr().out


def test_a_selection_says_which_weights_the_model_has(capsys):
    assert "has the weights of step 1, whose loss is" in selected("auto", capsys)


def test_a_silent_selection_prints_nothing(capsys):
    assert selected(0, capsys) == ""


def test_a_selection_prints_nothing_without_interactive_logging(
    without_interactive_logging, capsys
):
    assert selected("auto", capsys) == ""
