"""Runs programs, each in a fork of this process, which has imported what takes long: `python
run_server.py`, with a JSON object a line on the standard input.

An object names the `script` and its `arguments`, the `folder` to run it in and the files for
`output` and `errors`. The answer is a line with the exit status, minus the number of the signal
that killed it. Nothing has been computed in this process: what a fork inherits is imported code.
"""

import gc
import json
import os
import runpy
import sys
import warnings
from typing import Any

import run_case  # noqa: F401


def serve() -> dict[str, Any] | None:
    """Answers until the input ends; in a fork, returns what it is to run."""
    # So that no fork looks through, and thereby copies, what it has inherited.
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        with warnings.catch_warnings():
            # Some frameworks warn of forks, for the sake of threads that are not there yet.
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def become(request: dict[str, Any]) -> None:
    """Runs it as if this process had been started for it."""
    os.chdir(request["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in ((1, request["output"]), (2, request["errors"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = [request["script"], *request["arguments"]]
    runpy.run_path(request["script"], run_name="__main__")


if __name__ == "__main__":
    if asked := serve():
        become(asked)
