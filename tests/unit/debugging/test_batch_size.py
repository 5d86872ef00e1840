"""kp.probe_batch_size: its estimates, its report, its arguments."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.debugging import batch_size_memory, batch_size_noise, batch_size_speed
from keras_patterns.debugging.batch_size_loss import SizeLoss
from keras_patterns.debugging.batch_size_memory import LargestSize, search_in_child
from keras_patterns.debugging.batch_size_noise import NoiseScale, measure_noise
from keras_patterns.debugging.batch_size_report import BatchSizeReport
from keras_patterns.debugging.batch_size_rows import rows_of
from keras_patterns.debugging.batch_size_speed import Speed

RNG = np.random.default_rng(3)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = (X.sum(1, keepdims=True) + 2 * RNG.normal(size=(24, 1))).astype("float32")


def net():
    hidden = layers.Dense(4, "tanh")
    model = keras.Sequential([keras.Input((3,)), hidden, layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


# The noise scale.


def flat(gradients):
    return np.concatenate([one.ravel() for one in gradients]).astype("float64")


@pytest.mark.parametrize("size", [2, 8])
def test_the_noise_scale_is_within_its_interval_in_nine_of_ten_seeds(size, monkeypatch):
    """Of 200. Against all per-example gradients of a net, whose mean is the gradient of a batch."""
    model = net()
    each = np.array([flat(current().gradients(model, (x, y, None))[1]) for x, y in pairs()])
    _, whole = current().gradients(model, (X, Y, None))
    np.testing.assert_allclose(flat(whole), each.mean(0), rtol=1e-4, atol=1e-6)
    expected = each.var(0).sum() / (each.mean(0) ** 2).sum()
    place = {x.tobytes(): number for number, x in enumerate(X)}

    def known(self, model):
        return lambda batch: (0.0, [each[[place[x.tobytes()] for x in batch[0]]].mean(0)])

    monkeypatch.setattr(type(current()), "gradient_function", known)
    rows = rows_of("test", X, Y, None)
    found = [measure_noise(model, rows, size, seed) for seed in range(200)]
    within = sum(one.low <= expected <= one.high for one in found) / 200
    # The nominal level is 0.95, and one that always holds it would be no interval.
    print(f"within: {within:.3f}")
    assert 0.9 <= within <= 0.99
    assert np.median([one.high for one in found]) < 10 * expected


def pairs():
    return [(X[number : number + 1], Y[number : number + 1]) for number in range(len(X))]


def test_the_noise_scale_of_equal_examples_is_zero(monkeypatch):
    monkeypatch.setattr(batch_size_noise, "REPEATS", 2)
    rows = rows_of("test", np.ones((8, 3)), np.ones((8, 1)), None)
    assert measure_noise(net(), rows, 4, 0).critical_batch_size == pytest.approx(0, abs=1e-3)


def test_no_noise_scale_where_the_mean_gradient_is_lost_in_noise():
    noise = NoiseScale(3.0, -0.1, 0.0, math.inf, 32, 40)
    with pytest.raises(ValueError, match="larger `micro_batch_size`"):
        noise.critical_batch_size  # noqa: B018 - it raises
    assert "not above 0" in repr(noise)
    found = report(noise=noise)
    assert "not above 0" in found.recommendation
    assert found.recommended == 16


# The largest size.


def wide():
    """It keeps about three megabytes for each example."""
    inputs = keras.Input((20_000, 1))
    outputs = layers.Dense(1)(layers.GlobalAveragePooling1D()(layers.Conv1D(16, 1)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    return model


def wide_rows():
    return rows_of("test", np.broadcast_to(np.float32(0), (4096, 20_000, 1)), np.zeros(4096), None)


@pytest.mark.gallery
def test_a_child_finds_the_largest_size_and_twice_as_much_does_not_fit():
    model, rows, limit = wide(), wide_rows(), 512 * 2**20
    found = batch_size_memory.find_largest(model, rows, None, limit)
    assert 16 <= found.size < rows.examples
    assert found.source == "child"
    # In children that have trained on nothing else.
    assert search_in_child(model, rows, limit, first=found.size).size >= found.size
    assert search_in_child(model, rows, limit, first=2 * found.size).size == 0
    # What it takes grows with the size: some megabytes for each example.
    assert 2**20 < found.memory[16] / 16 < 20 * 2**20


class Unknown(keras.Model):
    """A child cannot know this class."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1000)
        self.last = layers.Dense(1)

    def call(self, inputs):
        return self.last(self.dense(inputs))


def test_a_model_that_cannot_be_rebuilt_gets_an_estimate(monkeypatch):
    def none(*_):
        raise batch_size_memory._NoChildError("no configuration")

    monkeypatch.setattr(batch_size_memory, "search_in_child", none)
    model = Unknown()
    model.compile("sgd", "mse")
    x = np.zeros((4096, 3), "float32")
    # 1001 outputs of four bytes and their gradients: 8008 bytes an example, and 5 * 1001 weights.
    probed = kp.probe_batch_size(
        model, x, x[:, :1], sizes=[8], rounds=1, measure=["memory"], memory_limit=2_000_000
    )
    assert probed.largest == LargestSize(128, "estimate", "no configuration")
    assert "an estimate" in repr(probed)


def test_a_model_without_a_configuration_is_not_given_to_a_child():
    class Local(keras.Model):
        def get_config(self):
            raise NotImplementedError("no config here")

    model = Local()
    with pytest.raises(batch_size_memory._NoChildError, match="no config here"):
        search_in_child(model, rows_of("test", X, Y, None), 2**29)


class Refused(RuntimeError):
    """Stands for the error of a device."""


def refuses_from(monkeypatch, size):
    """A device whose memory ends at a size."""
    real = batch_size_speed.StepTimer.seconds

    def seconds(self, asked, steps=1):
        if asked < size:
            return real(self, asked, steps)
        raise ValueError("the step failed") from Refused(f"{asked}")

    def is_refused(self, error):
        return isinstance(error.__cause__, Refused)

    monkeypatch.setattr(batch_size_speed.StepTimer, "seconds", seconds)
    monkeypatch.setattr(type(current()), "is_out_of_memory", is_refused)
    monkeypatch.setattr(type(current()), "device", lambda self: "1 x big GPU")


def test_a_device_is_filled_until_it_refuses(monkeypatch):
    refuses_from(monkeypatch, 8)
    found = kp.probe_batch_size(net(), X, Y, rounds=1, measure=["memory"])
    assert found.largest == LargestSize(4, "device", "8 was refused by 1 x big GPU")
    assert [one.size for one in found.speeds] == [1, 2, 4]


def test_a_device_that_takes_nothing_is_an_error(monkeypatch):
    refuses_from(monkeypatch, 1)
    with pytest.raises(ValueError, match="not even a batch of 1 fits"):
        kp.probe_batch_size(net(), X, Y, measure=[])


def test_the_memory_of_a_size_stands_in_the_table_with_its_source():
    for source, said in (("child", "12 MiB in a child"), ("estimate", "12 MiB estimated")):
        largest = LargestSize(64, source, "these are all examples", {4: 12 * 2**20})
        assert said in repr(report(largest=largest))


# The validation loss over sizes.


def line(rate):
    """One weight of 0, on y = 2 x."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.zeros((1, 1))])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


@pytest.mark.parametrize(("rule", "factors"), [("kept", (1, 1)), ("linear", (0.25, 0.5))])
def test_the_loss_of_each_size_is_that_after_the_same_number_of_examples(rule, factors):
    """On examples that are all alike a step takes `4 * rate` of what is left of the error."""
    model = line(0.1)
    x, y = np.ones((32, 1), "float32"), np.full((32, 1), 2.0, "float32")
    found = kp.probe_batch_size(
        *(model, x, y),
        **{"sizes": [8, 16], "rounds": 1, "measure": ["loss"], "rate_rule": rule},
        **{"validation_data": (x, y), "loss_examples": 40, "loss_seeds": 2},
    )
    # 40 examples are 32 in whole steps of both: 4 steps of 8, and 2 of 16.
    for one, factor, steps in zip(found.losses, factors, (4, 2), strict=True):
        left = 2 * (1 - 2 * 0.1 * factor) ** steps
        assert one.rate_factor == factor
        np.testing.assert_allclose(one.losses, [left**2] * 2, rtol=1e-4)
    assert float(model.get_weights()[0][0, 0]) == 0
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_schedule_is_scaled_and_put_back():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1000, 1.0)
    model = line(rate)
    x, y = np.ones((20, 1), "float32"), np.full((20, 1), 2.0, "float32")
    how = {"sizes": [8], "rounds": 1, "measure": ["loss"], "rate_rule": "sqrt"}
    found = kp.probe_batch_size(model, x, y, **how)
    (one,) = found.losses
    # A fifth is held out; 16 examples are two steps.
    assert one.losses == pytest.approx([4 * (1 - 0.2 * 0.5) ** 4] * 3, rel=1e-4)
    assert model.optimizer._learning_rate is rate


def test_the_losses_stand_in_table_words_and_picture():
    worse = [SizeLoss(size, np.array([a, b]), 1.0) for size, a, b in LOSSES]
    found = replace(report(noise_of(10.0)), losses=tuple(worse))
    assert "0.15 ± 0.071" in repr(found)
    assert "lowest at 4: 0.15 ± 0.071 over 2 seeds; at 16 it is 0.9 ± 0.14" in found.recommendation
    assert "clearly worse" in found.recommendation
    axes = found.plot()
    assert "validation loss" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_loss_that_is_not_finite_is_never_the_lowest():
    """Not even of the first size, with which every comparison fails."""
    lost = [(4, np.nan, 0.2), (16, 0.8, 1.0), (64, np.inf, np.inf)]
    losses = tuple(SizeLoss(size, np.array([a, b]), 1.0) for size, a, b in lost)
    found = replace(report(noise_of(10.0)), losses=losses)
    assert "lowest at 16: 0.9 ± 0.14 over 2 seeds." in found.recommendation
    assert repr(found).count("not finite") == 2
    found.plot()
    found = replace(report(noise_of(1e6)), losses=losses)
    assert "at 64 it is not finite, which is clearly worse" in found.recommendation
    found = replace(found, losses=(losses[0], losses[2]))
    assert "no size has a finite validation loss" in found.recommendation


LOSSES = [(4, 0.1, 0.2), (16, 0.8, 1.0), (64, 3.0, 3.0)]


# The report.


def report(noise=None, largest=None):
    rates = {4: [900.0, 1000.0, 1100.0], 16: [9500.0] * 3, 64: [10_000.0] * 3}
    speeds = tuple(Speed(size, np.array(found)) for size, found in rates.items())
    return BatchSizeReport(speeds, noise, largest, 100)


def noise_of(scale):
    return NoiseScale(scale, 1.0, scale / 2, scale * 2, 32, 40)


@pytest.mark.parametrize(("scale", "size"), [(10.0, 16), (1e6, 64)])
def test_the_shortest_time_to_a_loss_is_recommended(scale, size):
    # (1 + size / scale) / rate: of 16 it is 2.6 / 9500 at a scale of 10, of 64 7.4 / 10000.
    assert report(noise_of(scale)).recommended == size


def test_without_noise_the_smallest_fast_size_is_recommended():
    assert report().recommended == 16
    assert "Noise was not judged." in report().recommendation


def test_a_size_that_does_not_fit_is_not_recommended():
    found = report(noise_of(1e6), LargestSize(16, "child", "a child was refused more"))
    assert found.recommended == 16
    assert "may not fit" in found.recommendation


def test_the_report_shows_its_table_and_says_that_the_scale_grows():
    found = report(noise_of(10.0))
    assert "900" not in found._repr_html_()
    assert "950 to 1,050" in repr(found)
    assert ">950 to 1,050</td>" in found._repr_html_()
    assert "grows during training" in repr(found)


@pytest.mark.parametrize(
    "noise", [None, noise_of(10.0), NoiseScale(9.0, 1.0, 0.0, math.inf, 8, 40)]
)
def test_the_picture_has_speeds_and_the_scale(noise):
    axes = report(noise).plot()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"speed", "recommended"} <= set(labels)
    assert ("noise scale" in labels) == (noise is not None)


# The arguments.


def test_a_model_without_a_loss_has_no_noise_scale():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd")
    with pytest.raises(ValueError, match="leave the noise out: measure="):
        kp.probe_batch_size(model, X, Y)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"sizes": [0]}, ValueError, "`sizes` must be at least 1"),
        ({"sizes": [25]}, ValueError, "up to the number of examples.*Received"),
        ({"sizes": []}, ValueError, "`sizes` must be batch sizes"),
        ({"rounds": 0}, ValueError, "`rounds` must be at least 1"),
        ({"measure": "noise"}, TypeError, "`measure` must be a list of names"),
        ({"measure": ["speed"]}, ValueError, "`measure` must be one of 'noise', 'memory', 'loss'"),
        ({"measure": ["loss"], "rate_rule": "cubic"}, ValueError, "`rate_rule` must be one of"),
        ({"measure": ["loss"], "loss_seeds": 0}, ValueError, "`loss_seeds` must be at least 1"),
        ({"measure": ["loss"], "x": X[:4], "y": Y[:4]}, ValueError, "none can be held out"),
        ({"micro_batch_size": 0}, ValueError, "`micro_batch_size`"),
        ({"memory_limit": 1.5}, TypeError, "`memory_limit`"),
        ({"x": iter([(X, Y)]), "y": None}, TypeError, "arrays only.*Pass x and y as arrays"),
        ({"y": Y[:5]}, ValueError, "the same number of examples"),
    ],
)
def test_arguments_are_checked(how, error, said):
    with pytest.raises(error, match=said):
        kp.probe_batch_size(net(), **{"x": X, "y": Y, **how})


def test_a_model_must_be_compiled():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="is not compiled"):
        kp.probe_batch_size(model, X, Y)
    with pytest.raises(TypeError, match="must be a Keras model"):
        kp.probe_batch_size(None, X, Y)
