"""Layers: what they hold, and what of it is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, those inside others included, which no public name gives."""
    return model._flatten_layers(include_self=False)


def leaf_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, at any depth, that hold no others. No public name goes down into
    layers that are no models.
    """
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if not list(layer._flatten_layers(include_self=False))]


def observed_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers of a model, at any depth, that can be looked at from outside: those that hold no
    others, and recurrent ones, whose cells run in a loop that a framework may trace.
    """
    found = []
    for inner in sublayers(layer):
        alone = isinstance(inner, keras.layers.RNN) or not sublayers(inner)
        found += [inner] if alone else observed_layers(inner)
    return found


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, in order."""
    return layer._flatten_layers(include_self=False, recursive=False)


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables that a layer holds itself. The public names add those of the layers inside it,
    seeds and metrics.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def weights_made_trainable(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of a layer, those of layers inside it left out, that it trains unless they are
    frozen.
    """
    return list(layer._trainable_variables)


def weights_to_train(model: keras.Model) -> list[keras.Variable]:
    """The weights that are trained when nothing in a model is frozen. The public names leave out
    what is frozen now.
    """
    own = {
        id(variable)
        for layer in [model, *all_layers(model)]
        for variable in weights_made_trainable(layer)
    }
    return [variable for variable in model.weights if id(variable) in own]


def draws(layer: keras.Layer) -> bool:
    """True if a layer holds a `SeedGenerator` itself. The public names give the states of those of
    the layers inside it, too.
    """
    return bool(layer._seed_generators)


def replace_sublayer(parent: keras.Layer, name: str, layer: keras.Layer) -> None:
    """Puts another layer in the place of one that an attribute holds.

    Setting the attribute would leave the old one among the layers inside, and a built layer refuses
    new ones.
    """
    with _unlocked(parent):
        parent._tracker.untrack(getattr(parent, name))
        setattr(parent, name, layer)


def set_dropout_rate(layer: keras.Layer, rate: float, seed: int) -> Callable[[], None]:
    """Sets the rate of a dropout layer; returns a function that puts the old one back.

    A layer that was made with a rate of 0 has no generator, and a built layer refuses a new one.

    Args:
        layer: A dropout layer.
        rate: At least 0, below 1.
        seed: For a new generator, unless the layer was made with a seed. One that Keras chose would
            move Python's random state.
    """
    before, has_generator = layer.rate, hasattr(layer, "seed_generator")

    def restore() -> None:
        layer.rate = before
        if not has_generator and hasattr(layer, "seed_generator"):
            with _unlocked(layer):
                del layer.seed_generator

    try:
        if rate and not has_generator:
            with _unlocked(layer):
                own = seed if layer.seed is None else layer.seed
                layer.seed_generator = keras.random.SeedGenerator(own)
        layer.rate = rate
    except BaseException:
        restore()
        raise
    return restore


@contextmanager
def _unlocked(layer: keras.Layer) -> Iterator[None]:
    """Within it, a built layer takes new parts."""
    tracker = layer._tracker
    message = tracker._lock_violation_msg
    locked = tracker.locked
    tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock(message)


def keras_attributes(thing: object) -> frozenset[str]:
    """The names of the attributes of an object of Keras in which Keras, and the framework under it,
    keep their own affairs, such as `stop_training`. There is no public list of them.
    """
    kind = next((kind for kind in _TEMPLATES if isinstance(thing, kind)), None)
    return _attributes(kind) if kind else frozenset()


def _template_model() -> keras.Model:
    model = keras.Sequential(name="template")
    optimizer = keras.optimizers.SGD(name="template")
    model.compile(optimizer, keras.losses.MeanSquaredError(name="template"))
    return model


_TEMPLATES: dict[type, Callable[[], object]] = {
    keras.Model: _template_model,
    keras.Layer: lambda: keras.Layer(name="template"),
    keras.Metric: lambda: keras.Metric(name="template"),
    keras.Loss: lambda: keras.Loss(name="template"),
    keras.optimizers.Optimizer: lambda: keras.optimizers.SGD(name="template"),
    keras.callbacks.Callback: keras.callbacks.Callback,
}
_SET_LATER = {
    *("history", "_epoch_iterator", "_eval_epoch_iterator", "_torch_params"),
    *("_jax_state", "_jax_state_synced"),
}


@functools.cache
def _attributes(kind: type) -> frozenset[str]:
    """Only what is asked for is made: the variables of an optimizer would lie on the device, which
    a worker of a loader must not touch.
    """
    return frozenset(vars(_TEMPLATES[kind]())) | _SET_LATER
