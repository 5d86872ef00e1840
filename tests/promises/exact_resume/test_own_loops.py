"""Exact resume: loops of one's own, those of examples/, end after kills as if they had none."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

import keras_patterns as kp

EXAMPLES = {
    "jax": "loop_jax_optax.py",
    "tensorflow": "loop_tensorflow_tape.py",
    "torch": "loop_torch_optim.py",
}

# Runs an example, killed once so many checkpoints have been published; saves its last weights.
PROGRAM = """
import importlib.util, os, signal, sys
import numpy as np
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
np.savez("weights.npz", **example.main("checkpoints"))
"""


def run(folder, backend, kill_at=0):
    folder.mkdir(exist_ok=True)
    path = ROOT / "examples" / EXAMPLES[backend]
    command = [sys.executable, "-c", PROGRAM, str(path), str(kill_at)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, backend):
    """The weights at the end of a run that is left alone."""
    folder = tmp_path_factory.mktemp("alone")
    process = run(folder, backend)
    assert process.returncode == 0, process.stderr
    return dict(np.load(folder / "weights.npz"))


def test_a_loop_of_one_s_own_that_is_killed_ends_with_the_same_weights(tmp_path, backend, alone):
    process = run(tmp_path, backend, kill_at=3)
    assert process.returncode == -signal.SIGKILL, process.stderr
    process = run(tmp_path, backend)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("keras-patterns: going on from step ")
    found = dict(np.load(tmp_path / "weights.npz"))
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert len(kp.CheckpointStore(tmp_path / "checkpoints").steps()) >= 2


def test_a_loop_that_tracks_the_wrong_object_ends_elsewhere(tmp_path, backend, alone):
    """The control: the tracked state is left out of what is put back."""
    assert run(tmp_path, backend, kill_at=2).returncode == -signal.SIGKILL
    program = PROGRAM.replace(
        "import numpy as np\n",
        "import numpy as np\nfrom keras_patterns.run.tracked import Tracked\n"
        "Tracked.restore = lambda self, states: None\n",
        1,
    )
    path = ROOT / "examples" / EXAMPLES[backend]
    command = [sys.executable, "-c", program, str(path), "0"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = dict(np.load(tmp_path / "weights.npz"))
    assert any(not np.array_equal(found[name], value) for name, value in alone.items())
