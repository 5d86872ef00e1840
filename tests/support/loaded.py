"""Which top-level modules an import loads, seen from a fresh process."""

import os
import subprocess
import sys

OURS = {"keras_patterns", "numpy", "safetensors", "xxhash", "filelock"}

PROGRAM = """
import sys
import keras
before = set(sys.modules)
import keras_patterns
roots = lambda names: {name.partition(".")[0] for name in names}
added = roots(set(sys.modules) - before) - roots(before)
print(keras.config.backend(), *sorted(added - set(sys.stdlib_module_names)))
"""


def assert_import_adds_no_framework(backend: str) -> None:
    """Import Keras and then the package in a fresh process: only the package and its dependencies
    may be new.
    """
    environment = {**os.environ, "KERAS_BACKEND": backend}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    found, *added = result.stdout.split()
    assert found == backend
    assert "keras_patterns" in added
    assert set(added) <= OURS
