"""The order of the examples as a pure function of (seed, pass, position)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._util.arguments import whole_number

# An order is computed and kept for so many positions at a time: a batch then costs microseconds.
_BLOCK = 4096
_ROUNDS = 12
# So few elements are sorted by their hashes, which is quicker than rounds, and mixes two elements
# as well as a thousand.
_SMALL = 4096


def seed_words(seed: int, *path: int, words: int, dtype: Any = np.uint64) -> np.ndarray:
    """Return random words that belong to `seed` and to a purpose, named by integers."""
    return np.random.SeedSequence(seed, spawn_key=path).generate_state(words, dtype)


class Permutation:
    """A pseudo-random permutation of `range(size)` that is computed where it is asked for.

    Nothing of the size of the data is held, and every position is reached in constant time. Up to
    4096 elements are simply sorted by a keyed hash of each. In a larger permutation, the
    position is written as two digits, `left * b + right` with `a * b >= size` and `a`, `b` near the
    square root. Each round adds to one digit a keyed hash of the other one, modulo the digit's
    base: a bijection of `range(a * b)` whatever the hash. A value that falls outside `range(size)`
    is sent through again until it does not (cycle walking), which keeps a bijection.

    The values are part of the format of a checkpoint: they depend on `size`, `seed` and `stream`
    only, not on the backend, the platform or the release.

    Args:
        size: number of elements, from 1 to 2**60.
        seed: a whole number, not negative.
        stream: which permutation of this seed, for instance the number of the pass. Defaults to
            `0`.

    Raises:
        ValueError: an argument is out of range.
        TypeError: an argument is not a whole number.

    Example:

    >>> order = Permutation(10, seed=7)
    >>> sorted(order(np.arange(10)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

    References:
        J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains" (2002), the generalised
            Feistel construction and cycle walking. The hash is the 64-bit finaliser of MurmurHash3
            (A. Appleby).
    """

    def __init__(self, size: int, seed: int, stream: int = 0) -> None:
        self.size = whole_number("Permutation", "size", size)
        if self.size > 2**60:
            raise ValueError(f"Permutation: `size` must be at most 2**60. Received: {size}.")
        seed = whole_number("Permutation", "seed", seed, least=0)
        stream = whole_number("Permutation", "stream", stream, least=0)
        self._left_base = math.isqrt(self.size - 1) + 1
        self._right_base = -(-self.size // self._left_base)
        self._keys = seed_words(seed, stream, words=_ROUNDS)
        self._sorted = self._sort() if self.size <= _SMALL else None

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return the elements at `positions`.

        Args:
            positions: one-dimensional array of integers in `range(size)`.

        Returns:
            An int64 array of the same length.

        Raises:
            IndexError: a position is out of range.
        """
        positions = np.asarray(positions)
        if positions.size and not 0 <= positions.min() <= positions.max() < self.size:
            raise IndexError(
                f"positions must be in range({self.size}). Received: {positions.min()} to "
                f"{positions.max()}."
            )
        if self._sorted is not None:
            return self._sorted[positions]
        values = self._encipher(positions.astype(np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._encipher(values[outside])
        return values.astype(np.int64)

    def _sort(self) -> np.ndarray:
        hashes = _mix(np.arange(self.size, dtype=np.uint64) ^ self._keys[0])
        # The hash is a bijection: no two are equal, so every way to sort gives this order.
        return np.argsort(_mix(hashes ^ self._keys[1])).astype(np.int64)

    def _encipher(self, values: np.ndarray) -> np.ndarray:
        left, right = np.divmod(values, np.uint64(self._right_base))
        for left_key, right_key in self._keys.reshape(-1, 2):
            _add_hash(left, right, left_key, self._left_base)
            _add_hash(right, left, right_key, self._right_base)
        return left * np.uint64(self._right_base) + right


def _add_hash(digit: np.ndarray, other: np.ndarray, key: np.uint64, base: int) -> None:
    """Add a keyed hash of `other` to `digit`, in place and modulo `base`."""
    hashed = _mix(other ^ key)
    # The upper 32 bits scaled to range(base), which is below 2**32: faster than a division.
    hashed >>= np.uint64(32)
    hashed *= np.uint64(base)
    hashed >>= np.uint64(32)
    digit += hashed
    np.subtract(digit, np.uint64(base), out=digit, where=digit >= base)


def _mix(bits: np.ndarray) -> np.ndarray:
    """Return `bits` after MurmurHash3's 64-bit finaliser, in place."""
    bits ^= bits >> np.uint64(33)
    bits *= np.uint64(0xFF51AFD7ED558CCD)
    bits ^= bits >> np.uint64(33)
    bits *= np.uint64(0xC4CEB9FE1A85EC53)
    bits ^= bits >> np.uint64(33)
    return bits


class BatchOrder:
    """The examples of each step's batch.

    A pass over the data has `ceil(examples / batch_size)` steps; its last batch holds what is left,
    and the next step begins the next pass.

    Args:
        examples: number of examples.
        batch_size: examples of a batch.
        shuffle: `True` for a new permutation of all examples at each pass, `False` for their own
            order, `"batch"` for batches in their own order that are shuffled within.
        seed: a whole number, not negative. Defaults to `0`.

    Raises:
        ValueError: an argument is out of range.
        TypeError: an argument is not a whole number.

    Example:

    >>> order = BatchOrder(examples=5, batch_size=2, shuffle=False)
    >>> [order.indices(step).tolist() for step in range(4)]
    [[0, 1], [2, 3], [4], [0, 1]]
    """

    def __init__(self, examples: int, batch_size: int, shuffle: bool | str, seed: int = 0) -> None:
        caller = type(self).__name__
        self.examples = whole_number(caller, "examples", examples)
        self.batch_size = whole_number(caller, "batch_size", batch_size)
        self.seed = whole_number(caller, "seed", seed, least=0)
        if not isinstance(shuffle, bool) and shuffle != "batch":
            raise ValueError(f'`shuffle` must be True, False or "batch". Received: {shuffle!r}.')
        self.shuffle = shuffle
        self.steps_per_pass = -(-self.examples // self.batch_size)
        # Whole batches, so that no batch lies across two blocks.
        self._block = self.batch_size * -(-_BLOCK // self.batch_size)
        self._kept: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.empty(0, np.int64))

    def indices(self, step: int) -> np.ndarray:
        """Return the examples of the batch of `step`, an int64 array, in constant time."""
        if step < 0:
            raise ValueError(f"a step is counted from 0. Received: step={step}.")
        number, place = divmod(step, self.steps_per_pass)
        start = place * self.batch_size
        stop = start + self.length(step)
        if self.shuffle is True:
            block, offset = divmod(start, self._block)
            return self._positions(number, block)[offset : offset + stop - start]
        if self.shuffle == "batch":
            within = Permutation(stop - start, self.seed, step)
            return start + within(np.arange(stop - start))
        return np.arange(start, stop)

    def length(self, step: int) -> int:
        """Return how many examples the batch of `step` holds."""
        is_last = step % self.steps_per_pass == self.steps_per_pass - 1
        rest = self.examples - (self.steps_per_pass - 1) * self.batch_size
        return rest if is_last else self.batch_size

    def _positions(self, number: int, block: int) -> np.ndarray:
        """Return a block of the permutation of pass `number`; the newest one is kept."""
        key, order = self._kept
        if key != (number, block):
            stop = min((block + 1) * self._block, self.examples)
            positions = np.arange(block * self._block, stop)
            order = Permutation(self.examples, self.seed, number)(positions)
            # One assignment: no thread sees the key of one block and the order of another.
            self._kept = ((number, block), order)
        return order
