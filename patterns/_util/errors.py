"""The class above all errors of this package, and the error that several rooms raise."""

from collections.abc import Sequence
from typing import Any

from .text import visible


class KerasPatternsError(Exception):
    """Any error that only this package raises; each is also of the built-in class that fits it.

    Wrong arguments raise plain `ValueError` and `TypeError`, as in Keras. In its text, control
    characters out of files show as escapes.

    Example:

    >>> import keras_patterns as kp
    >>> try:
    ...     kp.CheckpointStore("no such folder").at(step=3)
    ... except kp.KerasPatternsError as error:
    ...     print(error)
    no such folder: there is no checkpoint of step 3. The newest run has [].
    """

    def __str__(self) -> str:
        return visible(super().__str__(), keep="\n")


class NonFiniteError(KerasPatternsError, ArithmeticError):
    """Training is not finite, and going back has not helped, or was not asked for: see
    `kp.NonFiniteGuard`. Mend the data or the rate that `findings` name; the newest checkpoint is
    sound.

    Attributes:
        findings: What was found, the oldest first: dicts with `"step"`, `"batch"`, `"examples"`,
            `"cause"` and `"variable"`.
    """

    def __init__(self, message: str, findings: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.findings = list(findings)
