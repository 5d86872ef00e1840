"""An example of a loop of one's own, in the folder of its run: `python run_own_loop.py PATH
[--kill-at COUNT] [--forgets]`.

It is killed once so many checkpoints have been published; otherwise its last weights are saved.
"""

import argparse
import importlib.util

import numpy as np
from killers import kill_when_published

from keras_patterns.run.tracked import Tracked


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--forgets", action="store_true", help="put no tracked state back")
    asked = parser.parse_args()
    if asked.kill_at:
        kill_when_published(asked.kill_at)
    if asked.forgets:
        Tracked.restore = lambda self, states: None
    spec = importlib.util.spec_from_file_location("example", asked.path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    np.savez("weights.npz", **example.main("checkpoints"))


if __name__ == "__main__":
    main()
