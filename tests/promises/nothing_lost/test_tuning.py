"""Nothing lost: a search whose processes are killed ends with the trials that it would have had."""

import json
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from children import check_end, run
from places import SUPPORT
from postgres import Server, missing

from keras_patterns import CheckpointStore
from keras_patterns.tuning.folder import StudyFolder

SCRIPT, ON_RAY = SUPPORT / "run_tuning.py", SUPPORT / "run_on_ray.py"
STATE, VALUE, PARAMS = range(3)
BUDGETS = ("hyperband", "population")


def search(path, *arguments, expect=0, alone=False, script=SCRIPT):
    """Runs the script to its end, or until it dies; returns what the trials have ended with."""
    process = run(path, *arguments, script=script, alone=alone or script == ON_RAY)
    check_end(process, expect)
    # Ray may print lines of its own after it.
    said = [line for line in process.stdout.splitlines() if line.startswith(("{", "["))]
    return json.loads(said[-1]) if expect == 0 else None


def killed(path, name, steps, *arguments):
    """The same, after kills that each come so many steps after the start of a process."""
    for after in steps:
        search(path, name, "killed", "--after", after, *arguments, expect=-signal.SIGKILL)
    return search(path, name, "killed", *arguments)


def test_a_search_that_is_killed_and_stopped_has_the_trials_of_one_that_is_not(tmp_path):
    few = ("--trials", 3)
    expected = search(tmp_path, "tpe", "straight", *few)
    # In the first trial and in the second; the parameters of the third go by both their values.
    search(tmp_path, "tpe", "killed", *few, "--after", 18, expect=-signal.SIGKILL)
    stopped = ("--after", 25, "--signal", int(signal.SIGTERM))
    search(tmp_path, "tpe", "killed", *few, *stopped, expect=128 + signal.SIGTERM)
    assert search(tmp_path, "tpe", "killed", *few) == expected
    assert [one[STATE] for one in expected.values()] == ["COMPLETE"] * 3
    first, second = (
        CheckpointStore(tmp_path / "killed" / "trials" / number / "fit-0").read_record()[1]
        for number in ("00000", "00001")
    )
    # Saved every 5 steps, and, if the writer was done before the kill, at the best end of an epoch.
    (again,) = first.resumed_at
    assert again in (15, 16)
    # Where a signal asks, after the step in flight.
    assert second.resumed_at == [25 + 1 - (32 - again)]


def check_values(folder, found):
    """Each value is that of a run of its own."""
    from run_tuning import straight

    seeds = {
        number: json.loads((one / "trial.json").read_text())["seed"]
        for number, one in enumerate(sorted(Path(folder, "trials").iterdir()))
    }
    for number, seed in seeds.items():
        _, value, params, _ = found[str(number)]
        assert min(straight(seed, params)["val_loss"]) == value


@pytest.mark.tuning
@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"], ids=["journal", "sqlite"])
@pytest.mark.parametrize("name", ["random", "tpe", "cmaes", "grid", "pruned", "two runs"])
def test_one_worker_killed_equals_one_that_is_not(tmp_path, name, storage):
    """For any sampler, at a pruner's decisions, and in an objective of two runs."""
    first, second = tmp_path / "a", tmp_path / "b"
    arguments = ["--trials", 6, *(["--storage", storage] if storage else [])]
    expected = search(first, name, "straight", *arguments)
    rng = random.Random(name)
    steps = [rng.randrange(3, 25) for _ in range(4)]
    assert killed(second, name, steps, *arguments) == expected
    assert len({json.dumps(one[PARAMS]) for one in expected.values()}) == 6
    if name == "pruned":
        assert "PRUNED" in {one[STATE] for one in expected.values()}


@pytest.fixture
def server():
    """A PostgreSQL server."""
    if reason := missing():
        pytest.skip(reason)
    pytest.importorskip("psycopg", reason="the group test-services is not installed")
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.mark.services
def test_a_server_that_goes_away_and_comes_back_has_lost_no_trial(tmp_path, server):
    """Killed in one trial; and in another one the server is gone when a validation is reported."""
    few = ("--trials", 3)
    expected = search(tmp_path, "tpe", "straight", *few)
    held = (*few, "--storage", server.url)
    search(tmp_path, "tpe", "held", *held, "--after", 18, expect=-signal.SIGKILL)
    arguments = ("tpe", "held", *held, "--after", 25, "--signal", int(signal.SIGSTOP))
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    server.stop()
    os.kill(process.pid, signal.SIGCONT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "TuningError" in said
    assert "Every trial is kept" in said
    # Nor can it be begun.
    again = run(tmp_path, "tpe", "held", *held, script=SCRIPT)
    assert "cannot be opened" in again.stderr
    server.start()
    assert search(tmp_path, "tpe", "held", *held) == expected


class Worker:
    """A process that is started again each time that it is killed."""

    def __init__(self, path, server, seed, kills, arguments):
        self._path, self._server, self._arguments = path, server, arguments
        rng = random.Random(seed)
        self._steps = [rng.randrange(2, 25) for _ in range(kills)]

    def run(self):
        """How often it was killed."""
        codes = [self._start("--after", after) for after in self._steps]
        assert self._start() == 0
        return codes.count(-signal.SIGKILL)

    def _start(self, *more):
        arguments = (*self._arguments, *more)
        process = run(self._path, *arguments, script=SCRIPT, server=self._server)
        assert process.returncode in (0, -signal.SIGKILL), process.stderr
        return process.returncode


@pytest.mark.parametrize("name", ["random", "tpe"])
@pytest.mark.parametrize(
    "storage",
    [
        pytest.param(None, id="journal", marks=pytest.mark.tuning),
        pytest.param("sqlite:///study.db", id="sqlite", marks=pytest.mark.tuning),
        pytest.param("postgresql", marks=pytest.mark.services),
    ],
)
def test_two_workers_that_are_killed_ten_times_each(tmp_path, name, storage, request):
    """Exactly 20 trials, none left, no parameters twice, and each value is that of a run of its
    own.
    """
    if storage == "postgresql":
        storage = request.getfixturevalue("server").url
    arguments = [name, "search", "--trials", 20, *(["--storage", storage] if storage else [])]
    workers = [Worker(tmp_path, one, f"{name} {one}", 10, arguments) for one in range(2)]
    with ThreadPoolExecutor(2) as threads:
        kills = list(threads.map(Worker.run, workers))
    assert kills == [10, 10]
    found = search(tmp_path, *arguments)
    assert list(found) == [str(number) for number in range(20)]
    assert {one[STATE] for one in found.values()} == {"COMPLETE"}
    assert len({json.dumps(one[PARAMS]) for one in found.values()}) == 20
    if name == "random":
        assert search(tmp_path / "sequential", name, "search", "--trials", 20) == found
    check_values(tmp_path / "search", found)


@pytest.mark.parametrize(
    "name", ["halving", *(pytest.param(one, marks=pytest.mark.tuning) for one in BUDGETS)]
)
def test_two_processes_share_out_a_search_of_rungs_and_one_is_killed(tmp_path, name):
    """Each trial has the parameters, the reports and the value that it has in one process."""
    expected = search(tmp_path / "one", name, "search")
    # In its first trial, past its first checkpoint.
    after = ("--after", 6, "--beside")
    assert search(tmp_path / "two", name, "search", *after) == expected
    assert {one[STATE] for one in expected.values()} == {"COMPLETE"}


@pytest.mark.tuning
@pytest.mark.parametrize("name", ["halving", *BUDGETS])
@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"], ids=["journal", "sqlite"])
def test_workers_that_are_killed_at_random_in_a_search_of_rungs(tmp_path, name, storage):
    """Two workers of one call, of which first one and then both are killed."""
    held = ["--storage", storage] if storage else []
    expected = search(tmp_path / "one", name, "search", *held)
    rng = random.Random(f"{name} {storage}")
    kills = tmp_path / "two" / "kills"
    kills.mkdir(parents=True)
    both = ["search", "--workers", 2, *held]
    kills.joinpath("0").write_text(str(rng.randrange(2, 20)))
    assert search(tmp_path / "two", name, *both, alone=True) == expected
    for number in range(2):
        kills.joinpath(str(number)).write_text(str(rng.randrange(2, 20)))
    both[0] = "other"
    process = run(tmp_path / "two", name, *both, script=SCRIPT, alone=True)
    assert "all workers have ended, and trials are left" in process.stderr
    assert search(tmp_path / "two", name, *both, alone=True) == expected
    assert not list(kills.iterdir())


@pytest.mark.tuning
def test_workers_of_one_call_are_the_sequential_search(tmp_path):
    """Two processes, in place of one, on a grid: equal by the number of the trial."""
    expected = search(tmp_path, "grid", "one", "--trials", 9)
    # A grid of six points ends the search.
    assert len(expected) == 6
    assert search(tmp_path, "grid", "two", "--trials", 9, "--workers", 2, alone=True) == expected
    assert optuna.trial.TrialState.COMPLETE.name == expected["5"][STATE]


@pytest.mark.ray
@pytest.mark.parametrize("name", ["random", "tpe"])
def test_two_actors_that_are_killed_again_and_again(tmp_path, name, ray_at_home):
    """Exactly 20 trials, none left, and each value is that of a run of its own; with a random
    sampler all are those of the sequential search.
    """
    kills = [tmp_path / f"kill-{number}-{step}" for number, step in KILLS]
    for kill in kills:
        kill.touch()
    found = search(tmp_path, name, "search", "--trials", 20, script=ON_RAY)
    assert not any(kill.exists() for kill in kills)
    assert list(found) == [str(number) for number in range(20)]
    assert {one[STATE] for one in found.values()} == {"COMPLETE"}
    assert len({json.dumps(one[PARAMS]) for one in found.values()}) == 20
    resumed = [resumes(tmp_path / "search", number) for number, _ in KILLS]
    # Not from the start: the newest checkpoint that was written before the kill.
    assert all(0 < first <= step for (first, *_), (_, step) in zip(resumed, KILLS, strict=True))
    if name == "random":
        assert search(tmp_path / "sequential", name, "search", "--trials", 20) == found
    check_values(tmp_path / "search", found)


# Trials, and the steps in which the actors that have them are killed. By then a checkpoint has been
# written: the third one waits for the first.
KILLS = [(0, 17), (1, 20), (3, 19), (8, 27), (9, 18), (19, 24)]


def resumes(folder, number):
    """The steps at which a trial was taken up."""
    store = CheckpointStore(folder / "trials" / f"{number:05d}" / "fit-0")
    return store.read_record()[1].resumed_at


@pytest.mark.ray
@pytest.mark.parametrize("name", ["halving", *BUDGETS])
def test_actors_share_out_a_search_of_rungs_and_two_are_killed(tmp_path, name, ray_at_home):
    """Each trial has the parameters, the reports and the value that it has in one process."""
    # In a trial of the first rung, and in a later one.
    kills = [tmp_path / one for one in ("kill-1-6", "kill-4-13")]
    for kill in kills:
        kill.touch()
    found = search(tmp_path, name, "search", script=ON_RAY)
    assert not any(kill.exists() for kill in kills)
    assert search(tmp_path / "sequential", name, "search") == found


@pytest.mark.ray
def test_a_signal_to_the_driver_lets_actors_save(tmp_path, ray_at_home):
    """Nobody has a trial then, and the same script goes on to the values of the sequential one."""
    few = ("--trials", 4)
    stopped = ("--signal", "1-12")
    search(tmp_path, "random", "search", *few, *stopped, script=ON_RAY, expect=128 + signal.SIGTERM)
    folder = StudyFolder("test", tmp_path / "search")
    assert all(folder.is_free(number) for number in (0, 1))
    steps = CheckpointStore(folder.trial(1) / "fit-0").steps()
    found = search(tmp_path, "random", "search", *few, script=ON_RAY)
    # After the step in flight.
    assert [steps[-1]] == resumes(folder.path, 1) == [12]
    assert search(tmp_path / "sequential", "random", "search", *few) == found
