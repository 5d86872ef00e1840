"""The trials of a running search: a table on the screen of a terminal, lines in a file."""

import contextlib
import os
import pty
import sys
import threading
import types

import keras
import optuna
import pyte
import pytest

import keras_patterns as kp
from keras_patterns._util.last_lines import has_free_terminal
from keras_patterns.tuning import live, printed, screens
from keras_patterns.tuning.overview import Overview, Watched

pytestmark = pytest.mark.once
COLUMNS, LINES = 70, 16


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Screen:
    """A terminal, and what a person sees on it."""

    def __init__(self):
        self._own, other = pty.openpty()
        self.file = os.fdopen(other, "w")
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        # It reads all the time, as a terminal does: one that nobody reads is full after a while.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._own, 4096)
            except OSError:
                return
            with self._changed:
                self._stream.feed(data)
                self._changed.notify_all()

    @property
    def lines(self):
        """What it shows."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def wait_for(self, *texts):
        """The lines that it shows, once these texts are among them."""

        def shows():
            return all(any(text in line for line in self.lines) for text in texts)

        with self._changed:
            assert self._changed.wait_for(shows, timeout=60), self.lines
            return self.lines

    def bold(self, text):
        """True if a line that has the text is bold there."""
        (row,) = [one for one, line in enumerate(self._screen.display) if text in line]
        return self._screen.buffer[row][self._screen.display[row].index(text)].bold

    def go_away(self):
        """As if the window were closed."""
        self.file.flush()
        os.close(self._own)


@pytest.fixture
def open_screen(monkeypatch):
    """A function that makes standard output a terminal. To be called in the test itself: pytest
    puts its own in place before.
    """
    opened = []

    def opener():
        screen = Screen()
        opened.append(screen)
        monkeypatch.setattr(sys, "stdout", screen.file)
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((COLUMNS, LINES)))
        monkeypatch.setattr(live, "_SECONDS", 0.01)
        monkeypatch.setenv("TERM", "xterm")
        return screen

    yield opener
    for screen in opened:
        with contextlib.suppress(OSError):
            screen.file.close()


def square(trial):
    return trial.suggest_float("x", -1, 1) ** 2


def tuned(objective=square, **how):
    how = {"n_trials": 3, "seed": 0, "sampler": optuna.samplers.RandomSampler, **how}
    return kp.tune(objective, "search", **how)


def test_a_search_stands_in_one_table_below_what_is_printed(open_screen):
    screen = open_screen()
    seen = []

    def objective(trial):
        value = square(trial)
        if trial.number == 2:
            trial.report(0.75, 4)
            trial.report(0.5, 8)
            print("said by [red]trial[/red] 2")
            seen.extend(screen.wait_for("said by", " 8 ", "2 of 3 ended - 1 running"))
        return value

    result = tuned(objective)
    assert seen[0] == "said by [red]trial[/red] 2"
    assert seen[1].split() == ["trial", "state", "steps", "val_loss", "best", "x"]
    x = [one.params["x"] for one in result.trials]
    assert [line.split() for line in seen[3:5]] == [
        [str(number), "complete", f"{x[number] ** 2:.4g}", f"{x[number]:.4g}"] for number in (0, 1)
    ]
    assert seen[5].split() == ["2", "running", "8", "0.5", "0.5", f"{x[2]:.4g}"]
    best = result.best
    last = f"3 of 3 ended - the best is trial {best.number} with {best.value:.6g}"
    lines = screen.wait_for(last)
    assert len([line for line in lines if "complete" in line]) == 3
    assert screen.bold(f"{best.params['x']:.4g}")
    assert sys.stdout is screen.file


def test_a_trial_has_the_state_that_it_is_in(open_screen):
    screen = open_screen()
    seen = []

    class Prunes(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    def objective(trial):
        value = square(trial)
        trial.report(value, 1)
        if trial.should_prune():
            raise optuna.TrialPruned
        if trial.number == 0 and not seen:
            seen.append("left")
            raise kp.TuningError("as if killed")
        if trial.number == 0:
            seen.extend(screen.wait_for("taken over"))
        if trial.number == 2:
            raise ValueError("no such value")
        return value

    with pytest.raises(kp.TuningError, match="as if"):
        tuned(objective, pruner=Prunes(), catch=ValueError)
    tuned(objective, pruner=Prunes(), catch=ValueError)
    lines = screen.wait_for("3 of 3 ended")
    assert [line.split()[:2] for line in lines[-4:-1]] == [
        ["0", "complete"],
        ["1", "pruned"],
        ["2", "failed"],
    ]


def test_of_many_trials_those_in_progress_the_best_and_the_newest_are_shown(open_screen):
    screen = open_screen()
    tuned(lambda trial: float(trial.number), n_trials=30)
    lines = screen.wait_for("30 of 30 ended - the best is trial 0 with 0 - 20 not shown")
    assert [line.split()[0] for line in lines[-11:-1]] == ["0", *map(str, range(21, 30))]


def test_parameters_that_are_named_as_columns_are(open_screen):
    screen = open_screen()
    tuned(lambda trial: trial.suggest_int("best", 7, 7) + trial.suggest_int("state", 5, 5))
    lines = screen.wait_for("3 of 3 ended")
    assert lines[-6].split() == ["trial", "state", "best", "best", "state"]
    assert lines[-4].split() == ["0", "complete", "12", "7", "5"]


def test_a_line_that_is_open_is_not_drawn_over(open_screen):
    screen = open_screen()

    def objective(trial):
        print(f"value {trial.number}: ", end="", flush=True)
        print(1.0)
        return 1.0

    tuned(objective)
    lines = screen.wait_for("3 of 3 ended")
    assert [line for line in lines if "value" in line] == [f"value {n}: 1.0" for n in range(3)]


def test_a_terminal_that_goes_away_takes_nothing_with_it(open_screen):
    screen = open_screen()

    def objective(trial):
        if trial.number == 1:
            screen.go_away()
        print("said to nobody", flush=True)
        return 1.0

    assert [one.state for one in tuned(objective).trials] == ["complete"] * 3


def test_a_storage_that_cannot_be_read_leaves_the_table_as_it_is(open_screen, monkeypatch):
    screen = open_screen()

    def down(*_):
        raise OSError("the storage is down")

    def objective(trial):
        screen.wait_for("1 running")
        monkeypatch.setattr(Watched, "look", down)
        return 1.0

    assert len(tuned(objective, n_trials=1).trials) == 1
    assert sys.stdout is screen.file
    print("said after it", flush=True)
    assert screen.wait_for("said")[-2:] == ["0 of 1 ended - 1 running", "said after it"]


def test_what_a_worker_prints_stands_above_the_table(open_screen, monkeypatch):
    screen = open_screen()
    monkeypatch.setattr(os, "isatty", lambda _: True)
    terminal = screens.Terminal(sys.stdout)
    overview = Overview(["trial"], [["0"]], None, "0 of 1 ended")
    terminal.show(overview)
    with terminal.starts_workers():
        inherited = os.dup(1)
    os.write(inherited, b"one\ntwo\nthr")
    terminal.show(overview)
    assert screen.wait_for("two", "0 of 1 ended")[:2] == ["one", "two"]
    os.write(inherited, b"ee")
    terminal.close(overview)
    os.close(inherited)
    assert screen.wait_for("three")[:3] == ["one", "two", "three"]


def test_lines_in_a_file(capsys):
    class Prunes(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    calls = []

    def objective(trial):
        calls.append(trial.number)
        if calls == [0]:
            raise kp.TuningError("as if killed")
        trial.report(1.0, 1)
        if trial.suggest_categorical("of", ["a"]) and trial.should_prune():
            raise optuna.TrialPruned
        return 0.5

    with pytest.raises(kp.TuningError, match="as if"):
        tuned(objective, pruner=Prunes(), n_trials=2)
    tuned(objective, pruner=Prunes(), n_trials=2)
    assert capsys.readouterr().out.splitlines() == [
        f"keras-patterns: trial {line}"
        for line in (
            "0 begins.",
            "0 was left in its middle; it goes on.",
            "0 (of=a) ended with 0.5; the best is trial 0 with 0.5.",
            "1 begins.",
            "1 (of=a) pruned; the best is trial 0 with 0.5.",
        )
    ]


@pytest.mark.parametrize("verbose", [0, "auto"])
def test_nothing_is_shown_where_nobody_wants_it(verbose, open_screen):
    screen = open_screen()
    if verbose:
        keras.config.disable_interactive_logging()
    try:
        tuned(verbose=verbose)
    finally:
        keras.config.enable_interactive_logging()
    print("end", flush=True)
    assert screen.wait_for("end") == ["end"]


def test_a_notebook_gets_a_table(monkeypatch, capsys):
    shown = []
    shell = types.SimpleNamespace(kernel=object())
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: shell
    package.display = types.ModuleType("IPython.display")
    package.display.display = lambda table, display_id: (
        shown.append(table) or types.SimpleNamespace(update=shown.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", package.display)
    tuned()
    page = shown[-1]._repr_html_()
    assert page.count(">complete</td>") == 3
    assert "3 of 3 ended" in page
    assert capsys.readouterr().out == ""


def test_an_interrupt_while_a_search_waits_for_its_table_gives_the_terminal_back(
    open_screen, monkeypatch
):
    screen = open_screen()
    answers, before = threading.Event(), threading.Thread.join
    tables = []

    def interrupted(thread, timeout=None):
        if thread.name != "keras-patterns trials":
            return before(thread, timeout)
        tables.append(thread)
        raise KeyboardInterrupt

    def objective(trial):
        lines = screen.wait_for("1 running")
        # The storage hangs.
        monkeypatch.setattr(
            Watched, "look", lambda *_: answers.wait() and Overview(["late"], [lines], None, "late")
        )
        monkeypatch.setattr(threading.Thread, "join", interrupted)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        tuned(objective, n_trials=1)
    assert sys.stdout is screen.file
    assert has_free_terminal()
    answers.set()
    before(tables[0])
    print("said after it", flush=True)
    assert screen.wait_for("said")[-2:] == ["0 of 1 ended - 1 running", "said after it"]


@pytest.fixture
def workers_file():
    """What workers print into, and its end that they have."""
    held = printed.Printed()
    yield held, held._file.fileno()
    held.close()


@pytest.mark.parametrize("is_end", [False, True])
def test_what_workers_print_is_not_cut_inside_a_line(monkeypatch, is_end, workers_file):
    monkeypatch.setattr(printed, "_READ_BYTES", 16)
    held, file = workers_file
    said = "".join(f"{'é' * length}\n" for length in (3, 6, 5, 2))
    os.write(file, said.encode())
    taken = []
    while text := held.take(is_end):
        taken.append(text)
    assert "".join(taken) == said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give no part of a file back")
def test_what_workers_have_printed_is_not_kept_on_the_disk(workers_file):
    held, file = workers_file
    line = b"x" * 4999 + b"\n"
    for _ in range(100):
        os.write(file, line)
        assert held.take(is_end=False).encode() == line
    # In blocks of 512 bytes.
    assert os.fstat(file).st_blocks * 512 <= 2 * len(line)


def test_workers_that_print_more_than_anybody_reads_do_not_fill_the_disk(monkeypatch, workers_file):
    monkeypatch.setattr(printed, "_READ_BYTES", 8)
    monkeypatch.setattr(printed, "_MOST_BYTES", 64)
    held, file = workers_file
    os.write(file, b"first\n" * 100 + b"a\n" * 4)
    assert held.take(is_end=False) == "... 600 bytes of the workers' output are left out ...\n"
    assert held.take(is_end=False) == "a\na\na\na\n"
