"""Each kind of loader in every function that takes data."""

import keras
import numpy as np
import pytest
from loaders import BATCH, CASES, EXAMPLES, FEATURES, STEPS_PER_PASS, Digest, arrays, small_model

import keras_patterns as kp
from keras_patterns.testing import assert_resumes_exactly

pytestmark = pytest.mark.once
NAMES = [
    name
    for name in (
        "an iterable",
        "an iterable with a length",
        "Grain, MapDataset",
        "Grain, MapDataset with a filter",
        "Grain, IterDataset",
        "Grain, DataLoader",
        "Hugging Face, rows",
        "Hugging Face, parquet",
        "Hugging Face, parquet with a buffer",
    )
    if CASES[name].runs_here
]
OF_LIBRARIES = [name for name in NAMES if not name.startswith("an iterable")]


def validation(name):
    """The case as `validation_data` has it."""
    data = CASES[name].make()
    data.pop("batch_size", None)
    return tuple(data.values()) if len(data) > 1 else data["x"]


@pytest.fixture
def run(tmp_path):
    model = small_model()
    kp.fit(
        model,
        *arrays(),
        batch_size=BATCH,
        epochs=2,
        seed=0,
        verbose=0,
        callbacks=[kp.Checkpoint(tmp_path / "run")],
    )
    return model, tmp_path / "run"


@pytest.mark.parametrize("name", NAMES)
def test_the_finder_sweeps(name):
    sweep = kp.find_learning_rate(small_model(), **CASES[name].make(), steps=16, verbose=0)
    assert np.isfinite(sweep.losses[0])


@pytest.mark.parametrize("name", OF_LIBRARIES)
def test_a_validation_is_that_on_the_batches_of_a_pass(name):
    model = small_model()
    history = kp.fit(
        model,
        *arrays(),
        batch_size=BATCH,
        epochs=2,
        seed=0,
        verbose=0,
        validation_data=validation(name),
    )
    value = history.history["val_loss"][-1]
    # Data that are shuffled by themselves have no other order than that of their first pass.
    parts = [np.concatenate(part) for part in zip(*kp_pass(name), strict=True)]
    weights = {"sample_weight": parts[2]} if len(parts) == 3 else {}
    expected = model.evaluate(*parts[:2], **weights, batch_size=BATCH, verbose=0)
    assert np.isclose(value, expected, rtol=1e-5)


def kp_pass(name):
    from keras_patterns.data import Passes

    data = validation(name)
    return Passes(*(data if isinstance(data, tuple) else (data,))).begin(BATCH)


@pytest.mark.parametrize(
    "name", ["Hugging Face, rows that draw", "Hugging Face, a stream that draws"]
)
def test_validation_data_that_draw_give_the_same_each_time(name):
    if not CASES[name].runs_here:
        pytest.skip("not installed")
    x, y = arrays()
    assert_resumes_exactly(
        small_model,
        x,
        y,
        batch_size=BATCH,
        epochs=3,
        validation_data=lambda: validation(name),
        kill_at=(5, 12, 17),
    )


@pytest.mark.parametrize("name", OF_LIBRARIES)
def test_checkpoints_are_selected(run, name):
    model, folder = run
    selection = kp.select_checkpoint(folder, model, validation(name), verbose=0)
    again = kp.select_checkpoint(folder, model, validation(name), verbose=0)
    assert [row.values for row in selection.rows] == [row.values for row in again.rows]
    assert len(selection.rows) == 2


@pytest.mark.parametrize("name", NAMES)
def test_averages_compute_statistics_anew(tmp_path, name):
    model = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x, y = arrays()
    checkpoint = kp.Checkpoint(tmp_path / "run")
    kp.fit(model, x, y, batch_size=BATCH, epochs=2, seed=0, verbose=0, callbacks=[checkpoint])
    kp.average_checkpoints(
        tmp_path / "run", model, data=validation(name), batch_size=BATCH if "rows" in name else None
    )
    mean = keras.ops.convert_to_numpy(model.layers[0].moving_mean)
    assert np.all(np.isfinite(mean))
    assert np.any(mean != 0)


@pytest.mark.parametrize("name", [name for name in NAMES if "parquet" not in name])
def test_features_and_targets_are_cached(name):
    case = CASES[name].make()
    case.pop("sample_weight", None)
    if "Hugging" in name:
        case["x"] = case["x"].remove_columns("weight")
    backbone = keras.layers.Dense(5, trainable=False, name="backbone")
    model = keras.Sequential([keras.Input((FEATURES,)), backbone, keras.layers.Dense(1)])
    cached = kp.cache_features(model, "backbone", **case, verbose=0)
    assert len(cached.features) == len(cached.targets) > BATCH
    # Where the inputs are the arrays themselves, so that targets tell which is which.
    if "Hugging" in name or "iterable" in name:
        x, y = arrays()
        rows = [int(np.flatnonzero(y[:, 0] == target)[0]) for target in np.ravel(cached.targets)]
        assert sorted(rows) == list(range(EXAMPLES))
        expected = keras.ops.convert_to_numpy(backbone(x[rows]))
        np.testing.assert_allclose(cached.features, expected, rtol=1e-5, atol=1e-6)


def test_a_cache_on_disk_is_for_arrays(tmp_path):
    backbone = keras.layers.Dense(5, trainable=False, name="backbone")
    model = keras.Sequential([keras.Input((FEATURES,)), backbone, keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"path= goes with arrays only"):
        kp.cache_features(
            model, "backbone", CASES["an iterable"].make()["x"], path=tmp_path / "a.npy", verbose=0
        )


@pytest.mark.parametrize("name", [*OF_LIBRARIES, "an iterable"])
def test_the_recipe_of_fine_tuning_runs(name):
    model = keras.Sequential(
        [keras.Input((FEATURES,)), Digest(), keras.layers.Dense(4), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    steps = STEPS_PER_PASS + 2
    history = kp.fine_tune(
        model, **CASES[name].make(), head_steps=3, all_steps=steps, epochs=2, seed=0, verbose=0
    )
    assert len(history.history["loss"]) == 2
