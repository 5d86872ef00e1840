"""The examples of the README and of docs/ run, and the first goes on when it is run again."""

import re

import keras
import numpy as np
import pytest
from places import ROOT

README = ROOT / "README.md"


def examples():
    pages = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def example_of(name):
    return next(example for example in examples() if name in example)


def test_a_rate_is_found_and_trained_with(capsys):
    first, second = examples()[0], example_of("find_learning_rate")
    names = {}
    exec(compile(first.split("history =")[0], str(README), "exec"), names)
    exec(compile(second, str(README), "exec"), names)
    assert "LearningRateSweep: " in capsys.readouterr().out
    rates = names["model"].optimizer.get_config()["learning_rate"]["config"]
    assert rates["peak_learning_rate"] == names["sweep"].suggest()


def test_the_example_runs_and_goes_on(capsys):
    example = examples()[0]
    keras.utils.clear_session(free_memory=False)
    code = compile(example.replace("1_000", "100"), str(README), "exec")
    first, second = {}, {}
    exec(code, first)
    said = capsys.readouterr().out
    assert "starting from step 0" in said
    assert "was drawn for the order of the data" in said
    exec(code, second)
    assert "is finished at step 100 of 100" in capsys.readouterr().out
    assert len(first["history"].history["val_accuracy"]) == 5
    assert second["history"].history == first["history"].history


@pytest.mark.usefixtures("numpy_weights")
def test_a_real_backbone_is_frozen_and_thawed_in_part(capsys):
    names = {}
    exec(
        compile(
            "import keras\nimport keras_patterns as kp\n" + example_of("keras.applications"),
            str(README),
            "exec",
        ),
        names,
    )
    rows = {
        row.layer.split("/")[-1]: row for row in names["kp"].trainable_table(names["model"]).rows
    }
    assert [
        rows[name].trained for name in ("conv", "expanded_conv_10_expand", "conv_1", "head")
    ] == [0, 55_296, 55_296, 2_885]
    assert [rows[name].batch_norm for name in ("conv_bn", "conv_1_bn")] == ["frozen", "trains"]
    assert str(names["kp"].trainable_table(names["model"])) in capsys.readouterr().out
    before = names["model"].get_layer("head").get_weights()[0].copy()
    exec(compile(example_of("cache_features"), str(README), "exec"), names)
    assert not np.array_equal(names["model"].get_layer("head").get_weights()[0], before)
    np.testing.assert_allclose(
        names["model"].predict(names["x"], verbose=0),
        names["cached"].head.predict(names["cached"].features, verbose=0),
        atol=1e-5,
    )


def test_the_two_phases(capsys):
    """The search goes past the step from which on it overfits, and the second run ends there."""
    names = {}
    exec(
        compile(
            "import keras\nimport keras_patterns as kp\n" + example_of("select_checkpoint"),
            str(README),
            "exec",
        ),
        names,
    )
    selection = names["selection"]
    assert 20 <= selection.best_step < 300
    assert [row.step for row in selection.rows] == list(range(20, 620, 20))
    assert selection.best.values["loss"] < 0.8 * selection.rows[-1].values["loss"]
    assert str(selection) in capsys.readouterr().out
    assert names["kp"].CheckpointStore("runs/final").steps() == [selection.best_step]
    assert int(names["final"].optimizer.iterations) == selection.best_step


# Long ones, whose parts are tested elsewhere on each backend.
SHOWN_ONCE = (
    *("memorizing", "weights", "diagnosing", "debugging", "testing-your-model", "trackers"),
    *("patterns/training-loop", "patterns/saving-and-loading", "patterns/weight-initialisation"),
    *("patterns/augmentation", "changing-backend"),
)


@pytest.mark.parametrize(
    "page",
    [
        *("saving-and-resuming", "stopping", "guard"),
        *(pytest.param(page, marks=pytest.mark.once) for page in SHOWN_ONCE),
    ],
)
def test_the_examples_of_a_page_run_one_after_the_other(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    names = {}
    for example in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(compile(example, page, "exec"), names)
    assert names.keys() & {"kp", "assert_overfits_batch"}
