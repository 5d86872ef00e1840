"""Any backend: the same faults are found in the same programs, by values and settings."""

import json

import pytest
from children import BACKENDS, run_script
from places import SUPPORT

SCRIPT = SUPPORT / "run_findings.py"
# An output under TensorFlow's losses, which take hidden logits from it; data, layers, a rate.
PREFLIGHT = ["double_softmax", "softmax_twice", "divided_twice", "copied_before_the_split"]
CLIMBED = ["double_softmax", "clipped"]


def found(folder, backend, part, *names):
    """What is found, by the name of the program."""
    return json.loads(run_script(SCRIPT, backend, folder, part, *names).splitlines()[-1])


def assert_same_everywhere(folder, part, *names):
    first, *others = (found(folder, backend, part, *names) for backend in BACKENDS)
    for other in others:
        assert other == first
    return first


@pytest.mark.cross
def test_the_causes_of_a_few_programs_are_the_same_on_each_backend(tmp_path):
    """By the whole ladder; what only the course of the training shows is a symptom."""
    same = assert_same_everywhere(tmp_path, "debug", *CLIMBED)
    assert same["double_softmax"] == [["logits", "error"]]
    assert same["clipped"] == [["lr_low", "warning"]]
    assert all(same[f"{name}, healthy"] == [] for name in CLIMBED)


@pytest.mark.gallery
@pytest.mark.cross
def test_a_preflight_of_every_program_finds_the_same_on_each_backend(tmp_path):
    same = assert_same_everywhere(tmp_path, "preflight")
    assert len(same) > 350
