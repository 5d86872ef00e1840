"""A plugin of pytest for Keras's own tests: with `FIT=kp.fit` in the environment, every `fit` in
them is `kp.fit`.
"""

import contextlib
import functools
import os
import sys
import types

with contextlib.suppress(ImportError):
    import torch  # noqa: F401  # Before TensorFlow, as Keras's own conftest does it.

import keras
import pytest


def skip_if_backend(name, reason):
    """As in the conftest at the root of Keras's repository, which its wheel does not hold."""
    return pytest.mark.skipif(keras.backend.backend() == name, reason=reason)


sys.modules["conftest"] = types.ModuleType("conftest")
sys.modules["conftest"].skip_if_backend = skip_if_backend


def replace_fit():
    """Makes `kp.fit` the `fit` of every model; its own calls get Keras's."""
    import keras_patterns as kp

    trainer = next(parent for parent in keras.Model.__mro__ if "fit" in vars(parent))
    original = trainer.fit
    running = []

    @functools.wraps(original)
    def fit(self, *arguments, **more):
        if self in running:
            return original(self, *arguments, **more)
        running.append(self)
        try:
            return kp.fit(self, *arguments, **more)
        finally:
            running.pop()

    trainer.fit = fit


if os.environ.get("FIT") == "kp.fit":
    replace_fit()
