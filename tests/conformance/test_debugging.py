"""kp.debug on the gallery of faulty programs, and what it leaves behind, for every case of the
table.
"""

import re
import runpy
import sys

import keras
import pytest
from models import CASES, runnable
from places import ROOT

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.debugging import examined as examining
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

# The ordinary run takes these; `nox -s gallery` takes all.
SAMPLE = [
    "so39525358",
    "so37624102",
    "so59282996",
    "hu_broadcast",
    "softmax_twice",
    "argmax_inside",
]
TAKEN = ("x", "y", "sample_weight")


@pytest.fixture(scope="module")
def bench():
    """What benchmarks/bench_debugging.py defines."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    before, sys.argv = sys.argv, ["bench_debugging.py"]
    try:
        yield runpy.run_path(str(ROOT / "benchmarks" / "bench_debugging.py"))
    finally:
        sys.argv = before
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_planted_fault_is_named_first_or_second_and_its_twin_is_silent(bench, name):
    case = bench["published"].REGISTRY[name]
    findings = bench["found_in"](case.build())
    assert bench["is_named"](case.kinds, findings), findings
    assert bench["alarms"](bench["found_in"](case.healthy())) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.gallery
def test_the_whole_gallery(bench):
    """At least 90 % of the faults are named, and at most 3 % of the healthy programs accused."""
    named, accused = [], []
    for seed in bench["SEEDS"]:
        for name, planted, program in bench["programs"](seed):
            findings = bench["found_in"](program)
            if planted:
                named.append((bench["is_named"](planted, findings), name, seed))
            else:
                accused.append((bool(bench["alarms"](findings)), name, seed))
    assert sum(hit for hit, *_ in named) >= 0.9 * len(named), [one for one in named if not one[0]]
    assert sum(hit for hit, *_ in accused) <= 0.03 * len(accused), [
        one for one in accused if one[0]
    ]


def arguments(case, names=TAKEN):
    """What a function takes of a case; what holds state is made anew."""
    taken = {name: case.arguments[name] for name in names if name in case.arguments}
    return {name: value() if callable(value) else value for name, value in taken.items()}


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def trained(case):
    keras.utils.set_random_seed(5)
    model = case.make_model()
    how = {name: value() if callable(value) else value for name, value in case.arguments.items()}
    return model, kp.fit(model, **how, seed=0, verbose=0)


def quietly(function, *given, **named):
    """Calls a function that may find that it cannot judge a model."""
    try:
        return function(*given, **named)
    except ValueError as error:
        if not re.search("train_step must return|cannot be trained", str(error)):
            raise
        return None


def rows():
    """The cases; the ordinary run takes the first few, `nox -s gallery` takes all."""
    first = ["dense", "custom train_step", "cycled momentum", "dictionaries", "mixed precision"]
    rest = [name for name in CASES if not CASES[name].saved and name not in first]
    return [
        *runnable(first),
        *(
            pytest.param(*one.values, id=one.id, marks=[*one.marks, pytest.mark.gallery])
            for one in runnable(rest)
        ),
    ]


@pytest.mark.parametrize("case", rows())
def test_a_preflight_leaves_everything_as_it_was(case):
    model, history = trained(case)
    function, before = model.train_function, run_state(model, history)
    kp.preflight(model, **arguments(case))
    assert_same_state(before, run_state(model, history))
    assert model.train_function is function
    assert model.history is history


@pytest.mark.parametrize("case", rows())
def test_the_whole_ladder_leaves_everything_as_it_was(case):
    model, history = trained(case)
    function, before = model.train_function, run_state(model, history)
    quietly(kp.debug, model, **arguments(case), short_steps=20)
    assert_same_state(before, run_state(model, history))
    assert model.train_function is function
    assert model.history is history
    assert model.steps_per_execution == case.make_model().steps_per_execution


@pytest.mark.parametrize("case", runnable(["dense", "cycled momentum"]))
@pytest.mark.parametrize(("error", "call"), [(KeyboardInterrupt, 1), (RuntimeError, 70)])
def test_what_is_interrupted_or_raises_leaves_everything_as_it_was(case, error, call, monkeypatch):
    """In the first step on the batch, and in the second rate or the short run."""
    model, history = trained(case)
    before = run_state(model, history)
    rate, calls = model.optimizer.get_config(), []
    real = model.train_on_batch

    def breaking(*given, **named):
        calls.append(1)
        if len(calls) == call:
            raise error
        return real(*given, **named)

    monkeypatch.setitem(vars(model), "train_on_batch", breaking)
    with pytest.raises(error):
        kp.debug(model, **arguments(case), short_steps=20)
    monkeypatch.undo()
    assert len(calls) == call
    assert_same_state(before, run_state(model, history))
    assert model.optimizer.get_config() == rate


@pytest.mark.parametrize("case", runnable(["dense", "unseeded dropout"]))
def test_an_interrupted_preflight_leaves_everything_as_it_was(case, monkeypatch):
    model, history = trained(case)
    before = run_state(model, history)

    def interrupted(*given):
        real(*given)
        raise Interrupted

    real = current().gradients
    monkeypatch.setattr(type(current()), "gradients", lambda self, *given: interrupted(*given))
    with pytest.raises(Interrupted):
        kp.preflight(model, **arguments(case))
    assert_same_state(before, run_state(model, history))


@pytest.mark.parametrize("case", runnable(["dense", "dictionaries"]))
def test_a_preflight_makes_at_most_six_calls_and_one_gradient(case, monkeypatch):
    calls, gradients = [], []
    seen, real = examining.observe, type(current()).gradients
    monkeypatch.setattr(examining, "observe", lambda *given: calls.append(1) or seen(*given))
    monkeypatch.setattr(
        type(current()), "gradients", lambda *given: gradients.append(1) or real(*given)
    )
    kp.preflight(case.make_model(), **arguments(case))
    assert len(calls) <= 6
    assert len(gradients) == 1


@pytest.mark.parametrize("case", runnable(["dense", "moving average"]))
def test_training_after_the_ladder_is_as_without_it(case):
    """A model that has not been trained, or even built."""

    def end(looks):
        keras.utils.set_random_seed(5)
        model = case.make_model()
        if looks:
            kp.debug(model, **arguments(case), short_steps=20)
            assert not hasattr(model, "history")
        return run_state(model, kp.fit(model, **case.arguments, seed=0, verbose=0))

    assert_same_state(end(looks=False), end(looks=True))
