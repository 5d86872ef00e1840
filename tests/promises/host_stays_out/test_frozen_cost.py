"""The host stays out of the way: a frozen part costs nothing but its forward pass."""

import keras
import pytest
from keras import layers, ops
from models import TRAIN

import keras_patterns as kp
from keras_patterns.backends import current

IN_THE_GRAPH = pytest.mark.xfail(
    current().name == "tensorflow",
    reason=(
        "TensorFlow's tape walks through what is frozen when the step is traced; its graph drops "
        "what nothing needs."
    ),
    strict=True,
)


def fit(model, *callbacks, **arguments):
    return kp.fit(model, **{**TRAIN, **arguments}, seed=0, verbose=0, callbacks=callbacks)


def noted(received):
    """An optimizer that notes the shapes of the gradients that it is given, where the step is
    traced or run.
    """

    class Noting(keras.optimizers.Adam):
        def apply(self, grads, trainable_variables=None):
            shapes = [tuple(gradient.shape) for gradient in grads]
            if shapes not in received:
                received.append(shapes)
            super().apply(grads, trainable_variables)

    return Noting(0.01)


def test_the_optimizer_is_given_gradients_of_what_is_trained_alone():
    model, received = (
        keras.Sequential(
            [keras.Input((6,)), *(layers.Dense(n, name=f"of_{n}") for n in (5, 4, 3))]
        ),
        [],
    )
    kp.freeze(model, slice(-1))
    model.compile(noted(received), "sparse_categorical_crossentropy")
    fit(model, kp.GradualUnfreeze({3: "of_4", 6: "of_5"}, verbose=0))
    first, second, head = ([(6, 5), (5,)], [(5, 4), (4,)], [(4, 3), (3,)])
    assert received == [head, second + head, first + second + head]


def watched(asked):
    """A layer that notes each time that the gradient of its inputs is computed, where the step is
    traced or run.
    """

    @ops.custom_gradient
    def identity(x):
        def gradient(*arguments, upstream=None):
            asked.append(True)
            return arguments[0] if upstream is None else upstream

        return ops.copy(x), gradient

    return layers.Lambda(identity)


@pytest.mark.parametrize("frozen", [pytest.param(True, marks=IN_THE_GRAPH), False])
def test_nothing_is_propagated_back_into_what_is_frozen(frozen):
    asked = []
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), watched(asked), layers.Dense(4), layers.Dense(3)]
    )
    if frozen:
        kp.freeze(model, slice(-1))
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model)
    assert bool(asked) != frozen
