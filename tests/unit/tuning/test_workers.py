"""Processes that work on one search, without any that is started."""

import types

import pytest

from keras_patterns.tuning import workers
from keras_patterns.tuning.opening import SearchArguments

pytestmark = pytest.mark.once


class Killed:
    """A process that the system has killed."""

    exitcode, pid = -9, None

    def __init__(self, target, args, name):
        self.name, self.given = name, args

    def start(self):
        """It has ended at once."""


@pytest.mark.parametrize(("verbose", "said"), [("auto", "worker 0 was killed (-9)"), (0, "")])
def test_a_worker_that_was_killed_is_named_beside_a_table_too(monkeypatch, capsys, verbose, said):
    context = types.SimpleNamespace(Process=Killed)
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda way: context)
    monkeypatch.setattr(workers, "_wait", lambda processes: None)
    asked = SearchArguments("kp.tune", print, "search", None, verbose=verbose)
    # The table says nothing in lines.
    search = types.SimpleNamespace(seed=1, verbose=0, has_more=lambda: False)
    workers.run_workers(asked, 1, None, search)
    out = capsys.readouterr().out
    assert said in out if said else out == ""
