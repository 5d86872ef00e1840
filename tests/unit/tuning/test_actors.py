"""Actors of Ray: what they are refused, and what comes back from them."""

import os
import signal
import sys
import threading
from functools import partial

import keras
import optuna
import pytest
from places import SUPPORT

import keras_patterns as kp
from keras_patterns.tuning.actors import Worker
from keras_patterns.tuning.opening import SearchArguments
from keras_patterns.tuning.search import NewTrials

# Ray starts its processes by it; JAX, whose threads they do not have, warns.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")


def square(trial):
    return trial.suggest_float("x", -1, 1) ** 2


def locked_square(lock, trial):
    with lock:
        return square(trial)


def tuned(objective=square, **how):
    return kp.tune(objective, "search", n_trials=2, seed=0, verbose=0, engine="ray", **how)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"engine": "spark"}, ValueError, "`engine` must be one of 'ray'"),
        ({"engine": None, "resources_per_worker": {}}, ValueError, 'is for engine="ray"'),
        ({"resources_per_worker": 2}, TypeError, "must map Ray's names of resources to amounts"),
        ({"resources_per_worker": {"GPU": -1}}, ValueError, r"resources_per_worker\['GPU'\]"),
        ({"storage": "sqlite:///study.db"}, ValueError, "SQLite is a file for the processes of"),
        ({"storage": optuna.storages.InMemoryStorage()}, ValueError, "give its URL"),
        ({"objective": lambda trial: 0.0}, ValueError, "cannot import `objective`"),
    ],
)
@pytest.mark.once
def test_refused_before_anything_is_made(how, error, said, tmp_path):
    with pytest.raises(error, match=said):
        kp.tune(
            **{"objective": square, "directory": "search", "n_trials": 1, "engine": "ray"} | how
        )
    assert not (tmp_path / "search").exists()


@pytest.mark.once
def test_ray_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install ray \(the extra `ray`\)"):
        tuned()
    assert not (tmp_path / "search").exists()


@pytest.mark.once
def test_a_machine_that_does_not_see_the_folder():
    """It would begin a search of its own."""
    asked = SearchArguments("kp.tune", square, "elsewhere", NewTrials(1))
    with pytest.raises(kp.TuningError, match="storage that all machines of the cluster share"):
        Worker().work(asked, "study-1", {}, None)


@pytest.fixture
def objectives(ray_at_home, monkeypatch):
    """Those of run_on_ray.py, which actors can import."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT), prepend=os.pathsep)
    return pytest.importorskip("run_on_ray", reason="the group test-ray is not installed")


@pytest.mark.ray
def test_a_cluster_that_was_there_is_used_and_stays(objectives):
    import ray

    ray.init(**objectives.LIMITS)
    try:
        with pytest.raises(kp.TuningError, match=r"ValueError: no luck, in trial \d of .*search"):
            tuned(objectives.fails, workers=2)
        assert ray.is_initialized()
        locked = partial(locked_square, threading.Lock())
        with pytest.raises(TypeError, match="cannot be sent to Ray's actors"):
            kp.tune(locked, "b", n_trials=1, seed=0, engine="ray")
        # Each finds the trial as the one before it has left it, and dies of it too.
        with pytest.raises(kp.TuningError, match="5 workers have died one after the other"):
            kp.tune(objectives.dies, "c", n_trials=1, seed=0, engine="ray")
    finally:
        ray.shutdown()


@pytest.mark.ray
def test_a_new_cluster_ends_with_the_search_and_actors_have_the_settings(objectives):
    import ray

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match=r"the cluster has \{'GPU': 0.0\}"):
        tuned(objectives.precision, resources_per_worker={"GPU": 1})
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        result = tuned(objectives.precision)
    finally:
        keras.config.set_dtype_policy("float32")
    assert [one.value for one in result.trials] == [16.0, 16.0]
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before
