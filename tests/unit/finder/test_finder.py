"""The learning-rate finder: what it measures, that it leaves no trace, and what it says of a
curve."""

import dataclasses
import re
import signal

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from models import (
    CASES,
    FEATURES,
    LABELS,
    NUMBERS,
    classifier,
    compiled,
    dense,
    small,
    two_halves,
)
from places import oracle
from steps import gradients_of
from sweeps import descent, made, noise, sweep_of

import keras_patterns as kp
from keras_patterns._util.step_counter import StepCounter
from keras_patterns.backends import current
from keras_patterns.data import make_source, stacked
from keras_patterns.finder import listener
from keras_patterns.finder.rules import RULES, fall, smooth
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

RULE_ROWS = oracle("rules.json")["rows"]
CURVES = oracle("curves.json")


# It leaves no trace.


def test_the_first_sweep_of_an_unbuilt_model():
    def end(find):
        keras.utils.set_random_seed(5)
        model = compiled(
            keras.Sequential(
                [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dense(3, "softmax")]
            )
        )
        if find:
            kp.find_learning_rate(model, FEATURES, LABELS, steps=10, verbose=0)
        return run_state(model, kp.fit(model, FEATURES, LABELS, epochs=1, seed=0, verbose=0))

    assert_same_state(end(find=False), end(find=True))


def swept_until(error, model, **how):
    history = kp.fit(model, FEATURES, LABELS, epochs=1, seed=0, verbose=0)
    before = run_state(model, history)
    with pytest.raises(error) as caught:
        kp.find_learning_rate(model, **how)
    assert_same_state(before, run_state(model, history))
    # And it still trains.
    assert np.isfinite(
        kp.fit(model, FEATURES, LABELS, epochs=1, seed=0, verbose=0).history["loss"]
    ).all()
    return caught


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where whoever started the tests has it ignored, as a shell does in the
    background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_everything_is_as_before_after_an_interruption(monkeypatch):
    shown = []

    class Interrupting(StepCounter):
        def update(self, done, metrics=None):
            shown.append(done)
            if done == 7:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(listener, "StepCounter", Interrupting)
    swept_until(KeyboardInterrupt, dense(), x=FEATURES, y=LABELS)
    assert shown == [1, 2, 3, 4, 5, 6, 7]


def batches(count, error=None):
    for number in range(count):
        yield FEATURES[number % 30 : number % 30 + 8], LABELS[number % 30 : number % 30 + 8]
    if error:
        raise error


def test_everything_is_as_before_after_an_error_of_the_data():
    caught = swept_until(LookupError, dense(), x=batches(17, LookupError("row 17")), verbose=0)
    assert str(caught.value) == "row 17"


def test_data_that_run_out():
    swept_until(kp.DataExhaustedError, dense(), x=batches(12), steps=20, verbose=0)


def test_averaged_weights_that_share_their_arrays():
    """As plain `fit` leaves them on some backends."""
    model = CASES["moving average"].make_model()
    history = model.fit(FEATURES, LABELS, verbose=0)
    before = run_state(model, history)
    assert (
        len(
            kp.find_learning_rate(
                model, FEATURES, LABELS, stop_rate=0.1, steps=10, verbose=0
            ).losses
        )
        == 10
    )
    assert_same_state(before, run_state(model, history))


def test_modes_and_gradients_are_as_before():
    """Where the backend has them."""
    model = compiled(small())
    model(FEATURES)
    for stop_rate in (0.1, 1e6):
        before = [getattr(layer, "training", None) for layer in [model, *model.layers]]
        kp.find_learning_rate(model, FEATURES, LABELS, stop_rate=stop_rate, verbose=0)
        assert [getattr(layer, "training", None) for layer in [model, *model.layers]] == before
        assert all(
            getattr(variable.value, "grad", None) is None for variable in model.trainable_variables
        )


@pytest.mark.skipif(current().name != "torch", reason="a layer of torch's")
def test_buffers_of_a_module_of_torch():
    import torch

    module = torch.nn.BatchNorm1d(6)
    model = compiled(classifier(keras.layers.TorchModuleWrapper(module)))
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    kp.find_learning_rate(model, FEATURES, LABELS, steps=10, verbose=0)
    assert before.keys() == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(torch.equal(before[name], buffer) for name, buffer in module.named_buffers())


def test_a_train_step_that_was_set_on_the_model_stays():
    model = dense()
    step = model.train_step
    vars(model)["train_step"] = own = lambda *arguments: step(*arguments)
    kp.find_learning_rate(model, FEATURES, LABELS, steps=10, verbose=0)
    assert vars(model)["train_step"] is own


# What it measures.


@pytest.mark.parametrize("spacing", ["exponential", "linear"])
def test_the_losses_are_those_of_single_steps_with_fresh_metrics(spacing):
    def make(rate):
        keras.utils.set_random_seed(3)
        hidden = (
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=5),
        )
        return compiled(classifier(*hidden), keras.optimizers.Adam(rate))

    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 3, 0.1)
    how = {
        "start_rate": 1e-5,
        "stop_rate": 0.3,
        "steps": 40,
        "spacing": spacing,
        "batch_size": 7,
        "seed": 4,
    }
    weighted = {"sample_weight": np.linspace(0.5, 2, len(LABELS))}
    sweep = kp.find_learning_rate(
        make(schedule), FEATURES, LABELS, **how, **weighted, divergence=100.0, verbose=0
    )
    model, source = make(1.0), make_source(FEATURES, LABELS, **weighted, batch_size=7, seed=4)
    expected = []
    for step, rate in enumerate(sweep.rates):
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        expected.append(model.train_on_batch(*source.batch(step), return_dict=True)["loss"])
    assert len(expected) == 40
    np.testing.assert_allclose(sweep.losses, expected, rtol=1e-5)
    space = np.geomspace if spacing == "exponential" else np.linspace
    np.testing.assert_allclose(sweep.rates, space(1e-5, 0.3, 40))


# In blocks.


def swept_in(fuse, make, *data, **how):
    keras.utils.set_random_seed(3)
    model = make()
    sweep = kp.find_learning_rate(model, *data, **how, fuse=fuse, verbose=0)
    return sweep, run_state(model, keras.callbacks.History())


def drawing():
    hidden = (keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3))
    return compiled(classifier(*hidden), keras.optimizers.Adam(0.1))


def dataset():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    return (tf.data.Dataset.from_tensor_slices((FEATURES, LABELS)).repeat().batch(8),)


def arrays():
    return FEATURES, LABELS


def two():
    return two_halves(keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01))


@pytest.mark.parametrize(
    ("make", "data", "how"),
    [
        # The last batch of a pass is smaller.
        pytest.param(drawing, arrays, {"batch_size": 7}, id="uneven"),
        pytest.param(drawing, arrays, {"stop_rate": 1e4}, id="until it diverges"),
        pytest.param(drawing, dataset, {}, id="tf.data"),
        pytest.param(two, arrays, {}, id="two optimizers"),
    ],
)
def test_the_losses_of_blocks_are_those_of_steps(make, data, how, monkeypatch):
    # Nothing depends on how fast this machine is.
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))
    how = {"steps": 40, "start_rate": 1e-4, "stop_rate": 0.1, "seed": 4, **how}
    (one, before), (other, after) = (swept_in(fuse, make, *data(), **how) for fuse in (False, True))
    assert [way["way"] for way in other.ways] == ["in blocks"], other.ways
    assert not one.ways
    assert one.losses.tobytes() == other.losses.tobytes()
    assert one.rates.tobytes() == other.rates.tobytes()
    assert (one.ended, one.optimizers) == (other.ended, other.optimizers)
    assert_same_state(before, after)


def test_a_few_steps_do_not_pay():
    sweep = kp.find_learning_rate(drawing(), FEATURES, LABELS, steps=10, fuse="auto", verbose=0)
    assert [way["way"] for way in sweep.ways] == ["one by one"]


def test_blocks_whose_losses_are_others_are_not_used(monkeypatch):
    """The state of the model is the same: only the logs tell."""
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))
    make = type(current()).block_program

    def wrong(self, *how):
        program = make(self, *how)
        function = program.function

        def train(take):
            run = function(take)

            def wrong_run(*given):
                result = run(*given)
                logs, *rest = result if isinstance(result, tuple) else (result,)
                logs = {**logs, "loss": logs["loss"] * (1 + 1e-6)}
                return (logs, *rest) if rest else logs

            return wrong_run

        program.function = train
        return program

    monkeypatch.setattr(type(current()), "block_program", wrong)
    sweep, _ = swept_in(True, drawing, FEATURES, LABELS, steps=20)
    (way,) = sweep.ways
    assert way["way"] == "one by one"
    assert "the log loss is another one" in way["why"]


# Which rates it goes through.


def test_it_begins_at_its_first_rate_wherever_training_is():
    """The update of each step, read off a model whose gradient is one."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, prediction: -prediction)
    x = np.ones((12, 1), "float32")
    model.fit(x, x, batch_size=4, verbose=0)
    assert model.get_weights()[0] == 3.0
    sweep = kp.find_learning_rate(
        model, x, x, start_rate=1.0, stop_rate=10.0, steps=10, spacing="linear", verbose=0
    )
    np.testing.assert_allclose(
        sweep.losses, -(3.0 + np.concatenate([[0], np.cumsum(sweep.rates[:-1])])), rtol=1e-6
    )


def test_several_optimizers_keep_their_ratio():
    model = two_halves(keras.optimizers.SGD(0.2), keras.optimizers.Adam(0.05))
    sweep = kp.find_learning_rate(
        model, FEATURES, LABELS, start_rate=1e-4, stop_rate=2.0, steps=60, verbose=0
    )
    rate = sweep_of({"rates": sweep.rates, "losses": descent(0, len(sweep.rates))}).apply(model)
    rates = sorted(
        float(keras.ops.convert_to_numpy(one.learning_rate)) for one in model.optimizer.optimizers
    )
    np.testing.assert_allclose(rates, [rate / 4, rate], rtol=1e-6)


@pytest.mark.skipif(
    not current().carries_attribute_optimizers, reason="this backend does not carry them"
)
@pytest.mark.parametrize("times", [1, 3])
def test_only_optimizers_that_step_count(times):
    """Compiled without an optimizer, a model has one of Keras's all the same; and a step may be
    made of several.
    """
    rate = keras.optimizers.SGD(1e-4, name="own")

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer, self.zz_optimizer = keras.layers.Dense(1), rate

        def call(self, x):
            return self.layer(x)

        def train_step(self, data):
            x, y = data
            variables = self.trainable_variables
            for _ in range(times):
                loss, gradients = gradients_of(
                    lambda: keras.ops.mean((self(x) - y) ** 2), variables
                )
                self.zz_optimizer.apply(gradients, variables)
            return {"loss": loss}

    model = Own()
    model.compile()
    model(FEATURES)
    rate.build(model.trainable_variables)
    sweep = kp.find_learning_rate(model, FEATURES, NUMBERS, steps=60, stop_rate=0.1, verbose=0)
    assert sweep.optimizers == ("zz_optimizer",)
    # Several steps in a batch reach the last rate earlier, and stay there.
    assert len(sweep.rates) == (60 if times == 1 else 21)
    assert sweep_like(sweep).apply(model) == pytest.approx(float(rate.learning_rate.numpy()))


def sweep_like(sweep):
    """A good curve of the same optimizers."""
    return dataclasses.replace(made(descent()), optimizers=sweep.optimizers)


def test_steps_that_overflow_are_made_again_at_their_rate():
    """A loss scale that is too high at first: nothing is learnt, and the rate stays, until it has
    come down.
    """
    inner = keras.optimizers.SGD(0.1)
    model = compiled(
        classifier(keras.layers.Dense(8, dtype="mixed_float16")),
        keras.optimizers.LossScaleOptimizer(inner, 2.0**22),
    )
    sweep = kp.find_learning_rate(
        model, FEATURES, LABELS, start_rate=1e-3, stop_rate=1.0, steps=30, verbose=0
    )
    assert 15 < len(sweep.rates) < 30
    np.testing.assert_allclose(sweep.rates, np.geomspace(1e-3, 1.0, 30)[: len(sweep.rates)])


def linear():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_it_stops_where_the_loss_is_not_finite():
    model, targets = linear(), FEATURES.sum(1)
    targets[20] = np.nan
    sweep = kp.find_learning_rate(model, FEATURES, targets, batch_size=4, shuffle=False, verbose=0)
    assert len(sweep.losses) == 5
    assert sweep.ended == "the loss was not finite"
    assert np.isfinite(sweep.losses).all()
    with pytest.raises(
        ValueError, match=r"Only 5 of 200 steps were made \(the loss was not finite\)"
    ):
        sweep.suggest()


def test_it_stops_where_the_loss_diverges():
    """At the first step at which it does, however late its loss is read."""
    sweep = kp.find_learning_rate(
        linear(), FEATURES, FEATURES.sum(1), stop_rate=1e3, steps=120, verbose=0
    )
    assert sweep.ended == "the loss diverged"
    smoothed = smooth(sweep.losses, 0.9)[120 // 10 - 1 :]
    lowest = np.minimum.accumulate(smoothed)
    # The spread of the first losses is larger than the lowest.
    size = np.maximum(lowest, np.ptp(sweep.losses[: 120 // 10]))
    assert smoothed[-1] > (lowest + 3 * size)[-1]
    assert (smoothed[:-1] <= (lowest + 3 * size)[:-1]).all()


def test_a_lucky_first_batch_is_no_divergence_later():
    model, targets = linear(), FEATURES.sum(1)
    model.set_weights([np.ones((6, 1)), np.zeros(1)])
    targets[4:] += np.where(np.arange(40) % 2, 1.0, -1.0)
    sweep = kp.find_learning_rate(
        model, FEATURES, targets, batch_size=4, shuffle=False, steps=20, stop_rate=1e-6, verbose=0
    )
    assert sweep.losses[0] < 1e-6 < 0.9 < sweep.losses[1]
    assert sweep.ended == "all steps were made"


def test_a_progress_bar(capsys):
    kp.find_learning_rate(dense(), FEATURES, LABELS, steps=12)
    assert re.search(r"12/12.*learning_rate: 10\.0000 - loss: ", capsys.readouterr().out)


# Rules.


@pytest.mark.once
@pytest.mark.parametrize("row", RULE_ROWS, ids=lambda row: row["curve"])
@pytest.mark.parametrize("rule", ["valley", "steep", "minimum", "slide"])
def test_equal_to_fastai(row, rule):
    assert RULES[rule](np.array(row["rates"]), np.array(row["losses"])) == pytest.approx(
        row["fastai"][rule], rel=1e-6
    )


# The others land on noise, or where the loss no longer falls; of "cancer, 60 steps", "steep" lies
# where the fall is significant, which fastai's does not.
SURE_AS_FASTAI = {
    "digits, 60 steps": {"steep", "minimum"},
    "digits, 150 steps": {"valley", "steep", "minimum"},
    "cancer, 60 steps": {"minimum"},
    "cancer, 150 steps": {"valley", "minimum"},
}


@pytest.mark.once
@pytest.mark.parametrize("name", CURVES)
def test_a_sweep_is_smoothed_and_cut_as_fastai_does_it(name):
    expected = next(row["fastai"] for row in RULE_ROWS if row["curve"] == name)
    found = sweep_of(CURVES[name]).suggestions()
    sure = SURE_AS_FASTAI[name]
    assert sure <= set(found)
    assert {rule: found[rule] for rule in sure} == pytest.approx(
        {rule: expected[rule] for rule in sure}, rel=1e-6
    )


@pytest.mark.once
def test_gradient_is_the_steepest_place():
    place = np.log(np.geomspace(1e-6, 1.0, 200))
    losses = 2 - 1 / (1 + np.exp(-2 * (place - np.log(1e-3))))
    assert RULES["gradient"](np.exp(place), losses) == pytest.approx(1e-3, rel=0.1)


@pytest.mark.once
@pytest.mark.parametrize("seed", range(20))
def test_suggestions_and_range_of_a_curve_with_a_known_descent(seed):
    sweep = made(descent(seed))
    assert all(1e-4 < rate < 0.3 for rate in sweep.suggestions().values())
    low, high = sweep.range()
    assert 2e-5 < low < 1e-3 < high < 0.3


@pytest.mark.once
def test_a_curve_that_never_falls_is_an_error():
    for losses in (np.full(100, 2.3), np.linspace(2, 3, 100), noise(1)):
        for ask in (made(losses).suggest, made(losses).suggestions, made(losses).range):
            with pytest.raises(ValueError, match=r"The loss never falls .* chance alone explains"):
                ask()


WILD = {
    "normal": lambda seed: noise(seed, 200),
    "with an outlier": lambda seed: np.where(np.arange(200) == seed % 40, 50.0, noise(seed, 200)),
    "exponential": lambda seed: np.random.default_rng(seed).exponential(size=200),
    "log-normal": lambda seed: np.random.default_rng(seed).lognormal(sigma=1.5, size=200),
}


@pytest.mark.once
@pytest.mark.parametrize("name", WILD)
def test_chance_alone_hardly_ever_looks_like_a_fall(name):
    rows = [fall(WILD[name](seed)) for seed in range(200)]
    assert sum(fallen > chance for fallen, chance in rows) <= 6


@pytest.mark.once
def test_a_descent_looks_like_a_fall():
    assert all(fallen > chance for fallen, chance in (fall(descent(seed)) for seed in range(100)))


@pytest.mark.once
def test_a_curve_that_falls_before_it_counts():
    sweep = made(np.concatenate([np.linspace(3, 1, 8), np.linspace(1, 2, 192)]))
    with pytest.raises(
        ValueError, match=r"never falls after the first tenth .* sweep from a lower start_rate"
    ):
        sweep.range()


def test_a_model_that_cannot_learn():
    model = compiled(classifier(keras.layers.Dense(8)))
    sweep = kp.find_learning_rate(
        model, FEATURES, LABELS, start_rate=1e-12, stop_rate=1e-9, verbose=0
    )
    with pytest.raises(ValueError, match="The loss never falls"):
        sweep.suggest()
    assert "No suggestion. The loss never falls" in repr(sweep)
    for flat in (sweep, made(np.full(100, 2.3)), made(np.zeros(100))):
        assert "No suggestion" in flat.plot().get_title()


@pytest.mark.once
def test_repr_reads_well():
    text = repr(made(descent()))
    assert text.startswith(
        "LearningRateSweep: 100 of 100 steps, from 1.0e-06 to 1.0e+00; all steps were made.\nrule "
    )
    assert [line.split()[0] for line in text.splitlines()[3:8]] == list(RULES)
    assert re.search(r"The highest is \d+\.\d times the lowest; they agree", text)
    assert re.search(r"For a cycle: from \d\.\d\de-\d\d to \d\.\d\de-\d\d\.$", text)


@pytest.mark.once
def test_the_picture_goes_into_the_axes_that_are_given():
    _, (left, right) = plt.subplots(1, 2)
    assert made(descent()).plot(right) is right
    assert right.has_data()
    assert not left.has_data()


@pytest.mark.once
def test_the_picture_marks_every_suggestion():
    sweep = made(descent())
    axes = sweep.plot()
    assert axes.get_xscale() == "log"
    marked = {
        line.get_label().split()[0]: line.get_xdata()[0]
        for line in axes.lines
        if line.get_marker() == "o"
    }
    assert marked == dict(sweep.suggestions())


# Applying it.


@pytest.mark.parametrize("rate", [0.5, keras.optimizers.schedules.ExponentialDecay(0.5, 3, 0.1)])
@pytest.mark.parametrize("begun", [True, False])
def test_apply_sets_the_rate_also_over_a_schedule(rate, begun, tmp_path):
    model = compiled(small(), keras.optimizers.Adam(rate))
    if begun:
        model.fit(FEATURES, LABELS, verbose=0)
    applied = made(descent()).apply(model, "steep")
    assert applied == made(descent()).suggest("steep")
    model.fit(FEATURES, LABELS, verbose=0)
    assert float(model.optimizer.learning_rate.numpy()) == np.float32(applied)
    assert model.optimizer.get_config()["learning_rate"] == np.float32(applied)
    model.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model.optimizer.variables, back.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_what_was_applied_is_what_is_trained_with():
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(
        keras.optimizers.SGD(kp.schedules.OneCycle(1.0, 50)), loss=lambda _, prediction: -prediction
    )
    x = np.ones((4, 1), "float32")
    model.fit(x, x, verbose=0)
    before, rate = model.get_weights()[0], made(descent()).apply(model)
    model.fit(x, x, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0] - before, rate, rtol=1e-4)


# Arguments.


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (
            {"start_rate": 0.0},
            ValueError,
            "`start_rate` must be finite, greater than 1.17549e-38",
        ),
        (
            {"start_rate": -1e-3},
            ValueError,
            "`start_rate` must be finite, greater than 1.17549e-38",
        ),
        ({"stop_rate": float("nan")}, ValueError, "`stop_rate` must be finite"),
        (
            {"start_rate": 1.0, "stop_rate": 0.1},
            ValueError,
            "`start_rate` must be below `stop_rate`. Received: 1.0 and 0.1",
        ),
        ({"steps": 9}, ValueError, "`steps` must be at least 10. Received: 9"),
        ({"steps": 20.0}, TypeError, "`steps` must be a whole number"),
        ({"spacing": "log"}, ValueError, "`spacing` must be one of 'exponential', 'linear'"),
        ({"smoothing": 1.0}, ValueError, "`smoothing` must be finite, at least 0 and less than 1"),
        ({"divergence": 0.5}, ValueError, "`divergence` must be finite, at least 1"),
        ({"model": "model"}, TypeError, "the first argument must be a Keras model"),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, ValueError, "is not compiled"),
    ],
)
def test_arguments_are_checked(how, error, message):
    model = how.pop("model", None) or dense()
    with pytest.raises(
        error, match=f"^find_learning_rate: .*{re.escape(message) if '.' in message else message}"
    ):
        kp.find_learning_rate(model, FEATURES, LABELS, verbose=0, **how)


def with_logs(change):
    """A model whose `train_step` returns what `change` makes of its logs."""
    keras.utils.set_random_seed(5)
    model = CASES["custom train_step"].make_model()
    step = type(model).train_step

    def train_step(self, *arguments):
        found = step(self, *arguments)
        logs, *rest = found if isinstance(found, tuple) else (found,)
        return (change(logs), *rest) if rest else change(logs)

    model.__class__ = type("Renamed", (type(model),), {"train_step": train_step})
    return model


def of_a_gan(logs):
    return {"d_loss": logs["loss"], "g_loss": 2 * logs["loss"]}


def test_a_train_step_without_a_loss():
    model = with_logs(of_a_gan)
    with pytest.raises(
        ValueError,
        match=r"""must return a dictionary with "loss" among its keys; this one returned """
        r"""\['d_loss', 'g_loss'\]\. If one of these .*, say so: loss_key='d_loss'""",
    ):
        kp.find_learning_rate(model, FEATURES, LABELS, verbose=0)


@pytest.mark.parametrize(("key", "factor"), [("d_loss", 1.0), ("g_loss", 2.0)])
def test_a_loss_by_another_name(key, factor):
    how = {"steps": 20, "verbose": 0}
    expected = kp.find_learning_rate(with_logs(dict), FEATURES, LABELS, **how)
    found = kp.find_learning_rate(with_logs(of_a_gan), FEATURES, LABELS, loss_key=key, **how)
    np.testing.assert_allclose(found.losses, factor * expected.losses, rtol=1e-6)


def test_metrics_that_leave_out_the_loss():
    class Bare(keras.Sequential):
        @property
        def metrics(self):
            return []

    model = compiled(Bare([keras.Input((6,)), keras.layers.Dense(3, "softmax")]))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"returned \[\]\. Have it return .* super\(\)\.metrics"
        ):
            kp.find_learning_rate(model, FEATURES, LABELS, verbose=0)


def test_a_loss_that_is_no_number():
    model = with_logs(lambda logs: {"loss": keras.ops.stack([logs["loss"], logs["loss"]])})
    with pytest.raises(ValueError, match=r"must be one number. Received: an array of shape \(2,\)"):
        kp.find_learning_rate(model, FEATURES, LABELS, verbose=0)


def test_a_name_of_the_loss_that_is_no_name():
    with pytest.raises(TypeError, match=r"`loss_key` must be a name\. Received: 3"):
        kp.find_learning_rate(dense(), FEATURES, LABELS, loss_key=3)


def test_a_loss_that_is_not_finite_before_any_update():
    with pytest.raises(
        ValueError, match="the loss of the first batch is not finite, before any update"
    ):
        kp.find_learning_rate(linear(), FEATURES, np.full(44, np.nan, "float32"), verbose=0)


def test_a_rate_that_single_precision_does_not_have():
    with pytest.raises(
        ValueError, match=r"`stop_rate` must be finite, greater than .* and less than 3\.4"
    ):
        kp.find_learning_rate(linear(), FEATURES, LABELS, stop_rate=1e39, verbose=0)


def test_apply_to_what_has_no_rate():
    for model, error in (
        (keras.Sequential([keras.layers.Dense(1)]), ValueError),
        (None, TypeError),
    ):
        with pytest.raises(error, match=r"^apply: "):
            made(descent()).apply(model)


def test_a_rate_of_zero_beside_another_keeps_no_ratio():
    model = two_halves(
        keras.optimizers.SGD(kp.schedules.Warmup(5, 0.1)), keras.optimizers.Adam(0.05)
    )
    with pytest.raises(
        ValueError,
        match=r"The rate at 'optimizer/inner_optimizers/\d' is 0 at this step, and others are not",
    ):
        kp.find_learning_rate(model, FEATURES, LABELS, verbose=0)


def test_an_unknown_rule():
    with pytest.raises(
        ValueError,
        match="there is no rule 'steepest'; there are valley, steep, minimum, slide, gradient",
    ):
        made(descent()).suggest("steepest")


@pytest.mark.skipif(
    not current().carries_attribute_optimizers, reason="this backend does not carry them"
)
def test_an_optimizer_that_would_build_itself_in_the_sweep():
    model = CASES["two optimizers"].make_model()
    model.second_optimizer = keras.optimizers.SGD()
    with pytest.raises(
        ValueError, match=r"the optimizer at 'second_optimizer' .* is not built yet"
    ):
        kp.find_learning_rate(model, FEATURES, LABELS, verbose=0)
