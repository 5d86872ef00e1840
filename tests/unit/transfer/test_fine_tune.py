"""`kp.fine_tune`: each step against fastai's and by hand, kills, what becomes of the model,
errors."""

import keras
import numpy as np
import pytest
from children import Folder
from keras import layers, optimizers
from places import SUPPORT, oracle
from run_fine_tune import HOW, LOSS, RECIPE, pretrained
from sklearn.datasets import load_digits

import keras_patterns as kp
from keras_patterns.optimizers import rate_factor_of
from keras_patterns.testing import assert_same_state, run_state

ORACLES = oracle("fine_tune.json")["rows"]
GROUPS = ("a", "b", "c")


def ours(row):
    """The arguments of `kp.fine_tune` that are those of a row."""
    asked = dict(row["arguments"])
    ratio = {"lowest": 1 / asked.pop("lr_mult")} if "lr_mult" in asked else {}
    names = {"base_lr": "base_rate", "div": "div_factor", "pct_start": "warmup_fraction"}
    return {"head_steps": row["head_steps"], "all_steps": row["all_steps"], **ratio} | {
        names.get(name, name): value for name, value in asked.items()
    }


class Steps(keras.callbacks.Callback):
    """What the live optimizer is about to do, before each step."""

    def __init__(self):
        super().__init__()
        self.trained, self.rates, self.momenta = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        optimizer, kernels = model.optimizer, [model.get_layer(name).kernel for name in GROUPS]
        number = keras.ops.convert_to_numpy
        rate = float(number(optimizer.learning_rate))
        self.trained.append([kernel.trainable for kernel in kernels])
        self.rates.append([rate * rate_factor_of(optimizer, kernel) for kernel in kernels])
        self.momenta.append(float(number(optimizer.momentum_schedule(optimizer.iterations))))


def chain(optimizer="adam", **how):
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4, name=name) for name in GROUPS)])
    model.compile(optimizer, "mse", **how)
    return model


X = np.random.default_rng(2).normal(size=(8, 4)).astype("float32")
QUIET = {"seed": 0, "verbose": 0}
DATA = {"x": X, "y": X, "batch_size": 4, **QUIET}


# The recipe.


@pytest.mark.parametrize("row", ORACLES, ids=lambda row: f"{row['head_steps']}, {row['all_steps']}")
def test_the_rates_and_momenta_of_fastai_at_each_step(row):
    steps, model = Steps(), chain("sgd", run_eagerly=True)
    kp.fine_tune(model, **DATA, **ours(row), callbacks=steps)
    assert steps.trained == row["trained"]
    np.testing.assert_allclose(steps.momenta, row["momenta"], rtol=1e-6)
    moving = np.array(row["trained"])
    np.testing.assert_allclose(
        np.array(steps.rates)[moving], np.array(row["rates"])[moving], rtol=1e-6
    )


def test_the_compiled_steps_by_hand():
    """Of a loss whose gradient is the same at each step, with fastai's rates and momenta."""
    row = ORACLES[2]
    inputs = keras.Input((2,))
    outputs = layers.Concatenate()(
        [layers.Dense(1, use_bias=False, name=name)(inputs) for name in GROUPS]
    )
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizers.SGD(7.0, momentum=0.9),
        lambda y, prediction: keras.ops.sum(y * prediction, axis=-1),
    )
    x, y, found = np.array([[0.5, -2.0]]), np.array([[1.0, -3.0, 2.0]]), [model.get_weights()]
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(model.get_weights())
    )
    kp.fine_tune(
        model,
        x,
        y,
        **ours(row),
        head="c",
        groups=["a", "b", "c"],
        steps_per_epoch=1,
        seed=0,
        verbose=0,
        callbacks=[record],
    )
    gradients = [x.T * slope for slope in y[0]]
    expected, velocities = [weight.astype("float64") for weight in found[0]], [0.0, 0.0, 0.0]
    for after, trained, rates, momentum in zip(
        found[1:], row["trained"], row["rates"], row["momenta"], strict=True
    ):
        for group in range(3):
            if trained[group]:
                velocities[group] = momentum * velocities[group] - rates[group] * gradients[group]
                expected[group] = expected[group] + velocities[group]
            np.testing.assert_allclose(after[group], expected[group], rtol=1e-6, atol=1e-6)


def tuned():
    """The state that a run which is left alone ends with."""
    keras.utils.set_random_seed(0)
    model = pretrained()
    return run_state(model, kp.fine_tune(model, **HOW, **RECIPE, **QUIET))


def test_the_same_bits_as_written_out_for_fit():
    cycles = [(3, 0.05, 0.99, 25.0), (5, 0.025, 0.3, 5.0)]
    rate = kp.schedules.Join(
        [
            kp.schedules.OneCycle(top, n, pct, div, convention="fastai")
            for n, top, pct, div in cycles
        ],
        [3],
    )
    momenta = [
        kp.schedules.OneCycleMomentum(n, warmup_fraction=pct, convention="fastai")
        for n, _, pct, _ in cycles
    ]
    keras.utils.set_random_seed(0)
    model = pretrained()
    cycled = kp.optimizers.with_momentum(
        model.optimizer, kp.schedules.Join(momenta, [3]), learning_rate=rate
    )
    model.compile(kp.optimizers.with_layer_rates(cycled, model, lowest=0.01), **LOSS)
    thaw = kp.GradualUnfreeze(kp.head_then_all(3), batch_norm="adapt", verbose=0)
    expected = run_state(model, kp.fit(model, **HOW, **QUIET, total_steps=8, callbacks=[thaw]))
    found = tuned()
    assert (expected.pop("history/events/0/text"), found.pop("history/events/0/text")) == (
        "depths :-1 is thawed",
        "all but depth -1 is thawed",
    )
    assert_same_state(expected, found)


def test_killed_where_the_rest_is_thawed_and_after(tmp_path):
    script = SUPPORT / "run_fine_tune.py"
    folder = Folder(tmp_path, "run", script)
    for step in (3, 5):
        folder.kill_at(step)
    # In a process, too, whose graphs are optimized as theirs are.
    expected = Folder(tmp_path, "alone", script).finish("--reference")
    assert_same_state(expected, folder.finish())


def digits(classes):
    x, y = load_digits(return_X_y=True)
    chosen = np.isin(y, classes)
    return x[chosen] / 16, y[chosen] - min(classes)


def test_it_learns_new_classes_from_few_examples():
    """A net that knows the digits 0 to 4 learns 5 to 9 from twenty images of each."""
    hidden = [layers.Dense(64, "relu", name="stem"), layers.Dense(64, "relu", name="body")]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(5, name="old")])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kp.fit(model, *digits(range(5)), total_steps=300, epochs=1, seed=0, verbose=0)
    model = kp.replace_head(model, layers.Dense(5, name="new"))
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    x, y = digits(range(5, 10))
    few = np.arange(len(y)) % 9 == 0
    how = {"batch_size": 16, "epochs": 2, "seed": 0, "verbose": 0}
    history = kp.fine_tune(
        model, x[few], y[few], head_steps=50, all_steps=150, base_rate=0.02, **how
    )
    assert history.history["accuracy"][1] > history.history["accuracy"][0]
    assert model.evaluate(x[~few], y[~few], verbose=0)[1] > 0.8


# What becomes of the model.


def factors(model):
    """The factor of each layer, which all of its variables have."""
    found = {}
    for path, factor in model.optimizer.rate_factors.items():
        found.setdefault(path.split("/")[-2], set()).add(factor)
    return {name: pytest.approx(values.pop()) for name, values in found.items() if len(values) == 1}


def eager(optimizer="sgd"):
    return chain(optimizer, run_eagerly=True)


SHORT = {"head_steps": 2, "all_steps": 2, "epochs": 1}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (-1, {"a": 0.01, "b": 0.1, "c": 1.0}),
        ("c", {"a": 0.01, "b": 0.1, "c": 1.0}),
        (["b", "c"], {"a": 0.01, "b": 1.0, "c": 1.0}),
        ("a", {"b": 0.01, "c": 0.1, "a": 1.0}),
    ],
)
def test_the_head_is_a_group_and_the_last(head, expected):
    model, steps = eager(), Steps()
    kp.fine_tune(model, **DATA, **SHORT, head=head, callbacks=steps)
    assert factors(model) == expected
    assert steps.trained == [[expected[name] == 1.0 for name in GROUPS]] * 2 + [[True] * 3] * 2


def test_a_head_of_single_variables():
    model, steps = eager(), Steps()
    before = model.get_weights()
    history = kp.fine_tune(
        model, **DATA, head_steps=4, all_steps=1, epochs=1, head="*/bias", callbacks=steps
    )
    assert steps.trained == [[False] * 3] * 4 + [[True] * 3]
    assert history.events[0]["text"].count("/kernel'") == 3
    assert all(
        np.abs(after - one).max() > 0
        for after, one in zip(model.get_weights(), before, strict=True)
    )


@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", False), ("adapt", True)])
def test_the_statistics_of_the_frozen_part(batch_norm, moves):
    model = pretrained()
    model.run_eagerly = True
    norm, seen = model.get_layer("norm"), []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(norm.get_weights())
    )
    start = norm.get_weights()
    kp.fine_tune(
        model,
        **{**HOW, **QUIET, "epochs": None, "log_every_steps": None},
        steps_per_epoch=2,
        head_steps=2,
        all_steps=2,
        batch_norm=batch_norm,
        callbacks=record,
    )
    gamma, beta, *statistics = [
        [not np.array_equal(start[i], now[i]) for now in seen] for i in range(4)
    ]
    assert gamma == beta == [False, True]
    assert statistics == [[moves, True]] * 2


def test_what_was_frozen_is_thawed_and_the_optimizer_is_the_compiled_one_s_like(tmp_path):
    model = eager(optimizers.AdamW(7.0, weight_decay=0.25, clipnorm=0.5))
    model.optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.fit(X, X, verbose=0)
    compiled = model.optimizer
    kp.freeze(model, "a")
    kp.fine_tune(model, **DATA, **SHORT)
    assert all(variable.trainable for variable in model.variables[:6])
    optimizer = model.optimizer
    assert isinstance(optimizer, optimizers.AdamW)
    assert optimizer is not compiled
    assert (optimizer.weight_decay, optimizer.clipnorm, optimizer.beta_1) == (
        0.25,
        0.5,
        compiled.beta_1,
    )
    assert [optimizer._use_weight_decay(variable) for variable in model.layers[0].variables] == [
        True,
        False,
    ]
    assert int(optimizer.iterations.numpy()) == 4
    # It is the one that is saved.
    model.save(tmp_path / "tuned.keras")
    loaded = keras.saving.load_model(tmp_path / "tuned.keras")
    assert type(loaded.optimizer) is type(optimizer)
    assert int(loaded.optimizer.iterations.numpy()) == 4
    np.testing.assert_allclose(
        loaded.evaluate(X, X, verbose=0), model.evaluate(X, X, verbose=0), rtol=1e-6
    )
    # Again: as from the compiled one.
    kp.fine_tune(model, **DATA, **SHORT)
    assert model.optimizer is not optimizer
    assert model.optimizer.get_config() == optimizer.get_config()
    assert int(model.optimizer.iterations.numpy()) == 4


def test_in_mixed_precision():
    model = keras.Sequential(
        [keras.Input((4,)), *(layers.Dense(4, name=name, dtype="mixed_float16") for name in GROUPS)]
    )
    scaled = optimizers.LossScaleOptimizer(
        optimizers.Adam(), initial_scale=8.0, dynamic_growth_steps=50
    )
    model.compile(scaled, "mse", run_eagerly=True)
    history = kp.fine_tune(model, **DATA, **SHORT)
    assert np.isfinite(history.history["loss"]).all()
    found = model.optimizer
    assert (type(found), found.initial_scale, found.dynamic_growth_steps) == (
        optimizers.LossScaleOptimizer,
        8.0,
        50,
    )
    assert isinstance(found.inner_optimizer, optimizers.Adam)
    assert list(found.inner_optimizer.rate_factors.values())[::2] == pytest.approx([0.01, 0.1, 1.0])


def test_again_in_one_process_goes_on_and_tells_nothing_new(capsys):
    """A cell of a notebook that is run again."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1 and not stopped:
                stopped.append(epoch)
                raise KeyboardInterrupt

    model, stopped = eager("adam"), []
    kp.freeze(model, "a")
    how = {
        **DATA,
        **SHORT,
        "epochs": 4,
        "verbose": 2,
        "callbacks": [Stop(), kp.Checkpoint("runs", every_steps=1)],
    }
    with pytest.raises(KeyboardInterrupt):
        kp.fine_tune(model, **how)
    capsys.readouterr()
    history = kp.fine_tune(model, **how)
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("keras-patterns")
    ]
    assert history.epoch == [0, 1, 2, 3]
    assert len(lines) == 2, lines
    assert "going on from step" in lines[0]
    assert lines[1] == "keras-patterns: step 2: all but depth -1 is thawed."


def test_more_steps_of_everything(capsys):
    for all_steps in (2, 3):
        how = {
            **DATA,
            **SHORT,
            "all_steps": all_steps,
            "epochs": None,
            "steps_per_epoch": 1,
            "verbose": 2,
        }
        kp.fine_tune(eager(), **how, callbacks=kp.Checkpoint("runs"))
    assert (
        "optimizer.learning_rate.config.schedules[1].config.total_steps is 3, it was 2."
        in capsys.readouterr().out
    )


# Errors.


def unbuilt():
    model = keras.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def all_frozen(name):
    model = chain()
    kp.freeze(model, name)
    return model


def alone():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    model.compile("sgd", "mse")
    return model


@keras.saving.register_keras_serializable("test_fine_tune")
class Own(optimizers.SGD):
    pass


PLAIN = "is compiled with a schedule, in whose place the recipe's would come"


@pytest.mark.parametrize(
    ("make", "how", "error", "message"),
    [
        (
            chain,
            {"head_steps": 0},
            ValueError,
            "kp.fine_tune: `head_steps` must be at least 1. Received: 0",
        ),
        (
            chain,
            {"all_steps": 0},
            ValueError,
            "kp.fine_tune: `all_steps` must be at least 1. Received: 0",
        ),
        (
            chain,
            {"head_steps": 2.5},
            TypeError,
            "kp.fine_tune: `head_steps` must be a whole number. Received: 2.5",
        ),
        (
            chain,
            {"base_rate": 0},
            ValueError,
            "kp.fine_tune: `base_rate` must be finite, greater than 0. Received: 0",
        ),
        (
            chain,
            {"base_rate": "high"},
            TypeError,
            "kp.fine_tune: `base_rate` must be a number. Received: 'high'",
        ),
        (
            chain,
            {"warmup_fraction": 0},
            ValueError,
            "kp.fine_tune: `warmup_fraction` must be finite, greater than 0 and less than 1",
        ),
        (
            chain,
            {"div_factor": 0.5},
            ValueError,
            "kp.fine_tune: `div_factor` must be finite, at least 1. Received: 0.5",
        ),
        (chain, {"lowest": 0}, ValueError, "`lowest` must be greater than 0. Received: 0"),
        (chain, {"groups": 0}, ValueError, "`groups` must be at least 1. Received: 0"),
        (
            chain,
            {"batch_norm": "train"},
            ValueError,
            "`batch_norm` must be one of 'frozen', 'adapt'. Received: 'train'",
        ),
        (chain, {"head": "head"}, ValueError, "kp.fine_tune: 'head' selects nothing in"),
        (
            chain,
            {"head": []},
            ValueError,
            r"kp.fine_tune: head=\[\] selects nothing in '.*' that could be trained",
        ),
        (
            chain,
            {"head": "*"},
            ValueError,
            r"head='\*' is all of '.*' that could be trained, so nothing is left to thaw",
        ),
        (alone, {}, ValueError, r"head=-1 is all of '.*' that could be trained"),
        (
            lambda: all_frozen("c"),
            {},
            ValueError,
            r"kp.fine_tune: head=-1 is frozen in '.*'. kp.unfreeze it first",
        ),
        (
            chain,
            {"total_steps": 9},
            ValueError,
            r"leave `total_steps` out: the run has head_steps \+ all_steps = 4 steps",
        ),
        (
            chain,
            {"plan": kp.StepPlan(4, 2)},
            ValueError,
            r"leave `plan` out: .* Received: plan=StepPlan\(",
        ),
        (
            chain,
            {"callbacks": kp.GradualUnfreeze({1: "a"})},
            ValueError,
            "it thaws by itself. Leave the GradualUnfreeze out",
        ),
        (
            chain,
            {"callbacks": [keras.callbacks.ReduceLROnPlateau("loss")]},
            ValueError,
            "ReduceLROnPlateau would set the rate",
        ),
        (
            chain,
            {"callbacks": keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)},
            ValueError,
            "LearningRateScheduler would set the rate, which goes through the cycles of the "
            "recipe. Leave it out",
        ),
        (
            unbuilt,
            {},
            ValueError,
            "kp.fine_tune: 'sequential.*' is not built, so it has no weights yet",
        ),
        (
            lambda: keras.Sequential(),
            {},
            ValueError,
            "kp.fine_tune: 'sequential.*' is not compiled",
        ),
        (lambda: chain(optimizers.SGD(kp.schedules.Warmup(2, 0.1))), {}, ValueError, PLAIN),
        (
            lambda: chain(
                kp.optimizers.with_momentum("sgd", kp.schedules.CyclicalMomentum(0.8, 0.9, 2))
            ),
            {},
            ValueError,
            PLAIN,
        ),
        (
            lambda: chain("adagrad"),
            {},
            TypeError,
            "the Adagrad with which '.*' is compiled has no momentum that could go through",
        ),
        (
            lambda: chain(Own()),
            {},
            TypeError,
            "the Own with which .* SGD, RMSprop or an optimizer of the Adam family of Keras's own",
        ),
        (
            lambda: chain(optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD()))),
            {},
            TypeError,
            "the MultiOptimizer with which '.*' is compiled has no momentum",
        ),
        # What kp.fit refuses.
        (chain, {"epochs": 9}, ValueError, "epochs"),
        (chain, {"learning_rate": 0.1}, TypeError, "learning_rate"),
        (
            chain,
            {"validate_every_steps": 2},
            ValueError,
            "validate_every_steps=2 needs validation_data=",
        ),
    ],
)
def test_what_is_refused_changes_nothing(make, how, error, message):
    model = make()
    kept = model.optimizer if model.compiled else None
    trained = [variable.trainable for variable in model.variables]
    with pytest.raises(error, match=message):
        kp.fine_tune(model, **DATA, **{**SHORT, **how})
    assert [variable.trainable for variable in model.variables] == trained
    assert kept is None or model.optimizer is kept


def test_it_takes_models_only():
    with pytest.raises(
        TypeError, match=r"kp.fine_tune: the first argument must be a Keras model; received str"
    ):
        kp.fine_tune("model", X, X, **SHORT)
