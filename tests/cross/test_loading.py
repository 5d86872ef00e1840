"""Weights that were written on one backend are loaded on any other, from every kind of file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = ("jax", "tensorflow", "torch")
SCRIPT = Path(__file__).with_name("loading.py")


def run(backend, command, *folders):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), command, *map(str, folders)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(backend) for backend in BACKENDS]
    for backend, folder in zip(BACKENDS, folders, strict=True):
        run(backend, "save", folder)
    return folders


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_file_is_loaded(saved, backend):
    assert run(backend, "load", *saved).count("loaded") == len(BACKENDS)
