"""Exact resume: every kind of data. Killed in the second pass or later, a fresh process goes on,
and weights, History and a digest of all batches are equal in every bit.
"""

import math
from pathlib import Path

import keras
import pytest
from children import Relay, references, state
from loaders import CASES, EVERY, STEPS, names_here, quick_names, small_model

from keras_patterns.data import positions
from keras_patterns.testing import assert_resumes_exactly, differences

SCRIPT = Path(__file__).parents[2] / "support" / "run_loader.py"
# The ordinary run takes a fixed sample; `nox -s loaders` takes all.
SAMPLE = names_here(sampled_only=True)
REST = [name for name in names_here() if name not in SAMPLE]


class Killed:
    """Runs of cases, each killed once.

    Args:
        path: Their folder.
        names: The cases.
    """

    def __init__(self, path, names):
        self._path = path
        self.expected = references(*names, script=SCRIPT)
        self._relay = Relay(path / "killed", self._kills(names), SCRIPT, EVERY)

    def check(self, name):
        self._relay.check(name, self.expected[name])
        opened = (self._path / "killed" / name / "opened").read_text(encoding="utf-8").split()
        assert ("set_state" in opened) == (CASES[name].way == "position"), opened
        fetches = CASES[name].way == "index" and CASES[name].with_controls
        assert ("fetch" in opened) == fetches, opened

    def check_control(self, name):
        """The place is lost in the process that goes on."""
        path = self._path / "lost"
        Relay(path, self._kills([name]), SCRIPT, EVERY, ["--wrong"])
        found = state(path, name)
        assert any("digest" in line for line in differences(self.expected[name], found))

    def _kills(self, names):
        return {name: [CASES[name].kill_step(name)] for name in names}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return Killed(tmp_path_factory.mktemp("sample"), SAMPLE)


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    return Killed(tmp_path_factory.mktemp("rest"), REST)


@pytest.mark.parametrize("name", quick_names())
def test_resumed_in_this_process(name, monkeypatch):
    # A state before every batch.
    monkeypatch.setattr(positions, "SHARE", math.inf)
    case = CASES[name]
    others = case.make()
    del others["x"]

    def make_data():
        if case.global_seed is not None:
            keras.utils.set_random_seed(case.global_seed)
        return case.make()["x"]

    assert_resumes_exactly(
        case.make_model or small_model,
        make_data,
        **others,
        total_steps=STEPS,
        epochs=3,
        every_steps=2,
        kill_at=(case.steps_per_pass + 2, STEPS - 1),
    )


@pytest.mark.parametrize("name", SAMPLE)
def test_killed_in_a_later_pass(sample, name):
    sample.check(name)


@pytest.mark.loaders
@pytest.mark.parametrize("name", REST)
def test_each_other_kind_killed_in_a_later_pass(rest, name):
    rest.check(name)


@pytest.mark.loaders
@pytest.mark.parametrize("name", [name for name in SAMPLE if CASES[name].with_controls])
def test_control_of_a_place_that_is_lost(sample, name):
    sample.check_control(name)


@pytest.mark.loaders
@pytest.mark.parametrize("name", [name for name in REST if CASES[name].with_controls])
def test_each_other_control_of_a_place_that_is_lost(rest, name):
    rest.check_control(name)
