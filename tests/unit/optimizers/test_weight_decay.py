"""kp.optimizers.without_weight_decay: its updates, its order with the others, its files."""

import itertools

import keras
import numpy as np
import pytest
from keras import optimizers

import keras_patterns as kp
from keras_patterns.optimizers import with_layer_rates, with_one_cycle, without_weight_decay
from keras_patterns.state.variables import find_variables

X, Y = np.zeros((8, 3), "float32"), np.ones((8, 2), "float32")
RANDOM = np.random.default_rng(3)
X_RANDOM, Y_RANDOM = (RANDOM.normal(size=shape).astype("float32") for shape in ((12, 3), (12, 2)))
MAKERS = {
    "SGD": lambda: optimizers.SGD(0.5, weight_decay=0.25),
    "Adam": lambda: optimizers.Adam(0.5, weight_decay=0.25),
    "AdamW": lambda: optimizers.AdamW(0.5, weight_decay=0.25),
    "RMSprop": lambda: optimizers.RMSprop(0.5, weight_decay=0.25),
    "Lion": lambda: optimizers.Lion(0.5, weight_decay=0.25),
    "Lamb": lambda: optimizers.Lamb(0.5, weight_decay=0.25),
    "Muon": lambda: optimizers.Muon(0.5, weight_decay=0.25),
    "Adafactor": lambda: optimizers.Adafactor(0.5, weight_decay=0.25),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.5, weight_decay=0.25)),
}


def net():
    """With weights of 1, and outputs that do not depend on them: every gradient is 0."""
    layers = [
        keras.layers.Dense(4, name="low"),
        keras.layers.LayerNormalization(name="norm"),
        keras.layers.Dense(2, name="high"),
        keras.layers.Rescaling(0.0),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.set_weights([np.ones_like(one) for one in model.get_weights()])
    return model


def decayed(model, steps=1):
    """The paths of the weights that have moved after some steps without a gradient."""
    before = model.get_weights()
    model.fit(X[:steps], Y[:steps], batch_size=1, verbose=0)
    moved = zip(model.weights, before, model.get_weights(), strict=True)
    return {
        one.path.split("/", 1)[1]: new[0].tolist()
        for one, old, new in moved
        if not np.array_equal(old, new)
    }


def compiled(optimizer, model=None):
    model = model or net()
    model.compile(optimizer(model) if callable(optimizer) else optimizer, "mse")
    return model


@pytest.mark.parametrize("name", MAKERS)
def test_biases_and_norms_do_not_decay_and_kernels_do(name):
    """By hand: a weight of 1 at the rate 0.5 and the decay 0.25 becomes 0.875."""
    moved = decayed(compiled(lambda model: without_weight_decay(MAKERS[name](), model)))
    assert moved == {"low/kernel": [0.875] * 4, "high/kernel": [0.875] * 2}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("low", {"norm/gamma", "norm/beta", "high/kernel", "high/bias"}),
        (["high/kernel", "norm"], {"low/kernel", "low/bias", "high/bias"}),
        ("*", set()),
        (0, {"high/kernel", "high/bias"}),
    ],
)
def test_weights_are_selected_by_their_places(where, expected):
    moved = decayed(compiled(lambda model: without_weight_decay(MAKERS["AdamW"](), model, where)))
    assert moved.keys() == expected


def test_biases_of_two_axes_are_biases():
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 2)(inputs, inputs))
    optimizer = without_weight_decay("adamw", model)
    rows = optimizer.get_config()["decay_factors"]
    assert [(decays, count) for decays, count, _ in rows] == [(1.0, 1), (0.0, 1)] * 4


def test_where_everything_decays_it_trains_as_the_plain_optimizer():
    """The control: what it leaves out is all that it changes."""

    def end(wrap):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
        optimizer = optimizers.AdamW(0.1, weight_decay=0.3)
        if wrap:
            optimizer = without_weight_decay(optimizer, model, "only/bias")
        else:
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, "mse")
        model.fit(X_RANDOM, Y_RANDOM, batch_size=4, shuffle=False, verbose=0)
        variables = find_variables(model).of("weight", "optimizer")
        return {key: one.numpy() for key, one in variables.items()}

    one, other = end(wrap=True), end(wrap=False)
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


WRAPPERS = {
    "decay": lambda one, model: without_weight_decay(one, model, ["low/bias", "high/kernel"]),
    "layer rates": lambda one, model: with_layer_rates(one, model, decay=0.5),
    "one cycle": lambda one, _: with_one_cycle(one, 0.1, total_steps=6),
    "loss scale": lambda one, _: optimizers.LossScaleOptimizer(one, initial_scale=4.0),
}


def trained(order, make, model=None):
    keras.utils.set_random_seed(1)
    keras.utils.clear_session(free_memory=False)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="low"), keras.layers.Dense(2, name="high")]
    )
    optimizer = make()
    for name in order:
        optimizer = WRAPPERS[name](optimizer, model)
    model.compile(optimizer, "mse")
    model.fit(X_RANDOM, Y_RANDOM, batch_size=2, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_every_order_has_the_same_class_and_trains_alike(name):
    orders = list(itertools.permutations(["decay", "layer rates", "one cycle"]))
    if name == "AdamW":
        orders = [*orders[::3], ("loss scale", "one cycle", "decay", "layer rates")]
    models = [trained(order, MAKERS[name]) for order in orders]
    kinds = {type(getattr(one.optimizer, "inner_optimizer", one.optimizer)) for one in models}
    assert len(kinds) == 1
    assert kinds.pop().__name__ == f"LayerwiseUndecayedMomentumScheduled{name}"
    for model in models[1:]:
        for one, other in zip(models[0].get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("others", [(), ("layer rates",), ("one cycle", "layer rates")])
def test_a_model_from_a_file_leaves_the_same_weights_alone(others, tmp_path):
    """Keras's own notes of them are not in the file."""
    model = trained(("decay", *others), MAKERS["AdamW"])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    for one in (model, loaded):
        one.fit(X_RANDOM, Y_RANDOM, batch_size=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    factors = [row[:2] for row in loaded.optimizer.get_config()["decay_factors"]]
    assert factors == [[1.0, 1], [0.0, 2], [1.0, 1]]


def test_what_is_thawed_later_is_known():
    model = compiled(lambda model: without_weight_decay(MAKERS["SGD"](), model))
    kp.freeze(model, "low")
    assert decayed(model).keys() == {"high/kernel"}
    kp.unfreeze(model, "low")
    assert decayed(model).keys() == {"low/kernel", "high/kernel"}


def test_a_layer_that_it_does_not_know_is_refused():
    known, other = net(), net()
    with pytest.raises(ValueError, match=r"without_weight_decay: '.*low/kernel' has no factor"):
        compiled(without_weight_decay(MAKERS["SGD"](), known), other).fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("optimizer", "model", "where", "error", "said"),
    [
        (optimizers.SGD, net, "low", ValueError, "has no weight decay. Give it one"),
        (MAKERS["SGD"], net, "lov", ValueError, "'lov' selects nothing .* Near names are 'low'"),
        (
            MAKERS["SGD"],
            lambda: keras.Sequential([keras.layers.Dense(1)]),
            "*",
            ValueError,
            "is not built",
        ),
        (MAKERS["SGD"], lambda: None, "*", TypeError, "must be a Keras model"),
    ],
)
def test_arguments_are_checked(optimizer, model, where, error, said):
    with pytest.raises(error, match=said):
        without_weight_decay(optimizer(), model(), where)


def test_what_an_optimizer_has_gathered_is_not_thrown_away():
    optimizer = optimizers.AdamW()
    optimizer.build([keras.Variable(np.zeros(2), name="weight")])
    with pytest.raises(ValueError, match="has been built, and what it has gathered would be lost"):
        without_weight_decay(optimizer, net())
