"""With all three frameworks installed, the package loads only the one that Keras runs on."""

import pytest
from loaded import assert_import_adds_no_framework


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_importing_the_package_adds_no_framework(backend):
    assert_import_adds_no_framework(backend)
