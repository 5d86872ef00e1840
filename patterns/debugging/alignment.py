"""Labels that belong to the row above or below: nothing can be learnt from them."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from .examined import Examined
from .finding import Finding
from .references import Baselines, baseline
from .short_run import ShortRun

# Rows that are compared, in the order of the data.
_MOST_ROWS = 2000


def check_alignment(
    examined: Examined, baselines: Baselines | None, run: ShortRun
) -> Iterator[Finding]:
    """Labels that go with the inputs of the row before or after, where they do not with their own.

    The next value of a series goes with the row before as well, so this is a note.

    Args:
        examined: The model and its data.
        baselines: On the data as they are. None if there are none.
        run: With the score of the model.
    """
    if baselines is None or baselines.metric != "accuracy" or examined.sample.examples is None:
        return
    chance = baselines.chance_level
    best = max(baselines.best.score, run.score or 0.0)
    # Where at least a quarter of the way to right answers is gone, labels go with their inputs.
    if best > chance + 0.25 * (1 - chance):
        return
    y = np.asarray(keras.tree.flatten(examined.sample.all_y)[0])[:_MOST_ROWS]
    x = keras.tree.map_structure(lambda leaf: leaf[:_MOST_ROWS], examined.sample.all_x)
    for rows, where in ((1, "above"), (-1, "below")):
        moved = np.roll(y, -rows, axis=0)
        score = baseline(x, moved, validation_split=0.2, task="classes").best.score
        if score > chance + 0.5 * (1 - chance) and score - chance > 4 * max(best - chance, 0.0):
            yield Finding(
                "label_noise",
                "note",
                f"With the labels that they have, the inputs tell the class of {best:.1%}; with "
                f"those of the row {'below' if rows == 1 else 'above'}, of {score:.1%}.",
                {"as given": best, "moved by a row": score},
                f"Were the labels moved? Those of each row seem to belong to the row {where}.",
            )
