"""Loud: a resume says what its script changed, and refuses what would make it another run."""

import shutil
import signal

import keras
import numpy as np
import pytest
from children import check_end, run
from keras import layers
from killers import KillAt, Killed
from models import regressor

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = RNG.normal(size=(40, 1)).astype("float32")


def make_model(units=5, optimizer=None):
    return regressor(
        layers.Dense(units, "relu"), optimizer=optimizer or keras.optimizers.Adam(0.01)
    )


def train(model=None, callbacks=(), x=X, y=Y, resume="auto", **arguments):
    """Two epochs of five steps, unless it is said otherwise; returns the model and its History."""
    model = model or make_model()
    arguments = {"batch_size": 8, "epochs": 2, "seed": 1, "verbose": 0, **arguments}
    checkpoint = kp.Checkpoint("run", every_steps=1, keep_last=None, resume=resume)
    return model, kp.fit(model, x, y, **arguments, callbacks=[*callbacks, checkpoint])


def crash(callbacks=()):
    """A run that ends after six of its ten steps."""
    with pytest.raises(Killed):
        train(callbacks=[*callbacks, KillAt(6)])


@pytest.fixture
def told(capfd):
    """What was printed since, without the colours and the bars."""

    def read():
        return [
            line.removeprefix("keras-patterns: ")
            for line in capfd.readouterr().out.splitlines()
            if line
        ]

    return read


def test_nothing(told):
    crash()
    told()
    train()
    assert told() == [
        "going on from step 6 of 10: the newest checkpoint in run.",
        "KillAt is gone, and its state with it.",
    ]


def test_more_epochs(told):
    train()
    told()
    model, history = train(epochs=3)
    assert told() == [
        "going on from step 10 of 15: the newest checkpoint in run.",
        "total_steps is 15, it was 10.",
    ]
    assert history.epoch == [0, 1, 2]
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 15


def test_the_checkpoint_keeps_what_each_process_changed():
    crash()
    train(epochs=3)
    processes = kp.CheckpointStore("run").latest().manifest.made_with["processes"]
    assert [(one["first_step"], one["last_step"], one["changed"]) for one in processes] == [
        (0, 6, []),
        (6, 15, ["total_steps is 15, it was 10.", "KillAt is gone, and its state with it."]),
    ]


def test_a_longer_run_is_the_run_that_was_longer_from_the_start(tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    expected = run_state(*train(epochs=3))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    keras.utils.set_random_seed(0)
    train()
    keras.utils.set_random_seed(1)
    assert_same_state(expected, run_state(*train(epochs=3)))


def test_more_steps_keep_the_length_of_an_epoch(told):
    train(epochs=None, total_steps=8, steps_per_epoch=4)
    told()
    _, history = train(epochs=2, total_steps=14)
    assert told()[1] == "total_steps is 14, it was 8."
    assert [history.epoch, history.params["steps"]] == [[0, 1, 2, 3], 2]


def test_fewer_steps_than_are_done():
    train()
    with pytest.raises(
        kp.ResumeRefusedError,
        match=r"has done 10 steps, and the script asks for 5 in all.*another folder",
    ):
        train(epochs=1)


def test_a_learning_rate(told):
    crash()
    told()
    model, _ = train(make_model(optimizer=keras.optimizers.Adam(0.5)))
    assert "optimizer.learning_rate is 0.5, it was" in "\n".join(told())
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == 0.5


class Scale(layers.Layer):
    """Of a person's own, and with a layer inside."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.inside = layers.Dense(4, activation="linear")

    def call(self, x):
        return self.inside(x) * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Untold(Scale):
    def get_config(self):
        raise NotImplementedError("it does not tell")


class Whole(keras.Model):
    """Makes layers of its own; and an attention that makes layers when it is built."""

    def __init__(self, rate=0.1):
        super().__init__()
        self.scale = Scale(2.0)
        self.parts = [layers.Dropout(rate), layers.MultiHeadAttention(1, 2), layers.Dense(1)]

    def call(self, x):
        h = self.parts[0](self.scale(x))[:, None]
        return self.parts[2](self.parts[1](h, h)[:, 0])


def with_settings(**changed):
    keras.utils.set_random_seed(0)
    own = changed.get("own", Scale)(changed.get("factor", 2.0))
    own.inside.activation = keras.activations.get(changed.get("inside", "linear"))
    model = keras.Sequential(
        [
            own,
            layers.Dense(
                5,
                changed.get("activation", "relu"),
                dtype=changed.get("dtype"),
                kernel_regularizer=changed.get("regularizer"),
                kernel_initializer=changed.get("initializer", "glorot_uniform"),
            ),
            keras.Sequential([layers.Dropout(changed.get("rate", 0.1), seed=changed.get("seed"))]),
            layers.Dense(1, trainable=changed.get("trainable", True)),
            *([layers.Activation("linear")] if changed.get("more") else []),
        ]
    )
    weights = {"loss_weights": changed["weights"]} if "weights" in changed else {}
    model.compile(keras.optimizers.Adam(0.01), changed.get("loss", "mse"), **weights)
    return model


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"initializer": "he_normal"}, []),
        ({"seed": 3}, []),
        ({"loss": "mae"}, ["model.loss is 'mae', it was 'mse'"]),
        ({"loss": keras.losses.Huber(0.5)}, ["model.loss is 'Huber(reduction=sum_over_batch_size"]),
        ({"loss": lambda y, p: keras.ops.mean((y - p) ** 4)}, ["model.loss is '<lambda>', it was"]),
        ({"weights": 2.0}, ["model.loss_weights is '2.0', it was 'None'"]),
        ({"rate": 0.5}, ["model.layers[4].rate is 0.5, it was 0.1"]),
        ({"activation": "tanh"}, ["model.layers[2].activation is 'tanh', it was 'relu'"]),
        ({"inside": "tanh"}, ["model.layers[1].activation is 'tanh', it was 'linear'"]),
        ({"factor": 3.0}, ["model.layers[0].factor is 3.0, it was 2.0"]),
        (
            {"dtype": "mixed_bfloat16"},
            ["model.layers[2].dtype is 'mixed_bfloat16', it was 'float32'"],
        ),
        (
            {"regularizer": keras.regularizers.L2(0.5)},
            ["kernel_regularizer is 'L2(l2=0.5)', it was"],
        ),
        ({"trainable": False}, ["model.layers[5].trainable is False, it was True"]),
        ({"more": True}, ["model has 7 layers, it had 6"]),
        ({"own": Untold}, ["model.layers[0].class is 'Untold', it was 'Scale'"]),
    ],
)
def test_a_setting_of_a_layer_or_the_loss(changed, said, told):
    with pytest.raises(Killed):
        train(with_settings(), callbacks=[KillAt(6)])
    told()
    train(with_settings(**changed))
    lines = [line for line in told() if line.startswith("model")]
    assert len(lines) >= len(said)
    assert all(part in line for part, line in zip(said, lines, strict=False))
    assert said or not lines


def connected(*, swap=False, again=False, training=None, factor=2.0, axis=1, more=False):
    """A functional model whose layers, shapes and settings are always the same."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    first, second = layers.Dense(4), layers.Dense(4)
    halves = [first(inputs), second(inputs)]
    halves = [halves[0], halves[1] * factor]
    both = layers.Concatenate()(halves[::-1] if swap else halves)
    normal = layers.BatchNormalization()(both, training=training)
    if more:
        normal = keras.ops.relu(normal)
    cut = keras.ops.flip(normal, axis=axis)
    shared = (first if again else second)(cut[:, :4])
    model = keras.Model(inputs, layers.Dense(1)(shared))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"swap": True}, "on is"),
        ({"again": True}, "layer is"),
        ({"training": False}, "training=False"),
        ({"factor": 3.0}, "3.0"),
        ({"axis": 0}, "axis is 0, it was 1"),
        ({"more": True}, "model has 10 calls, it had 9"),
    ],
)
def test_a_connection_of_layers(changed, said, told):
    with pytest.raises(Killed):
        train(connected(), callbacks=[KillAt(6)])
    told()
    train(connected(**changed))
    lines = [line for line in told() if line.startswith("model")]
    assert any(said in line for line in lines) if said else not lines


def thousand(y, predicted):
    return 1000 + 0 * predicted


def test_running_means_of_other_metrics_begin_afresh(told):
    """The sums are kept by the metric's place. With a rate of 0, all epochs have the same mean."""

    def with_metrics(*metrics):
        model = make_model()
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=list(metrics))
        return model

    keras.utils.set_random_seed(1)
    with pytest.raises(Killed):
        train(with_metrics(thousand), callbacks=[KillAt(6)])
    told()
    _, history = train(with_metrics("mae", keras.metrics.MeanSquaredError()), epochs=3)
    assert [line for line in told() if line.startswith("model")] == [
        "model.metrics is '[mae, MeanSquaredError()]', it was '[thousand]'."
    ]
    assert all(value < 10 for value in history.history["mae"])
    # The loss, which is as it was, goes on inside of the epoch.
    first, second, third = history.history["loss"]
    assert first == pytest.approx(second) == pytest.approx(third)


def test_the_same_model_again_is_as_it_was(told):
    model = Whole()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    train(model, epochs=1)
    told()
    train(model, epochs=2)
    assert not [line for line in told() if line.startswith("model")]
    model = Whole(rate=0.2)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    train(model, epochs=3)
    assert [line for line in told() if line.startswith("model")] == [
        "model.layers[2].rate is 0.2, it was 0.1."
    ]


def test_of_many_settings_that_are_others_some_are_named(told):
    def deep(dtype):
        return regressor(*[layers.Dense(4, dtype=dtype) for _ in range(8)])

    train(deep("float32"), epochs=1)
    told()
    train(deep("mixed_bfloat16"))
    lines = [line for line in told() if "model" in line]
    assert len(lines) == 6
    assert lines[-1] == "3 more settings of the model are others."


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"validation_data": (X[:9] + 1, Y[:9])}, "validation.arrays.x.digest is"),
        ({"validation_data": (X[:8], Y[:8])}, "validation.arrays.x.shape is [8, 4], it was [9, 4]"),
        ({"validation_freq": 2}, "validation.validation_freq is 2, it was 1"),
        ({"validation_freq": (1, np.int64(2))}, "validation.validation_freq is [1, 2], it was 1"),
        ({"validation_steps": np.int64(1)}, "validation.validation_steps is 1, it was None"),
        ({"validate_every_steps": 3}, "validation.validate_every_steps is 3, it was None"),
        ({"validation_data": None}, "validation is gone"),
    ],
)
def test_another_validation(changed, said, told):
    with pytest.raises(Killed):
        train(callbacks=[KillAt(6)], validation_data=(X[:9], Y[:9]))
    told()
    train(**{"validation_data": (X[:9], Y[:9]), **changed})
    lines = [line for line in told() if line.startswith("validation")]
    assert lines[0].startswith(said) if said else not lines


def test_a_validation_on_objects_is_refused_before_the_first_step():
    with pytest.raises(TypeError, match=r"`validation_data/y` is no array of numbers.*float in an"):
        train(validation_data=(X, Y.astype(object)))
    assert kp.CheckpointStore("run").steps() == []


def test_a_validation_that_is_new(told):
    crash()
    told()
    train(validation_data=(X, Y))
    assert "validation is new." in told()


def test_another_setting_of_the_optimizer_keeps_the_moments(told):
    crash()
    before = kp.CheckpointStore("run").read(kp.CheckpointStore("run").latest()).tensors
    told()
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if not seen:
                seen.update(
                    {
                        v.path: keras.ops.convert_to_numpy(v.value).copy()
                        for v in self.model.optimizer.variables
                    }
                )

    train(make_model(optimizer=keras.optimizers.Adam(0.01, beta_1=0.8)), callbacks=[Look()])
    assert "optimizer.beta_1 is 0.8, it was 0.9." in told()
    momentum = next(value for path, value in seen.items() if path.endswith("kernel_momentum"))
    assert np.array_equal(momentum, before["variables/optimizer/momentums[layers/0/kernel]"])
    assert np.any(momentum)


def test_another_optimizer(told):
    """It does not take the average of Adam's gradients for its steps: with a rate of 0, nothing
    moves.
    """
    crash()
    told()
    saved = make_model()
    kp.CheckpointStore("run").restore(saved, weights_only=True)
    model, _ = train(make_model(optimizer=keras.optimizers.SGD(0.0, momentum=0.9)))
    lines = told()
    assert "optimizer.class is 'SGD', it was 'Adam'." in lines
    assert (
        "4 variables of the optimizer are new and start fresh, optimizer/momentums[layers/0/bias] "
        "first." in lines
    )
    assert any("variables of the optimizer are gone" in line for line in lines)
    assert all(map(np.array_equal, model.get_weights(), saved.get_weights()))


@pytest.mark.parametrize(
    ("optimizer", "kept"), [("AdamW", True), ("Layerwise", True), ("Nadam", True), ("Lion", False)]
)
def test_optimizers_whose_slots_hold_the_same(optimizer, kept, told):
    crash()
    told()
    model = make_model()
    if optimizer == "Layerwise":
        new = kp.optimizers.with_layer_rates(kp.optimizers.with_one_cycle("adam", 0.01, 10), model)
    else:
        new = getattr(keras.optimizers, optimizer)(0.01)
    model.compile(new, "mse")
    train(model)
    assert any("start fresh, optimizer/momentums" in line for line in told()) is not kept


def test_an_average_that_is_new_begins_as_the_weight():
    crash()
    saved = make_model()
    kp.CheckpointStore("run").restore(saved, weights_only=True)
    model, _ = train(make_model(optimizer=keras.optimizers.Adam(0.0, use_ema=True)))
    for average, weight in zip(model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_allclose(average, weight, rtol=1e-6)


def test_a_callback_added_removed_and_reconfigured(told):
    stopping = keras.callbacks.EarlyStopping
    crash(
        callbacks=[
            stopping("loss", patience=3),
            keras.callbacks.ReduceLROnPlateau("loss", patience=2),
        ]
    )
    told()
    added = keras.callbacks.TerminateOnNaN()
    again = stopping("loss", patience=7)
    train(callbacks=[again, added])
    lines = told()
    assert "EarlyStopping.patience is 7, it was 3." in lines
    assert "TerminateOnNaN is new, and starts here." in lines
    assert "ReduceLROnPlateau is gone, and its state with it." in lines
    assert again.patience == 7
    assert again.best < np.inf


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 2}, "seed: 1 (seed=) in the checkpoint, 2 (seed=) in the script"),
        ({"batch_size": 10}, "data.batch_size is 10, it was 8"),
        ({"shuffle": False}, "data.shuffle is False, it was True"),
        ({"x": X + 1}, "data"),
        ({"x": X[:-1], "y": Y[:-1]}, "data.examples is 39, it was 40"),
    ],
)
def test_other_batches(changed, named):
    crash()
    steps = kp.CheckpointStore("run").steps()
    with pytest.raises(kp.ResumeRefusedError) as caught:
        train(**changed)
    message = str(caught.value)
    assert message.startswith(
        "The run in run cannot go on with this script: its batches would be others.\n  "
    )
    assert named in message
    assert 'resume="weights"' in message
    assert "another folder" in message
    assert kp.CheckpointStore("run").steps() == steps


def order(folder):
    """The seed of the run in a folder, and where it comes from."""
    identity = kp.CheckpointStore(folder).find().record.identity
    return identity.seed, identity.seed_from


def test_set_random_seed_fixes_the_order_of_the_data(told):
    keras.utils.set_random_seed(3)
    _, by_global = train(seed=None)
    assert not [line for line in told() if "drawn" in line]
    assert order("run") == (3, "set_random_seed")
    shutil.rmtree("run")
    keras.utils.set_random_seed(3)
    _, by_argument = train(seed=3)
    assert by_global.history == by_argument.history


def test_another_value_of_set_random_seed_is_refused_on_a_resume():
    keras.utils.set_random_seed(3)
    with pytest.raises(Killed):
        train(seed=None, callbacks=[KillAt(6)])
    keras.utils.set_random_seed(4)
    with pytest.raises(kp.ResumeRefusedError, match=r"seed: 3 \(set_random_seed\) in the check"):
        train(seed=None)
    # Not called at all, as in a notebook that looks at a run, it asks for nothing.
    keras.utils.clear_session(free_memory=False)
    train(seed=None)
    assert order("run") == (3, "set_random_seed")


def test_a_seed_that_was_given_or_drawn_is_taken_from_the_checkpoint(told):
    keras.utils.clear_session(free_memory=False)
    with pytest.raises(Killed):
        train(seed=None, callbacks=[KillAt(6)], verbose=2)
    drawn, origin = order("run")
    assert origin == "drawn"
    assert f"seed={drawn} was drawn" in told()[0]
    keras.utils.set_random_seed(4)
    train(seed=None)
    assert order("run") == (drawn, "drawn")


FOLDS = """
import os, signal, sys, keras, numpy as np, keras_patterns as kp

x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
keras.utils.set_random_seed(1)


class KillIn(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if sys.argv[1:] == [str(fold)]:
            os.kill(os.getpid(), signal.SIGKILL)


for fold in range(3):
    keras.utils.clear_session(free_memory=False)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    run = kp.Checkpoint(f"fold-{fold}", every_steps=3)
    history = kp.fit(model, x, x[:, :1], batch_size=8, verbose=0, callbacks=[KillIn(), run])
    seed = kp.CheckpointStore(f"fold-{fold}").find().record.identity.seed
    print(seed, history.history, model.get_weights()[0].tolist())
"""


@pytest.mark.once
def test_folds_that_forget_the_seed_go_on_to_the_same_end(tmp_path):
    """`clear_session` has Keras forget the value of `set_random_seed`."""
    script = tmp_path / "folds.py"
    script.write_text(FOLDS, encoding="utf-8")
    straight = run(tmp_path / "straight", script=script)
    check_end(straight, 0)
    check_end(run(tmp_path / "killed", 1, script=script), -signal.SIGKILL)
    killed = run(tmp_path / "killed", script=script)
    said = [
        [line for line in one.stdout.splitlines() if "patterns" not in line]
        for one in (straight, killed)
    ]
    assert said[0] == said[1]
    assert len({line.split()[0] for line in said[0]}) == len(said[0]) == 3


def test_the_way_out_begins_anew_from_the_weights(told):
    crash()
    told()
    train(seed=2, resume="weights")
    assert told() == [
        "starting from step 0 with the weights at step 6 of the checkpoint run-1-step-000000006 in "
        "run, because of "
        'resume="weights".'
    ]
    store = kp.CheckpointStore("run")
    assert (store.latest().position.run, store.steps()[-1]) == (2, 10)


def test_another_model():
    crash()
    steps = kp.CheckpointStore("run").steps()
    model = make_model(units=6)
    before = [keras.ops.convert_to_numpy(v.value).copy() for v in model.variables]
    with pytest.raises(kp.StateMismatchError) as caught:
        train(model)
    message = str(caught.value)
    assert message.startswith(
        "The checkpoint is of another model. The first differences:\n  layers/0/"
    )
    assert "shape (4, 5) in the checkpoint, (4, 6) in the model" in message
    assert all(
        np.array_equal(a, keras.ops.convert_to_numpy(b.value))
        for a, b in zip(before, model.variables, strict=False)
    )
    assert kp.CheckpointStore("run").steps() == steps


def test_a_finished_run_returns_its_history(told):
    keras.utils.set_random_seed(0)
    first = run_state(*train())
    told()
    keras.utils.set_random_seed(1)
    again = run_state(*train())
    assert told() == ["the run in run is finished at step 10 of 10; there is nothing to train."]
    assert_same_state(first, again)


def test_a_run_that_stopped_early_is_finished(told):
    def stopping():
        return [keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=1)]

    _, first = train(epochs=6, callbacks=stopping())
    told()
    _, again = train(epochs=6, callbacks=stopping())
    assert told() == [
        "the run in run was stopped at step 10 of 30 (by EarlyStopping); there is nothing to train."
    ]
    assert again.history == first.history
    assert again.epoch == first.epoch == [0, 1]


def test_a_notebook_cell_run_again(told):
    """The same objects again, and then new ones under other automatic names."""
    crash()
    model = make_model()
    assert model.layers[0].name != make_model().layers[0].name
    told()
    train(model)
    assert told()[0] == "going on from step 6 of 10: the newest checkpoint in run."
    # Its end is not taken for a start: the cell would train nothing.
    with pytest.raises(ValueError, match="This call asks for 10 in all, and would train nothing"):
        train(model)
    _, history = train(make_model())
    assert told() == ["the run in run is finished at step 10 of 10; there is nothing to train."]
    assert history.epoch == [0, 1]
