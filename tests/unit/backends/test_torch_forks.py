"""What a device has is not freed by a process that was forked."""

import gc
import os

import keras
import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs Keras on PyTorch"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_garbage_is_kept_in_the_child_and_freed_in_the_parent():
    from keras_patterns.backends._torch_cuda import OfDevice

    read, write = os.pipe()
    os.set_blocking(read, False)

    class Noted(OfDevice):
        def __init__(self):
            super().__init__()
            self.cycle = self

        def __del__(self):
            os.write(write, b"freed")

    gc.disable()
    try:
        Noted()
        child = os.fork()
        if not child:
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(BlockingIOError):
            os.read(read, 5)
        gc.collect()
        assert os.read(read, 5) == b"freed"
    finally:
        gc.enable()
        os.close(read)
        os.close(write)
