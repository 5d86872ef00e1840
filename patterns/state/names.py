"""The names that a person gave to layers: they tell where layers have exchanged their places."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import keras

from .. import _keras


def exchanged_places(
    model: keras.Model, variables: Mapping[str, keras.Variable], paths: Mapping[str, str]
) -> list[str]:
    """Where the names in a checkpoint, which is put back by place, are those of other places in the
    model: a line each. A layer that has a new name is none of them, nor is an automatic name,
    which counts the layers of a process.

    Args:
        model: The model.
        variables: Its variables, by place.
        paths: Those of the checkpoint, by place; empty where it is not known.
    """
    now = {place: variable.path for place, variable in variables.items()}
    then = {place: paths.get(place) or path for place, path in now.items()}
    if now == then:
        return []
    moved = _moved(_without_counts(model, then), _without_counts(model, now))
    # Only what comes round: others have a new name, which another one had before.
    while (round_trips := {a: b for a, b in moved.items() if b in moved}) != moved:
        moved = round_trips
    return [f"{a} was {then[a]!r}, which stands at {b} in the model" for a, b in moved.items()]


def _moved(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The places whose name, one that nothing else has, stands at another one now."""
    counts = Counter(then.values()), Counter(now.values())
    place_of = {name: place for place, name in now.items()}
    return {
        place: place_of[name]
        for place, name in then.items()
        if counts[0][name] == counts[1][name] == 1 and place_of[name] != place
    }


def _without_counts(model: keras.Model, paths: Mapping[str, str]) -> dict[str, str]:
    """Paths without the numbers behind automatic names, alone or in a longer one."""
    names = sorted(_keras.automatic_names(_keras.all_layers(model)), key=len, reverse=True)
    counted = re.compile(rf"(?<![^/_])({'|'.join(map(re.escape, names))})_\d+(?![^/_])")
    return {place: counted.sub(r"\1", path) for place, path in paths.items()}
