"""Importing the package loads nothing that Keras and our dependencies do not."""

from loaded import assert_import_adds_no_framework


def test_importing_the_package_adds_no_framework(backend):
    assert_import_adds_no_framework(backend)
