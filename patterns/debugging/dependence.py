"""Checks of what an output depends on, by changing some of the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from .examined import Examined
from .finding import Finding, Severity
from .observed import observe
from .outputs import Output

# Rows of each input that are exchanged at a time.
_EXCHANGED = 16
# Relative to the size of the values: nothing but rounding.
_ROUNDING = 1e-6
# Relative to what examples differ by: more than rounding. An attention over all of a large batch
# by mistake moves outputs by no more than a thousandth.
_LEAK = 1e-4
# Of what differs between examples: nothing to learn from.
_FORGOTTEN = 0.01


def check_leak(examined: Examined) -> Iterator[Finding]:
    """An output that depends on the other examples of its batch."""
    if examined.leaked > _LEAK:
        yield Finding(
            "batch_leak",
            "error",
            f"The output of an example moves by {examined.leaked:.1%} of what examples differ by "
            "when the others of its batch are others, in inference.",
            {"moved": examined.leaked},
            "Look for a reshape, a transpose, a mean or a softmax along the first axis.",
        )


def check_ignored(examined: Examined) -> Iterator[Finding]:
    """Inputs that change nothing of what the last layer is given."""
    found, views = examined.seen
    leaves = keras.tree.flatten(examined.batch[0])
    if found is None or examined.rows < 2 or examined.leaked > _LEAK:
        return
    before = examined.judged_by(found, views)
    count = min(_EXCHANGED, examined.rows // (len(leaves) + 1))
    if len(leaves) == 1:
        after, rows = [np.roll(one, 1, axis=0) for one in before], [slice(None)]
    elif count:
        # One call for all inputs: the rows of each block have another input exchanged.
        rows = [slice(n * count, (n + 1) * count) for n in range(len(leaves))]
        exchanged = [
            _put(leaf, part, np.roll(leaf, count, axis=0)[part])
            for leaf, part in zip(leaves, rows, strict=True)
        ]
        others = keras.tree.pack_sequence_as(examined.batch[0], exchanged)
        after = examined.judged_by(*observe(examined.model, others))
        if examined.adds_losses:
            # An input may be there for one of them alone, as the targets of some models are.
            return
    else:
        return
    for number, (leaf, part) in enumerate(zip(leaves, rows, strict=True)):
        moved = max(
            _moved(one[part], other[part]) for one, other in zip(before, after, strict=True)
        )
        if moved <= _ROUNDING and _varies(leaf, part, count):
            which = f"input {number + 1} of {len(leaves)}" if len(leaves) > 1 else "the inputs"
            yield Finding(
                "ignored_input",
                "warning",
                f"The output is the same whatever is in {which}.",
                {"moved": moved},
                "Look at the masks, and at which tensor each layer is given.",
            )


def check_look_ahead(examined: Examined) -> Iterator[Finding]:
    """Sequences whose next element is to be foretold, by a model that sees it."""
    found, _ = examined.seen
    leaves = keras.tree.flatten(examined.batch[0])
    if found is None or examined.rows < 2:
        return
    for number, leaf in enumerate(leaves):
        for one in examined.outputs:
            if not _is_next(leaf, one.y) or one.pred.shape[:2] != leaf.shape[:2]:
                continue
            moved = _moved_before(examined, number, leaf.shape[1] // 2, one)
            if moved > 1e-3:
                yield Finding(
                    "look_ahead",
                    "error",
                    f"{one.named.capitalize()} is to foretell the next element, and moves by "
                    f"{moved:.1%} of what examples differ by when only later elements are others: "
                    "it can copy the answer.",
                    {"moved": moved},
                    "Use a causal mask (use_causal_mask=True), causal padding, or one direction.",
                )
            return


def check_given(examined: Examined) -> Iterator[Finding]:
    """Targets that stand among the inputs: an answer that is given need not be foretold."""
    found, _ = examined.seen
    leaves = keras.tree.flatten(examined.batch[0])
    if found is None or examined.rows < 16:
        return
    for number, leaf in enumerate(leaves):
        for one in examined.outputs:
            if leaf.dtype.kind not in "fiub" or not np.ptp(one.y.astype("float32")):
                continue
            which = f"input {number + 1}" if len(leaves) > 1 else "the inputs"
            severity: Severity = "error"
            if one.y.size == len(one.y) and leaf[0].size > 1 and _has_column(leaf, one.y):
                # Data that were made up for a try often have such a column in their table.
                severity = "error" if leaf.ndim > 2 else "note"
                what = f"A column of {which} is the target of {one.named} itself, in all rows."
            elif len(leaves) > 1 and _is_told_in_time(examined, number, one):
                what = (
                    f"At each place {which} is the target of {one.named} itself, and what comes "
                    "later changes nothing: it can copy the answer."
                )
            else:
                continue
            yield Finding(
                "look_ahead",
                severity,
                what,
                {"input": number + 1},
                "Leave it out of the inputs, or move it by one place, so that each target comes "
                "after what is given.",
            )


def _has_column(leaf: np.ndarray, y: np.ndarray) -> bool:
    rows, column = leaf.reshape(len(leaf), -1), y.reshape(-1, 1)
    return bool((rows == column).all(axis=0).any())


def _is_told_in_time(examined: Examined, number: int, one: Output) -> bool:
    """True if an input of ids is the target, and a place of the output depends on no later one, as
    it does where all of a text is put into one code.
    """
    leaf = keras.tree.flatten(examined.batch[0])[number]
    if leaf.ndim < 2 or leaf.dtype.kind not in "iu" or leaf.shape[1] < 4:
        return False
    if one.y.shape[: leaf.ndim] != leaf.shape or one.y.size != leaf.size:
        return False
    if one.pred.shape[:2] != leaf.shape[:2] or (one.y.reshape(leaf.shape) != leaf).mean() > 0.01:
        return False
    half = leaf.shape[1] // 2
    return _moved_before(examined, number, half, one) <= 1e-3


def _moved_before(examined: Examined, number: int, half: int, one: Output) -> float:
    """By how much the first places of an output move when only later elements of an input are
    others, relative to what examples differ by.
    """
    found, _ = examined.seen
    leaves = keras.tree.flatten(examined.batch[0])
    leaf = leaves[number]
    other = _put(leaf, np.s_[:, half:], np.roll(leaf, 1, axis=0)[:, half:])
    changed = [*leaves[:number], other, *leaves[number + 1 :]]
    after, _ = observe(examined.model, keras.tree.pack_sequence_as(examined.batch[0], changed))
    pairs = zip(keras.tree.flatten(found), keras.tree.flatten(after), strict=True)
    return max(
        (
            _moved_beside_others(before[:, :half], now[:, :half])
            for before, now in pairs
            if before.shape == one.pred.shape
        ),
        default=0.0,
    )


def check_padding(examined: Examined) -> Iterator[Finding]:
    """Zeros behind the words of short texts, in which a recurrent layer forgets the words."""
    found, views = examined.seen
    leaves = keras.tree.flatten(examined.batch[0])
    if found is None or not any(isinstance(view.layer, keras.layers.RNN) for view in views):
        return
    for number, leaf in enumerate(leaves):
        if leaf.ndim != 2 or leaf.dtype.kind not in "iu" or np.mean(leaf[:, -1] == 0) < 0.5:
            continue
        changed = [*leaves[:number], _padded_before(leaf), *leaves[number + 1 :]]
        others = keras.tree.pack_sequence_as(examined.batch[0], changed)
        calls = (examined.seen, observe(examined.model, others))
        last = [part for call in calls for part in examined.judged_by(*call)[-1:]]
        if len(last) < 2:
            return
        behind, before = (part.std(axis=0).mean() for part in last)
        if behind < _FORGOTTEN * before:
            yield Finding(
                "vanishing",
                "warning",
                f"Most texts end in zeros. With these in front of the words, what the last layer "
                f"is given differs {before / max(behind, 1e-30):.0f} times as much from one text "
                "to another: a recurrent layer forgets the words while it reads the zeros.",
                {"behind": float(behind), "before": float(before)},
                "Use mask_zero=True in the Embedding, or put the zeros in front.",
            )
        return


def _padded_before(ids: np.ndarray) -> np.ndarray:
    """Rows whose zeros at the end have moved to their front."""
    length = ids.shape[1]
    behind = np.where(ids.any(axis=1), np.argmax(ids[:, ::-1] != 0, axis=1), 0)
    places = (np.arange(length) - behind[:, None]) % length
    return np.take_along_axis(ids, places, axis=1)


def _is_next(x: np.ndarray, y: np.ndarray) -> bool:
    """True if the targets are the inputs of one step later."""
    if x.ndim < 2 or y.shape[: x.ndim] != x.shape or y.size != x.size or x.shape[1] < 4:
        return False
    x, y = x[:, 1:], y.reshape(x.shape)[:, :-1]
    return bool((x == y).mean() > 0.9 and np.ptp(x, axis=1).any(axis=-1).mean() > 0.5)


def _put(leaf: np.ndarray, part: Any, values: np.ndarray) -> np.ndarray:
    changed = leaf.copy()
    changed[part] = values
    return changed


def _varies(leaf: np.ndarray, part: slice, count: int) -> bool:
    """True if most of the exchanged rows differ from those in their place."""
    before, after = leaf[part], np.roll(leaf, count or 1, axis=0)[part]
    return bool((before != after).reshape(len(before), -1).any(axis=1).mean() > 0.5)


def _moved(before: np.ndarray, after: np.ndarray) -> float:
    size = float(np.abs(before).mean()) or 1.0
    return float(np.abs(before - after).mean() / size)


def _moved_beside_others(before: np.ndarray, after: np.ndarray) -> float:
    """By how much outputs move, relative to what examples differ by: before training, all may be
    nearly the same.
    """
    size = float(np.abs(before).mean()) or 1.0
    spread = float(np.abs(before - before.mean(axis=0)).mean())
    return float(np.abs(before - after).mean() / max(spread, 0.01 * size))
