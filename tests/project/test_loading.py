"""The package loads its parts when they are used: nothing of Keras to look at checkpoints, and a
line that helps where Keras finds no backend.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from store_support import a_document

from keras_patterns.storage import CheckpointFolder, Position, Tensor

pytestmark = pytest.mark.once

FRAMEWORKS = ("keras", "jax", "tensorflow", "torch")
REFUSING = f"""
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in {FRAMEWORKS}, f"{{name}} is imported"

sys.meta_path.insert(0, Refusing())
"""


def python(program, *arguments, **environment):
    """Runs a program in a fresh process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path):
    store = CheckpointFolder(tmp_path / "run")
    for step in (1, 2):
        document = a_document("kernel", step=step)
        store.write(Position(1, step), document, [Tensor("variables/kernel", np.ones(step))])
    return str(store.directory)


@pytest.mark.parametrize("module", ["keras_patterns", "keras_patterns.storage"])
def test_importing_it_loads_no_framework(module):
    program = f"import sys, {module}; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    assert python(program).stdout == "[]\n"


@pytest.mark.parametrize("name", ["StoreError", "KerasPatternsError", "__version__", "__all__"])
def test_a_name_that_needs_no_keras_is_to_be_had_without_it(name):
    result = python(f"{REFUSING}\nimport keras_patterns as kp; kp.{name}")
    assert (result.returncode, result.stderr) == (0, "")


def test_only_the_part_that_is_used_is_loaded():
    program = (
        "import sys, keras_patterns as kp; kp.StepPlan; "
        "print([name for name in ('run', 'finder', 'transfer') "
        "if f'keras_patterns.{name}' in sys.modules])"
    )
    assert python(program).stdout == "['run']\n"


COMMANDS = {
    "help": ["--help"],
    "list": ["list", "{}"],
    "verify": ["verify", "{}"],
    "diff": ["diff", "{}:1", "{}:2"],
    "export": ["export", "{}", "weights.safetensors"],
    "report": ["report", "{}", "-o", "report.html"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_looks_at_checkpoints_needs_no_framework(name, folder):
    command = [part.replace("{}", folder) for part in COMMANDS[name]]
    program = f"{REFUSING}\nfrom keras_patterns.cli import main; sys.exit(main())"
    result = python(program, *command, KERAS_BACKEND="none")
    assert (result.returncode, result.stderr) == (1 if name == "diff" else 0, "")
    assert result.stdout


ORDERS = (
    "import keras, keras_patterns",
    "import keras_patterns, keras",
    "from keras_patterns.schedules import OneCycle; import keras",
    "from keras_patterns.stopping import Patience; import keras",
)


@pytest.mark.parametrize("imports", ORDERS)
def test_keras_knows_our_classes_whatever_was_imported_first(imports):
    program = (
        f"{imports}; print({{'keras_patterns>OneCycle', 'keras_patterns>LayerwiseRates'}} "
        "<= set(keras.saving.get_custom_objects()))"
    )
    assert python(program).stdout == "True\n"


USES = (
    "import keras_patterns as kp; kp.fit",
    "import keras_patterns as kp; kp.schedules",
    "from keras_patterns import CheckpointStore",
    "from keras_patterns.schedules import OneCycle",
    "import keras_patterns.testing",
)


@pytest.mark.parametrize("use", USES)
def test_a_backend_that_is_not_there_is_named_with_those_that_are(use, backend):
    missing = next(name for name in FRAMEWORKS[1:] if importlib.util.find_spec(name) is None)
    last = python(use, KERAS_BACKEND=missing).stderr.splitlines()[-1]
    assert last == (
        f"ModuleNotFoundError: keras-patterns: Keras cannot load its backend: {missing!r} is not "
        f"installed (KERAS_BACKEND={missing}). Installed here: {backend}. Choose before Python "
        f'starts, by KERAS_BACKEND={backend} in the environment or by the entry "backend" of '
        "Keras's own keras.json."
    )


def test_a_backend_that_never_was_is_an_error_that_says_how_to_choose(backend):
    last = python("from keras_patterns import fit", KERAS_BACKEND="caffe").stderr.splitlines()[-1]
    assert "Keras knows no backend of this name (KERAS_BACKEND=caffe)" in last
    assert f"KERAS_BACKEND={backend}" in last


def test_a_command_that_trains_says_in_one_line_that_there_is_no_backend():
    missing = next(name for name in FRAMEWORKS[1:] if importlib.util.find_spec(name) is None)
    program = "import sys; from keras_patterns.cli import main; sys.exit(main(['demo']))"
    result = python(program, KERAS_BACKEND=missing)
    assert result.returncode == 2
    assert result.stderr.startswith(
        "keras-patterns: error: Keras cannot load its backend: "
        f"{missing!r} is not installed (KERAS_BACKEND={missing})."
    )
    assert len(result.stderr.splitlines()) == 1
