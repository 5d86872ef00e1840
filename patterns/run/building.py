"""Seeing to it, before the first step, that a model is built and can be trained on its data."""

from __future__ import annotations

import keras

from keras_patterns.backends import current

from .. import _keras
from ..state.variables import has_own_step
from .checks import check_batch_sizes, check_not_frozen
from .driver import Driver


def check_sizes(driver: Driver) -> None:
    """Raises if a batch cannot be spread over the devices."""
    check_batch_sizes("the data", driver.data.batch_sizes(driver.plan.total_steps))
    check_batch_sizes("validation_data", driver.validation.batch_sizes())


def build(driver: Driver) -> None:
    """Builds a model as far as it must be before `fit`."""
    _build_if_frozen(driver)
    _build_optimizer(driver.model)


def _build_if_frozen(driver: Driver) -> None:
    """Builds a model of which a part is frozen, to see that not all of it is."""
    model = driver.model
    if not model.built and not all(layer.trainable for layer in getattr(model, "layers", ())):
        current().build(model, driver.data.samples[0])
        check_not_frozen("kp.fit", model)


def _build_optimizer(model: keras.Model) -> None:
    """Builds the optimizer of a built model, as `fit` would: where it builds itself in the first
    step, TensorFlow traces that step twice.
    """
    optimizer = model.optimizer
    # Keras takes a Sequential for built whose later layers are not.
    is_built = model.built and all(layer.built for layer in _keras.all_layers(model))
    if is_built and optimizer is not None and not optimizer.built and not has_own_step(model):
        optimizer.build(model.trainable_variables)
