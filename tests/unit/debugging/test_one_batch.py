"""kp.overfit_batch: the verdicts, each with the counterfactual that proves it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns.debugging.overfit_report import Attempt
from keras_patterns.debugging.verdicts import is_better, judged

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = np.tanh(X[:, :1] * X[:, 1:2])


def net(optimizer, *hidden, loss="mse"):
    hidden = hidden or (layers.Dense(32, activation="tanh"),)
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(1)])
    model.compile(optimizer, loss)
    return model


def sgd(rate):
    return net(keras.optimizers.SGD(rate))


def test_a_batch_is_memorised_at_the_given_rate_alone():
    report = kp.overfit_batch(net(keras.optimizers.Adam(0.05)), X, Y)
    assert report.verdict == "memorised"
    assert report.rates == pytest.approx([0.05])
    assert report.losses.shape == (60,)
    assert report.losses[-1] < 0.05 * report.losses[0]
    assert report.try_next == "Train on all the data."


def attempt(factor, losses):
    return Attempt(factor, factor, losses, *judged(losses, 0.0))


@pytest.mark.once
def test_a_leap_on_the_way_down_proves_no_rate_wrong():
    leaps, slow, fast = (np.linspace(0.28, end, 60) for end in (-1.3, -0.5, -1.4))
    leaps[30] = 3.84
    first = attempt(1.0, leaps)
    assert first.verdict == "explodes"
    assert not is_better(first, attempt(0.1, slow))
    assert is_better(first, attempt(0.1, fast))
    leaps[31:] = 3.84
    assert is_better(attempt(1.0, leaps), attempt(0.1, slow))


def test_the_losses_are_those_of_single_steps():
    keras.utils.set_random_seed(3)
    model = sgd(0.1)
    report = kp.overfit_batch(model, X[:16], Y[:16], batch_size=16, steps=10)
    expected = [model.train_on_batch(X[:16], Y[:16]) for _ in range(10)]
    np.testing.assert_allclose(report.losses, expected, rtol=1e-4)


@pytest.mark.parametrize("rate", [100.0, 1e4])
def test_a_rate_that_is_too_high_by_far_is_proven_too(rate):
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(8, activation="relu")
    report = kp.overfit_batch(net(keras.optimizers.Adam(rate), hidden), X, Y)
    assert report.verdict in ("explodes", "goes up")
    assert [finding.kind for finding in report.findings] == ["lr_high"]
    assert len(report.attempts) <= 4


@pytest.mark.parametrize("rate", [30.0, 1e6])
def test_too_high_a_rate_is_proven_by_a_lower_one(rate):
    report = kp.overfit_batch(sgd(rate), X, Y)
    assert report.verdict in ("explodes", "not finite", "goes up", "oscillates")
    assert len(report.attempts) > 1
    assert (np.diff(report.rates) < 0).all()
    if rate == 30.0:
        (finding,) = report.findings
        assert finding.kind == "lr_high"
        assert "times the rate it falls by" in report.evidence
        assert "kp.find_learning_rate" in report.try_next


def test_too_low_a_rate_is_proven_by_a_higher_one():
    report = kp.overfit_batch(sgd(1e-4), X, Y)
    assert report.verdict == "plateaus"
    assert [finding.kind for finding in report.findings] == ["lr_low"]
    assert report.rates == pytest.approx(1e-4 * 10.0 ** np.arange(len(report.rates)))
    assert report.attempts[-1].fall > report.attempts[0].fall + 0.08


def test_at_most_four_rates_are_tried():
    report = kp.overfit_batch(sgd(1e-12), X, Y)
    assert len(report.attempts) == 4
    assert not report.findings


def test_without_a_gradient():
    cut = layers.Lambda(keras.ops.round)
    report = kp.overfit_batch(
        net("adam", layers.Dense(4), cut, layers.Lambda(lambda x: 0 * x)), X, Y * 0
    )
    assert report.verdict == "no gradient"


def test_a_loss_with_the_wrong_sign_climbs_at_every_rate():
    class Ascending(keras.Sequential):
        def compute_loss(self, *how, **named):
            return super().compute_loss(*how, **named)

    model = Ascending([keras.Input((6,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(-0.01), "mse")
    report = kp.overfit_batch(model, X, Y)
    assert [finding.kind for finding in report.findings] == ["negated_loss"]


def test_a_scheduled_rate_is_multiplied_and_still_there():
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-4, 10, 0.5)
    model = sgd(schedule)
    names = [one.name for one in model.optimizer.variables]
    report = kp.overfit_batch(model, X, Y)
    assert report.rates[:2] == pytest.approx([1e-4, 1e-3])
    assert [one.name for one in model.optimizer.variables][: len(names)] == names
    kp.fit(model, X, Y, verbose=0)
    rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
    assert float(rate) == pytest.approx(1e-4 * 0.5**0.2)


def test_several_optimizers_keep_the_ratio_of_their_rates():
    body, head = keras.optimizers.SGD(1e-5), keras.optimizers.SGD(1e-4)
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(head, {".*body.*": body})
    )
    model = net(optimizer, layers.Dense(8, "relu", name="body"))
    report = kp.overfit_batch(model, X, Y)
    assert report.rates[0] == pytest.approx(1e-4)
    assert float(keras.ops.convert_to_numpy(body.learning_rate)) == pytest.approx(1e-5)


def test_one_compilation_serves_every_rate():
    class Counted(keras.Sequential):
        compiled_times = 0

        def make_train_function(self, force=False):
            Counted.compiled_times += self.train_function is None
            return super().make_train_function(force)

    model = Counted([keras.Input((6,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    assert len(kp.overfit_batch(model, X, Y).attempts) == 4
    assert Counted.compiled_times == 1


def test_dropout_is_off_and_said_so_unless_it_is_wanted():
    def report(**more):
        model = net(keras.optimizers.Adam(0.05), layers.Dense(32, "tanh"), layers.Dropout(0.9))
        return kp.overfit_batch(model, X, Y, **more)

    quiet, noisy = report(), report(keep_noise=True)
    assert quiet.without == ("Dropout",)
    assert "Kept from drawing at random meanwhile: Dropout." in repr(quiet)
    assert noisy.without == ()
    assert quiet.losses[-1] < 0.1 * noisy.losses[-1]


class Jittered(layers.Layer):
    """Draws in every mode, or is told the mode by place."""

    def __init__(self, by_place):
        super().__init__()
        self.draws = keras.random.SeedGenerator(0)
        self.drop = layers.Dropout(0.1, seed=0) if by_place else None

    def call(self, inputs):
        if self.drop is not None:
            return self.drop.call(inputs, True)
        return inputs + keras.random.normal(keras.ops.shape(inputs), 0.0, 0.01, seed=self.draws)


@pytest.mark.parametrize("by_place", [False, True])
def test_a_layer_that_draws_and_knows_no_mode(by_place):
    model = net(keras.optimizers.Adam(0.05), layers.Dense(32, "tanh"), Jittered(by_place))
    assert kp.overfit_batch(model, X, Y).verdict in ("memorised", "learning")


class OwnLoss(keras.Model):
    """Computes its loss from what a step is given."""

    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1)

    def call(self, inputs):
        return self.last(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y - y_pred) ** 2)


def test_a_loss_of_ones_own_is_given_tensors():
    model = OwnLoss()
    model.compile(keras.optimizers.Adam(0.05))
    assert kp.overfit_batch(model, X, X[:, :1]).verdict in ("memorised", "learning")


def test_the_table_of_layers():
    report = kp.overfit_batch(sgd(0.1), X, Y)
    assert [row.layer for row in report.layers] == ["Dense at layers/0", "Dense at layers/1"]
    assert all(row.gradient > 0 and row.update > 0 and row.spread > 0 for row in report.layers)
    assert "update / weight" in repr(report)
    assert ">Dense at layers/0</td>" in report._repr_html_()


def test_the_update_is_relative_to_the_weights():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    report = kp.overfit_batch(model, np.ones((8, 1)), np.zeros((8, 1)), steps=10)
    # The gradient of the kernel is 2.
    assert report.layers[0].gradient == pytest.approx(2.0)
    assert report.layers[0].update == pytest.approx(0.5)


def test_the_picture_has_a_line_for_each_rate():
    pytest.importorskip("matplotlib")
    report = kp.overfit_batch(sgd(1e-4), X, Y)
    axes = report.plot()
    assert len(axes.lines) == len(report.attempts)
    assert axes.get_title() == "plateaus"


def test_a_model_of_batches_of_a_fixed_size():
    inputs = keras.Input(batch_shape=(8, 6))
    model = keras.Model(inputs, layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    assert kp.overfit_batch(model, X, Y).verdict in ("learning", "memorised")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 5}, ValueError, "`steps` must be at least 10"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"loss_key": "d_loss"}, ValueError, r"must return 'd_loss'; this one returned \['loss'\]"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=f"kp.overfit_batch: .*{message}"):
        kp.overfit_batch(sgd(0.1), X, Y, **arguments)


def test_labels_out_of_range_are_refused_before_a_step():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="labels or ids are out of range"):
        kp.overfit_batch(model, X, np.full(64, 3))


SMOOTHED = {
    "categorical": (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), 2, "softmax"),
    "categorical logits": (
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        2,
        None,
    ),
    "binary": (keras.losses.BinaryCrossentropy(label_smoothing=0.1), 1, "sigmoid"),
    "binary logits": (
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        1,
        None,
    ),
    "soft logits": (keras.losses.BinaryCrossentropy(from_logits=True), 1, None),
}


@pytest.mark.parametrize("name", SMOOTHED)
def test_the_least_loss_of_smoothed_and_soft_targets_is_not_zero(name):
    loss, width, activation = SMOOTHED[name]
    labels = (X[:, 0] > 0).astype("int32")
    y = np.eye(2)[labels] if width == 2 else labels[:, None]
    y = 0.2 + 0.5 * y if name.startswith("soft") else y
    hidden = [layers.Dense(32, activation="relu"), layers.Dense(width, activation=activation)]
    model = keras.Sequential([keras.Input((6,)), *hidden])
    model.compile(keras.optimizers.Adam(0.02), loss)
    assert kp.overfit_batch(model, X, y.astype("float32"), steps=200).verdict == "memorised"
