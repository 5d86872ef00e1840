"""The child process of `keras-patterns preflight`: runs a script up to its first call of `fit`.

It reads one line of JSON and writes a report into a file. At the call the process ends at once:
what the script would do after it, also in `finally` and at exit, does not happen.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import keras
import numpy as np

from keras_patterns.backends import current

from .._util.messages import first_line
from ..debugging import Findings, check_kinds, preflight, steps_asked
from ..run import fitting
from ..run.run import Run

_FIT = inspect.signature(keras.Model.fit)
_OURS = Run.__module__.partition(".")[0]


def main() -> None:
    """Runs the script as the main program, and reports."""
    asked = json.load(sys.stdin)
    script, report = asked["script"], partial(_report, Path(asked["report"]))
    try:
        check_kinds("preflight", "--skip", asked["skip"])
    except ValueError as error:
        report(problem=str(error))
    _intercept(asked["skip"], report)
    sys.argv = [script, *asked["arguments"]]
    # Where Python puts the folder of the script that it is given.
    sys.path[0 : 0 if sys.flags.safe_path else 1] = [os.path.dirname(os.path.abspath(script))]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        report(problem=f"the script ended with exit code {end.code!r}, and had not called fit")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _show(error, script)
        report(problem=f"the script raised before it called fit: {first_line(error)}")
    report(
        problem="the script came to its end and had not called kp.fit or model.fit. For a loop of "
        "its own, call kp.preflight(model, x, y) in it"
    )


def _intercept(skip: list[str], report: Callable[..., NoReturn]) -> None:
    """Puts an examination in the place of all calls that train."""
    real = keras.Model.fit

    def examined_fit(model: keras.Model, *arguments: Any, **named: Any) -> Any:
        # The finder and others train with it, and leave the model as it was.
        if _is_ours(sys._getframe(1)):
            return real(model, *arguments, **named)
        given = _FIT.bind(model, *arguments, **named).arguments
        _examine("model.fit", model, given, skip, report)

    def examined_call(
        model: keras.Model, fuse: Any, preflight: Any, verbose: Any, length: Any, *data: Any
    ) -> None:
        names = (*fitting.LENGTH, *fitting.DATA)
        given = dict(zip(names, (*length, *data), strict=True))
        _examine("kp.fit", model, given, skip, report)

    def examined_run(run: Run) -> NoReturn:
        report(
            call=_place("kp.Run"),
            problem="kp.Run trains in a loop of the script's own, whose loss is not known. Call "
            "kp.preflight(model, x, y) in the script",
        )

    keras.Model.fit = examined_fit
    fitting.check_call = examined_call
    Run.__enter__ = examined_run  # type: ignore[method-assign]


def _examine(
    name: str,
    model: keras.Model,
    given: dict[str, Any],
    skip: list[str],
    report: Callable[..., NoReturn],
) -> NoReturn:
    call = _place(name)
    data = {part: given[part] for part in fitting.DATA if given.get(part) is not None}
    x = data.pop("x", None)
    if given.get("class_weight") is not None:
        # Who weights the classes knows that they are uneven.
        skip = [*skip, "imbalance"]
    steps = steps_asked(x, {"epochs": 1, **given})
    try:
        found = preflight(model, x, data.pop("y", None), total_steps=steps, skip=skip, **data)
    except Exception as error:
        if not _is_ours(_last_frame(error)):
            traceback.print_exc()
        report(call=call, problem=f"kp.preflight could not look at it: {first_line(error)}")
    report(call=call, findings=found)


def _place(name: str) -> dict[str, Any]:
    """The line of the script, or of what it imports, that called."""
    frame: FrameType | None = sys._getframe(1)
    while frame and (_is_ours(frame) or _package(frame) == "keras"):
        frame = frame.f_back
    return {
        "function": name,
        "file": frame.f_code.co_filename if frame else None,
        "line": frame.f_lineno if frame else None,
    }


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_ours(frame: FrameType) -> bool:
    # This module bears the name of the main program.
    return _package(frame) == _OURS or frame.f_globals is globals()


def _last_frame(error: BaseException) -> FrameType:
    trace = error.__traceback__
    assert trace
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame


def _show(error: BaseException, script: str) -> None:
    """Prints a traceback as Python does, from the script's first line on."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)


def _report(
    path: Path,
    call: dict[str, Any] | None = None,
    findings: Findings | None = None,
    problem: str | None = None,
) -> NoReturn:
    """Writes the report, and ends the process without another line of the script."""
    found = {
        "call": call,
        "findings": [
            {
                "kind": one.kind,
                "severity": one.severity,
                "message": one.message,
                "evidence": {name: _plain(value) for name, value in one.evidence.items()},
                "remedy": one.remedy,
                "because_of": list(one.because_of),
            }
            for one in findings or ()
        ],
        "worst": findings.worst if findings else None,
        "problem": problem and problem.rstrip("."),
        "text": None if findings is None else repr(findings),
    }
    path.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(0)


def _plain(value: Any) -> Any:
    """A value as JSON knows it; a number that is not finite as text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)


if __name__ == "__main__":
    current()
    main()
