"""The guard against what is not finite: what it finds, what it says, where it goes back to, and how
the run ends.
"""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from children import Folder, references
from keras import layers
from killers import KillAt, Killed
from models import CASES, compiled, guarded, small

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.data import ArraySource
from keras_patterns.guard.forward import broken_rows, wrong_in_batch
from keras_patterns.guard.watch import Variables
from keras_patterns.state.snapshot import all_finite
from keras_patterns.testing import assert_same_state, run_state

_rng = np.random.default_rng(4)
X = _rng.normal(size=(60, 5)).astype("float32")
Y = X.sum(1, keepdims=True)
SOURCE = ArraySource(X, Y, batch_size=6, seed=0)


def batch_with(example, first=0):
    """The number of the first batch that holds an example, of those from `first` on."""
    return next(number for number in itertools.count(first) if example in SOURCE.indices(number))


def spoiled(example, value=np.nan):
    x = X.copy()
    x[example, 2] = value
    return x


def linear(optimizer):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def fit(model, x, *callbacks, guard, every_steps=5, **arguments):
    arguments = {
        "total_steps": 20,
        "epochs": 2,
        "batch_size": 6,
        "seed": 0,
        "verbose": 0,
        "y": Y,
        **arguments,
    }
    checkpoint = (
        [kp.Checkpoint(arguments.pop("folder", "run"), every_steps=every_steps)]
        if guard.rollback
        else []
    )
    return kp.fit(model, x, callbacks=[guard, *callbacks, *checkpoint], **arguments)


def by_hand(model, x, batches):
    for number in batches:
        indices = SOURCE.indices(number)
        model.train_on_batch(x[indices], Y[indices])


def assert_all_sound(steps):
    store = kp.CheckpointStore("run")
    assert store.steps() == steps
    for entry in store.entries():
        for key, value in store.read(entry).tensors.items():
            assert value.dtype.kind not in "f" or np.isfinite(value).all(), key


# In different batches of the first pass, the first and the last one among them.
EXAMPLES = [int(SOURCE.indices(number)[0]) for number in (0, 1, 4, 5, 6, 9)]


@pytest.mark.parametrize("example", EXAMPLES[:5])
def test_a_planted_nan_is_found_and_left_out(example):
    """Against the same training by hand: without the batch, and with the lower rate from the last
    checkpoint on.
    """
    keras.utils.set_random_seed(1)
    number, guard = batch_with(example), kp.NonFiniteGuard(every_steps=3)
    model = linear(keras.optimizers.SGD(0.01, momentum=0.9))
    history = fit(model, spoiled(example), guard=guard, total_steps=9, epochs=1)
    (finding,) = guard.findings
    assert (finding.step, finding.batch) == (number + 1, number)
    assert finding.cause == f"x is not finite in example {example}"
    assert finding.variable == "layers/0/kernel"
    assert finding.examples == tuple(SOURCE.indices(number))
    assert history.events == [{"kind": "rolled back", "step": number + 1, "text": str(finding)}]
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.005)

    keras.utils.set_random_seed(1)
    expected = linear(keras.optimizers.SGD(0.01, momentum=0.9))
    back = number - number % 5
    by_hand(expected, X, range(back))
    expected.optimizer.learning_rate = 0.005
    by_hand(expected, X, [batch for batch in range(back, 10) if batch != number])
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert_all_sound([0, 5, 9])


def test_a_schedule_is_scaled_in_the_compiled_step():
    keras.utils.set_random_seed(1)
    example, schedule = EXAMPLES[3], keras.optimizers.schedules.InverseTimeDecay(0.02, 2, 0.5)
    guard, number = kp.NonFiniteGuard(rate_factor=0.25), batch_with(EXAMPLES[3])
    model = linear(keras.optimizers.SGD(schedule))
    fit(model, spoiled(example), guard=guard, total_steps=8, epochs=1)
    assert len(guard.findings) == 1

    keras.utils.set_random_seed(1)
    # The same counter, and a rate that can be set.
    expected = linear(keras.optimizers.SGD(0.1))
    for step, batch in enumerate(batch for batch in range(9) if batch != number):
        expected.optimizer.learning_rate = schedule(step) * (0.25 if step >= 5 else 1.0)
        by_hand(expected, X, [batch])
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_several_optimizers_are_slowed_down_together():
    first, second = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.02)
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(second, {".*body.*": first})
    )
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, name="body"), layers.Dense(1)])
    model.compile(optimizer, "mse")
    fit(model, spoiled(EXAMPLES[1]), guard=kp.NonFiniteGuard(), total_steps=6, epochs=1)
    rates = [float(keras.ops.convert_to_numpy(one.learning_rate)) for one in (first, second)]
    assert rates == pytest.approx([0.05, 0.01])


def test_an_exploding_rate():
    """The layer in which it overflows is named, and the run is brought to its end with a rate that
    is small enough.
    """
    guard = kp.NonFiniteGuard(rate_factor=1e-12, skip_batch=False, max_rollbacks=5)
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, activation="tanh"), layers.Dense(8), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(1e30), "mae")
    history = fit(model, X, guard=guard)
    assert guard.findings
    assert guard.findings[0].step == 2
    assert guard.findings[0].cause.startswith("the output of a layer Dense at layers/")
    assert np.isfinite(history.history["loss"]).all()
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    np.testing.assert_allclose(rate, 1e30 * 1e-12 ** len(guard.findings), rtol=1e-5)
    assert_all_sound([10, 15, 20])


@pytest.mark.parametrize("scaled_loss", [False, True])
def test_an_overflow_in_one_layer_in_half_precision(scaled_loss):
    """70,000 is more than float16 holds: the batch is sound, and one layer is not."""
    example = EXAMPLES[4]
    number = batch_with(example)
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, activation="tanh", name="wide")(layers.Rescaling(1.0)(inputs))
    outputs = layers.Dense(1)(hidden + layers.Dense(4, dtype="mixed_float16", name="half")(inputs))
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.Adam(0.01)
    if scaled_loss:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
    model.compile(optimizer, "mse")
    guard = kp.NonFiniteGuard()
    fit(model, spoiled(example, 7e4), guard=guard, total_steps=9, epochs=1)
    (finding,) = guard.findings
    assert (finding.step, finding.batch) == (number + 1, number)
    assert "'half' (Dense) at layers/" in finding.cause
    assert "float16" in finding.cause
    # The loss scale keeps the weights from such gradients.
    assert (finding.variable == "") == scaled_loss


class Overflows(layers.Layer):
    """Its output is not finite where its input is large."""

    def call(self, inputs):
        return keras.ops.exp(inputs)


def test_the_layer_that_overflows_is_named():
    model = keras.Sequential([keras.Input((5,)), Overflows(), layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = kp.NonFiniteGuard()
    fit(model, spoiled(EXAMPLES[2], 100.0), guard=guard, total_steps=8, epochs=1)
    assert (
        guard.findings[0].cause
        == "the output of a layer Overflows, in float32, is not finite; its input is, at most 100"
    )


def root(y, predicted):
    """Finite at 0, and its gradient is not."""
    return keras.ops.sqrt(keras.ops.abs(y - predicted))


def test_a_gradient_that_is_not_finite_while_the_loss_is():
    """Example: all zeros in a net without biases, which gives exactly its target."""
    example = EXAMPLES[5]
    x, y = X.copy(), Y.copy()
    x[example], y[example] = 0.0, 0.0
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, use_bias=False), layers.Dense(1, use_bias=False)]
    )
    model.compile(keras.optimizers.SGD(0.001), root)
    guard = kp.NonFiniteGuard()
    fit(model, x, guard=guard, total_steps=15, epochs=1, y=y)
    number = batch_with(example)
    assert (guard.findings[0].step, guard.findings[0].batch) == (number + 1, number)
    assert (
        guard.findings[0].cause
        == "the loss is finite, and what the step made of the weights is not"
    )
    assert guard.findings[0].variable == "layers/0/kernel"


def test_a_loss_that_is_not_finite_of_outputs_that_are():
    y = Y.copy()
    y[EXAMPLES[2]] = np.inf
    model = linear("sgd")
    fit(model, X, guard=(guard := kp.NonFiniteGuard()), total_steps=8, epochs=1, y=y)
    assert guard.findings[0].cause == f"y is not finite in example {EXAMPLES[2]}"

    def logarithm(y, predicted):
        return keras.ops.log(keras.ops.abs(y - 1000.0)) * predicted

    model = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    model.compile("sgd", logarithm)
    y = np.where(np.isinf(y), 1000.0, y)
    fit(
        model,
        X,
        guard=(guard := kp.NonFiniteGuard()),
        total_steps=8,
        epochs=1,
        y=y,
        folder="another",
    )
    assert (
        guard.findings[0].cause
        == "the outputs of the model are finite, and the loss that is computed of them is not"
    )


def test_everything_else_goes_back_too():
    """Each epoch is reported once, rows of the log file are cut, and other callbacks are as they
    were.
    """
    told = []

    class Counts(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs = []

        def on_train_begin(self, logs=None):
            told.append("begin")

        def on_train_end(self, logs=None):
            told.append("end")

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(epoch)

        def get_state(self):
            return {"epochs": list(self.epochs)}

        def set_state(self, state):
            self.epochs = list(state["epochs"])

    counts, guard = Counts(), kp.NonFiniteGuard()
    others = [
        keras.callbacks.CSVLogger("log.csv"),
        keras.callbacks.EarlyStopping("loss", patience=50),
        counts,
    ]
    history = fit(
        linear("adam"),
        spoiled(EXAMPLES[3]),
        *others,
        guard=guard,
        total_steps=9,
        epochs=3,
        every_steps=100,
    )
    # No checkpoint by steps comes before it: back to the start.
    assert guard.findings[0].step == 6
    assert told == ["begin", "end"]
    assert history.epoch == counts.epochs == [0, 1, 2]
    assert len(history.history["loss"]) == len(history.epoch_end_steps) == 3
    with open("log.csv", encoding="utf-8") as file:
        assert [row.split(",")[0] for row in file.read().split()] == ["epoch", "0", "1", "2"]


@pytest.mark.parametrize("kill_at", [None, 25])
def test_an_example_that_is_broken_for_good_is_left_out_of_every_pass(kill_at):
    example, guard = EXAMPLES[2], kp.NonFiniteGuard()
    model = linear("adam")
    if kill_at:
        with pytest.raises(Killed):
            fit(
                linear("adam"),
                spoiled(example),
                KillAt(kill_at - 1),
                guard=kp.NonFiniteGuard(),
                total_steps=45,
                epochs=5,
            )
    fit(model, spoiled(example), guard=guard, total_steps=45, epochs=5)
    assert len(guard.findings) == 1
    state = kp.CheckpointStore("run").latest().manifest.document["data"]["content"]["skipped"]
    assert state["examples"] == [example]
    passes = [number for number in range(50) if example in SOURCE.indices(number)]
    assert [number for number in state["numbers"] if number < 50] == passes
    assert len(passes) == 5


def test_it_gives_up_with_a_report():
    x = X.copy()
    x[EXAMPLES[1]] = x[EXAMPLES[2]] = x[EXAMPLES[3]] = np.nan
    guard = kp.NonFiniteGuard(max_rollbacks=2)
    with pytest.raises(kp.NonFiniteError) as caught:
        fit(linear("sgd"), x, guard=guard)
    report = str(caught.value)
    assert "Training is not finite, after 2 rollbacks:\n  1. step 2 (batch 1 of the data" in report
    assert [finding["batch"] for finding in caught.value.findings] == [
        batch_with(EXAMPLES[place]) for place in (1, 2, 3)
    ]
    assert "The last sound checkpoint is that of step 0." in report
    assert_all_sound([0])
    # The same again, from what is on disk.
    with pytest.raises(kp.NonFiniteError, match="after 2 rollbacks"):
        fit(linear("sgd"), x, guard=kp.NonFiniteGuard(max_rollbacks=2))
    assert_all_sound([0])


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
@pytest.mark.parametrize("batch_size", [60, 30])
def test_it_ends_the_run_where_no_batch_is_left(batch_size, shuffle):
    x = X.copy()
    x[[5, 55]] = np.nan
    if shuffle is True and batch_size == 30:
        # Of a shuffled pass both broken examples may be in one half: this many never are.
        x[10:50] = np.nan
    for _ in range(2):
        with pytest.raises(kp.NonFiniteError, match=r"no batch is left"):
            fit(linear("sgd"), x, guard=kp.NonFiniteGuard(), batch_size=batch_size, shuffle=shuffle)
        assert_all_sound([0])


def test_a_shuffled_pass_without_a_batch_that_is_left_is_passed_over():
    x = X.copy()
    x[[5, 55]] = np.nan
    guard = kp.NonFiniteGuard()
    model = linear("sgd")
    fit(model, x, guard=guard, batch_size=30)
    source = ArraySource(X, Y, batch_size=30, seed=0)
    left = [number for number in range(40) if not {5, 55} & set(source.indices(number))]
    assert any(number // 2 + 1 < after // 2 for number, after in itertools.pairwise(left))
    assert np.isfinite(model.get_weights()[0]).all()


def test_without_rollback_it_ends_the_run_at_once():
    guard = kp.NonFiniteGuard(rollback=False, every_steps=2)
    with pytest.raises(kp.NonFiniteError, match=r"Training is not finite:\n  1\. step \d"):
        fit(linear("sgd"), spoiled(EXAMPLES[2]), guard=guard)


def test_what_is_not_finite_from_the_start_is_no_fault():
    class Masked(layers.Layer):
        def build(self, shape):
            self.mask = self.add_weight(
                shape=(5,),
                initializer=lambda shape, dtype: keras.ops.full(shape, -np.inf),
                trainable=False,
            )

        def call(self, inputs):
            return inputs + keras.ops.maximum(keras.ops.convert_to_tensor(self.mask), 0.0)

    model = keras.Sequential([keras.Input((5,)), Masked(), layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = kp.NonFiniteGuard()
    fit(model, spoiled(EXAMPLES[2]), guard=guard, total_steps=8, epochs=1)
    assert len(guard.findings) == 1


def test_slots_are_looked_at_too():
    """A second moment that has overflowed stops its weight for ever, and leaves it finite."""
    x = X.copy()
    x[EXAMPLES[2]] = 1e22
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.Adam(0.001), "mae")
    guard = kp.NonFiniteGuard()
    fit(model, x, guard=guard, total_steps=8, epochs=1)
    assert guard.findings[0].variable.startswith("optimizer/velocities[layers/0/kernel]")
    assert guard.findings[0].batch == batch_with(EXAMPLES[2])


def test_steps_that_run_together():
    together = 4 if current().fuses_steps else 1
    model = linear(keras.optimizers.SGD(0.01))
    model.compile(keras.optimizers.SGD(0.01), "mse", steps_per_execution=together)
    guard = kp.NonFiniteGuard()
    fit(model, spoiled(EXAMPLES[3]), guard=guard, total_steps=12, epochs=1, every_steps=4)
    (finding,) = [finding for finding in guard.findings if finding.batch < 10]
    assert finding.batch == batch_with(EXAMPLES[3])
    assert int(model.optimizer.iterations) == 12


def test_a_fault_that_does_not_come_again(capsys):
    """A weight that is spoiled from outside, once: the steps are trained again, and nothing is
    lost.
    """

    class Cosmic(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.struck = False

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and not self.struck:
                self.struck = True
                self.model.layers[0].kernel.assign(np.full((5, 4), np.nan))

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    states = []
    for callbacks in ([], [Cosmic()]):
        keras.utils.set_random_seed(2)
        model, guard = linear("adam"), kp.NonFiniteGuard()
        history = kp.fit(
            model,
            X,
            Y,
            batch_size=6,
            total_steps=12,
            epochs=2,
            seed=0,
            verbose=0,
            callbacks=[guard, *callbacks, kp.Checkpoint(f"run{len(callbacks)}")],
        )
        assert not guard.findings
        states.append(run_state(model, history))
    assert_same_state(*states)
    assert "all is finite: the fault is not in the data or the model" in capsys.readouterr().out


def endless():
    while True:
        yield X[:6], Y[:6]


def rate_of(model):
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def test_it_goes_back_to_a_checkpoint_that_was_made():
    """The clock alone saves, so the ends of epochs are its points; the last step of one spoils the
    weights, not the loss.
    """
    number = 4
    x, y = X.copy(), Y.copy()
    x[SOURCE.indices(number)[0]], y[SOURCE.indices(number)[0]] = 0.0, 0.0
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, use_bias=False), layers.Dense(1, use_bias=False)]
    )
    model.compile(keras.optimizers.SGD(0.001), root)
    guard, clock = kp.NonFiniteGuard(), kp.Checkpoint("run", every_seconds=1000)
    kp.fit(
        model,
        x,
        y,
        batch_size=6,
        total_steps=9,
        steps_per_epoch=5,
        seed=0,
        verbose=0,
        callbacks=[guard, clock],
    )
    assert [finding.batch for finding in guard.findings] == [number]
    assert 5 in kp.CheckpointStore("run").steps()


def test_a_damaged_point_is_passed_over(capsys):
    number = batch_with(EXAMPLES[4])

    class Damages(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            found = [
                entry for entry in kp.CheckpointStore("run").entries() if entry.position.step == 5
            ]
            if batch == number and found:
                (file, *_) = found[0].folder.glob("tensors*.safetensors")
                data = file.read_bytes()
                file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    guard = kp.NonFiniteGuard()
    fit(linear("sgd"), spoiled(EXAMPLES[4]), Damages(), guard=guard, total_steps=9, epochs=1)
    assert "Going back further" in capsys.readouterr().out
    assert [finding.batch for finding in guard.findings] == [number]


@pytest.mark.parametrize("same_process", [True, False])
def test_a_schedule_is_not_lowered_again_by_a_second_call(same_process):
    """A notebook cell that is run again, with more steps; and the same in a new process."""

    def made():
        keras.utils.set_random_seed(1)
        schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1000, 1.0)
        return linear(keras.optimizers.SGD(schedule)), kp.NonFiniteGuard()

    data = {
        "x": spoiled(EXAMPLES[2]),
        "y": Y,
        "batch_size": 6,
        "steps_per_epoch": 5,
        "seed": 0,
        "verbose": 0,
    }
    model, guard = made()
    kp.fit(model, **data, total_steps=10, callbacks=[guard, kp.Checkpoint("whole")])
    expected = model.get_weights()
    model, guard = made()
    kp.fit(model, **data, total_steps=5, callbacks=[guard, kp.Checkpoint("run")])
    # The script's own schedule is the optimizer's again.
    assert rate_of(model) == pytest.approx(0.01)
    model, guard = (model, guard) if same_process else made()
    history = kp.fit(model, **data, total_steps=10, callbacks=[guard, kp.Checkpoint("run")])
    assert history.learning_rates == pytest.approx([0.005, 0.005])
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_rate_that_the_script_has_changed_is_lowered_once_for_each_finding():
    x = spoiled(int(SOURCE.indices(6)[0]))
    x[SOURCE.indices(8)[0], 2] = np.nan
    data = {"y": Y, "batch_size": 6, "steps_per_epoch": 5, "seed": 0, "verbose": 0}
    kp.fit(
        linear(keras.optimizers.SGD(0.01)),
        x,
        **data,
        total_steps=5,
        callbacks=[kp.NonFiniteGuard(), kp.Checkpoint("run")],
    )
    model, guard = linear(keras.optimizers.SGD(0.02)), kp.NonFiniteGuard()
    kp.fit(model, x, **data, total_steps=8, callbacks=[guard, kp.Checkpoint("run")])
    assert len(guard.findings) == 2
    assert rate_of(model) == pytest.approx(0.005)


def test_only_one_in_a_run():
    with pytest.raises(ValueError, match=r"a run has one kp\.NonFiniteGuard; received 2"):
        kp.fit(
            linear("sgd"),
            X,
            Y,
            callbacks=[kp.NonFiniteGuard(), kp.NonFiniteGuard(), kp.Checkpoint("run")],
        )


def test_steps_run_together_again_after_a_search_that_found_nothing():
    together = 3 if current().fuses_steps else 1
    seen, struck = [], []

    class Strikes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and not struck:
                struck.append(epoch)
                self.model.layers[0].kernel.assign(np.full((5, 4), np.nan))

        def on_train_batch_begin(self, batch, logs=None):
            seen.append(self.model.steps_per_execution)

        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    model = linear("sgd")
    model.compile("sgd", "mse", steps_per_execution=together)
    guard = kp.NonFiniteGuard()
    seen.clear()
    kp.fit(
        model,
        X,
        Y,
        batch_size=6,
        total_steps=18,
        epochs=3,
        seed=0,
        verbose=0,
        callbacks=[guard, Strikes(), kp.Checkpoint("run")],
    )
    assert not guard.findings
    assert 1 in seen
    assert seen[-1] == together


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            {"x": lambda: ((X[:6], Y[:6]) for _ in range(99)), "y": None, "batch_size": None},
            "cannot be taken up at an earlier step",
        ),
        (
            {"validation_data": lambda: ((X[:6], Y[:6]) for _ in range(99)), "validation_steps": 1},
            "validation_data is a generator",
        ),
    ],
)
def test_data_that_cannot_be_taken_up_again_is_refused_at_the_start(arguments, reason):
    arguments = {name: value() if callable(value) else value for name, value in arguments.items()}
    with pytest.raises(
        ValueError,
        match=rf"NonFiniteGuard\(rollback=True\): the run could not go back, since .*{reason}",
    ):
        fit(linear("sgd"), arguments.pop("x", X), guard=kp.NonFiniteGuard(), **arguments)


def test_without_a_checkpoint_it_is_refused_at_the_start():
    with pytest.raises(ValueError, match=r"since there is no kp\.Checkpoint among the callbacks"):
        kp.fit(linear("sgd"), X, Y, epochs=1, verbose=0, seed=0, callbacks=[kp.NonFiniteGuard()])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate_factor": 0.0}, ValueError, "`rate_factor` must be finite, greater than 0"),
        ({"rate_factor": 2.0}, ValueError, "`rate_factor` must be finite, greater than 0"),
        ({"rate_factor": "half"}, TypeError, "`rate_factor` must be a number"),
        ({"max_rollbacks": -1}, ValueError, "`max_rollbacks` must be at least 0"),
        ({"every_steps": 0}, ValueError, "`every_steps` must be at least 1"),
        ({"every_steps": 1.5}, TypeError, "`every_steps` must be a whole number"),
    ],
)
def test_arguments_are_checked_where_they_are_given(arguments, error, message):
    with pytest.raises(error, match=message):
        kp.NonFiniteGuard(**arguments)


# Plain model.fit.


def test_in_plain_fit_the_epoch_is_taken_back(capsys):
    keras.utils.set_random_seed(3)
    model, guard = linear("adam"), kp.NonFiniteGuard()
    struck = []

    class Strikes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                struck.append([np.copy(weight) for weight in self.model.get_weights()])
                self.model.layers[1].kernel.assign(np.full((4, 1), np.nan))

    history = model.fit(X, Y, epochs=4, batch_size=6, verbose=0, callbacks=[Strikes(), guard])
    (finding,) = guard.findings
    assert finding.step == 30
    assert "of epoch 3 is not finite" in finding.cause
    assert np.isfinite(history.history["loss"][3])
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.0005)
    assert int(model.optimizer.iterations) == 30
    assert "rollback 1 of 3" in capsys.readouterr().out
    assert history.events[0]["kind"] == "rolled back"


def test_in_plain_fit_it_gives_up_too():
    guard = kp.NonFiniteGuard(max_rollbacks=1)
    with pytest.raises(kp.NonFiniteError, match="the loss of epoch 2 is not finite"):
        linear("sgd").fit(spoiled(0), Y, epochs=5, batch_size=6, verbose=0, callbacks=[guard])
    assert len(guard.findings) == 1


def test_in_plain_fit_a_schedule_is_scaled():
    guard = kp.NonFiniteGuard(max_rollbacks=2)
    model = linear(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(1e20, 1, 1.0)))
    with pytest.raises(kp.NonFiniteError):
        model.fit(X, Y, epochs=5, batch_size=6, verbose=0, callbacks=[guard])
    np.testing.assert_allclose(
        float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)), 0.25e20, rtol=1e-5
    )


# Kills.


class Copies(keras.callbacks.Callback):
    """Keeps what a kill would leave in the working directory, wherever a step begins, those that
    are trained again included.

    Attributes:
        calls: How many steps have begun.
        kept: The files' contents, anew when they are others than at the step before.
    """

    def __init__(self):
        super().__init__()
        self.calls, self.kept = 0, []

    def on_train_batch_begin(self, batch, logs=None):
        self.calls += 1
        files = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        self.kept += [] if self.kept[-1:] == [files] else [files]

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def rolled_back_run(seed):
    keras.utils.set_random_seed(seed)
    model, callbacks, copies = compiled(small(), keras.optimizers.Adam(0.01)), guarded(), Copies()
    data = {**CASES["planted NaN"].arguments, "total_steps": 10, "epochs": 2}
    data.pop("callbacks")
    files = [kp.Checkpoint("run", every_steps=3, background=False), copies]
    history = kp.fit(model, **data, seed=0, verbose=0, callbacks=[*callbacks, *files])
    return run_state(model, history, callbacks), copies


def test_killed_at_every_step_that_begins_rollbacks_included(tmp_path, monkeypatch):
    expected, copies = rolled_back_run(0)
    # More steps than the run has: some were trained three times.
    assert copies.calls > 12
    assert len(copies.kept) == 5
    for number, files in enumerate(copies.kept):
        for path, content in files.items():
            copy = tmp_path / f"killed-{number}" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        monkeypatch.chdir(tmp_path / f"killed-{number}")
        # From the first, in which nothing but the start is saved, it begins there.
        found, _ = rolled_back_run(99)
        assert_same_state(expected, found, f"Killed with these files: {', '.join(map(str, files))}")


def test_killed_and_stopped_in_processes_of_its_own(tmp_path):
    name = "planted NaN"
    folder = Folder(tmp_path / "killed", name)
    for step, signals, exit_code in ((2, "term", 143), (3, "kill", -9), (7, "term", 143)):
        folder.child("--at", step, "--signals", signals, expect=exit_code)
    assert_same_state(references(name)[name], folder.finish())


# The parts.


def test_extremes_tell_whether_all_is_finite():
    for dtype in ("float16", "float32", "float64"):
        for value in (np.nan, np.inf, -np.inf):
            array = np.ones((3, 5), dtype)
            assert all_finite(array)
            array[1, 2] = value
            assert not all_finite(array)
    assert all_finite(np.zeros((0, 3), "float32"))
    assert all_finite(np.array([2**40]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_of_squares_tells_of_a_large_array_whether_all_is_finite(dtype):
    for order in "CF":
        array = np.ones((300, 100), dtype, order=order)
        assert all_finite(array)
        array[7, 5] = np.finfo(dtype).max
        assert all_finite(array)
        for value in (np.nan, np.inf, -np.inf):
            array[3, 2] = value
            assert not all_finite(array)


def test_variables_that_are_not_finite_are_found_on_the_device():
    model = linear("adam")
    model.optimizer.build(model.trainable_variables)
    variables = Variables(model)
    assert variables.wrong() == []
    model.layers[1].bias.assign([np.inf])
    model.layers[0].kernel.assign(np.full((5, 4), np.nan))
    assert variables.wrong() == ["layers/0/kernel", "layers/1/bias"]


def test_what_it_says_begins_a_line_below_the_progress_bar(capsys, tmp_path):
    x, y = np.ones((64, 4), "float32"), np.ones(64, "float32")
    x[17, 2] = np.nan
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    kp.fit(
        model,
        x,
        y,
        batch_size=8,
        epochs=1,
        seed=0,
        verbose=1,
        callbacks=[kp.NonFiniteGuard(), kp.Checkpoint(tmp_path)],
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "keras-patterns: step" in line]
    assert len(said) == 2
    assert all(line.startswith("keras-patterns: ") for line in said)
    assert "of the data): x is not finite in example 17; " in said[1]


def test_rows_of_tensors_are_looked_at():
    """Of a type that NumPy does not know."""
    x = np.ones((4, 2), "float32")
    x[2, 1] = np.nan
    batch = keras.ops.convert_to_tensor(x, "bfloat16"), None
    assert broken_rows(batch) == [2]
    assert wrong_in_batch(batch, [5, 6, 7, 8]) == "x is not finite in example 7"
