"""Faults in code of one's own, in schedules, weights and data, each beside its sound twin; and
sound models that look like faulty ones.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)).astype("float32")
Y = (X @ RNG.normal(size=(6, 1)) + 0.1 * RNG.normal(size=(400, 1))).astype("float32")
CLASSES = (Y[:, 0] > -1).astype(int) + (Y[:, 0] > 2)


def net(*hidden, last=None, units=1, loss="mse", optimizer=None):
    keras.utils.set_random_seed(0)
    head = layers.Dense(units, activation=last)
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(16, "relu"), head])
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss)
    return model


class OwnLoss(keras.Sequential):
    """Its loss is none that `compile` knows."""

    def __init__(self, parts, *, is_paired):
        super().__init__(parts)
        self.is_paired = is_paired

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        y = ops.reshape(y, (-1, 1)) if self.is_paired else y
        return ops.mean(ops.square(y - y_pred))


def all_with_all(is_faulty):
    keras.utils.set_random_seed(0)
    parts = [keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(1)]
    model = OwnLoss(parts, is_paired=not is_faulty)
    model.compile("adam")
    return model, X, Y[:, 0], {}


class Dropping(layers.Layer):
    def __init__(self, is_rescaled):
        super().__init__()
        self.is_rescaled, self.seed = is_rescaled, keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if not training:
            return x
        kept = ops.cast(keras.random.uniform(ops.shape(x), seed=self.seed) < 0.7, x.dtype)
        return x * kept / 0.7 if self.is_rescaled else x * kept


def not_rescaled(is_faulty):
    return net(layers.Dense(16, "relu"), Dropping(not is_faulty)), X, Y, {}


def squashed_twice(is_faulty):
    def focal(y, p):
        p = ops.sigmoid(p) if is_faulty else p
        right = y * p + (1 - y) * (1 - p)
        return -ops.mean(ops.square(1 - right) * ops.log(right + 1e-7), axis=-1)

    labels = (X[:, :3] > 0).astype("float32")
    return net(last="sigmoid", units=3, loss=focal), X, labels, {}


def answer_in_a_column(is_faulty):
    series = np.cumsum(RNG.normal(size=407)).astype("float32")
    series = (series - series.mean()) / series.std()
    x = np.lib.stride_tricks.sliding_window_view(series, 6)[:400, :, None]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 1)), layers.GRU(8), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, series[5 if is_faulty else 6 :][:400, None], {}


def answer_beside_the_text(is_faulty):
    random = np.random.default_rng(1)
    source = random.integers(1, 7, (400, 8))
    target = np.cumsum(source, axis=1) % 6 + 1
    before = np.concatenate([np.zeros((400, 1), int), target[:, :-1]], axis=1)
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="int32")]
    h = layers.Concatenate()([layers.Embedding(7, 8)(one) for one in inputs])
    h = layers.GRU(16, return_sequences=True)(h)
    model = keras.Model(inputs, layers.Dense(7, activation="softmax")(h))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model, [source, target if is_faulty else before], target, {}


def masks_turned(is_faulty):
    random = np.random.default_rng(2)
    masks = np.zeros((120, 12, 12, 1), "float32")
    for mask in masks:
        top, left = random.integers(0, 6, 2)
        mask[top : top + 3, left : left + 6] = 1
    x = (masks + 0.2 * random.normal(size=masks.shape)).astype("float32")
    keras.utils.set_random_seed(0)
    convolutions = [layers.Conv2D(8, 3, padding="same", activation="relu")]
    last = layers.Conv2D(1, 1, activation="sigmoid")
    model = keras.Sequential([keras.Input((12, 12, 1)), *convolutions, last])
    model.compile("adam", "binary_crossentropy")
    return model, x, masks.swapaxes(1, 2) if is_faulty else masks, {}


def most_targets_are_zero(is_faulty):
    rare = np.where(X[:, :1] > 0.8, np.round(3 + X[:, 1:2]), 0).astype("float32")
    return net(last="softplus", loss="mae" if is_faulty else "poisson"), X, rare, {}


def largest_class_weightless(is_faulty):
    counts = np.bincount(CLASSES)
    weight = len(X) // (3 * counts) if is_faulty else len(X) / (3 * counts)
    model = net(last="softmax", units=3, loss="sparse_categorical_crossentropy")
    return model, X, CLASSES, {"sample_weight": weight[CLASSES].astype("float32")}


class Rising(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, is_endless):
        self.is_endless = is_endless

    def __call__(self, step):
        part = ops.cast(step + 1, "float32") / 20
        return 0.01 * (part if self.is_endless else ops.minimum(part, 1.0))


def warm_up_without_end(is_faulty):
    return net(optimizer=keras.optimizers.Adam(Rising(is_faulty))), X, Y, {"epochs": 20}


def decay_of_a_decay(is_faulty):
    function = (lambda epoch, rate: rate * 0.8**epoch) if is_faulty else lambda epoch: 0.9**epoch
    scheduler = keras.callbacks.LearningRateScheduler(lambda *given: 0.01 * function(*given))
    scheduler.schedule = function
    model = net(optimizer=keras.optimizers.SGD(0.05))
    return model, X, Y, {"epochs": 30, "callbacks": [scheduler]}


def pairs_of_columns(is_faulty):
    def likelihood(y, p):
        mean, log = (p[:, 0], p[:, 1]) if is_faulty else (p[:, :1], p[:, 1:])
        return ops.mean(0.5 * (log + ops.square(y - mean) * ops.exp(-log)))

    return net(units=2, loss=likelihood), X, Y, {}


class Code(layers.Layer):
    """The code of a variational autoencoder, whose divergence is added to the loss."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.seed = weight, keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        mean, log = ops.split(x, 2, axis=-1)
        divergence = 0.5 * ops.sum(ops.square(mean) + ops.exp(log) - log - 1, axis=-1)
        self.add_loss(self.weight * ops.mean(divergence))
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(log / 2) * noise if training else mean


def code_without_a_share(is_faulty):
    keras.utils.set_random_seed(0)
    x = (0.3 * X[:, :2] @ np.random.default_rng(5).normal(size=(2, 24))).astype("float32")
    h = layers.Dense(8)(layers.Dense(32, "relu")(inputs := keras.Input((24,))))
    h = layers.Dense(32, "relu")(Code(1.0 if is_faulty else 0.002)(h))
    model = keras.Model(inputs, layers.Dense(24)(h))
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model, x, x, {}


class Factors(layers.Layer):
    """A frozen matrix, and two factors that correct it."""

    def __init__(self, first, **more):
        super().__init__(**more)
        self.first = first

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 1), trainable=False)
        self.a = self.add_weight(shape=(shape[-1], 2), initializer=self.first)
        self.b = self.add_weight(shape=(2, 1), initializer="zeros")

    def call(self, x):
        return ops.matmul(x, self.matrix) + ops.matmul(ops.matmul(x, self.a), self.b)


def both_factors_zero(is_faulty):
    keras.utils.set_random_seed(0)
    factors = Factors("zeros" if is_faulty else "he_normal")
    model = keras.Sequential([keras.Input((6,)), factors])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, X, Y, {}


FAULTS = {
    all_with_all: "broadcast",
    not_rescaled: "train_mode",
    squashed_twice: "logits",
    answer_in_a_column: "look_ahead",
    answer_beside_the_text: "look_ahead",
    masks_turned: "label_noise",
    most_targets_are_zero: "loss_mismatch",
    largest_class_weightless: "imbalance",
    warm_up_without_end: "lr_high",
    decay_of_a_decay: "lr_low",
    pairs_of_columns: "broadcast",
    code_without_a_share: "over_regularised",
    both_factors_zero: "no_gradient",
}


@pytest.mark.parametrize("make", FAULTS)
def test_a_fault_is_named_and_its_twin_is_not(make):
    for is_faulty in (True, False):
        model, x, y, fit = make(is_faulty)
        findings = kp.debug(model, x, y, **fit).findings
        first = [one.kind for one in findings[:2]]
        alarms = [repr(one) for one in findings if one.severity != "note"]
        assert FAULTS[make] in first if is_faulty else not alarms, findings


def test_what_layers_add_is_added_again_after_it_was_left_out():
    model, x, y, _ = code_without_a_share(True)
    model.optimizer.build(model.trainable_variables)
    before = run_state(model, keras.callbacks.History())
    kp.debug(model, x, y)
    assert_same_state(before, run_state(model, keras.callbacks.History()))
    alone = float(np.mean((model.predict(x, verbose=0) - x) ** 2))
    assert model.evaluate(x, y, verbose=0) > alone + 1e-3


def test_a_scheduler_that_draws_and_counts_is_left_as_it_was():
    class Drawing:
        calls = 0

        def __call__(self, epoch, rate):
            self.calls += 1
            return float(rate * np.random.uniform(0.5, 1))

    model, drawing = net(), Drawing()
    np.random.seed(3)
    expected = np.random.uniform()
    np.random.seed(3)
    scheduler = keras.callbacks.LearningRateScheduler(drawing)
    kp.debug(model, X, Y, epochs=8, callbacks=[scheduler])
    assert drawing.calls == 0
    assert np.random.uniform() == expected


def test_a_head_of_which_only_a_number_is_trained_is_frozen():
    class Cosine(layers.Layer):
        def build(self, shape):
            self.prototypes = self.add_weight(shape=(shape[-1], 3), trainable=False)
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return ops.softmax(self.scale * ops.matmul(x, self.prototypes))

    keras.utils.set_random_seed(0)
    body = layers.Dense(64, "relu", trainable=False)
    model = keras.Sequential([keras.Input((6,)), body, Cosine()])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert [one.kind for one in kp.preflight(model, X, CLASSES)] == ["frozen"]


class Gated(layers.Layer):
    """A branch that is let in by and by."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(6, "relu")

    def build(self, shape):
        self.inner.build(shape)
        self.gate = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x + self.gate * self.inner(x)


def test_gates_that_start_at_zero_are_no_fault():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), Gated(), Gated(), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    found = kp.preflight(model, X, Y)
    assert {one.severity for one in found} <= {"note"}
    assert any("gate" in one.message or "variable" in one.message for one in found)


class Linear(layers.Layer):
    """Of a person's own, with a bias that has no name, and an activation that is not applied."""

    def __init__(self, units, activation=None):
        super().__init__()
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        return ops.matmul(x, self.w) + self.b


def test_an_activation_that_is_kept_and_not_applied():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), Linear(16, "relu"), Linear(16, "relu"), Linear(1)])
    model.compile("adam", "mse")
    assert next(one.kind for one in kp.preflight(model, X, Y)) == "missing_nonlinearity"


def test_branches_that_start_at_zero_are_no_fault():
    """With a head at zero that lets no gradient pass in the first step."""
    keras.utils.set_random_seed(0)
    h = layers.Dense(16)(inputs := keras.Input((6,)))
    for _ in range(3):
        h = h + layers.Dense(16, kernel_initializer="zeros")(layers.Dense(16, "relu")(h))
    outputs = layers.Dense(3, "softmax", kernel_initializer="zeros")(h)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert "symmetric_init" not in [one.kind for one in kp.preflight(model, X, CLASSES)]


def test_constant_weights_throughout_are_a_fault():
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(16, "tanh", kernel_initializer="ones")
    head = layers.Dense(3, "softmax", kernel_initializer="ones")
    model = keras.Sequential([keras.Input((6,)), hidden, head])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert "symmetric_init" in [one.kind for one in kp.preflight(model, X, CLASSES)]


def test_raw_columns_before_a_batch_normalization_are_no_fault():
    keras.utils.set_random_seed(0)
    parts = [layers.BatchNormalization(momentum=0.9), layers.Dense(16, "relu")]
    head = layers.Dense(1, "sigmoid")
    model = keras.Sequential([keras.Input((6,)), *parts, head])
    model.compile("adam", "binary_crossentropy")
    x = X * 10.0 ** np.arange(6) + 1000
    found = kp.preflight(model, x, (Y > 0).astype("float32"), total_steps=500)
    assert not found.worst or found.worst == "note", found


class Side(keras.layers.Layer):
    """Layers beside each other, each on the inputs."""

    def __init__(self):
        super().__init__()
        self.route = keras.Sequential([layers.Dense(8, "tanh"), layers.Dense(3, "softmax")])
        self.experts = layers.Dense(3)

    def build(self, shape):
        self.route.build(shape)
        self.experts.build(shape)

    def call(self, x):
        return ops.sum(self.route(x) * self.experts(x), axis=-1, keepdims=True)


def test_layers_beside_each_other_need_nothing_between_them():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), Side()])
    model.compile("adam", "mse")
    assert not kp.preflight(model, X, Y)


def test_a_linear_code_is_no_fault():
    keras.utils.set_random_seed(0)
    x = (X[:, :2] @ np.random.default_rng(3).normal(size=(2, 6))).astype("float32")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2), layers.Dense(6)])
    model.compile("adam", "mse")
    assert [one.severity for one in kp.preflight(model, x, x)] == ["note"]


class Masking(layers.Layer):
    """Hides inputs that are to be told from the others."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        kept = keras.random.uniform(ops.shape(x), seed=self.seed) < 0.5
        return x * ops.cast(kept, x.dtype) if training else x


def test_a_target_in_a_table_is_noted():
    found = kp.preflight(net(), np.concatenate([X, Y], axis=1)[:, 1:], Y)
    assert [(one.kind, one.severity) for one in found] == [("look_ahead", "note")]


def test_inputs_that_are_masked_on_purpose_give_a_note():
    found = kp.preflight(net(Masking()), X, Y)
    assert [(one.kind, one.severity) for one in found] == [("train_mode", "note")]


def test_a_whole_text_that_is_to_be_told_again_is_no_given_answer():
    """An autoencoder of texts: each place depends on all of it."""
    keras.utils.set_random_seed(0)
    text = np.random.default_rng(4).integers(1, 9, (200, 8))
    before = np.concatenate([np.zeros((200, 1), int), text[:, :-1]], axis=1)
    inputs = [keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="int32")]
    code = layers.GRU(16)(layers.Embedding(9, 8)(inputs[0]))
    h = layers.GRU(16, return_sequences=True)(layers.Embedding(9, 8)(inputs[1]), code)
    model = keras.Model(inputs, layers.Dense(9, activation="softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    assert not kp.preflight(model, [text, before], text)
