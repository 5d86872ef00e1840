"""What may be done to a model leaves no trace, for every case of the table."""

import keras
import pytest
from models import CASES, runnable

import keras_patterns as kp
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

SWEPT = ("x", "y", "batch_size", "sample_weight", "class_weight", "shuffle")


def arguments(case):
    """What the finder takes of a case; what holds state is made anew."""
    taken = {name: case.arguments[name] for name in SWEPT if name in case.arguments}
    return {name: value() if callable(value) else value for name, value in taken.items()}


@pytest.mark.sampled(3, "every_step", "jax", "tensorflow")
@pytest.mark.parametrize("case", runnable(name for name in CASES if not CASES[name].saved))
def test_the_finder_leaves_everything_as_it_was(case):
    keras.utils.set_random_seed(5)
    model = case.make_model()
    how = {name: value() if callable(value) else value for name, value in case.arguments.items()}
    history = kp.fit(model, **how, seed=0, verbose=0)
    function, before = model.train_function, run_state(model, history)
    sweep = kp.find_learning_rate(
        model, **arguments(case), start_rate=1e-4, stop_rate=0.1, steps=10, verbose=0
    )
    assert len(sweep.losses) > 5
    assert_same_state(before, run_state(model, history))
    assert model.train_function is function
    assert model.history is history


@pytest.mark.parametrize(
    "case",
    runnable(["dense", "convolutional", "moving average", "multi optimizer", "custom train_step"]),
)
def test_training_after_the_finder_is_as_without_it(case):
    """A model that has not been trained, or even built."""

    def end(find):
        keras.utils.set_random_seed(5)
        model = case.make_model()
        if find:
            kp.find_learning_rate(model, **arguments(case), stop_rate=1e3, verbose=0)
            assert not hasattr(model, "history")
        return run_state(model, kp.fit(model, **case.arguments, seed=0, verbose=0))

    assert_same_state(end(find=False), end(find=True))
