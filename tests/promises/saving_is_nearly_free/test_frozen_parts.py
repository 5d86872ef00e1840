"""Saving is nearly free: a frozen part is written once, not at every checkpoint."""

import keras
import pytest
from keras import layers
from models import TRAIN

import keras_patterns as kp


def new_bytes(folder):
    """For each checkpoint, in order, the bytes in files that none before it has."""
    seen, sizes = set(), []
    for entry in kp.CheckpointStore(folder).entries():
        files = [path.stat() for path in entry.folder.iterdir()]
        sizes.append(sum(file.st_size for file in files if file.st_ino not in seen))
        seen |= {file.st_ino for file in files}
    return sizes


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_part_is_not_written_again(tmp_path, frozen):
    """Checkpoints take turns, so that no damaged file takes all: each of the two lines writes it
    once.
    """
    body = [
        layers.Dense(512, name="wide"),
        layers.BatchNormalization(),
        layers.Dense(1024, name="wider"),
    ]
    model = keras.Sequential([keras.Input((6,)), *body, layers.Dense(3, name="head")])
    if frozen:
        kp.freeze(model, slice(-1))
    model.compile("adam", "sparse_categorical_crossentropy")
    # None is deleted, so that no file takes the place of another in the file system.
    saves = kp.Checkpoint(tmp_path, every_steps=1, keep_last=9, background=False)
    kp.fit(model, **TRAIN, seed=0, verbose=0, callbacks=[saves])
    sizes = new_bytes(tmp_path)
    whole = 4 * sum(row.parameters for row in kp.trainable_table(model).rows)
    head = 4 * model.get_layer("head").count_params()
    assert len(sizes) == 8
    assert min(sizes[:2]) > whole
    assert all(size < whole / 20 + 3 * head if frozen else size > 2.9 * whole for size in sizes[2:])
