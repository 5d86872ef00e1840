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

SCRIPT = SUPPORT / "run_tuning.py"
STATE, VALUE, PARAMS = range(3)
BUDGETS = ("hyperband", "population")


def search(path, *arguments, expect=0, alone=False):
    """Runs the script to its end, or until it dies; returns what the trials have ended with."""
    process = run(path, *arguments, script=SCRIPT, alone=alone)
    check_end(process, expect)
    return json.loads(process.stdout.splitlines()[-1]) if expect == 0 else None


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

    def __init__(self, path, seed, kills, arguments):
        self._path, self._arguments = path, [str(one) for one in arguments]
        rng = random.Random(seed)
        self._steps = [rng.randrange(2, 25) for _ in range(kills)]

    def run(self):
        """How often it was killed."""
        codes = [self._start("--after", str(after)) for after in self._steps]
        codes.append(self._start())
        assert set(codes) <= {0, -signal.SIGKILL}, codes
        assert codes[-1] == 0
        return codes.count(-signal.SIGKILL)

    def _start(self, *more):
        command = [sys.executable, str(SCRIPT), *self._arguments, *more]
        process = subprocess.run(
            command, cwd=self._path, capture_output=True, text=True, check=False, env=os.environ
        )
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
    from run_tuning import straight

    if storage == "postgresql":
        storage = request.getfixturevalue("server").url
    arguments = [name, "search", "--trials", 20, *(["--storage", storage] if storage else [])]
    workers = [Worker(tmp_path, seed, 10, arguments) for seed in (f"{name} 0", f"{name} 1")]
    with ThreadPoolExecutor(2) as threads:
        kills = list(threads.map(Worker.run, workers))
    assert kills == [10, 10]
    found = search(tmp_path, *arguments)
    assert list(found) == [str(number) for number in range(20)]
    assert {one[STATE] for one in found.values()} == {"COMPLETE"}
    assert len({json.dumps(one[PARAMS]) for one in found.values()}) == 20
    if name == "random":
        assert search(tmp_path / "sequential", name, "search", "--trials", 20) == found
    seeds = {
        number: json.loads((folder / "trial.json").read_text())["seed"]
        for number, folder in enumerate(sorted(Path(tmp_path, "search", "trials").iterdir()))
    }
    for number in range(20):
        _, value, params, _ = found[str(number)]
        assert min(straight(seeds[number], params)["val_loss"]) == value


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
