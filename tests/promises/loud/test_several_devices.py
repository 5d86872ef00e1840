"""Loud: several devices and several processes, as long as no run can follow them."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from children import run_script
from models import regressor

import keras_patterns as kp

SCRIPT = Path(__file__).parents[2] / "support" / "run_devices.py"
X = np.ones((8, 4), "float32")


@pytest.fixture(scope="module")
def found(tmp_path_factory, backend):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("devices"))
        # How many devices there are is settled by the first import.
        return json.loads(run_script(SCRIPT, backend, alone=True).splitlines()[-1])


@pytest.fixture
def jax_found(found, backend):
    if backend != "jax":
        pytest.skip("keras.distribution spreads batches on JAX alone")
    return found


def test_batches_that_two_devices_share_evenly_train_as_one_device_does(jax_found):
    assert jax_found["off by"] < 1e-6
    assert jax_found["resumed"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("tail", "the data has batches of 3 examples, which 2 devices cannot share evenly"),
        ("batch", "the data has batches of 5 examples"),
        ("validation", "validation_data has batches of 3 examples"),
        ("finder", "the data has batches of 5 examples"),
        ("generator", "a batch of 3 examples cannot be shared evenly by 2 devices"),
    ],
)
def test_batches_that_do_not_divide_are_refused(jax_found, case, message):
    assert jax_found[case].startswith("ValueError")
    assert message in jax_found[case]


def test_a_rest_that_no_step_gets_is_no_matter(jax_found):
    assert jax_found["tail that is not reached"] is None
    assert jax_found["loop"] is None


@pytest.fixture
def tensorflow_found(found, backend):
    if backend != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    return found


@pytest.mark.parametrize("strategy", ["mirrored", "one device"])
@pytest.mark.parametrize("case", ["model", "part", "plain", "finder", "loop", "fit"])
def test_tf_distribute_is_refused_before_the_first_step(tensorflow_found, strategy, case):
    said = tensorflow_found[f"{strategy}, {case}"]
    if (strategy, case) == ("one device", "part"):
        # Its variables are ordinary ones, and nothing else of the strategy is left.
        assert said is None
        return
    assert said.startswith("ValueError")
    assert "outside of the strategy's scope" in said


def test_a_distribution_to_which_the_backend_pays_no_heed_is_refused(found, backend):
    if backend == "jax":
        pytest.skip("JAX heeds it")
    assert "train on one device all the same" in found["ignored"]


@pytest.fixture
def several_processes(monkeypatch, backend):
    if backend == "jax":
        import jax

        monkeypatch.setattr(jax, "process_count", lambda: 2)
    elif backend == "torch":
        import torch

        group = torch.distributed
        group.init_process_group("gloo", store=group.HashStore(), rank=0, world_size=1)
        monkeypatch.setattr(group, "get_world_size", lambda *_: 2)
    else:
        pytest.skip("processes of TensorFlow belong to a strategy")
    yield
    if backend == "torch":
        group.destroy_process_group()


def loop(model):
    with kp.Run(model, plan=kp.StepPlan(2, 2), data=(X, X[:, :1]), seed=0):
        pass


@pytest.mark.parametrize(
    "train",
    [
        lambda model: kp.fit(model, X, X[:, :1], callbacks=[kp.Checkpoint("runs")]),
        lambda model: kp.find_learning_rate(model, X, X[:, :1]),
        lambda model: model.fit(X, X[:, :1], verbose=0, callbacks=[kp.Checkpoint("runs")]),
        loop,
    ],
    ids=["kp.fit", "find_learning_rate", "model.fit", "kp.Run"],
)
def test_several_processes_are_refused_before_anything_is_written(several_processes, train):
    model = regressor()
    with pytest.raises(ValueError, match=r"2 .*processes .*train together.*Start one process"):
        train(model)
    assert not Path("runs").exists() or not list(Path("runs").glob("run-*"))
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0
