"""kp.debug: the rungs of the ladder, and the order of what they find."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns.debugging import examine
from keras_patterns.debugging.checks import look
from keras_patterns.debugging.finding import CAUSES, EQUIVALENTS, KINDS, Finding, ranked

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5)).astype("float32")
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)


def net(*hidden, optimizer=None, width=2):
    hidden = hidden or (layers.Dense(32, activation="relu"),)
    last = layers.Dense(width, activation="softmax")
    model = keras.Sequential([keras.Input((5,)), *hidden, last])
    model.compile(optimizer or keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def test_a_sound_model_climbs_to_the_top():
    report = kp.debug(net(), X, LABELS, epochs=20, batch_size=16, known={"a colleague": 0.98})
    assert report.findings == []
    assert report.one_batch.verdict in ("memorised", "learning")
    assert report.baselines.rows[-1].name == "a colleague"
    assert report.short_run.score > report.baselines.chance + 0.2
    assert report.left_out == {}
    assert "short run" in repr(report)
    assert ">one batch</td>" in report._repr_html_()


def test_what_cannot_be_trained_ends_the_climb():
    report = kp.debug(net(), X, LABELS + 1)
    assert report.findings[0].kind == "label_range"
    assert report.one_batch is None
    assert report.left_out == dict.fromkeys(
        ("one batch", "baseline", "short run"), "labels or ids are out of range"
    )


def test_a_frozen_model_is_a_finding():
    model = net()
    for layer in model.layers:
        layer.trainable = False
    assert kp.debug(model, X, LABELS).findings[0].kind == "frozen"


@pytest.mark.parametrize(("rate", "kind"), [(3.0, "lr_high"), (1e-6, "lr_low")])
def test_rates(rate, kind):
    report = kp.debug(net(optimizer=keras.optimizers.Adam(rate)), X, LABELS)
    assert report.findings[0].kind == kind


def test_validation_that_turns_while_training_goes_on():
    noise = np.random.default_rng(1).integers(0, 2, 300)
    model = net(layers.Dense(256, activation="relu"), layers.Dense(256, activation="relu"))
    report = kp.debug(model, X, noise, validation_split=0.3, epochs=30)
    assert "overfit" in [one.kind for one in report.findings]
    assert len(report.short_run.validation) == 10


def test_labels_that_nothing_can_guess_are_a_note():
    x = RNG.normal(size=(2000, 5)).astype("float32")
    noise = np.random.default_rng(1).integers(0, 2, 2000)
    found = {one.kind: one.severity for one in kp.debug(net(), x, noise).findings}
    assert found.get("label_noise") == "note"


class Batches(keras.utils.PyDataset):
    num_batches = 10

    def __getitem__(self, index):
        return X[30 * index : 30 * index + 30], LABELS[30 * index : 30 * index + 30]


def test_data_without_targets_of_their_own_have_no_baseline():
    report = kp.debug(net(), Batches())
    assert report.baselines is None
    assert report.left_out == {"baseline": "it takes arrays with one target"}
    assert len(report.short_run.losses) == 200


def test_class_weights_are_heard():
    labels = np.zeros(300, int)
    labels[:2] = 1
    rare = {one.kind for one in kp.debug(net(), X, labels).findings}
    weighted = {one.kind for one in kp.debug(net(), X, labels, class_weight={1: 150}).findings}
    assert "imbalance" in rare - weighted


@pytest.mark.parametrize(("factor", "expected"), [(1e-4, "lr_low"), (1.0, None)])
def test_class_weights_are_part_of_the_rate(factor, expected):
    model = net(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    findings = kp.debug(model, X, LABELS, class_weight={0: factor, 1: factor}).findings
    assert (findings[0].kind if findings else None) == expected


def test_a_schedule_that_is_over_in_the_first_of_many_epochs():
    rate = keras.optimizers.schedules.CosineDecay(0.05, 40)
    model = net(optimizer=keras.optimizers.SGD(rate, momentum=0.9))
    assert [one.kind for one in kp.debug(model, X, LABELS, epochs=4).findings] == []
    assert "lr_low" in [one.kind for one in kp.debug(model, X, LABELS, epochs=200).findings]


def test_what_is_memorised_and_not_generalised():
    x = np.random.default_rng(2).normal(size=(60, 5)).astype("float32")
    wide = [layers.Dense(256, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((5,)), *wide, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    noise = np.random.default_rng(3).normal(size=60)
    report = kp.debug(model, x, noise, validation_split=0.5, epochs=90)
    assert "overfit" in [one.kind for one in report.findings]


def test_fewer_examples_than_a_batch_has():
    """Some are held out: fewer are left to train on."""
    report = kp.debug(net(), X[:36], LABELS[:36], short_steps=20)
    assert len(report.short_run.losses) == 20


def test_a_normalisation_over_one_example():
    def normed(trainable=True):
        norm = layers.BatchNormalization(trainable=trainable)
        return net(layers.Dense(8), norm, layers.Activation("relu"))

    def found(model, size):
        examined = examine("kp.debug", model, X, LABELS, None, None, 0.0)
        return [one.kind for one in look(examined, ["train_mode"], batch_size=size)]

    report = kp.debug(normed(), X, LABELS, batch_size=1, short_steps=20)
    assert report.findings[0].kind == "train_mode"
    assert found(normed(), 1) == ["train_mode"]
    assert found(normed(), 8) == found(normed(trainable=False), 1) == []


def test_an_argument_that_fit_does_not_have_is_refused():
    with pytest.raises(TypeError, match=r"'epoch' is no argument of kp\.fit"):
        kp.debug(net(), X, LABELS, epoch=3)
    with pytest.raises(ValueError, match="`short_steps` must be at least 20"):
        kp.debug(net(), X, LABELS, short_steps=5)


def test_causes_come_before_symptoms_and_errors_before_warnings():
    kinds = ["saturated", "dead_units", "lr_high", "imbalance", "input_scale"]
    severities = ["error", "error", "warning", "note", "warning"]
    found = ranked(map(Finding, kinds, severities, kinds))
    assert [one.kind for one in found] == [
        "input_scale", "dead_units", "saturated", "lr_high", "imbalance"
    ]  # fmt: skip
    assert found[1].because_of == ("input_scale",)


def test_a_note_explains_nothing():
    found = ranked([Finding("input_scale", "note", ""), Finding("lr_high", "warning", "")])
    assert [(one.kind, one.because_of) for one in found] == [("lr_high", ()), ("input_scale", ())]


def test_no_two_kinds_explain_each_other():
    for kind, causes in CAUSES.items():
        assert {kind, *causes} <= KINDS.keys()
        assert not [cause for cause in causes if kind in CAUSES.get(cause, ())]
    assert {*EQUIVALENTS, *set().union(*EQUIVALENTS.values())} <= KINDS.keys()


@pytest.mark.parametrize("rows", [1, -1])
def test_labels_of_another_row_are_a_note(rows):
    labels = np.roll((X[:, 0] > 0).astype(int), rows)
    (found,) = kp.debug(net(), X, labels, short_steps=20).findings
    assert (found.kind, found.severity) == ("label_noise", "note")
    where = "above" if rows == 1 else "below"
    assert found.remedy.endswith(f"to the row {where}.")
