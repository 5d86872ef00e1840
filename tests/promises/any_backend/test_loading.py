"""Any backend: each loads the weights of any other, from every kind of file."""

import pytest
from children import BACKENDS, run_script
from places import SUPPORT

pytestmark = pytest.mark.cross

SCRIPT = SUPPORT / "run_loading.py"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(backend) for backend in BACKENDS]
    for backend, folder in zip(BACKENDS, folders, strict=True):
        run_script(SCRIPT, backend, "save", folder)
    return folders


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_file_is_loaded(saved, backend):
    assert run_script(SCRIPT, backend, "load", *saved).count("loaded") == len(BACKENDS)
