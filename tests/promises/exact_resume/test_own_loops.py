"""Exact resume: loops of one's own, those of examples/, end after kills as if they had none."""

import signal

import numpy as np
import pytest
from children import check_end, run
from places import ROOT, SUPPORT

import keras_patterns as kp

EXAMPLES = {
    "jax": "loop_jax_optax.py",
    "tensorflow": "loop_tensorflow_tape.py",
    "torch": "loop_torch_optim.py",
}


def loop(folder, backend, *arguments, expect=0):
    """Runs the backend's example in a process of its own; returns what it printed."""
    path = ROOT / "examples" / EXAMPLES[backend]
    process = run(folder, path, *arguments, script=SUPPORT / "run_own_loop.py")
    check_end(process, expect)
    return process.stdout


def weights(folder):
    return dict(np.load(folder / "weights.npz"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, backend):
    """The weights at the end of a run that is left alone."""
    folder = tmp_path_factory.mktemp("alone")
    loop(folder, backend)
    return weights(folder)


def test_a_loop_of_one_s_own_that_is_killed_ends_with_the_same_weights(tmp_path, backend, alone):
    loop(tmp_path, backend, "--kill-at", 3, expect=-signal.SIGKILL)
    assert loop(tmp_path, backend).startswith("keras-patterns: going on from step ")
    found = weights(tmp_path)
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert len(kp.CheckpointStore(tmp_path / "checkpoints").steps()) >= 2


def test_a_loop_that_tracks_the_wrong_object_ends_elsewhere(tmp_path, backend, alone):
    """The control: the tracked state is left out of what is put back."""
    loop(tmp_path, backend, "--kill-at", 2, expect=-signal.SIGKILL)
    loop(tmp_path, backend, "--forgets")
    found = weights(tmp_path)
    assert any(not np.array_equal(found[name], value) for name, value in alone.items())
