"""Wrappers of an optimizer, in any order: updates, configurations and files."""

import functools
import itertools
import json

import keras
import numpy as np
import pytest
from keras import optimizers

import keras_patterns as kp
from keras_patterns.optimizers import with_layer_rates, with_momentum, with_one_cycle
from keras_patterns.schedules import CyclicalMomentum, OneCycleMomentum
from keras_patterns.state.variables import find_variables

RANDOM = np.random.default_rng(7)
X, Y = RANDOM.normal(size=(12, 4)).astype("float32"), RANDOM.normal(size=(12, 2)).astype("float32")

# Each optimizer, of a class of which the momentum can follow a schedule.
MAKERS = {
    "SGD": lambda: optimizers.SGD(0.1, weight_decay=0.1),
    "Nesterov": lambda: optimizers.SGD(0.1, momentum=0.5, nesterov=True),
    "RMSprop": lambda: optimizers.RMSprop(0.01, centered=True),
    "Adam": lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "AdamW": lambda: optimizers.AdamW(0.01, gradient_accumulation_steps=2),
    "Adamax": lambda: optimizers.Adamax(0.01, clipnorm=0.5),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Lion": lambda: optimizers.Lion(0.01),
    "excluded from decay": lambda: excluded(optimizers.AdamW(0.01, weight_decay=0.5)),
}

# Each wrapper, given the model.
WRAPPERS = {
    "layer rates": lambda one, model: with_layer_rates(one, model, decay=0.5),
    "momentum": lambda one, _: with_momentum(one, CyclicalMomentum(0.6, 0.9, step_size=2)),
    "one cycle": lambda one, _: with_one_cycle(one, 0.1, total_steps=6, warmup_fraction=0.5),
    "loss scale": lambda one, _: optimizers.LossScaleOptimizer(one, initial_scale=4.0),
}

ORDERS = {
    " of ".join(reversed(order)): (order, tuple(sorted(order)))
    for chosen in (
        ("layer rates", "momentum"),
        ("layer rates", "one cycle"),
        ("layer rates", "one cycle", "loss scale"),
    )
    for order in itertools.permutations(chosen)
    if order != tuple(sorted(order))
}


# Every optimizer in the orders of two, and two of them in all orders. What is put in order has no
# backend; each optimizer's updates have one.
TABLE = [
    pytest.param(name, order, marks=() if everywhere else pytest.mark.once)
    for name in MAKERS
    for order, (names, _) in ORDERS.items()
    if len(names) == 2 or name in ("Nesterov", "Adam")
    for everywhere in [
        order == ("layer rates of one cycle" if name != "Adam" else "layer rates of momentum")
        or (name, order) == ("Nesterov", "one cycle of layer rates of loss scale")
    ]
]


def excluded(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def make_model():
    layers = [keras.layers.Dense(size, name=name) for size, name in ((3, "low"), (2, "high"))]
    model = keras.Sequential([keras.Input((4,)), *layers])
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def wrapped(make, order):
    """A compiled model, and its optimizer wrapped in an order, the innermost first."""
    model, optimizer = make_model(), make()
    for name in order:
        optimizer = WRAPPERS[name](optimizer, model)
    model.compile(optimizer, "mse")
    return model


def train(model, batches=6):
    model.fit(X[: 2 * batches], Y[: 2 * batches], batch_size=2, shuffle=False, verbose=0)
    return model


def state(model):
    return {key: v.numpy() for key, v in find_variables(model).of("weight", "optimizer").items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def without_names(value):
    """A configuration, but for the names that Keras makes by counting."""
    return json.loads(
        json.dumps(value), object_hook=lambda config: {**config, "name": config.get("name") and 0}
    )


@functools.cache
def ended(name, order):
    return state(train(wrapped(MAKERS[name], order)))


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize(("name", "order"), TABLE)
def test_every_order_trains_alike_to_the_bit(name, order):
    assert_same(*(ended(name, one) for one in ORDERS[order]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["Nesterov", "excluded from decay"])
def test_every_order_has_the_same_class_and_configuration(name, order):
    one, other = (wrapped(MAKERS[name], one).optimizer for one in ORDERS[order])
    assert type(one) is type(other)
    assert without_names(one.get_config()) == without_names(other.get_config())


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, marks=() if order.endswith("scale") else pytest.mark.once)
        for order in ORDERS
        if order.startswith("one cycle")
    ],
)
def test_each_wrapper_leaves_its_mark_in_every_order(order):
    """The control: without one of them, the weights are others."""
    names, _ = ORDERS[order]
    found = [
        train(wrapped(MAKERS["Adam"], [name for name in names if name != left_out]))
        for left_out in (None, *(name for name in names if name != "loss scale"))
    ]
    weights = [model.get_weights()[0] for model in found]
    for one, other in itertools.combinations(weights, 2):
        assert np.abs(one - other).max() > 1e-4


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, marks=() if order.endswith("scale") else pytest.mark.once)
        for order in ORDERS
    ],
)
def test_a_model_from_a_file_goes_on_in_every_order(order, tmp_path):
    model = train(wrapped(MAKERS["AdamW"], ORDERS[order][0]), batches=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert without_names(loaded.optimizer.get_config()) == without_names(
        model.optimizer.get_config()
    )
    assert [value.tolist() for value in train(loaded).get_weights()] == [
        value.tolist() for value in train(model).get_weights()
    ]


class Bare(keras.optimizers.schedules.LearningRateSchedule):
    """One that cannot be saved; Keras trains with it all the same."""

    def __call__(self, step):
        return keras.ops.cast(step, "float32") * 0 + 0.5


def test_schedules_that_cannot_be_saved_are_kept_by_what_comes_around_them():
    momentum, rate = Bare(), Bare()
    model = make_model()
    optimizer = with_layer_rates(with_momentum(optimizers.SGD(rate), momentum), model)
    assert optimizer.momentum_schedule is momentum
    assert optimizer.learning_rate == 0.5


def test_what_is_added_again_is_replaced():
    model, schedule = make_model(), OneCycleMomentum(50)
    optimizer = with_layer_rates(with_one_cycle("adam", 0.1, 6), model, factors={"low": 0.25})
    again = with_layer_rates(with_momentum(optimizer, schedule), model, factors={"low": 0.75})
    assert type(again) is type(optimizer)
    assert again.momentum_schedule == schedule
    assert list(again.rate_factors.values()) == [0.75, 0.75, 1.0, 1.0]
    assert list(optimizer.rate_factors.values()) == [0.25, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("order", [("layer rates", "one cycle"), ("one cycle", "layer rates")])
def test_a_checkpoint_of_the_optimizer_s_own_class_keeps_its_slots(order, capsys):
    plain = make_model()
    plain.compile("adam", "mse")
    how = {"batch_size": 2, "seed": 0, "verbose": 0, "callbacks": [kp.Checkpoint("run")]}
    kp.fit(plain, X, Y, epochs=1, **how)
    keras.utils.clear_session(free_memory=False)
    model = wrapped(optimizers.Adam, order)
    kp.fit(model, X, Y, epochs=2, **how)
    said = capsys.readouterr().out
    assert f"optimizer.class is '{type(model.optimizer).__name__}', it was 'Adam'" in said
    assert "start fresh" not in said


@pytest.mark.parametrize(
    "wrap",
    [lambda one: with_one_cycle(one, 0.1, 6), lambda one: with_layer_rates(one, make_model())],
)
def test_what_an_optimizer_has_gathered_is_not_thrown_away(wrap):
    inner = optimizers.SGD()
    inner.build([keras.Variable(np.zeros(2), name="weight")])
    for built in (inner, optimizers.LossScaleOptimizer(inner)):
        with pytest.raises(ValueError, match="has been built, and what it has gathered would be"):
            wrap(built)
