"""Exact resume: state that Keras does not track is carried, or named before the first step."""

import random
import re
import types

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, IMAGES, LABELS, TRAIN, compiled, small

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.run.foreign import ForeignState
from keras_patterns.state.walk import walk
from keras_patterns.testing import assert_resumes_exactly

SHORT = {**TRAIN, "total_steps": 6, "epochs": 2}
TRACED = not current().runs_python


class Drawing(layers.Layer):
    """Adds while training what `draw` gives."""

    def call(self, inputs, training=False):
        return inputs + self.draw() if training else inputs


def model_with(*hidden, **how):
    body = [keras.Input((6,)), layers.Dense(4), *hidden, layers.Dense(3, activation="softmax")]
    return compiled(keras.Sequential(body), **how)


def without_foreign_state(monkeypatch):
    """The negative control."""
    for method in ("begin", "restore"):
        monkeypatch.setattr(ForeignState, method, lambda self, *_: None)
    monkeypatch.setattr(ForeignState, "states", lambda self: {})


# The callbacks, losses and regularizers of a person.


class Generators(keras.callbacks.Callback):
    """Sets rates by numbers of all kinds of generators."""

    def __init__(self):
        super().__init__()
        self.numpy = np.random.default_rng(1)
        self.parts = {"python": [random.Random(2)]}
        self.nested = types.SimpleNamespace(old=np.random.RandomState(3))
        self.keras = keras.random.SeedGenerator(4)
        self.shown = keras.metrics.Mean()

    def on_epoch_end(self, epoch, logs=None):
        drawn = ops.convert_to_numpy(keras.random.uniform((), seed=self.keras))
        self.shown.update_state(self.numpy.random() + self.parts["python"][0].gauss(0, 1))
        rate = float(self.shown.result()) + self.nested.old.normal() + float(drawn)
        self.model.optimizer.learning_rate = abs(rate) / 100


def closures():
    seen, count, generator = [], 0, random.Random(5)

    def note(epoch, logs):
        nonlocal count
        count += 1
        seen.append(generator.random())

    return [
        keras.callbacks.LambdaCallback(on_epoch_end=note),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 * (count + sum(seen) + 1)),
    ]


def noisy_loss():
    seed = keras.random.SeedGenerator(8)

    def loss(targets, outputs):
        right = keras.losses.sparse_categorical_crossentropy(targets, outputs)
        return right * (1 + keras.random.uniform((), seed=seed))

    return loss


class NoisyRegularizer(keras.regularizers.Regularizer):
    def __init__(self):
        self.seed = keras.random.SeedGenerator(2)

    def __call__(self, weights):
        return 0.1 * ops.sum(weights) * keras.random.normal((), seed=self.seed)


def noisy_model():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, kernel_regularizer=NoisyRegularizer()),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", noisy_loss())
    return model


# The data of a person.

SHARED = np.random.default_rng(7)


class Augmented(keras.utils.PyDataset):
    """Draws from everything that it holds, and from what its code names; row 10 of the faults."""

    flip = layers.RandomFlip("horizontal")
    num_batches = 5

    def __init__(self, **how):
        super().__init__(**how)
        self.held = {"python": [random.Random(6)]}
        self.late = None

    def __getitem__(self, index):
        self.late = self.late or layers.GaussianNoise(0.5)
        images = self.flip(IMAGES[index * 8 : index * 8 + 8], training=True)
        images = ops.convert_to_numpy(self.late(images, training=True))
        noise = SHARED.normal() + self.held["python"][0].gauss(0, 1)
        unseeded = float(ops.convert_to_numpy(keras.random.normal(())))
        return images + np.float32(noise + unseeded), LABELS[index * 8 : index * 8 + 8]


def augmented_batches():
    # Not seeded here: the run that goes on must be given where it began.
    generator, flip = np.random.default_rng(random.getrandbits(32)), layers.RandomFlip("horizontal")
    while True:
        images = ops.convert_to_numpy(flip(IMAGES[:8], training=True))
        noise = generator.normal() + SHARED.normal()
        yield images + np.float32(noise), LABELS[:8]


def image_model():
    body = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3, activation="softmax")]
    return compiled(keras.Sequential(body))


CARRIED = {
    "callback": (lambda: compiled(small()), {**SHORT, "callbacks": lambda: [Generators()]}),
    "closures": (lambda: compiled(small()), {**SHORT, "epochs": 3, "callbacks": closures}),
    "loss and regularizer": (noisy_model, SHORT),
    "dataset": (image_model, {"x": Augmented, "total_steps": 7, "epochs": 2}),
    "generator": (image_model, {"x": augmented_batches, "total_steps": 6, "epochs": 2}),
}


@pytest.mark.parametrize("name", CARRIED)
@pytest.mark.filterwarnings("ignore:The state of Generators is not in the checkpoint")
def test_what_is_held_is_carried(name):
    make_model, arguments = CARRIED[name]
    assert_resumes_exactly(make_model, **fresh(arguments), kill_at=[2, 5])


def fresh(arguments):
    """The shared generator as in a new process, for each run."""

    def x():
        SHARED.bit_generator.state = np.random.default_rng(7).bit_generator.state
        return arguments["x"]()

    return {**arguments, "x": x} if callable(arguments["x"]) else arguments


@pytest.mark.parametrize("name", ["callback", "closures"])
@pytest.mark.filterwarnings("ignore:The state of Generators is not in the checkpoint")
def test_what_is_held_and_not_carried_makes_a_difference(name, monkeypatch):
    without_foreign_state(monkeypatch)
    make_model, arguments = CARRIED[name]
    with pytest.raises(AssertionError, match="ends in another state"):
        assert_resumes_exactly(make_model, **fresh(arguments), kill_at=3)


def test_a_dataset_that_is_not_seeded_makes_a_difference(monkeypatch):
    item_caller = pytest.importorskip("keras_patterns.state.item_caller")
    monkeypatch.setattr(item_caller.ItemCaller, "_find", lambda self: {})
    make_model, arguments = CARRIED["dataset"]
    with pytest.raises(AssertionError, match="ends in another state"):
        assert_resumes_exactly(make_model, **fresh(arguments), kill_at=5)


# Layers with a state of their own.


class Counting(Drawing):
    def __init__(self):
        super().__init__()
        self.count, self.seen, self.generator = 0, [], np.random.default_rng(3)

    def draw(self):
        self.count += 1
        self.seen.append(float(self.generator.normal()))
        return 0.01 * self.count + sum(self.seen)


@pytest.mark.parametrize("eagerly", [True] if TRACED else [False, True])
def test_python_code_that_runs_in_each_step_goes_on(eagerly):
    def make_model():
        return model_with(Counting(), run_eagerly=eagerly)

    assert_resumes_exactly(make_model, **SHORT, kill_at=[2, 5])


def named_in(model, tmp_path, **arguments):
    """The lines of the warning of a run, which is raised before a step has run."""
    ran = []
    counting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: ran.append(1))
    with pytest.raises(UserWarning) as caught:
        kp.fit(
            model,
            **{**SHORT, **arguments},
            verbose=0,
            seed=0,
            callbacks=[kp.Checkpoint(tmp_path / "run"), counting],
        )
    assert not ran
    assert "a resumed run will differ" in str(caught.value)
    return str(caught.value).splitlines()[1:-1]


@pytest.mark.skipif(not TRACED, reason="the code of a step runs in each")
def test_python_code_that_runs_only_while_a_step_is_traced_is_named(tmp_path):
    assert named_in(model_with(Counting()), tmp_path) == [
        "  model/layers/1/count: moves only where the step is traced",
        "  model/layers/1/seen: moves only where the step is traced",
        "  model/layers/1/generator: drawn from only where the step is traced",
    ]


@pytest.mark.skipif(not TRACED, reason="the code of a step runs in each")
def test_what_a_step_was_compiled_with_before_is_named(tmp_path):
    model = model_with(Counting())
    model.fit(FEATURES, LABELS, verbose=0)
    assert len(named_in(model, tmp_path)) == 3


def test_what_keras_and_a_step_note_down_is_not_named(tmp_path):
    class Noting(keras.Model):
        def __init__(self):
            super().__init__()
            self.head, self.last = layers.Dense(3), None

        def call(self, inputs):
            self.last = ops.softmax(self.head(inputs))
            return self.last

    class Stopping(keras.callbacks.EarlyStopping):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    def run(epochs):
        folder, how = kp.Checkpoint(tmp_path), {**TRAIN, "total_steps": None, "epochs": epochs}
        stopping = [Stopping("loss")] if epochs == 1 else []
        return kp.fit(compiled(Noting()), **how, seed=0, verbose=0, callbacks=[folder, *stopping])

    run(1)
    assert run(3).epoch == [0, 1, 2]


class KeepsTheRun(kp.Hook):
    """Keeps the run and its boundaries under names of its own."""

    def on_run_start(self, run):
        self.kept = [run]

    def on_boundary(self, boundary):
        self.kept.append(boundary)


def test_what_a_run_makes_for_itself_is_no_state_of_a_hook_that_leads_to_it(tmp_path):
    """Exact resume: what a run makes for itself is not carried, whoever holds the run."""
    checkpoint, hook = kp.Checkpoint(tmp_path, every_steps=3), KeepsTheRun()
    kp.fit(model_with(), **SHORT, seed=0, verbose=0, callbacks=[checkpoint, hook])
    assert len(hook.kept) == 3
    places = [node.place for node in walk({"hook": hook})]
    assert "hook/kept/0" in places
    assert not [place for place in places if place.startswith("hook/kept/0/")]

    # It holds the run; its steps are run in blocks, whose program is the run's.
    again, plan = kp.Checkpoint(tmp_path / "again"), {"total_steps": 40, "epochs": 2}
    guarded = [kp.NonFiniteGuard(), again]
    kp.fit(model_with(), **{**TRAIN, **plan}, seed=0, fuse=True, verbose=0, callbacks=guarded)
    assert again.store.read_record()[1].held == {"objects": {}, "values": {}}


def test_a_run_that_is_not_saved_names_nothing():
    kp.fit(model_with(Counting()), **SHORT, seed=0, verbose=0)


def test_threads_that_share_a_generator_are_named(tmp_path):
    lines = named_in(image_model(), tmp_path, x=Augmented(workers=2), y=None, batch_size=None)
    assert {line.split(":")[0] for line in lines} == {
        "  x/__getitem__()/SHARED (numpy.random.Generator(PCG64))",
        "  x/held/python/0 (random.Random)",
        "  x/flip/generator/state (keras.Variable)",
        "  x/late/seed_generator/state (keras.Variable)",
    }


class Counted(keras.utils.PyDataset):
    """Its items depend on how many were made before."""

    num_batches = 5
    made = 0

    def __getitem__(self, index):
        self.made += 1
        return FEATURES[:8] * self.made, LABELS[:8]


def test_a_dataset_that_counts_is_named(tmp_path):
    with pytest.raises(UserWarning, match=r"Counted.__getitem__ moves 'x/made', which a checkpoi"):
        kp.fit(compiled(small()), Counted(), verbose=0, seed=0, callbacks=[kp.Checkpoint(tmp_path)])


def test_a_generator_that_draws_from_the_system_is_named(tmp_path):
    layer = Drawing()
    layer.source = random.SystemRandom()
    layer.draw = float
    line = "  model/layers/1/source: draws from the operating system"
    assert named_in(model_with(layer), tmp_path) == [line]


def test_a_generator_of_another_kind_is_refused_by_name(tmp_path):
    def run(bit_generator, epochs):
        layer = Drawing()
        layer.draw, layer.source = float, np.random.Generator(bit_generator(1))
        return kp.fit(
            model_with(layer),
            **{**TRAIN, "total_steps": 4 * epochs, "epochs": epochs},
            seed=0,
            verbose=0,
            callbacks=[kp.Checkpoint(tmp_path)],
        )

    run(np.random.PCG64, 1)
    with pytest.raises(
        kp.StateMismatchError,
        match=r"'model/layers/1/source' is a numpy.random.Generator\(MT19937\), and",
    ):
        run(np.random.MT19937, 2)


# What only one framework has.

if current().name == "tensorflow":
    import tensorflow as tf

    class Operations(Drawing):
        def draw(self):
            def looped():
                step = lambda i, total: (i + 1, total + tf.random.uniform(()))  # noqa: E731
                return tf.while_loop(lambda i, total: i < 2, step, [0, 0.0])[1]

            return tf.random.normal(()) + tf.cond(tf.constant(True), looped, lambda: 0.0)

    class Raw(Drawing):
        def __init__(self):
            super().__init__()
            self.generator = tf.random.Generator.from_seed(4)
            self.sums = [tf.Variable(0.0)]
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)

        def draw(self):
            key = tf.constant(["seen"])
            found = tf.ensure_shape(self.table.lookup(key), [1])
            self.table.insert(key, found + 1.0)
            self.sums[0].assign_add(0.1)
            return self.generator.normal(()) + self.sums[0] + found[0]

    @pytest.mark.parametrize("fused", [1, 2])
    def test_operations_that_draw_from_their_kernels_are_named(fused, tmp_path):
        lines = named_in(model_with(Operations(), steps_per_execution=fused), tmp_path)
        kinds = [re.search(r"\((\w+)\): its state is out of reach", line)[1] for line in lines]
        assert kinds == ["RandomStandardNormal", "RandomUniform"]

    def test_a_variable_that_nobody_holds_is_named(tmp_path):
        hidden = []

        class Hiding(Drawing):
            def draw(self):
                with tf.init_scope():
                    hidden[:] = hidden or [tf.Variable(0.0).ref()]
                return hidden[0].deref().assign_add(1.0)

        (line,) = named_in(model_with(Hiding()), tmp_path)
        assert re.search(r"the variable .* \(AssignAddVariableOp\): its state is out of", line)


if current().name == "torch":
    import torch

    class Raw(Drawing):
        def __init__(self):
            super().__init__()
            self.generator = torch.Generator()
            self.generator.manual_seed(3)
            self.register_buffer("sums", torch.zeros(()))
            self.late = None

        def draw(self):
            self.sums += 0.1
            self.late = torch.zeros(2) if self.late is None else self.late + 0.1
            drawn = torch.rand((), generator=self.generator) + torch.randn(())
            return drawn + self.sums + self.late.sum()

    class OwnOptimizer(keras.Model):
        """Trains by an optimizer and a schedule of PyTorch's."""

        def __init__(self):
            super().__init__()
            self.body = layers.Dense(3, activation="softmax")
            self.body.build((None, 6))
            weights = [weight.value for weight in self.body.trainable_weights]
            self.own = torch.optim.Adam(weights, 0.1)
            self.schedule = torch.optim.lr_scheduler.StepLR(self.own, 2, 0.5)

        def call(self, inputs):
            return self.body(inputs)

        def train_step(self, data):
            x, y = data
            loss = self.compute_loss(x, y, self(x, training=True))
            self.own.zero_grad()
            loss.backward()
            self.own.step()
            self.schedule.step()
            return {"loss": loss}

    def test_an_optimizer_of_pytorch_goes_on():
        assert_resumes_exactly(lambda: compiled(OwnOptimizer()), **SHORT, kill_at=[2, 5])

    def test_an_optimizer_of_pytorch_makes_a_difference(monkeypatch):
        without_foreign_state(monkeypatch)
        with pytest.raises(AssertionError, match="ends in another state"):
            assert_resumes_exactly(lambda: compiled(OwnOptimizer()), **SHORT, kill_at=5)

    def test_the_buffers_of_a_module_go_on():
        def make_model():
            module = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.3))
            return model_with(layers.TorchModuleWrapper(module))

        assert_resumes_exactly(make_model, **SHORT, kill_at=[2, 5])


if current().name == "jax":
    import jax

    def test_a_key_that_a_layer_holds_is_named(tmp_path):
        class Keyed(Drawing):
            def __init__(self):
                super().__init__()
                self.key = jax.random.key(3)

            def draw(self):
                return jax.random.normal(self.key)

        (line,) = named_in(model_with(Keyed()), tmp_path)
        assert "model/layers/1/key: a key is a constant of the compiled step" in line
else:

    def test_what_a_layer_holds_of_the_framework_goes_on():
        assert_resumes_exactly(lambda: model_with(Raw()), **SHORT, kill_at=[2, 5])

    def test_what_a_layer_holds_of_the_framework_makes_a_difference(monkeypatch):
        without_foreign_state(monkeypatch)
        with pytest.raises(AssertionError, match="ends in another state"):
            assert_resumes_exactly(lambda: model_with(Raw()), **SHORT, kill_at=5)
