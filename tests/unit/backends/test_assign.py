"""Values that are assigned to variables."""

import sys

import keras
import numpy as np
import pytest

from keras_patterns.backends import current


def placed(value, offset):
    """An array with the bytes of another one that begins so many bytes after a boundary of 64."""
    memory = np.empty(value.nbytes + 128, np.uint8)
    begin = -memory.ctypes.data % 64 + offset
    array = memory[begin : begin + value.nbytes].view(value.dtype).reshape(value.shape)
    array[...] = value
    return array


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 32])
@pytest.mark.parametrize("shape", [(), (3,), (300, 200)])
def test_a_variable_does_not_change_with_the_array_that_it_was_given(shape, offset):
    variable = keras.Variable(np.zeros(shape, "float32"))
    array = placed(np.full(shape, 3, "float32"), offset)
    current().assign([variable], [array])
    array[...] = 7
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), np.full(shape, 3.0))


def test_a_tree_does_not_change_with_the_arrays_that_it_was_made_of():
    like = {"a": keras.ops.zeros((3,))}
    array = placed(np.full(3, 3, "float32"), 0)
    (name,) = current().tree_to_arrays(like)
    tree = current().tree_from_arrays(like, {name: array})
    array[...] = 7
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tree["a"]), 3.0)


@pytest.mark.parametrize("offset", [0, 4])
def test_an_array_does_not_change_with_the_variable_that_it_was_given_to(offset):
    array = placed(np.ones((8, 1), "float32"), offset)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    current().assign(model.variables[:1], [array])
    model.fit(np.ones((4, 8)), np.zeros((4, 1)), verbose=0)
    np.testing.assert_array_equal(array, 1.0)


def test_a_number_of_numpy_is_assigned():
    variable = keras.Variable(np.zeros((), "float32"))
    current().assign([variable], [np.float32(2)])
    assert keras.ops.convert_to_numpy(variable.value) == 2.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "uint32", "bool"])
def test_each_dtype(dtype):
    variable = keras.Variable(np.zeros(4), dtype=dtype, trainable=False)
    value = np.zeros(4)
    value[1] = 1
    array = keras.ops.convert_to_numpy(keras.ops.cast(value, dtype))
    current().assign([variable], [array])
    found = keras.ops.convert_to_numpy(variable.value)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found.astype("float64"), value)


@pytest.mark.skipif(current().name != "jax", reason="the others assign one after the other")
def test_a_device_never_holds_all_old_and_all_new_values(monkeypatch):
    jax, module = pytest.importorskip("jax"), sys.modules[type(current()).__module__]
    put, sizes = jax.device_put, []
    monkeypatch.setattr(
        jax, "device_put", lambda arrays: sizes.append(sum(a.nbytes for a in arrays)) or put(arrays)
    )
    monkeypatch.setattr(module, "_GROUP_BYTES", 100)
    values = [np.full(count, count, "float32") for count in (10, 10, 10, 0, 100, 1, 1)]
    variables = [keras.Variable(np.zeros(value.shape, "float32")) for value in values]
    current().assign(variables, values)
    assert sizes == [80, 40, 400, 8]
    for variable, value in zip(variables, values, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), value)
