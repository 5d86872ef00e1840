"""A score that is good enough: better than the simplest models, no worse than the recorded one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import numpy as np
from msgspec import Meta

from .. import _keras
from .._util.arguments import check_choice, check_number
from .._util.messages import say
from .._util.paths import bound_path
from .._util.schema import Fields, SchemaError, check_json, checked, shown
from ..debugging import Baselines, baseline
from ..storage.plain_files import write_durably

# Bytes that a record may have.
_MOST_BYTES = 10_000


def assert_beats_baseline(
    model: keras.Model | float,
    x: Any,
    y: Any,
    *,
    margin: float | None = None,
    **arguments: Any,
) -> None:
    """Asserts that a model is clearly better than the simplest models, those of `kp.baseline`.

    All are scored on the same examples, which none of the simple ones was fitted on.

    Args:
        model: A trained model, which is scored on the held-out examples; or its score on held-out
            examples, in the metric of `kp.baseline`: accuracy of classes or labels, R2 of numbers.
        x, y: The examples that the model was trained on, as in `kp.baseline`.
        margin: By how much at least its score must be above the best simple one. Defaults to None:
            by two standard errors of that score, so that chance alone seldom does it.
        **arguments: The other arguments of `kp.baseline`. A model needs `validation_data=`, or the
            `validation_split=` that it was trained with.

    Raises:
        AssertionError: With the scores of all.
        ImportError: If scikit-learn is missing.
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or no examples are held out for a model.

    Example:

    >>> import numpy as np
    >>> from keras_patterns.testing import assert_beats_baseline
    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> y = x.prod(axis=1) > 0
    >>> assert_beats_baseline(0.99, x, y)

    References:
        I. Olkin and J. D. Finn, "Correlations Redux", Psychological Bulletin 118, 1995: the
            standard error of R2.
    """
    caller = "assert_beats_baseline"
    is_model = _keras.has_trainer(model)
    if not is_model:
        check_number(caller, "model", model, least=-math.inf)
    elif arguments.get("validation_data") is None and not arguments.get("validation_split"):
        raise ValueError(
            f"{caller}: a model must be scored on examples that it was not trained on. Give them "
            "as validation_data=(x, y), or the validation_split= of its training."
        )
    if margin is not None:
        margin = check_number(caller, "margin", margin)
    found = baseline(x, y, **arguments)
    score = found.score(model, 256) if is_model else float(model)
    best = found.best
    needed = 2 * _standard_error(found) if margin is None else margin
    if not score > best.score + needed:
        raise AssertionError(
            f"{caller}: the score is {score:.4g}, which is not clearly above the {best.score:.4g} "
            f"of {best.name}: it must be above {best.score + needed:.4g}.\n{found!r}\nLook at "
            "kp.debug(model, x, y), which says why a model learns no more; or stay with the "
            "simpler one."
        )


def _standard_error(found: Baselines) -> float:
    """That of the best score. One of 0 or 1 is taken for half an example off."""
    half = 0.5 / found.examples
    level = min(max(found.best.score, half), 1 - half)
    if found.metric == "R2":
        return 2 * math.sqrt(level / found.examples) * (1 - level)
    return math.sqrt(level * (1 - level) / found.examples)


class _Record(Fields, frozen=True):
    """A score as it lies in a file.

    Attributes:
        format: Of the file.
        score: The mean over some runs.
        spread: The standard deviation of one run.
        runs: How many there were.
        better: Which of two scores is better.
    """

    format: Literal[1]
    score: float
    spread: Annotated[float, Meta(ge=0)]
    runs: Annotated[int, Meta(ge=1, le=10**6)]
    better: Literal["higher", "lower"]


def assert_no_regression(
    score: float | Sequence[float],
    file: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    better: Literal["higher", "lower"] = "higher",
    record: bool = False,
) -> None:
    """Asserts that a score is no worse than the recorded one, by more than its spread explains.

    The first call records it, in a plain file of JSON, and says so: keep that file with the tests.
    Later calls read it only. A score may be worse by twice the standard error of the difference of
    both means, or by `tolerance` if that is more.

    Args:
        score: The score, such as that of a whole pipeline from raw data to a model; or those of
            several runs with other seeds, whose spread is recorded. Of one run the spread is taken
            to be 0: give a `tolerance` unless it comes out the same on each machine.
        file: The record. Its folder must exist.
        tolerance: By how much it may be worse in any case. Defaults to 0.
        better: `"higher"` or `"lower"`. Defaults to `"higher"`.
        record: Whether to record this score in the place of the one in the file, however it is.
            Defaults to False.

    Raises:
        AssertionError: With both scores, and what may have changed.
        TypeError: If an argument is of the wrong type.
        ValueError: If a score is not finite, or the file is no such record; the file stays as it
            is, also with `record=True`.
        OSError: If the file cannot be read or written.

    Example:

    >>> from keras_patterns.testing import assert_no_regression
    >>> assert_no_regression([0.91, 0.93, 0.92], "score.json")  # doctest: +ELLIPSIS
    keras-patterns: score.json: recorded the score 0.92 with a spread of 0.01 over 3 runs...
    >>> assert_no_regression(0.91, "score.json")
    >>> import os; os.remove("score.json")
    """
    caller = "assert_no_regression"
    check_choice(caller, "better", better, ("higher", "lower"))
    allowed = check_number(caller, "tolerance", tolerance)
    now = _record_of(caller, score, better)
    path = bound_path(file)
    before = _read(caller, path)
    if before is None or record:
        _write(path, now)
        say(
            f"{os.fspath(file)}: recorded the score {now.score:.4g} with a spread of "
            f"{now.spread:.2g} over {now.runs} runs. Keep this file with the tests."
        )
        return
    if before.better != better:
        raise ValueError(
            f"{caller}: {path} was recorded with better={before.better!r}. Received: {better!r}."
        )
    error = max(before.spread, now.spread) * math.sqrt(1 / before.runs + 1 / now.runs)
    allowed = max(2 * error, allowed)
    worse = (before.score - now.score) * (1 if better == "higher" else -1)
    # The scores may differ in the last bit from what their sum gives.
    if worse > allowed + 1e-12 * abs(before.score):
        raise AssertionError(
            f"{caller}: the score is {now.score:.6g}; recorded in {path} is {before.score:.6g} "
            f"with a spread of {before.spread:.2g} over {before.runs} runs. It is worse by "
            f"{worse:.3g}, and may be by {allowed:.3g}.\nLook at what changed since in the raw "
            "data, in their preparation, in the model and in the versions of libraries. Pass "
            "record=True once if the new score is meant to be."
        )


def _record_of(caller: str, score: Any, better: Literal["higher", "lower"]) -> _Record:
    values = list(score) if np.ndim(score) else [score]
    if not values:
        raise ValueError(f"{caller}: `score` holds no score. Give one, or those of several runs.")
    values = [check_number(caller, "score", value, least=-math.inf) for value in values]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return _Record(
        format=1, score=float(np.mean(values)), spread=spread, runs=len(values), better=better
    )


def _read(caller: str, path: Path) -> _Record | None:
    """The record in a file; None if there is no file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        if len(data) > _MOST_BYTES:
            raise SchemaError(f"it has more than {_MOST_BYTES:,} bytes")
        value = json.loads(data)
        check_json(value, "the record")
        found: _Record = checked(value, _Record, "the record")
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{caller}: {path} is no record of a score: {error}. It begins with "
            f"{shown(data[:40])}, and was expected to be JSON with format, score, spread, runs and "
            "better. It is left as it is: give another name, or put back the one of your version "
            "control."
        ) from None


def _write(path: Path, record: _Record) -> None:
    """Puts a record into a file, whole or not at all."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        write_durably(partial, [json.dumps(fields, indent=1, allow_nan=False).encode(), b"\n"])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
