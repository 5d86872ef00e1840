"""Any backend: one plan of freezing and thawing, at rates by layer, trains the same on each."""

import json

import numpy as np
import pytest
from children import BACKENDS, run_script
from places import SUPPORT

import keras_patterns as kp
from keras_patterns.testing import assert_same_state

pytestmark = pytest.mark.cross

SCRIPT = SUPPORT / "run_thawing.py"
HEAD = ["head/kernel", "head/bias"]
HIGH = ["high/kernel", "high_norm/gamma", "high_norm/beta"]
LOW = ["low/kernel", "low_norm/gamma", "low_norm/beta"]
# The places of these layers in the model.
PLACES = {"stem": 0, "low": 1, "low_norm": 2, "high": 5, "high_norm": 6, "head": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each backend, the state after every second step, and what was trained in each step."""
    found = {}
    for backend in BACKENDS:
        folder = tmp_path_factory.mktemp(backend)
        run_script(SCRIPT, backend, folder)
        store = kp.CheckpointStore(folder / "runs")
        states = {step: store.read_record(step)[1].values for step in store.steps()}
        found[backend] = states, json.loads((folder / "said.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_stage_trains_what_it_names_and_has_slots_of_that_alone(runs, backend):
    states, said = runs[backend]
    stages = [(2, HEAD), (6, HIGH + HEAD), (10, LOW + HIGH + HEAD)]
    assert said["trained"] == [trained for _, trained in stages for _ in range(4)]
    for step, trained in stages:
        keys = {
            f"layers/{PLACES[layer]}/{name}"
            for layer, name in (path.split("/") for path in trained)
        }
        slots = {f"optimizer/{slot}[{key}]" for slot in ("momentums", "velocities") for key in keys}
        assert {key for key in states[step] if "[" in key} == slots


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_frozen_stays_to_the_bit(runs, backend):
    states, _ = runs[backend]
    for layer, until in {"stem": 12, "low": 8, "low_norm": 8, "high": 4, "high_norm": 4}.items():
        kept = [key for key in states[2] if key.startswith(f"layers/{PLACES[layer]}/")]
        assert_same_state(
            {key: states[2][key] for key in kept}, {key: states[until][key] for key in kept}
        )
        # Once it is thawed all of it moves, BatchNorm's statistics too.
        assert until == 12 or not any(
            np.array_equal(states[2][key], states[12][key]) for key in kept
        )


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_weights_and_slots_agree(runs, backend):
    (expected, told), (states, said) = runs[BACKENDS[0]], runs[backend]
    assert states.keys() == expected.keys()
    np.testing.assert_allclose(said["loss"], told["loss"], rtol=1e-5)
    for step, variables in expected.items():
        assert states[step].keys() == variables.keys()
        for key, value in variables.items():
            atol = 1e-5 * np.abs(value).max()
            np.testing.assert_allclose(
                states[step][key], value, rtol=1e-5, atol=atol, err_msg=f"{key} after {step} steps"
            )
