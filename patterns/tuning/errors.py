"""Errors of a search, and what they leave as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._util.errors import KerasPatternsError
from .._util.messages import first_line


class TuningError(KerasPatternsError, RuntimeError):
    """A search of `kp.tune` cannot go on as asked. No trial is lost: each is kept, and one in
    progress goes on from its newest checkpoint when the script is started again.
    """


def optuna_of(caller: str) -> Any:
    """Optuna, which is imported late, since only people who tune have it.

    Raises:
        ImportError: If it is missing.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            f"{caller} searches with Optuna, which is missing: pip install optuna (the extra "
            "`tune`)."
        ) from error
    return optuna


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Says what to do where the storage of the study fails inside.

    Raises:
        TuningError: If it does.
    """
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (StorageInternalError, OSError) as error:
        raise TuningError(
            f"kp.tune: the storage of the study failed while it was to {what} "
            f"({first_line(error)}). Every trial is kept. Start the script again when the storage "
            "is there."
        ) from error
