"""kp.preflight: each kind of finding, on a model that has the fault and on one that has not."""

import keras
import numpy as np
import pytest
from keras import layers
from places import ROOT

import keras_patterns as kp
from keras_patterns.debugging import steps_asked
from keras_patterns.debugging.finding import KINDS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype("float32")
# No column of X itself: that would be the answer among the inputs.
FIRST = 2 * X[:, 0]
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])
ONES = (X[:, 0] > 0).astype("float32")


def net(*last, loss="sparse_categorical_crossentropy", hidden=None, optimizer="adam", inputs=6):
    """A small net with a given end."""
    hidden = [layers.Dense(8, activation="relu")] if hidden is None else hidden
    model = keras.Sequential([keras.Input((inputs,)), *hidden, *last])
    model.compile(optimizer, loss)
    return model


def softmax(**more):
    return net(layers.Dense(3, activation="softmax"), **more)


def sigmoid(**more):
    return net(layers.Dense(1, activation="sigmoid"), **{"loss": "binary_crossentropy", **more})


def linear(units=1, **more):
    return net(layers.Dense(units), **{"loss": "mse", **more})


def kinds(*arguments, **more):
    return [one.kind for one in kp.preflight(*arguments, **more)]


@pytest.mark.parametrize(
    ("make", "y"),
    [(softmax, LABELS), (sigmoid, ONES), (sigmoid, ONES[:, None]), (linear, FIRST)],
)
def test_of_a_sound_model_nothing_is_found(make, y):
    found = kp.preflight(make(), X, y)
    assert found == []
    assert found.worst is None
    assert repr(found) == "Nothing was found that would keep the model from learning."


SPARSE_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BINARY_LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("make", "y", "kind"),
    [
        (lambda: softmax(loss=SPARSE_LOGITS), LABELS, "logits"),
        (lambda: sigmoid(loss=BINARY_LOGITS), ONES, "logits"),
        (
            lambda: net(layers.Dense(3), loss="sparse_categorical_crossentropy"),
            LABELS,
            "output_activation",
        ),
        (lambda: net(layers.Dense(3, activation="relu")), LABELS, "output_activation"),
        (lambda: net(layers.Dense(3, activation="sigmoid")), LABELS, "output_activation"),
        (lambda: linear(loss="binary_crossentropy"), ONES, "output_activation"),
        (lambda: net(layers.Dense(1, activation="relu"), loss="mse"), FIRST, "output_activation"),
        (lambda: net(layers.Dense(1), layers.ReLU(), loss="mse"), FIRST, "output_activation"),
        (
            lambda: net(layers.Dense(1, activation="tanh"), loss="mse"),
            9 * ONES,
            "output_activation",
        ),
        (
            lambda: net(layers.Dense(6, activation="softmax"), loss="binary_crossentropy"),
            (X > 0).astype("float32"),
            "output_activation",
        ),
        (softmax, LABELS + 1, "label_range"),
        (softmax, LABELS - 1, "label_range"),
        (lambda: net(layers.Dense(2, activation="softmax")), LABELS, "output_width"),
        (lambda: linear(3), FIRST, "output_width"),
        (sigmoid, ONES + 1, "label_range"),
        (sigmoid, 2 * ONES - 1, "label_range"),
        (sigmoid, FIRST * 3, "loss_mismatch"),
        (lambda: softmax(loss="mse"), keras.utils.to_categorical(LABELS), "loss_mismatch"),
        (lambda: sigmoid(loss="mae"), ONES, "loss_mismatch"),
        (
            lambda: softmax(loss="binary_crossentropy"),
            keras.utils.to_categorical(LABELS),
            "loss_mismatch",
        ),
        (linear, 1e5 * (3 + FIRST), "target_scale"),
    ],
)
def test_outputs_loss_and_targets_are_judged_against_each_other(make, y, kind):
    assert kind in kinds(make(), X, y)[:2]


def test_a_distribution_that_another_layer_makes_is_seen_by_its_values():
    def head(x):
        return x / keras.ops.sum(x, axis=-1, keepdims=True)

    last = [layers.Dense(3, activation="exponential"), layers.Lambda(head)]
    assert kinds(net(*last, loss=SPARSE_LOGITS), X, LABELS) == ["logits"]
    assert kinds(net(*last), X, LABELS) == []


class Difference(keras.losses.Loss):
    """Pairs what it is given as it stands."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean(keras.ops.square(keras.ops.cast(y_true, "float32") - y_pred))


def test_a_loss_of_ones_own_that_pairs_all_with_all():
    assert kinds(linear(loss=Difference()), X, FIRST) == ["broadcast"]
    assert kinds(linear(loss=Difference()), X, FIRST[:, None]) == []


@pytest.mark.parametrize("make", [softmax, lambda **more: linear(3, **more)])
def test_a_loss_of_ones_own_with_the_wrong_sign(make):
    def sign(factor):
        def loss(y, pred):
            logits = pred.shape[-1] == 3 and make is not softmax
            found = keras.losses.sparse_categorical_crossentropy(y, pred, from_logits=logits)
            return factor * keras.ops.mean(found)

        return loss

    assert "negated_loss" in kinds(make(loss=sign(-1.0)), X, LABELS)
    assert "negated_loss" not in kinds(make(loss=sign(1.0)), X, LABELS)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, ["negated_loss"]), (-1.0, [])])
def test_a_density_that_wants_a_minus(sign, expected):
    def loss(y, pred):
        gap = (y - pred[:, :1]) / keras.ops.exp(pred[:, 1:])
        return sign * keras.ops.mean(-pred[:, 1:] - gap**2 / 2, axis=-1)

    assert kinds(linear(2, loss=loss), X, FIRST[:, None]) == expected


def test_a_distance_that_is_0_for_what_belongs_together_is_no_negated_loss():
    def contrastive(y, apart):
        far = keras.ops.maximum(1.0 - apart, 0.0) ** 2
        return keras.ops.mean(y * apart**2 + (1 - y) * far, axis=-1)

    tower = keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(4)])
    one, other = keras.Input((3,)), keras.Input((3,))
    gap = keras.ops.sum((tower(one) - tower(other)) ** 2, axis=-1, keepdims=True)
    model = keras.Model([one, other], keras.ops.sqrt(gap + 1e-6))
    model.compile("adam", contrastive)
    assert "negated_loss" not in kinds(model, [X[:, :3], X[:, 3:]], ONES[:, None])


# Keras itself warns of it on TensorFlow.
@pytest.mark.filterwarnings("ignore:.*received .from_logits=True.:UserWarning")
@pytest.mark.parametrize(("activation", "expected"), [("softmax", ["logits"]), (None, [])])
def test_a_loss_of_ones_own_that_takes_logits(activation, expected):
    def loss(y, pred):
        return keras.losses.sparse_categorical_crossentropy(y, pred, from_logits=True)

    assert kinds(net(layers.Dense(3, activation=activation), loss=loss), X, LABELS) == expected


def test_labels_that_are_left_out_need_no_unit():
    labels = np.where(ONES > 0, LABELS, -1)
    ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert kinds(softmax(), X, labels)[0] == "label_range"
    assert kinds(softmax(loss=ignoring), X, labels) == []


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("categorical_crossentropy", LABELS[:, None]),
        ("sparse_categorical_crossentropy", np.eye(3)[LABELS]),
    ],
)
def test_labels_in_the_form_of_another_loss(loss, y):
    assert {"output_width", "loss_mismatch"} <= set(kinds(softmax(loss=loss), X, y))


def test_a_rate_below_zero_climbs():
    assert kinds(softmax(optimizer=keras.optimizers.SGD(-0.1)), X, LABELS) == ["negated_loss"]


@pytest.mark.parametrize(
    ("x", "kind", "severity"),
    [
        (100 * X, "input_scale", "warning"),
        (X * [1, 1, 1, 1, 1, 2000], "input_scale", "warning"),
        (X / 1000, "input_scale", "warning"),
        (5 * X, "input_scale", "note"),
        (X / 1000 - 1, "input_scale", "warning"),
        (np.zeros_like(X), "constant_input", "error"),
        (np.where(X > 2.5, np.nan, X), "non_finite", "error"),
    ],
)
def test_inputs(x, kind, severity):
    found = kp.preflight(softmax(), x, LABELS)
    assert (found[0].kind, found[0].severity) == (kind, severity)


@pytest.mark.parametrize(
    "first",
    [
        lambda: [layers.BatchNormalization()],
        lambda: [layers.Rescaling(0.01)],
        lambda: [layers.Dense(8), layers.BatchNormalization()],
    ],
)
def test_inputs_of_any_scale_are_sound_behind_a_layer_that_scales_them(first):
    hidden = [*first(), layers.Dense(8, activation="relu")]
    assert "input_scale" not in kinds(softmax(hidden=hidden), 100 * X, LABELS)


def test_ids_beyond_the_table():
    ids = RNG.integers(0, 12, (200, 5))
    for rows, expected in ((10, ["index_range"]), (12, [])):
        hidden = [layers.Embedding(rows, 4), layers.GlobalAveragePooling1D()]
        assert kinds(softmax(hidden=hidden, inputs=5), ids, LABELS) == expected


def test_one_id_among_many_that_the_sample_does_not_hold():
    ids = RNG.integers(0, 10, (5000, 5))
    ids[4321, 3] = 10
    hidden = [layers.Embedding(10, 4), layers.GlobalAveragePooling1D()]
    found = kp.preflight(softmax(hidden=hidden, inputs=5), ids, LABELS.repeat(25))
    assert found[0].evidence == {"lowest": 0, "highest": 10, "rows": 10}


def test_an_output_that_depends_on_the_rest_of_the_batch():
    centred = layers.Lambda(lambda x: x - keras.ops.mean(x, axis=0))
    assert "batch_leak" in kinds(softmax(hidden=[centred, layers.Dense(8, "relu")]), X, LABELS)


@pytest.mark.parametrize(("axis", "expected"), [(0, ["batch_leak"]), (1, [])])
def test_a_leak_that_is_small_beside_the_outputs_and_the_same_in_any_order(axis, expected):
    ids = RNG.integers(0, 20, (200, 6))
    inputs = keras.Input((6,), dtype="int32")
    h = layers.Embedding(20, 8)(inputs)
    shares = keras.ops.softmax(layers.Dense(1)(h), axis=axis)
    h = layers.Dense(8, "relu")(keras.ops.sum(shares * h, axis=1))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(h))
    model.compile("adam", "binary_crossentropy")
    assert kinds(model, ids, ONES) == expected


def two_inputs(reads):
    """A model of two inputs, of which it may read one twice."""
    one, other = keras.Input((6,)), keras.Input((3,))
    both = layers.Concatenate()([one, other if reads else 0 * other])
    # A last layer of zeros gives the same for all inputs, and learns.
    last = layers.Dense(3, activation="softmax", kernel_initializer="zeros")
    model = keras.Model([one, other], last(layers.Dense(8, "relu")(both)))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(("reads", "expected"), [(False, ["ignored_input"]), (True, [])])
def test_an_input_that_nothing_depends_on(reads, expected):
    assert kinds(two_inputs(reads), [X, X[:, 3:] ** 2], LABELS) == expected


def test_an_input_that_is_there_for_a_loss_of_a_layer():
    class AddsLoss(keras.layers.Layer):
        def call(self, given):
            outputs, targets = given
            self.add_loss(keras.ops.mean((outputs - targets) ** 2))
            return outputs

    inputs, targets = keras.Input((4,)), keras.Input((1,))
    outputs = AddsLoss()([layers.Dense(1)(layers.Dense(8, "tanh")(inputs)), targets])
    model = keras.Model([inputs, targets], outputs)
    model.compile(keras.optimizers.Adam(0.01))
    assert "ignored_input" not in kinds(model, [X[:, :4], X[:, :1]], None)


def test_units_that_are_given_nothing_are_not_dead():
    hidden = [layers.Reshape((6, 1)), layers.LayerNormalization()]
    hidden += [layers.Conv1D(8, 3, activation="relu"), layers.Flatten()]
    found = kinds(softmax(hidden=hidden), X, LABELS)
    assert found[0] == "ignored_input"
    assert "dead_units" not in found


@pytest.mark.parametrize(("alike", "expected"), [(0.97, ["constant_input"]), (0.5, [])])
def test_examples_that_no_model_can_tell_apart(alike, expected):
    x = X.copy()
    x[: int(alike * len(x))] = 1
    assert kinds(softmax(), x, LABELS) == expected
    assert kinds(linear(), x, RNG.normal(size=(200, 1))) == expected
    # Events are rare, and the rest is of one kind.
    assert "constant_input" not in kinds(sigmoid(), x, (x[:, 0] != 1).astype("float32"))


def test_weights_that_make_a_rare_class_rarer():
    y = (np.arange(200) % 12 == 0).astype("float32")
    share = y.mean()
    for weight, expected in ((y * share + (1 - y) * (1 - share), ["imbalance"]), (y + 0.1, [])):
        assert kinds(sigmoid(), X, y, sample_weight=weight) == expected
    # Left out on purpose.
    assert kinds(sigmoid(), X, y, sample_weight=1 - y) == []


def test_a_model_that_looks_at_nothing():
    hidden = [layers.Lambda(lambda x: 0 * x + 1), layers.Dense(8, "tanh")]
    assert kinds(softmax(hidden=hidden), X, LABELS)[0] == "ignored_input"


@pytest.mark.parametrize(("padding", "expected"), [("same", ["look_ahead"]), ("causal", [])])
def test_a_model_that_sees_what_it_is_to_foretell(padding, expected):
    series = np.cumsum(RNG.integers(1, 3, (200, 9)), axis=1) % 5
    hidden = [layers.Embedding(5, 4), layers.Conv1D(8, 3, padding=padding, activation="relu")]
    model = net(layers.Dense(5, activation="softmax"), hidden=hidden, inputs=8)
    assert kinds(model, series[:, :-1], series[:, 1:]) == expected
    # Labels of another kind may be read from both sides.
    assert kinds(model, series[:, :-1], (series[:, :-1] + 1) % 5) == []


@pytest.mark.parametrize(("factor", "expected"), [(1e-3, ["look_ahead"]), (0.0, [])])
def test_a_model_that_sees_it_faintly_before_training(factor, expected):
    series = np.cumsum(RNG.integers(1, 3, (200, 9)), axis=1) % 5
    hidden = [
        layers.Embedding(5, 4, embeddings_initializer="normal"),
        layers.Lambda(lambda x: x + factor * keras.ops.flip(x, axis=1)),
        layers.Conv1D(8, 3, padding="causal", activation="relu"),
    ]
    model = net(layers.Dense(5, activation="softmax"), hidden=hidden, inputs=8)
    assert kinds(model, series[:, :-1], series[:, 1:]) == expected


def padded_texts():
    """Texts of 4 words of 20, zeros behind."""
    return np.pad(RNG.integers(1, 20, (200, 4)), [(0, 0), (0, 26)])


@pytest.mark.parametrize(
    ("texts", "masked", "expected"),
    [
        (padded_texts(), False, ["vanishing"]),
        (padded_texts(), True, []),
        (padded_texts()[:, ::-1], False, []),
    ],
)
def test_words_that_are_forgotten_in_the_zeros_behind_them(texts, masked, expected):
    hidden = [layers.Embedding(20, 8, mask_zero=masked), layers.GRU(8)]
    # That nothing depends on the inputs, then, stands under it.
    assert kinds(softmax(hidden=hidden, inputs=30), texts.copy(), LABELS)[:1] == expected


RATES = keras.optimizers.schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (RATES.ExponentialDecay(0.1, 1, 0.5), ["lr_low"]),
        (RATES.PolynomialDecay(0.1, 5, 0.0), ["lr_low"]),
        (RATES.CosineDecay(0.1, 100), []),
        (RATES.CosineDecay(0.0, 5000, warmup_target=0.1, warmup_steps=1000), []),
    ],
)
def test_a_schedule_that_is_over_at_once(schedule, expected):
    assert kinds(softmax(optimizer=keras.optimizers.SGD(schedule)), X, LABELS) == expected


@pytest.mark.parametrize("factor", [1, 20])
def test_a_schedule_is_judged_by_the_steps_of_the_run(factor, capsys):
    """One that has the length of a short run is not over at once; in a longer run it is."""
    rate = RATES.PolynomialDecay(0.1, 16, 0.0)
    model = softmax(optimizer=keras.optimizers.SGD(rate))
    findings = kp.preflight(model, X, LABELS, total_steps=16 * factor)
    assert [one.kind for one in findings] == ["lr_low"] * (factor > 1)
    kp.fit(model, X, LABELS, total_steps=16 * factor, epochs=1, seed=0, preflight=True)
    assert ("lr_low" in capsys.readouterr().out) == (factor > 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"total_steps": 7, "epochs": 2}, 7),
        ({"plan": kp.StepPlan(12, 4)}, 12),
        ({"steps_per_epoch": 5}, 5),
        ({"steps_per_epoch": 5, "epochs": 3}, 15),
        ({"epochs": 2, "batch_size": 16}, 14),
        ({"epochs": 2}, 8),
        ({"epochs": 2, "validation_split": 0.25}, 6),
        ({"epochs": 2, "validation_split": 0.25, "validation_data": (0, 0)}, 8),
        ({"epochs": "two"}, None),
        ({"total_steps": -1}, None),
        ({}, None),
    ],
)
def test_the_steps_of_a_call(arguments, expected):
    assert steps_asked([np.zeros((100, 3))], arguments) == expected


@pytest.mark.parametrize(("factor", "expected"), [(1.0, ["over_regularised"]), (1e-3, [])])
def test_a_price_on_what_layers_give(factor, expected):
    hidden = [layers.Dense(32, "relu", activity_regularizer=keras.regularizers.L1(factor))]
    assert kinds(softmax(hidden=hidden), X, LABELS) == expected


def test_the_scale_of_each_input_counts():
    one, other = keras.Input((6,)), keras.Input((3,))
    both = [layers.Dense(8, "relu")(one), layers.Dense(8, "relu")(other)]
    last = layers.Dense(3, activation="softmax")(layers.Concatenate()(both))
    model = keras.Model([one, other], last)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert kinds(model, [X, 100 * X[:, 3:]], LABELS)[0] == "input_scale"


@pytest.mark.parametrize(("factor", "expected"), [(1e6, "input_scale"), (1.0, None)])
def test_a_column_that_stands_beside_what_an_embedding_gives(factor, expected):
    number, town = keras.Input((1,)), keras.Input((1,), dtype="int32")
    both = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 4)(town)), number])
    last = layers.Dense(1, activation="sigmoid")(layers.Dense(8, "relu")(both))
    model = keras.Model([number, town], last)
    model.compile("adam", "binary_crossentropy")
    found = kinds(model, [factor * X[:, :1], RNG.integers(0, 9, (200, 1))], ONES)
    assert (found[0] if found else None) == expected


def test_rows_of_a_few_values_among_many_zeros_are_sound():
    x = np.zeros((200, 9000), "float32")
    x[np.arange(200)[:, None], RNG.integers(0, 9000, (200, 30))] = 0.2
    assert kinds(sigmoid(inputs=9000), x, ONES) == []
    assert kinds(sigmoid(inputs=9000), x / 255, ONES) == ["input_scale"]


@pytest.mark.parametrize(("factor", "expected"), [(100.0, ["over_regularised"]), (1e-3, [])])
def test_a_loss_of_a_layer_beside_which_answers_count_for_nothing(factor, expected):
    class Priced(layers.Layer):
        def call(self, inputs):
            self.add_loss(factor * keras.ops.mean(inputs**2))
            return inputs

    assert kinds(softmax(hidden=[layers.Dense(8, "relu"), Priced()]), X, LABELS) == expected


@pytest.mark.parametrize("more", [{"dropout": 0.9}, {"recurrent_dropout": 0.9}])
def test_what_a_recurrent_layer_drops(more):
    hidden = [layers.Reshape((3, 2)), layers.GRU(8, **more)]
    assert kinds(softmax(hidden=hidden), X, LABELS) == ["over_regularised"]


def test_masks_of_hardly_any_place():
    masks = np.zeros((200, 6, 1), "float32")
    masks[0, 0] = 1
    hidden = [layers.Reshape((6, 1)), layers.Conv1D(4, 3, padding="same", activation="relu")]
    assert kinds(sigmoid(hidden=hidden), X, masks) == ["imbalance"]
    masks[:, :2] = 1
    assert kinds(sigmoid(hidden=hidden), X, masks) == []


def test_tags_of_hardly_any_place():
    tags = np.zeros((200, 6), "int64")
    tags[0, 0] = 2
    hidden = [layers.Reshape((6, 1)), layers.Conv1D(4, 3, padding="same", activation="relu")]
    assert kinds(softmax(hidden=hidden), X, tags) == ["imbalance"]
    tags[:, :2] = 1
    assert kinds(softmax(hidden=hidden), X, tags) == []


@pytest.mark.parametrize(("squeezes", "found"), [(True, ["broadcast"]), (False, [])])
def test_a_loss_that_squeezes_predictions_and_not_targets(squeezes, found):
    def loss(true, pred):
        pred = keras.ops.squeeze(pred, axis=-1) if squeezes else pred
        return keras.ops.mean(keras.ops.abs(true - pred), axis=-1)

    assert kinds(linear(loss=loss), X, FIRST[:, None]) == found


def test_a_loss_that_compares_the_examples_of_a_batch():
    def ranking(true, pred):
        wanted = true - keras.ops.transpose(true)
        gap = pred - keras.ops.transpose(pred)
        wrong = keras.ops.relu(1 - keras.ops.sign(wanted) * gap)
        return keras.ops.mean(keras.ops.where(wanted == 0, 0.0, wrong), axis=-1)

    assert "broadcast" not in kinds(linear(loss=ranking), X, FIRST[:, None])


def test_a_loss_that_compares_two_distributions():
    def energy(true, pred):
        def between(one, other):
            gaps = one[:, None] - other[None]
            return keras.ops.mean(keras.ops.sqrt(keras.ops.sum(gaps**2, axis=-1) + 1e-6))

        return 2 * between(true, pred) - between(true, true) - between(pred, pred)

    def sorted_apart(true, pred):
        return keras.ops.mean(keras.ops.abs(keras.ops.sort(true, 0) - keras.ops.sort(pred, 0)))

    def all_with_all(true, pred):
        return keras.ops.mean((true[:, None] - pred[None]) ** 2)

    for loss in (energy, sorted_apart):
        assert kinds(linear(2, loss=loss), X, 2 * X[:, :2]) == []
    assert kinds(linear(2, loss=all_with_all), X, 2 * X[:, :2]) == ["broadcast"]


@pytest.mark.parametrize("power", [1, 2])
def test_a_loss_to_which_the_targets_only_add_a_number(power):
    def error(true, pred):
        return keras.ops.mean((true - pred) ** power, axis=-1)

    expected = ["loss_mismatch"] if power == 1 else []
    assert kinds(linear(loss=error), X, FIRST[:, None]) == expected
    assert ("loss_mismatch" in kinds(sigmoid(loss=error), X, ONES[:, None])) == (power == 1)


def test_an_absolute_difference_of_targets_on_one_side_of_the_outputs():
    def error(true, pred):
        return keras.ops.mean(keras.ops.abs(true - pred), axis=-1)

    assert "loss_mismatch" not in kinds(linear(loss=error), X, FIRST[:, None] / 9 + 3)


def test_a_loss_that_knows_no_target():
    def entropy_of_outputs(true, pred):
        return keras.ops.mean(keras.ops.square(pred), axis=-1) + 0 * true[:, 0]

    assert "broadcast" not in kinds(linear(loss=entropy_of_outputs), X, FIRST[:, None])


def test_a_cosine_of_one_number():
    assert kinds(linear(loss="cosine_similarity"), X, FIRST[:, None])[0] == "loss_mismatch"
    # On JAX the slope of a cosine is NaN where all units are 0.
    assert "loss_mismatch" not in kinds(linear(2, loss="cosine_similarity"), X, 2 * X[:, :2])
    over_time = keras.losses.CosineSimilarity(axis=1)
    hidden = [layers.Reshape((6, 1)), layers.Conv1D(4, 3, padding="same", activation="relu")]
    assert "loss_mismatch" not in kinds(linear(loss=over_time, hidden=hidden), X, X[..., None])


def test_gradients_of_more_batches_than_there_are():
    def found(batches):
        optimizer = keras.optimizers.Adam(gradient_accumulation_steps=batches)
        return kinds(linear(optimizer=optimizer), X, FIRST, total_steps=30)

    assert found(31) == ["lr_low"]
    assert found(30) == []


def test_statistics_that_follow_too_slowly():
    def is_found(momentum, steps, x=X + 10):
        norm = layers.BatchNormalization(momentum=momentum)
        model = linear(hidden=[norm, layers.Dense(8, activation="relu")])
        return "train_mode" in kinds(model, x, FIRST, total_steps=steps)

    assert is_found(0.99, 30)
    assert not is_found(0.99, 300)
    assert not is_found(0.9, 30)
    assert not is_found(0.99, 30, X)


NORMAL = keras.initializers.RandomNormal


@pytest.mark.parametrize(
    ("hidden", "kind"),
    [
        (lambda: [layers.Dense(8), layers.Dense(8)], "missing_nonlinearity"),
        (lambda: [layers.Dense(8, "relu", kernel_initializer="ones")], "symmetric_init"),
        (lambda: [layers.Dense(8, "relu"), layers.Dropout(0.8)], "over_regularised"),
        (
            lambda: [layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(90))],
            "over_regularised",
        ),
        (
            lambda: [layers.Dense(8), layers.BatchNormalization(momentum=1.0), layers.ReLU()],
            "train_mode",
        ),
        (lambda: [layers.Dense(8, "relu", bias_initializer=NORMAL(-99, 1))], "dead_units"),
        (lambda: [layers.Dense(64, "relu", kernel_initializer="random_normal")], None),
        (lambda: [layers.Lambda(keras.ops.sign)], None),
        (lambda: [layers.Dense(8), layers.Lambda(keras.ops.round)], "no_gradient"),
        (
            lambda: [layers.Dense(64, "relu", kernel_initializer=NORMAL(0, 2)) for _ in range(5)],
            "exploding",
        ),
        (
            lambda: [
                layers.Dense(32, "tanh", kernel_initializer=NORMAL(0, 0.02)) for _ in "abcdef"
            ],
            "vanishing",
        ),
    ],
)
def test_layers(hidden, kind):
    found = kp.preflight(softmax(hidden=hidden()), X, LABELS)
    grave = [one.kind for one in found if one.severity != "note"]
    assert (grave[0] if grave else None) == kind


class Experts(layers.Layer):
    """A mean of linear experts, weighted by a gate that starts at zero."""

    def __init__(self, start):
        super().__init__()
        self.start = start
        self.gate = layers.Dense(4, activation="softmax", kernel_initializer="zeros")

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), initializer=self.start)
        self.gate.build(shape)

    def call(self, x):
        each = keras.ops.matmul(x, self.kernel)
        return keras.ops.sum(self.gate(x) * each, axis=-1, keepdims=True)


@pytest.mark.parametrize(("start", "is_found"), [("zeros", True), ("glorot_normal", False)])
def test_experts_that_start_equal_stay_one(start, is_found):
    model = keras.Sequential([keras.Input((X.shape[-1],)), Experts(start)])
    model.compile("adam", "mse")
    found = [one for one in kp.preflight(model, X, FIRST) if one.kind == "symmetric_init"]
    assert bool(found) == is_found
    assert not is_found or "The 4 parts of" in found[0].message


def test_parts_that_start_equal_and_move_apart_are_none():
    """A last layer of zeros, whose units have targets of their own."""
    model = softmax(hidden=[layers.Dense(8, "relu")])
    last = model.layers[-1].kernel
    last.assign(np.zeros(last.shape))
    assert "symmetric_init" not in kinds(model, X, LABELS)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "gelu", "softsign"])
def test_a_net_with_activations_is_not_linear(activation):
    hidden = [layers.Dense(8, activation=activation) for _ in range(2)]
    assert "missing_nonlinearity" not in kinds(softmax(hidden=hidden), X, LABELS)


def test_a_narrow_layer_before_many_classes():
    hidden = [layers.Dense(8, "relu"), layers.Dense(1, "relu"), layers.Dense(8, "relu")]
    last = layers.Dense(10, activation="softmax")
    assert "capacity" in kinds(net(last, hidden=hidden), X, np.arange(200) % 10)


def test_a_score_of_one_unit_is_not_narrow_if_other_values_pass_beside_it():
    inputs = keras.Input((6,))
    h = layers.Dense(16, "relu")(inputs)
    h = layers.Dense(16, "relu")(h * layers.Dense(1, activation="sigmoid")(h))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    assert kinds(model, X, np.arange(200) % 10) == []


def test_a_model_that_is_frozen():
    model = softmax()
    for layer in model.layers:
        layer.trainable = False
    assert kinds(model, X, LABELS)[0] == "frozen"
    # The rest of a backbone that trains its head is as it should be.
    model.layers[-1].trainable = True
    assert kinds(model, X, LABELS) == []


def test_a_rare_class():
    labels = np.zeros(1000, int)
    labels[:5] = 1
    x = RNG.normal(size=(1000, 6)).astype("float32")
    found = kp.preflight(softmax(), x, labels)
    assert (found[0].kind, found[0].severity) == ("imbalance", "warning")
    assert kinds(softmax(), x, labels, sample_weight=1 + 199 * labels) == []


def test_a_validation_part_of_other_classes():
    order = np.argsort(LABELS, kind="stable")
    assert kinds(softmax(), X[order], LABELS[order], validation_split=0.3) == ["ordered_split"]
    assert kinds(softmax(), X, LABELS, validation_split=0.3) == []


def test_validation_examples_among_the_training_examples():
    shared = (np.concatenate([X[:30], X[:20] + 1]), LABELS[:50])
    assert kinds(softmax(), X, LABELS, validation_data=shared) == ["validation_leak"]
    assert kinds(softmax(), X, LABELS, validation_data=(X + 1, LABELS)) == []


def test_examples_that_were_repeated_before_the_split():
    rare = np.repeat(np.flatnonzero(LABELS == 0), 4)
    rows = RNG.permutation(np.concatenate([np.arange(200), rare]))
    found = kp.preflight(softmax(), X[rows], LABELS[rows], validation_split=0.3)
    assert [one.kind for one in found] == ["validation_leak"]


def test_a_few_kinds_of_rows_are_everywhere():
    copies = X[RNG.integers(0, 80, 200)]
    assert kinds(softmax(), copies, LABELS, validation_split=0.3) == ["validation_leak"]
    signs = RNG.integers(0, 2, (200, 6)).astype("float32")
    assert kinds(softmax(), signs, LABELS, validation_split=0.3) == []


def test_validation_data_of_another_scale():
    assert kinds(softmax(), X, LABELS, validation_data=(10 * X, LABELS)) == ["input_scale"]


def test_shapes_that_do_not_go_together_are_a_finding_and_no_error():
    assert kinds(softmax(), X[:, :4], LABELS) == ["shapes"]


@pytest.mark.filterwarnings("error")
def test_a_softmax_over_one_unit_is_named_also_where_warnings_are_errors():
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1, "softmax")])
    model.compile("adam", "binary_crossentropy")
    assert kinds(model, X, ONES)[0] == "output_activation"


def test_a_symptom_stands_below_its_cause():
    found = kp.preflight(sigmoid(hidden=[layers.Dense(8, activation="tanh")]), 1000 * X, ONES)
    assert found[0].kind == "input_scale"
    assert {one.kind: one.because_of for one in found}["saturated"] == ("input_scale",)


def test_checks_and_skip_choose_kinds():
    wrong = (softmax(), 1000 * X, LABELS + 1)
    assert kinds(*wrong, checks=["label_range"]) == ["label_range"]
    assert "label_range" not in kinds(*wrong, skip=["label_range"])
    with pytest.raises(ValueError, match="names 'no such kind', and there is no such kind"):
        kp.preflight(*wrong, checks=["no such kind"])
    with pytest.raises(TypeError, match=r"`skip` must be a list of kinds. Received: 'frozen'"):
        kp.preflight(*wrong, skip="frozen")


def test_the_list_raises_and_is_shown():
    found = kp.preflight(softmax(), 1000 * X, LABELS + 1)
    assert found.worst == "error"
    with pytest.raises(kp.PreflightError, match=r"label_range: The labels .* from 1 to 3") as error:
        found.raise_if("error")
    assert error.value.findings == found
    assert "input_scale" not in str(error.value)
    assert "because of" in repr(found)
    assert ">label_range</td>" in found._repr_html_()
    with pytest.raises(ValueError, match="`severity` must be one of 'error', 'warning', 'note'"):
        found.raise_if("fatal")


def test_a_dict_of_outputs_is_judged_one_by_one():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    outputs = {"kind": layers.Dense(3)(hidden), "size": layers.Dense(1)(hidden)}
    model = keras.Model(inputs, outputs)
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    found, *rest = kp.preflight(model, X, {"kind": LABELS, "size": FIRST[:, None]})
    assert rest == []
    assert found.kind == "output_activation"
    assert "the output 'kind'" in found.message.lower()


class Batches(keras.utils.PyDataset):
    num_batches = 5

    def __getitem__(self, index):
        return X[40 * index : 40 * index + 40], LABELS[40 * index : 40 * index + 40] + 1


def generator():
    for index in range(5):
        yield X[40 * index : 40 * index + 40], LABELS[40 * index : 40 * index + 40] + 1


@pytest.mark.parametrize("make", [Batches, generator, lambda: list(generator())[:1] * 2])
def test_other_data_than_arrays(make):
    data = make()
    if isinstance(data, list):
        data = iter(data)
    assert kinds(softmax(), data) == ["label_range"]


def test_fit_looks_first(capsys):
    wrong = softmax()
    with pytest.raises(kp.PreflightError, match="label_range"):
        kp.fit(wrong, X, LABELS + 1, preflight=True, verbose=0)
    assert int(keras.ops.convert_to_numpy(wrong.optimizer.iterations.value)) == 0
    kp.fit(softmax(), 100 * X, LABELS, preflight=True, verbose=2)
    assert "preflight: warning, input_scale: The inputs are" in capsys.readouterr().out
    with pytest.raises(ValueError, match="would take the first batches of a generator"):
        kp.fit(softmax(), generator(), preflight=True, verbose=0)
    with pytest.raises(TypeError, match="`preflight` must be True or False"):
        kp.fit(softmax(), X, LABELS, preflight="yes")


def test_training_after_a_preflight_in_fit_is_as_without_it():
    def trained(**more):
        keras.utils.set_random_seed(1)
        model = softmax(hidden=[layers.Dense(8, "relu"), layers.Dropout(0.5)])
        kp.fit(model, X, LABELS, verbose=0, **more)
        return model.get_weights()

    for one, other in zip(trained(), trained(preflight=True), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (keras.Sequential([layers.Dense(1)]), ValueError, "is not compiled"),
        ("net", TypeError, "must be a Keras model; received str"),
    ],
)
def test_arguments_are_checked(model, error, message):
    with pytest.raises(error, match=message):
        kp.preflight(model, X, LABELS)


def test_each_kind_has_a_row_in_the_page():
    page = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in page.split("## One batch")[0]] == []
