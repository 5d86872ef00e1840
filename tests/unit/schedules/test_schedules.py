"""Schedules: against the peers, and what must hold for every one of them."""

import json
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras.optimizers import schedules as keras_schedules
from places import oracle

import keras_patterns as kp
from keras_patterns.schedules import (
    CyclicalLearningRate,
    CyclicalMomentum,
    Join,
    OneCycle,
    OneCycleMomentum,
    Scaled,
    Warmup,
    WarmupStableDecay,
)

ORACLES = oracle("schedules.json")["rows"]
ANNEAL = {"cos": "cosine", "linear": "linear"}


def values(schedule, steps):
    """At each of several steps, in one call, of one of few shapes: each new one is compiled on some
    backends.
    """
    steps = np.asarray(steps, "int32")
    padded = np.pad(steps, (0, -len(steps) % 2048))
    return keras.ops.convert_to_numpy(schedule(padded)).astype("float64")[: len(steps)]


def each(schedule, steps):
    return [float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in steps]


# The peers.


def from_torch_cyclic(a):
    how = {"step_size": a["step_size_up"], "mode": a["mode"], "gamma": a.get("gamma", 1.0)}
    return CyclicalLearningRate(a["base_lr"], a["max_lr"], **how), CyclicalMomentum(
        a["base_momentum"], a["max_momentum"], **how
    )


def from_torch_one_cycle(a):
    how = {
        "warmup_fraction": a.get("pct_start"),
        "anneal": ANNEAL[a.get("anneal_strategy", "cos")],
        "three_phase": a.get("three_phase", False),
        "convention": "pytorch",
    }
    factors = {name: a[name] for name in ("div_factor", "final_div_factor") if name in a}
    momentum = OneCycleMomentum(a["total_steps"], a["base_momentum"], a["max_momentum"], **how)
    return OneCycle(a["max_lr"], a["total_steps"], **how, **factors), momentum


def from_fastai(a):
    momentum = OneCycleMomentum(a["n"], convention="fastai")
    return OneCycle(a["lr_max"], a["n"], convention="fastai"), momentum


def from_optax_one_cycle(a, anneal):
    names = {"pct_start": "warmup_fraction", "pct_final": "return_fraction"}
    how = {
        names.get(name, name): value
        for name, value in a.items()
        if name not in ("transition_steps", "peak_value")
    }
    cycle = OneCycle(
        a["peak_value"], a["transition_steps"], anneal=anneal, convention="optax", **how
    )
    return cycle, None


def from_optax_warmup(a):
    decay = a["decay_steps"] - a["warmup_steps"]
    return (
        WarmupStableDecay(
            a["peak_value"],
            a["warmup_steps"],
            0,
            decay,
            a["init_value"],
            a.get("end_value", 0.0),
            decay="cosine",
        ),
        None,
    )


def from_optax_join(_):
    parts = [
        keras_schedules.ExponentialDecay(0.1, 10, 0.9),
        0.05,
        keras_schedules.ExponentialDecay(0.2, 3, 0.5),
    ]
    return Join(parts, [20, 30]), None


OURS = {
    "CyclicLR": from_torch_cyclic,
    "OneCycleLR": from_torch_one_cycle,
    "cosine_onecycle_schedule": lambda a: from_optax_one_cycle(a, "cosine"),
    "linear_onecycle_schedule": lambda a: from_optax_one_cycle(a, "linear"),
    "warmup_cosine_decay_schedule": from_optax_warmup,
    "join_schedules": from_optax_join,
    "fit_one_cycle": from_fastai,
}


@pytest.mark.parametrize(
    "row", ORACLES, ids=lambda row: f"{row['peer']}-{row['schedule']}-{len(row['rates'])}"
)
def test_equal_to_the_peer_at_every_step(row):
    rate, momentum = OURS[row["schedule"]](row["arguments"])
    np.testing.assert_allclose(each(rate, range(len(row["rates"]))), row["rates"], rtol=1e-6)
    if momentum:
        np.testing.assert_allclose(
            values(momentum, range(len(row["momenta"]))), row["momenta"], rtol=1e-6
        )


def test_every_peer_has_its_rows():
    assert {(row["peer"], row["schedule"]) for row in ORACLES} == {
        ("torch", "CyclicLR"),
        ("torch", "OneCycleLR"),
        ("optax", "cosine_onecycle_schedule"),
        ("optax", "linear_onecycle_schedule"),
        ("optax", "warmup_cosine_decay_schedule"),
        ("optax", "join_schedules"),
        ("fastai", "fit_one_cycle"),
    }


# optax's own test of it.
OPTAX_LINEAR = {
    "div_factor": 10.0,
    "final_div_factor": 100.0,
    "return_fraction": 0.7,
    "anneal": "linear",
    "convention": "optax",
}


def test_the_linear_cycle_of_optax_has_three_phases():
    found = each(OneCycle(1000.0, 10, **OPTAX_LINEAR), range(12))
    assert found == pytest.approx([100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1])


def test_the_momentum_turns_where_the_linear_cycle_of_optax_turns():
    shape = {"return_fraction": 0.7, "anneal": "linear", "convention": "optax"}
    found = each(OneCycleMomentum(10, 0.8, 0.9, **shape), range(12))
    expected = [0.9, 0.9 - 0.1 / 3, 0.8 + 0.1 / 3, 0.8, 0.825, 0.85, 0.875, *[0.9] * 5]
    assert found == pytest.approx(expected)


def test_two_phases_of_optax_linear_stay_what_a_saved_model_has_of_them():
    config = OneCycle(1000.0, 10, convention="optax").get_config() | {"anneal": "linear"}
    del config["return_fraction"]
    assert config["three_phase"] is False
    found = each(OneCycle.from_config(config), range(11))
    line = np.interp(range(11), [0, 3, 10], [40, 1000, 0.004])
    assert found == pytest.approx(line)


@pytest.mark.parametrize("convention", ["whole_steps", "pytorch", "optax", "fastai"])
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_a_cycle_of_any_kind_comes_back_from_its_configuration(convention, anneal):
    cycle = OneCycle(0.1, 100, convention=convention, anneal=anneal)
    assert cycle.three_phase is (convention == "optax" and anneal == "linear")
    assert OneCycle.from_config(json.loads(json.dumps(cycle.get_config()))) == cycle


# Invariants.

RATES = st.floats(1e-6, 10.0)
BOUNDS = st.tuples(RATES, RATES).map(sorted).filter(lambda pair: pair[0] * 1.01 < pair[1])
STEPS = st.integers(2, 500)
# Wherever a run may be: float32 has no whole numbers of its own beyond 2**24.
FAR = st.integers(0, 2 * 10**8)


@st.composite
def cyclical(draw, modes=("triangular", "triangular2", "exp_range")):
    low, high = draw(BOUNDS)
    mode = draw(st.sampled_from(modes))
    gamma = draw(st.floats(0.9, 1.0)) if mode == "exp_range" else 1.0
    return CyclicalLearningRate(low, high, draw(STEPS), mode, gamma)


@st.composite
def one_cycles(draw):
    return OneCycle(
        draw(RATES),
        draw(st.integers(20, 2_000)),
        warmup_fraction=draw(st.floats(0.2, 0.45)),
        div_factor=draw(st.floats(1.0, 100.0)),
        anneal=draw(st.sampled_from(["cosine", "linear"])),
        three_phase=draw(st.booleans()),
    )


@st.composite
def decays(draw):
    low, high = draw(BOUNDS)
    counts = [draw(st.integers(0, 50)), draw(st.integers(0, 50)), draw(st.integers(1, 50))]
    return WarmupStableDecay(
        high, *counts, low / 2, low, draw(st.sampled_from(["linear", "cosine", "sqrt"]))
    )


PLAIN = cyclical() | one_cycles() | decays()
COMPOSED = st.builds(Warmup, st.integers(1, 40), PLAIN | RATES) | st.builds(
    lambda parts, first: Join(parts, [first * (index + 1) for index in range(len(parts) - 1)]),
    st.lists(PLAIN | RATES, min_size=2, max_size=4),
    st.integers(1, 40),
)
COMPOSED |= st.builds(Scaled, PLAIN, st.sampled_from([0.0, 0.25, 1.0, 3.0]))
ANY = PLAIN | COMPOSED


def bounds(schedule):
    """The lowest and the highest value that a schedule may take."""
    match schedule:
        case CyclicalLearningRate():
            return schedule.initial_learning_rate, schedule.peak_learning_rate
        case OneCycle():
            return schedule.final_learning_rate, schedule.peak_learning_rate
        case WarmupStableDecay():
            return min(
                schedule.initial_learning_rate, schedule.final_learning_rate
            ), schedule.peak_learning_rate
        case Warmup():
            return schedule.initial_learning_rate, bounds(schedule.then)[1]
        case Scaled():
            low, high = bounds(schedule.schedule)
            return low * schedule.factor, high * schedule.factor
        case Join():
            parts = [bounds(part) for part in schedule.schedules]
            return min(low for low, _ in parts), max(high for _, high in parts)
        case float():
            return schedule, schedule


@given(schedule=ANY, steps=st.lists(FAR, min_size=1, max_size=20))
def test_bounds(schedule, steps):
    low, high = bounds(schedule)
    found = values(schedule, steps)
    assert (found >= low * (1 - 1e-6)).all()
    assert (found <= high * (1 + 1e-6)).all()


@given(
    schedule=cyclical(modes=["triangular"]), step=st.integers(0, 10**6), cycles=st.integers(1, 100)
)
def test_a_cycle_repeats_to_the_bit(schedule, step, cycles):
    first, later = values(schedule, [step, step + 2 * schedule.step_size * cycles])
    assert first == later


@given(schedule=cyclical(), cycle=st.integers(0, 20))
def test_a_cycle_has_one_peak(schedule, cycle):
    length = 2 * schedule.step_size
    found = values(schedule, range(cycle * length, (cycle + 1) * length + 1))
    if schedule.mode == "triangular":
        assert (found == np.float32(schedule.peak_learning_rate)).sum() <= 1
        assert np.isclose(found.max(), schedule.peak_learning_rate, rtol=1e-6)
    if schedule.mode != "exp_range":
        assert found[schedule.step_size] == found.max()
    assert np.isclose(found[0], schedule.initial_learning_rate, rtol=1e-6)


@given(schedule=one_cycles())
def test_one_cycle_reaches_its_peak_at_exactly_one_step(schedule):
    found = values(schedule, range(schedule.total_steps))
    assert found[0] == np.float32(schedule.initial_learning_rate)
    assert found[-1] == np.float32(schedule.final_learning_rate)
    if schedule.div_factor > 1.01:
        assert (found == np.float32(schedule.peak_learning_rate)).sum() == 1
        assert found.argmax() == round(schedule.warmup_fraction * schedule.total_steps) - 1


@given(schedule=one_cycles())
def test_momentum_goes_against_the_rate(schedule):
    shape = {
        name: getattr(schedule, name)
        for name in ("total_steps", "warmup_fraction", "anneal", "three_phase")
    }
    momentum = values(
        OneCycleMomentum(**shape, lowest=0.8, highest=0.9), range(schedule.total_steps)
    )
    assert momentum.argmin() == round(schedule.warmup_fraction * schedule.total_steps) - 1
    assert momentum.min() == np.float32(0.8)
    assert momentum[0] == momentum[-1] == np.float32(0.9)


@given(schedule=decays(), step=st.integers(0, 200))
def test_no_jump_between_phases(schedule, step):
    """One step moves the rate by at most what its phase allows: the steepest are the cosine's
    middle and the root's start.
    """
    first, second = values(schedule, [step, step + 1])
    span = schedule.peak_learning_rate
    steepest = max(
        1 / max(1, schedule.warmup_steps),
        math.pi / 2 / schedule.decay_steps,
        schedule.decay_steps**-0.5,
    )
    assert abs(second - first) <= span * steepest * (1 + 1e-5)


@given(then=PLAIN, steps=st.integers(1, 100))
def test_a_warm_up_meets_what_follows(then, steps):
    goal = values(then, [0])[0]
    line = values(Warmup(steps, then), range(steps + 1))
    assert line[-1] == goal
    assert np.allclose(np.diff(line), goal / steps, rtol=1e-4, atol=goal * 1e-6)


@given(
    parts=st.lists(PLAIN, min_size=2, max_size=3),
    boundary=st.integers(1, 50),
    step=st.integers(0, 200),
)
def test_a_joined_schedule_begins_at_its_own_start(parts, boundary, step):
    boundaries = [boundary * (index + 1) for index in range(len(parts) - 1)]
    which = sum(step >= boundary for boundary in boundaries)
    begun = [0, *boundaries][which]
    assert values(Join(parts, boundaries), [step]) == values(parts[which], [step - begun])


@given(schedule=ANY, steps=st.lists(FAR, min_size=1, max_size=5))
def test_a_schedule_comes_back_from_its_configuration(schedule, steps):
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    back = keras.saving.deserialize_keras_object(json.loads(text))
    assert back == schedule
    np.testing.assert_array_equal(values(back, steps), values(schedule, steps))


@given(schedule=ANY, steps=st.lists(FAR, min_size=4, max_size=4))
def test_one_step_and_many_give_the_same(schedule, steps):
    np.testing.assert_allclose(each(schedule, steps), values(schedule, steps), rtol=1e-6)


@pytest.mark.parametrize("far", [2**24, 10**8])
def test_no_step_is_lost_far_out(far):
    """Beyond 2**24, float32 has only every second whole number; at 10**8, every eighth."""
    start = far - far % 10
    near, off = (values(CyclicalLearningRate(0.1, 1.1, 5), range(at, at + 40)) for at in (0, start))
    np.testing.assert_array_equal(near, off)
    ramp = values(Join([0.5, Warmup(20, 1.0)], [start]), range(start - 2, start + 20))
    np.testing.assert_allclose(ramp, [0.5, 0.5, *np.arange(20) / 20], rtol=1e-6)


SOME = [
    CyclicalLearningRate(0.1, 0.5, 4, "exp_range", 0.99),
    OneCycle(0.1, 37, three_phase=True),
    Warmup(5, keras_schedules.CosineDecay(0.1, 20)),
    Join([0.2, keras_schedules.ExponentialDecay(0.1, 3, 0.9), OneCycle(1.0, 20)], [4, 9]),
    WarmupStableDecay(0.3, 3, 4, 5, decay="sqrt"),
    Scaled(OneCycle(0.1, 37), 0.3),
]


@pytest.mark.parametrize("schedule", SOME, ids=lambda schedule: type(schedule).__name__)
def test_the_same_inside_a_compiled_step(schedule):
    """The rate that the compiled train step uses, read off the updates of plain gradient descent on
    a line.
    """
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(schedule), loss=lambda y, prediction: -prediction)
    found, before = [], 0.0
    for _ in range(45):
        model.train_on_batch(np.ones((2, 1), "float32"), np.ones((2, 1), "float32"))
        after = float(model.get_weights()[0][0, 0])
        found.append(after - before)
        before = after
    np.testing.assert_allclose(found, each(schedule, range(45)), atol=2e-6)


def test_a_model_is_saved_with_its_schedule(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(Warmup(5, OneCycle(0.1, 50))), "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    assert int(back.optimizer.iterations.numpy()) == 1
    assert keras.optimizers.serialize(back.optimizer) == keras.optimizers.serialize(model.optimizer)


# Arguments.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: CyclicalLearningRate(0.5, 0.1, 4),
            ValueError,
            r"`initial_learning_rate` must be below .*Received: 0.5 and 0.1",
        ),
        (
            lambda: CyclicalLearningRate(-0.1, 0.1, 4),
            ValueError,
            r"`initial_learning_rate` must be finite, at least 0",
        ),
        (
            lambda: CyclicalLearningRate(0.1, math.inf, 4),
            ValueError,
            r"`peak_learning_rate` must be finite",
        ),
        (lambda: CyclicalLearningRate(0.1, 0.2, 0), ValueError, r"`step_size` must be at least 1"),
        (
            lambda: CyclicalLearningRate(0.1, 0.2, 2.5),
            TypeError,
            r"`step_size` must be a whole number",
        ),
        (
            lambda: CyclicalLearningRate(0.1, 0.2, 4, "triangle"),
            ValueError,
            r"`mode` must be one of 'triangular', .*'triangle'",
        ),
        (
            lambda: CyclicalLearningRate(0.1, 0.2, 4, "exp_range", 1.5),
            ValueError,
            "`gamma` must be greater than 0 and at most 1",
        ),
        (
            lambda: CyclicalLearningRate(0.1, 0.2, 4, gamma=0.9),
            ValueError,
            '`gamma` goes with mode="exp_range" only',
        ),
        (
            lambda: CyclicalMomentum(0.9, 1.0, 4),
            ValueError,
            r"`highest` must be finite, at least 0 and less than 1",
        ),
        (
            lambda: OneCycle(0.0, 100),
            ValueError,
            "`peak_learning_rate` must be finite, greater than 0. Received: 0.0",
        ),
        (
            lambda: OneCycle("0.1", 100),
            TypeError,
            r"`peak_learning_rate` must be a number. Received: '0.1' \(str\)",
        ),
        (
            lambda: OneCycle(0.1, 3),
            ValueError,
            r"each phase needs a step, but with total_steps=3 and warmup_fraction=0.3",
        ),
        (
            lambda: OneCycle(0.1, 100, warmup_fraction=0.6, three_phase=True),
            ValueError,
            "each phase needs a step",
        ),
        (
            lambda: OneCycle(0.1, 100, warmup_fraction=1.0),
            ValueError,
            "`warmup_fraction` must be finite, at least 0 and less than 1",
        ),
        (
            lambda: OneCycle(0.1, 100, div_factor=0.5),
            ValueError,
            "`div_factor` must be finite, at least 1",
        ),
        (
            lambda: OneCycle(0.1, 100, anneal="cos"),
            ValueError,
            "`anneal` must be one of 'cosine', 'linear'",
        ),
        (
            lambda: OneCycle(0.1, 100, three_phase=True, convention="fastai"),
            ValueError,
            "goes with the conventions",
        ),
        (
            lambda: OneCycle(0.1, 100, three_phase=True, convention="optax"),
            ValueError,
            "with 'optax' where anneal='linear'. Received: 'optax' and anneal='cosine'",
        ),
        (
            lambda: OneCycle(0.1, 100, return_fraction=0.7, three_phase=True),
            ValueError,
            "`return_fraction` goes with the three phases of convention='optax'",
        ),
        (
            lambda: OneCycleMomentum(100, return_fraction=1.0, anneal="linear", convention="optax"),
            ValueError,
            "`return_fraction` must be finite, at least 0 and less than 1",
        ),
        (
            lambda: OneCycle(0.1, 100, return_fraction=0.3, anneal="linear", convention="optax"),
            ValueError,
            "at the steps 30, 30, 100. Give more steps, or another warmup_fraction or return",
        ),
        (lambda: OneCycleMomentum(100, 0.9, 0.8), ValueError, "`lowest` must be below `highest`"),
        (
            lambda: OneCycle(0.1, 2**31),
            ValueError,
            "`total_steps` must be at most 1,073,741,823, as optimizers count in 32 bits",
        ),
        (lambda: Warmup(0, 0.1), ValueError, "`steps` must be at least 1"),
        (
            lambda: Warmup(5, lambda step: 0.1),
            TypeError,
            "`then` must be a LearningRateSchedule or a number",
        ),
        (
            lambda: Join([0.1, 0.2], [5, 9]),
            ValueError,
            r"2 schedules have 1 boundaries between them. Received: 2, \[5, 9\]",
        ),
        (
            lambda: Join([0.1, 0.2, 0.3], [9, 5]),
            ValueError,
            r"`boundaries` must rise. Received: \[9, 5\]",
        ),
        (lambda: Join([0.1, 0.2], [0]), ValueError, r"`boundaries\[0\]` must be at least 1"),
        (lambda: Join([0.1, "adam"], [5]), TypeError, r"`schedules\[1\]` must be a number"),
        (lambda: Join(0.1, [5]), TypeError, "`schedules` must be a list"),
        (lambda: Scaled(0.1, -1.0), ValueError, "`factor` must be finite, at least 0"),
        (lambda: Scaled("x", 1.0), TypeError, "`schedule` must be a number"),
        (lambda: WarmupStableDecay(0.1, 3, 3, 0), ValueError, "`decay_steps` must be at least 1"),
        (
            lambda: WarmupStableDecay(0.1, 3, 3, 3, 0.2),
            ValueError,
            "`initial_learning_rate` must not exceed",
        ),
        (
            lambda: WarmupStableDecay(0.1, 3, 3, 3, decay="exp"),
            ValueError,
            "`decay` must be one of",
        ),
    ],
)
def test_arguments_are_checked_where_they_are_given(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_of_numpy_are_numbers():
    rate = OneCycle(np.float32(0.5), np.int64(50), div_factor=np.float64(10))
    assert json.loads(json.dumps(rate.get_config()))["peak_learning_rate"] == 0.5
    assert Warmup(np.int32(3), np.float32(0.5)) == Warmup(3, 0.5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32"])
def test_a_step_of_any_dtype(dtype):
    rate = CyclicalLearningRate(0.1, 0.5, 90)
    assert keras.ops.convert_to_numpy(rate(np.array(100, dtype))) == np.float32(
        each(rate, [100])[0]
    )


# The picture.


def test_the_picture_shows_rate_and_momentum():
    optimizer = kp.optimizers.with_one_cycle("adam", 0.1, 100)
    figure = kp.schedules.plot(optimizer, 100).figure
    drawn = {axes.get_ylabel(): axes.lines[0].get_ydata() for axes in figure.axes}
    assert list(drawn) == ["learning rate", "momentum"]
    np.testing.assert_allclose(
        drawn["learning rate"], values(OneCycle(0.1, 100), range(100)), rtol=1e-6
    )
    np.testing.assert_allclose(
        drawn["momentum"], values(OneCycleMomentum(100), range(100)), rtol=1e-6
    )


def test_the_picture_of_a_long_schedule_has_both_ends():
    axes = kp.schedules.plot(keras_schedules.CosineDecay(0.1, 10_000), 10_001)
    assert [float(x) for x in axes.lines[0].get_xdata()[[0, -1]]] == [0, 10_000]


@pytest.mark.parametrize("value", [0.1, 1, np.float32(0.1), keras.optimizers.SGD(0.1)])
def test_the_picture_of_a_constant(value):
    assert np.ptp(kp.schedules.plot(value, 10).lines[0].get_ydata()) == 0


def test_the_picture_of_a_wrapped_optimizer():
    wrapped = keras.optimizers.LossScaleOptimizer(kp.optimizers.with_one_cycle("sgd", 0.1, 50))
    assert len(kp.schedules.plot(wrapped, 50).figure.axes) == 2


def test_the_picture_goes_into_the_axes_that_are_given():
    _, (left, right) = plt.subplots(1, 2)
    assert kp.schedules.plot(0.1, 10, ax=right) is right
    assert right.has_data()
    assert not left.has_data()


@pytest.mark.parametrize("value", ["adam", None, object()])
def test_the_picture_of_what_has_no_rate(value):
    with pytest.raises(
        TypeError, match="`schedule` must be a LearningRateSchedule or an optimizer"
    ):
        kp.schedules.plot(value, 10)
