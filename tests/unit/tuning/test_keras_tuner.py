"""The bridge to KerasTuner: `examples/hyperband_keras_tuner.py`."""

import json
import runpy
import signal

import pytest
from children import check_end, run
from places import ROOT, SUPPORT
from sklearn.datasets import load_digits

import keras_patterns as kp

SCRIPT = SUPPORT / "run_keras_tuner.py"

pytestmark = pytest.mark.services


def search(path, *arguments, expect=0):
    process = run(path, *arguments, script=SCRIPT, alone=True)
    check_end(process, expect)
    return json.loads(process.stdout.splitlines()[-1]) if expect == 0 else None


def test_a_promoted_trial_and_a_killed_one_end_as_runs_of_their_own(tmp_path):
    pytest.importorskip("keras_tuner", reason="the group test-services is not installed")
    # In a trial of the first rung, and in others that were promoted.
    for after in (30, 500, 300):
        search(tmp_path, after, expect=-signal.SIGKILL)
    found = search(tmp_path)
    assert sum(params["tuner/round"] > 0 for _, params in found.values()) > 2
    build = runpy.run_path(str(ROOT / "examples" / "hyperband_keras_tuner.py"))["build"]
    x, y = load_digits(return_X_y=True)
    for value, params in found.values():
        model = build(_Fixed(params))
        how = {"validation_split": 0.2, "epochs": params["tuner/epochs"], "seed": 0, "verbose": 0}
        history = kp.fit(model, x / 16, y, batch_size=64, **how)
        assert min(history.history["val_loss"]) == value


class _Fixed:
    """Answers as KerasTuner's parameters do."""

    def __init__(self, params):
        self._params = params

    def Choice(self, name, *_, **__):  # noqa: N802
        return self._params[name]

    Float = Choice
