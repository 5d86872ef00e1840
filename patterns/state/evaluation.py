"""Evaluating a model on data that draw at random, so that it can be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import keras

from keras_patterns.backends import current
from keras_patterns.backends.loaders import IndexedLoader, open_loader, renewer

from .. import _keras
from ..data.indexed import IndexedSource
from ..data.passes import Passes
from ..data.rows import is_rows
from ..data.streams import stream_words
from .fused_evaluation import BlockTerms, FusedEvaluation
from .item_caller import ItemCaller

# Of what evaluations draw; the seed of a run has no part in it, for its checkpoints are compared.
_SEED = 0x6576616C


class Evaluation:
    """Calls `model.evaluate` again and again on the same data.

    Data other than arrays may draw at random: a loader that shuffles, an augmentation. What they
    draw is a function of the number of the evaluation; all random states are as before after it.

    Args:
        arguments: `x`, `y` and `sample_weight` of `evaluate`.
        batch_size: Of arrays, and of data whose batches are not made yet. Defaults to None: 32.

    Attributes:
        draws: True if the data may draw at random.
    """

    def __init__(self, arguments: Mapping[str, Any], batch_size: int | None = None) -> None:
        self._arguments = {**arguments, "batch_size": batch_size}
        self.draws = not is_rows(tuple(arguments.values()))
        x = arguments.get("x")
        self._passes = x if isinstance(x, Passes) else None
        is_indexed = self.draws and self._passes is None
        self._source = _indexed(arguments["x"]) if is_indexed else None
        if self.draws:
            self._renew: Callable[[], Any] = renewer(x)
            self._seeded = ItemCaller(x)

    def build(self, model: keras.Model) -> None:
        """Lets Keras build what evaluating needs: it takes a batch for that, and the data would go
        on from the next.
        """
        if self.draws and self._source is None:
            self(model, 0, steps=1)

    def in_blocks(self, terms: BlockTerms, steps: int | None = None) -> FusedEvaluation | None:
        """The same, in blocks of batches that are one program; None of data other than arrays.

        Args:
            terms: On which there are blocks.
            steps: Batches of an evaluation. Defaults to None: all.
        """
        if self.draws:
            return None
        arguments = dict(self._arguments)
        batch_size = arguments.pop("batch_size")
        return FusedEvaluation(arguments, batch_size, steps, terms)

    def __call__(self, model: keras.Model, number: int, **settings: Any) -> dict[str, Any]:
        """The metrics by name.

        Args:
            model: To be evaluated.
            number: Of the evaluation, from 0.
            **settings: Further arguments of `evaluate`.
        """
        settings = {**settings, "return_dict": True, "verbose": 0}
        if self._source is not None:
            count = self._source.steps_per_pass
            # Without a number of steps Keras warns that the data have ended.
            settings["steps"] = min(settings.get("steps") or count, count)
            with _pass_as_data(model, self._source, number, settings["steps"]) as data:
                return model.evaluate(data, **settings)
        if not self.draws:
            return model.evaluate(**self._arguments, **settings)
        return self._seeded(
            stream_words(_SEED, number), lambda: self._on_new(model, settings), can_repeat=False
        )

    def _on_new(self, model: keras.Model, settings: dict[str, Any]) -> dict[str, Any]:
        # Nobody may know how many batches there are.
        with _keras.quiet_end_of_data():
            if self._passes is None:
                return model.evaluate(**{**self._arguments, "x": self._renew()}, **settings)
            with closing(self._passes.begin(self._arguments["batch_size"])) as batches:
                samples = list(itertools.islice(batches, 2))
                data = current().feed(itertools.chain(samples, batches), samples, False, model)
                return model.evaluate(data, **settings)


def _indexed(x: Any) -> IndexedSource | None:
    """The batches by (seed, step), where they can be had so."""
    loader = open_loader(x)
    if not isinstance(loader, IndexedLoader):
        return None
    return IndexedSource(loader, seed=_SEED, seeding=ItemCaller, holder=x)


@contextmanager
def _pass_as_data(
    model: keras.Model, source: IndexedSource, number: int, count: int
) -> Iterator[Any]:
    """The first batches of a pass, as data that `evaluate` of the model takes."""
    batches = source.batches(number * source.steps_per_pass)
    with closing(batches):  # type: ignore[type-var]
        samples = list(itertools.islice(batches, min(2, count)))
        rest = itertools.islice(batches, count - len(samples))
        yield current().feed(itertools.chain(samples, rest), samples, False, model)
