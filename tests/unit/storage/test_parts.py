"""Parts of stored documents, those of other programs included."""

import numpy as np
import pytest

from keras_patterns.storage import CheckpointFolder, Position, StoreError, Tensor
from keras_patterns.storage.parts import export_checkpoint, plain_parts

pytestmark = pytest.mark.once


def test_sections_without_a_version_are_parts_too():
    document = {"data": {"content": 1}, "variables": {"kernel": "weight"}, "note": "text"}
    assert plain_parts(document) == {"data": 1, "variables": {"kernel": "weight"}, "note": "text"}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "it does not say which tensors are weights"),
        ({"variables": {"bias": "weight"}}, "the weight 'bias', which it names, is not in it"),
    ],
)
def test_weights_that_are_not_there_are_not_exported(document, problem, tmp_path):
    store = CheckpointFolder(tmp_path / "run")
    store.write(Position(1, 1), document, [Tensor("variables/kernel", np.ones(2))])
    with pytest.raises(StoreError, match=problem):
        export_checkpoint(store, tmp_path / "weights.safetensors")
    assert not (tmp_path / "weights.safetensors").exists()
