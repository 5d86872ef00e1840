"""One pass over any data, in order: for evaluation, and for what is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

from keras_patterns.backends.loaders import gives_examples

from .in_order import LoaderSource
from .sources import BatchSource, make_source
from .streams import RandomStream


class Passes:
    """Data that Keras does not read itself, to be gone through again and again.

    Nothing is shuffled here. What the data draw at random is a function of the random states at the
    start of the pass.

    Args:
        x: As in `make_source`.
        y: As in `make_source`. Defaults to None.
        sample_weight: As in `make_source`. Defaults to None.

    Raises:
        TypeError, ValueError: As `make_source` does.
    """

    def __init__(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        self._data = {"x": x, "y": y, "sample_weight": sample_weight}
        loader = getattr(self._source(None), "loader", None)
        self._takes_size = gives_examples(x) and not getattr(loader, "is_batched", False)

    def begin(self, batch_size: int | None = None) -> Generator[tuple]:
        """The batches of a pass.

        Args:
            batch_size: Where `x` gives examples. Defaults to None: 32.
        """
        return one_pass(self._source(batch_size if self._takes_size else None))

    def _source(self, batch_size: int | None) -> BatchSource:
        return make_source(
            **self._data,
            batch_size=batch_size,
            shuffle=False,
            stream=RandomStream(),
            verbose=False,
        )


def one_pass(source: BatchSource, start: int = 0) -> Generator[tuple]:
    """The batches of a pass over a source, from the step `start` on.

    Raises:
        ValueError: If the pass has no end.
    """
    check_pass_ends(source)
    if isinstance(source, LoaderSource):
        source.stops_after_pass = True
        yield from source.batches(start)
    else:
        yield from itertools.islice(source.batches(start), source.steps_per_pass)


def check_pass_ends(source: BatchSource) -> None:
    """Raises if a pass over a source is known to have no end, or may have none.

    Raises:
        ValueError: If so.
    """
    if source.steps_per_pass is None and not (
        isinstance(source, LoaderSource) and source.is_of_unknown_length
    ):
        raise ValueError(
            "the data have no end, and one pass over them is wanted. Give data without `.repeat()`."
        )
