"""Progress on a terminal, in a file and in a notebook."""

import io
import os
import re
import sys
import types

import keras
import pytest

from keras_patterns._util.display import Shown
from keras_patterns._util.messages import say
from keras_patterns._util.progress import Progress, duration, time_per_step
from keras_patterns._util.step_counter import StepCounter

pytestmark = pytest.mark.once

HALF = Progress("Epoch 1/2", 5, 10, ("5s", "1.0s/step"), {"loss": 0.5})
WHOLE = Progress("Epoch 1/2", 10, 10, ("10s", "1.0s/step"), {"loss": 0.25})


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Terminal(io.TextIOWrapper):
    """Stands for a terminal, and keeps what is written to it."""

    def __init__(self):
        super().__init__(io.BytesIO(), "utf-8", write_through=True)

    def isatty(self):
        return True

    @property
    def text(self):
        return self.buffer.getvalue().decode()


@pytest.fixture
def open_terminal(monkeypatch):
    """A function that makes standard output a terminal. To be called in the test itself: pytest
    puts its own in place before.
    """

    def opened():
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setenv("TERM", "xterm")
        return out

    return opened


def lines_seen(text):
    """What a terminal shows of a text in the end: a line that is erased begins anew."""
    return [re.split(r"\r\x1b\[2K", line)[-1] for line in text.split("\n")]


def test_a_bar_stands_in_the_last_line_of_a_terminal(open_terminal):
    terminal = open_terminal()
    shown = Shown("auto")
    shown.show(lambda: HALF)
    bar = lines_seen(terminal.text)[-1]
    assert bar == f"Epoch 1/2 {'━' * 10}{'─' * 10}  5/10 - 5s - 1.0s/step - loss: 0.5000"
    shown.close()


def test_the_end_of_a_part_stays_on_the_terminal(open_terminal):
    terminal = open_terminal()
    shown = Shown("auto")
    shown.show(lambda: HALF)
    shown.finish(WHOLE)
    assert lines_seen(terminal.text) == ["Epoch 1/2: 10/10 - 10s - 1.0s/step - loss: 0.2500", ""]
    shown.close()


def test_messages_and_prints_stand_above_the_bar(open_terminal):
    terminal = open_terminal()
    shown = Shown("auto")
    shown.show(lambda: HALF)
    say("thawed.")
    print("printed by a callback")
    shown.show(lambda: HALF)
    *above, bar = lines_seen(terminal.text)
    assert above == ["keras-patterns: thawed.", "printed by a callback"]
    assert bar.startswith("Epoch 1/2 ━")
    shown.close()


def test_the_bar_waits_for_the_end_of_a_line_that_is_open(open_terminal):
    terminal = open_terminal()
    shown = Shown("auto")
    sys.stdout.write("before it was opened\n")
    shown.show(lambda: HALF)
    print("(Pdb) ", end="", flush=True)
    shown.show(lambda: HALF)
    assert lines_seen(terminal.text)[-1] == "(Pdb) "
    print("continue")
    shown.show(lambda: HALF)
    assert lines_seen(terminal.text)[-1].startswith("Epoch 1/2 ━")
    shown.close()


def test_the_terminal_is_given_back_without_a_bar(open_terminal):
    terminal = open_terminal()
    shown = Shown("auto")
    shown.show(lambda: HALF)
    assert sys.stdout is not terminal
    shown.close()
    assert sys.stdout is terminal
    assert lines_seen(terminal.text) == [""]


def test_a_bar_is_no_longer_than_the_terminal_is_wide(open_terminal, monkeypatch):
    terminal = open_terminal()
    monkeypatch.setattr(terminal, "fileno", lambda: 1, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 24)))
    shown = Shown("auto")
    wide = Progress("Epoch 1/2", 5, 10, (), {"雪" * 30: 0.5})
    shown.show(lambda: wide)
    assert len(lines_seen(terminal.text)[-1].replace("雪", "##")) < 40
    shown.close()


def test_a_terminal_of_ascii_gets_a_bar_of_ascii(open_terminal):
    terminal = open_terminal()
    sys.stdout.reconfigure(encoding="ascii", errors="strict")
    shown = Shown("auto")
    shown.show(lambda: Progress("Epoch 1/2", 5, 10, (), {"lößung": 0.5}))
    shown.finish(Progress("Epoch 1/2", 10, 10, (), {"lößung": 0.5}))
    text = terminal.text
    assert f"{'=' * 10}{'-' * 10}" in text
    assert "l\\xf6\\xdfung: 0.5000" in text
    shown.close()


def test_a_bar_moves_less_often_where_moving_takes_long(open_terminal, clock):
    open_terminal()
    shown = Shown("auto", clock=clock)

    def slow():
        clock.now += 1.0
        return HALF

    shown.show(slow)
    assert not shown.is_due(clock.now + 49)
    assert shown.is_due(clock.now + 51)
    shown.close()


@pytest.mark.parametrize("setting", [{"TERM": "dumb"}, {"taken": True}])
def test_a_terminal_that_cannot_show_a_bar_gets_lines(open_terminal, setting, monkeypatch):
    terminal = open_terminal()
    if "TERM" in setting:
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(sys.stdout, "rich_proxied_file", None, raising=False)
    shown = Shown("auto")
    shown.finish(WHOLE)
    assert terminal.text == "Epoch 1/2: 10/10 - 10s - 1.0s/step - loss: 0.2500\n"


def test_a_file_gets_a_line_a_minute(capsys, clock):
    shown = Shown("auto", clock=clock)
    for _ in range(200):
        if shown.is_due(clock.now):
            shown.show(lambda: HALF)
        clock.now += 1.0
    line = "Epoch 1/2:  5/10 - 5s - 1.0s/step - loss: 0.5000"
    assert capsys.readouterr().out.splitlines() == [line] * 3


def test_a_file_gets_a_line_for_each_part(capsys):
    shown = Shown("auto", parts=50)
    for _ in range(50):
        shown.finish(WHOLE)
    assert len(capsys.readouterr().out.splitlines()) == 50


def test_a_file_gets_some_of_many_parts_and_the_last(capsys):
    shown = Shown("auto", parts=1234)
    for part in range(1234):
        shown.finish(Progress(f"Epoch {part}", 1, 1, is_last=part == 1233))
    lines = capsys.readouterr().out.splitlines()
    assert 40 <= len(lines) <= 51
    assert lines[-1] == "Epoch 1233: 1/1"


def test_a_file_gets_each_of_many_parts_that_take_a_minute(capsys, clock):
    shown = Shown("auto", parts=1000, clock=clock)
    shown.begin("")
    for _ in range(5):
        clock.now += 61
        shown.finish(WHOLE)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_the_lines_of_verbose_2_are_those_of_keras(capsys):
    shown = Shown(2)
    shown.begin("Epoch 1/2")
    assert not shown.is_due(1e9)
    shown.finish(WHOLE)
    assert capsys.readouterr().out == "Epoch 1/2\n10/10 - 10s - 1.0s/step - loss: 0.2500\n"


@pytest.mark.parametrize("verbose", [0, "auto"])
def test_nothing_is_shown_where_nobody_wants_it(verbose, capsys):
    shown = Shown(verbose)
    if verbose:
        keras.config.disable_interactive_logging()
    try:
        shown.begin("Epoch 1/2")
        shown.show(lambda: HALF)
        shown.finish(WHOLE)
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr().out == ""


class Notebook:
    """Stands for a notebook: keeps what is displayed."""

    def __init__(self, monkeypatch):
        self.shown = []
        shell = types.SimpleNamespace(kernel=object())
        package = types.ModuleType("IPython")
        package.get_ipython = lambda: shell
        package.display = types.ModuleType("IPython.display")
        package.display.display = self.display
        monkeypatch.setitem(sys.modules, "IPython", package)
        monkeypatch.setitem(sys.modules, "IPython.display", package.display)

    def display(self, table, display_id):
        assert display_id
        self.shown.append(table)
        return types.SimpleNamespace(update=self.shown.append)


def test_a_notebook_gets_a_table_that_grows(monkeypatch, capsys):
    notebook = Notebook(monkeypatch)
    shown = Shown("auto", parts=2)
    shown.show(lambda: HALF)
    shown.finish(WHOLE)
    shown.show(lambda: Progress("Epoch 2/2", 1, 10, ("1s",), {"loss": 0.2, "<b>": 1.0}))
    assert [str(table).count("\n") - 1 for table in notebook.shown] == [1, 1, 2]
    page = notebook.shown[-1]._repr_html_()
    assert page.count("<tr>") == 3
    row = page.rpartition("<tr>")[2]
    assert re.findall(">([^<]+)</td>", row) == ["Epoch 2/2", "1/10", "1s", "0.2000", "1.0000"]
    # Words on the left, numbers as the notebook has them.
    assert row.count('<td style="text-align:left">') == 3
    assert "&lt;b&gt;" in page
    assert capsys.readouterr().out == ""


def test_a_table_keeps_the_newest_rows_of_many(monkeypatch):
    notebook = Notebook(monkeypatch)
    shown = Shown("auto", parts=500)
    for part in range(500):
        shown.finish(Progress(f"Epoch {part}", 1, 1))
    rows = str(notebook.shown[-1]).splitlines()[2:]
    assert len(rows) == 51
    assert rows[-1].startswith("Epoch 499")


def test_a_counter_writes_one_line_into_a_file(capsys):
    with StepCounter(300, "auto") as counter:
        for step in range(300):
            counter.update(step + 1, {"step": step, "loss": 0.5})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("300/300 - 0s - ")
    assert line.endswith(" - step: 299 - loss: 0.5000")


def test_a_counter_that_stops_early_says_where(capsys):
    with StepCounter(300, "auto") as counter:
        counter.update(7)
    assert capsys.readouterr().out.startswith("  7/300 - ")


def test_a_counter_that_counts_nothing_writes_nothing(capsys):
    with StepCounter(300, "auto"):
        pass
    assert capsys.readouterr().out == ""


def test_names_of_metrics_show_their_control_characters(capsys):
    Shown("auto").finish(Progress("", 1, 1, (), {"\x1b[2Jloss": 1.0}))
    assert capsys.readouterr().out == "1/1 - \\x1b[2Jloss: 1.0000\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "60s"), (61, "1:01"), (3661, "1:01:01")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s/step"), (2.5e-4, "250us/step"), (0.05, "50ms/step")]
)
def test_times_of_a_step(seconds, text):
    assert time_per_step(seconds) == text
