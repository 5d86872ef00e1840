"""One process of test_findings.py: `python run_findings.py FOLDER PART NAMES`. It looks at programs
of the gallery, whose weights NumPy draws, and prints what it finds.
"""

import json
import sys

import keras
import numpy as np
from places import ROOT

import keras_patterns as kp

sys.path.insert(0, str(ROOT / "benchmarks"))
from model_faults import healthy, met, own, published

assert own
assert met


def drawn(model):
    """The model with weights as spread as its own, and the same on every backend."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable.value)
        if values.ndim > 1 and values.dtype.kind == "f" and np.ptp(values) > 0:
            new = rng.normal(values.mean(), values.std(), values.shape)
            variable.assign(new.astype(values.dtype))
    return model


def programs(names):
    """Name, model, x, y and fit arguments."""
    for name, case in published.REGISTRY.items():
        if not names or name in names:
            yield name, *case.build()
            yield f"{name}, healthy", *case.healthy()
    for name, make in healthy.HEALTHY.items():
        if not names or name in names:
            keras.utils.set_random_seed(0)
            yield name, *make()


def found_in(part, model, x, y, fit):
    if part == "debug":
        found = kp.debug(model, x, y, short_steps=20, **fit).findings
        # A symptom may be seen in the course of the training alone, which TensorFlow mends.
        found = [one for one in found if not one.because_of]
    else:
        taken = ("validation_data", "validation_split", "sample_weight")
        given = {name: fit[name] for name in taken if name in fit}
        found = kp.preflight(model, x, y, **given)
    return sorted([one.kind, one.severity] for one in found)


part, *names = sys.argv[2:]
findings = {name: found_in(part, drawn(model), *rest) for name, model, *rest in programs(names)}
print(json.dumps(findings))
