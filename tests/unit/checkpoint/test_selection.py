"""Choosing among the checkpoints of a run: what is chosen, that nothing else moves, and that errors
leave the model as it was.
"""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from models import (
    CASES,
    FEATURES,
    LABELS,
    averaged,
    classifier,
    compiled,
    dense,
    frozen_body,
    mixed_precision,
    one_cycle,
    runnable,
    two_halves,
)

import keras_patterns as kp
from keras_patterns import _keras
from keras_patterns.checkpoint.average import averaged as average_of
from keras_patterns.checkpoint.average import shares
from keras_patterns.checkpoint.rows import best_row
from keras_patterns.data import make_source
from keras_patterns.state.snapshot import copy_values, is_seed
from keras_patterns.state.variables import find_variables
from keras_patterns.storage import Position
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

TRAIN = {
    "x": FEATURES,
    "y": LABELS,
    "batch_size": 8,
    "total_steps": 8,
    "epochs": 4,
    "seed": 0,
    "verbose": 0,
}
DATA = (FEATURES[:20], LABELS[:20])


@pytest.fixture
def trained():
    """A model with everything that could move, and its run of four checkpoints."""
    model = dense()
    history = kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    return model, history


def weights_of(model):
    return copy_values(find_variables(model).of("weight"))


def weights_at(step, make_model=dense, folder="runs"):
    model = make_model()
    kp.CheckpointStore(folder).restore(model, step, weights_only=True)
    return weights_of(model)


def without_weights(model, state):
    """The state of a run without what a selection loads."""
    loaded = {
        f"variables/{key}"
        for key, variable in find_variables(model).of("weight").items()
        if not is_seed(variable)
    }
    return {name: value for name, value in state.items() if name not in loaded}


def assert_weights(expected, model, seeds=True):
    found = weights_of(model)
    assert found.keys() == expected.keys()
    for key, variable in find_variables(model).of("weight").items():
        if seeds or not is_seed(variable):
            np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


def damage(*steps, run=1, phase=1, folder="runs"):
    """Flips a bit in each of these checkpoints."""
    for entry in kp.CheckpointStore(folder).entries():
        if entry.position in [Position(run, step, phase) for step in steps]:
            for file in entry.folder.glob("tensors*.safetensors"):
                content = bytearray(file.read_bytes())
                content[-1] ^= 1
                file.write_bytes(content)


def line():
    """y = kernel * x; its rate is zero, so only what sets its kernel moves it."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
    return model


ONES = np.ones((4, 1), "float32")


def run_of(kernels, folder="runs", make_model=line):
    """A run whose checkpoints, at steps 1, 2, 3, have these kernels; their loss on ONES is the
    square of kernel - 1.
    """
    model = make_model()

    def put(epoch, logs):
        model.layers[0].kernel.assign([[kernels[epoch]]])

    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=put),
        kp.Checkpoint(folder, keep_last=len(kernels)),
    ]
    arguments = {"total_steps": len(kernels), "epochs": len(kernels), "seed": 0, "verbose": 0}
    kp.fit(model, ONES, ONES, batch_size=4, callbacks=callbacks, **arguments)
    return model


# Selection.


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_rows_are_what_evaluate_says_and_the_best_is_loaded(trained, metric):
    selection = kp.select_checkpoint("runs", trained[0], DATA, metric, verbose=0)
    store, model, expected = kp.CheckpointStore("runs"), dense(), {}
    for step in (2, 4, 6, 8):
        store.restore(model, step)
        expected[step] = model.evaluate(*DATA, return_dict=True, verbose=0)
    assert {row.step: row.values for row in selection.rows} == expected
    better = min if metric == "loss" else max
    assert selection.best.values[metric] == better(values[metric] for values in expected.values())
    assert selection.best_step == selection.best.step
    assert_weights(weights_at(selection.best_step), trained[0], seeds=False)


@pytest.mark.parametrize(
    "case",
    runnable(["dense", "convolutional", "moving average", "multi optimizer", "mixed precision"]),
)
def test_nothing_but_weights_moves(case):
    model = case.make_model()
    callbacks = [kp.Checkpoint("runs", every_steps=1, keep_last=8)]
    history = kp.fit(model, **case.arguments, seed=0, verbose=0, callbacks=callbacks)
    function, before = model.train_function, run_state(model, history)
    data = (case.arguments["x"], case.arguments["y"])
    selection = kp.select_checkpoint("runs", model, data, verbose=0, steps=range(1, 8))
    assert len(selection.rows) == 7
    assert_same_state(
        without_weights(model, before), without_weights(model, run_state(model, history))
    )
    assert_weights(weights_at(selection.best_step, case.make_model), model, seeds=False)
    assert model.train_function is function
    assert model.history is history


def test_a_model_that_was_never_used_trains_on_as_if_it_were_only_restored(trained):
    def end(how):
        model = dense()
        step = how(model)
        keras.utils.set_random_seed(3)
        return step, run_state(model, kp.fit(model, **TRAIN))

    step, found = end(lambda model: kp.select_checkpoint("runs", model, DATA, verbose=0).best_step)

    def restore(model):
        seeds = {
            key: variable
            for key, variable in find_variables(model).of("weight").items()
            if is_seed(variable)
        }
        held = copy_values(seeds)
        kp.CheckpointStore("runs").restore(model, step, weights_only=True)
        for key, value in held.items():
            seeds[key].assign(value)

    assert_same_state(end(restore)[1], found)


@given(
    st.lists(
        st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf, None]),
        max_size=6,
    ),
    st.sampled_from(["min", "max"]),
)
def test_the_best_is_finite_and_the_earliest_of_equals(values, mode):
    rows = [
        kp.SelectionRow(step, {} if value is None else {"loss": value})
        for step, value in enumerate(values)
    ]
    best = best_row(rows, "loss", mode)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        assert best is None
    else:
        assert best.values["loss"] == (min if mode == "min" else max)(finite)
        assert best.step == min(
            step for step, value in enumerate(values) if value == best.values["loss"]
        )


def test_what_is_not_finite_is_never_the_best_and_ties_go_to_the_earlier():
    model = run_of([math.nan, 4.0, 2.0, 0.0, math.inf])
    selection = kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0)
    assert [row.values["loss"] for row in selection.rows][1:4] == [9.0, 1.0, 1.0]
    assert selection.best_step == 3
    assert kp.select_checkpoint("runs", model, (ONES, ONES), "mae", "max", verbose=0).best_step == 2
    before = weights_of(model)
    with pytest.raises(
        ValueError, match=r"'loss' is finite at none of the steps \[1, 5\]. The model is as before"
    ):
        kp.select_checkpoint("runs", model, (ONES, ONES), steps=[1, 5], verbose=0)
    assert_weights(before, model)


def test_the_table(capsys):
    model = run_of([3.0, 1.5, 2.0])
    damage(1)
    selection = kp.select_checkpoint(kp.CheckpointStore("runs"), model, (ONES, ONES))
    assert "has the weights of step 2, whose loss is 0.25." in capsys.readouterr().out
    lines = str(selection).splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["step", "loss", "mae"],
        ["----", "------", "------", "--------"],
        ["1", "left", "out"],
        ["2", "0.2500", "0.5000", "best"],
        ["3", "1.0000", "1.0000", "newest"],
    ]
    assert lines[5].startswith("Step 1 was left out. ")
    assert "damaged checkpoint" in lines[5]
    assert lines[6:] == ["Step 2 has the lowest loss."]
    assert [bool(row.problem) for row in selection.rows] == [True, False, False]


def test_the_only_damaged_ones():
    model = run_of([3.0, 1.5])
    damage(1, 2)
    before = weights_of(model)
    with pytest.raises(
        kp.StoreError,
        match=r"checkpoints is sound:\n.*damaged checkpoint(.|\n)*The model is as before",
    ):
        kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0)
    assert_weights(before, model)


def test_only_the_newest_run_counts():
    run_of([1.0, 1.0])
    model = line()
    model.set_weights([np.array([[5.0]])])
    callbacks = [kp.Checkpoint("runs", keep_last=9, resume="never")]
    kp.fit(
        model,
        ONES,
        ONES,
        batch_size=4,
        total_steps=1,
        epochs=1,
        seed=0,
        verbose=0,
        callbacks=callbacks,
    )
    selection = kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0)
    assert [(row.step, row.values["loss"]) for row in selection.rows] == [(1, 16.0)]


def test_a_checkpoint_from_before_the_validation_is_no_row_of_its_own():
    model, store = run_of([3.0, 1.5]), kp.CheckpointStore("runs")
    for step in (2, 3):
        found = store.read(store.at(2))
        arrays = [kp.storage.Tensor(key, array) for key, array in found.tensors.items()]
        found.document["cursor"]["content"].update(step=step, todo=["save"])
        store.write(Position(1, step, 0), found.document, arrays)
    rows = kp.select_checkpoint(store, model, (ONES, ONES), verbose=0).rows
    assert [(row.step, row.values["loss"]) for row in rows] == [(1, 4.0), (2, 0.25), (3, 0.25)]
    # The other one takes its place.
    damage(2)
    rows = kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0).rows
    assert [row.values["loss"] for row in rows] == [4.0, 0.25, 0.25]


class Once(keras.utils.PyDataset):
    """Fails in its fifth batch."""

    def __init__(self):
        super().__init__()
        self.given = 0

    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        self.given += 1
        if self.given == 5:
            raise LookupError("the fifth")
        return FEATURES[:8], LABELS[:8]


class Broken(keras.metrics.Metric):
    """Fails in evaluate."""

    def update_state(self, *arguments, **how):
        raise LookupError("when it is traced")

    def result(self):
        return 0.0


def test_everything_is_as_before_when_evaluate_fails(trained):
    model, history = trained
    before = run_state(model, history)
    # Not every framework lets it through as it is.
    with pytest.raises(Exception, match="the fifth"):
        kp.select_checkpoint("runs", model, Once(), verbose=0)
    assert_same_state(before, run_state(model, history))
    # And it still trains and evaluates.
    assert kp.select_checkpoint("runs", model, DATA, verbose=0).best_step in (2, 4, 6, 8)
    assert np.isfinite(kp.fit(model, **TRAIN).history["loss"]).all()


def test_everything_is_as_before_when_evaluate_cannot_begin(trained):
    model = dense()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Broken()])
    before = weights_of(model)
    with pytest.raises(Exception, match="when it is traced"):
        kp.select_checkpoint("runs", model, DATA, verbose=0)
    assert_weights(before, model)


def wide():
    return compiled(
        classifier(
            layers.Dense(9, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=5),
        )
    )


def test_everything_is_as_before_with_a_model_of_another_shape(trained):
    model = wide()
    before = weights_of(model)
    for act in (
        lambda: kp.select_checkpoint("runs", model, DATA, verbose=0),
        lambda: kp.average_checkpoints("runs", model, data=DATA),
        lambda: kp.warm_start("runs", model),
        lambda: kp.warm_start("runs", model, optimizer="keep"),
    ):
        with pytest.raises(
            kp.StateMismatchError, match=r"shape \(6, 8\) in the checkpoint, \(6, 9\) in the model"
        ):
            act()
        assert_weights(before, model)


class Noise(layers.Layer):
    """Draws from its seed in evaluate, too."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_each_checkpoint_draws_the_same_numbers():
    def noisy():
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False), Noise()])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        return model

    model = run_of([1.5, 1.5, 1.0], make_model=noisy)
    first = kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0)
    values = [row.values["loss"] for row in first.rows]
    assert values[0] == values[1] != values[2]
    assert kp.select_checkpoint("runs", model, (ONES, ONES), verbose=0) == first


def test_weighted_data_and_datasets(trained):
    weight = np.linspace(0.0, 2.0, 20)
    weighted = kp.select_checkpoint(
        "runs", trained[0], (*DATA, weight), batch_size=5, steps=[4], verbose=0
    )
    expected = trained[0].evaluate(
        *DATA, sample_weight=weight, batch_size=5, return_dict=True, verbose=0
    )
    assert weighted.best.values == expected

    class Batches(Once):
        def __getitem__(self, index):
            return FEATURES[index * 8 : index * 8 + 8], LABELS[index * 8 : index * 8 + 8]

    found = kp.select_checkpoint("runs", trained[0], Batches(), steps=[4], verbose=0).best.values
    expected = trained[0].evaluate(
        FEATURES[:24], LABELS[:24], batch_size=8, return_dict=True, verbose=0
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_arguments_of_a_selection(trained):
    model = trained[0]
    cases = [
        (ValueError, r"evaluate returns no 'val_loss', but '.*loss'", {"metric": "val_loss"}),
        (
            ValueError,
            "whether less or more of 'lift' is better does not show; say mode=\"min\"",
            {"metric": "lift"},
        ),
        (ValueError, "`mode` must be one of 'auto', 'min', 'max'", {"mode": "least"}),
        (ValueError, r"`data` must be \(x, y\) or .* received 4 parts", {"data": (*DATA, *DATA)}),
        (
            TypeError,
            "`data` is a list_iterator, which gives its batches once",
            {"data": iter([DATA])},
        ),
        (
            kp.StoreError,
            r"no checkpoint of step 3\. The newest run has \[2, 4, 6, 8\]",
            {"steps": [2, 3]},
        ),
        (TypeError, "`steps` must be a whole number", {"steps": [2.0]}),
        (ValueError, "`steps` must name at least one step", {"steps": []}),
        (kp.StoreError, "there is no checkpoint", {"store": "nothing"}),
        (TypeError, "`model` must be a Keras model. Received: str", {"model": "model"}),
        (ValueError, "is not built", {"model": compiled(keras.Sequential([layers.Dense(3)]))}),
        (ValueError, "is not compiled", {"model": classifier()}),
    ]
    before = weights_of(model)
    for error, message, changed in cases:
        with pytest.raises(error, match=message):
            kp.select_checkpoint(
                **{"store": "runs", "model": model, "data": DATA, "verbose": 0, **changed}
            )
        assert_weights(before, model)


# Averages.


@given(st.integers(1, 12), st.floats(0, 0.999), st.sampled_from(["uniform", "exponential"]))
def test_the_shares_are_the_weights_of_the_recurrence(count, decay, weighting):
    found = shares(count, decay, weighting)
    weights = np.array(
        [found[i] * np.prod([1 - share for share in found[i + 1 :]]) for i in range(count)]
    )
    np.testing.assert_allclose(weights.sum(), 1)
    expected = np.full(count, 1 / count)
    if weighting == "exponential":
        # average = decay * average + (1 - decay) * weights, from 0 on, over the sum of its weights.
        expected = np.zeros(count)
        for number in range(count):
            expected *= decay
            expected[number] = 1 - decay
        expected /= 1 - decay**count
    np.testing.assert_allclose(weights, expected, rtol=1e-9, atol=1e-12)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8),
    st.floats(0, 0.999),
    st.sampled_from(["uniform", "exponential"]),
    st.sampled_from(["float32", "float64"]),
)
def test_an_average_lies_within_and_equals_what_is_equal(values, decay, weighting, dtype):
    arrays = [
        {"kernel": np.array([value, values[0]], dtype), "count": np.array([i])}
        for i, value in enumerate(values)
    ]
    found = average_of(arrays, shares(len(arrays), decay, weighting))
    assert found["kernel"].dtype == dtype
    assert found["kernel"][1] == arrays[0]["kernel"][1]
    rounding = np.spacing(np.float32(max(map(abs, values))))
    assert min(values) - rounding <= found["kernel"][0] <= max(values) + rounding
    if weighting == "exponential" and decay == 0:
        assert found["kernel"][0] == values[-1]
    assert found["count"] == len(values) - 1


class Counted(layers.Layer):
    """With a weight of whole numbers, and a seed."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.kernel = self.add_weight(shape=(6, 3))
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x, training=False):
        if training:
            self.count.assign(self.count + 1)
            x = x + keras.random.normal(keras.ops.shape(x), seed=self.seed)
        return keras.ops.softmax(keras.ops.matmul(x, keras.ops.cast(self.kernel, x.dtype)))


def counting():
    return compiled(keras.Sequential([keras.Input((6,)), Counted()]), keras.optimizers.Adam(0.1))


@pytest.mark.parametrize(
    ("weighting", "decay"), [("uniform", None), ("exponential", 0.6), ("exponential", 0.0)]
)
def test_floats_are_averaged_and_the_rest_is_the_newest(weighting, decay):
    model = counting()
    history = kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    before = run_state(model, history)
    assert kp.average_checkpoints("runs", model, [6, 2, 4], weighting, decay) == [2, 4, 6]
    after = run_state(model, history)
    each = [weights_at(step, counting) for step in (2, 4, 6)]
    weights = {None: [1 / 3] * 3, 0.6: np.array([0.36, 0.6, 1]) / 1.96, 0.0: [0, 0, 1]}[decay]
    kernel = sum(
        weight * one["layers/0/kernel"].astype("float64")
        for weight, one in zip(weights, each, strict=True)
    )
    found = weights_of(model)
    np.testing.assert_allclose(found.pop("layers/0/kernel"), kernel, rtol=1e-6)
    assert found.keys() == {"layers/0/count", "layers/0/seed/state"}
    assert found["layers/0/count"] == 6
    np.testing.assert_array_equal(found["layers/0/seed/state"], each[2]["layers/0/seed/state"])
    of_others = [name for name in before if not name.startswith("variables/layers")]
    assert_same_state(
        {name: before[name] for name in of_others}, {name: after[name] for name in of_others}
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_rounded_once(dtype):
    def half():
        return compiled(
            keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax", dtype=dtype)]),
            keras.optimizers.SGD(0.5),
        )

    model = half()
    kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    kp.average_checkpoints("runs", model)
    each = [weights_at(step, half)["layers/0/kernel"] for step in (2, 4, 6, 8)]
    assert each[0].dtype.name == dtype
    assert any((one != each[0]).any() for one in each)
    mean = np.mean([one.astype("float64") for one in each], axis=0)
    np.testing.assert_array_equal(weights_of(model)["layers/0/kernel"], mean.astype(each[0].dtype))


def two_norms(**how):
    """The first normalisation is called twice in each pass."""
    inputs = keras.Input((6,))
    shared = layers.BatchNormalization(name="shared", momentum=0.7, **how)
    hidden = layers.Dropout(0.5, name="drop")(
        layers.Concatenate()([shared(inputs), shared(layers.Dense(6)(inputs))])
    )
    hidden = layers.BatchNormalization(name="last", **how)(layers.Dense(4)(hidden))
    return compiled(
        keras.Model(inputs, layers.Dense(3, "softmax")(hidden)), keras.optimizers.Adam(0.05)
    )


def statistics_by_hand(model, batch_size, drop=0.0):
    """As torch.optim.swa_utils.update_bn: of each layer, the mean over its calls of the batch's
    mean and variance.
    """
    values = {
        layer.name: [np.float64(weight) for weight in layer.get_weights()] for layer in model.layers
    }
    (first, last), found = (
        [name for name in values if name.startswith("dense")][:2],
        {"shared": [], "last": []},
    )

    def normalised(name, x):
        found[name].append((x.mean(0), x.var(0)))
        gamma, beta = values[name][:2]
        return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * gamma + beta

    source = make_source(FEATURES, LABELS, batch_size=batch_size)
    for step in range(source.steps_per_pass):
        x = np.float64(source.batch(step)[0])
        hidden = np.concatenate(
            [
                normalised("shared", x),
                normalised("shared", x @ values[first][0] + values[first][1]),
            ],
            axis=1,
        )
        normalised("last", hidden @ values[last][0] + values[last][1])
    return {name: np.mean(pairs, axis=0) for name, pairs in found.items()}


@pytest.mark.parametrize("batch_size", [44, 11, 9])
def test_statistics_are_the_mean_over_the_batches(batch_size):
    model = two_norms()
    model.get_layer("drop").rate = 0.0
    history = kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    before = run_state(model, history)
    kp.average_checkpoints("runs", model, data=(FEATURES, LABELS), batch_size=batch_size)
    after = run_state(model, history)
    expected = statistics_by_hand(model, batch_size)
    for name, momentum in (("shared", 0.7), ("last", 0.99)):
        layer = model.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, expected[name][0], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(layer.moving_variance, expected[name][1], rtol=2e-4)
        assert layer.momentum == momentum
        assert "call" not in vars(layer)
    each = [weights_at(step, two_norms) for step in (2, 4, 6, 8)]
    for key, value in weights_of(model).items():
        if "moving" not in key and value.dtype.kind == "f":
            np.testing.assert_allclose(
                value,
                np.mean([one[key].astype("float64") for one in each], axis=0),
                rtol=1e-5,
                atol=1e-8,
            )
    kept = [name for name in before if not name.startswith("variables/layers")]
    assert_same_state({name: before[name] for name in kept}, {name: after[name] for name in kept})


def test_random_layers_draw_and_are_put_back(trained):
    """On each checkpoint alone, so that nothing is averaged but the statistics."""
    model, history = trained
    seed = next(
        key for key, variable in find_variables(model).of("weight").items() if is_seed(variable)
    )
    before = run_state(model, history)
    kp.average_checkpoints("runs", model, [4], data=FEATURES)
    after = run_state(model, history)
    expected, found = weights_at(4), weights_of(model)
    assert {key for key in found if not np.array_equal(found[key], expected[key])} == {
        "layers/1/moving_mean",
        "layers/1/moving_variance",
    }
    np.testing.assert_array_equal(found[seed], expected[seed])
    kept = [
        name
        for name in before
        if name.startswith(("random", "variables/optimizer", "variables/metrics"))
    ]
    assert_same_state({name: before[name] for name in kept}, {name: after[name] for name in kept})


def test_renormalisation():
    model = two_norms(renorm=True)
    kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    kp.average_checkpoints("runs", model, data=FEATURES, batch_size=44)
    layer, own = model.get_layer("shared"), model.layers[1]
    hidden = (
        FEATURES @ own.get_weights()[0] + own.get_weights()[1]
        if isinstance(own, layers.Dense)
        else None
    )
    expected = np.mean([FEATURES.mean(0), hidden.mean(0)], axis=0)
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.evaluate(*DATA, verbose=0)).all()


def test_statistics_of_frozen_layers_are_averaged(trained):
    model = dense()
    model.layers[1].trainable = False
    kp.average_checkpoints("runs", model)
    each = [weights_at(step) for step in (2, 4, 6, 8)]
    for key, value in weights_of(model).items():
        if value.dtype.kind == "f":
            mean = np.mean([one[key].astype("float64") for one in each], axis=0)
            np.testing.assert_allclose(value, mean, rtol=1e-6, atol=1e-8)


def test_arguments_of_an_average(trained):
    model, history = trained
    before = run_state(model, history)
    spoilt = FEATURES.copy()
    spoilt[7, 2] = np.nan
    cases = [
        (
            ValueError,
            r"has BatchNormalization, '.*' first, whose moving statistics .* Give data=",
            {"data": None},
        ),
        (ValueError, r"moving_mean of '.*' is not finite over `data`", {"data": spoilt}),
        (ValueError, "the length of `data` is not known", {"data": (batch for batch in [DATA])}),
        (Exception, "(?i)shape|dimension|incompatible", {"data": FEATURES[:, :4]}),
        (
            ValueError,
            "`weighting` must be one of 'uniform', 'exponential'",
            {"weighting": "linear"},
        ),
        (ValueError, '`decay` goes with weighting="exponential"', {"decay": 0.5}),
        (
            ValueError,
            "`decay` must be finite, at least 0 and less than 1",
            {"weighting": "exponential", "decay": 1.0},
        ),
        (kp.StoreError, "no checkpoint of step 3", {"steps": [3]}),
        (TypeError, "must be a Keras model", {"model": None}),
    ]
    for error, message, changed in cases:
        with pytest.raises(error, match=message):
            kp.average_checkpoints(**{"store": "runs", "model": model, "data": FEATURES, **changed})
        assert_same_state(before, run_state(model, history))
        assert model.layers[1].momentum == 0.99
        assert "call" not in vars(model.layers[1])
    damage(4)
    with pytest.raises(kp.DamagedCheckpointError, match="damaged checkpoint"):
        kp.average_checkpoints("runs", model, data=FEATURES)
    assert_same_state(before, run_state(model, history))
    assert kp.average_checkpoints("runs", model, [2, 6], data=FEATURES) == [2, 6]


def test_a_checkpoint_that_is_not_finite_is_named():
    model = run_of([1.0, math.nan, 2.0])
    before = weights_of(model)
    with pytest.raises(
        ValueError,
        match=r"'layers/0/kernel' is not finite in the checkpoint of step 2\. Name the other steps",
    ):
        kp.average_checkpoints("runs", model)
    assert_weights(before, model)
    kp.average_checkpoints("runs", model, [1, 3])
    assert model.get_weights()[0] == 1.5


# A new run.


def hundredth():
    return 0.01


OPTIMIZERS = {
    "Adam": dense,
    "moving average": averaged,
    "mixed precision": mixed_precision,
    "one cycle": one_cycle,
    "gradient accumulation": CASES["gradient accumulation"].make_model,
    "multi optimizer": lambda: two_halves(
        keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Nadam(0.01)
    ),
    "Adagrad": lambda: compiled(classifier(), keras.optimizers.Adagrad(0.1)),
    "Ftrl": lambda: compiled(classifier(), keras.optimizers.Ftrl(0.1)),
    "function": lambda: compiled(classifier(), keras.optimizers.Adam(hundredth)),
}


@pytest.mark.parametrize("make_model", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_fresh_optimizer_is_as_newly_made(make_model):
    """Of a model that was trained before, and of one that was not: they train alike."""
    model = make_model()
    kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])

    def end(model, start):
        assert start(model) == 4
        keras.utils.set_random_seed(3)
        history = kp.fit(
            model,
            **{**TRAIN, "x": FEATURES[::-1]},
            callbacks=[kp.Checkpoint("new", resume="never")],
        )
        return run_state(model, history)

    expected = end(
        make_model(), lambda model: kp.CheckpointStore("runs").restore(model, 4, weights_only=True)
    )
    assert_same_state(expected, end(make_model(), lambda model: kp.warm_start("runs", model, 4)))
    assert_same_state(expected, end(model, lambda model: kp.warm_start("runs", model, 4)))


def test_a_fresh_optimizer_counts_the_steps_of_what_was_thawed_from_0():
    kp.fit(frozen_body(), **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    used = frozen_body()
    kp.fit(used, **TRAIN, callbacks=[kp.GradualUnfreeze({6: "first"}, verbose=0)])
    ended = []
    for model in (used, frozen_body()):
        kp.warm_start("runs", model, 4)
        keras.utils.set_random_seed(3)
        ended.append(run_state(model, kp.fit(model, **TRAIN)))
    assert_same_state(*ended)


@pytest.mark.parametrize(
    "make_model", [dense, mixed_precision, one_cycle, OPTIMIZERS["multi optimizer"]]
)
def test_an_optimizer_that_is_kept(make_model):
    model = make_model()
    kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    expected = make_model()
    kp.CheckpointStore("runs").restore(expected, 6)
    for one in (model, make_model()):
        assert kp.warm_start("runs", one, 6, "keep") == 6
        assert_same_state(
            copy_values(find_variables(expected).of("weight", "optimizer")),
            copy_values(find_variables(one).of("weight", "optimizer")),
        )


@pytest.mark.parametrize(("then", "now"), [("norm", "first"), ("first", "norm")])
def test_a_kept_optimizer_trains_what_is_trained_now(then, now):
    """It is built by what puts the checkpoint back, and another part is frozen than in the
    checkpoint's run.
    """
    model = frozen_body()
    kp.freeze(model, then)
    kp.fit(model, **TRAIN, callbacks=[kp.Checkpoint("runs")])
    model = frozen_body()
    kp.freeze(model, now)
    kp.warm_start("runs", model, optimizer="keep")
    assert [id(one) for one in _keras.trained_variables(model.optimizer)] == [
        id(one) for one in model.trainable_variables
    ]
    new = find_variables(model).first_steps()["optimizer"]
    assert {key.rpartition("/")[0] for key in new} == {f"layers/{['first', 'norm'].index(then)}"}
    kp.fit(model, **TRAIN)


EARLIER = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
ANOTHER = keras.optimizers.schedules.PolynomialDecay(0.3, 8)


class Rates(keras.callbacks.Callback):
    """Notes the rate of the next step at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(rate_of(self.model))

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


@pytest.mark.parametrize(
    ("optimizer", "schedule", "expected"),
    [
        ("fresh", EARLIER, [0.1 * 0.5**step for step in (2, 4)]),
        ("keep", EARLIER, [0.1 * 0.5**step for step in (8, 10)]),
        (
            "keep",
            kp.schedules.Join([EARLIER, ANOTHER], [6]),
            [0.0001 + 0.2999 * (1 - step / 8) for step in (2, 4)],
        ),
    ],
    ids=["fresh", "kept", "joined"],
)
def test_the_plan_begins_anew_and_a_kept_schedule_goes_on(optimizer, schedule, expected):
    kp.fit(adam(EARLIER), **TRAIN, callbacks=[kp.Checkpoint("runs", keep_last=4)])
    model, seen = adam(schedule), Rates()
    kp.warm_start("runs", model, 6, optimizer)
    kp.fit(
        model, **{**TRAIN, "total_steps": 4, "epochs": 2}, callbacks=[seen, kp.Checkpoint("new")]
    )
    assert kp.CheckpointStore("new").steps() == [2, 4]
    assert seen.rates == pytest.approx(expected, rel=1e-5)


class Halving(keras.callbacks.Callback):
    """Moves the rate."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) / 2

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def rate_of(model):
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def adam(rate=0.5):
    return compiled(classifier(), keras.optimizers.Adam(rate))


def test_the_rate_is_the_script_s_unless_it_is_kept(capsys):
    model = adam()
    kp.fit(model, **TRAIN, callbacks=[Halving(), kp.Checkpoint("runs", keep_last=4)])
    assert rate_of(model) == 0.5 / 16
    for one in (model, adam()):
        kp.warm_start("runs", one, 4)
        assert rate_of(one) == 0.5
        kp.warm_start("runs", one, 4, "keep")
        assert rate_of(one) == 0.5 / 4
    assert "learning_rate" not in capsys.readouterr().out
    # The script says another one.
    other = adam(0.25)
    kp.warm_start("runs", other, 4, "keep")
    assert rate_of(other) == 0.25
    assert "optimizer.learning_rate is 0.25, it was 0.5." in capsys.readouterr().out


def test_a_rate_that_is_set_after_a_run_is_the_script_s():
    model = adam()
    kp.fit(model, **TRAIN, callbacks=[Halving(), kp.Checkpoint("runs", keep_last=4)])
    model.optimizer.learning_rate = 0.125
    kp.warm_start("runs", model, 4)
    assert rate_of(model) == 0.125


@pytest.mark.parametrize("kept", ["fresh", "keep"])
def test_the_new_run_resumes_exactly(kept):
    """Also where the run before it was made in the same process."""
    model = adam()
    kp.fit(model, **TRAIN, callbacks=[Halving(), kp.Checkpoint("runs", keep_last=4)])

    def new(model, folder, steps):
        kp.warm_start("runs", model, 8, kept)
        keras.utils.set_random_seed(3)
        arguments = {
            **TRAIN,
            "y": LABELS[::-1],
            "total_steps": steps,
            "epochs": None,
            "steps_per_epoch": 2,
        }
        return model, kp.fit(model, **arguments, callbacks=[Halving(), kp.Checkpoint(folder)])

    expected = run_state(*new(adam(), "whole", 8))
    new(model, "cut", 4)
    assert_same_state(expected, run_state(*new(adam(), "cut", 8)))


def test_arguments_of_a_warm_start(trained):
    model, history = trained
    unknown = adam()
    unknown.fit(FEATURES, LABELS, verbose=0)
    unknown.optimizer.get_config = lambda: {"name": "of no other arguments", "power": 3}
    cases = [
        (ValueError, "`optimizer` must be one of 'fresh', 'keep'", {"optimizer": "new"}),
        (kp.StoreError, "no checkpoint of step 3", {"step": 3}),
        (kp.StoreError, "there is no checkpoint", {"store": "nothing"}),
        (ValueError, "is not compiled", {"model": classifier(), "optimizer": "keep"}),
        (ValueError, "is not built", {"model": keras.Sequential([layers.Dense(3)])}),
        (
            ValueError,
            "the Adam at 'optimizer' cannot be made anew from its configuration",
            {"model": unknown},
        ),
    ]
    before = run_state(model, history)
    for error, message, changed in cases:
        with pytest.raises(error, match=message):
            kp.warm_start(**{"store": "runs", "model": model, **changed})
        assert_same_state(before, run_state(model, history))
    damage(8)
    with pytest.raises(kp.DamagedCheckpointError):
        kp.warm_start("runs", model, 8)
    assert_same_state(before, run_state(model, history))
    # The newest sound one; and a model that is not compiled has weights, too.
    assert kp.warm_start("runs", model) == 6
    plain = classifier(
        layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.3, seed=5)
    )
    assert kp.warm_start("runs", plain) == 6
    assert_weights(weights_at(6), plain)


def test_layers_inside_layers_are_found():
    inner = keras.Sequential([keras.Input((6,)), layers.BatchNormalization(name="deep")])
    model = classifier(inner, layers.Dense(4), layers.BatchNormalization(trainable=False))
    assert "deep" in [layer.name for layer in _keras.all_layers(model)]
    with pytest.raises(ValueError, match=r"BatchNormalization, '.*deep' first"):
        kp.average_checkpoints("runs", model)
