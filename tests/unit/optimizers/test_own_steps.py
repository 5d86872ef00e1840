"""Each variable's moments are corrected by the steps that it was trained for, as in PyTorch."""

import keras
import numpy as np
import pytest
from keras import layers
from models import CASES, TRAIN, frozen_body

import keras_patterns as kp
from keras_patterns.checkpoint.contents import Record
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_resumes_exactly

A, B = "layers/0/kernel", "layers/1/kernel"
# For each step, the gradients of two weights of shape (3, 3).
GRADIENTS = np.random.default_rng(9).normal(size=(2, 12, 3, 3)).astype("float32")

adam, optimizers = keras.optimizers.Adam, keras.optimizers
OPTIMIZERS = {
    "Adam": lambda: adam(0.01),
    "amsgrad": lambda: adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Lion": lambda: optimizers.Lion(0.01),
    "Muon": lambda: optimizers.Muon(0.01),
    "Adafactor": lambda: optimizers.Adafactor(0.01, relative_step=False),
    "schedule-free": lambda: optimizers.ScheduleFreeAdamW(0.01),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "accumulated": lambda: adam(0.01, gradient_accumulation_steps=2),
    "several": lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(adam(0.01), {})),
    "momentum schedule": lambda: kp.optimizers.with_momentum(
        adam(0.01), kp.schedules.CyclicalMomentum(0.8, 0.9, step_size=3)
    ),
}


def net(optimizer):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, use_bias=False, name="a"),
            layers.Dense(3, use_bias=False, name="b"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def apply(model, steps):
    """Trains with the gradients of some steps: of both layers, or of the only one that is
    trained."""
    wanted = [
        GRADIENTS["ab".index(variable.path.split("/")[-2])]
        for variable in model.trainable_variables
    ]
    for step in steps:
        model.optimizer.apply(
            [keras.ops.convert_to_tensor(each[step]) for each in wanted], model.trainable_variables
        )


def thawed_at(optimizer, step, steps=12):
    """Trained with `b` from a step on; returns the model, and `b` as it began."""
    model = net(optimizer)
    kp.freeze(model, "b")
    apply(model, range(step))
    kp.unfreeze(model, "b")
    begun = model.layers[1].kernel.numpy()
    apply(model, range(step, steps))
    return model, begun


def alone(optimizer, name, begun, steps):
    """The weight of a layer, trained by an optimizer that never saw the other one."""
    model = net(optimizer)
    kp.freeze(model, "b" if name == "a" else "a")
    layer = model.get_layer(name)
    layer.kernel.assign(begun)
    apply(model, steps)
    return layer.kernel.numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_thawed_late_it_is_trained_as_by_an_optimizer_of_its_own(name):
    keras.utils.set_random_seed(0)
    first = net("sgd").layers[0].kernel.numpy()
    keras.utils.set_random_seed(0)
    model, begun = thawed_at(OPTIMIZERS[name](), step=6)
    np.testing.assert_allclose(
        model.layers[1].kernel, alone(OPTIMIZERS[name](), "b", begun, range(6, 12)), atol=1e-6
    )
    np.testing.assert_allclose(
        model.layers[0].kernel, alone(OPTIMIZERS[name](), "a", first, range(12)), atol=1e-6
    )


def test_without_it_the_steps_of_adam_would_be_too_long(monkeypatch):
    monkeypatch.setattr("keras_patterns._keras.own_steps._METHODS", ())
    model = net(adam(0.01))
    kp.freeze(model, "b")
    apply(model, [0])
    model.optimizer.iterations.assign(3_000)
    kp.unfreeze(model, "b")
    begun = model.layers[1].kernel.numpy()
    apply(model, [6])
    moved, wanted = (
        np.abs(weight - begun)
        for weight in (model.layers[1].kernel.numpy(), alone(adam(0.01), "b", begun, [6]))
    )
    np.testing.assert_allclose(
        moved / wanted, np.sqrt(1 - 0.999**3_001) * 0.1 / np.sqrt(0.001), rtol=1e-3
    )


def test_with_a_scaled_loss():
    ended = []
    for optimizer in (adam(0.01), optimizers.LossScaleOptimizer(adam(0.01), initial_scale=1024.0)):
        keras.utils.set_random_seed(0)
        model = net(optimizer)
        kp.fit(
            model,
            *GRADIENTS[:, 0],
            total_steps=8,
            epochs=1,
            seed=0,
            verbose=0,
            callbacks=[kp.GradualUnfreeze({5: "a"}, verbose=0)],
        )
        ended.append((model.layers[0].kernel.numpy(), first_steps(model)))
    np.testing.assert_allclose(*(weight for weight, _ in ended), atol=1e-6)
    assert [counted for _, counted in ended] == [
        {"optimizer": {A: 5}},
        {"optimizer/inner_optimizer": {A: 5}},
    ]


def test_rates_by_depth_and_three_first_steps():
    model = net("sgd")
    model.compile(kp.optimizers.with_layer_rates(adam(0.01), model, decay=0.5), "mse")
    kp.freeze(model, "a")
    apply(model, range(3))
    kp.unfreeze(model, "a")
    begun = model.layers[0].kernel.numpy()
    apply(model, range(3, 6))
    np.testing.assert_allclose(
        model.layers[0].kernel, alone(adam(0.005), "a", begun, range(3, 6)), atol=1e-6
    )
    kp.freeze(model, "b")
    kp.unfreeze(model, "b")
    assert first_steps(model) == {"optimizer": {A: 3, B: 6}}
    begun = model.layers[1].kernel.numpy()
    apply(model, range(6, 8))
    np.testing.assert_allclose(
        model.layers[1].kernel, alone(adam(0.01), "b", begun, range(6, 8)), atol=1e-6
    )


def nadam(weight, gradients, first, rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """T. Dozat's Nadam in Keras's form, for a weight that is trained from step `first` on."""

    def momentum(t):
        return beta_1 * (1 - 0.5 * 0.96**t)

    m, v, weight = 0.0, 0.0, weight.astype("float64")
    for step, gradient in enumerate(gradients, start=first):
        own, product = step + 1 - first, np.prod([momentum(t) for t in range(1, step + 2)])
        m, v = m + (gradient - m) * (1 - beta_1), v + (gradient**2 - v) * (1 - beta_2)
        mean = momentum(own + 1) * m / (1 - product * momentum(own + 1)) + (
            1 - momentum(own)
        ) * gradient / (1 - product)
        weight -= rate * mean / (np.sqrt(v / (1 - beta_2**own)) + epsilon)
    return weight


def test_nadam_has_one_product_of_momenta_for_all():
    keras.utils.set_random_seed(0)
    first = net("sgd").layers[0].kernel.numpy()
    keras.utils.set_random_seed(0)
    model, begun = thawed_at(optimizers.Nadam(0.01), step=6)
    np.testing.assert_allclose(model.layers[0].kernel, nadam(first, GRADIENTS[0], 0), atol=1e-6)
    np.testing.assert_allclose(model.layers[1].kernel, nadam(begun, GRADIENTS[1, 6:], 6), atol=1e-6)


def first_steps(model):
    return find_variables(model).first_steps()


def test_what_was_trained_from_the_start_has_no_count_of_its_own():
    model = net(adam(0.01))
    assert first_steps(model) == {}
    kp.freeze(model, "b")
    kp.unfreeze(model, "b")
    apply(model, range(2))
    assert first_steps(model) == {}
    assert "update_step" not in vars(model.optimizer)


def test_what_is_frozen_again_loses_its_count():
    model, _ = thawed_at(adam(0.01), step=6, steps=8)
    assert first_steps(model) == {"optimizer": {B: 6}}
    kp.freeze(model, "b")
    assert first_steps(model) == {}
    kp.unfreeze(model, "b")
    assert first_steps(model) == {"optimizer": {B: 8}}


def test_the_optimizer_of_a_backbone_keeps_its_slots_and_its_counts():
    backbone, _ = thawed_at(adam(0.01), step=6)
    model = keras.Sequential([keras.Input((3,)), backbone, layers.Dense(1, name="head")])
    model.compile(adam(0.01), "mse")
    kp.freeze(model, backbone)
    kp.fit(
        model, GRADIENTS[0, 0], GRADIENTS[0, 0, :, :1], total_steps=2, epochs=1, seed=0, verbose=0
    )
    kp.unfreeze(model, backbone)
    inside = "layers/0/layers/{}/kernel".format
    assert first_steps(model) == {
        "optimizer": {inside(0): 2, inside(1): 2},
        "layers/0/optimizer": {inside(1): 6},
    }


def test_a_counter_that_was_set_back_is_no_negative_count():
    model, _ = thawed_at(adam(0.01), step=6, steps=6)
    model.optimizer.iterations.assign(0)
    apply(model, range(3))
    assert np.isfinite(model.layers[1].kernel.numpy()).all()


def test_a_saved_model_is_loaded_as_one_of_keras():
    model, _ = thawed_at(adam(0.01), step=6)
    model.save("model.keras")
    again = keras.models.load_model("model.keras")
    assert type(again.optimizer) is type(model.optimizer)
    assert first_steps(again) == {}
    apply(again, range(2))


def test_a_checkpoint_that_did_not_hold_them_would_not_go_on_exactly(monkeypatch):
    """The rows "thawing" of the conformance table go on exactly; this is their control."""
    monkeypatch.setattr(
        "keras_patterns.checkpoint.restore.begin_fresh_slots", lambda *arguments: None
    )
    case = CASES["thawing"]
    with pytest.raises(AssertionError, match="killed at step 6 and resumed ends in another state"):
        assert_resumes_exactly(case.make_model, **case.arguments, kill_at=6)


def test_what_is_new_in_a_checkpoint_counts_from_there(tmp_path):
    """Frozen when it was saved, or trained by an optimizer with other slots."""

    def trained(model, steps=4, begin="auto"):
        how = {**TRAIN, "total_steps": steps, "epochs": steps // 4}
        kp.fit(model, **how, seed=0, verbose=0, callbacks=[kp.Checkpoint(tmp_path, resume=begin)])
        return first_steps(model)

    body = frozen_body()
    kp.freeze(body, "first")
    assert trained(body) == {}
    assert trained(frozen_body(), steps=8) == {
        "optimizer": {"layers/0/kernel": 4, "layers/0/bias": 4}
    }
    for optimizer, steps in ((keras.optimizers.Adagrad, 12), (keras.optimizers.RMSprop, 16)):
        other = frozen_body()
        other.compile(optimizer(0.01, use_ema=True), "sparse_categorical_crossentropy")
        assert set(trained(other, steps)["optimizer"].values()) == {steps - 4}


@pytest.mark.parametrize("nonsense", [["a"], None, [1], {A: -7}, {A: True}, {A: "3"}])
def test_nonsense_is_no_part_of_a_checkpoint(nonsense, tmp_path, monkeypatch):
    how = {**TRAIN, "total_steps": 4, "epochs": 1, "seed": 0, "verbose": 0}
    pack = Record.pack

    def pack_nonsense(record):
        document, tensors = pack(record)
        for optimizer in document["optimizers"]["content"].values():
            optimizer["first_steps"] = nonsense
        return document, tensors

    monkeypatch.setattr(Record, "pack", pack_nonsense)
    # What no reader takes is not written.
    with pytest.raises(ValueError, match=r"optimizers\['optimizer'\]\.first_steps"):
        kp.fit(frozen_body(), **how, callbacks=[kp.Checkpoint(tmp_path)])
    assert kp.CheckpointStore(tmp_path).steps() == []
