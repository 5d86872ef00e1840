"""The kinds of data that `kp.fit` reads, as a table of cases: what is made, and how a run finds its
place in it again.

A case is a function that makes the data as a script does, and the model if it needs another one
than `small_model`. Each run takes `STEPS` steps, saves at multiples of `EVERY`, and is killed in
the second pass or later. A library is imported in the function that uses it.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

EXAMPLES, FEATURES, BATCH = 42, 6, 6
STEPS_PER_PASS = EXAMPLES // BATCH
STEPS = 3 * STEPS_PER_PASS
# Steps between saves.
EVERY = 2

# "index": any batch at once; "position": from a saved state; "replay": run again from the start.
Way = Literal["index", "position", "replay"]


@dataclass(frozen=True)
class LoaderCase:
    """One kind of data.

    Attributes:
        make: Returns the arguments of `kp.fit` that say what the data are, in the working directory
            of the run.
        way: How a run finds its place again.
        make_model: The model. Defaults to `small_model`.
        needs: Modules that must be installed. Defaults to none.
        backends: On which it runs. Defaults to all.
        is_sampled: True if it belongs to the ordinary run, not only to `nox -s loaders`.
        global_seed: What the script calls `keras.utils.set_random_seed` with, where the data depend
            on it. Defaults to None: each process another value.
        with_controls: False where no batch can be left out on purpose.
        steps_per_pass: Of the data, for the place of the kill. Defaults to `STEPS_PER_PASS`.
        has_processes: True if it starts worker processes, which take long.
    """

    make: Callable[[], dict[str, Any]]
    way: Way
    make_model: Callable[[], keras.Model] | None = None
    needs: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("jax", "tensorflow", "torch")
    is_sampled: bool = False
    global_seed: int | None = None
    with_controls: bool = True
    steps_per_pass: int = STEPS_PER_PASS
    has_processes: bool = False

    @property
    def runs_here(self) -> bool:
        """True on this backend, with the libraries that are installed."""
        return os.environ["KERAS_BACKEND"] in self.backends and all(
            importlib.util.find_spec(name) for name in self.needs
        )

    def kill_step(self, name: str) -> int:
        """A step in the second pass or later, drawn from the name, before which the newest
        checkpoint lies inside a pass: there, a place that is lost is another place.
        """
        steps = range(self.steps_per_pass + 1, STEPS - 1)
        inside = [step for step in steps if (step - step % EVERY) % self.steps_per_pass]
        return random.Random(name).choice(inside)


class Digest(keras.layers.Layer):
    """Passes on its inputs, and keeps a number that all batches that were trained on so far have
    made, each in its place.
    """

    def build(self, input_shape: Any) -> None:
        self.digest = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="zeros")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            numbers = keras.ops.cast(keras.ops.round(inputs * 1024), "int32") % 997
            flat = keras.ops.reshape(numbers, (-1,))
            weights = keras.ops.arange(keras.ops.shape(flat)[0], dtype="int32") % 97 + 1
            total = keras.ops.sum(flat * weights) % 1_000_003
            self.digest.assign((self.digest * 31 + total) % 1_000_003)
        return inputs


def small_model() -> keras.Model:
    """For inputs of shape `(batch, FEATURES)`, one target each; it draws at random."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            Digest(),
            keras.layers.Dense(5, "tanh"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def arrays(examples: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `(examples, FEATURES)` and targets `(examples, 1)`, no two alike."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, FEATURES)).astype("float32")
    return x, x.sum(1, keepdims=True)


def array_batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of a pass, in order."""
    x, y = arrays()
    return [(x[at : at + BATCH], y[at : at + BATCH]) for at in range(0, EXAMPLES, BATCH)]


class Shuffled:
    """Batches that begin again, in an order drawn from Python's global generator."""

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        batches = array_batches()
        random.shuffle(batches)
        return iter(batches)


class Sized(Shuffled):
    """The same, of a known length."""

    def __len__(self) -> int:
        return STEPS_PER_PASS


def drawing() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches without end, with noise from NumPy's global generator."""
    while True:
        for x, y in array_batches():
            yield x + np.random.normal(size=x.shape).astype("float32"), y


class Items(keras.utils.PyDataset):
    """Batches by their number, with noise from NumPy's global generator, which threads share."""

    def __len__(self) -> int:
        return STEPS_PER_PASS

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = array_batches()[index]
        if self.workers > 1:
            return x, y
        return x + np.random.normal(size=x.shape).astype("float32"), y


# Grain. What is nested reaches its workers by value: they need not import this module.


def grain_map(batched: bool = True, draws: bool = False) -> Any:
    """A shuffled `MapDataset` of `(x, y)`; its function may draw from NumPy's global generator."""
    import grain

    x, y = arrays()

    def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.normal() if draws else 0
        return (x[index] + noise).astype("float32"), y[index]

    def jitter(pair: Any, rng: np.random.Generator) -> Any:
        return (pair[0] + rng.normal()).astype("float32"), pair[1]

    data = grain.MapDataset.range(EXAMPLES).seed(3).shuffle().map(pair).random_map(jitter)
    return data.batch(BATCH) if batched else data


def grain_loader(workers: int) -> Any:
    """A `DataLoader` over a source whose `repr` holds an address."""
    import grain

    x, y = arrays()

    class Source:
        def __len__(self) -> int:
            return EXAMPLES

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return x[index], y[index]

    return grain.DataLoader(
        data_source=Source(),
        sampler=grain.samplers.IndexSampler(EXAMPLES, shuffle=True, seed=3, num_epochs=2),
        operations=[grain.transforms.Batch(BATCH)],
        worker_count=workers,
    )


def grain_in_processes() -> Any:
    """Two worker processes."""
    import grain

    return grain_map().to_iter_dataset().mp_prefetch(grain.MultiprocessingOptions(num_workers=2))


def grain_in_order(draws: bool) -> Any:
    """An `IterDataset` that leaves out examples and is shuffled in windows, read by no thread."""
    import grain

    data = grain_map(batched=False, draws=draws).to_iter_dataset(
        grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    )
    data = data.filter(lambda pair: pair[1][0] > -2).batch(BATCH, drop_remainder=True)
    return grain.experimental.WindowShuffleIterDataset(data, window_size=3, seed=1)


# Hugging Face.


def hf_rows(noisy: bool = False) -> Any:
    """A map-style dataset of the columns `x`, `label` and `weight`."""
    from datasets import Dataset

    x, y = arrays()
    columns = {"x": x, "label": y, "weight": np.linspace(0.5, 1.5, EXAMPLES).astype("float32")}
    rows = Dataset.from_dict(columns).with_format("numpy")
    if not noisy:
        return rows

    def noise(batch: dict[str, Any]) -> dict[str, Any]:
        values = np.asarray(batch["x"], "float32")
        noise = np.random.normal(size=values.shape).astype("float32")
        return {"x": values + noise, "label": np.asarray(batch["label"], "float32")}

    return rows.remove_columns("weight").with_transform(noise)


def hf_stream(buffer: int | None = 1) -> Any:
    """The rows from files of parquet that are written to the working directory."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    for part in range(2):
        hf_rows().shard(2, part).to_parquet(f"part-{part}.parquet")
    stream = load_dataset(
        "parquet",
        data_files=["part-0.parquet", "part-1.parquet"],
        split="train",
        streaming=True,
        cache_dir="cache",
    )
    if not buffer:
        return stream
    # Of several shards at once, the library waits for five seconds at the end of each pass.
    return stream.shuffle(seed=3, buffer_size=buffer, max_buffer_input_shards=1)


def hf_mixed() -> Any:
    """Two streams at random, of which one has a function that looks at several rows."""
    from datasets import interleave_datasets

    def twice(rows: dict[str, Any]) -> dict[str, Any]:
        return {**rows, "x": [[2 * value for value in row] for row in rows["x"]]}

    rows = hf_rows().with_format(None)
    parts = [rows.to_iterable_dataset(num_shards=2) for _ in range(2)]
    changed = parts[1].map(twice, batched=True, batch_size=5, features=rows.features)
    return interleave_datasets([parts[0], changed], probabilities=[0.3, 0.7], seed=5)


def hf_noisy_stream() -> Any:
    """A stream with a function that draws from NumPy's global generator."""

    def noise(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": [value + np.random.normal() for value in row["x"]]}

    rows = hf_rows().with_format(None)
    return rows.to_iterable_dataset(num_shards=2).map(noise, features=rows.features)


# tf.data.


def tf_slices() -> Any:
    """The examples, one by one."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays())


def tf_shuffled() -> Any:
    """Shuffled without a seed of its own, mapped by two threads, read ahead."""
    data = tf_slices().shuffle(20).map(lambda x, y: (x * 2, y), num_parallel_calls=2)
    return data.batch(BATCH).prefetch(2)


def tf_cached() -> Any:
    """Kept in memory and shuffled after that, with a seed."""
    return tf_slices().cache().shuffle(11, seed=3).batch(BATCH)


def tf_filtered() -> Any:
    """Of a length that nobody knows."""
    return tf_slices().shuffle(20).filter(lambda x, y: y[0] > -3).batch(BATCH, drop_remainder=True)


def tf_interleaved() -> Any:
    """Read from three sources in turn by two threads."""
    import tensorflow as tf

    data = tf_slices()
    return (
        tf.data.Dataset.range(3)
        .interleave(lambda n: data.shard(3, n), 2, num_parallel_calls=2, deterministic=True)
        .batch(BATCH)
    )


def tf_padded() -> Any:
    """Of another length each, made equal by padding."""
    cut = tf_slices().map(lambda x, y: (x[: int(FEATURES) - 1], y))
    return cut.padded_batch(BATCH, padded_shapes=([FEATURES], [1]))


def tf_augmented() -> Any:
    """With noise from a layer of Keras, which takes images."""
    layer = keras.layers.RandomBrightness(0.5, value_range=(-9, 9), seed=3)

    def augment(x: Any, y: Any) -> Any:
        return layer(x[..., None, None], training=True)[..., 0, 0], y

    return tf_shuffled().map(augment)


def tf_drawing() -> Any:
    """With noise from an operation that has a state."""
    import tensorflow as tf

    return tf_shuffled().map(lambda x, y: (x + tf.random.normal(tf.shape(x)), y))


def tf_drawing_stateless() -> Any:
    """With noise that is a function of a counter, made by two threads."""
    import tensorflow as tf

    def noisy(n: Any, batch: Any) -> Any:
        seed = tf.cast(tf.stack([n, 7]), tf.int32)
        return batch[0] + tf.random.stateless_normal(tf.shape(batch[0]), seed), batch[1]

    return tf_cached().enumerate().map(noisy, num_parallel_calls=2)


def tf_generator() -> Any:
    """Made by Python code, with noise from NumPy's global generator."""
    import tensorflow as tf

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return itertools.islice(drawing(), STEPS_PER_PASS)

    signature = (tf.TensorSpec((None, FEATURES)), tf.TensorSpec((None, 1)))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def tf_normalized() -> Any:
    """Through a layer that has learnt from the data."""
    layer = keras.layers.Normalization()
    layer.adapt(arrays()[0])
    return tf_shuffled().map(lambda x, y: (layer(x), y))


# PyTorch's DataLoader.


def torch_data() -> Any:
    """The module, which imports torch."""
    import torch_data

    return torch_data


def torch_stream(workers: int, whole_batches: bool = False) -> Any:
    """A DataLoader over an IterableDataset."""
    import torch

    data = torch_data().Streamed(BATCH if whole_batches else None)
    size = None if whole_batches else BATCH
    return torch.utils.data.DataLoader(data, batch_size=size, num_workers=workers)


def torch_validated() -> dict[str, Any]:
    """Arrays, validated on a DataLoader that shuffles and draws, by other workers each time."""
    x, y = arrays()
    validation = torch_data().shuffled()
    return {"x": x, "y": y, "batch_size": BATCH, "validation_data": validation}


WEIGHTED = {"sample_weight": "weight", "batch_size": BATCH}

CASES: dict[str, LoaderCase] = {
    "an iterable": LoaderCase(lambda: {"x": Shuffled()}, "replay", is_sampled=True),
    "an iterable with a length": LoaderCase(lambda: {"x": Sized()}, "replay"),
    "a generator": LoaderCase(lambda: {"x": drawing()}, "replay", is_sampled=True),
    "a PyDataset": LoaderCase(lambda: {"x": Items()}, "index", with_controls=False),
    "a PyDataset with threads": LoaderCase(
        lambda: {"x": Items(workers=2)}, "index", with_controls=False
    ),
    **{
        f"Grain, {name}": LoaderCase(
            lambda make=make: {"x": make()},  # type: ignore[misc]
            way,
            needs=("grain",),
            is_sampled=name in ("MapDataset", "IterDataset"),
            has_processes=make is grain_in_processes or "workers" in name,
        )
        for name, way, make in [
            ("MapDataset", "index", grain_map),
            ("MapDataset that draws", "index", lambda: grain_map(draws=True)),
            ("MapDataset without end", "index", lambda: grain_map().repeat()),
            (
                "MapDataset with a filter",
                "position",
                lambda: grain_map().filter(lambda pair: pair[1].sum() > -3),
            ),
            ("IterDataset", "position", lambda: grain_map().to_iter_dataset()),
            ("IterDataset in order", "position", lambda: grain_in_order(draws=False)),
            ("IterDataset that draws", "replay", lambda: grain_in_order(draws=True)),
            ("mp_prefetch", "position", grain_in_processes),
            ("DataLoader", "position", lambda: grain_loader(0)),
            ("DataLoader with workers", "position", lambda: grain_loader(2)),
        ]
    },
    **{
        f"Hugging Face, {name}": LoaderCase(
            lambda make=make, extra=extra: {  # type: ignore[misc]
                "x": make(),
                "y": "label",
                **extra,
            },
            way,
            needs=("datasets",),
            is_sampled=name in ("rows", "parquet"),
        )
        for name, way, make, extra in [
            ("rows", "index", hf_rows, WEIGHTED),
            ("rows that draw", "index", lambda: hf_rows(noisy=True), {"batch_size": BATCH}),
            ("parquet", "position", hf_stream, WEIGHTED),
            (
                "parquet in order, batched",
                "position",
                lambda: hf_stream(None).batch(BATCH),
                {"sample_weight": "weight"},
            ),
            ("parquet with a buffer", "replay", lambda: hf_stream(buffer=10), WEIGHTED),
            ("mixed streams", "position", hf_mixed, WEIGHTED),
            ("a stream that draws", "replay", hf_noisy_stream, WEIGHTED),
        ]
    },
    **{
        f"tf.data, {name}": LoaderCase(
            lambda make=make: {"x": make()},  # type: ignore[misc]
            way,
            needs=("tensorflow",),
            is_sampled=name in ("shuffled", "augmented"),
            global_seed=seed,
        )
        for name, way, seed, make in [
            ("shuffled", "position", 5, tf_shuffled),
            ("cached", "position", 5, tf_cached),
            ("of unknown length", "position", 5, tf_filtered),
            ("without end", "position", 5, lambda: tf_shuffled().repeat()),
            ("interleaved", "position", None, tf_interleaved),
            ("padded", "position", None, tf_padded),
            ("normalized", "position", 5, tf_normalized),
            ("stateless random", "position", 5, tf_drawing_stateless),
            ("augmented", "replay", 5, tf_augmented),
            ("stateful random", "replay", 5, tf_drawing),
            ("generator", "replay", 5, tf_generator),
        ]
    },
    **{
        f"torch, {name}": LoaderCase(
            lambda make=make: {"x": make()},  # type: ignore[misc]
            way,
            needs=("torch", "torchdata") if "torchdata" in name else ("torch",),
            is_sampled=name in ("other workers", "IterableDataset"),
            has_processes="workers" in name or name == "torchdata",
        )
        for name, way, make in [
            ("other workers", "index", lambda: torch_data().shuffled()),
            ("weighted", "index", lambda: torch_data().weighted()),
            ("samplers of one's own", "index", lambda: torch_data().own_samplers()),
            (
                "a batch sampler of one's own",
                "index",
                lambda: torch_data().shuffled(0, batch_sampler=torch_data().ByLength()),
            ),
            (
                "a collate function that draws",
                "index",
                lambda: torch_data().shuffled(
                    1, batch_size=BATCH, collate_fn=torch_data().mixed, persistent_workers=True
                ),
            ),
            ("torchdata", "index", lambda: torch_data().stateful()),
            ("IterableDataset", "replay", lambda: torch_stream(0)),
            ("IterableDataset with workers", "replay", lambda: torch_stream(2)),
            ("IterableDataset of batches", "replay", lambda: torch_stream(0, True)),
        ]
    },
    "torch, validation": LoaderCase(
        torch_validated, "index", needs=("torch",), with_controls=False, has_processes=True
    ),
}


def quick_names() -> list[str]:
    """Those of them that start no processes."""
    return [name for name in names_here() if not CASES[name].has_processes]


def names_here(sampled_only: bool = False) -> list[str]:
    """The cases that can run on this backend."""
    return [
        name
        for name, case in CASES.items()
        if case.runs_here and (case.is_sampled or not sampled_only)
    ]
