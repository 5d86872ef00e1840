"""Thawing in stages during a run; kills around each stage are in the conformance table
("thawing")."""

import keras
import numpy as np
import pytest
from keras import layers
from models import FEATURES, LABELS, SPOILED, TRAIN, VALIDATION, frozen_body

import keras_patterns as kp
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_same_state


def values(model, *roles):
    return copy_values(find_variables(model).of(*roles))


def net(*names):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            *(layers.Dense(4, name=name) for name in names),
            layers.Dense(3, "softmax", name="head"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


class Recorder(keras.callbacks.Callback):
    """What is trained, and the slots that there are, as each step begins."""

    def __init__(self):
        super().__init__()
        self.trained, self.slots, self.steps, self.done = [], [], [], 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps.append(self.done)
        self.done += 1
        self.trained.append(
            [variable.path.split("/")[-2] for variable in self.model.trainable_variables[::2]]
        )
        self.slots.append(
            sum(len(variable.shape) > 0 for variable in self.model.optimizer.variables)
        )

    def get_state(self):
        return {"done": self.done}

    def set_state(self, state):
        self.done = state["done"]


def test_each_stage_at_its_step_with_as_many_slots_as_are_trained():
    model, recorder = net("a", "b"), Recorder()
    history = kp.fit(
        model,
        **TRAIN,
        seed=0,
        verbose=0,
        callbacks=[kp.GradualUnfreeze({2: "b", 4: "a"}), recorder],
    )
    assert recorder.trained == [["head"]] * 2 + [["b", "head"]] * 2 + [["a", "b", "head"]] * 4
    # Some backends build the optimizer in the first step.
    assert recorder.slots[1:] == [4] + [8] * 2 + [12] * 4
    assert [(event["kind"], event["step"], event["text"]) for event in history.events] == [
        ("thawed", 2, "'b' is thawed"),
        ("thawed", 4, "'a' is thawed"),
    ]
    assert int(model.optimizer.iterations) == 8


def test_the_callbacks_see_one_run():
    """The epochs, their steps and their metrics are those of a run without a stage, but for what is
    trained.
    """
    seen = []
    for callbacks in ([], [kp.GradualUnfreeze({3: "a"}, verbose=0)]):
        keras.utils.set_random_seed(0)
        model = net("a")
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        told = []
        hooks = {"on_epoch_begin": lambda epoch, logs, told=told: told.append(epoch)}
        hooks["on_train_batch_begin"] = lambda batch, logs, told=told: told.append(("step", batch))
        callbacks = [*callbacks, keras.callbacks.LambdaCallback(**hooks)]
        history = kp.fit(model, **TRAIN, **VALIDATION, seed=0, verbose=0, callbacks=callbacks)
        seen.append(
            (
                told,
                history.epoch,
                history.history.keys(),
                np.round(history.history["loss"], 5).tolist(),
            )
        )
    assert seen[0] == seen[1]


def test_frozen_until_its_step_and_equal_to_adam_by_stages():
    """Against the same training by hand: train_on_batch with kp.freeze and kp.unfreeze between the
    steps.
    """
    keras.utils.set_random_seed(1)
    model, other = net("a", "b"), net("a", "b")
    other.set_weights(model.get_weights())
    stages = {2: "b", 5: "a"}
    how = {**TRAIN, "shuffle": False, "batch_size": 11}
    kp.fit(model, **how, seed=0, verbose=0, callbacks=[kp.GradualUnfreeze(stages, verbose=0)])
    kp.freeze(other, ["a", "b"])
    for step in range(8):
        if step in stages:
            kp.unfreeze(other, stages[step])
        batch = slice(step % 4 * 11, step % 4 * 11 + 11)
        other.train_on_batch(FEATURES[batch], LABELS[batch])
    for key, value in values(model, "weight", "optimizer").items():
        np.testing.assert_allclose(
            value, values(other, "weight", "optimizer")[key], atol=1e-6, err_msg=key
        )


def test_again_in_one_process_begins_frozen():
    model, recorder = net("a"), Recorder()
    for _ in range(2):
        kp.fit(
            model,
            **TRAIN,
            seed=0,
            verbose=0,
            callbacks=[kp.GradualUnfreeze({6: "a"}, verbose=0), recorder],
        )
    assert recorder.trained == ([["head"]] * 6 + [["a", "head"]] * 2) * 2


@pytest.mark.parametrize("stage", [2, 3])
def test_a_rollback_over_a_stage_freezes_again(stage):
    """The NaN is in step 3; the checkpoint before it is older than the stage, which comes before it
    is seen.
    """
    model = frozen_body()
    guard, thaw, recorder = kp.NonFiniteGuard(), kp.GradualUnfreeze({stage: "first"}), Recorder()
    arguments = {**TRAIN, "x": SPOILED}
    history = kp.fit(
        model,
        **arguments,
        seed=0,
        verbose=0,
        callbacks=[guard, thaw, recorder, kp.Checkpoint("runs", every_steps=100)],
    )
    assert [(finding.step, finding.cause) for finding in guard.findings] == [
        (3, "x is not finite in example 26")
    ]
    assert [(now, now >= stage) for now in recorder.steps] == [
        (now, "first" in names) for now, names in zip(recorder.steps, recorder.trained, strict=True)
    ]
    # Once until it is seen, once or twice more to where it is, and to the end.
    assert recorder.steps.count(0) >= 3
    assert recorder.steps[-1] == 7
    assert all(np.isfinite(value).all() for value in values(model, "weight", "optimizer").values())
    assert [event["step"] for event in history.events if event["kind"] == "thawed"] == [stage]


@pytest.mark.parametrize("steps", [2, 4])
def test_the_guard_looks_at_the_slots_of_what_is_thawed(steps):
    model, looked = net("a"), []

    class Spoiler(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            looked.append(len(guard._search.variables._floats))

    guard = kp.NonFiniteGuard(rollback=False)
    kp.fit(
        model,
        **TRAIN,
        seed=0,
        verbose=0,
        callbacks=[kp.GradualUnfreeze({steps: "a"}, verbose=0), guard, Spoiler()],
    )
    assert looked[1] == looked[0] + (0 if steps == 2 else 4)


def test_a_changed_plan_wins_and_the_rest_goes_on(capsys):
    def run(stages, total_steps, model):
        how = {**TRAIN, "total_steps": total_steps, "epochs": total_steps // 4}
        kp.fit(
            model,
            **how,
            seed=0,
            verbose=0,
            callbacks=[kp.GradualUnfreeze(stages), kp.Checkpoint("runs")],
        )

    run({6: "a"}, 8, net("a", "b"))
    recorder, model = Recorder(), net("a", "b")
    how = {**TRAIN, "total_steps": 16, "epochs": 4}
    kp.fit(
        model,
        **how,
        seed=0,
        verbose=0,
        callbacks=[kp.GradualUnfreeze({6: "a", 10: "b"}), recorder, kp.Checkpoint("runs")],
    )
    assert "GradualUnfreeze.stages" in capsys.readouterr().out
    assert recorder.trained == [["a", "head"]] * 2 + [["a", "b", "head"]] * 6


def test_ready_plans():
    model = net("a", "b", "c")
    recorder = Recorder()
    kp.fit(
        model,
        **TRAIN,
        seed=0,
        verbose=0,
        callbacks=[kp.GradualUnfreeze(kp.last_layers_first(model, 2), verbose=0), recorder],
    )
    assert [len(names) for names in recorder.trained] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert recorder.trained[2] == ["c", "head"]
    recorder = Recorder()
    kp.fit(
        model,
        **TRAIN,
        seed=0,
        verbose=0,
        callbacks=[kp.GradualUnfreeze(kp.head_then_all(5), verbose=0), recorder],
    )
    assert [len(names) for names in recorder.trained] == [1] * 5 + [4] * 3


def test_a_run_of_one_stage_equals_a_run_that_is_frozen_and_one_that_goes_on(tmp_path):
    """The moments of the head are carried over the stage: bit for bit, up to it, those of a run
    without one.
    """
    finals = []
    for callbacks, steps in (([kp.GradualUnfreeze({4: "a"}, verbose=0)], 8), ([], 4)):
        keras.utils.set_random_seed(0)
        model = net("a")
        if not callbacks:
            kp.freeze(model, "a")
        how = {**TRAIN, "total_steps": steps, "epochs": steps // 4}
        folder = tmp_path / str(steps)
        kp.fit(model, **how, seed=0, verbose=0, callbacks=[*callbacks, kp.Checkpoint(folder)])
        finals.append(kp.CheckpointStore(folder).read_record(4)[1].values)
    # The checkpoint of the stage's step has the fresh slots of the thawed part as well.
    assert finals[0].keys() > finals[1].keys()
    assert_same_state(finals[1], {key: finals[0][key] for key in finals[1]})


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        (
            {},
            ValueError,
            "GradualUnfreeze: `stages` must be a dict from steps to what is thawed there. "
            "Received: {}",
        ),
        (["a"], ValueError, "`stages` must be a dict"),
        ({0: "a"}, ValueError, "GradualUnfreeze: `stages` must be at least 1. Received: 0"),
        ({"a": 3}, TypeError, "`stages` must be a whole number. Received: 'a'"),
        (
            {8: "a"},
            ValueError,
            "the stage at step 8 would come after the last step of the run, which has 8",
        ),
        (
            {2: "aa"},
            ValueError,
            "GradualUnfreeze: 'aa' selects nothing in '.*'. Near names are 'a'",
        ),
        (
            {2: "*"},
            ValueError,
            "nothing would be trained before step 2. Leave the head out of the stages.",
        ),
        (
            {2: "a", 3: "a/kernel"},
            ValueError,
            "the stages at steps 2 and 3 share a part, which can be thawed but once",
        ),
    ],
)
def test_bad_stages(stages, error, message):
    with pytest.raises(error, match=message):
        kp.fit(net("a"), **TRAIN, seed=0, verbose=0, callbacks=[kp.GradualUnfreeze(stages)])


def test_plain_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"what is trained cannot change inside model\.fit\. Train with kp\.fit"
    ):
        net("a").fit(FEATURES, LABELS, verbose=0, callbacks=[kp.GradualUnfreeze({2: "a"})])


def test_bad_arguments_of_plans():
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        kp.last_layers_first(net("a"), 0)
    with pytest.raises(ValueError, match="has fewer than two layers with weights"):
        kp.last_layers_first(net(), 3)
    with pytest.raises(ValueError, match="`model` must be a built Keras model"):
        kp.last_layers_first(keras.Sequential([layers.Dense(1)]), 3)
    with pytest.raises(ValueError, match="`batch_norm` must be one of 'frozen', 'adapt'"):
        kp.GradualUnfreeze({1: "a"}, batch_norm="train")
