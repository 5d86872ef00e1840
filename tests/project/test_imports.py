"""Importing the package loads nothing that Keras and our dependencies do not, with all three
frameworks and everything that the tests need installed.
"""

import os
import subprocess
import sys

import pytest
from children import BACKENDS

pytestmark = pytest.mark.cross

OURS = {"keras_patterns", "numpy", "safetensors", "xxhash", "filelock", "msgspec"}

PROGRAM = """
import sys
import keras
before = set(sys.modules)
import keras_patterns
for name in keras_patterns.__all__:
    getattr(keras_patterns, name)
roots = lambda names: {name.partition(".")[0] for name in names}
added = roots(set(sys.modules) - before) - roots(before)
print(keras.config.backend(), *sorted(added - set(sys.stdlib_module_names)))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_the_package_adds_no_framework(backend):
    """Keras first and then the package, in a fresh process: only the package and its dependencies
    may be new.
    """
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    found, *added = result.stdout.split()
    assert found == backend
    assert "keras_patterns" in added
    assert set(added) <= OURS
