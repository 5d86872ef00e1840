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
from model_faults import fifth_set, fourth_set, healthy, met, own, published, second_set, third_set

assert own
assert met
assert second_set
assert third_set
assert fourth_set
assert fifth_set


def drawn(model):
    """The model with weights nearly as spread as its own, and the same on every backend."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable.value)
        if values.ndim > 1 and values.dtype.kind == "f" and np.ptp(values) > 0:
            # The few digits that draws of any backend have in common.
            mean, spread = round(float(values.mean())), float(f"{values.std():.0e}")
            new = rng.normal(mean, spread, values.shape)
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
    else:
        taken = ("validation_data", "validation_split", "sample_weight")
        given = {name: fit[name] for name in taken if name in fit}
        found = kp.preflight(model, x, y, **given)
    # TensorFlow's losses take hidden logits from an output: gradients pass there that are 0
    # elsewhere. Whatever that changes is a symptom.
    return sorted([one.kind, one.severity] for one in found if not one.because_of)


part, *names = sys.argv[2:]
findings = {name: found_in(part, drawn(model), *rest) for name, model, *rest in programs(names)}
print(json.dumps(findings))
