"""The command line, in this process; and once as a person starts it."""

import os
import shutil
import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import pytest
from models import regressor
from safetensors.numpy import load_file
from store_support import a_document

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.storage import Position, Tensor

pytestmark = pytest.mark.once


def train(folder, epochs=2):
    keras.utils.set_random_seed(1)
    model = regressor(keras.layers.Dense(3), keras.layers.Dropout(0.5))
    x = np.linspace(0, 1, 64, dtype="float32").reshape(16, 4)
    kp.fit(
        model,
        x,
        x[:, :1],
        batch_size=4,
        epochs=epochs,
        validation_data=(x, x[:, :1]),
        callbacks=[kp.Checkpoint(folder)],
        seed=0,
        verbose=0,
    )
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A folder with the checkpoints of steps 4 and 8."""
    return shutil.copytree(trained, tmp_path / "run")


def flip_a_byte(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()  # it may be linked into other checkpoints
    file.write_bytes(data)


def test_list_shows_each_checkpoint(run, backend, capsys):
    assert main(["list", str(run)]) == 0
    header, _, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "run",
        "step",
        "state",
        "created",
        "backend",
        "keras",
        "bytes",
        "linked",
        "score",
    ]
    assert [row.split()[:3] for row in rows] == [["1", "4", "complete"], ["1", "8", "complete"]]
    assert all(
        f"UTC  {backend}" in row and keras.__version__ in row and "val_loss" in row for row in rows
    )
    size = sum(
        file.stat().st_size for file in run.rglob("*.*") if file.is_file() and file.parent != run
    )
    assert last.startswith(f"2 checkpoints, {size:,} bytes on disk")


def test_list_counts_linked_bytes_once_on_disk(tmp_path, capsys):
    store = kp.CheckpointStore(tmp_path / "run")
    still = Tensor("still", np.zeros(1 << 18, np.float32))
    for step in range(1, 6):
        store.write(
            Position(1, step), a_document(step=step), [still, Tensor("moving", np.float32([step]))]
        )
    assert main(["list", str(store.directory)]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert any(int(row.split()[-1].replace(",", "")) > 1 << 20 for row in rows[2:])
    on_disk = int(last.split()[2].replace(",", ""))
    assert on_disk < 5 << 20


def test_list_shows_a_checkpoint_that_cannot_be_read(run, capsys):
    flip_a_byte(run / "run-1-step-000000004" / "manifest.json")
    assert main(["list", str(run)]) == 0
    assert "unreadable: see verify" in capsys.readouterr().out


def test_verify_finds_all_sound(run, capsys):
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 checkpoints, all sound."


def test_verify_names_the_damaged_file_and_tensor(run, capsys):
    store = kp.CheckpointStore(run)
    name = next(iter(store.latest().manifest.files))
    flip_a_byte(store.latest().folder / name)
    assert main(["verify", str(run)]) == 1
    sound, damaged, count = capsys.readouterr().out.splitlines()
    assert sound == "run-1-step-000000004: sound"
    assert name in damaged
    assert "the bytes of tensor '" in damaged
    assert count == "2 checkpoints, 1 damaged."


def test_diff_of_a_checkpoint_and_itself(run, capsys):
    assert main(["diff", str(run), f"{run}:8"]) == 0
    assert capsys.readouterr().out.endswith("tensors, all equal.\n")


def test_diff_names_what_differs_and_by_how_much(run, capsys):
    assert main(["diff", f"{run}:4", f"{run}:8"]) == 1
    out = capsys.readouterr().out
    kernel = next(
        line for line in out.splitlines() if line.startswith("variables/layers/0/kernel ")
    )
    first, second = (
        kp.CheckpointStore(run).read(entry).tensors["variables/layers/0/kernel"]
        for entry in kp.CheckpointStore(run).entries()
    )
    assert kernel.endswith(
        f"12 of 12 numbers, by {np.abs(first.astype(float) - second).max():.3g} at most"
    )
    assert "callbacks/RunHistory/epoch" in out
    assert out.splitlines()[-1].endswith("values differ.")


def test_diff_names_what_is_missing(tmp_path, capsys):
    for name, tensors in (("a", {"x": np.ones(2)}), ("b", {"y": np.ones(2)})):
        kp.CheckpointStore(tmp_path / name).write(
            Position(1, 5), a_document(step=5), [Tensor(*pair) for pair in tensors.items()]
        )
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1) for line in out[2:4]] == [
        ["x", "only in the first"],
        ["y", "only in the second"],
    ]


def test_export_writes_the_weights_under_their_places(run, tmp_path, capsys):
    model = train(tmp_path / "again")
    path = tmp_path / "weights.safetensors"
    assert main(["export", str(run), str(path)]) == 0
    assert (
        capsys.readouterr().out == f"The weights of {run / 'run-1-step-000000008'} are in {path}.\n"
    )
    weights = load_file(path)
    assert {key for key in weights if "seed" not in key} == {
        "layers/0/bias",
        "layers/0/kernel",
        "layers/2/bias",
        "layers/2/kernel",
    }
    np.testing.assert_array_equal(
        weights["layers/2/kernel"], keras.ops.convert_to_numpy(model.layers[2].kernel)
    )


def test_export_of_a_step(run, tmp_path):
    path = tmp_path / "weights.safetensors"
    assert main(["export", str(run), str(path), "--step", "4"]) == 0
    tensors = kp.CheckpointStore(run).read(kp.CheckpointStore(run).entries()[0]).tensors
    np.testing.assert_array_equal(
        load_file(path)["layers/0/kernel"], tensors["variables/layers/0/kernel"]
    )


def test_export_never_overwrites(run, tmp_path, capsys):
    path = tmp_path / "precious.safetensors"
    path.write_text("precious")
    assert main(["export", str(run), str(path)]) == 2
    assert path.read_text() == "precious"
    assert "there is a file already, and it stays as it is" in capsys.readouterr().err


def test_export_into_no_folder_leaves_nothing(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "none" / "weights.safetensors")]) == 2
    assert "cannot write the weights" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_export_keeps_bfloat16(tmp_path):
    store = kp.CheckpointStore(tmp_path / "run")
    kernel = np.arange(4).astype(ml_dtypes.bfloat16)
    store.write(Position(1, 1), a_document("kernel"), [Tensor("variables/kernel", kernel)])
    path = tmp_path / "weights.safetensors"
    store.export(path)
    assert b'"dtype":"BF16"' in path.read_bytes()
    assert path.read_bytes().endswith(kernel.tobytes())


@pytest.mark.parametrize(
    "command",
    [["list", "none"], ["verify", "none"], ["diff", "none", "none"], ["export", "none", "weights"]],
)
def test_a_folder_that_is_not_there(command, capsys):
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "keras-patterns: error: none: there is no such folder. Name the folder that kp.Checkpoint "
        "was given.\n"
    )


def test_a_folder_without_checkpoints(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "no checkpoint is there" in capsys.readouterr().err


def test_a_step_that_is_not_there(run, capsys):
    assert main(["diff", f"{run}:5", str(run)]) == 2
    assert "there is no checkpoint of step 5. The newest run has [4, 8]." in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["--help"], ["nonsense"], ["diff", "one"]])
def test_arguments_that_are_none(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main(command)
    captured = capsys.readouterr()
    assert exit.value.code == (0 if command == ["--help"] else 2)
    assert "usage: keras-patterns" in captured.out + captured.err


def test_as_a_person_starts_it(run):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "keras_patterns", "verify", str(run)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "2 checkpoints, all sound.")
