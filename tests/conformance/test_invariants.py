"""What must hold for every plan, every state and every counter."""

import itertools
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_patterns import StepPlan
from keras_patterns.run.segments import segments
from keras_patterns.state.codec import decode, encode
from keras_patterns.state.snapshot import as_dtype
from keras_patterns.testing import differences
from keras_patterns.testing.comparison import flat_state

pytestmark = pytest.mark.once


@st.composite
def plans(draw):
    total = draw(st.integers(1, 60))
    if draw(st.booleans()):
        return StepPlan(total, draw(st.integers(1, 70)))
    return StepPlan.from_epochs(total, draw(st.integers(1, total)))


@given(plan=plans(), data=st.data(), fused=st.integers(1, 7))
def test_segments_cover_what_is_left_once(plan, data, fused):
    start = data.draw(st.integers(0, plan.total_steps))
    parts = list(segments(plan, start, fused))
    assert [part.start for part in parts] + [plan.total_steps] == [start] + [
        part.stop for part in parts
    ]
    for part in parts:
        assert part.steps % part.steps_per_execution == 0
        assert part.steps_per_execution in (1, min(fused, plan.steps_per_epoch))
        assert (part.first_epoch, part.offset) == plan.locate(part.start)
        if part.epochs > 1:
            assert {plan.steps_in(part.first_epoch + behind) for behind in range(part.epochs)} == {
                part.steps
            }
        else:
            assert part.offset + part.steps <= plan.steps_in(part.first_epoch)


@given(plan=plans(), data=st.data(), fused=st.integers(1, 7))
def test_each_epoch_that_is_left_is_closed_once(plan, data, fused):
    start = data.draw(st.integers(0, plan.total_steps - 1))
    closed = [
        (part.first_epoch + behind, part.start + (behind + 1) * part.steps)
        for part in segments(plan, start, fused)
        if part.closes
        for behind in range(part.epochs)
    ]
    assert closed == [
        (epoch, plan.end_of(epoch)) for epoch in range(plan.locate(start)[0], plan.epochs)
    ]


@given(plan=plans(), fused=st.integers(1, 7), data=st.data())
def test_a_resume_cuts_fused_steps_where_the_uninterrupted_run_does(plan, fused, data):
    """Where a run can be saved: between two executions. From there on the executions are the same
    ones.
    """

    def executions(start):
        return [
            (step, part.steps_per_execution)
            for part in segments(plan, start, fused)
            for step in range(part.start, part.stop, part.steps_per_execution)
        ]

    whole = executions(0)
    index = data.draw(st.integers(0, len(whole) - 1))
    assert executions(whole[index][0]) == whole[index:]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
DTYPES = st.sampled_from(["float32", "float64", "float16", "int8", "int64", "uint32", "bool"])
NUMBERS = SCALARS | arrays.arrays(
    DTYPES, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
)
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
STATES = st.recursive(
    NUMBERS | arrays.arrays(DTYPES, ()).map(lambda array: array[()]),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(STATES)
def test_a_state_comes_back_as_it_was(state):
    held = {}
    text = json.dumps(encode(state, "place", held), allow_nan=False)
    assert all(key == "place" or key.startswith("place/") for key in held)
    back = decode(json.loads(text), held)
    assert same(state, back)


def same(one, other):
    """Of the same types and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(itertools.starmap(same, zip(one, other, strict=True)))
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or struct.pack("d", one) == struct.pack(
            "d", other
        )
    return one == other


@pytest.mark.parametrize("part", [object(), {1, 2}, 1j, np.array([object()]), range(3)])
def test_what_a_checkpoint_cannot_hold_is_named(part):
    with pytest.raises(
        TypeError,
        match=r"The state at 'callbacks/Mine/inner/1' is a .*which a checkpoint cannot hold",
    ):
        encode({"inner": [0, part]}, "callbacks/Mine", {})


SIGNED = st.sampled_from(["int32", "int64", "uint32", "uint64"])


@given(value=st.integers(0, 2**32 - 1), through=st.lists(SIGNED, min_size=1))
def test_a_seed_keeps_its_32_bits_through_every_backend(value, through):
    seed = np.array([value, 0], "uint32")
    for dtype in through:
        seed = as_dtype(seed, np.dtype(dtype), seed=True)
        assert seed.dtype == dtype
    assert as_dtype(seed, np.dtype("uint32"), seed=True).tolist() == [value, 0]


@given(value=st.integers(-(2**63), 2**64 - 1), dtype=SIGNED)
def test_a_counter_keeps_its_number_or_is_refused(value, dtype):
    counter = np.array(value, "uint64" if value >= 2**63 else "int64")
    limits = np.iinfo(dtype)
    if limits.min <= value <= limits.max:
        found = as_dtype(counter, np.dtype(dtype), seed=False)
        assert (found.dtype, int(found)) == (np.dtype(dtype), value)
    else:
        with pytest.raises(OverflowError, match=f"A counter of {value} does not fit the {dtype}"):
            as_dtype(counter, np.dtype(dtype), seed=False)


@given(arrays.arrays("float32", 3))
def test_what_is_not_an_integer_is_never_converted(value):
    assert as_dtype(value, value.dtype, seed=False) is value


@given(STATES, STATES)
def test_the_comparison_sees_whatever_differs(one, other):
    first, second = dict(flat_state({"state": one}, "")), dict(flat_state({"state": other}, ""))
    assert (not differences(first, second)) or not same(one, other)
    assert not differences(first, dict(flat_state({"state": one}, "")))
