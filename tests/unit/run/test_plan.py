"""The step plan: exactly the planned steps, in exactly the planned epochs."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_patterns.run.plan import StepPlan

pytestmark = pytest.mark.once

counts = st.integers(1, 10**7)


def lengths(plan):
    return [plan.steps_in(epoch) for epoch in range(plan.epochs)]


@pytest.mark.parametrize(
    ("total", "epochs", "expected"),
    [
        (10, 4, [3, 3, 3, 1]),
        (12, 4, [3, 3, 3, 3]),
        (10, 6, [2, 2, 2, 2, 1, 1]),
        (5, 5, [1] * 5),
        (7, 1, [7]),
        (143_000, 15, [9534] * 14 + [9524]),
    ],
)
def test_from_epochs(total, epochs, expected):
    assert lengths(StepPlan.from_epochs(total, epochs)) == expected


def test_the_last_epoch_is_shorter_if_it_does_not_divide():
    assert lengths(StepPlan(10, 4)) == [4, 4, 2]
    assert lengths(StepPlan(8, 4)) == [4, 4]
    assert lengths(StepPlan(3, 4)) == [3]


@given(total=counts, data=st.data())
def test_exactly_so_many_epochs_and_steps(total, data):
    epochs = data.draw(st.integers(1, min(total, 300)))
    plan = StepPlan.from_epochs(total, epochs)
    steps = lengths(plan)
    assert (plan.epochs, plan.total_steps) == (epochs, total)
    assert len(steps) == epochs
    assert sum(steps) == total
    assert min(steps) >= 1
    assert max(steps) == plan.steps_per_epoch == steps[0]
    assert steps == sorted(steps, reverse=True)


@given(total=counts, data=st.data())
def test_only_the_last_epoch_is_shorter_where_that_is_possible(total, data):
    epochs = data.draw(st.integers(1, min(total, 300)))
    per_epoch = math.ceil(total / epochs)
    steps = lengths(StepPlan.from_epochs(total, epochs))
    if per_epoch * (epochs - 1) < total:
        assert steps[:-1] == [per_epoch] * (epochs - 1)


@given(total=counts, per_epoch=counts, data=st.data())
def test_locate_is_the_inverse_of_the_epochs_ends(total, per_epoch, data):
    plan = StepPlan(total, per_epoch)
    assert plan.epochs == math.ceil(total / per_epoch)
    assert_located(plan, data.draw(st.integers(0, total - 1)))


@given(total=st.integers(1, 2000), data=st.data())
def test_locate_in_plans_from_epochs(total, data):
    plan = StepPlan.from_epochs(total, data.draw(st.integers(1, total)))
    assert_located(plan, data.draw(st.integers(0, total - 1)))


def assert_located(plan, step):
    epoch, within = plan.locate(step)
    begin = plan.end_of(epoch - 1) if epoch else 0
    assert begin + within == step < plan.end_of(epoch)
    assert 0 <= within < plan.steps_in(epoch)


def test_from_examples_of_the_book():
    plan = StepPlan.from_examples(1_000_000, batch_size=100, epochs=15, stop_point=14.3)
    assert (plan.total_steps, plan.epochs) == (143_000, 15)


@pytest.mark.parametrize(
    ("examples", "batch_size", "stop_point", "steps"),
    [
        (10, 3, 1.0, 4),
        (10, 3, 2.0, 8),
        (10, 3, 1.5, 6),
        (10, 3, 1.3, 5),
        (10, 3, 1.31, 6),
        (10_000, 10, 1.1 * 3, 3300),
        (300, 100, 1 / 3, 1),
        (300, 100, 2 / 3, 2),
        (1, 1, 1e-6, 1),
        (100, 1000, 0.5, 1),
    ],
)
def test_from_examples(examples, batch_size, stop_point, steps):
    assert StepPlan.from_examples(examples, batch_size, 1, stop_point).total_steps == steps


@given(
    examples=st.integers(1, 10**9),
    batch_size=st.integers(1, 10**5),
    tenths=st.integers(1, 1000),
)
def test_the_amount_of_training_does_not_depend_on_the_batch_size(examples, batch_size, tenths):
    steps = StepPlan.from_examples(examples, batch_size, 1, tenths / 10).total_steps
    whole, part = divmod(tenths, 10)
    last_pass = math.ceil(part * examples / (10 * batch_size) - 1e-9)
    assert steps == whole * -(-examples // batch_size) + last_pass


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"total_steps": 10, "steps_per_epoch": 4}, (10, 4, 3)),
        ({"total_steps": 10, "epochs": 4}, (10, 3, 4)),
        ({"steps_per_epoch": 4, "epochs": 3}, (12, 4, 3)),
        ({"total_steps": 10, "steps_per_epoch": 4, "epochs": 3}, (10, 4, 3)),
        ({"total_steps": 10, "steps_per_epoch": 2, "epochs": 6}, (10, 2, 6)),
        ({"epochs": 3, "steps_per_pass": 7}, (21, 7, 3)),
        ({"steps_per_pass": 7}, (7, 7, 1)),
        ({"steps_per_epoch": 4}, (4, 4, 1)),
        ({"total_steps": 20, "steps_per_pass": 7}, (20, 7, 3)),
        ({"total_steps": 5, "steps_per_pass": 7}, (5, 7, 1)),
        ({"total_steps": np.int64(20), "steps_per_pass": 7}, (20, 7, 3)),
    ],
)
def test_resolve(arguments, expected):
    plan = StepPlan.resolve(**arguments)
    assert (plan.total_steps, plan.steps_per_epoch, plan.epochs) == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: StepPlan(0, 1), ValueError, "`total_steps` must be at least 1. Received: 0."),
        (lambda: StepPlan(10.0, 1), TypeError, r"whole number. Received: 10.0 \(float\)"),
        (lambda: StepPlan(True, 1), TypeError, r"Received: True \(bool\)"),
        (lambda: StepPlan(10, "4"), TypeError, r"`steps_per_epoch` .* Received: '4' \(str\)"),
        (lambda: StepPlan(10, 4, 4), ValueError, "in epochs of 4 are 3 epochs, not 4. Pass two of"),
        (lambda: StepPlan.from_epochs(3, 4), ValueError, "3 steps cannot be cut into 4 epochs"),
        (lambda: StepPlan.from_epochs(3, 0), ValueError, "`epochs` must be at least 1. Received"),
        (lambda: StepPlan.from_examples(10, 0, 1), ValueError, "`batch_size` must be at least 1"),
        (lambda: StepPlan.from_examples(1, 1, 1, 0), ValueError, "`stop_point` .* Received: 0"),
        (lambda: StepPlan.from_examples(1, 1, 1, math.nan), ValueError, "finite .* Received: nan"),
        (lambda: StepPlan.from_examples(1, 1, 1, math.inf), ValueError, "finite .* Received: inf"),
        (lambda: StepPlan.from_examples(1, 1, 1, "2"), TypeError, r"Received: '2' \(str\)"),
        (lambda: StepPlan.from_examples(1, 1, 1, True), TypeError, r"Received: True \(bool\)"),
        (lambda: StepPlan.resolve(10, 4, 2), ValueError, "are 3 epochs, not 2"),
        (lambda: StepPlan.resolve(epochs=3), ValueError, "`epochs=3` alone.* `steps_per_epoch`"),
        (StepPlan.resolve, ValueError, "length of this data is not known"),
        (lambda: StepPlan.resolve(total_steps=9), ValueError, "`total_steps=9` alone"),
        (lambda: StepPlan(10, 4).locate(10), ValueError, "10 steps.* Received: step=10"),
        (lambda: StepPlan(10, 4).locate(-1), ValueError, "`step` must be at least 0"),
        (lambda: StepPlan(10, 4).steps_in(3), ValueError, "3 epochs.* Received: epoch=3"),
    ],
)
def test_errors_say_what_was_given(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_plan_is_a_value():
    plan = StepPlan(np.int64(10), 4)
    assert plan == StepPlan(10, 4, 3)
    assert type(plan.total_steps) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.total_steps = 11
