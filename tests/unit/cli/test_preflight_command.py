"""keras-patterns preflight: real scripts, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from keras_patterns.cli import main

# The last layer's activation, and then arguments that the script itself takes.
SCRIPT = """
import atexit, sys
import helper
import keras, numpy as np, keras_patterns as kp

atexit.register(lambda: open("at_exit", "w"))

def main(fit, activation):
    print("the script began")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = np.arange(64) % 3
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3, activation or None)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy")
    try:
        if fit == "keras":
            model.fit(x, y, epochs=2, verbose=0)
        elif fit == "tune":
            kp.fine_tune(model, x, y, head_epochs=1, epochs=1)
        elif fit == "found":
            kp.find_learning_rate(model, x, y, batch_size=32, steps=20)
            kp.fit(model, x, y, seed=0)
        else:
            kp.fit(model, x, y, seed=0, callbacks=[kp.Checkpoint("runs/digits")])
        print("trained")
    except BaseException:
        open("caught", "w")
    finally:
        open("finally", "w")

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def keras_patterns(folder, *arguments):
    command = [sys.executable, "-m", "keras_patterns", "preflight", *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    """A project: a script, and a module beside it."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("")
    return tmp_path


def test_a_faulty_script_is_told_so_before_its_first_step_and_leaves_no_trace(folder):
    found = keras_patterns(folder, "train.py", "--", "own", "")
    assert found.returncode == 1, found.stderr
    place, verdict = found.stdout.splitlines()[1:3]
    line = SCRIPT.split("kp.Checkpoint")[0].count("\n") + 1
    assert place == f"train.py:{line}: kp.fit would train here. Nothing was trained."
    assert "output_activation" in found.stdout
    assert verdict.startswith("kind")
    assert sorted(os.listdir(folder)) == ["helper.py", "train.py"]


@pytest.mark.once
def test_a_sound_script_ends_with_0_and_a_line_of_json(folder):
    found = keras_patterns(folder, "train.py", "--json", "--", "keras", "softmax")
    assert found.returncode == 0, found.stderr
    shown = json.loads(found.stdout)
    assert (shown["script"], shown["worst"], shown["problem"]) == ("train.py", None, None)
    assert shown["call"]["function"] == "model.fit"
    assert "the script began" in found.stderr
    assert sorted(os.listdir(folder)) == ["helper.py", "train.py"]


@pytest.mark.once
def test_the_finder_runs_and_the_fit_after_it_is_examined(folder):
    found = keras_patterns(folder, "train.py", "--json", "--", "found", "softmax")
    assert found.returncode == 0, found.stderr
    call = json.loads(found.stdout)["call"]
    line = SCRIPT.split("find_learning_rate")[0].count("\n") + 2
    assert call == {"function": "kp.fit", "file": "train.py", "line": line}


@pytest.mark.gallery
@pytest.mark.once
def test_a_kind_can_be_left_out(folder):
    arguments = ("train.py", "--skip", "output_activation", "--skip", "non_finite")
    found = keras_patterns(folder, *arguments, "--", "own", "")
    assert found.returncode == 0, found.stdout + found.stderr
    found = keras_patterns(folder, "train.py", "--skip", "nothing", "--", "own", "")
    assert found.returncode == 2
    assert "`--skip` names 'nothing', and there is no such kind" in found.stderr
    assert "began" not in found.stdout


RARE = [
    ("x = 1", "train.py: the script came to its end and had not called kp.fit or model.fit."),
    ("import sys; sys.exit(3)", "the script ended with exit code 3, and had not called fit."),
    ("import os; os._exit(7)", "its process ended with 7 before it called fit."),
]


@pytest.mark.once
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("[][1]", "the script raised before it called fit: IndexError: list index out of range."),
        *(pytest.param(*case, marks=pytest.mark.gallery) for case in RARE),
        (
            "import keras\nmodel = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
            "model.fit([[1.0]], [[1.0]])",
            "train.py:3: kp.preflight could not look at it: ValueError: kp.preflight: 'sequential' "
            "is not compiled",
        ),
        (
            "import keras, keras_patterns as kp\n"
            "model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])\n"
            "with kp.Run(model, plan=kp.StepPlan(4, 2), data=[[1.0]],\n"
            "        checkpoint=kp.Checkpoint('runs')) as run:\n    pass",
            "train.py:3: kp.Run trains in a loop of the script's own",
        ),
    ],
    ids=["raises", "no fit", "exits", "dies", "not compiled", "own loop"],
)
def test_a_script_that_cannot_be_examined_says_why(tmp_path, script, said):
    (tmp_path / "train.py").write_text(script)
    found = keras_patterns(tmp_path, "train.py")
    assert found.returncode == 2
    assert found.stdout == ""
    assert said in found.stderr
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.once
def test_a_script_that_is_not_there(tmp_path, capsys):
    assert main(["preflight", str(tmp_path / "none.py")]) == 2
    assert "there is no such file. Name a script of Python." in capsys.readouterr().err
