"""Errors that say that memory was refused are recognised, and no others."""

import importlib

import pytest

from keras_patterns.backends import current


def refused():
    """Errors of the backend's own."""
    framework = importlib.import_module(current().name)
    made = {
        "jax": lambda: [framework.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")],
        "tensorflow": lambda: [framework.errors.ResourceExhaustedError(None, None, "OOM")],
        "torch": lambda: [
            framework.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("CUDA error: out of memory"),
            RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        ],
    }
    return [*made[current().name](), MemoryError()]


def test_they_are_recognised_also_as_the_cause_of_another():
    for error in refused():
        assert current().is_out_of_memory(error)
        outer = ValueError("the step failed")
        outer.__cause__ = error
        assert current().is_out_of_memory(outer)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("a wrong shape")])
def test_others_are_not(error):
    assert not current().is_out_of_memory(error)
