"""kp.SwitchAugmentation: what the layers do from which step on. The row "switched augmentation" of
the conformance table tests the resume.
"""

import random

import keras
import numpy as np
import pytest
from keras import layers
from models import CASES

import keras_patterns as kp
from keras_patterns.testing import assert_restores, assert_resumes_exactly

X = np.random.default_rng(0).normal(size=(32, 4, 4, 1)).astype("float32")
Y = X.mean((1, 2, 3))[:, None]


class Counted(layers.Layer):
    """An augmentation that counts, so that it has a weight."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.count = self.add_weight(shape=(), trainable=False)

    def call(self, inputs, training=False):
        return inputs


def model(*augmentation, **how):
    last = (layers.Flatten(), layers.Dense(1))
    made = keras.Sequential([keras.Input((4, 4, 1)), *augmentation, *last])
    made.compile("sgd", "mse", **how)
    return made


def draws(layer):
    """The steps in which it drew: the state counts them."""
    return int(keras.ops.convert_to_numpy(layer.generator.state)[1])


def train(made, stages, where=None, **how):
    arguments = {"batch_size": 8, "total_steps": 8, "epochs": 2, "seed": 0, "verbose": 0, **how}
    return kp.fit(made, X, Y, callbacks=[kp.SwitchAugmentation(stages, where)], **arguments)


@pytest.mark.parametrize("fuse", [False, True])
def test_a_layer_that_is_off_draws_no_more_and_is_as_it_was_after_the_run(fuse, capsys):
    flip = layers.RandomFlip()
    made = model(flip)
    history = train(made, {3: "off", 5: "on", 7: "off"}, fuse=fuse)
    assert draws(flip) == 3 + 2
    assert [event["step"] for event in history.events] == [3, 5, 7]
    assert "step 3: augmentation is off.\n" in capsys.readouterr().out
    assert "call" not in vars(flip)
    made.train_on_batch(X, Y)
    assert draws(flip) == 3 + 2 + 1


def test_another_setting_draws_from_the_same_generator_and_moves_nothing_else():
    """A rotation by nothing is none: so the layer has drawn, and the data are as they were."""
    losses = []
    for stages in ({1: {"factor": 0.0}}, {1: "off"}):
        rotation = layers.RandomRotation(0.5, seed=1)
        made = model(rotation)
        made.layers[-1].set_weights([np.ones((16, 1)), np.zeros(1)])
        before = random.getstate()
        history = train(made, stages, total_steps=4, epochs=4, shuffle=False)
        assert random.getstate() == before
        losses.append(history.history["loss"])
        assert draws(rotation) == (4 if "factor" in str(stages) else 1)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_plain_fit_switches_at_the_ends_of_epochs_and_goes_on_where_it_was(tmp_path):
    flip = layers.RandomFlip()
    made = model(flip)
    for epochs, step in ((3, 8), (4, 12)):
        callbacks = [kp.SwitchAugmentation({5: "off"}), kp.Checkpoint(tmp_path / "run")]
        history = made.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
        assert draws(flip) == 8
        assert history.events[0]["step"] == step
    made.fit(X, Y, batch_size=8, initial_epoch=2, epochs=3, verbose=0, callbacks=callbacks[:1])
    assert draws(flip) == 8


def test_another_layer_is_switched_by_its_place():
    noise = layers.GaussianNoise(0.5, name="mine")
    train(model(noise), {2: "off"}, "mine")
    state = keras.ops.convert_to_numpy(noise.seed_generator.state)
    assert int(state[1]) == 2


def test_its_state_passes_through_a_checkpoint():
    hook = kp.SwitchAugmentation({3: "off"}, verbose=0)
    kp.fit(model(layers.RandomFlip()), X, Y, total_steps=4, epochs=1, seed=0, callbacks=[hook])
    assert_restores(hook, lambda: kp.SwitchAugmentation(hook.stages, verbose=0))


class Forgets(kp.SwitchAugmentation):
    """After a resume, everything is on until the next stage."""

    def on_run_start(self, run):
        super().on_run_start(run)
        calls = self._calls
        self.on_run_end()
        self._calls = calls


def test_a_resume_that_forgets_what_is_off_is_found():
    """The control of the row in the table."""
    case = CASES["switched augmentation"]
    given = {**case.arguments, "callbacks": lambda: [Forgets({4: "off"})]}
    with pytest.raises(AssertionError, match=r"(?s)parts differ.*variables/layers/1/generator"):
        assert_resumes_exactly(case.make_model, **given, kill_at=[6])


@pytest.mark.parametrize(
    ("augmentation", "arguments", "said"),
    [
        ([], ({3: "off"},), "no layer of Keras that augments.*those of a data pipeline"),
        ([layers.Dropout(0.1)], ({3: "off"}, "dense*"), "'dense.*' selects none"),
        ([Counted(name="counted")], ({3: "off"}, "counted"), "have no weights"),
        ([layers.RandomFlip()], ({8: "off"},), "would come after the last step"),
        ([layers.RandomFlip()], ({3: {"factor": 1}},), "no argument 'factor'. It has .*mode"),
        ([layers.RandAugment()], ({3: {"factor": 1}},), "layers inside it that draw"),
    ],
)
def test_what_cannot_be_switched_is_refused_before_the_first_step(augmentation, arguments, said):
    made = model(*augmentation)
    with pytest.raises(ValueError, match=said):
        train(made, *arguments)
    assert float(made.optimizer.iterations) == 0


@pytest.mark.once
@pytest.mark.parametrize(
    ("stages", "error", "said"),
    [
        ({}, ValueError, "must be a dict from steps"),
        ({0: "off"}, ValueError, "`stages` must be at least 1"),
        ({1.5: "off"}, TypeError, "`stages`"),
        ({1: "of"}, ValueError, '"off", "on" or a dict.*Received: \'of\''),
        ({1: {}}, ValueError, "a dict of arguments"),
    ],
)
def test_arguments_are_checked(stages, error, said):
    with pytest.raises(error, match=said):
        kp.SwitchAugmentation(stages)
