"""Nothing lost: what the system refuses is no damage. Nothing sound is renamed, deleted, replaced
or passed over.
"""

import contextlib
import errno
import os
import resource

import keras
import numpy as np
import pytest
from store_support import assert_same, at, listing, some_arrays, tensors

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.storage import CheckpointFolder, Retention, SystemRefusalError

once = pytest.mark.once

REFUSALS = (
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.EBUSY, errno.ENODEV),
)
LOSS, WORSE = ({"monitor": "loss", "mode": "min", "value": value} for value in (1.0, 2.0))


@pytest.fixture
def refuse(monkeypatch):
    """Makes the system refuse to open files of one name in one folder."""
    opened = os.open

    def start(number, folder, file):
        def refusing(path, flags, *arguments, dir_fd=None, **options):
            inside = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else ""
            if os.path.join(inside, path).endswith(f"{folder}/{file}"):
                raise OSError(number, os.strerror(number), str(path))
            return opened(path, flags, *arguments, dir_fd=dir_fd, **options)

        monkeypatch.setattr(os, "open", refusing)

    yield start
    monkeypatch.setattr(os, "open", opened)


@pytest.fixture
def store(tmp_path):
    """Three checkpoints, the first with the best score."""
    store = CheckpointFolder(tmp_path / "store")
    for step, score in ((1, LOSS), (2, WORSE), (3, WORSE)):
        store.write(at(step), {}, tensors(some_arrays(step)), score=score)
    return CheckpointFolder(store.directory)


def names_and_times(directory):
    return {path: path.stat().st_mtime_ns for path in directory.glob("run-*/*")}


ACTIONS = {
    "resume": lambda store: store.newest_sound(),
    "read": lambda store: store.read(store.latest()),
    "write the same again": lambda store: store.write(at(3), {}, tensors(some_arrays(3))),
    "go back": lambda store: store.discard_after(at(2)),
}


@once
@pytest.mark.parametrize("number", REFUSALS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("file", ["manifest.json", "tensors-1.safetensors"])
@pytest.mark.parametrize("action", ["resume", "read", "write the same again"])
def test_a_newest_one_that_cannot_be_read_is_said_and_left_alone(
    store, refuse, number, file, action
):
    before = names_and_times(store.directory)
    refuse(number, at(3).folder_name, file)
    with pytest.raises(SystemRefusalError) as caught:
        ACTIONS[action](store)
    error = caught.value
    assert isinstance(error, kp.StoreError)
    assert isinstance(error, kp.KerasPatternsError)
    assert error.errno == number
    path = store.directory / at(3).folder_name / file
    reason = f"({os.strerror(number)}, {errno.errorcode[number]})"
    assert str(error).startswith(f"{path}: cannot read the file {reason}. ")
    assert str(error).endswith("The checkpoints that were there before are untouched.")
    assert names_and_times(store.directory) == before


@once
def test_what_to_do_goes_by_the_number(store, refuse):
    said = {}
    for number in (errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.EIO):
        refuse(number, at(3).folder_name, "manifest.json")
        with pytest.raises(SystemRefusalError) as caught:
            store.newest_sound()
        said[number] = str(caught.value)
    assert "raise the limit (`ulimit -n`)" in said[errno.EMFILE]
    assert "Give this user the right to read there" in said[errno.EACCES]
    assert "Free some memory" in said[errno.ENOMEM]
    assert "Check the path and the disk" in said[errno.EIO]


@once
def test_after_a_refusal_the_same_store_reads_what_it_could_not(store, refuse, monkeypatch):
    refuse(errno.EMFILE, at(3).folder_name, "tensors-1.safetensors")
    with pytest.raises(SystemRefusalError):
        store.newest_sound()
    monkeypatch.undo()
    newest, damaged = store.newest_sound()
    assert (newest.position, damaged) == (at(3), [])
    assert_same(newest.tensors, some_arrays(3))


@once
def test_the_best_one_is_not_deleted_while_its_score_cannot_be_read(store, refuse):
    before = names_and_times(store.directory)
    refuse(errno.EIO, at(1).folder_name, "manifest.json")
    with pytest.raises(SystemRefusalError):
        store.prune(Retention(1, keep_best=1))
    assert names_and_times(store.directory) == before


@once
def test_the_best_one_is_not_another_while_its_score_cannot_be_read(store, refuse):
    refuse(errno.EACCES, at(1).folder_name, "manifest.json")
    with pytest.raises(SystemRefusalError):
        store.best()


@once
def test_going_back_does_not_set_aside_what_cannot_be_read(store, refuse):
    before = listing(store.directory)
    refuse(errno.EIO, at(2).folder_name, "manifest.json")
    with pytest.raises(SystemRefusalError):
        store.discard_after(at(1))
    assert listing(store.directory) == before


@once
def test_a_report_tells_a_refusal_from_damage(store, refuse):
    refuse(errno.EACCES, at(2).folder_name, "tensors-1.safetensors")
    reports = store.verify()
    assert [type(report.problem) for report in reports] == [
        type(None),
        SystemRefusalError,
        type(None),
    ]
    assert "damaged" not in str(reports[1].problem)


@once
def test_an_older_one_that_cannot_be_read_is_not_linked_and_the_new_one_is_sound(
    store, refuse, monkeypatch
):
    refuse(errno.EIO, at(2).folder_name, "tensors-1.safetensors")
    entry = store.write(at(4), {}, tensors(some_arrays(2)))
    monkeypatch.undo()
    assert all(path.stat().st_nlink == 1 for path in entry.folder.iterdir())
    assert not any(report.problem for report in store.verify())


@once
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    store = CheckpointFolder(tmp_path)
    store.write(at(1), {}, [])
    scandir = os.scandir

    def refusing(path):
        if str(path) == str(tmp_path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    for look in (store.entries, store.newest_sound, store.verify, store.best):
        with pytest.raises(SystemRefusalError, match=r"cannot list the folder \(.*, EMFILE\)"):
            look()


def made():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")


def train(epochs=3, **options):
    return kp.fit(
        made(),
        X,
        X[:, :1],
        batch_size=8,
        epochs=epochs,
        seed=0,
        verbose=0,
        callbacks=[kp.Checkpoint("runs", **options)],
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("file", ["manifest.json", "tensors-1.safetensors"])
def test_a_run_does_not_begin_elsewhere_because_of_a_refusal(refuse, number, file):
    train()
    before = listing("runs")
    refuse(number, at(12).folder_name, file)
    for resume in ("auto", "weights", "never"):
        with pytest.raises(SystemRefusalError, match=errno.errorcode[number]):
            train(4, resume=resume)
        assert listing("runs") == before


@pytest.mark.parametrize(
    "use",
    [
        lambda model: kp.CheckpointStore("runs").restore(model),
        lambda model: kp.CheckpointStore("runs").restore(model, 12),
        lambda model: kp.CheckpointStore("runs").export("weights.safetensors"),
        lambda model: kp.select_checkpoint("runs", model, (X, X[:, :1]), verbose=0),
        lambda model: kp.average_checkpoints("runs", model),
        lambda model: kp.warm_start("runs", model),
        lambda model: kp.load_pretrained(model, "runs"),
    ],
    ids=["restore", "restore a step", "export", "select", "average", "warm start", "load"],
)
def test_what_reads_checkpoints_stops_at_a_refusal_and_leaves_the_model(refuse, use):
    train()
    refuse(errno.EMFILE, at(12).folder_name, "tensors-1.safetensors")
    model = made()
    before = model.get_weights()
    with pytest.raises(SystemRefusalError, match="EMFILE"):
        use(model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not os.path.exists("weights.safetensors")


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_the_command_line_tells_a_refusal_from_damage(refuse, capsys, option):
    train()
    refuse(errno.EACCES, at(8).folder_name, "tensors-1.safetensors")
    assert main(["verify", "runs", *option]) == 2
    said = capsys.readouterr().out
    if option:
        assert '"damaged": 0' in said
        assert '"refused": 1' in said
    else:
        assert said.endswith("3 checkpoints, 1 could not be read.\n")


@contextlib.contextmanager
def no_more_files():
    """This process may open none."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("kind", ["keras", "weights.h5", "safetensors"])
def test_a_file_of_weights_that_cannot_be_opened_is_not_called_damaged(kind):
    model, path = made(), f"net.{kind}"
    if kind == "safetensors":
        train()
        kp.CheckpointStore("runs").export(path)
    else:
        getattr(model, "save" if kind == "keras" else "save_weights")(path)
    # Once, so that nothing is left to be imported.
    kp.load_pretrained(model, path)
    with no_more_files(), pytest.raises(SystemRefusalError) as caught:
        kp.load_pretrained(model, path)
    assert str(caught.value).startswith(f"{path}: cannot read the file (Too many open files")
    assert str(caught.value).endswith("Nothing was loaded.")


def test_cached_features_that_cannot_be_opened_are_not_to_be_deleted():
    model = made()
    model.layers[0].trainable = False

    def cache():
        return kp.cache_features(model, model.layers[0], X, path="features.npy", verbose=0).features

    expected = np.array(cache())
    written = os.stat("features.npy").st_mtime_ns
    cache()
    with no_more_files(), pytest.raises(SystemRefusalError) as caught:
        cache()
    assert "cannot read the features (Too many open files, EMFILE)" in str(caught.value)
    assert "delete" not in str(caught.value)
    np.testing.assert_array_equal(cache(), expected)
    assert os.stat("features.npy").st_mtime_ns == written
