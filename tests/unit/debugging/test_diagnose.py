"""kp.diagnose: a curve of each kind, what must not matter, and what is said."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_patterns as kp
from keras_patterns.debugging.diagnosis import KINDS

pytestmark = pytest.mark.once

EPOCHS = np.arange(40)
FALL = np.exp(-EPOCHS / 4)
HUMP = np.exp(-((EPOCHS - 20) ** 2) / 40)


def noise(size, seed=0):
    return np.random.default_rng(seed).normal(0, size, 40)


# Each with the kinds that it must show, and no others.
CURVES = {
    "converged": ({"loss": 0.1 + FALL, "val_loss": 0.12 + FALL}, ["converged"]),
    "without a validation": ({"loss": 0.1 + FALL}, ["converged"]),
    "overfits": (
        {"loss": np.exp(-EPOCHS / 8), "val_loss": 1 + FALL + 0.05 * np.maximum(0, EPOCHS - 12)},
        ["overfits"],
    ),
    "underfits": ({"loss": 2.3 - 0.02 * (1 - FALL)}, ["underfits"]),
    "constant": ({"loss": np.ones(40)}, ["underfits"]),
    "nothing to learn": ({"loss": np.zeros(40)}, ["converged"]),
    "still improving": (
        {"loss": np.exp(-EPOCHS / 30), "val_loss": 0.05 + np.exp(-EPOCHS / 30)},
        ["still improving"],
    ),
    "rises": ({"loss": np.where(EPOCHS < 20, FALL, np.exp((EPOCHS - 25) / 5))}, ["diverged"]),
    "not finite": ({"loss": np.where(EPOCHS < 20, FALL, np.nan)}, ["diverged"]),
    "oscillates": ({"loss": 0.3 + FALL + np.where(EPOCHS % 2, 0.3, -0.1)}, ["oscillates"]),
    "plateaus": (
        {
            "loss": np.where(
                EPOCHS < 6,
                1 - 0.05 * EPOCHS,
                np.where(EPOCHS < 25, 0.7, 0.1 + 0.6 * np.exp((24 - EPOCHS) / 3)),
            )
        },
        ["plateaus", "still improving"],
    ),
    "second descent": (
        {"loss": 0.1 + np.exp(-EPOCHS / 8), "val_loss": 0.5 + FALL / 2 + 0.3 * HUMP},
        ["still improving"],
    ),
}


@pytest.mark.parametrize("size", [0.0, 0.003])
@pytest.mark.parametrize("name", CURVES)
def test_a_curve_of_each_kind(name, size):
    """Without noise, and with some on each curve."""
    lists, kinds = CURVES[name]
    noisy = {
        key: curve + noise(size, seed) * np.ptp(curve)
        for seed, (key, curve) in enumerate(lists.items())
    }
    diagnosis = kp.diagnose(noisy)
    assert diagnosis.kinds == kinds
    assert diagnosis.verdict == kinds[0]
    assert all(one.message and one.remedy for one in diagnosis.observations)


def test_the_numbers_of_overfitting():
    diagnosis = kp.diagnose(CURVES["overfits"][0])
    found = diagnosis["overfits"].evidence
    lists = CURVES["overfits"][0]
    # From the epoch whose value is lowest, to the median of the last three.
    assert found["since"] == np.argmin(lists["val_loss"]) + 1
    assert found["gap"] == pytest.approx(lists["val_loss"][-2] - lists["loss"][-2])
    assert found["rise"] == pytest.approx(lists["val_loss"][-2] - lists["val_loss"].min(), rel=0.1)
    assert str(diagnosis).startswith("overfits: since step ")


def test_double_descent_is_named_where_it_is_possible():
    """Where the training has further to fall, and where the validation falls again; not where all
    has been learnt by heart.
    """
    again = {"loss": FALL, "val_loss": 0.5 + FALL / 2 + 0.3 * HUMP + 0.1 * (EPOCHS > 20)}
    assert "it falls again" in kp.diagnose(again)["overfits"].caution
    lists = CURVES["overfits"][0]
    not_yet = {**lists, "loss": 0.1 + lists["loss"]}
    assert "has not come to its end" in kp.diagnose(not_yet)["overfits"].caution
    by_heart = {**lists, "loss": FALL}
    assert kp.diagnose(by_heart)["overfits"].caution == ""
    assert "second descent" in kp.diagnose(CURVES["second descent"][0]).observations[0].caution


def test_a_target_that_is_not_reached():
    lists = {"loss": 0.1 + FALL}
    assert kp.diagnose(lists, target=0.05).kinds == ["underfits"]
    assert kp.diagnose(lists, target=0.1).kinds == ["converged"]


def test_a_metric_of_which_more_is_better():
    lists = {
        "accuracy": 1 - np.exp(-EPOCHS / 8),
        "val_accuracy": 0.7 - 0.2 * FALL - 0.005 * np.maximum(0, EPOCHS - 12),
    }
    diagnosis = kp.diagnose(lists, "accuracy")
    assert diagnosis.kinds == ["overfits"]
    assert "val_accuracy fell from 0.6" in diagnosis["overfits"].message


def history(lists, steps=None, first=0):
    made = kp.RunHistory() if steps is not None else keras.callbacks.History()
    made.history = {key: list(values) for key, values in lists.items()}
    made.epoch = list(range(first, first + len(made.history["loss"])))
    if steps is not None:
        made.epoch_end_steps = list(steps)
    return made


VALUES = st.lists(st.floats(0.01, 100), min_size=6, max_size=30)


@st.composite
def runs(draw):
    """Curves of any shape, and those of a fall with a rise, a hump and noise."""
    if draw(st.booleans()):
        loss = draw(VALUES)
        size = len(loss)
        values = st.floats(0.01, 100)
        return {"loss": loss, "val_loss": draw(st.lists(values, min_size=size, max_size=size))}
    seed, size = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.003, 0.03, 0.2]))
    fall = np.exp(-EPOCHS / draw(st.sampled_from([2, 8, 30]))) * draw(st.sampled_from([0.1, 1]))
    rise = draw(st.sampled_from([0, 0.01, 0.05])) * np.maximum(0, EPOCHS - draw(st.integers(3, 30)))
    return {
        "loss": 1 + fall + noise(size, seed),
        "val_loss": 1 + fall + rise + noise(size, seed + 1),
    }


@given(lists=runs(), power=st.integers(-20, 20))
def test_the_unit_of_the_loss_does_not_matter(lists, power):
    one = kp.diagnose(lists)
    other = kp.diagnose({key: np.array(value) * 2.0**power for key, value in lists.items()})
    assert other.kinds == one.kinds
    assert [one.caution == "" for one in other.observations] == [
        one.caution == "" for one in one.observations
    ]
    for name in ("overfits", "plateaus", "still improving", "converged"):
        if name in one.kinds:
            keys = {"since", "from", "to"} & one[name].evidence.keys()
            assert all(one[name].evidence[key] == other[name].evidence[key] for key in keys)


@given(lists=runs(), first=st.integers(0, 10**6), length=st.integers(1, 10**4))
def test_the_numbers_of_the_steps_do_not_matter(lists, first, length):
    steps = first + length * np.arange(1, 1 + len(lists["loss"]))
    one = kp.diagnose(history(lists))
    other = kp.diagnose(history(lists, steps.tolist(), first))
    assert other.kinds == one.kinds
    for before, after in zip(one.observations, other.observations, strict=True):
        for key, value in before.evidence.items():
            expected = steps[int(value) - 1] if key in ("since", "from", "to", "step") else value
            assert after.evidence[key] == expected


@given(lists=runs())
def test_something_is_always_said_and_the_gravest_first(lists):
    diagnosis = kp.diagnose(lists)
    assert diagnosis.kinds
    assert diagnosis.kinds == sorted(set(diagnosis.kinds), key=KINDS.index)
    assert repr(diagnosis)


def test_validations_of_some_epochs_are_placed():
    """By the steps that kp.fit keeps, or every second epoch."""
    lists = {"loss": np.exp(-EPOCHS / 8)}
    validation = 1 + FALL + 0.05 * np.maximum(0, EPOCHS - 12)
    every_second = {**lists, "val_loss": validation[1::2]}
    since = int(kp.diagnose(every_second)["overfits"].evidence["since"])
    assert since == 2 * (np.argmin(validation[1::2]) + 1)
    made = history({**lists, "val_loss": validation[10::3]}, 5 * (1 + EPOCHS))
    made.validations = [
        {"step": 5 * (1 + epoch), "val_loss": validation[epoch]} for epoch in EPOCHS[10::3]
    ]
    assert kp.diagnose(made)["overfits"].evidence["since"] == 5 * (1 + 10)
    with pytest.raises(ValueError, match="has 17 values in 40 epochs; at which ones"):
        kp.diagnose({**lists, "val_loss": validation[:17]})


def test_few_epochs_say_nothing():
    diagnosis = kp.diagnose({"loss": [1.0, 0.5]})
    assert (diagnosis.kinds, diagnosis.verdict) == ([], "")
    assert repr(diagnosis) == "Nothing can be said: there are 2 epochs, and 6 are needed."


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (([1.0, 2.0],), TypeError, "`history` must be a History, or its dict of lists"),
        (({"loss": [1.0]}, "accuracy"), ValueError, "has no metric 'accuracy'. It has .'loss'."),
        (({"score": [1.0]}, "score"), ValueError, "whether less or more of 'score' is better"),
        (({"loss": [[1.0, 2.0]]},), ValueError, "'loss' must be one number for each epoch"),
    ],
)
def test_arguments_are_checked(given, error, said):
    with pytest.raises(error, match=said):
        kp.diagnose(*given)
