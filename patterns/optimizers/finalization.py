"""Keras ends every `fit` by finalising the optimizer's variables; a run of several `fit` calls is
finalised once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from keras_patterns.backends import current

from .. import _keras


@contextmanager
def finalized_once(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Holds back `optimizer.finalize_variable_values`, which with `use_ema=True` overwrites the
    weights.

    Yields:
        A function that does it, to be called when the run is over.
    """
    optimizer = model.optimizer
    if optimizer is None:
        yield lambda: None
        return
    release = _keras.replace_attribute(optimizer, "finalize_variable_values", lambda *_: None)

    def finalize() -> None:
        release()
        optimizer.finalize_variable_values(model.trainable_variables)
        # So that a plain `fit` can follow, too.
        current().prepare(model)

    try:
        yield finalize
    finally:
        release()
