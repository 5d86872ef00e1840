"""Nothing lost: runs that an older release left unfinished go on to the same end.

tests/support/format_1 holds, for each backend, runs that version 0.1.0 left unfinished, and the
states that the same version ended them with.
"""

import re
import shutil

import numpy as np
import pytest
from children import BACKENDS, check_end, run, state
from models import CASES
from places import SUPPORT
from run_case import loaded
from safetensors.numpy import load_file

import keras_patterns as kp
from keras_patterns.backends import current

OLD = SUPPORT / "format_1"
RUNS = sorted(path.name for path in (OLD / BACKENDS[0]).iterdir())
# Of a state: what every release must come to have. Other parts may be renamed.
KEPT = re.compile(
    r"variables/|history/(history|epoch)(/|$)|callbacks/EarlyStopping/stopped_(epoch|step)$"
)

# The gradient of a bias before a BatchNormalization is what is left by rounding, and Adam scales it
# up to its rate: by the processor, the bias and what follows from it go another way.
ROUNDING = {"thawing": re.compile("layers/0/bias|layers/1/moving_mean|loss")}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A folder in which this release went on with every old run of this backend, in a process of
    its own.
    """
    folder = tmp_path_factory.mktemp("old")
    for name in RUNS:
        shutil.copytree(OLD / current().name / name / "checkpoints", folder / name / "checkpoints")
    process = run(folder, *RUNS)
    check_end(process, 0)
    assert process.stdout.count("going on from step") == len(RUNS)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_goes_on_to_the_end_that_the_old_release_came_to(resumed, name):
    path = OLD / current().name / name / "state.json"
    expected, found = loaded(path.read_text(encoding="utf-8")), state(resumed, name)
    assert [part for part in expected if KEPT.match(part) and part not in found] == []
    for part in expected.keys() & found.keys():
        # Sizes of containers, and a callback's private attributes, may differ.
        if "/_" not in part and not str(expected[part]).startswith("dict of "):
            is_rounding = name in ROUNDING and ROUNDING[name].search(part)
            assert_near(found[part], expected[part], part, atol=1e-3 if is_rounding else 0.0)


def assert_near(found, expected, part, atol):
    """Exact but for floats, which depend on the processor."""
    if np.asarray(expected).dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, err_msg=part)
        return
    atol += 1e-5 * np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol, err_msg=part)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_old_checkpoint_is_sound(tmp_path, backend, name):
    shutil.copytree(OLD / backend / name / "checkpoints", tmp_path / "old")
    reports = kp.CheckpointStore(tmp_path / "old").verify()
    assert reports
    assert [report.problem for report in reports] == [None] * len(reports)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_old_checkpoint_of_any_backend_is_restored(tmp_path, backend):
    shutil.copytree(OLD / backend / "dense" / "checkpoints", tmp_path / "old")
    model = CASES["dense"].make_model()
    assert kp.CheckpointStore(tmp_path / "old").restore(model) == 5
    assert int(model.optimizer.iterations) == 5
    saved = {}
    for path in (tmp_path / "old").rglob("*.safetensors"):
        saved |= load_file(path)
    for place, layer in enumerate(model.layers):
        for variable in layer.weights:
            kept = saved[f"variables/layers/{place}/{variable.path.split('/', 2)[-1]}"]
            np.testing.assert_array_equal(variable.numpy(), kept, err_msg=variable.path)
