"""Nothing lost: after a loss of power, which drops or reorders what was not synchronised."""

import itertools

import numpy as np
import pytest
from power import build, recorded
from safetensors import SafetensorError
from safetensors.numpy import load_file
from store_support import at, tensors

from keras_patterns.storage import CheckpointFolder, Retention, StoreError, export_weights
from keras_patterns.transfer.features import stored

pytestmark = pytest.mark.once


class Witness:
    """Looks at all that a loss of power may leave, after each call that changes the folder.

    Args:
        root: The folder, which exists and is empty.
        disk: Records what is done in it.
        check: Is given what was left of it, and returns what is wrong there.

    Attributes:
        problems: What was wrong where anything first was.
    """

    def __init__(self, root, disk, scratch):
        self.root, self.disk, self.scratch = root, disk, scratch
        self.check = lambda folder: []
        self.promised, self.problems = set(), []
        self.seen, self.numbers = set(), itertools.count()
        disk.after_call = self.look

    def look(self):
        for state in () if self.problems else self.disk.tree.states():
            if (key := (state, frozenset(self.promised))) not in self.seen:
                self.seen.add(key)
                folder = self.scratch / str(next(self.numbers))
                build(state, folder)
                try:
                    found = self.check(folder)
                except (StoreError, SafetensorError) as error:
                    found = [error]
                self.problems += [f"after {self.disk.calls[-1]}: {one}" for one in found]


@pytest.fixture
def witness(tmp_path, monkeypatch):
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    with recorded(root, monkeypatch) as disk:
        yield Witness(root, disk, scratch)


def arrays(step):
    """Of a run with a frozen part, so that files are linked."""
    return tensors({"frozen": np.ones(3), "moving": np.full(2, float(step))})


def saves_and_goes_back(witness):
    """A run that saves and retires, dies, goes on, and goes back once. What is promised are the
    positions whose write has returned, less those that it may remove.
    """

    def check(folder):
        reports = CheckpointFolder(folder / "store").verify()
        sound = {report.entry.position for report in reports if report.problem is None}
        damage = [str(report.problem) for report in reports if report.problem]
        return damage + [f"{position} is lost" for position in witness.promised - sound]

    witness.check = check
    for first in (1, 5):
        store = CheckpointFolder(witness.root / "store")
        with store.lock():
            for step in range(first, first + 4):
                store.write(at(step), {"step": step}, arrays(step))
                witness.promised |= {at(step)}
                witness.promised -= {at(step - 2)}
                store.prune(Retention(2))
    with store.lock():
        witness.promised -= {at(8)}
        store.discard_after(at(7))
        store.write(at(8), {"again": True}, arrays(8))
        witness.promised |= {at(8)}


def test_what_was_published_outlasts_a_loss_of_power(witness):
    saves_and_goes_back(witness)
    assert witness.problems == []
    calls = {call.split()[0] for call in witness.disk.calls}
    assert calls == {"open", "fsync", "os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir"}
    assert len(witness.seen) > 20


@pytest.mark.parametrize("deaf_to", ["file", "folder", "root", ".tmp", "store", "manifest.json"])
def test_without_any_one_synchronisation_something_would_be_lost(witness, deaf_to):
    witness.disk.deaf_to = deaf_to
    saves_and_goes_back(witness)
    assert witness.problems


def exports(witness):
    weights = {"kernel": np.arange(3.0)}

    def check(folder):
        path = folder / "weights.safetensors"
        if path.exists():
            return [] if np.array_equal(load_file(path)["kernel"], weights["kernel"]) else ["other"]
        return ["lost"] if witness.promised else []

    witness.check = check
    export_weights(weights, {}, 1, witness.root / "weights.safetensors")
    witness.promised = {"the file"}
    witness.look()


def caches(witness):
    about = {"at": "layer", "weights": {}, "x": {}}
    rows = np.arange(6.0).reshape(3, 2)

    def check(folder):
        path = folder / "features.npy"
        if path.exists():
            return [] if np.array_equal(stored.read(path, about, lambda _: True), rows) else ["?"]
        return ["lost"] if witness.promised else []

    witness.check = check
    path = witness.root / "features.npy"
    stored.write(path, about, rows.shape, rows.dtype, lambda: [rows])
    witness.promised = {"the file"}
    witness.look()


@pytest.mark.parametrize("writes", [exports, caches])
def test_a_file_is_whole_or_not_there_after_a_loss_of_power(witness, writes):
    writes(witness)
    assert witness.problems == []
    assert len(witness.seen) > 2


@pytest.mark.parametrize("deaf_to", ["file", "root"])
@pytest.mark.parametrize("writes", [exports, caches])
def test_a_file_would_not_be_without_a_synchronisation(witness, writes, deaf_to):
    witness.disk.deaf_to = deaf_to
    writes(witness)
    assert witness.problems
