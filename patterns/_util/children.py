"""Child processes that run a module of this package, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

# The environment of a child that is to leave accelerators alone.
_ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}


def run_child(
    module: str, asked: str, backend: str, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs a module as the main program, with what this process can import.

    Args:
        module: Its dotted name.
        asked: On its standard input.
        backend: That of Keras.
        seconds: After which it is ended.

    Raises:
        subprocess.TimeoutExpired: If it took longer.
    """
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    environment = {**os.environ, **_ON_CPU, "PYTHONPATH": path, "KERAS_BACKEND": backend}
    return subprocess.run(
        [sys.executable, "-m", module],
        input=asked,
        capture_output=True,
        text=True,
        env=environment,
        timeout=seconds,
    )


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a child wrote to its standard error, shortened."""
    lines = done.stderr.strip().splitlines() or ["nothing on its standard error"]
    return f"{lines[-1]:.200}"
