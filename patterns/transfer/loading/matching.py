"""The pairs of the variables of a model and those of a source.

| the layer's name | what identifies it |
| --- | --- |
| given by a person | its path; else the longest end of it that no other variable has |
| automatic, as `dense_12` | its place in the model of the same layers, however nested |
| not known to the source | likewise |

An automatic name counts how many layers a process has made, so it identifies nothing. Nothing is
matched that fits two ways.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Path: TypeAlias = tuple[str, ...]

# Before the kind, in place of an automatic name.
_ANY = "*"


@dataclass(frozen=True, eq=False)
class Loadable:
    """A variable of a model, or the values for one in a source.

    Attributes:
        label: What is shown of it.
        names: Its paths by names, those of the layers and its own; none where they are not known.
        place: Where it stands in the object tree.
        shape: Its shape.
        dtype: Its dtype.
        value: The variable, or a function that reads the values.
    """

    label: str
    names: tuple[Path, ...]
    place: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    value: Any


class Matching:
    """Pairs the variables of a model with those of a source.

    Args:
        targets: Those of the model.
        sources: Those of the source.
        automatic: See `_keras.automatic_names`.
    """

    def __init__(
        self, targets: Sequence[Loadable], sources: Sequence[Loadable], automatic: Set[str]
    ) -> None:
        self._targets = targets
        self._sources = sources
        self._names = {
            entry: {_without(name, automatic) for name in entry.names}
            for entry in (*targets, *sources)
        }
        self.found: dict[Loadable, Loadable] = {}
        self._pair({entry: filter(_is_given, names) for entry, names in self._names.items()})
        for length in range(
            max((len(name) for names in self._names.values() for name in names), default=0), 1, -1
        ):
            self._pair({entry: self._ends(entry, length) for entry in self._names})
        self._pair_models()
        self._pair({entry: [entry.place] for entry in self._names})

    def reason(self, target: Loadable) -> str:
        """The reason why nothing was found for a variable of the model."""
        ends = self._ends(target, 2)
        if ends and any(self._names[source] for source in self._sources):
            twice = [
                sum(not ends.isdisjoint(self._ends(one, 2)) for one in side)
                for side in (self._sources, self._targets)
            ]
            if twice[0]:
                return f"variables of that name: {twice[0]} in the source, {twice[1]} in the model"
            return "no variable of that name"
        return (
            f"{'its name is automatic, and ' if not ends else ''}nothing fits at its place, "
            f"{'/'.join(target.place)}"
        )

    def _ends(self, entry: Loadable, length: int) -> set[Path]:
        return {
            name[-length:] for name in self._names[entry] if len(name) >= length and _is_given(name)
        }

    def _pair(self, keys: Mapping[Loadable, Iterable[Path]]) -> None:
        """Pairs those left that have a key that no other on either side has."""
        targets, sources = (
            _unique({entry: keys[entry] for entry in side if entry in keys})
            for side in (self._targets, self._sources)
        )
        taken = set(self.found.values())
        for key, target in targets.items():
            source = sources.get(key)
            if (
                source
                and source not in taken
                and target not in self.found
                and self._same_layer(target, source)
            ):
                self.found[target] = source
                taken.add(source)

    def _same_layer(self, target: Loadable, source: Loadable) -> bool:
        """Tells whether these may be one layer by their names: a name that was given is never an
        automatic one.
        """
        pairs = [
            (one[-2:], other[-2:]) for one in self._names[target] for other in self._names[source]
        ]
        # What a model holds itself has its name before it in some sources.
        return not pairs or any(
            one == other or (len(one) == 1 and one == other[-1:]) for one, other in pairs
        )

    def _pair_models(self) -> None:
        """Pairs what has automatic names in a model that is in the source in one place with the
        same layers.
        """
        targets, sources = self._by_model(self._targets), self._by_model(self._sources)
        same = [
            (one, other)
            for one in targets
            for other in sources
            if self._agree(targets[one], sources[other])
        ]
        counts = Counter(one for one, _ in same), Counter(other for _, other in same)
        for one, other in same:
            if counts[0][one] == counts[1][other] == 1:
                self._pair(
                    {
                        entry: [place]
                        for part in (targets[one], sources[other])
                        for place, entry in part.items()
                    }
                )

    def _agree(self, targets: dict[Path, Loadable], sources: dict[Path, Loadable]) -> bool:
        return targets.keys() == sources.keys() and all(
            entry.shape == sources[place].shape and self._same_layer(entry, sources[place])
            for place, entry in targets.items()
        )

    def _by_model(self, entries: Iterable[Loadable]) -> dict[Path, dict[Path, Loadable]]:
        """The variables that no name tells, in each model, by the place of that model and the place
        in it.
        """
        named = any(self._names[source] for source in self._sources)
        found: dict[Path, dict[Path, Loadable]] = {}
        for entry in entries:
            for number, token in enumerate(entry.place):
                if token == "layers" and not (named and self._ends(entry, 2)):
                    found.setdefault(entry.place[:number], {})[entry.place[number:]] = entry
        return found


def _without(name: Path, automatic: Set[str]) -> Path:
    """The kind in place of each automatic name; a variable has one, too, where its layer gives it
    none.
    """
    kinds = [re.sub(r"_\d+$", "", token) for token in name]
    known = [kind in automatic for kind in kinds[:-1]] + [kinds[-1] == "variable"]
    return tuple(
        _ANY + kind if is_known else token
        for token, kind, is_known in zip(name, kinds, known, strict=True)
    )


def _is_given(name: Path) -> bool:
    return len(name) > 1 and not name[-2].startswith(_ANY)


def _unique(keys: Mapping[Loadable, Iterable[Path]]) -> dict[Path, Loadable]:
    found: dict[Path, list[Loadable]] = {}
    for entry, own in keys.items():
        for key in own:
            found.setdefault(key, []).append(entry)
    return {key: having[0] for key, having in found.items() if len(having) == 1}
