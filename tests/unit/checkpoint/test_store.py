"""kp.CheckpointStore.restore: a checkpoint put into a model by hand."""

import importlib.metadata

import keras
import numpy as np
import pytest

import keras_patterns as kp

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")


def make_model(width=3, compiled=True):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.fixture
def trained():
    """A trained model and its weights after each of its two epochs."""
    model, weights = make_model(), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(model.get_weights())
    )
    arguments = {"batch_size": 8, "epochs": 2, "seed": 0, "verbose": 0}
    kp.fit(model, X, X.sum(1), callbacks=[keep, kp.Checkpoint("runs")], **arguments)
    return model, weights


def assert_equal(expected, found):
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_newest_and_any_other_step_are_put_back(trained):
    store, model = kp.CheckpointStore("runs"), make_model()
    assert store.restore(model) == 8
    assert_equal(model.get_weights(), trained[1][1])
    assert store.restore(model, step=4) == 4
    assert_equal(model.get_weights(), trained[1][0])


def test_the_optimizer_goes_with_it_where_the_model_is_compiled(trained):
    model = make_model()
    kp.CheckpointStore("runs").restore(model)
    expected = [keras.ops.convert_to_numpy(v.value) for v in trained[0].optimizer.variables]
    assert_equal(expected, [keras.ops.convert_to_numpy(v.value) for v in model.optimizer.variables])
    model = make_model()
    kp.CheckpointStore("runs").restore(model, weights_only=True)
    assert not model.optimizer.built
    model = make_model(compiled=False)
    kp.CheckpointStore("runs").restore(model)
    assert_equal(model.get_weights(), trained[1][1])


def test_another_model_is_refused_and_stays_as_it_is(trained):
    model = make_model(width=5)
    before = model.get_weights()
    with pytest.raises(
        kp.StateMismatchError,
        match=r"layers/0/kernel \(.*\): shape \(4, 3\) in the checkpoint, \(4, 5\) in the model",
    ):
        kp.CheckpointStore("runs").restore(model)
    assert_equal(before, model.get_weights())


def test_a_step_that_is_not_there_is_named_with_those_that_are(trained):
    with pytest.raises(
        kp.StoreError, match=r"no checkpoint of step 5\. The newest run has \[4, 8\]"
    ):
        kp.CheckpointStore("runs").restore(make_model(), step=5)
    with pytest.raises(kp.StoreError, match="there is no checkpoint"):
        kp.CheckpointStore("nothing").restore(make_model())


def test_a_step_is_one_of_the_newest_run(trained):
    arguments = {"batch_size": 8, "total_steps": 2, "epochs": 1, "seed": 0, "verbose": 0}
    kp.fit(
        make_model(), X, X.sum(1), callbacks=[kp.Checkpoint("runs", resume="never")], **arguments
    )
    store = kp.CheckpointStore("runs")
    assert store.restore(make_model(), step=2) == 2
    with pytest.raises(
        kp.StoreError, match=r"there is no checkpoint of step 4.*newest run has \[2\]"
    ):
        store.restore(make_model(), step=4)


def test_a_layer_that_keeps_what_it_computes_of_its_weights_computes_it_anew():
    """Keras's Normalization holds its mean in the shape of the input, beside the variable."""

    def normalized():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Normalization(), keras.layers.Dense(1)]
        )
        model.compile("adam", "mse")
        return model

    model, other = normalized(), normalized()
    model.layers[0].adapt(X * 5 + 3)
    kp.fit(model, X, X.sum(1), batch_size=8, seed=0, verbose=0, callbacks=[kp.Checkpoint("runs")])
    kp.CheckpointStore("runs").restore(other)
    assert_equal([model.predict(X, verbose=0)], [other.predict(X, verbose=0)])
    other = normalized()
    kp.select_checkpoint("runs", other, (X, X.sum(1)), verbose=0)
    assert_equal([model.predict(X, verbose=0)], [other.predict(X, verbose=0)])


DATA = (X, X.sum(1))


def test_a_ranking_is_the_table_of_the_selection_and_leaves_the_model_as_it_is(trained):
    store, model, other = kp.CheckpointStore("runs"), make_model(), make_model()
    before = model.get_weights()
    ranking = store.rank(model, DATA, verbose=0)
    assert ranking == kp.select_checkpoint("runs", other, DATA, verbose=0)
    assert_equal(before, model.get_weights())


def test_errors_of_a_ranking_name_the_method(trained):
    with pytest.raises(TypeError, match=r"CheckpointStore\.rank: `model` must be a Keras model"):
        kp.CheckpointStore("runs").rank("model", DATA)


@pytest.mark.parametrize(
    ("method", "function"),
    [
        (
            lambda model: kp.CheckpointStore("runs").load_best(
                model, DATA, "loss", "min", batch_size=8, steps=[4], verbose=0
            ),
            lambda model: kp.select_checkpoint(
                "runs", model, DATA, "loss", "min", batch_size=8, steps=[4], verbose=0
            ),
        ),
        (
            lambda model: kp.CheckpointStore("runs").average(model, [4, 8], "exponential", 0.5),
            lambda model: kp.average_checkpoints("runs", model, [4, 8], "exponential", 0.5),
        ),
        (
            lambda model: kp.CheckpointStore("runs").warm_start(model, 4, "keep"),
            lambda model: kp.warm_start("runs", model, 4, "keep"),
        ),
    ],
    ids=["load_best", "average", "warm_start"],
)
def test_a_method_of_the_store_does_as_the_function(trained, method, function):
    one, other = make_model(), make_model()
    assert method(one) == function(other)
    assert_equal(one.get_weights(), other.get_weights())
    assert_equal(
        [keras.ops.convert_to_numpy(v.value) for v in one.optimizer.variables],
        [keras.ops.convert_to_numpy(v.value) for v in other.optimizer.variables],
    )


def test_an_optimizer_that_had_made_no_step_is_no_news(capsys):
    store = kp.CheckpointStore("runs")
    store.save(make_model(), 1)
    model = make_model()
    model.optimizer.build(model.trainable_variables)
    store.restore(model)
    assert capsys.readouterr().out == ""


def test_a_save_looks_up_no_version_that_an_earlier_one_has(monkeypatch):
    store = kp.CheckpointStore("runs")
    store.save(make_model(), 1)
    own = kp.__version__

    def refuse(name):
        raise AssertionError(f"the version of {name} is looked up again")

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", refuse)
    entry = store.save(make_model(), 2)
    assert entry.manifest.made_with["keras_patterns"] == own


def test_where_the_averages_of_an_optimizer_are_is_said(capsys):
    """`fit` leaves them in the model, and the training goes on from other weights."""
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    how = {"batch_size": 8, "epochs": 2, "seed": 0, "verbose": 0}
    kp.fit(model, X, X.sum(1), callbacks=[kp.Checkpoint("runs")], **how)
    assert "in the checkpoints, the weights are those that the training" in capsys.readouterr().out
    other = make_model()
    other.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    kp.CheckpointStore("runs").restore(other)
    assert "finalize_variable_values(model.trainable_variables)" in capsys.readouterr().out
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])
    other.optimizer.finalize_variable_values(other.trainable_variables)
    assert_equal(model.get_weights(), other.get_weights())


def test_steps_that_are_no_list_are_refused(trained):
    for function in (kp.average_checkpoints, kp.select_checkpoint):
        given = {"data": (X, X.sum(1))} if function is kp.select_checkpoint else {}
        with pytest.raises(TypeError, match="`steps` must list steps"):
            function("runs", trained[0], steps=6, **given)
