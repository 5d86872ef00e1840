"""The output of the command line: for programs, on any terminal, and whatever the files say."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from store_support import a_document

from keras_patterns.cli import main
from keras_patterns.storage import CheckpointFolder, Position, Tensor

pytestmark = pytest.mark.once

EVIL = "\x1b[2J\x1b]0;gone\x07\nrun  step\u202e"


def write(folder, step=1, key="variables/kernel", **more):
    document = {"variables": {"kernel": "weight"}, "callbacks": {"content": {EVIL: step}}}
    document["variables"] = {"content": {"kernel": "weight"}}
    tensors = [Tensor(key, np.full(3, step, "float32"))]
    return CheckpointFolder(folder).write(Position(1, step), document, tensors, **more)


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints; the second has a score."""
    folder = tmp_path / "run"
    write(folder, 1, made_with={"backend": "jax", "keras": "3.15.1"})
    score = {"monitor": "val_loss", "mode": "min", "value": 0.25}
    write(folder, 2, score=score, made_with={"backend": "jax", "keras": "3.15.1"})
    return folder


def answer(capsys, *command):
    """The exit code, and the object that a command prints."""
    code = main([*map(str, command), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_list_as_json(folder, capsys):
    code, found = answer(capsys, "list", folder)
    assert (code, found["folder"]) == (0, str(folder))
    first, second = found["checkpoints"]
    assert {name: first[name] for name in ("run", "step", "state", "folder")} == {
        "run": 1,
        "step": 1,
        "state": "complete",
        "folder": "run-1-step-000000001",
    }
    assert [first["backend"], first["keras"], first["score"], first["problem"]] == [
        "jax",
        "3.15.1",
        None,
        None,
    ]
    assert second["score"] == {"monitor": "val_loss", "mode": "min", "value": 0.25}
    sizes = [file.stat().st_size for file in folder.glob("run-1-*/*")]
    assert found["bytes_on_disk"] == sum(sizes) == first["bytes"] + second["bytes"]


def test_a_score_that_is_not_finite_is_null_in_json(tmp_path, capsys):
    score = {"monitor": "val_loss", "mode": "min", "value": float("nan")}
    write(tmp_path, score=score)
    _, found = answer(capsys, "list", tmp_path)
    assert found["checkpoints"][0]["score"]["value"] is None


def test_a_checkpoint_that_cannot_be_read_has_its_problem_in_json(folder, capsys):
    (folder / "run-1-step-000000001" / "manifest.json").write_text("{}")
    code, found = answer(capsys, "list", folder)
    first, second = found["checkpoints"]
    assert code == 0
    assert "manifest.json" in first["problem"]
    assert second["problem"] is None


def test_a_checkpoint_that_is_retired_while_it_is_listed_is_left_out(folder, capsys, monkeypatch):
    first = folder / "run-1-step-000000001"
    scandir = os.scandir

    def retiring(place):
        if place == first:
            raise FileNotFoundError(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", retiring)
    _, found = answer(capsys, "list", folder)
    assert [row["step"] for row in found["checkpoints"]] == [2]


def test_verify_as_json(tmp_path, capsys):
    folder = tmp_path / "run"
    for step in (1, 2):
        tensors = [Tensor("variables/kernel", np.full(3, step, "float32"))]
        document = a_document("kernel", step=step)
        CheckpointFolder(folder).write(Position(1, step), document, tensors)
    assert answer(capsys, "verify", folder)[0] == 0
    (file,) = (folder / "run-1-step-000000001").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code, found = answer(capsys, "verify", folder)
    assert (code, found["damaged"]) == (1, 1)
    first, second = found["checkpoints"]
    assert [first["sound"], first["file"], first["tensors"]] == [
        False,
        file.name,
        ["variables/kernel"],
    ]
    assert [second["sound"], second["problem"], second["tensors"]] == [True, None, []]


def test_diff_as_json(folder, capsys):
    code, found = answer(capsys, "diff", f"{folder}:1", f"{folder}:2")
    assert (code, found["equal"], found["tensors_compared"]) == (1, False, 1)
    assert found["tensors"] == [
        {"place": "variables/kernel", "difference": "3 of 3 numbers, by 1 at most"}
    ]
    assert found["values"] == [{"place": f"callbacks/{EVIL}", "difference": "1 and 2"}]


def test_diff_of_a_checkpoint_and_itself_as_json(folder, capsys):
    code, found = answer(capsys, "diff", folder, f"{folder}:2")
    assert (code, found["equal"], found["tensors"], found["values"]) == (0, True, [], [])


def test_env_as_json(backend, capsys):
    code, found = answer(capsys, "env")
    assert (code, found["backend"], found["problem"]) == (0, backend, None)
    assert found["python"] == sys.version.split()[0]
    assert found["device"]
    assert {"keras_patterns", "packages", "settings", "environment"} <= found.keys()


def test_env_in_lines(backend, capsys):
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"backend: {backend}" in lines
    assert any(line.startswith("packages: numpy ") for line in lines)


def test_env_without_a_backend_says_why():
    program = "import sys; from keras_patterns.cli import main; sys.exit(main(['env', '--json']))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": "caffe"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(result.stdout)
    assert found["backend"] is None
    assert "KERAS_BACKEND=caffe" in found["problem"]


@pytest.mark.parametrize("command", ["list", "verify", "diff"])
def test_no_escape_code_out_of_a_file_reaches_the_terminal(command, tmp_path, capsys):
    folder = tmp_path / "run"
    made_with = {"backend": EVIL, "keras": EVIL}
    score = {"monitor": EVIL, "mode": "min", "value": 1.0}
    write(folder, 1, key=f"variables/{EVIL}", made_with=made_with, score=score)
    write(folder, 2, key="variables/kernel", made_with=made_with, score=score)
    (file,) = (folder / "run-1-step-000000001").glob("*.safetensors")
    if command == "verify":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    main(["diff", f"{folder}:1", f"{folder}:2"] if command == "diff" else [command, str(folder)])
    out = capsys.readouterr().out
    assert "\\x1b[2J" in out
    assert all(line.isprintable() for line in out.splitlines())
    assert not any(line.startswith("run  step\\u") for line in out.splitlines())


def test_an_error_about_a_file_shows_its_name_without_escape_codes(tmp_path, capsys):
    assert main(["list", str(tmp_path / EVIL)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.strip().isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", ["läuft-雪-🏃", os.fsdecode(b"no-text-\xff")])
@pytest.mark.parametrize("command", ["list", "verify", "diff", "export"])
def test_a_name_that_the_terminal_cannot_show_is_no_error(
    command, name, encoding, tmp_path, monkeypatch
):
    folder = tmp_path / name
    write(folder, key=f"variables/{name[:5]}")
    write(folder, 2)
    out = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    more = {"diff": [f"{folder}:1"], "export": [str(tmp_path / f"{name}.safetensors")]}
    assert main([command, str(folder), *more.get(command, [])]) in (0, 1)
    assert out.buffer.getvalue()


def test_names_that_are_no_text_are_printed_in_a_process_of_ascii(tmp_path):
    folder = tmp_path / os.fsdecode(b"no-text-\xff")
    write(folder)
    result = subprocess.run(
        [sys.executable, "-m", "keras_patterns", "list", "--json", os.fsencode(folder)],
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        check=True,
    )
    assert json.loads(result.stdout)["folder"] == str(folder)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(folder):
    program = (
        "import os, sys; from keras_patterns.cli import main; "
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1); "
        f"code = main(['list', {str(folder)!r}]); sys.stdout.close(); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (2, "")


def test_the_shell_is_told_which_commands_there_are(tmp_path):
    pytest.importorskip("argcomplete")
    answers = tmp_path / "answers"
    line = "keras-patterns e"
    subprocess.run(
        [sys.executable, "-m", "keras_patterns"],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
        check=True,
    )
    assert {one.split(":")[0].strip() for one in answers.read_text().splitlines()} == {
        "env",
        "export",
    }
