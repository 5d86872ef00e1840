"""Any backend: each continues any other's run.

Weights, slots, step, data position and callback states carry over.
"""

import shutil

import numpy as np
import pytest
from children import BACKENDS, run_script
from places import SUPPORT

pytestmark = pytest.mark.cross

SCRIPT = SUPPORT / "run_continuing.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each pair, the folder of the first one's run as the second one continued it, and what the
    second one said.
    """
    root = tmp_path_factory.mktemp("runs")
    folders, said = {}, {}
    for first in BACKENDS:
        (root / first).mkdir()
        run_script(SCRIPT, first, "run", root / first)
        for second in BACKENDS:
            folders[first, second] = root / f"{first}-{second}"
            shutil.copytree(root / first, folders[first, second])
    for second in BACKENDS:
        said[second] = run_script(
            SCRIPT, second, "go-on", *(folders[first, second] for first in BACKENDS)
        )
    return folders, said


@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("first", BACKENDS)
def test_ten_further_steps_agree(runs, first, second):
    folder = runs[0][first, second]
    whole, resumed = np.load(folder / "whole.npz"), np.load(folder / "resumed.npz")
    assert set(whole.files) == set(resumed.files)
    for key in whole.files:
        expected, found = whole[key], resumed[key]
        if first == second or expected.dtype.kind in "iu":
            np.testing.assert_array_equal(found, expected, err_msg=key)
        else:
            np.testing.assert_allclose(
                found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=key
            )


@pytest.mark.parametrize("second", BACKENDS)
def test_the_change_of_backend_is_said(runs, second):
    lines = runs[1][second]
    assert lines.count("going on from step 10 of 20") == 3
    for first in set(BACKENDS) - {second}:
        assert f"saved on {first}, continued on {second}" in lines
    assert "random streams differ" in lines
    assert f"saved on {second}" not in lines
