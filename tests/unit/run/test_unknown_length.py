"""Data whose length nobody knows beforehand, and data that end before the plan does."""

import contextlib

import keras
import numpy as np
import pytest

import keras_patterns as kp

VALIDATION = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


class Batches:
    """Batches of one number each, with one drawn at random; keeps the numbers that it gave."""

    def __init__(self, length):
        self.length = length
        self.given = []

    def __iter__(self):
        for number in range(self.length):
            self.given.append(number)
            noise = np.random.normal(size=(4, 3)).astype("float32")
            yield noise + number, np.full((4, 1), number, "float32")


class Sized(Batches):
    def __len__(self):
        return self.length


def once(length):
    yield from Batches(length)


def compiled(**arguments):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", **arguments)
    return model


@contextlib.contextmanager
def ends_with_a_warning(step):
    with pytest.warns(UserWarning, match=f"The data ended after step {step} of"):
        yield


def stopped_at(history):
    return [(one["step"], one["text"]) for one in history.events if one["kind"] == "stopped"]


class Kills(kp.Hook):
    """Ends the run as an error would, after a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def next_boundary(self, step):
        return self.step if step < self.step else None

    def on_boundary(self, boundary):
        if boundary.step == self.step:
            raise KeyboardInterrupt

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def test_the_first_pass_is_an_epoch_and_fixes_the_plan():
    history = kp.fit(compiled(), Batches(5), epochs=3, seed=0, verbose=0)
    assert history.epoch_end_steps == [5, 10, 15]
    assert history.events == []
    np.random.seed(1)
    known = kp.fit(compiled(), Batches(5), epochs=3, steps_per_epoch=5, seed=0, verbose=0)
    np.random.seed(1)
    learnt = kp.fit(compiled(), Batches(5), epochs=3, seed=0, verbose=0)
    assert learnt.history == known.history


def test_a_length_that_the_data_know_is_taken():
    assert kp.fit(compiled(), Sized(4), epochs=2, verbose=0).epoch_end_steps == [4, 8]


def test_a_pass_of_another_length_than_the_data_said_is_named(capsys):
    data = Sized(4)
    data.__class__ = type("Lying", (Sized,), {"__len__": lambda self: 6})
    kp.fit(compiled(), data, epochs=2, verbose=2)
    assert "gave 4 batches in a pass, not 6" in capsys.readouterr().out


@pytest.mark.parametrize("killed_at", [3, 5, 7, 12])
def test_a_run_of_unknown_length_goes_on(tmp_path, killed_at):
    whole = kp.fit(compiled(), Batches(5), epochs=3, validation_data=VALIDATION, verbose=0)

    def run(*callbacks):
        checkpoint = kp.Checkpoint(tmp_path, every_steps=1)
        arguments = {"epochs": 3, "validation_data": VALIDATION, "verbose": 0}
        return kp.fit(compiled(), Batches(5), callbacks=[checkpoint, *callbacks], **arguments)

    with pytest.raises(KeyboardInterrupt):
        run(Kills(killed_at))
    assert kp.CheckpointStore(tmp_path).entries()[-1].position.step > 0
    history = run()
    assert history.epoch_end_steps == whole.epoch_end_steps
    assert history.history == whole.history
    assert history.resumes == [killed_at - 1]


def test_the_checkpoint_of_the_first_pass_says_that_its_length_is_not_known(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kp.fit(
            compiled(),
            Batches(5),
            epochs=3,
            verbose=0,
            callbacks=[kp.Checkpoint(tmp_path, every_steps=2), Kills(4)],
        )
    _, record = kp.CheckpointStore(tmp_path).read_record()
    assert (record.identity.total_steps, record.identity.steps_per_epoch) == (None, None)
    kp.fit(compiled(), Batches(5), epochs=3, verbose=0, callbacks=[kp.Checkpoint(tmp_path)])
    _, record = kp.CheckpointStore(tmp_path).read_record()
    assert (record.identity.total_steps, record.identity.steps_per_epoch) == (15, 5)


def test_epochs_shorter_than_what_is_done_of_the_first_pass_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        kp.fit(
            compiled(),
            Batches(5),
            epochs=3,
            verbose=0,
            callbacks=[kp.Checkpoint(tmp_path, every_steps=1), Kills(4)],
        )
    with pytest.raises(kp.ResumeRefusedError, match="steps of its first epoch"):
        kp.fit(
            compiled(),
            Batches(5),
            epochs=3,
            steps_per_epoch=2,
            verbose=0,
            callbacks=[kp.Checkpoint(tmp_path)],
        )


def test_larger_epochs_go_on(tmp_path):
    for epochs in (2, 4):
        history = kp.fit(
            compiled(), Batches(5), epochs=epochs, verbose=0, callbacks=[kp.Checkpoint(tmp_path)]
        )
    assert history.epoch_end_steps == [5, 10, 15, 20]


def test_what_needs_the_number_of_steps_is_refused():
    thaw = kp.GradualUnfreeze({3: "dense_1"})
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1, name="dense_1")]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"GradualUnfreeze needs the number of steps .*Say total"):
        kp.fit(model, Batches(5), epochs=3, callbacks=[thaw], verbose=0)
    with pytest.raises(ValueError, match=r"initial_epoch=1 .* Say\s+steps_per_epoch="):
        kp.fit(compiled(), Batches(5), epochs=3, initial_epoch=1, verbose=0)
    with pytest.raises(ValueError, match="length of this data is not known"):
        kp.fit(compiled(), Batches(5), total_steps=3, verbose=0)


@pytest.mark.parametrize(
    ("plan", "ends"),
    [
        ({"epochs": 3}, [7]),
        ({"epochs": 3, "steps_per_epoch": 7}, [7]),
        ({"total_steps": 10, "epochs": 2}, [5, 7]),
        ({"total_steps": 10, "epochs": 5}, [2, 4, 6, 7]),
    ],
)
def test_a_generator_that_ends_ends_the_run_with_a_warning(plan, ends):
    with ends_with_a_warning(7):
        history = kp.fit(compiled(), once(7), verbose=0, **plan)
    assert history.epoch_end_steps == ends
    assert stopped_at(history) == [(7, "the data ended")]
    assert len(history.history["loss"]) == len(ends)


@pytest.mark.parametrize("make", [once, Batches, Sized])
def test_one_epoch_is_one_pass_and_needs_no_more(make, tmp_path):
    model = compiled()
    data = make(5)
    history = kp.fit(model, data, verbose=0, callbacks=[kp.Checkpoint(tmp_path)])
    assert (history.epoch_end_steps, history.events) == ([5], [])
    assert int(model.optimizer.iterations) == 5
    assert getattr(data, "given", [0, 1, 2, 3, 4]) == [0, 1, 2, 3, 4]
    again = kp.fit(compiled(), make(5), verbose=0, callbacks=[kp.Checkpoint(tmp_path)])
    assert again.history == history.history


def test_every_batch_of_a_generator_that_ends_is_trained_on():
    model = compiled()
    with ends_with_a_warning(7):
        kp.fit(model, once(7), total_steps=10, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 7


def test_a_run_whose_data_ended_is_saved_and_finished(tmp_path):
    arguments = {"total_steps": 10, "epochs": 2, "verbose": 0}
    with ends_with_a_warning(7):
        kp.fit(compiled(), once(7), callbacks=[kp.Checkpoint(tmp_path)], **arguments)
    again = kp.fit(compiled(), once(7), callbacks=[kp.Checkpoint(tmp_path)], **arguments)
    assert again.epoch_end_steps == [5, 7]
    assert stopped_at(again) == [(7, "the data ended")]


def test_steps_that_run_together_end_with_the_data():
    model = compiled(**({} if keras.backend.backend() == "torch" else {"steps_per_execution": 4}))
    history = kp.fit(model, Batches(6), epochs=2, verbose=0)
    assert (history.epoch_end_steps, int(model.optimizer.iterations)) == ([6, 12], 12)


def test_data_without_a_batch_are_an_error():
    with pytest.raises(kp.DataExhaustedError, match="gave no batch"):
        kp.fit(compiled(), once(0), epochs=2, verbose=0)


@pytest.mark.parametrize(("steps", "ends"), [(12, [4, 7]), (14, [7])])
def test_a_loop_of_ones_own_ends_with_its_data(steps, ends):
    plan = kp.StepPlan(steps, 4 if steps == 12 else 7)
    done = []
    with (
        ends_with_a_warning(7),
        kp.Run(compiled(), plan=plan, data=once(7), seed=0) as run,
    ):
        for step, _ in run.steps():
            done.append(step)
            run.log({"loss": float(step)})
    assert done == list(range(7))
    assert run.history.epoch_end_steps == ends
    assert stopped_at(run.history) == [(7, "the data ended")]


def test_blocks_of_a_loop_of_ones_own_end_with_its_data():
    with (
        ends_with_a_warning(7),
        kp.Run(compiled(), plan=kp.StepPlan(20, 20), data=once(7), seed=0) as run,
    ):
        blocks = [(first, len(batches)) for first, batches in run.blocks(most=4)]
    assert blocks == [(0, 4), (4, 3)]


def test_the_progress_of_an_epoch_of_unknown_length_has_no_end(capsys):
    kp.fit(compiled(), Batches(5), epochs=2, verbose=2)
    out = capsys.readouterr().out
    assert "5/5" in out
    assert "left" not in out
