"""Any backend: the real data classes of each framework are recognised."""

from contextlib import closing

import numpy as np
import pytest

from keras_patterns.data import make_source

pytestmark = pytest.mark.cross


def test_a_tensorflow_dataset_gives_its_batches():
    """The modules that are looked for are those of the real classes."""
    import tensorflow

    source = make_source(tensorflow.data.Dataset.from_tensor_slices([1, 2, 3]).batch(2))
    assert source.steps_per_pass == 2
    with closing(source.batches(0)) as batches:
        np.testing.assert_array_equal(next(batches)[0], [1, 2])
        np.testing.assert_array_equal(next(batches)[0], [3])


def test_a_ragged_tensorflow_tensor_is_refused():
    import tensorflow

    with pytest.raises(TypeError, match=r"`x` is sparse or ragged.*`\.to_tensor\(\)`"):
        make_source(tensorflow.ragged.constant([[1], [1, 2]]))


def test_a_sparse_tensorflow_tensor_gives_dense_batches():
    import tensorflow

    (batch,) = make_source(tensorflow.sparse.eye(3), batch_size=2, shuffle=False).batch(1)
    np.testing.assert_array_equal(batch, [[0, 0, 1]])


def test_a_torch_loader_gives_its_batches_and_a_dataset_is_refused():
    import torch

    data = torch.utils.data.TensorDataset(torch.arange(3))
    source = make_source(torch.utils.data.DataLoader(data, batch_size=2))
    assert source.steps_per_pass == 2
    with closing(source.batches(0)) as batches:
        np.testing.assert_array_equal(next(batches)[0], [0, 1])
        np.testing.assert_array_equal(next(batches)[0], [2])
    with pytest.raises(TypeError, match="TensorDataset is no loader of batches"):
        make_source(data)


def test_a_sparse_torch_tensor_is_refused():
    import torch

    with pytest.raises(TypeError, match="`x` is sparse or ragged"):
        make_source(torch.eye(3).to_sparse())


@pytest.mark.parametrize("name", ["BCOO", "BCSR"])
def test_a_sparse_jax_array_gives_dense_batches(name):
    from jax.experimental import sparse

    # More room than entries: the rest is filled up with places outside.
    array = sparse.BCOO.fromdense(np.eye(3, dtype="float32"), nse=5)
    array = array if name == "BCOO" else sparse.BCSR.from_bcoo(array)
    (batch,) = make_source(array, batch_size=2, shuffle=False).batch(0)
    np.testing.assert_array_equal(batch, [[1, 0, 0], [0, 1, 0]])


def test_a_sparse_jax_array_of_dense_parts_is_refused():
    from jax.experimental.sparse import BCOO

    with pytest.raises(TypeError, match="`x` is sparse or ragged"):
        make_source(BCOO.fromdense(np.ones((3, 2, 2)), n_dense=1))
