"""Rates that differ from layer to layer: the updates in numbers, the groups against other
libraries, saving, errors.
"""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import optimizers
from places import SUPPORT, oracle

import keras_patterns as kp
from keras_patterns.optimizers import rate_factor_of
from keras_patterns.state.variables import find_variables

ORACLES = oracle("layerwise.json")["rows"]

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.normal(size=(4, 2)).astype("float32"), RANDOM.normal(size=(4, 4)).astype("float32")
START = [RANDOM.normal(size=shape).astype("float32") for shape in ((2, 2), (2,)) * 2]
RATE, LOW = 0.1, 0.25
FACTORS = {"low": LOW}


def branches():
    """Two layers, whose gradients depend on the data alone."""
    inputs = keras.Input((2,))
    outputs = keras.layers.Concatenate()(
        [keras.layers.Dense(2, name=name)(inputs) for name in ("low", "high")]
    )
    model = keras.Model(inputs, outputs)
    model.set_weights(START)
    return model


def slope(y, prediction):
    return keras.ops.sum(y * prediction, axis=-1)


def gradients(step):
    x, y = X[step], Y[step]
    return [np.outer(x, y[:2]), y[:2], np.outer(x, y[2:]), y[2:]]


def trained(make, rate=RATE, factors=None):
    """The weights after four compiled steps of `fit`, with factors."""
    model = branches()
    model.compile(
        kp.optimizers.with_layer_rates(make(rate), model, factors=factors or FACTORS), slope
    )
    # Inside `fit` on TensorFlow, Keras 3.15's ScheduleFreeAdamW does not see the weights that it
    # begins at.
    model.optimizer.build(model.trainable_variables)
    model.fit(X, Y, batch_size=1, shuffle=False, verbose=0)
    return model.get_weights()


def apart(make, rate=lambda factor: factor * RATE, scale=1.0):
    """The same with one plain optimizer for each factor, at its own rate."""
    found = []
    for factor, chosen in ((LOW, slice(0, 2)), (1.0, slice(2, 4))):
        variables = [
            keras.Variable(value, name=name)
            for value, name in zip(START, ("kernel", "bias") * 2, strict=True)
        ]
        optimizer = make(rate(factor))
        for step in range(4):
            optimizer.apply(
                [keras.ops.convert_to_tensor(scale * g, "float32") for g in gradients(step)],
                variables,
            )
        optimizer.finalize_variable_values(variables)
        found += [keras.ops.convert_to_numpy(variable.value) for variable in variables[chosen]]
    return found


def equal(one, other, tolerance=1e-6):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@keras.saving.register_keras_serializable("test_layerwise")
class Own(keras.optimizers.Optimizer):
    """A person's own optimizer: the sign of the gradient, times how often each variable was
    moved."""

    def __init__(self, learning_rate=0.1, power=1.0, **arguments):
        super().__init__(learning_rate, **arguments)
        self.power = power

    def build(self, variables):
        super().build(variables)
        self.counts = self.add_optimizer_variables(variables, "count")

    def update_step(self, gradient, variable, learning_rate):
        count = self.counts[self._get_variable_index(variable)]
        self.assign(count, count + 1)
        rate = keras.ops.cast(learning_rate, variable.dtype) * keras.ops.power(count, self.power)
        self.assign_sub(variable, rate * keras.ops.sign(gradient))

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def scheduled(make):
    def scheduled_momentum(rate):
        return kp.optimizers.with_momentum(
            make(rate), kp.schedules.CyclicalMomentum(0.7, 0.9, step_size=2)
        )

    return scheduled_momentum


MAKERS = {
    "Adam": optimizers.Adam,
    "AdamW": lambda rate: optimizers.AdamW(rate, weight_decay=0.2),
    "SGD, momentum, decay": lambda rate: optimizers.SGD(rate, momentum=0.9, weight_decay=0.1),
    "Nesterov": lambda rate: optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "RMSprop": optimizers.RMSprop,
    "centered RMSprop": lambda rate: optimizers.RMSprop(rate, momentum=0.9, centered=True),
    "Adagrad": optimizers.Adagrad,
    "Adadelta": optimizers.Adadelta,
    "Adamax": optimizers.Adamax,
    "Nadam": optimizers.Nadam,
    "Lion": optimizers.Lion,
    "Lamb": optimizers.Lamb,
    "Ftrl": optimizers.Ftrl,
    "Adafactor": optimizers.Adafactor,
    "Muon": lambda rate: optimizers.Muon(rate, adam_weight_decay=0.1),
    "ScheduleFreeAdamW": lambda rate: optimizers.ScheduleFreeAdamW(rate, warmup_steps=2),
    "Own": lambda rate: Own(rate, power=0.5, weight_decay=0.1),
    "SGD, scheduled momentum": scheduled(optimizers.SGD),
    "RMSprop, scheduled momentum": scheduled(optimizers.RMSprop),
    "AdamW, scheduled momentum": scheduled(optimizers.AdamW),
    "Nadam, scheduled momentum": scheduled(optimizers.Nadam),
    "accumulated gradients": lambda rate: optimizers.AdamW(rate, gradient_accumulation_steps=2),
    "moving average": lambda rate: optimizers.Adam(
        rate, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "global_clipnorm": lambda rate: optimizers.SGD(rate, global_clipnorm=0.5),
    "loss scale": lambda rate: optimizers.LossScaleOptimizer(
        optimizers.AdamW(rate), initial_scale=4.0, dynamic_growth_steps=2
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_each_layer_is_trained_as_by_an_optimizer_of_its_own(name):
    make = MAKERS[name]
    # A loss scale divides by what `fit` multiplies with.
    equal(
        trained(make),
        apart((lambda rate: make(rate).inner_optimizer) if name == "loss scale" else make),
    )


def cosine(factor=1.0):
    return optimizers.schedules.CosineDecay(
        factor * RATE, 3, warmup_target=2 * factor * RATE, warmup_steps=1
    )


def one_cycle(factor=1.0):
    return kp.schedules.OneCycle(factor * RATE, 4, warmup_fraction=0.5)


@pytest.mark.parametrize("schedule", [cosine, one_cycle])
@pytest.mark.parametrize("name", ["Adam", "SGD, momentum, decay", "Nadam", "Own"])
def test_the_ratios_hold_under_every_schedule(name, schedule):
    equal(trained(MAKERS[name], schedule()), apart(MAKERS[name], schedule))


def test_a_rate_that_is_a_function():
    equal(trained(optimizers.Adam, lambda: RATE), apart(optimizers.Adam))


def test_adam_by_hand():
    expected = []
    for weight, position in zip(START, range(4), strict=True):
        weight, first, second = weight.astype("float64"), 0.0, 0.0
        rate = RATE * (LOW if position < 2 else 1.0)
        for step in range(4):
            gradient = gradients(step)[position].astype("float64")
            first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
            move = (first / (1 - 0.9 ** (step + 1))) / (
                np.sqrt(second / (1 - 0.99 ** (step + 1))) + 1e-12
            )
            weight = weight - rate * move
        expected.append(weight)
    equal(trained(lambda rate: optimizers.Adam(rate, beta_2=0.99, epsilon=1e-12)), expected, 1e-5)


def test_smaller_gradients_would_not_do():
    """The control: Adam takes no notice of the size of a gradient."""
    scaled = apart(optimizers.Adam, lambda factor: RATE, scale=LOW)
    equal(scaled, apart(optimizers.Adam, lambda factor: RATE), 1e-5)
    assert np.abs(scaled[0] - trained(optimizers.Adam)[0]).max() > 0.1


def test_factors_of_one_change_no_bit():
    model = branches()
    model.compile(optimizers.Adam(RATE), slope)
    model.fit(X, Y, batch_size=1, shuffle=False, verbose=0)
    for one, other in zip(
        trained(optimizers.Adam, factors={"low": 1.0}), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_what_is_left_out_of_the_weight_decay():
    """All of one group, and a part of another."""

    def make(rate):
        optimizer = optimizers.SGD(rate, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    found = trained(make, factors={"low/kernel": LOW, "low/bias": 0.5})
    without = trained(optimizers.SGD, factors={"low/kernel": LOW, "low/bias": 0.5})
    equal([found[1], found[3]], [without[1], without[3]])
    equal([found[0], found[2]], [apart(make)[0], apart(make)[2]])
    assert np.abs(found[0] - without[0]).max() > 1e-2


def test_callbacks_move_all_rates_together():
    model = branches()
    model.compile(
        kp.optimizers.with_layer_rates(optimizers.SGD(RATE), model, factors=FACTORS), slope
    )
    rates = [0.3, 0.01]
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch]),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9),
    ]
    history = model.fit(X, Y, batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
    # The plateau halves the rate at the end of the second epoch.
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-6)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.005)
    mean = [
        np.mean([gradients(step)[position] for step in range(4)], axis=0) for position in range(4)
    ]
    moved = [
        start - sum(rates) * factor * g
        for start, factor, g in zip(START, (LOW, LOW, 1, 1), mean, strict=True)
    ]
    equal(model.get_weights(), moved)


def test_the_finder_sweeps_all_rates_together():
    losses = []
    x = RANDOM.normal(size=(32, 4))
    for optimizer, scale in (
        (lambda model: kp.optimizers.with_layer_rates("sgd", model, factors={"*": 0.5}), 1.0),
        (lambda _: "sgd", 0.5),
    ):
        keras.utils.set_random_seed(0)
        model = chain()
        model.compile(optimizer(model), "mse")
        bounds = {"start_rate": scale * 1e-4, "stop_rate": scale * 0.1}
        losses.append(
            kp.find_learning_rate(
                model, x, x, **bounds, batch_size=8, steps=20, seed=0, verbose=0
            ).losses
        )
    np.testing.assert_allclose(*losses, rtol=1e-5)


# Models and groups.


def chain(names=("a", "b", "c", "d"), kind=keras.layers.Dense):
    return keras.Sequential([keras.Input((4,)), *(kind(4, name=name) for name in names)])


def of_layers(optimizer):
    """The factor of each layer, which all of its variables have."""
    found = {}
    for path, factor in optimizer.rate_factors.items():
        found.setdefault(path.split("/")[-2], set()).add(factor)
    assert all(len(values) == 1 for values in found.values())
    return {name: values.pop() for name, values in found.items()}


@pytest.mark.parametrize(
    "row",
    [row for row in ORACLES if "scales" in row],
    ids=lambda row: f"{row['model']} {row['decay']}",
)
def test_the_scales_of_timm(row):
    scales = {name.replace(".", "_"): scale for name, scale in row["scales"].items()}
    layers = [
        keras.layers.LayerNormalization(name=n) if "norm" in n else keras.layers.Dense(2, name=n)
        for n in scales
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    groups = {
        "MLP": None,  # a depth each
        "ViT": ["patch_embed_*", "blocks_0_*", "blocks_1_*", ["blocks_2_*", "norm"], "head"],
        "VGG": [
            "features_0",
            "features_3",
            "features_5",
            "features_8",
            ["pre_logits_*", "head_fc"],
        ],
    }[row["model"]]
    assert of_layers(
        kp.optimizers.with_layer_rates("adamw", model, decay=row["decay"], groups=groups)
    ) == pytest.approx(scales, rel=1e-12)
    if row["model"] == "ViT":
        # The normalization before the head belongs to the last block by itself, too.
        found = of_layers(kp.optimizers.with_layer_rates("adamw", model, decay=row["decay"]))
        assert found["norm"] == found["blocks_2_mlp_fc2"] == row["decay"]


@pytest.mark.parametrize(
    "row", [row for row in ORACLES if "even_mults" in row], ids=lambda row: str(row["even_mults"])
)
def test_the_multiples_of_fastai(row):
    low, high, count = row["even_mults"]
    model = chain([f"layer{number}" for number in range(count)])
    factors = of_layers(kp.optimizers.with_layer_rates("sgd", model, lowest=low / high)).values()
    np.testing.assert_allclose([high * factor for factor in factors], row["rates"], rtol=1e-12)


@pytest.mark.parametrize(
    "row", [row for row in ORACLES if "lr_max" in row], ids=lambda row: str(row["lr_max"])
)
def test_the_rates_of_fastai_at_each_step(row):
    low, high = row["lr_max"]["start"], row["lr_max"]["stop"]
    model = chain()
    groups = ["a", "b", ["c", "d"]]
    how = {"lowest": low / high, "groups": groups} if low else {"factors": {"a": 0.1, "b": 0.1}}
    rate = kp.schedules.OneCycle(high, len(row["rates"]), convention="fastai")
    factors = list(
        of_layers(kp.optimizers.with_layer_rates(optimizers.SGD(rate), model, **how)).values()
    )[:3]
    found = [
        [float(keras.ops.convert_to_numpy(rate(step))) * factor for factor in factors]
        for step in range(len(row["rates"]))
    ]
    np.testing.assert_allclose(found, row["rates"], rtol=2e-5)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (None, [0.125, 0.25, 0.5, 1]),
        (1, [1, 1, 1, 1]),
        (2, [0.5, 0.5, 1, 1]),
        (3, [0.25, 0.25, 0.5, 1]),
        (4, [0.125, 0.25, 0.5, 1]),
        ([slice(0, 3), -1], [0.5, 0.5, 0.5, 1]),
        (["a", lambda layer: layer.name in "bc", "d/*"], [0.25, 0.5, 0.5, 1]),
    ],
)
def test_groups(groups, expected):
    assert (
        list(
            of_layers(
                kp.optimizers.with_layer_rates("sgd", chain(), decay=0.5, groups=groups)
            ).values()
        )
        == expected
    )


def test_the_default_is_a_decay_of_three_quarters():
    assert list(of_layers(kp.optimizers.with_layer_rates("sgd", chain("ab"))).values()) == [
        0.75,
        1.0,
    ]


def test_of_what_is_named_twice_the_later_factor_counts():
    model = chain()
    optimizer = kp.optimizers.with_layer_rates(
        "sgd", model, factors=[("*", 0.1), (model.get_layer("c"), 0.5), ("c/bias", 2), ("d", 10)]
    )
    assert list(optimizer.rate_factors.values()) == [0.1, 0.1, 0.1, 0.1, 0.5, 2.0, 10.0, 10.0]


def test_what_cannot_be_trained_is_no_depth():
    scale = keras.layers.Normalization()
    scale.adapt(RANDOM.normal(size=(8, 4)))
    layers = [
        keras.layers.Dense(3, name="a"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(1, name="b"),
    ]
    model = keras.Sequential([keras.Input((4,)), scale, *layers])
    model.layers[1].trainable = False
    found = of_layers(kp.optimizers.with_layer_rates("sgd", model, lowest=0.01))
    assert found == {"a": 0.01, "norm": 0.01, "b": 1.0}


def twins():
    def backbone():
        inputs = keras.Input((4,))
        return keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs), name="backbone")

    inputs, left, right = keras.Input((4,)), backbone(), backbone()
    left.name, right.name = "left", "right"
    return keras.Model(
        inputs,
        keras.layers.Dense(1, name="head")(keras.layers.Add()([left(inputs), right(inputs)])),
    )


def test_variables_of_one_path_are_told_apart(tmp_path):
    model = twins()
    kernels = [model.get_layer(side).layers[1].kernel for side in ("left", "right")]
    assert kernels[0].path == kernels[1].path
    optimizer = kp.optimizers.with_layer_rates("sgd", model, factors={"left": 0.1, "right": 0.5})
    assert [rate_factor_of(optimizer, kernel) for kernel in kernels] == [0.1, 0.5]
    assert optimizer.rate_factors[kernels[0].path] == 0.1
    assert optimizer.rate_factors[f"{kernels[0].path}#1"] == 0.5
    model.compile(optimizer, "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(loaded.optimizer.rate_factors.values()) == list(optimizer.rate_factors.values())


# What stays as it was.


def test_the_given_optimizer_and_its_settings_stay():
    given = optimizers.AdamW(0.02, weight_decay=0.1, clipnorm=1.0, use_ema=True, name="mine")
    before = given.get_config()
    optimizer = kp.optimizers.with_layer_rates(given, chain(), decay=0.5)
    assert given.get_config() == before
    assert not isinstance(given, type(optimizer))
    assert isinstance(optimizer, type(given))
    assert {name: optimizer.get_config()[name] for name in before} == before
    assert (
        float(
            kp.optimizers.with_layer_rates(given, chain(), learning_rate=0.5).learning_rate.numpy()
        )
        == 0.5
    )
    again = kp.optimizers.with_layer_rates(optimizer, chain(), decay=1.0)
    assert type(again) is type(optimizer)
    assert set(again.rate_factors.values()) == {1.0}


def test_a_loss_scale_keeps_its_settings():
    given = optimizers.LossScaleOptimizer(
        optimizers.SGD(0.1), initial_scale=8.0, dynamic_growth_steps=7, name="scaled"
    )
    optimizer = kp.optimizers.with_layer_rates(given, chain(), decay=0.5)
    outer = ("initial_scale", "dynamic_growth_steps", "name")
    assert [getattr(optimizer, name) for name in outer] == [8.0, 7, "scaled"]
    assert optimizer.inner_optimizer is not given.inner_optimizer


def test_slots_stand_where_they_would_without(tmp_path):
    states = []
    for layerwise in (False, True):
        model = branches()
        model.compile(
            kp.optimizers.with_layer_rates("adam", model, factors=FACTORS)
            if layerwise
            else optimizers.Adam(),
            slope,
        )
        model.optimizer.build(model.trainable_variables)
        states.append(find_variables(model))
        if layerwise:
            model.load_weights(tmp_path / "plain.weights.h5")
            slots = [variable.numpy() for variable in model.optimizer.variables]
        else:
            model.fit(X, Y, batch_size=1, verbose=0)
            model.save_weights(tmp_path / "plain.weights.h5")
            expected = [variable.numpy() for variable in model.optimizer.variables]
    assert list(states[0].variables) == list(states[1].variables)
    assert states[0].built_on() == states[1].built_on()
    for one, other in zip(slots, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_changed_factor_is_said_at_a_resume(capfd):
    for epochs, decay in ((1, 0.5), (2, 0.25)):
        keras.utils.clear_session(free_memory=False)
        model = chain("ab")
        model.compile(kp.optimizers.with_layer_rates("sgd", model, decay=decay), "mse")
        x = np.ones((8, 4), "float32")
        kp.fit(
            model,
            x,
            x,
            batch_size=4,
            epochs=epochs,
            seed=0,
            verbose=0,
            callbacks=[kp.Checkpoint("run")],
        )
    assert (
        "optimizer.rate_factors is [[0.25, 2, 20], [1.0, 2, 20]], it was [[0.5, 2, 20], [1.0, 2, "
        "20]]" in capfd.readouterr().out
    )


# Saving.

BUILT_IN = [
    "Adam",
    "AdamW",
    "SGD",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "Nadam",
    "Lion",
    "Lamb",
    "Ftrl",
    "Adafactor",
    "Muon",
]


@pytest.mark.parametrize("make", [getattr(optimizers, name) for name in BUILT_IN] + [Own])
def test_an_optimizer_comes_back_from_its_configuration(make):
    model = branches()
    optimizer = kp.optimizers.with_layer_rates(make(), model, factors=FACTORS)
    if make.__name__ in BUILT_IN:
        # On torch, the class has another name, which no other backend would find.
        assert optimizer.get_config()["base_optimizer"]["module"] == "keras.optimizers"
        assert optimizer.get_config()["base_optimizer"]["class_name"] == make.__name__
    back = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert type(back) is type(optimizer)
    assert json.dumps(back.get_config()) == json.dumps(optimizer.get_config())
    back.build(model.trainable_variables)
    assert back.rate_factors == optimizer.rate_factors


CHILD = """
import sys, keras, numpy as np
sys.path[:0] = {folders}
import keras_patterns
from test_layerwise import Own, X, Y, slope
for name in sys.argv[1:]:
    model = keras.models.load_model(f"{{name}}.keras", custom_objects={{"slope": slope}})
    model.fit(X, Y, batch_size=1, shuffle=False, verbose=0)
    np.savez(f"{{name}}.npz", *model.get_weights())
"""


def test_a_saved_model_goes_on_in_a_new_process(tmp_path):
    names = ["Nadam, scheduled momentum", "Own", "loss scale"]
    expected = {}
    for name in names:
        model = branches()
        model.compile(
            kp.optimizers.with_layer_rates(MAKERS[name](RATE), model, factors=FACTORS), slope
        )
        model.fit(X, Y, batch_size=1, shuffle=False, verbose=0)
        model.save(tmp_path / f"{name}.keras")
        model.fit(X, Y, batch_size=1, shuffle=False, verbose=0)
        expected[name] = model.get_weights()
    code = CHILD.format(folders=[str(SUPPORT), str(Path(__file__).parent)])
    result = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in names:
        for one, other in zip(
            np.load(tmp_path / f"{name}.npz").values(), expected[name], strict=True
        ):
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_what_is_frozen_has_its_factor_when_it_is_thawed():
    model = chain()
    optimizer = kp.optimizers.with_layer_rates("adam", model, decay=0.5)
    model.layers[0].trainable = False
    optimizer.build(model.trainable_variables)
    assert optimizer.get_config()["rate_factors"] == [[0.25, 2, 20], [0.5, 2, 20], [1.0, 2, 20]]
    model.layers[0].trainable = True
    thawed = type(optimizer).from_config(optimizer.get_config())
    thawed.build(model.trainable_variables)
    assert thawed.rate_factors == optimizer.rate_factors
    assert [rate_factor_of(thawed, layer.kernel) for layer in model.layers] == [
        0.125,
        0.25,
        0.5,
        1.0,
    ]


def test_the_factor_of_a_variable_in_optimizers_of_every_kind():
    model = branches()
    low, high = (model.get_layer(name).kernel for name in ("low", "high"))
    assert rate_factor_of(optimizers.Adam(), low) == 1.0
    assert (
        rate_factor_of(
            kp.optimizers.with_layer_rates(
                optimizers.LossScaleOptimizer(optimizers.Adam()), model, factors=FACTORS
            ),
            low,
        )
        == LOW
    )
    several = optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.Adam(),
            {".*low.*": kp.optimizers.with_layer_rates("sgd", model, factors=FACTORS)},
        )
    )
    several.build(model.trainable_variables)
    assert [rate_factor_of(several, variable) for variable in (low, high)] == [LOW, 1.0]


# Other data.


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_sparse_gradients(name):
    """Of an embedding, where the backend has them."""

    def weights(layerwise):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Embedding(9, 4),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        kind = getattr(optimizers, name)
        model.compile(
            kp.optimizers.with_layer_rates(kind(0.1), model, decay=1.0) if layerwise else kind(0.1),
            "mse",
        )
        model.fit(
            np.arange(12, dtype="int32").reshape(4, 3) % 9, np.ones((4, 1)), epochs=2, verbose=0
        )
        return model.get_weights()

    equal(weights(True), weights(False))


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_in_other_precisions(policy):
    model = keras.Sequential(
        [keras.Input((3,)), *(keras.layers.Dense(2, dtype=policy) for _ in range(2))]
    )
    optimizer = optimizers.AdamW(kp.schedules.OneCycle(0.01, 4, warmup_fraction=0.5), epsilon=1e-3)
    model.compile(kp.optimizers.with_layer_rates(optimizer, model), "mse")
    assert np.isfinite(
        model.fit(np.ones((8, 3)), np.ones((8, 2)), batch_size=2, verbose=0).history["loss"]
    ).all()


# Errors.


def built():
    optimizer = optimizers.SGD()
    optimizer.build([keras.Variable(np.zeros(2), name="weight")])
    return optimizer


def outside():
    class Extra(keras.Model):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.own = self.add_weight(shape=(2,), name="own")

    inputs = keras.Input((2,))
    return Extra(inputs, keras.layers.Dense(1)(inputs))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (
            {"decay": 0.5, "lowest": 0.1},
            ValueError,
            "`decay` and `lowest` both say what the factors are. Give one of them",
        ),
        ({"decay": 0.5, "factors": {"a": 0.1}}, ValueError, "`decay` and `factors` both say"),
        (
            {"factors": {"a": 0.1}, "groups": 2},
            ValueError,
            "`groups` goes with `decay` or `lowest`; `factors` selects for itself",
        ),
        ({"decay": 1.5}, ValueError, r"with_layer_rates: `decay` must be at most 1. Received: 1.5"),
        ({"decay": -1}, ValueError, "`decay` must be finite, greater than 0. Received: -1"),
        ({"decay": "half"}, TypeError, "`decay` must be a number. Received: 'half'"),
        ({"lowest": 2.0}, ValueError, "`lowest` must be at most 1. Received: 2.0"),
        (
            {"lowest": 0},
            ValueError,
            "`lowest` must be greater than 0. Received: 0. What is not to be trained is frozen "
            "instead",
        ),
        (
            {"factors": {"a": 0.0}},
            ValueError,
            r"`factors\['a'\]` must be greater than 0. Received: 0.0. What is not to be trained",
        ),
        (
            {"factors": {"x": 0.1}},
            ValueError,
            r"with_layer_rates: 'x' selects nothing in .* Its layers are 'input_layer', 'a'",
        ),
        (
            {"factors": "a"},
            TypeError,
            r"`factors` must be a mapping from what `where` selects to a factor, or a list of such "
            r"pairs",
        ),
        ({"factors": []}, TypeError, r"or a list of such pairs, such as .* Received: \[\]"),
        (
            {"groups": 5},
            ValueError,
            "`groups` must be at most 4, the depths of 'sequential.*'. Received: 5",
        ),
        ({"groups": 0}, ValueError, "`groups` must be at least 1. Received: 0"),
        ({"groups": "a"}, TypeError, "`groups` must be a whole number. Received: 'a'"),
        (
            {"groups": ["a", "b"]},
            ValueError,
            r"'.*c/kernel', '.*c/bias', '.*d/kernel', ... in none of the 2 groups",
        ),
        ({"groups": ["a", "*"]}, ValueError, r"'.*a/kernel' is in two groups, 'a' and '\*'"),
    ],
)
def test_arguments_are_checked(how, error, message):
    with pytest.raises(error, match=message):
        kp.optimizers.with_layer_rates("sgd", chain(), **how)


@pytest.mark.parametrize(
    ("optimizer", "model", "error", "message"),
    [
        (
            built,
            chain,
            ValueError,
            "has been built, and what it has gathered would be lost. Give a new one",
        ),
        (
            lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD())),
            chain,
            TypeError,
            "with_layer_rates: a MultiOptimizer has no rate and no momentum of its own. Give one",
        ),
        (lambda: "nothing", chain, ValueError, "nothing"),
        (
            lambda: "sgd",
            lambda: "model",
            TypeError,
            "with_layer_rates: `model` must be a Keras model. Received: str",
        ),
        (
            lambda: "sgd",
            lambda: keras.Sequential([keras.layers.Dense(1)]),
            ValueError,
            "is not built, so it has no weights yet",
        ),
        (
            lambda: "sgd",
            lambda: keras.Sequential([keras.Input((2,)), keras.layers.ReLU()]),
            ValueError,
            "no weights that can be tr",
        ),
        (
            lambda: "sgd",
            outside,
            ValueError,
            "'.*own' is outside the graph of '.*', so its depth is not known. Give `groups` as a "
            "li",
        ),
    ],
)
def test_optimizers_and_models_are_checked(optimizer, model, error, message):
    with pytest.raises(error, match=message):
        kp.optimizers.with_layer_rates(optimizer(), model())


def test_a_layer_that_came_later_has_no_factor():
    optimizer = kp.optimizers.with_layer_rates("adam", chain())
    with pytest.raises(
        ValueError,
        match=r"'late' has no factor: it was not in the model when the factors were given",
    ):
        optimizer.build([keras.Variable(np.zeros(2), name="late")])
    assert not optimizer.variables[2:]


def test_factors_from_a_file_are_those_of_the_same_variables():
    optimizer = optimizers.deserialize(
        optimizers.serialize(kp.optimizers.with_layer_rates("adam", chain("ab")))
    )
    with pytest.raises(
        ValueError,
        match="comes from a configuration, and knows its variables when it is built on them",
    ):
        _ = optimizer.rate_factors
    with pytest.raises(
        ValueError,
        match=(
            r"saved with factors for 4 variables .*\[\[0.75, 2, 20\], \[1.0, 2, 20\]\].* to train "
            r"6 that"
        ),
    ):
        optimizer.build(chain("abc").trainable_variables)
    with pytest.raises(
        ValueError,
        match=(
            r"to train 4 that are not these. Call kp.optimizers.with_layer_rates with the model "
            r"that is trained"
        ),
    ):
        optimizer.build(
            keras.Sequential(
                [keras.Input((9,)), *(keras.layers.Dense(9) for _ in range(2))]
            ).trainable_variables
        )
