"""Momentum that follows a schedule: what the optimizers do with it, in numbers."""

import json

import keras
import numpy as np
import pytest
from keras.optimizers import schedules as keras_schedules

import keras_patterns as kp
from keras_patterns.schedules import CyclicalMomentum, Join, OneCycle, OneCycleMomentum

RATES = [0.1, 0.05, 0.2, 0.1]
MOMENTA = [0.9, 0.0, 0.8, 0.6]
GRADIENTS = np.array([[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0], [2.0, 0.1]])
START = np.array([0.3, -0.7])


def listed(values):
    return Join(values, list(range(1, len(values))))


def trained(optimizer):
    """A model whose gradients are given, trained in compiled steps; the weight after each."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, loss=lambda _, prediction: prediction)
    model.set_weights([START[:, np.newaxis]])
    weights = []
    for gradient in GRADIENTS:
        model.train_on_batch(gradient[np.newaxis].astype("float32"), np.zeros((1, 1), "float32"))
        weights.append(model.get_weights()[0][:, 0].copy())
    return np.array(weights)


# By hand, in double precision. Of beta_2 = 0.999, Keras computes 1 - beta_2 in single precision,
# which leaves four digits.


def sgd(nesterov=False):
    weight, slot, found = START.copy(), 0.0, []
    for rate, momentum, gradient in zip(RATES, MOMENTA, GRADIENTS, strict=True):
        slot = momentum * slot - rate * gradient
        weight = weight + (momentum * slot - rate * gradient if nesterov else slot)
        found.append(weight)
    return found


def rmsprop(centered=False, rho=0.9, epsilon=1e-7):
    weight, slot, square, average, found = START.copy(), 0.0, 0.0, 0.0, []
    for rate, momentum, gradient in zip(RATES, MOMENTA, GRADIENTS, strict=True):
        square = rho * square + (1 - rho) * gradient**2
        average = rho * average + (1 - rho) * gradient
        spread = (square - average**2 if centered else square) + epsilon
        slot = momentum * slot + rate * gradient / np.sqrt(spread)
        weight = weight - slot
        found.append(weight)
    return found


def adam(decay=0.0, beta_2=0.9, epsilon=1e-7):
    weight, first, second, found = START.copy(), 0.0, 0.0, []
    for step, (rate, beta_1, gradient) in enumerate(
        zip(RATES, MOMENTA, GRADIENTS, strict=True), start=1
    ):
        weight = weight * (1 - decay * rate)
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        rate = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        weight = weight - rate * first / (np.sqrt(second) + epsilon)
        found.append(weight)
    return found


def lion(beta_2=0.99):
    weight, slot, found = START.copy(), 0.0, []
    for rate, beta_1, gradient in zip(RATES, MOMENTA, GRADIENTS, strict=True):
        weight = weight - rate * np.sign(beta_1 * slot + (1 - beta_1) * gradient)
        slot = beta_2 * slot + (1 - beta_2) * gradient
        found.append(weight)
    return found


def nadam(beta_2=0.9, epsilon=1e-7):
    weight, first, second, product, found = START.copy(), 0.0, 0.0, 1.0, []
    for step, (rate, beta_1, gradient) in enumerate(
        zip(RATES, MOMENTA, GRADIENTS, strict=True), start=1
    ):
        now, after = (beta_1 * (1 - 0.5 * 0.96**s) for s in (step, step + 1))
        product = product * now
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        mean = after * first / (1 - product * after) + (1 - now) * gradient / (1 - product)
        weight = weight - rate * mean / (np.sqrt(second / (1 - beta_2**step)) + epsilon)
        found.append(weight)
    return found


OPTIMIZERS = keras.optimizers
BY_HAND = {
    "SGD": (lambda **how: OPTIMIZERS.SGD(**how), sgd()),
    "SGD given a momentum": (lambda **how: OPTIMIZERS.SGD(momentum=0.5, **how), sgd()),
    "Nesterov": (lambda **how: OPTIMIZERS.SGD(nesterov=True, **how), sgd(nesterov=True)),
    "RMSprop": (lambda **how: OPTIMIZERS.RMSprop(**how), rmsprop()),
    "centered RMSprop": (
        lambda **how: OPTIMIZERS.RMSprop(centered=True, **how),
        rmsprop(centered=True),
    ),
    "Adam": (lambda **how: OPTIMIZERS.Adam(beta_2=0.9, **how), adam()),
    "AdamW": (lambda **how: OPTIMIZERS.AdamW(beta_2=0.9, weight_decay=0.1, **how), adam(decay=0.1)),
    "Lion": (lambda **how: OPTIMIZERS.Lion(**how), lion()),
    "Nadam": (lambda **how: OPTIMIZERS.Nadam(beta_2=0.9, **how), nadam()),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_step_uses_the_momentum_of_its_own(name):
    make, expected = BY_HAND[name]
    optimizer = kp.optimizers.with_momentum(make(learning_rate=listed(RATES)), listed(MOMENTA))
    np.testing.assert_allclose(trained(optimizer), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lamb", "Lion"]
)
def test_a_constant_schedule_changes_nothing(name):
    kind, beta = (
        getattr(OPTIMIZERS, name),
        {"momentum": 0.8} if name in ("SGD", "RMSprop") else {"beta_1": 0.8},
    )
    scheduled = trained(kp.optimizers.with_momentum(kind(0.1), listed([0.8, 0.8])))
    np.testing.assert_allclose(scheduled, trained(kind(0.1, **beta)), rtol=2e-6)


@pytest.mark.parametrize(
    "name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lamb", "Lion"]
)
def test_a_moving_schedule_changes_the_weights(name):
    """The control: where a backend bakes the momentum of the first step in, the two are equal."""
    # Lion goes by signs alone, which only a high momentum turns.
    high = 0.999 if name == "Lion" else 0.8
    kind, beta = (
        getattr(OPTIMIZERS, name),
        {"momentum": high} if name in ("SGD", "RMSprop") else {"beta_1": high},
    )
    moving = trained(kp.optimizers.with_momentum(kind(0.1), listed([high, high, 0.1, 0.1])))
    fixed = trained(kind(0.1, **beta))
    np.testing.assert_allclose(moving[:2], fixed[:2], rtol=2e-6)
    assert np.abs(moving[3] - fixed[3]).max() > 1e-3


@pytest.mark.parametrize(
    "name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lamb", "Lion"]
)
def test_it_is_of_the_class_that_keras_makes(name):
    """Which on some backends updates all weights at once, as a plain subclass does not."""
    given = getattr(OPTIMIZERS, name)()
    assert isinstance(kp.optimizers.with_momentum(given, listed([0.8, 0.8])), type(given))


def test_accumulated_gradients_count_as_they_do_for_the_rate():
    schedules = {"learning_rate": listed([9.0, 0.1, 9.0, 0.2]), "gradient_accumulation_steps": 2}
    optimizer = kp.optimizers.with_momentum(
        OPTIMIZERS.SGD(**schedules), listed([9.0, 0.5, 9.0, 0.25])
    )
    means = GRADIENTS.reshape(2, 2, 2).mean(axis=1)
    slot = -0.1 * means[0]
    first = START + slot
    second = first + 0.25 * slot - 0.2 * means[1]
    np.testing.assert_allclose(trained(optimizer), [START, first, first, second], rtol=1e-5)


def test_inside_other_optimizers():
    inner = kp.optimizers.with_momentum(OPTIMIZERS.SGD(listed(RATES)), listed(MOMENTA))
    scaled = OPTIMIZERS.LossScaleOptimizer(inner, initial_scale=2.0)
    np.testing.assert_allclose(trained(scaled), sgd(), rtol=1e-5)
    inner = kp.optimizers.with_momentum(OPTIMIZERS.Adam(listed(RATES), beta_2=0.9), listed(MOMENTA))
    several = OPTIMIZERS.MultiOptimizer(OPTIMIZERS.OptimizerMap(inner))
    np.testing.assert_allclose(trained(several), adam(), rtol=2e-5)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam"])
def test_sparse_gradients(name):
    """Of an embedding, where the backend has them."""

    def weights(schedule):
        keras.utils.set_random_seed(0)
        kind, beta = (
            getattr(OPTIMIZERS, name),
            {"momentum": 0.8} if name in ("SGD", "RMSprop") else {"beta_1": 0.8},
        )
        model = keras.Sequential(
            [keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        model.compile(
            kp.optimizers.with_momentum(kind(0.1), listed([0.8, 0.8]))
            if schedule
            else kind(0.1, **beta),
            "mse",
        )
        x = np.arange(12, dtype="int32").reshape(4, 3) % 9
        model.fit(x, np.ones((4, 1)), epochs=3, verbose=0)
        return model.get_weights()

    for one, other in zip(weights(True), weights(False), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


PRECISIONS = ["float16", "mixed_float16", "mixed_bfloat16"]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        # Each of both goes through each backend; each pair does once.
        pytest.param(name, policy, marks=() if number % 3 == other else pytest.mark.once)
        for number, name in enumerate(
            ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lion"]
        )
        for other, policy in enumerate(PRECISIONS)
    ],
)
def test_in_other_precisions(name, policy):
    small = {} if name in ("SGD", "Lion") else {"epsilon": 1e-3}
    optimizer = kp.optimizers.with_momentum(
        getattr(OPTIMIZERS, name)(0.01, **small), listed([0.8, 0.5, 0.9])
    )
    layers = [keras.layers.Dense(4, dtype=policy), keras.layers.Dense(1, dtype=policy)]
    model = keras.Sequential([keras.Input((3,), dtype="float16"), *layers])
    model.compile(optimizer, "mse")
    history = model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


class Bare(keras.optimizers.schedules.LearningRateSchedule):
    """One that cannot be saved; Keras trains with it all the same."""

    def __call__(self, step):
        return keras.ops.cast(step, "float32") * 0 + 0.1


@pytest.mark.parametrize("rate", [Bare(), lambda: 0.1, 0.1])
def test_schedules_that_cannot_be_saved(rate):
    optimizer = kp.optimizers.with_momentum(OPTIMIZERS.SGD(rate), Bare())
    np.testing.assert_allclose(trained(optimizer)[0], START - 0.1 * GRADIENTS[0], rtol=1e-5)
    assert kp.optimizers.with_one_cycle(
        OPTIMIZERS.SGD(rate), 0.1, 50
    ).momentum_schedule == OneCycleMomentum(50)


@pytest.mark.parametrize("name", ["sgd", "Lamb", "lion", "adamw"])
def test_optimizers_by_name(name):
    assert (
        type(kp.optimizers.with_one_cycle(name, 0.1, 50)).__name__.lower()
        == f"momentumscheduled{name.lower()}"
    )


def test_one_cycle_sets_both():
    optimizer = kp.optimizers.with_one_cycle(
        OPTIMIZERS.SGD(nesterov=True), 0.5, 20, momentum=(0.8, 0.9), three_phase=True, div_factor=10
    )
    config = optimizer.get_config()
    assert keras.saving.deserialize_keras_object(config["learning_rate"]) == OneCycle(
        0.5, 20, div_factor=10, three_phase=True
    )
    assert optimizer.momentum_schedule == OneCycleMomentum(20, 0.8, 0.9, three_phase=True)
    assert optimizer.nesterov


def test_what_was_configured_stays():
    given = OPTIMIZERS.AdamW(0.02, weight_decay=0.1, clipnorm=1.0, use_ema=True, name="mine")
    given.exclude_from_weight_decay(var_names=["bias"])
    before = given.get_config()
    optimizer = kp.optimizers.with_momentum(given, listed(MOMENTA))
    assert given.get_config() == before
    found = optimizer.get_config()
    assert {name: found[name] for name in before} == before
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, bias_initializer="ones")])
    model.compile(optimizer, loss=lambda _, prediction: 0 * prediction)
    kernel = model.get_weights()[0]
    model.train_on_batch(np.ones((1, 1), "float32"), np.ones((1, 1), "float32"))
    assert model.get_weights()[1] == 1.0
    np.testing.assert_allclose(model.get_weights()[0], kernel * (1 - 0.1 * 0.02), rtol=1e-5)


def test_a_saved_model_goes_on_with_its_schedule(tmp_path):
    whole = trained(kp.optimizers.with_momentum(OPTIMIZERS.Adam(listed(RATES)), listed(MOMENTA)))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(
        kp.optimizers.with_momentum(OPTIMIZERS.Adam(listed(RATES)), listed(MOMENTA)),
        "mean_absolute_error",
    )
    model.set_weights([START[:, np.newaxis]])
    # The absolute error from far above has the prediction's own gradient.
    far = np.full((1, 1), -100.0, "float32")
    for gradient in GRADIENTS[:2]:
        model.train_on_batch(gradient[np.newaxis].astype("float32"), far)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    for gradient in GRADIENTS[2:]:
        model.train_on_batch(gradient[np.newaxis].astype("float32"), far)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], whole[-1], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lamb", "Lion"]
)
def test_an_optimizer_comes_back_from_its_configuration(name):
    optimizer = kp.optimizers.with_one_cycle(getattr(OPTIMIZERS, name)(), 0.1, 50)
    back = keras.optimizers.deserialize(
        json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    )
    assert type(back) is type(optimizer)
    assert back.momentum_schedule == optimizer.momentum_schedule
    assert back.get_config() == optimizer.get_config()


def test_a_schedule_is_replaced():
    first = kp.optimizers.with_momentum("adam", CyclicalMomentum(0.8, 0.9, 5))
    assert kp.optimizers.with_momentum(
        first, OneCycleMomentum(50)
    ).momentum_schedule == OneCycleMomentum(50)


def test_the_bounds_of_the_momentum_are_two():
    with pytest.raises(
        TypeError,
        match=(
            r"`momentum` must be the lowest and the highest, such as \(0.85, 0.95\). Received: "
            r"0.9"
        ),
    ):
        kp.optimizers.with_one_cycle("adam", 0.1, 50, momentum=0.9)


class Own(keras.optimizers.Adam):
    pass


def built():
    optimizer = keras.optimizers.SGD()
    optimizer.build([keras.Variable(np.zeros(2), name="weight")])
    return optimizer


@pytest.mark.parametrize(
    ("optimizer", "schedule", "error", "message"),
    [
        (
            lambda: "adagrad",
            OneCycleMomentum(50),
            TypeError,
            "Adagrad has no momentum that it knows. It takes Keras's own SGD, ",
        ),
        (lambda: Own(), OneCycleMomentum(50), TypeError, "Own has no momentum that it knows"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(Own()),
            OneCycleMomentum(50),
            TypeError,
            "with_momentum: Own has no momentum that it knows",
        ),
        (
            lambda: OPTIMIZERS.MultiOptimizer(OPTIMIZERS.OptimizerMap(OPTIMIZERS.SGD())),
            OneCycleMomentum(50),
            TypeError,
            "with_momentum: a MultiOptimizer has no rate and no momentum of its own",
        ),
        (
            lambda: "adam",
            0.9,
            TypeError,
            "`schedule` must be a LearningRateSchedule. Received: 0.9",
        ),
        (
            built,
            OneCycleMomentum(50),
            ValueError,
            "has been built, and what it has gathered would be lost",
        ),
    ],
)
def test_arguments_are_checked(optimizer, schedule, error, message):
    with pytest.raises(error, match=message):
        kp.optimizers.with_momentum(optimizer(), schedule)


def test_keras_gives_its_own_schedules_the_same_counter():
    rate = keras_schedules.PiecewiseConstantDecay([0, 1, 2], RATES)
    momentum = keras_schedules.PiecewiseConstantDecay([0, 1, 2], MOMENTA)
    np.testing.assert_allclose(
        trained(kp.optimizers.with_momentum(OPTIMIZERS.SGD(rate), momentum)), sgd(), rtol=1e-5
    )


def test_the_history_has_the_momentum_at_the_ends_of_epochs():
    schedule = listed([0.9, 0.8, 0.7, 0.6, 0.5])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kp.optimizers.with_momentum(keras.optimizers.SGD(0.1), schedule), "mse")
    history = kp.fit(model, np.ones((8, 2)), np.ones(8), batch_size=4, epochs=2, verbose=0, seed=0)
    assert history.momentums == pytest.approx([0.7, 0.5])
    before = {name: value for name, value in history.get_state().items() if name != "momentums"}
    restored = kp.RunHistory()
    # Also where a run is rolled back to a checkpoint that has none.
    restored.momentums = [0.8, 0.7, 0.6]
    restored.set_state(before)
    assert restored.momentums == [None, None]


def test_what_an_optimizer_of_ones_own_calls_a_momentum_schedule_is_left_alone():
    class Own(keras.optimizers.SGD):
        momentum_schedule = (0.9, 0.99)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(Own(0.1), "mse")
    history = kp.fit(model, np.ones((4, 2)), np.ones(4), batch_size=4, epochs=1, verbose=0, seed=0)
    assert history.momentums == [None]
