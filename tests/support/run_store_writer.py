"""Writes checkpoints until it is killed; run by the test of crashes.

For each line on the standard input, `directory first_step`, a child is forked that writes in a loop
and says "published N"; once it is dead the parent says "dead". Forked, since importing takes longer
than what is tested.
"""

import os
import sys
from itertools import count

import numpy as np
from store_support import at, tensors

from keras_patterns.storage import CheckpointFolder, Retention


def arrays_at(step):
    """Still, sometimes moving and always moving tensors: each a function of the step."""
    still = {f"still/{i}": np.full(200, float(i)) for i in range(20)}
    large = {"still/large": np.arange(300_000, dtype=np.float32)}
    return still | large | {"slow": np.full(9, step // 3), "moving": np.full(5000, float(step))}


def write_for_ever(directory, first):
    store = CheckpointFolder(directory)
    with store.lock():
        for step in count(first):
            store.write(at(step), {"step": step}, tensors(arrays_at(step)))
            say(f"published {step}")
            store.prune(Retention(keep_last=2, keep_every_steps=50))


def say(line):
    """In one piece, which a kill cannot cut: `print` may hand over the end of the line by
    itself."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def main():
    for line in sys.stdin:
        directory, first = line.split()
        child = os.fork()
        if not child:
            write_for_ever(directory, int(first))
        say(f"child {child}")
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
