"""Exact resume: the examples of loaders end, after a kill in a pass over the data, as if they had
none.
"""

import signal

import numpy as np
import pytest
from children import check_end, run
from places import ROOT, SUPPORT

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

SCRIPT = SUPPORT / "run_loader_example.py"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_that_is_killed_ends_with_the_same_weights(tmp_path, name):
    pytest.importorskip(EXAMPLES[name])
    alone, killed, path = tmp_path / "alone", tmp_path / "killed", ROOT / "examples/loaders" / name
    check_end(run(alone, path, 0, script=SCRIPT), 0)
    check_end(run(killed, path, 3, script=SCRIPT), -signal.SIGKILL)
    assert kp.CheckpointStore(killed / "checkpoints").latest().position.step > 0
    process = run(killed, path, 0, script=SCRIPT)
    check_end(process, 0)
    assert "keras-patterns: going on from step " in process.stdout
    found_again = FOUND_AGAIN.get(name, "by its saved position")
    assert f"will be found again {found_again}" in process.stdout
    weights = [dict(np.load(folder / "weights.npz")) for folder in (alone, killed)]
    assert weights[0].keys() == weights[1].keys()
    for index, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][index], value, err_msg=index)
