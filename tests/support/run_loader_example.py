"""One process of test_loader_examples.py: `python run_loader_example.py EXAMPLE KILL_AT`.

It runs an example with a position before every save, killed once so many checkpoints have been
published, and saves its last weights.
"""

import importlib.util
import math
import sys

import numpy as np


def main(path, kill_at):
    # Here, since workers of the example import this file.
    from killers import kill_when_published

    from keras_patterns.data import positions

    positions.SHARE = math.inf
    if kill_at:
        kill_when_published(kill_at)
    spec = importlib.util.spec_from_file_location("example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    np.savez("weights.npz", **example.main("."))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
