"""The blocks in which data are evaluated: noted, or changed."""

import keras
import numpy as np

from keras_patterns.backends import Block
from keras_patterns.state import fused_evaluation


class Noise(keras.layers.Layer):
    """Draws wherever it is called."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(5)

    def call(self, inputs):
        noise = keras.random.normal(keras.ops.shape(inputs), seed=self.generator)
        return inputs + 0.1 * noise


def noted_blocks(monkeypatch):
    """A list that gets how many batches there are in each block, or that there is one of another
    size.
    """
    taken = []

    def note(one):
        taken.append(one.count if isinstance(one, Block) else "single")

    _each_block(monkeypatch, note)
    return taken


def falsify_blocks(monkeypatch):
    """Changes the examples of each block a little."""

    def change(one):
        if isinstance(one, Block):
            one.batches[0][: one.count] *= np.float32(1 + 1e-4)

    _each_block(monkeypatch, change)


def _each_block(monkeypatch, act):
    made = fused_evaluation._Batches._blocks

    def blocks(self):
        for one in made(self):
            act(one)
            yield one

    monkeypatch.setattr(fused_evaluation._Batches, "_blocks", blocks)
