"""Old names of functions, classes and keywords: they work, with a warning, and files that have them
are read without one.
"""

import json
import sys
import types
import warnings

import keras
import pytest
from keras import optimizers

import keras_patterns as kp
from keras_patterns._util.deprecated import renamed_classes
from keras_patterns.checkpoint.identity import Identity, changes
from keras_patterns.optimizers import with_layer_rates, with_one_cycle
from keras_patterns.schedules import (
    CyclicalLearningRate,
    OneCycle,
    OneCycleMomentum,
    WarmupStableDecay,
)


def make_model():
    layers = [keras.layers.Dense(size, name=name) for size, name in ((3, "low"), (2, "high"))]
    return keras.Sequential([keras.Input((4,)), *layers])


def adam():
    return optimizers.Adam(name="adam")


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    # Beside Keras's own.
    caught = [one for one in caught if "the old name goes" in str(one.message)]
    assert all(one.category is DeprecationWarning for one in caught)
    assert {one.filename for one in caught} <= {__file__}
    return result, [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("old", "new", "call"),
    [
        ("one_cycle", "with_one_cycle", lambda f, _: f(adam(), 0.1, 50)),
        ("with_momentum_schedule", "with_momentum", lambda f, _: f(adam(), OneCycleMomentum(50))),
        ("layerwise_rates", "with_layer_rates", lambda f, model: f(adam(), model)),
    ],
)
def test_old_functions_warn_and_do_the_same(old, new, call):
    model = make_model()
    found, messages = warned(lambda: call(getattr(kp, old), model))
    assert messages == [f"kp.{old} is now kp.optimizers.{new}; the old name goes in release 0.3."]
    expected = call(getattr(kp.optimizers, new), model)
    assert type(found) is type(expected)
    assert found.get_config() == expected.get_config()


OLD_KEYWORDS = {
    "OneCycle": (
        lambda: OneCycle(maximal_learning_rate=0.1, total_steps=50, pct_start=0.4),
        lambda: OneCycle(peak_learning_rate=0.1, total_steps=50, warmup_fraction=0.4),
    ),
    "OneCycleMomentum": (
        lambda: OneCycleMomentum(50, pct_start=0.4),
        lambda: OneCycleMomentum(50, warmup_fraction=0.4),
    ),
    "CyclicalLearningRate": (
        lambda: CyclicalLearningRate(0.1, maximal_learning_rate=0.5, step_size=2),
        lambda: CyclicalLearningRate(0.1, peak_learning_rate=0.5, step_size=2),
    ),
    "WarmupStableDecay": (
        lambda: WarmupStableDecay(
            maximal_learning_rate=0.1, warmup_steps=1, stable_steps=1, decay_steps=1
        ),
        lambda: WarmupStableDecay(
            peak_learning_rate=0.1, warmup_steps=1, stable_steps=1, decay_steps=1
        ),
    ),
    "with_one_cycle": (
        lambda: with_one_cycle(adam(), maximal_learning_rate=0.1, total_steps=50, pct_start=0.4),
        lambda: with_one_cycle(adam(), peak_learning_rate=0.1, total_steps=50, warmup_fraction=0.4),
    ),
}


@pytest.mark.parametrize("name", OLD_KEYWORDS)
def test_old_keywords_warn_and_do_the_same(name):
    old, new = OLD_KEYWORDS[name]
    found, messages = warned(old)
    assert found.get_config() == new().get_config()
    pairs = [("maximal_learning_rate", "peak_learning_rate"), ("pct_start", "warmup_fraction")]
    assert messages
    assert set(messages) <= {
        f"{name}: `{one}` is now `{other}`; the old name goes in release 0.3."
        for one, other in pairs
    }


def test_an_old_keyword_beside_the_new_one_is_an_error():
    with pytest.raises(
        TypeError,
        match=r"OneCycle: `pct_start` is the old name of `warmup_fraction`. Give one of them\.",
    ):
        OneCycle(0.1, 50, pct_start=0.3, warmup_fraction=0.4)


def test_an_old_attribute_warns():
    rate, messages = warned(lambda: OneCycle(0.1, 50).maximal_learning_rate)
    assert rate == 0.1
    assert messages == [
        "OneCycle.maximal_learning_rate is now OneCycle.peak_learning_rate; the old name goes in "
        "release 0.3."
    ]


def test_a_configuration_with_old_keywords_is_read_without_a_warning():
    schedule = OneCycle(0.1, 50, warmup_fraction=0.4)
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    config = saved["config"]
    config["maximal_learning_rate"] = config.pop("peak_learning_rate")
    config["pct_start"] = config.pop("warmup_fraction")
    assert keras.saving.deserialize_keras_object(saved) == schedule


def old_schedule(name, **config):
    """As the release 0.1 saved it."""
    return {
        "module": "keras_patterns.schedules.one_cycle",
        "class_name": name,
        "config": config,
        "registered_name": f"keras_patterns>{name}",
    }


RATE = old_schedule("OneCycle", maximal_learning_rate=0.1, total_steps=12, pct_start=0.4)
MOMENTUM = old_schedule("OneCycleMomentum", total_steps=12, pct_start=0.4)


def test_an_optimizer_saved_under_old_names_is_read_without_a_warning():
    saved = {
        "module": "keras_patterns.layerwise.optimizers",
        "class_name": "LayerwiseMomentumScheduledAdam",
        "config": {
            "name": "adam",
            "learning_rate": RATE,
            "beta_1": 0.9,
            "momentum_schedule": MOMENTUM,
            "base_optimizer": {
                "module": "keras_patterns.momentum.optimizers",
                "class_name": "MomentumScheduledAdam",
                "registered_name": "keras_patterns>MomentumScheduledAdam",
            },
            "rate_factors": [[0.5, 2, 15], [1.0, 2, 8]],
        },
        "registered_name": "keras_patterns>LayerwiseRates",
    }
    model = make_model()
    optimizer = with_one_cycle(adam(), 0.1, 12, warmup_fraction=0.4)
    optimizer = with_layer_rates(optimizer, model, decay=0.5)
    loaded = optimizers.deserialize(saved)
    assert type(loaded) is type(optimizer)
    assert loaded.get_config() == optimizer.get_config()


def test_a_run_saved_under_old_keywords_is_the_same_run():
    old, new = (
        Identity(
            total_steps=12,
            steps_per_epoch=6,
            seed=0,
            data={},
            optimizers={"optimizer": {"class": "Adam", "learning_rate": rate, "beta_1": 0.9}},
        )
        for rate in (
            RATE,
            old_schedule("OneCycle", peak_learning_rate=0.1, total_steps=12, warmup_fraction=0.4),
        )
    )
    assert changes(old, new)
    assert changes(Identity.from_json(old.as_json()), new) == []


class NewError(Exception):
    pass


def test_an_old_class_is_the_new_one_and_is_caught_as_such(monkeypatch):
    module = types.ModuleType("house")
    module.NewError, module.__getattr__ = NewError, renamed_classes("house", OldError="NewError")
    monkeypatch.setitem(sys.modules, "house", module)
    old, messages = warned(lambda: module.OldError)
    assert messages == ["house.OldError is now house.NewError; the old name goes in release 0.3."]
    with pytest.raises(old):
        raise NewError
    with pytest.raises(AttributeError, match="module 'house' has no attribute 'Other'"):
        _ = module.Other


def test_an_old_keyword_of_fine_tune_is_checked_as_the_new_one():
    model = make_model()
    model.compile(adam(), "mse")
    with (
        pytest.warns(DeprecationWarning, match="fine_tune: `pct_start` is now `warmup_fraction`"),
        pytest.raises(ValueError, match="`warmup_fraction` must be finite, greater than 0"),
    ):
        kp.fine_tune(model, head_steps=1, all_steps=1, pct_start=0)
