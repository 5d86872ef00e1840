"""`keras-patterns report`: what its page holds, and what it keeps out of it."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import PROCESSES, a_history, write_run
from sweeps import descent, made, noise

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.cli.reporting import command
from keras_patterns.cli.reporting.curves import thin
from keras_patterns.cli.reporting.page import MARK, make_page
from keras_patterns.cli.reporting.reading import FolderFacts, RunFacts, read_folder_facts

pytestmark = pytest.mark.once

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\ud800\x1b[31m&amp;"


class Page(HTMLParser):
    """The elements and the text of a page, as a browser reads them."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.scripts, self.words = [], [], [], []
        self.source, self.is_script = source, False
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.is_script = tag == "script"
        if self.is_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.is_script = False

    def handle_data(self, data):
        if self.is_script:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs the command on folders of this test, and reads the page."""
    monkeypatch.chdir(tmp_path)

    def run(*folders, code=0):
        assert main(["report", *map(str, folders), "-o", "report.html"]) == code
        return Page((tmp_path / "report.html").read_text(encoding="utf-8")) if not code else None

    return run


def series_of(page, title, kind, run=0):
    (chart,) = (one for one in page.data["metrics"] + page.data["rates"] if one["title"] == title)
    (found,) = (one for one in chart["series"] if (one["kind"], one["run"]) == (kind, run))
    return found


def test_the_curves_are_those_of_the_history(tmp_path, report):
    write_run(tmp_path / "run")
    page, history = report("run"), a_history()
    training = series_of(page, "loss", "training")
    assert training["x"] == history["epoch_end_steps"]
    assert training["y"] == pytest.approx(history["history"]["loss"], rel=1e-5)
    validation = series_of(page, "loss", "validation")
    assert validation["y"] == pytest.approx(history["history"]["val_loss"], rel=1e-5)
    inside = series_of(page, "loss", "running")
    assert inside["x"] == list(range(5, 101, 5))
    rates = series_of(page, "learning rate", "rate")
    assert rates["y"] == pytest.approx(history["learning_rates"], rel=1e-5)
    momentums = series_of(page, "momentum", "momentum")
    assert momentums["y"] == pytest.approx(history["momentums"], rel=1e-5)


def test_events_resumes_and_the_best_step_are_marked_and_in_words(tmp_path, report):
    write_run(tmp_path / "run")
    page = report("run")
    marks = [(mark["x"], mark["kind"]) for mark in page.data["marks"]]
    assert marks == [(25, "rolled back"), (40, "resumed"), (60, "thawed")]
    (loss,) = page.data["metrics"]
    values = a_history()["history"]["val_loss"]
    best = int(np.argmin(values))
    assert loss["best"][0]["x"] == 10 * (best + 1)
    assert "the loss is not finite" in page.text
    assert "block5_*" in page.text


def test_processes_and_what_they_changed_are_listed(tmp_path, report):
    write_run(tmp_path / "run")
    page = report("run")
    for words in ("40 to 100", "torch 2", "two", *PROCESSES[1]["changed"]):
        assert words in page.text


def test_checkpoints_have_their_sizes(tmp_path, report):
    store = write_run(tmp_path / "run")
    page = report("run")
    for entry in store.entries():
        size = sum(file.stat().st_size for file in entry.folder.iterdir())
        assert f"{size:,}" in page.words
    assert "val_loss 0.01" in page.words


def test_a_run_of_model_fit_has_epochs_of_one_length(tmp_path, report):
    history = {
        "history": {"loss": [3.0, 2.0, 1.0, 0.5], "val_loss": [2.0, 1.0]},
        "epoch": [*range(4)],
    }
    write_run(tmp_path / "run", history=history)
    page = report("run")
    assert series_of(page, "loss", "training")["x"] == [25, 50, 75, 100]
    assert "val_loss has 2 values in 4 epochs" in page.text


def test_several_runs_stand_side_by_side(tmp_path, report):
    write_run(tmp_path / "a", seed=3)
    write_run(tmp_path / "b", steps=50, total_steps=80, seed=4)
    page = report("a", "b")
    assert [run["label"] for run in page.data["runs"]] == ["a", "b"]
    assert series_of(page, "loss", "training", 1)["x"][-1] == 50
    assert "not finished" in page.text
    # What differs stands before what is the same.
    assert page.text.index("3 (drawn)") < page.text.index("made with keras")


def test_phases_are_runs_of_their_own(tmp_path, report):
    write_run(tmp_path / "run" / "phase-head")
    write_run(tmp_path / "run" / "phase-all")
    labels = [run["label"] for run in report("run").data["runs"]]
    assert labels == ["run · head", "run · all"]


def test_a_sweep_and_a_diagnosis_are_shown(tmp_path, report):
    write_run(tmp_path / "run")
    sweep = made(descent())
    assert sweep.save(tmp_path / "run") == tmp_path / "run" / "sweep.json"
    diagnosis = kp.diagnose({"loss": [1.0, 0.5, 0.3, 0.2, 0.1, 0.09, 0.08]})
    diagnosis.save(tmp_path / "run")
    page = report("run")
    (drawn,) = page.data["sweeps"]
    assert drawn["series"][0]["y"] == pytest.approx(sweep.losses, rel=1e-5)
    assert {mark["kind"] for mark in drawn["marks"]} == set(sweep.suggestions())
    assert f"{sweep.suggest():.2e}" in page.text
    assert diagnosis.observations[0].message in page.text


def test_a_sweep_of_which_nothing_can_be_read_off_says_why(tmp_path, report):
    losses = noise(0)
    losses[-1] = np.inf
    made(losses).save(tmp_path / "run")
    page = report("run")
    assert "The loss never falls" in page.text
    assert page.data["sweeps"][0]["series"][0]["odd"] == [[1.0, "inf"]]


def test_a_loss_that_is_not_finite_stands_at_its_rate(tmp_path, report):
    losses = descent()
    losses[-10] = np.nan
    sweep = made(losses)
    sweep.save(tmp_path / "run")
    (drawn, *_) = report("run").data["sweeps"][0]["series"]
    assert drawn["odd"] == [[sweep.rates[-10], "nan"]]


def test_a_sweep_with_fewer_rates_than_losses_is_named(tmp_path, report):
    path = made(descent()).save(tmp_path / "run")
    path.write_text(json.dumps({**json.loads(path.read_text()), "rates": [0.1]}))
    assert "sweep.json: expected as many losses, and smoothed ones, as rates" in report("run").text


@pytest.mark.parametrize("state", [3, "a", []])
def test_a_history_that_is_none_is_named(tmp_path, report, state):
    write_run(tmp_path / "run", history=state)
    assert "RunHistory: expected names, received" in report("run").text


def test_saving_again_replaces_the_older_result(tmp_path):
    made(descent(0)).save(tmp_path)
    made(descent(1)).save(tmp_path)
    found = read_folder_facts(str(tmp_path)).sweep
    assert found.losses == descent(1).tolist()
    assert os.listdir(tmp_path) == ["sweep.json"]


def test_saving_never_replaces_what_is_no_result(tmp_path):
    (tmp_path / "sweep.json").write_text('{"mine": 1}')
    with pytest.raises(kp.StoreError, match=r"a file of this name is there .* Move it away"):
        made(descent()).save(tmp_path)
    assert (tmp_path / "sweep.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rates": 3}', "[" * 99_999, '{"a": 1e999}', "\ud800"]
)
def test_a_damaged_result_is_named_on_the_page(tmp_path, report, content):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "sweep.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    page = report("run")
    assert "Could not be read" in page.text
    assert "sweep.json" in page.text
    assert page.data["sweeps"] == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_shown(tmp_path, report):
    store = write_run(tmp_path / "run")
    manifest = store.latest().folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"jax", b"jex"))
    page = report("run")
    assert page.data["runs"][0]["step"] == 50
    assert "run-1-step-000000100" in page.text


def evil_history():
    history = a_history()
    history["history"][EVIL] = [float(index) for index in range(10)]
    history["history"]["val_loss"] = [{"$float": "nan"}] * 9 + [{"$float": "inf"}]
    history["validations"] = []
    history["history"]["vector"] = [[1.0, 2.0]] * 10
    history["history"]["huge"] = [10**400] * 10
    history["events"] = [{"kind": EVIL, "step": 20, "text": EVIL * 1000}]
    return json.loads(json.dumps(history).replace("\\ud800", "?"))


def test_hostile_contents_are_text(tmp_path, report):
    processes = [{"host": EVIL[:60], "changed": [EVIL[:60]], "first_step": {}, "seconds": "x"}]
    callbacks = {EVIL[:62]: {"a": [EVIL[:62]]}}
    write_run(tmp_path / "run", history=evil_history(), processes=processes, callbacks=callbacks)
    page = report("run")
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "alert(1)" in page.text
    assert "\x1b" not in page.source
    assert "\u2028" not in page.source
    assert len(page.source) < 500_000
    names = [chart["title"] for chart in page.data["metrics"]]
    assert any(name.startswith("</script>") for name in names)
    assert {one for _, one in series_of(page, "loss", "validation")["odd"]} == {"nan", "inf"}
    assert "vector is no single number" in page.text


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_no_text_leaves_its_place(words):
    run = RunFacts(words, history={**a_history(), "events": [_event(words)]}, identity=_identity())
    page = Page(make_page([FolderFacts(words, [run])]))
    assert page.tags.count("script") == 3
    assert page.data["runs"][0]["label"] == words
    assert html.escape("<") not in page.scripts[0]


def _event(words):
    return {"kind": words, "step": 1, "text": words}


def _identity():
    return {"total_steps": 100, "steps_per_epoch": 10, "seed": 0}


def test_only_its_own_script_and_style_run(tmp_path, report):
    write_run(tmp_path / "run")
    page = report("run")
    (policy,) = (value for name, value in page.attributes if value and "default-src" in value)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    style = re.search("<style>(.*?)</style>", page.source, re.S)[1]
    for source in (*page.scripts[1:], style):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    # The licence and the library's banner name an address; nothing is loaded from one.
    assert not [value for name, value in page.attributes if name in ("src", "href")]


def test_of_a_long_run_no_spike_is_lost_and_the_page_says_so(tmp_path):
    values = np.linspace(2.0, 1.0, 100_000)
    values[54_321] = 77.0
    history = {**a_history(100_000, 1_000), "events": []}
    history["step_logs"] = [
        {"step": step, **{name: float(value) for name in "abcd"}}
        for step, value in enumerate(values)
    ]
    run = RunFacts("long", step=100_000, history=history, identity=_identity())
    page = make_page([FolderFacts("long", [run])])
    assert len(page) < 3_000_000
    (drawn,) = (one for one in Page(page).data["metrics"] if one["title"] == "a")
    assert 77.0 in drawn["series"][0]["y"]
    assert len(drawn["series"][0]["y"]) < 10_000
    assert "no spike is lost" in page


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=300), st.integers(2, 40))
def test_thinning_keeps_the_ends_the_extremes_and_a_sign_of_gaps(values, most):
    values = np.array(values)
    kept = thin(values, most)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    finite = values[np.isfinite(values)]
    if finite.size:
        assert {finite.min(), finite.max()} <= set(values[kept])
    assert np.isfinite(values).all() == np.isfinite(values[kept]).all()
    assert len(kept) <= max(most, 3 * (most // 2) + 2)


def test_an_older_report_is_replaced_and_another_file_never(tmp_path, report, capsys):
    write_run(tmp_path / "run")
    report("run")
    report("run")
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".report")]
    (tmp_path / "report.html").write_text("<!doctype html>\nmine")
    report("run", code=2)
    assert "a file that is no report is there" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "<!doctype html>\nmine"


@pytest.mark.parametrize(
    ("folder", "what"), [("none", "no such folder"), (".", "nothing to report on")]
)
def test_a_folder_without_a_run_is_an_error(report, capsys, folder, what):
    report(folder, code=2)
    assert what in capsys.readouterr().err


def test_watch_follows_a_run_to_its_end(tmp_path, monkeypatch):
    out, pages = tmp_path / "report.html", []

    def sleep(seconds):
        pages.append(Page(out.read_text(encoding="utf-8")))
        steps = 50 * (len(pages) - 1)
        if len(pages) > 1:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            write_run(tmp_path / "run", steps=steps, total_steps=100)

    monkeypatch.setattr(command.time, "sleep", sleep)
    command_line = ["report", str(tmp_path / "run"), "-o", str(out), "--watch", "--every", "2"]
    assert main(command_line) == 0
    last = Page(out.read_text(encoding="utf-8"))
    assert [page.data["reload"] for page in pages] == [2.0, 2.0, 2.0]
    assert "there is no checkpoint yet" in pages[0].text
    assert pages[-1].data["runs"][0]["step"] == 50
    assert (last.data["reload"], last.data["runs"][0]["step"]) == (None, 100)


def test_a_watch_keeps_what_it_has_seen_of_a_folder_that_goes_away(tmp_path, monkeypatch):
    seen = []

    def sleep(seconds):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        seen.append(Page(out.read_text(encoding="utf-8")))
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    write_run(tmp_path / "run", steps=50, total_steps=100)
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(out), "--watch"]) == 130
    seen.append(Page(out.read_text(encoding="utf-8")))
    assert [[run["step"] for run in page.data["runs"]] for page in seen] == [[50]] * 3


def test_a_watch_replaces_no_file_that_has_got_the_name_meanwhile(tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    monkeypatch.setattr(command.time, "sleep", lambda seconds: out.write_text("mine"))
    write_run(tmp_path / "run", steps=50, total_steps=100)
    assert main(["report", str(tmp_path / "run"), "-o", str(out), "--watch"]) == 2
    assert out.read_text() == "mine"


def test_a_watch_that_is_interrupted_leaves_a_page_that_does_not_reload(tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupt)
    write_run(tmp_path / "run", steps=50, total_steps=100)
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(out), "--watch"]) == 130
    assert Page(out.read_text(encoding="utf-8")).data["reload"] is None


def test_the_mark_is_the_beginning_of_every_page():
    assert make_page([FolderFacts("empty")]).startswith(MARK)


@pytest.mark.parametrize(
    "name",
    [
        *("Baselines", "BatchSizeReport", "CheckpointSelection", "DebugReport", "Diagnosis"),
        *("Findings", "LearningCurve", "LearningRateSweep", "LoadReport", "MemorizationReport"),
        *("OverfitReport", "ParameterCounts", "TrainableTable", "TuneResult"),
    ],
)
def test_report_objects_show_themselves_in_notebooks(name):
    assert callable(getattr(kp, name)._repr_html_)


def test_a_sweep_and_a_diagnosis_in_a_notebook():
    sweep = made(descent())
    shown = sweep._repr_html_()
    assert f">{sweep.suggest():.2e}</td>" in shown
    assert "For a cycle" in shown
    assert "No suggestion" in made(noise(0))._repr_html_()
    diagnosis = kp.diagnose({"loss": [1.0, 0.5, 0.3, 0.2, 0.1, 0.09, 0.08]})
    assert diagnosis.kinds[0] in diagnosis._repr_html_()


def test_the_vendored_library_is_the_one_that_was_published():
    """uPlot 1.6.32, from dist/ of the package `uplot` in npm's registry."""
    folder = files("keras_patterns.cli.reporting").joinpath("uplot")
    digests = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    found = {
        name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in digests
    }
    assert found == digests
