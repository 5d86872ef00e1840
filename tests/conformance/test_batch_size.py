"""kp.probe_batch_size leaves everything as it was, for the cases of the table with arrays."""

import keras
import pytest
from models import CASES, runnable

import keras_patterns as kp
from keras_patterns.debugging import batch_size_noise
from keras_patterns.debugging.batch_size_speed import StepTimer
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

OPEN = [
    name for name, case in CASES.items() if not case.saved and not callable(case.arguments["x"])
]
# The ordinary run takes these; `nox -s gallery` takes all.
FIRST = ["dense", "dictionaries", "mixed precision"]
TAKEN = ("x", "y", "sample_weight")


@pytest.fixture(autouse=True)
def few_gradients(monkeypatch):
    monkeypatch.setattr(batch_size_noise, "REPEATS", 2)
    monkeypatch.setattr(batch_size_noise, "MICRO_BATCHES", 2)


def trained(case):
    keras.utils.set_random_seed(5)
    model = case.make_model()
    how = {name: value() if callable(value) else value for name, value in case.arguments.items()}
    return model, kp.fit(model, **how, seed=0, verbose=0)


def probe(model, case, *more):
    data = {name: case.arguments[name] for name in TAKEN if name in case.arguments}
    # Two of the cases have a loss in their train_step alone.
    measure = ["noise", *more] if model.loss is not None else []
    how = {"sizes": [8], "rounds": 1, "measure": measure}
    return kp.probe_batch_size(model, **data, **how, loss_seeds=1, loss_examples=8)


@pytest.mark.parametrize(
    "case",
    [
        *runnable(FIRST),
        *(
            pytest.param(*one.values, id=one.id, marks=[*one.marks, pytest.mark.gallery])
            for one in runnable(name for name in OPEN if name not in FIRST)
        ),
    ],
)
def test_a_probe_leaves_everything_as_it_was(case):
    model, history = trained(case)
    function, before = model.train_function, run_state(model, history)
    data = {name: keras.tree.map_structure(bytes, case.arguments[name]) for name in ("x", "y")}
    found = probe(model, case, "loss")
    assert found.speeds[0].median > 0
    assert_same_state(before, run_state(model, history))
    assert model.train_function is function
    assert model.history is history
    assert data == {
        name: keras.tree.map_structure(bytes, case.arguments[name]) for name in ("x", "y")
    }


@pytest.mark.parametrize("case", runnable(["dense"]))
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("part", ["noise", "speed"])
def test_what_is_interrupted_or_raises_leaves_everything_as_it_was(case, error, part, monkeypatch):
    model, history = trained(case)
    before = run_state(model, history)
    place, name = {
        "noise": (batch_size_noise, "_square"),
        "speed": (StepTimer, "seconds"),
    }[part]
    real, calls = getattr(place, name), []

    def breaking(*given):
        calls.append(1)
        result = real(*given)
        if len(calls) == 2:
            raise error
        return result

    monkeypatch.setattr(place, name, breaking)
    with pytest.raises(error):
        probe(model, case)
    assert_same_state(before, run_state(model, history))


@pytest.mark.parametrize("case", runnable(["dense", "moving average", "unseeded dropout"]))
def test_training_after_a_probe_is_as_without_it(case):
    """A model that has not been trained."""

    def end(probes):
        keras.utils.set_random_seed(5)
        model = case.make_model()
        if probes:
            probe(model, case)
            assert not hasattr(model, "history")
        return run_state(model, kp.fit(model, **case.arguments, seed=0, verbose=0))

    assert_same_state(end(probes=False), end(probes=True))
