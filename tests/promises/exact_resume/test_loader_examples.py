"""Exact resume: the examples of loaders end, after a kill in a pass over the data, as if they had
none.
"""

import signal
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

import keras_patterns as kp

# By the module that they need beside Keras.
EXAMPLES = {
    "images_from_folder.py": "tensorflow",
    "texts_from_folder.py": "tensorflow",
    "torch_loader.py": "torch",
    "grain_loader.py": "grain",
    "hugging_face.py": "datasets",
}
FOUND_AGAIN = {"torch_loader.py": "by index"}

# Runs an example with a position before every save, killed once so many checkpoints have been
# published; saves its last weights.
PROGRAM = """
import importlib.util, math, os, signal, sys
import numpy as np
from keras_patterns.data import positions
positions.SHARE = math.inf
path, kill_at = sys.argv[1], int(sys.argv[2])
published = 0
def hook(event, arguments):
    global published
    if event == "os.rename" and "checkpoints" in str(arguments[1]) and "run-" in str(arguments[1]):
        published += 1
        if published == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
if kill_at:
    sys.addaudithook(hook)
spec = importlib.util.spec_from_file_location("example", path)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
np.savez("weights.npz", **example.main("."))
"""


def run(folder, name, kill_at=0):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "examples" / "loaders" / name)]
    return subprocess.run(
        [*command, str(kill_at)], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_that_is_killed_ends_with_the_same_weights(tmp_path, name):
    pytest.importorskip(EXAMPLES[name])
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = run(alone, name)
    assert process.returncode == 0, process.stderr
    process = run(killed, name, kill_at=3)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert kp.CheckpointStore(killed / "checkpoints").latest().position.step > 0
    process = run(killed, name)
    assert process.returncode == 0, process.stderr
    assert "keras-patterns: going on from step " in process.stdout
    found_again = FOUND_AGAIN.get(name, "by its saved position")
    assert f"will be found again {found_again}" in process.stdout
    weights = [dict(np.load(folder / "weights.npz")) for folder in (alone, killed)]
    assert weights[0].keys() == weights[1].keys()
    for index, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][index], value, err_msg=index)
