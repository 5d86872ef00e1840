"""One backend is installed, and the wheel holds what it should."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

FRAMEWORKS = {"jax", "tensorflow", "torch"}


def test_only_the_backend_under_test_is_installed(backend):
    installed = {name for name in FRAMEWORKS if importlib.util.find_spec(name)}
    assert installed == {backend}


def test_keras_runs_on_the_backend_under_test(backend):
    import keras

    assert keras.config.backend() == backend


def test_the_wheel_holds_the_package_its_types_and_its_licence_only():
    files = [Path(str(file)) for file in importlib.metadata.files("keras-patterns")]
    roots = {file.parts[0] for file in files if ".." not in file.parts}
    version = importlib.metadata.version("keras-patterns")
    assert roots == {"keras_patterns", f"keras_patterns-{version}.dist-info"}
    assert Path("keras_patterns/py.typed") in files
    assert "LICENSE" in {file.name for file in files}


@pytest.mark.parametrize("folder", ["patterns", "backends"])
def test_the_folder_itself_refuses_to_be_imported(folder):
    result = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert f"it was imported as '{folder}'" in result.stderr
    assert "pip install ." in result.stderr
