"""The progress of a run: its times, and what is written of it."""

import functools
import re

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.run import opening
from keras_patterns.run.progress import RunProgress

STEP = 0.125
COMPILING = 7.0


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Steps:
    """Makes steps that take an eighth of a second each, the first one more."""

    def __init__(self, verbose, total_steps=40, steps_per_epoch=20):
        self.clock = Clock()
        self.progress = RunProgress(
            kp.StepPlan(total_steps, steps_per_epoch), verbose, clock=self.clock
        )
        self._is_compiled = False

    def make(self, first, stop):
        for batch in range(first, stop):
            self.clock.now += STEP if self._is_compiled else COMPILING
            self._is_compiled = True
            self.progress.note_step(batch, {"loss": np.float32(0.5)})

    def validate(self, seconds):
        self.progress.pause()
        self.clock.now += seconds
        self.progress.go_on()


def lines(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.mark.once
def test_the_time_of_a_step_leaves_out_the_first_one(capsys):
    steps = Steps(2)
    steps.progress.begin_epoch(0)
    steps.make(0, 20)
    steps.progress.end_epoch({"loss": 0.25})
    assert lines(capsys) == ["Epoch 1/2", "20/20 - 9s - 125ms/step - loss: 0.2500"]


@pytest.mark.once
@pytest.mark.parametrize("offset", [1, 10, 17, 18])
def test_the_time_of_a_step_after_a_resume_inside_an_epoch_is_that_of_the_steps_made_here(
    offset, capsys
):
    steps = Steps(2)
    steps.progress.begin_epoch(1, offset)
    steps.make(offset, 20)
    steps.progress.end_epoch({})
    assert lines(capsys)[1].endswith("s - 125ms/step")


@pytest.mark.once
def test_the_only_step_after_a_resume_has_its_own_time(capsys):
    steps = Steps(2)
    steps.progress.begin_epoch(1, 19)
    steps.make(19, 20)
    steps.progress.end_epoch({})
    assert lines(capsys)[1] == "20/20 - 7s - 7s/step"


@pytest.mark.once
def test_validations_take_none_of_the_time_of_steps(capsys):
    steps = Steps(2)
    steps.progress.begin_epoch(0)
    steps.make(0, 10)
    steps.validate(30)
    steps.make(10, 20)
    steps.validate(50)
    steps.progress.end_epoch({})
    assert lines(capsys)[1] == "20/20 - 1:29 - 125ms/step"


@pytest.mark.once
def test_steps_made_again_after_a_rollback_count_anew(capsys):
    steps = Steps(2)
    steps.progress.begin_epoch(0)
    steps.make(0, 18)
    steps.clock.now += 100
    steps.progress.begin_epoch(0, 4)
    steps.make(4, 20)
    steps.progress.end_epoch({})
    assert lines(capsys)[-1] == "20/20 - 2s - 125ms/step"


@pytest.mark.once
def test_the_rest_of_the_epoch_and_of_the_run_are_told(capsys):
    steps = Steps("auto", total_steps=4000, steps_per_epoch=2000)
    steps.progress.begin_epoch(0)
    steps.make(0, 500)
    assert lines(capsys) == [
        "Epoch 1/2:  481/2000 - 1:07 - 125ms/step - 3:10 left, run 7:20 left - loss: 0.5000"
    ]
    steps.make(500, 2000)
    steps.progress.end_epoch({"loss": 0.25})
    assert lines(capsys)[-1] == (
        "Epoch 1/2: 2000/2000 - 4:17 - 125ms/step - run 4:10 left - loss: 0.2500"
    )


@pytest.mark.once
def test_the_rest_of_the_run_takes_its_validations_into_account(capsys):
    steps = Steps("auto")
    steps.progress.begin_epoch(0)
    steps.make(0, 20)
    steps.validate(16.625)
    steps.progress.end_epoch({})
    # 19 steps and a validation took 19 seconds.
    assert "run 20s left" in lines(capsys)[-1]


@pytest.mark.once
def test_metrics_are_read_only_where_they_are_shown():
    class Unread:
        def __array__(self, *_, **__):
            raise AssertionError("read")

    steps = Steps("auto", 4000, 2000)
    steps.progress.begin_epoch(0)
    for batch in range(400):
        steps.clock.now += STEP
        steps.progress.note_step(batch, {"loss": Unread()})


def fit(epochs, total_steps, verbose="auto", callbacks=(), **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 2), "float32")
    arguments = {"batch_size": 4, "seed": 0, **arguments}
    return kp.fit(
        model,
        x,
        x[:, :1],
        epochs=epochs,
        total_steps=total_steps,
        verbose=verbose,
        callbacks=list(callbacks),
        **arguments,
    )


@pytest.mark.once
@pytest.mark.parametrize("epochs", [1, 500])
def test_a_log_of_ten_thousand_steps_is_short_and_plain(epochs, capsys):
    fit(epochs, 10_000)
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 100
    assert all(line.isprintable() for line in out.split("\n"))
    assert out.splitlines()[-1].startswith(f"Epoch {epochs}/{epochs}: " if epochs > 1 else "10000/")


LINE = re.compile(r"2/2 - \d+s - \d+(us|ms|s)/step - loss: \d\.\d{4}(e-\d\d)?")


def test_verbose_2_writes_two_lines_for_each_epoch(capsys):
    fit(2, 4, verbose=2)
    first, line, second, other = lines(capsys)
    assert [first, second] == ["Epoch 1/2", "Epoch 2/2"]
    assert LINE.fullmatch(line)
    assert LINE.fullmatch(other)


def test_verbose_0_writes_nothing(capsys):
    fit(2, 4, verbose=0)
    assert capsys.readouterr().out == ""


class Adding(keras.callbacks.Callback):
    """Adds to the metrics of an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        logs["added"] = 0.125


WORDS = {"at": "noon", "none": None, "by_class": {"a": 0.5, "b": "few"}, "empty": []}
WORDS["uneven"] = [1, [2, 3]]


class AddingWords(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs.update(WORDS)


def test_the_line_of_an_epoch_has_what_callbacks_add(capsys):
    fit(1, 2, callbacks=[Adding()])
    assert lines(capsys)[-1].split(" - ")[3] == "added: 0.1250"


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_callbacks_add_that_is_no_number_is_for_the_history_alone(verbose, capsys):
    history = fit(1, 2, verbose, callbacks=[AddingWords(), kp.Checkpoint("run")])
    kept = {name: history.history[name] for name in WORDS}
    assert kept == {name: [value] for name, value in WORDS.items()}
    with pytest.raises(ValueError, match=r"no metric 'f1'\. It has 'loss'\."):
        kp.plot_history(history, metric="f1")
    written = capsys.readouterr().out
    assert "noon" not in written
    assert ("a: 0.5000" in written) == (verbose > 0)


def test_a_bar_of_keras_among_the_callbacks_is_the_only_one(capsys):
    fit(1, 2, callbacks=[keras.callbacks.ProgbarLogger()])
    out = capsys.readouterr().out
    assert "2/2" in out
    assert "1/2:" not in out
    assert "\b" in out


class Passing(keras.callbacks.Callback):
    """Makes each step take time, and ends the process in one."""

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def __init__(self, clock, until=None):
        super().__init__()
        self.clock = clock
        self.until = until
        self.made = 0

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += STEP if self.made else COMPILING
        self.made += 1
        if self.made == self.until:
            raise KeyboardInterrupt


def test_a_run_that_is_taken_up_inside_an_epoch_tells_the_right_time_of_a_step(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(opening, "RunProgress", functools.partial(RunProgress, clock=clock))

    def run(until):
        callbacks = [kp.Checkpoint("run", every_steps=1), Passing(clock, until)]
        fit(3, 60, verbose=2, callbacks=callbacks)

    with pytest.raises(KeyboardInterrupt):
        run(32)
    capsys.readouterr()
    run(None)
    said = [line for line in lines(capsys) if "ms/step" in line or line.startswith("Epoch")]
    assert [line.split(" - loss")[0] for line in said] == [
        "Epoch 2/3",
        "20/20 - 8s - 125ms/step",
        "Epoch 3/3",
        "20/20 - 2s - 125ms/step",
    ]
