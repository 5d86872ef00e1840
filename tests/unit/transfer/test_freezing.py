"""Freezing and thawing parts of a model, before it is compiled and after it was trained."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns import _keras
from keras_patterns.checkpoint.contents import OptimizerRecord
from keras_patterns.checkpoint.restore import build_optimizers
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_same_state

_rng = np.random.default_rng(3)
X = _rng.normal(size=(24, 4)).astype("float32")
Y = _rng.normal(size=(24, 2)).astype("float32")
HOW = {"batch_size": 8, "shuffle": False, "seed": 0, "verbose": 0}


def net():
    body = [
        layers.Dense(5, activation="tanh", name="first"),
        layers.BatchNormalization(name="norm"),
        layers.Dense(3, name="second"),
    ]
    return keras.Sequential([keras.Input((4,)), *body, layers.Dense(2, name="head")])


def nested():
    backbone = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="first"), layers.BatchNormalization(name="norm")]
    )
    backbone.name = "backbone"
    return keras.Sequential([keras.Input((4,)), backbone, layers.Dense(2, name="head")])


def trained_of(model):
    return [variable.path.split("/", 1)[1] for variable in model.trainable_variables]


def values(model, *roles):
    return copy_values(find_variables(model).of(*roles))


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (
            "first",
            ["norm/gamma", "norm/beta", "second/kernel", "second/bias", "head/kernel", "head/bias"],
        ),
        ("*/bias", ["first/kernel", "norm/gamma", "norm/beta", "second/kernel", "head/kernel"]),
        (slice(-1), ["head/kernel", "head/bias"]),
        (0, ["second/kernel", "second/bias", "head/kernel", "head/bias"]),
        (
            -1,
            [
                "first/kernel",
                "first/bias",
                "norm/gamma",
                "norm/beta",
                "second/kernel",
                "second/bias",
            ],
        ),
        (lambda layer: isinstance(layer, layers.Dense), ["norm/gamma", "norm/beta"]),
        (["first", "[ns]*"], ["head/kernel", "head/bias"]),
    ],
)
def test_where(where, left):
    model = net()
    kp.freeze(model, where)
    assert trained_of(model) == left
    kp.unfreeze(model, where)
    assert trained_of(model) == trained_of(net())
    assert all(layer.trainable for layer in model.layers)


def test_a_layer_and_a_variable():
    model = net()
    kp.freeze(model, [model.get_layer("first"), model.get_layer("head").bias])
    assert trained_of(model) == [
        "norm/gamma",
        "norm/beta",
        "second/kernel",
        "second/bias",
        "head/kernel",
    ]


def test_a_part_of_what_keras_froze_as_a_whole():
    model = nested()
    model.get_layer("backbone").trainable = False
    kp.unfreeze(model, "norm")
    assert trained_of(model) == ["norm/gamma", "norm/beta", "head/kernel", "head/bias"]
    assert not model.get_layer("backbone").get_layer("first").trainable
    kp.unfreeze(model, "backbone")
    kp.freeze(model, "backbone")
    assert trained_of(model) == ["head/kernel", "head/bias"]
    assert not model.get_layer("backbone").trainable


def test_a_backbone_is_frozen_as_a_whole():
    model = net()
    kp.freeze(model)
    assert model.trainable_variables == []
    assert not model.trainable


def test_a_model_of_which_nothing_is_trained_is_refused():
    model = net()
    kp.freeze(model)
    model.compile("adam", "mse")
    with pytest.raises(
        ValueError,
        match=r"kp.fit: all of '\w+' is frozen, so there is nothing to train. kp.unfreeze a part",
    ):
        kp.fit(model, X, Y, epochs=1, **HOW)


def test_a_subclassed_model_by_its_attributes():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.Sequential([layers.Dense(3), layers.BatchNormalization()])
            self.decoder = layers.Dense(2)

        def call(self, x, training=False):
            return self.decoder(self.encoder(x, training=training))

    model = Pair()
    model(X)
    kp.freeze(model, "encoder")
    assert [id(v) for v in model.trainable_variables] == [
        id(v) for v in model.decoder.trainable_variables
    ]


@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", False), ("adapt", True)])
def test_batch_norm_of_a_frozen_part(batch_norm, moves):
    model = net()
    kp.freeze(model, ["first", "norm"], batch_norm=batch_norm)
    model.compile("sgd", "mse")
    before = values(model, "weight")
    kp.fit(model, X, Y, epochs=1, **HOW)
    moved = {
        key
        for key, value in values(model, "weight").items()
        if not np.array_equal(value, before[key])
    }
    statistics = {"layers/1/moving_mean", "layers/1/moving_variance"}
    assert moved == {f"layers/{n}/{name}" for n in (2, 3) for name in ("kernel", "bias")} | (
        statistics if moves else set()
    )


@pytest.mark.parametrize(
    ("batch_norm", "mode"), [("train", "trains"), ("frozen", "frozen"), ("adapt", "adapts")]
)
def test_batch_norm_of_a_thawed_part(batch_norm, mode):
    model = net()
    kp.freeze(model, slice(-1))
    kp.unfreeze(model, ["first", "norm"], batch_norm=batch_norm)
    rows = {row.layer: row for row in kp.trainable_table(model).rows}
    assert (rows["norm"].batch_norm, rows["norm"].trained) == (mode, 10 * (mode == "trains"))
    assert rows["first"].trained == 25
    kp.unfreeze(model)
    assert trained_of(model) == trained_of(net())


OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, clipnorm=1.0),
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "Lion": lambda: keras.optimizers.Lion(0.001),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "Adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "Muon": lambda: keras.optimizers.Muon(0.01),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "averaged": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5),
    "scheduled": lambda: kp.optimizers.with_one_cycle("adam", 0.01, total_steps=20),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=8.0
    ),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(0.01), {".*first.*": keras.optimizers.SGD(0.1, momentum=0.9)}
        )
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_slots_of_what_stays_are_carried_over(name):
    model = net()
    model.compile(OPTIMIZERS[name](), "mse")
    kp.fit(model, X, Y, epochs=1, **HOW)
    optimizer, before = model.optimizer, values(model, "optimizer")
    kp.freeze(model, "second")
    assert model.optimizer is optimizer
    frozen = values(model, "optimizer")
    assert_same_state(
        {key: value for key, value in before.items() if "layers/2" not in key}, frozen
    )
    assert len(optimizer.variables) == len({id(v) for v in optimizer.variables}) == len(frozen)
    kp.fit(model, X, Y, epochs=1, **HOW)
    moved = values(model, "optimizer")
    kp.unfreeze(model, "second")
    thawed = values(model, "optimizer")
    assert thawed.keys() == before.keys()
    assert_same_state(moved, {key: thawed[key] for key in moved})
    weights = values(model, "weight")
    for key in thawed.keys() - moved.keys():
        # An average begins at the weight.
        begun = (
            weights[key.split("[")[1][:-1]]
            if "average" in key and "gradients" not in key
            else thawed[key].flat[0]
        )
        assert np.array_equal(thawed[key], np.broadcast_to(begun, thawed[key].shape)), key
    kp.fit(model, X, Y, epochs=1, **HOW)
    assert np.isfinite(
        np.concatenate([value.ravel() for value in values(model, "weight").values()])
    ).all()


def test_frozen_weights_stay_and_the_rest_trains_on_in_plain_fit():
    """Keras alone raises on JAX here, trains on as if nothing had been frozen on TensorFlow, and
    cannot thaw on torch.
    """
    model = net()
    model.compile("adam", "mse")
    for change, still in ((kp.freeze, True), (kp.unfreeze, False)):
        model.fit(X, Y, epochs=1, batch_size=8, verbose=0)
        change(model, "second")
        before = values(model, "weight")
        model.fit(X, Y, epochs=1, batch_size=8, verbose=0)
        after = values(model, "weight")
        assert np.array_equal(after["layers/2/kernel"], before["layers/2/kernel"]) == still
        assert not np.array_equal(after["layers/3/kernel"], before["layers/3/kernel"])


def adam(weights, gradients, state, rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """A step of Adam, of D. Kingma and J. Ba, in Keras's form, on the variables that have a
    gradient.
    """
    for key, gradient in gradients.items():
        m, v, t = state.get(key, (0.0, 0.0, 0))
        state[key] = m, v, t = (
            beta_1 * m + (1 - beta_1) * gradient,
            beta_2 * v + (1 - beta_2) * gradient**2,
            t + 1,
        )
        weights[key] = weights[key] - rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (
            np.sqrt(v) + epsilon
        )


def test_a_frozen_and_thawed_part_against_adam_by_hand():
    """A linear net of two layers, so that the gradients are two lines of NumPy."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, use_bias=False, name="a"),
            layers.Dense(2, use_bias=False, name="b"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.002), "mse")
    weights = {key: value.astype("float64") for key, value in values(model, "weight").items()}
    first, second, state = "layers/0/kernel", "layers/1/kernel", {}
    for change, trained in (
        (None, {first, second}),
        (kp.freeze, {second}),
        (kp.unfreeze, {first, second}),
    ):
        if change:
            change(model, "a")
            if change is kp.freeze:
                # What is frozen forgets its moments, and how many steps they hold.
                state.pop(first)
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        for start in [*range(0, 24, 8)] * 2:
            x, y = X[start : start + 8].astype("float64"), Y[start : start + 8]
            error = 2 * (x @ weights[first] @ weights[second] - y) / y.size
            gradients = {
                first: x.T @ error @ weights[second].T,
                second: (x @ weights[first]).T @ error,
            }
            adam(weights, {key: gradients[key] for key in sorted(trained)}, state)
        found = values(model, "weight")
        for key, value in weights.items():
            np.testing.assert_allclose(found[key], value, atol=1e-6, err_msg=key)


def test_frozen_parts_have_no_slots():
    model = net()
    kp.freeze(model, slice(-1))
    model.compile("adam", "mse")
    kp.fit(model, X, Y, epochs=1, **HOW)
    slots = [variable for variable in model.optimizer.variables if len(variable.shape)]
    assert (
        sum(np.prod(variable.shape) for variable in slots)
        == 2 * kp.trainable_table(model).trained
        == 2 * 8
    )


def test_a_resume_with_the_same_frozen_part(tmp_path):
    def run(folder, epochs):
        keras.utils.set_random_seed(0)
        model = net()
        kp.freeze(model, "first")
        model.compile("adam", "mse")
        kp.fit(model, X, Y, epochs=epochs, **HOW, callbacks=[kp.Checkpoint(folder)])
        return values(model, "weight", "optimizer")

    run(tmp_path / "b", 1)
    assert_same_state(run(tmp_path / "a", 3), run(tmp_path / "b", 3))


def test_the_table():
    model = nested()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    kp.freeze(model, "backbone", batch_norm="adapt")
    table = kp.trainable_table(model)
    assert str(table) == (
        "layer           class               parameters  trained  BatchNorm  rate\n"
        "--------------  ------------------  ----------  -------  ---------  ----\n"
        "backbone/first  Dense                       25        0\n"
        "backbone/norm   BatchNormalization          20        0  adapts\n"
        "head            Dense                       12       12              0.5\n"
        "together                                    57       12"
    )
    assert (table.parameters, table.trained) == (57, 12)


def test_the_table_has_the_rate_of_each_layer():
    model = net()
    model.compile(
        kp.optimizers.with_layer_rates(keras.optimizers.SGD(0.5), model, decay=0.5), "mse"
    )
    kp.freeze(model, "first/bias")
    rows = kp.trainable_table(model).rows
    assert [(row.layer, row.trained, row.rate) for row in rows] == [
        *(("first", 20, 0.125), ("norm", 10, 0.125)),
        *(("second", 18, 0.25), ("head", 8, 0.5)),
    ]


def test_layerwise_rates_go_on_when_a_part_is_frozen_and_thawed():
    """Each layer moves by its own rate, as gradient descent says, before and after."""
    model = net()
    model.compile(
        kp.optimizers.with_layer_rates(
            keras.optimizers.SGD(0.5), model, factors={"first": 0.25, "head": 0.5}
        ),
        "mse",
    )
    for change in (None, kp.freeze, kp.unfreeze):
        if change:
            change(model, "second")
        other = keras.models.clone_model(model)
        kp.freeze(other, "second") if change is kp.freeze else None
        other.compile(keras.optimizers.SGD(0.5), "mse")
        other.set_weights(model.get_weights())
        before = values(model, "weight")
        for one in (model, other):
            one.train_on_batch(X, Y)
        moved = {key: value - before[key] for key, value in values(model, "weight").items()}
        plain = {key: value - before[key] for key, value in values(other, "weight").items()}
        for layer, factor in (("0", 0.25), ("2", 1.0), ("3", 0.5)):
            key = f"layers/{layer}/kernel"
            np.testing.assert_allclose(moved[key], factor * plain[key], atol=1e-6, err_msg=key)
        assert moved["layers/2/kernel"].any() == (change is not kp.freeze)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: kp.freeze(m, "*"),
            ValueError,
            r"kp.freeze: '\*' is all of '\w+' that is trained, and a compiled model with",
        ),
        (
            lambda m: kp.unfreeze(m, "secnod"),
            ValueError,
            "kp.unfreeze: 'secnod' selects nothing in '\\w+'. Near names are 'second'",
        ),
        (lambda m: kp.freeze(m, 7), ValueError, "kp.freeze: 7 selects nothing in"),
        (
            lambda m: kp.freeze(m, 1.5),
            TypeError,
            r"`where` must be a glob on a path, .* Received: 1.5 \(float\)",
        ),
        (
            lambda m: kp.freeze(m, "first", batch_norm="train"),
            ValueError,
            "`batch_norm` must be one of 'frozen', 'adapt'",
        ),
        (
            lambda m: kp.freeze("model"),
            TypeError,
            "kp.freeze: `model` must be a Keras model. Received: str",
        ),
        (
            lambda m: kp.freeze(keras.Sequential([layers.Dense(1)])),
            ValueError,
            "is not built, so it has no weights yet",
        ),
        (
            lambda m: kp.unfreeze(m, "drop"),
            ValueError,
            "kp.unfreeze: 'drop' selects nothing in '\\w+' that could be trained",
        ),
        (
            lambda m: kp.trainable_table("model"),
            TypeError,
            "kp.trainable_table: `model` must be a Keras model. Received: str",
        ),
        (
            lambda m: kp.trainable_table(keras.Sequential([layers.Dense(1)])),
            ValueError,
            "trainable_table: .* is not built",
        ),
    ],
)
def test_bad_input_changes_nothing(call, error, message):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, name="first"),
            layers.Dropout(0.1, name="drop"),
            layers.Dense(2, name="second"),
        ]
    )
    model.compile("adam", "mse")
    kp.fit(model, X, Y, epochs=1, **HOW)
    before, trained = values(model, "weight", "optimizer"), trained_of(model)
    with pytest.raises(error, match=message):
        call(model)
    assert trained_of(model) == trained
    assert_same_state(before, values(model, "weight", "optimizer"))


def test_a_saved_model_with_rates_by_depth_that_cannot_be_thawed_stays_as_it_is():
    """Its file holds the factors of what was trained."""
    model = net()
    model.compile(kp.optimizers.with_layer_rates("adam", model, decay=0.5), "mse")
    kp.freeze(model, "first")
    model.fit(X, Y, verbose=0)
    model.save("frozen.keras")
    loaded = keras.models.load_model("frozen.keras")
    loaded.fit(X, Y, verbose=0)
    before, trained = values(loaded, "optimizer"), trained_of(loaded)
    with pytest.raises(
        ValueError,
        match=r"'.*first/kernel' has no factor: .* or frozen when the model was saved to the file",
    ):
        kp.unfreeze(loaded)
    assert trained_of(loaded) == trained
    assert_same_state(before, values(loaded, "optimizer"))
    loaded.fit(X, Y, verbose=0)


def test_a_late_optimizer_is_built_on_what_is_trained_now_unless_a_step_of_one_s_own_says_what():
    class OwnStep(keras.Sequential):
        def train_step(self, *arguments):
            raise NotImplementedError

    for kind, expected in ((keras.Sequential, 4), (OwnStep, 1)):
        model = kind([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
        model.compile("adam", "mse")
        build_optimizers(
            model, find_variables(model), {"optimizer": OptimizerRecord(("layers/1/kernel",))}
        )
        assert len(_keras.trained_variables(model.optimizer)) == expected
