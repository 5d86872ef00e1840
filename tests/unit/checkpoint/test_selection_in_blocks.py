"""Checkpoints that are evaluated in blocks: to the same bits, or one batch after the other."""

import keras
import numpy as np
import pytest
from evaluated_blocks import Noise, falsify_blocks, noted_blocks

import keras_patterns as kp
from keras_patterns.data import stacked
from keras_patterns.state import fused_evaluation
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 4)).astype("float32")
# Twelve batches of six, and one of two examples.
OTHERS = RANDOM.normal(size=(74, 4)).astype("float32")
DATA = (OTHERS, OTHERS[:, :1])
STEPS = [1, 2, 3, 4, 5]


class OwnEvaluate(keras.Sequential):
    """Takes no callbacks."""

    def evaluate(self, x, y, batch_size, return_dict, verbose, sample_weight=None):
        return super().evaluate(x, y, batch_size, return_dict=return_dict, verbose=verbose)


def compiled(kind=keras.Sequential, **how):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = kind([keras.Input((4,)), *hidden, Noise(), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"], **how)
    return model


@pytest.fixture(autouse=True)
def on_any_machine(monkeypatch):
    """Nothing depends on how fast this one is."""
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))


@pytest.fixture
def blocks(monkeypatch):
    """How many batches there are in each block, or that there is one of another size."""
    return noted_blocks(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the checkpoints of a run."""
    path = tmp_path_factory.mktemp("runs")
    callbacks = [kp.Checkpoint(path, every_steps=1, keep_last=len(STEPS))]
    kp.fit(compiled(), X, X[:, :1], total_steps=5, epochs=1, seed=0, verbose=0, callbacks=callbacks)
    return path


def selected(folder, make=compiled, data=DATA, **how):
    """A selection, and the state that it leaves."""
    model = make()
    how = {"verbose": 0, "fuse": True, **how}
    selection = kp.select_checkpoint(folder, model, data, batch_size=6, **how)
    return selection, run_state(model, keras.callbacks.History())


def in_blocks(folder, reason=None, make=compiled, data=DATA, **how):
    """Asserts that rows and state are the same, and that blocks were used, or why they were not."""
    expected, state = selected(folder, make, data, fuse=False)
    found, same = selected(folder, make, data, **how)
    assert found.rows == expected.rows
    assert_same_state(state, same)
    assert expected.ways == ()
    (way,) = found.ways
    assert way["way"] == ("one by one" if reason else "in blocks")
    assert (reason or "each is one program") in way["why"]
    return found


def test_all_but_the_first_are_in_blocks(folder, blocks):
    selection = in_blocks(folder)
    assert [row.step for row in selection.rows] == STEPS
    assert selection.ways[0]["step"] == STEPS[1]
    # The second one is evaluated both ways.
    assert blocks == [12, "single"] * (len(STEPS) - 1)


def test_a_program_that_is_not_equal_is_not_used(folder, monkeypatch):
    """The control: without the comparison, the rows would be others."""
    falsify_blocks(monkeypatch)
    in_blocks(folder, "a block is not equal to its batches")
    expected, _ = selected(folder, fuse=False)
    monkeypatch.setattr(fused_evaluation, "_outcome", lambda *_: {})
    assert selected(folder)[0].rows != expected.rows


def test_a_model_that_is_interrupted_in_a_block_is_as_before(folder, monkeypatch):
    model = compiled()
    history = kp.fit(model, X, X[:, :1], total_steps=2, epochs=1, seed=1, verbose=0)
    before = run_state(model, history)
    made = fused_evaluation._Batches._blocks
    evaluations = iter(range(9))

    def interrupted(self):
        blocks = list(made(self))
        yield blocks[0]
        if next(evaluations) == 2:
            raise KeyboardInterrupt
        yield from blocks[1:]

    monkeypatch.setattr(fused_evaluation._Batches, "_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kp.select_checkpoint(folder, model, DATA, batch_size=6, fuse=True, verbose=0)
    assert next(evaluations) == 3
    assert_same_state(before, run_state(model, history))
    monkeypatch.undo()
    expected, again = (
        kp.select_checkpoint(folder, model, DATA, batch_size=6, fuse=fuse, verbose=0)
        for fuse in (False, True)
    )
    assert again.rows == expected.rows


def test_blocks_that_do_not_pay_are_left_alone(folder, monkeypatch):
    room = "keras_patterns.state.programs._ROOM"
    monkeypatch.setattr(room, 1e9)
    in_blocks(folder, "so few are left that a program would not pay", fuse="auto")
    monkeypatch.setattr(room, -1.0)
    monkeypatch.setattr(fused_evaluation.time, "perf_counter", lambda: 0.0)
    in_blocks(folder, fuse="auto")


@pytest.mark.parametrize(
    ("reason", "how"),
    [
        ("own evaluate", {"make": lambda: compiled(OwnEvaluate)}),
        ("steps_per_execution", {"make": lambda: compiled(steps_per_execution=2)}),
        ("so few batches", {"data": (OTHERS[:14], OTHERS[:14, :1])}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_why_there_are_no_blocks_is_said(folder, reason, how, capsys):
    if reason == "steps_per_execution" and keras.backend.backend() == "torch":
        pytest.skip("Keras has none there")
    in_blocks(folder, reason, **how, verbose=1)
    assert "checkpoints are evaluated batch by batch" in capsys.readouterr().out


def test_data_that_may_draw_are_evaluated_batch_by_batch(folder):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            rows = slice(6 * index, 6 * index + 6)
            return DATA[0][rows], DATA[1][rows]

    in_blocks(folder, "the data are no arrays", data=Batches())


def test_a_ranking_is_in_blocks_too(folder):
    model, store = compiled(), kp.CheckpointStore(folder)
    ranking = store.rank(model, DATA, batch_size=6, fuse=True, verbose=0)
    assert [way["way"] for way in ranking.ways] == ["in blocks"]
    assert store.load_best(model, DATA, batch_size=6, fuse=True, verbose=0).rows == ranking.rows


def test_the_argument_is_checked(folder):
    with pytest.raises(ValueError, match="select_checkpoint: fuse must be"):
        kp.select_checkpoint(folder, compiled(), DATA, fuse="always")
