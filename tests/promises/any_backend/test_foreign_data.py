"""Any backend: the real data classes of each framework are recognised."""

import numpy as np
import pytest

from keras_patterns.data import make_source

pytestmark = pytest.mark.cross


def test_a_tensorflow_dataset_is_recognised():
    """The modules that are looked for are those of the real classes."""
    import tensorflow

    with pytest.raises(TypeError, match=r"a tf\.data\.Dataset is not served yet"):
        make_source(tensorflow.data.Dataset.from_tensor_slices([1, 2]).batch(2))
    for sparse in (
        tensorflow.sparse.eye(3),
        tensorflow.ragged.constant([[1], [1, 2]]),
    ):
        with pytest.raises(TypeError, match="`x` is sparse or ragged"):
            make_source(sparse)


def test_a_torch_loader_is_recognised():
    import torch

    data = torch.utils.data.TensorDataset(torch.ones(3))
    for loader in (data, torch.utils.data.DataLoader(data)):
        with pytest.raises(TypeError, match="a PyTorch DataLoader or Dataset is not served yet"):
            make_source(loader)
    with pytest.raises(TypeError, match="`x` is sparse or ragged"):
        make_source(torch.eye(3).to_sparse())


def test_a_sparse_jax_array_is_refused():
    from jax.experimental.sparse import BCOO

    with pytest.raises(TypeError, match="`x` is sparse or ragged"):
        make_source(BCOO.fromdense(np.eye(3)))
