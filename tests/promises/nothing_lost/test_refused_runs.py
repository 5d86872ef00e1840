"""Nothing lost: a run in which a call to the system fails, in a resume or a save, goes on when it
is started again, to the same end.
"""

import errno
import itertools
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from store_support import listing

import keras_patterns as kp

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
BEGUN = 2
SAMPLE = [
    *(("open", 1, errno.EACCES), ("open", 4, errno.EMFILE), ("open", 7, errno.EIO)),
    *(("open", 11, errno.EMFILE), ("open", 14, errno.EMFILE), ("scandir", 2, errno.EIO)),
    *(("scandir", 5, errno.EMFILE), ("mkdir", 2, errno.ENOSPC), ("rename", 1, errno.EACCES)),
    *(("fsync", 1, errno.EIO), ("fsync", 4, errno.ENOSPC), ("lstat", 3, errno.EIO)),
]
CALLS = ("open", "scandir", "mkdir", "rename", "fsync", "lstat", "unlink", "link")


def train(epochs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, name="body"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    kp.freeze(model, "body")
    kp.fit(
        model,
        X,
        X[:, :1],
        batch_size=8,
        epochs=epochs,
        seed=0,
        verbose=0,
        callbacks=[kp.Checkpoint("runs", every_steps=2, keep_last=2)],
    )
    return model.get_weights()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with the first half of a run, and the weights at its end."""
    home, reference = tmp_path_factory.mktemp("begun"), tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(reference)
        weights = train(2 * BEGUN)
        patch.chdir(home)
        train(BEGUN)
    return home / "runs", weights


class Failing:
    """Makes the so-many-th call of a name fail, of those in the folder of the run.

    Attributes:
        done: Whether it has.
    """

    def __init__(self, patch, call, number, code):
        self.left, self.code, self.real = number, code, getattr(os, call)
        self.done, self.folder = False, str(Path("runs").absolute())
        patch.setattr(os, call, self)

    def __call__(self, where, *arguments, **options):
        path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
        if options.get("dir_fd") is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), path)
        if path.startswith(self.folder) and not path.endswith((".lock", ".json.tmp")):
            self.left -= 1
            if not self.left:
                self.done = True
                raise OSError(self.code, os.strerror(self.code), path)
        return self.real(where, *arguments, **options)


def live(monkeypatch, begun, call, number, code):
    """A run that goes on while a call fails, and again; returns whether there was such a call."""
    folder, weights = begun
    shutil.rmtree("runs", ignore_errors=True)
    shutil.copytree(folder, "runs")
    newest = kp.CheckpointStore("runs").latest().position
    with monkeypatch.context() as patch:
        failing = Failing(patch, call, number, code)
        try:
            train(2 * BEGUN)
        except kp.StoreError as error:
            assert errno.errorcode[code] in str(error)  # noqa: PT017 - either outcome is right
    assert all(name[:4] == "run-" for name in listing("runs") if name[0] != ".")
    reports = kp.CheckpointStore("runs").verify()
    assert not any(report.problem for report in reports)
    assert reports[-1].entry.position >= newest
    for one, other in zip(train(2 * BEGUN), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    return failing.done


@pytest.mark.parametrize(
    ("call", "number", "code"), SAMPLE, ids=[f"{call}-{number}" for call, number, _ in SAMPLE]
)
def test_a_run_in_which_a_call_fails_goes_on_to_the_same_end(
    monkeypatch, begun, call, number, code
):
    assert live(monkeypatch, begun, call, number, code)


@pytest.mark.syscalls
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", CALLS)
def test_whichever_call_fails_a_run_goes_on_to_the_same_end(monkeypatch, begun, call, code):
    assert live(monkeypatch, begun, call, 1, code)
    for number in itertools.count(2):
        if not live(monkeypatch, begun, call, number, code):
            break
