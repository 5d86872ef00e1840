"""The rules of early stopping against the paper and three other libraries, and the callback in real
runs.
"""

import functools
import json
import math
import operator
import re
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from models import TRAIN, VALIDATION, compiled, small
from sklearn.datasets import load_breast_cancer

import keras_patterns as kp
from keras_patterns.stopping import Observation

NAN, INF = math.nan, math.inf


def decisions(rule, values, mode="min", training=None, through_json=False):
    """What a rule says to each value of a series."""
    state, found = rule.begin(), []
    for at, value in enumerate(values, start=1):
        if through_json:
            state = json.loads(json.dumps(state, allow_nan=False))
        observation = Observation(value, at, None if training is None else training[at - 1])
        state, decision = rule.observe(state, observation, mode)
        found.append(decision)
    return found


def stopping_time(rule, values, mode="min", training=None):
    """At which observation a rule stops, from 1; 0 if it does not."""
    return next(
        (at for at, d in enumerate(decisions(rule, values, mode, training), start=1) if d.stop), 0
    )


# EarlyStopping.jl (f5b8105), test/criteria.jl and test/disjunction.jl. Its Patience is Prechelt's
# UP with strips of 1, its NumberSinceBest is our Patience, its InvalidValue our check_finite; its
# Threshold is strict, ours is not.

JULIA = [10, 8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 17, 16]
JULIA_2 = [10, 9, 8, 9, 10, 7, 10, 10, 10, 10]
RISES = [12.0, 10.0, 11.0, 12.0, 13.0, NAN]
FINITE = kp.Patience(99, check_finite=True)


@pytest.mark.once
@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        *(
            (kp.GeneralizationLoss(a), JULIA, t)
            for a, t in [(12, 3), (20, 4), (40, 6), (90, 11), (110, 12), (1000, 0)]
        ),
        *(
            (kp.SuccessiveRises(s, 1), JULIA, t)
            for s, t in [(6, 0), (5, 12), (4, 6), (3, 5), (2, 4), (1, 3)]
        ),
        *((kp.Patience(n), JULIA, t) for n, t in [(6, 8), (5, 7), (4, 6), (3, 5), (2, 4), (1, 3)]),
        *((kp.Patience(n), JULIA_2, t) for n, t in [(2, 5), (3, 9)]),
        (kp.Patience(99, threshold=2.5), [12, 32, 3, 2, 5, 7], 4),
        *((kp.Patience(99, threshold=1e9, warmup=n), JULIA, n + 1) for n in range(1, 13)),
        *((FINITE, [*[123.4] * j, NAN, *[123.4] * (4 - j)], j + 1) for j in range(5)),
        (kp.SuccessiveRises(3, 1) | FINITE, RISES, 5),
        (kp.SuccessiveRises(3, 1) | FINITE, [RISES[-1], *RISES[:-1]], 1),
    ],
)
def test_early_stopping_jl(rule, values, expected):
    assert stopping_time(rule, values) == expected


# Its PQ takes the last k training losses before each out-of-sample loss, of which there may be
# more; a strip here is k observations with one of each. So the last two training losses of each row
# become a strip, both with the row's out-of-sample loss.
JULIA_PQ = [
    (9.5, 9.3, 10),
    (9.1, 8.9, 8),
    (8.3, 8.4, 9),
    (9.9, 9.5, 10),
    (10.6, 10.4, 11),
    (11.8, 11.7, 12),
    (11.6, 11.4, 12),
    (12.2, 12.1, 13),
    (14.5, 14.1, 14),
    (13.9, 13.7, 15),
    (12.5, 12.3, 16),
    (11.2, 11.0, 17),
    (10.5, 10.3, 16),
]


@pytest.mark.once
@pytest.mark.parametrize(
    ("alpha", "expected"), [(2.0, 3), (3.8, 5), (11.6, 6), (15.1, 8), (15.3, 0)]
)
def test_early_stopping_jl_progress_quotient(alpha, expected):
    training = [loss for first, second, _ in JULIA_PQ for loss in (first, second)]
    values = [loss for _, _, loss in JULIA_PQ for _ in range(2)]
    assert (
        stopping_time(kp.ProgressQuotient(alpha, strip=2), values, training=training)
        == 2 * expected
    )


# Lightning (7f0c343), tests_pytorch/callbacks/test_early_stopping.py; its epochs count from 0, and
# its patience defaults to 3. Its thresholds are both strict.

LIGHTNING = [
    (kp.Patience(3), [6, 5, 5, 5, 5, 5], 4, "no improvement on 5 for 3"),
    (kp.Patience(1), [6, 5, 4, 4, 3, 3], 3, "no improvement on 4 for 1"),
    (kp.Patience(3), [6, 5, 6, 5, 5, 5], 4, "no improvement on 5 for 3"),
    (kp.Patience(3), [8, 4, 2, 3, 4, 5, 8, 10], 5, "no improvement on 2 for 3"),
    (
        kp.Patience(3, threshold=2.9),
        [9, 8, 7, 6, 5, 6, 4, 3, 2, 1],
        8,
        "the value 2 reaches the threshold 2.9",
    ),
    (
        kp.Patience(3, divergence=15.9),
        [9, 4, 2, 16, 32, 64],
        3,
        "the value 16 is worse than the divergence threshold 15.9",
    ),
    (kp.Patience(3, check_finite=True), [4, 3, INF, 2, 1], 2, "the value inf is not finite"),
    (kp.Patience(3, check_finite=True), [4, 3, NAN, 2, 1], 2, "the value nan is not finite"),
    (kp.Patience(2), [10.0] * 10, 2, "no improvement on 10 for 2"),
    (kp.Patience(3, threshold=0.6), [5.0, 3.0, 1.0, 0.5, 0.1], 3, "reaches the threshold 0.6"),
    (
        kp.Patience(3, divergence=8.0),
        [1.0, 2.0, 5.0, 10.0],
        3,
        "worse than the divergence threshold 8",
    ),
    (kp.Patience(3, check_finite=True), [1.0, 0.5, NAN], 2, "not finite"),
    (kp.Patience(3), [5.0, 4.0, 3.0], -1, ""),
    (kp.Patience(3), [0] * 8, 3, "no improvement on 0 for 3"),
]


@pytest.mark.once
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("rule", "values", "epoch", "reason"), LIGHTNING)
def test_lightning(rule, values, epoch, reason, mode):
    if mode == "max":
        limits = {
            name: -getattr(rule, name)
            for name in ("threshold", "divergence")
            if getattr(rule, name) is not None
        }
        rule, values, reason = (
            kp.Patience(rule.n, check_finite=rule.check_finite, **limits),
            [-v for v in values],
            "",
        )
    found = decisions(rule, values, mode)
    assert [d.stop for d in found[: epoch + 1]] == [False] * epoch + [True] * (epoch >= 0)
    assert epoch < 0 or reason in found[epoch].reason
    assert epoch >= 0 or not any(d.stop for d in found)


# The paper, written down as it stands there.


def prechelt_gl(values, t):
    return 100 * (values[t - 1] / min(values[:t]) - 1)


def prechelt_pq(values, training, t, k):
    strip = training[t - k : t]
    progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
    return (
        prechelt_gl(values, t) / progress
        if progress
        else math.copysign(INF, prechelt_gl(values, t) or -1)
    )


def prechelt_up(values, s, k, t):
    return (
        t >= 2 * k
        and t % k == 0
        and values[t - 1] > values[t - k - 1]
        and (s == 1 or prechelt_up(values, s - 1, k, t - k))
    )


ERRORS = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@pytest.mark.once
@given(ERRORS, ERRORS, st.integers(1, 5), st.integers(1, 4), st.floats(0.1, 200))
def test_prechelt_to_the_letter(values, training, s, k, alpha):
    training = [training[t % len(training)] for t in range(len(values))]
    times = range(1, len(values) + 1)
    assert stopping_time(kp.GeneralizationLoss(alpha), values) == next(
        (t for t in times if prechelt_gl(values, t) > alpha), 0
    )
    assert stopping_time(kp.SuccessiveRises(s, k), values) == next(
        (t for t in times if prechelt_up(values, s, k, t)), 0
    )
    k += 1
    ends = [t for t in times if t % k == 0]
    quotients = {t: prechelt_pq(values, training, t, k) for t in ends}
    # A quotient and a product round differently.
    assume(all(not math.isclose(quotient, alpha, rel_tol=1e-9) for quotient in quotients.values()))
    expected = next((t for t in ends if quotients[t] > alpha), 0)
    assert stopping_time(kp.ProgressQuotient(alpha, k), values, training=training) == expected


# Properties.

NUMBERS = st.one_of(st.floats(0.01, 100), st.integers(1, 9).map(float), st.sampled_from([NAN, INF]))
SERIES = st.lists(NUMBERS, min_size=1, max_size=30)
PATIENCE = st.builds(
    kp.Patience,
    st.integers(0, 6),
    min_delta=st.sampled_from([0.0, 0.1, 2.0]),
    relative=st.booleans(),
    warmup=st.integers(0, 5),
    check_finite=st.booleans(),
    baseline=st.none() | st.floats(0, 50),
    threshold=st.none() | st.floats(0, 5),
    divergence=st.none() | st.floats(50, 100),
)
SINGLE = st.one_of(
    PATIENCE,
    st.builds(kp.GeneralizationLoss, st.floats(0.1, 500)),
    st.builds(kp.ProgressQuotient, st.floats(0.01, 5), st.integers(2, 5)),
    st.builds(kp.SuccessiveRises, st.integers(1, 4), st.integers(1, 4)),
)
RULES = st.recursive(
    SINGLE,
    lambda rules: st.builds(
        lambda combine, a, b: combine(a, b),
        st.sampled_from([operator.or_, operator.and_]),
        rules,
        rules,
    ),
    max_leaves=4,
)


@pytest.mark.once
@given(RULES, SERIES, SERIES)
def test_a_kill_at_any_observation_changes_nothing(rule, values, training):
    training = [training[t % len(training)] for t in range(len(values))]
    found = decisions(rule, values, training=training)
    assert found == decisions(rule, values, training=training, through_json=True)
    # Each stop says why, and the rule can be written down.
    assert all(bool(d.reason) == d.stop for d in found)
    assert json.loads(json.dumps(rule.get_config())) == rule.get_config()


@pytest.mark.once
@given(st.lists(SINGLE, min_size=2, max_size=4), SERIES)
def test_or_stops_with_the_first_and_and_when_all_do(rules, values):
    training = [v / 2 for v in values]
    each = [decisions(rule, values, training=training) for rule in rules]
    either, every = rules[0], rules[0]
    for rule in rules[1:]:
        either, every = either | rule, every & rule
    assert [d.stop for d in decisions(either, values, training=training)] == [
        any(d.stop for d in ds) for ds in zip(*each, strict=True)
    ]
    assert [d.stop for d in decisions(every, values, training=training)] == [
        all(d.stop for d in ds) for ds in zip(*each, strict=True)
    ]


@pytest.mark.once
@given(SERIES, st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(2, 4))
def test_no_rule_stops_before_its_minimum(values, n, warmup, s, strip):
    ones = [1.0] * len(values)
    for rule, least in [
        (
            kp.Patience(n, warmup=warmup),
            warmup + 1 + max(n, 1) * math.isfinite([*values, 1.0][min(warmup, len(values))]),
        ),
        (kp.GeneralizationLoss(0.1), 2),
        (kp.ProgressQuotient(0.1, strip), strip),
        (kp.SuccessiveRises(s, strip), (s + 1) * strip),
    ]:
        assert stopping_time(rule, values, training=ones) in {0, *range(least, len(values) + 1)}


@dataclass(frozen=True)
class After(kp.stopping.Rule):
    """A person's own rule."""

    at: int

    def begin(self):
        return {}

    def observe(self, state, observation, mode):
        stop = observation.at >= self.at
        return state, kp.stopping.Decision(
            stop, f"{self.at} {observation.unit} are over" if stop else ""
        )


@pytest.mark.once
def test_a_rule_of_one_s_own():
    rule = After(3) | kp.GeneralizationLoss(50)
    assert stopping_time(rule, [1.0] * 5) == 3
    assert stopping_time(rule, [1.0, 2.0]) == 2
    assert rule.get_config()["parts"][0] == {"rule": "After", "at": 3}
    assert (
        driven(kp.EarlyStopping(rule=After(2), verbose=0), [0.5, 0.4, 0.3]).reason
        == "2 epochs are over"
    )


@pytest.mark.once
def test_combinations_are_flat():
    a, b, c = kp.Patience(1), kp.GeneralizationLoss(2), kp.SuccessiveRises(1)
    assert (a | (b | c)).parts == ((a | b) | c).parts == (a, b, c)
    assert ((a & b) | c).parts == (a & b, c)
    assert repr((a & b) | c) == f"(({a!r} & {b!r}) | {c!r})"
    with pytest.raises(TypeError, match="unsupported operand"):
        a | 3


@pytest.mark.once
@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    st.integers(0, 4),
    st.sampled_from(["min", "max"]),
    st.integers(-6, 6),
)
def test_a_relative_delta_knows_no_scale(values, n, mode, exponent):
    rule = kp.Patience(n, min_delta=0.25, relative=True)
    scaled = [value * 2.0**exponent for value in values]
    expected = [d.stop for d in decisions(rule, values, mode)]
    assert [d.stop for d in decisions(rule, scaled, mode)] == expected
    # Nor which way is up.
    turned = "max" if mode == "min" else "min"
    assert [d.stop for d in decisions(rule, [-value for value in values], turned)] == expected


@pytest.mark.once
@pytest.mark.parametrize(
    ("mode", "best", "enough", "too_little"),
    [
        ("min", -4.0, -4.5, -4.375),
        ("max", -4.0, -3.5, -3.625),
        ("min", 4.0, 3.5, 3.625),
        ("max", 4.0, 4.5, 4.375),
    ],
)
def test_a_relative_delta_of_negative_metrics(mode, best, enough, too_little):
    rule = kp.Patience(1, min_delta=0.1, relative=True)
    assert rule.improves(enough, best, mode)
    assert not rule.improves(too_little, best, mode)


# The callback beside Keras's.


def driven(callback, values):
    """Runs a callback through epochs with these values (None for an epoch without) as plain
    `model.fit` would.
    """
    history = SimpleNamespace()
    model = SimpleNamespace(
        stop_training=False, steps_per_execution=1, history=history, get_weights=list
    )
    callback.set_model(model)
    with warnings.catch_warnings():
        # Of an epoch without the metric.
        warnings.simplefilter("ignore")
        callback.on_train_begin()
        for epoch, value in enumerate(values):
            callback.on_epoch_begin(epoch)
            for batch in range(3):
                callback.on_train_batch_begin(batch)
            callback.on_epoch_end(epoch, {} if value is None else {"val_loss": value})
            if model.stop_training:
                break
    return callback


@pytest.mark.once
@given(
    st.lists(st.none() | st.integers(-64, 64).map(lambda n: n / 8), min_size=1, max_size=25),
    st.sampled_from(["min", "max"]),
    st.fixed_dictionaries(
        {
            "patience": st.integers(0, 5),
            "min_delta": st.sampled_from([0, 0.25, 1.0]),
            "baseline": st.none() | st.integers(-8, 8).map(float),
            "start_from_epoch": st.integers(0, 4),
        }
    ),
)
def test_it_decides_as_keras_does(values, mode, arguments):
    arguments = {**arguments, "mode": mode, "verbose": 0}
    ours = driven(kp.EarlyStopping("val_loss", **arguments), values)
    theirs = driven(keras.callbacks.EarlyStopping("val_loss", **arguments), values)
    for name in ("best", "best_epoch", "wait", "stopped_epoch"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.model.stop_training == theirs.model.stop_training
    assert bool(ours.reason) == ours.model.stop_training


@pytest.mark.once
@given(SERIES, RULES.filter(lambda rule: not rule.needs_training))
def test_what_is_not_finite_is_never_the_best(values, rule):
    stopping = driven(kp.EarlyStopping(rule=rule, verbose=0), values)
    seen = [value for value in values if math.isfinite(value)]
    assert stopping.best is None or math.isfinite(stopping.best)
    assert stopping.best is not None or not seen or stopping.stopped_step


@pytest.mark.once
def test_a_first_nan_does_not_stay_the_best():
    values = [NAN, 0.5, 0.4, INF, 0.45, 0.46]
    ours = driven(kp.EarlyStopping(patience=3, verbose=0), values)
    assert (ours.best, ours.best_epoch, ours.best_step, ours.stopped_epoch, ours.stopped_step) == (
        0.4,
        2,
        9,
        5,
        18,
    )
    assert ours.reason == "no improvement on 0.4 for 3 epochs"
    theirs = driven(keras.callbacks.EarlyStopping(patience=3), values)
    assert math.isnan(theirs.best)


@pytest.mark.once
def test_nothing_finite_at_all():
    stopping = driven(kp.EarlyStopping(patience=2, verbose=0), [NAN, INF, NAN, NAN])
    assert (stopping.stopped_epoch, stopping.reason, stopping.best) == (
        1,
        "no finite value for 2 epochs",
        None,
    )


# Real runs.

X, Y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0)).astype("float32")
WRONG = (X[320:400], 1 - Y[320:400])  # on these labels a model gets worse from epoch to epoch
CANCER = {
    "x": X[:320],
    "y": Y[:320],
    "batch_size": 32,
    "validation_data": (X[320:400], Y[320:400]),
}  # ten steps a pass


def cancer_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((30,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model


class Weights(keras.callbacks.Callback):
    """Remembers the weights at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def with_kp(model, **arguments):
    return kp.fit(model, seed=0, **arguments)


def with_keras(model, **arguments):
    return model.fit(**arguments)


@pytest.mark.parametrize("fit", [with_kp, with_keras])
def test_it_stops_says_why_and_puts_the_best_weights_back(fit, capsys):
    model, seen = cancer_model(), Weights()
    stopping = kp.EarlyStopping(min_delta=10.0, patience=2, restore_best_weights=True)
    history = fit(model, **CANCER, epochs=6, verbose=0, callbacks=[stopping, seen])
    assert len(history.history["loss"]) == len(seen.weights) == 3
    assert (
        stopping.best_epoch,
        stopping.best_step,
        stopping.stopped_epoch,
        stopping.stopped_step,
    ) == (0, 10, 2, 30)
    reason = f"no improvement on {history.history['val_loss'][0]:.4g} by more than 10 for 2 epochs"
    assert stopping.reason == reason
    assert history.events == [{"kind": "stopped", "step": 30, "text": f"val_loss: {reason}"}]
    said = capsys.readouterr().out
    assert f"keras-patterns: stopped after step 30 (epoch 3): val_loss: {reason}.\n" in said
    assert (
        f"keras-patterns: weights of step 10 (epoch 1, val_loss {stopping.best:.4g}) put back.\n"
        in said
    )
    for best, now in zip(seen.weights[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(best, now)
    assert any(
        (best != last).any() for best, last in zip(seen.weights[0], seen.weights[2], strict=True)
    )
    # The model is as good as its best epoch, and can be trained on.
    assert model.evaluate(*CANCER["validation_data"], verbose=0)[0] == pytest.approx(
        stopping.best, rel=1e-5
    )
    fit(model, **CANCER, epochs=1, verbose=0, callbacks=[stopping])


def test_the_best_weights_come_back_also_at_the_end_of_the_plan(capsys):
    model, seen = cancer_model(), Weights()
    stopping = kp.EarlyStopping("val_loss", patience=50, restore_best_weights=True)
    history = with_kp(
        model,
        **{**CANCER, "validation_data": WRONG},
        epochs=6,
        verbose=0,
        callbacks=[stopping, seen],
    )
    assert stopping.best_epoch == int(np.argmin(history.history["val_loss"])) < 5
    assert (stopping.reason, stopping.stopped_step) == ("", 0)
    assert history.events == []
    np.testing.assert_array_equal(model.get_weights()[0], seen.weights[stopping.best_epoch][0])
    assert (
        f"weights of step {10 * stopping.best_epoch + 10} (epoch {stopping.best_epoch + 1}, "
        "val_loss" in capsys.readouterr().out
    )


def test_weights_stay_where_nothing_was_finite(capsys):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = NAN

    model, seen = cancer_model(), Weights()
    stopping = kp.EarlyStopping(patience=2, restore_best_weights=True)
    with_keras(model, **CANCER, epochs=6, verbose=0, callbacks=[Broken(), stopping, seen])
    said = capsys.readouterr().out
    assert "stopped after step 20 (epoch 2): val_loss: no finite value for 2 epochs." in said
    assert "no finite val_loss was seen; the weights stay as they are." in said
    np.testing.assert_array_equal(model.get_weights()[0], seen.weights[-1][0])


def test_verbose_0_is_silent(capsys):
    stopping = kp.EarlyStopping(min_delta=10.0, patience=1, restore_best_weights=True, verbose=0)
    with_kp(cancer_model(), **CANCER, epochs=6, verbose=0, callbacks=[stopping])
    assert stopping.stopped_step == 20
    assert capsys.readouterr().out == ""


def test_patience_in_steps():
    model = cancer_model()
    stopping = kp.EarlyStopping(
        rule=kp.Patience(10, min_delta=10.0), restore_best_weights=True, unit="steps"
    )
    history = with_kp(
        model, **CANCER, epochs=6, verbose=0, callbacks=[stopping], validate_every_steps=4
    )
    # It looks after steps 4 (the best), 8, 10 (the end of an epoch), 12 and 16, the first that is
    # ten or more steps later.
    assert (
        stopping.best_step,
        stopping.best_epoch,
        stopping.stopped_step,
        stopping.stopped_epoch,
    ) == (4, 0, 16, 1)
    assert stopping.wait == 12
    assert stopping.reason.endswith(" for 12 steps")
    assert int(model.optimizer.iterations) == 16
    assert history.epoch_end_steps == [10, 16]
    assert [event["step"] for event in history.events] == [16]
    assert stopping.best == history.validations[0]["val_loss"]
    assert model.evaluate(*CANCER["validation_data"], verbose=0)[0] == pytest.approx(
        stopping.best, rel=1e-5
    )


def test_epochs_do_not_look_inside():
    stopping = kp.EarlyStopping(min_delta=10.0, patience=2, verbose=0)
    with_kp(
        cancer_model(), **CANCER, epochs=6, verbose=0, callbacks=[stopping], validate_every_steps=4
    )
    assert stopping.stopped_step == 30


@pytest.mark.parametrize(
    ("fit", "every"), [(with_kp, {"validate_every_steps": 4}), (with_keras, {})]
)
def test_steps_count_from_the_first_epoch_that_is_looked_at(fit, every):
    """Of a metric of the training, at the ends of epochs."""
    stopping = kp.EarlyStopping(
        "loss", min_delta=10.0, patience=15, start_from_epoch=2, unit="steps", verbose=0
    )
    fit(cancer_model(), **CANCER, epochs=6, verbose=0, callbacks=[stopping], **every)
    assert (stopping.best_step, stopping.stopped_step) == (30, 50)


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_prechelt_sees_the_training_loss(unit):
    """Validated on the wrong labels, a model overfits from the start: it stops at the end of the
    first strip.
    """
    stopping = kp.EarlyStopping(rule=kp.ProgressQuotient(1e-3, strip=2), unit=unit, verbose=0)
    data = {**CANCER, "validation_data": WRONG}
    history = with_kp(
        cancer_model(), **data, epochs=4, verbose=0, callbacks=[stopping], validate_every_steps=5
    )
    assert stopping.stopped_step == (20 if unit == "epochs" else 10)
    if unit == "epochs":
        logs = history.history
        progress = 1000 * (np.mean(logs["loss"]) / np.min(logs["loss"]) - 1)
        assert f" over the training progress {progress:.4g} exceeds 0.001" in stopping.reason


def test_a_validation_that_there_is_not_is_warned_of_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kp.fit(compiled(small()), **TRAIN, verbose=0, seed=0, callbacks=[kp.EarlyStopping()])
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(said) == 1
    assert "the logs of epoch 1 have only ['accuracy', 'loss']. Where it is missing" in said[0]
    assert "give validation_data=" in said[0]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("monitor", "arguments", "metrics"),
    [
        ("acc", {}, "['accuracy', 'loss']"),
        ("val_acc", VALIDATION, "['accuracy', 'loss', 'val_accuracy', 'val_loss']"),
    ],
)
def test_a_monitor_that_does_not_exist_is_refused_at_the_first_epoch(
    monitor, arguments, metrics, plain
):
    stopping = kp.EarlyStopping(monitor)
    ends = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch))
    message = f"EarlyStopping(monitor={monitor!r}) needs {monitor!r}, and the logs have only "
    data = {"x": TRAIN["x"], "y": TRAIN["y"], "batch_size": 8, "epochs": 2, "verbose": 0}
    model = compiled(small())
    fit = model.fit if plain else functools.partial(kp.fit, model, seed=0)
    with pytest.raises(ValueError, match=re.escape(message + metrics)):
        fit(**data, callbacks=[count, stopping], **arguments)
    assert ends == [0]


def test_a_monitor_that_validations_do_not_give_is_refused_at_the_first():
    stopping = kp.EarlyStopping("val_acc", unit="steps")
    model = compiled(small())
    arguments = {**TRAIN, **VALIDATION, "validate_every_steps": 2}
    with pytest.raises(
        ValueError, match=r"needs 'val_acc', and the logs have only \['val_accuracy"
    ):
        kp.fit(model, **arguments, verbose=0, seed=0, callbacks=[stopping])
    assert int(model.optimizer.iterations.numpy()) == 2


def test_a_metric_that_a_callback_adds_may_be_monitored(tmp_path):
    add = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_f1=0.5 - abs(epoch - 1))
    )
    stopping = kp.EarlyStopping("val_f1", patience=1, verbose=0)
    checkpoint = kp.Checkpoint(tmp_path, monitor="val_f1", keep_best=1, keep_last=1)
    kp.fit(
        compiled(small()),
        **{**TRAIN, **VALIDATION, "total_steps": 20, "epochs": 5},
        seed=0,
        verbose=0,
        callbacks=[add, stopping, checkpoint],
    )
    assert stopping.stopped_epoch == 2
    assert kp.CheckpointStore(tmp_path).best().position.step == stopping.best_step


def test_epochs_without_a_validation_are_not_counted():
    stopping = kp.EarlyStopping(min_delta=10.0, patience=2, verbose=0)
    data = {**TRAIN, **VALIDATION, "total_steps": 20, "epochs": 10, "validation_freq": [1, 4, 7]}
    kp.fit(compiled(small()), **data, seed=0, verbose=0, callbacks=[stopping])
    assert stopping.stopped_epoch == 6


@pytest.mark.parametrize(
    "make", [float, np.float32, keras.ops.convert_to_tensor, lambda value: np.array([[value]])]
)
def test_numbers_of_any_kind(make):
    stopping = driven(kp.EarlyStopping(patience=1, verbose=0), [make(0.5), make(0.25), make(0.75)])
    assert (stopping.best, type(stopping.best), stopping.stopped_epoch) == (0.25, float, 2)


@pytest.mark.once
def test_a_metric_of_several_numbers_is_refused():
    with pytest.raises(
        ValueError, match=r"'val_loss' must be one number. Received an array of shape \(2,\)"
    ):
        driven(kp.EarlyStopping(), [np.ones(2)])


@pytest.mark.once
def test_its_state_goes_on_under_the_script_s_settings():
    before = driven(kp.EarlyStopping(patience=9, verbose=0), [0.5, 0.6, 0.7])
    state = before.get_state()
    longer, other, metric = (
        kp.EarlyStopping(patience=12),
        kp.EarlyStopping(rule=kp.SuccessiveRises(2)),
        kp.EarlyStopping("loss"),
    )
    for stopping in (longer, other, metric):
        stopping.set_state(state)
    assert (longer.wait, longer.best, longer.rule.n) == (2, 0.5, 12)
    assert longer.get_state() == state
    # Another rule begins anew; what was the best still is.
    assert (other.best, other.get_state()["rule"]) == (0.5, kp.SuccessiveRises(2).begin())
    assert metric.best is None


@pytest.mark.once
def test_weights_that_were_not_kept_are_not_put_back(capsys):
    before = driven(kp.EarlyStopping(patience=9), [0.5, 0.6])
    after = kp.EarlyStopping(patience=9, restore_best_weights=True)
    after.set_state(before.get_state())
    after.on_train_end()
    said = capsys.readouterr().out
    assert (
        "the weights of step 3 (epoch 1, val_loss 0.5) were not kept; the weights stay as they are."
        in said
    )


def test_kept_weights_use_their_buffers_again_unless_a_checkpoint_reads_them():
    model, held = cancer_model(), kp.stopping.InMemory()
    held.keep(model)
    lent = held.get_state()["weights"]
    values = [array.copy() for array in lent]
    model.set_weights([weight + 1 for weight in model.get_weights()])
    held.keep(model)
    np.testing.assert_array_equal(lent[0], values[0])
    own = held._arrays
    held.keep(model)
    assert held._arrays is own
    assert own is not lent
    held.set_state({"weights": lent})
    assert held.put_back(model)
    np.testing.assert_array_equal(model.get_weights()[0], values[0])
    held.set_state({"weights": lent[:-1]})
    with pytest.raises(kp.StateMismatchError, match="are not those of this model"):
        held.put_back(model)


# Arguments.


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kp.Patience(-1), ValueError, "Patience: `n` must be at least 0. Received: -1"),
        (
            lambda: kp.Patience(2.5),
            TypeError,
            "Patience: `n` must be a whole number. Received: 2.5",
        ),
        (
            lambda: kp.Patience(1, min_delta=-0.1),
            ValueError,
            "Patience: `min_delta` must be finite, at least 0. Received: -0.1",
        ),
        (lambda: kp.Patience(1, threshold=NAN), ValueError, "Patience: `threshold` must be finite"),
        (
            lambda: kp.Patience(1, relative="yes"),
            TypeError,
            "Patience: `relative` must be True or False. Received: 'yes'",
        ),
        (
            lambda: kp.GeneralizationLoss(0),
            ValueError,
            "GeneralizationLoss: `alpha` must be finite, greater than 0. Received: 0",
        ),
        (
            lambda: kp.ProgressQuotient(1, strip=1),
            ValueError,
            "ProgressQuotient: `strip` must be at least 2. Received: 1",
        ),
        (
            lambda: kp.SuccessiveRises(0),
            ValueError,
            "SuccessiveRises: `s` must be at least 1. Received: 0",
        ),
        (
            lambda: kp.EarlyStopping(patience=-1),
            ValueError,
            "EarlyStopping: `patience` must be at least 0. Received: -1",
        ),
        (
            lambda: kp.EarlyStopping(mode="maximum"),
            ValueError,
            "EarlyStopping: `mode` must be one of 'auto', 'min', 'max'",
        ),
        (
            lambda: kp.EarlyStopping("val_score"),
            ValueError,
            'does not show; say mode="min" or "max"',
        ),
        (
            lambda: kp.EarlyStopping(unit="batches"),
            ValueError,
            "`unit` must be one of 'epochs', 'steps'. Received: 'batches'",
        ),
        (
            lambda: kp.EarlyStopping(rule=5),
            TypeError,
            r"`rule` must be a rule such as kp.Patience\(5\). Received: 5",
        ),
        (
            lambda: kp.EarlyStopping(rule=kp.Patience(5), patience=3, baseline=0.1),
            ValueError,
            "patience=3, baseline=0.1 would have no effect; with a rule they go into it",
        ),
        (
            lambda: kp.EarlyStopping(
                "val_accuracy", rule=kp.Patience(1) | kp.GeneralizationLoss(5)
            ),
            ValueError,
            "GeneralizationLoss is defined for errors, of which less is better; received "
            'mode="max"',
        ),
        (
            lambda: kp.EarlyStopping("loss", rule=kp.ProgressQuotient(1)),
            ValueError,
            "compares a metric of the validation with that of the training",
        ),
        (
            lambda: kp.EarlyStopping(rule=kp.Patience(1, threshold=2, divergence=1)),
            ValueError,
            'with mode="min" the `threshold` must be better than the `divergence`',
        ),
        (
            lambda: decisions(kp.GeneralizationLoss(5), [0.5, -0.1]),
            ValueError,
            "is defined for positive ones; received -0.1",
        ),
        (
            lambda: decisions(kp.ProgressQuotient(5), [0.5], "max"),
            ValueError,
            "ProgressQuotient is defined for errors",
        ),
        (
            lambda: decisions(kp.ProgressQuotient(5), [0.5]),
            ValueError,
            "needs the training value beside the monitored one",
        ),
        (
            lambda: driven(kp.EarlyStopping(rule=kp.ProgressQuotient(5)), [0.5]),
            ValueError,
            "needs 'loss', and the logs have only",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_validation_that_is_still_to_come_is_no_fault():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((16, 4), "float32"), np.ones((16, 1), "float32")
    data = {"batch_size": 8, "seed": 0, "verbose": 0, "validation_data": (x, y)}
    history = kp.fit(
        model, x, y, epochs=4, validation_freq=2, callbacks=[kp.EarlyStopping(patience=9)], **data
    )
    assert len(history.history["val_loss"]) == 2


def test_a_run_that_goes_on_after_it_was_stopped_says_so_no_more(capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = np.ones((16, 4), "float32"), np.ones((16, 1), "float32")
    for steps, patience in ((10, 2), (12, 99)):
        stopping = kp.EarlyStopping("loss", patience=patience)
        callbacks = [stopping, kp.Checkpoint("run")]
        history = kp.fit(
            model,
            x,
            y,
            batch_size=8,
            total_steps=steps,
            steps_per_epoch=2,
            seed=0,
            verbose=0,
            callbacks=callbacks,
        )
    assert history.epoch_end_steps[-1] == 12
    assert (stopping.reason, stopping.stopped_step) == ("", 0)
    assert capsys.readouterr().out.count("stopped after step 6") == 1
    # That it was stopped once stays in its History.
    assert [event["step"] for event in history.events] == [6]
