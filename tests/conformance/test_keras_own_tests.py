"""Keras's own tests of `fit` and of its callbacks, with `kp.fit` in the place of `model.fit`."""

import fnmatch
import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import keras
import pytest
from places import ROOT

SUPPORT = ROOT / "tests" / "support"
PAGE = ROOT / "docs" / "model-fit.md"

# Tests that pass with `model.fit` and not with `kp.fit`, and why; the same table stands in
# docs/model-fit.md.
DIFFERENCES = {
    "`steps_per_epoch`: passes run on across epochs, and each epoch has exactly as many steps": [
        "test_fit_flow_steps_per_epoch_*",
        "test_steps_per_epoch_not_match_*",
    ],
    "`steps_per_execution`: steps that it does not divide run one by one": [
        "test_steps_per_execution_steps_count_*",
        "test_steps_per_execution_steps_per_epoch_*",
        "test_steps_per_execution_unrolled_steps_*",
    ],
    "ragged tensors are refused": ["test_trainer_with_raggeds_*"],
    "`tf.distribute` is refused": ["test_swap_ema_weights_with_tf_distribute"],
    "a model that is frozen as a whole is refused": [
        "test_fit_with_different_batch_size_same_loss",
    ],
    "`BackupAndRestore` is refused: `kp.Checkpoint` does its work": [
        "test_best_case_*",
        "test_backup_corrupted",
        "test_model_deleted_case_epoch",
        "test_raise_error_terminate_preserves_backup",
    ],
}
ON_TENSORFLOW = {
    "on TensorFlow, sparse batches are made dense, and so are the gradients of their weights": [
        "test_fit_sparse_*"
    ],
}
# Chosen to be quick, and to use much of `fit`.
SAMPLE = (
    *("test_fit_flow_jit", "test_fit_with_val_split_jit", "test_callback_methods_keys"),
    *("test_max_epochs_and_steps", "test_validation_data_infinite_generator", "test_nested_inputs"),
    *("test_early_stopping_reuse", "test_CSVLogger", "test_lambda_callback_with_batches"),
    *("test_updates_learning_rate", "test_reduces_lr_with_model_fit", "test_swap_ema_weights"),
    *("test_terminate_on_nan_graceful_stop", "test_model_state_is_current_on_epoch_end"),
)


def keras_tests():
    """The files of tests that the installed Keras holds."""
    folder = Path(importlib.util.find_spec("keras").origin).parent / "src"
    # Keras's test of its trainer imports JAX on every backend.
    trainer = [folder / "trainers" / "trainer_test.py"] if importlib.util.find_spec("jax") else []
    files = [one for one in (*trainer, *folder.glob("callbacks/*_test.py")) if one.exists()]
    if not files:
        pytest.skip("the archive of this Keras holds no tests")
    return folder, sorted(files)


def outcomes(fit, path, *arguments):
    """Runs Keras's tests in a process of their own; returns what became of each, by its name."""
    folder, files = keras_tests()
    settings, report = path / "pytest.ini", path / f"{fit}.xml"
    settings.write_text("[pytest]\n", encoding="utf-8")
    options = ("-p", "keras_own_tests", "-p", "no:cacheprovider", "-W", "ignore", "-q")
    command = [sys.executable, "-m", "pytest", "-c", settings, "--rootdir", folder, *options]
    command += ["--junitxml", report, "--continue-on-collection-errors", *arguments, *files]
    process = subprocess.run(
        [str(part) for part in command],
        cwd=path,
        env={**os.environ, "FIT": fit, "PYTHONPATH": str(SUPPORT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), f"{process.stdout[-3000:]}\n{process.stderr[-3000:]}"
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = next((one.tag for one in case if one.tag in ("failure", "error", "skipped")), "")
        said = next((one.get("message", "")[:300] for one in case if one.tag == outcome), "")
        found[f"{case.get('classname')}::{case.get('name')}"] = outcome or "passed", said
    return found


def patterns_of(name):
    method = name.split("::")[-1]
    here = ON_TENSORFLOW if keras.backend.backend() == "tensorflow" else {}
    return [
        pattern
        for patterns in (DIFFERENCES | here).values()
        for pattern in patterns
        if fnmatch.fnmatchcase(method, pattern)
    ]


def test_a_sample_of_keras_tests_passes_with_kp_fit(tmp_path):
    found = outcomes("kp.fit", tmp_path, "-k", " or ".join(SAMPLE))
    wrong = {name: said for name, (outcome, said) in found.items() if outcome == "failure"}
    wrong = {name: said for name, said in wrong.items() if not patterns_of(name)}
    assert not wrong
    # Those of the trainer want JAX.
    assert sum(outcome == "passed" for outcome, _ in found.values()) >= 5


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras_tests")
    return outcomes("model.fit", path), outcomes("kp.fit", path)


@pytest.fixture(scope="module")
def lost(both):
    """What passes with `model.fit` alone, with what was said of it."""
    plain, through = both
    passed = [name for name, (outcome, _) in plain.items() if outcome == "passed"]
    return {name: through[name] for name in passed if through[name][0] != "passed"}


@pytest.mark.keras_tests
def test_what_passes_with_model_fit_passes_with_kp_fit_but_for_named_differences(both, lost):
    assert sum(outcome == "passed" for outcome, _ in both[0].values()) > 50
    assert not {name: said for name, said in lost.items() if not patterns_of(name)}


@pytest.mark.keras_tests
def test_every_named_difference_is_one(both, lost):
    passed = [name for name, (outcome, _) in both[0].items() if outcome == "passed"]
    concerned = {pattern for name in passed for pattern in patterns_of(name)}
    assert concerned == {pattern for name in lost for pattern in patterns_of(name)}


@pytest.mark.once
def test_the_page_names_every_difference():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for reason, patterns in (DIFFERENCES | ON_TENSORFLOW).items():
        row = f"| {reason} | {', '.join(f'`{pattern}`' for pattern in patterns)} |"
        assert row in lines
