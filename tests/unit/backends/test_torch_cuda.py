"""Blocks and batches on a CUDA device: the same bits as from launches one by one and from copies in
line.
"""

import gc
import os

import keras
import numpy as np
import pytest

from keras_patterns.backends import current

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch" or not torch.cuda.is_available(),
    reason="needs a CUDA device and Keras on PyTorch",
)

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")


def launches(step):
    from keras_patterns.backends._torch_cuda import Launches

    return Launches(step, [torch.zeros(8, device="cuda")], each=False)


def columns():
    return [torch.as_tensor(X, device="cuda").unbind()]


def accumulate(read):
    """A step that moves a tensor, and the tensor."""
    total = torch.zeros(8, device="cuda")

    def step(row):
        total.mul_(0.9).add_(torch.sin(row))
        return {"sum": total.sum() if not read else torch.tensor(total.sum().item())}

    return step, total


@pytest.mark.parametrize("read", [False, True])
def test_a_launch_for_each_step_gives_the_bits_of_one_for_each_operation(read):
    step, expected = accumulate(read)
    for row in columns()[0]:
        logs = step(row)
    step, total = accumulate(read)
    stream = torch.cuda.current_stream()
    program = launches(step)
    assert torch.cuda.current_stream() == stream
    total.zero_()
    found = program.run(columns(), len(X))
    assert torch.equal(total, expected)
    assert float(found["sum"]) == float(logs["sum"])


def test_the_constants_of_a_step_stay():
    from keras_patterns.backends._torch_blocks import _noted
    from keras_patterns.backends._torch_cuda import Launches

    total = torch.zeros(8, device="cuda")
    leaves = [torch.zeros(8, device="cuda")]

    def step(row):
        total.add_(row * torch.tensor(range(8)).to("cuda"))
        return {"sum": total.sum()}

    program = Launches(_noted(step, leaves), leaves, each=False)
    total.zero_()
    # They would be written over.
    held = [torch.full((8,), 77) for _ in range(10_000)]
    program.run(columns(), len(X))
    expected = (torch.as_tensor(X) * torch.arange(8)).sum(0)
    torch.testing.assert_close(total.cpu(), expected)
    assert held


def test_the_logs_of_a_block_stay_when_the_next_one_runs():
    step, _ = accumulate(read=False)
    program = launches(step)
    first = program.run(columns(), 3)
    value = float(first["sum"])
    program.run(columns(), 5)
    assert float(first["sum"]) == value


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_arrive_as_they_were_made(ahead):
    batches = [(X + index, np.arange(64) + index) for index in range(40)]
    feed = current().feed(iter(batches), batches[:1], ahead, keras.Model())
    busy = torch.ones(2_000, 2_000, device="cuda")
    for (x, y), (found_x, found_y) in zip(batches, feed.get_torch_dataloader(), strict=True):
        busy = busy @ busy
        assert found_x.is_cuda
        np.testing.assert_array_equal(found_x.cpu(), x)
        np.testing.assert_array_equal(found_y.cpu(), y)
    feed.close()


def test_a_process_that_is_forked_may_free_them():
    feed = current().feed(iter([(X, X)] * 8), [(X, X)], True, keras.Model())
    batches = feed.get_torch_dataloader()
    read = [next(batches) for _ in range(3)]
    program = launches(accumulate(read=False)[0])
    child = os.fork()
    if not child:
        read.clear()
        del batches, feed, program
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    batches.close()
    feed.close()


def test_a_sum_with_a_scale_on_the_device_has_the_bits_of_one_with_a_number():
    from keras_patterns.backends._torch_values import _add_scaled

    random = torch.Generator("cuda").manual_seed(0)
    those = [torch.randn(50, 7, device="cuda", generator=random) for _ in range(3)]
    others = [torch.randn(50, 7, device="cuda", generator=random) for _ in range(3)]
    expected = [one.clone() for one in those]
    scale = torch.tensor(-0.0123, device="cuda")
    torch._foreach_add_(expected, others, alpha=scale.item())
    _add_scaled(those, others, scale)
    assert all(map(torch.equal, those, expected))
