"""Sound set-ups of all kinds are let through: widths, depths, activations, scales, losses."""

from dataclasses import asdict, dataclass

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers

import keras_patterns as kp

LOGITS = {
    "sparse": keras.losses.SparseCategoricalCrossentropy,
    "categorical": keras.losses.CategoricalCrossentropy,
    "binary": keras.losses.BinaryCrossentropy,
}
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(3e-3),
    "adamw": lambda: keras.optimizers.AdamW(2e-3, weight_decay=1e-2),
    "rmsprop": lambda: keras.optimizers.RMSprop(2e-3),
    "momentum": lambda: keras.optimizers.SGD(0.03, momentum=0.9),
}


@dataclass
class SetUp:
    """A sound model and data that it can learn from."""

    loss: str
    from_logits: bool
    classes: int
    widths: list
    activation: str
    normalised: str
    dropout: float
    optimizer: str
    features: int
    scale: float
    shift: float
    examples: int
    batch_size: int
    seed: int

    def targets(self, x):
        rng = np.random.default_rng(self.seed + 1)
        known = (x - self.shift) / self.scale
        scores = known @ rng.normal(size=(self.features, self.classes)) / self.features**0.5
        scores = 2 * scores + np.tanh(known[:, :1] * known[:, 1:2])
        if self.loss in ("mse", "mae", "huber"):
            return ((scores - scores.mean()) / scores.std())[:, 0].astype("float32")
        if self.loss == "binary":
            return (scores[:, 0] > np.median(scores[:, 0])).astype("float32")
        labels = scores.argmax(axis=1)
        return keras.utils.to_categorical(labels, self.classes) if self.is_hot else labels

    @property
    def is_hot(self):
        return self.loss == "categorical"

    def made(self):
        """Model, x, y and fit arguments."""
        keras.utils.set_random_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        x = rng.normal(self.shift, self.scale, (self.examples, self.features)).astype("float32")
        norms = {"batch": layers.BatchNormalization, "layer": layers.LayerNormalization}
        hidden = []
        for width in self.widths:
            hidden.append(layers.Dense(width))
            hidden += [norms[self.normalised]()] if self.normalised else []
            hidden.append(layers.Activation(self.activation))
        hidden += [layers.Dropout(self.dropout)] if self.dropout else []
        model = keras.Sequential([keras.Input((self.features,)), *hidden, *self.last()])
        loss = LOGITS[self.loss](self.from_logits) if self.loss in LOGITS else self.loss
        model.compile(OPTIMIZERS[self.optimizer](), loss)
        return model, x, self.targets(x), {"batch_size": self.batch_size}

    def last(self):
        is_wide = self.loss in ("sparse", "categorical")
        squash = "softmax" if is_wide else "sigmoid"
        is_linear = self.loss not in LOGITS or self.from_logits
        yield layers.Dense(self.classes if is_wide else 1, None if is_linear else squash)


SOUND = st.builds(
    SetUp,
    loss=st.sampled_from(["sparse", "categorical", "binary", "mse", "mae", "huber"]),
    from_logits=st.booleans(),
    classes=st.integers(2, 6),
    widths=st.lists(st.sampled_from([16, 24, 32, 64, 128]), min_size=1, max_size=4),
    activation=st.sampled_from(["relu", "leaky_relu", "tanh", "gelu", "elu", "silu"]),
    normalised=st.sampled_from(["", "batch", "layer"]),
    dropout=st.sampled_from([0.0, 0.1, 0.3]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    features=st.integers(3, 24),
    scale=st.floats(0.3, 2.0),
    shift=st.floats(-1.0, 1.0),
    examples=st.integers(200, 1000),
    batch_size=st.sampled_from([16, 32, 64, 128]),
    seed=st.integers(0, 1000),
)


def accused(count, look):
    """Those of some set-ups of which something above a note is found."""
    found = []

    @settings(max_examples=count, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(SOUND)
    def judge(one):
        alarms = [str(each) for each in look(*one.made()) if each.severity != "note"]
        found.extend([(asdict(one), alarms)] if alarms else [])

    judge()
    return found


def test_a_preflight_lets_a_few_sound_set_ups_through():
    assert accused(3, lambda model, x, y, fit: kp.preflight(model, x, y)) == []


@pytest.mark.gallery
def test_the_whole_ladder_lets_97_in_100_sound_set_ups_through():
    count = 200
    found = accused(count, lambda model, x, y, fit: kp.debug(model, x, y, **fit).findings)
    assert len(found) <= 0.03 * count, found
