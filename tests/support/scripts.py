"""Scripts beside a test that run in processes of their own, each on one backend."""

import os
import subprocess
import sys

BACKENDS = ("jax", "tensorflow", "torch")


def run_script(script, backend, *arguments):
    """Runs it to its end; returns what it printed."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, *map(str, (script, *arguments))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
