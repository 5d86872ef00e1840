"""A run is drawn on every backend, by kp.fit and by model.fit."""

import pytest
from models import TRAIN, compiled, small

import keras_patterns as kp


@pytest.mark.parametrize("ours", [True, False])
def test_the_curve_of_the_training_is_the_history_s(ours):
    data = {"x": TRAIN["x"], "y": TRAIN["y"], "batch_size": 8, "epochs": 2, "verbose": 0}
    model = compiled(small())
    history = kp.fit(model, **data, seed=0) if ours else model.fit(**data)
    axes = kp.plot_history(history)
    axes.figure.draw_without_rendering()
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert curves["training"] == history.history["loss"]
