"""kp.tune and kp.Trial: values, reports, pruning, and what is refused."""

import importlib.util
import itertools
import json
import math
import random
import threading
import warnings
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest

import keras_patterns as kp
from keras_patterns import _keras
from keras_patterns.cli import main
from keras_patterns.cli.reporting.reading import read_folder_facts
from keras_patterns.state import randomness
from keras_patterns.tuning.journal import JournalLock

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X[:, 0]
RandomSampler = optuna.samplers.RandomSampler


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def tuned(objective, folder="search", **how):
    how = {"n_trials": 2, "seed": 0, "verbose": 0, "sampler": RandomSampler, **how}
    return kp.tune(objective, folder, **how)


def square(trial):
    """No training: a search is the same for any function."""
    return trial.suggest_float("x", -1, 1) ** 2


def train(trial, rate=0.1, **how):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    how = {"validation_split": 0.5, "batch_size": 8, "epochs": 3, "verbose": 0, **how}
    return trial.fit(model, X, Y, **how)


def trained(trial):
    train(trial, trial.suggest_float("rate", 0.01, 0.1))


class Once:
    """An objective that fails as it is told, the first time only."""

    def __init__(self, error, objective=square):
        self.error, self.objective, self.calls = error, objective, 0

    def __call__(self, trial):
        self.calls += 1
        value = self.objective(trial)
        if self.calls == 1:
            raise self.error
        return value


# Values


def test_none_is_the_best_monitored_value_and_the_history_is_kept():
    result = tuned(trained)
    best = result.best
    assert best.value == min(best.history.history["val_loss"])
    assert best.history.epoch_end_steps == [2, 4, 6]
    assert best.step == 6
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    best.store.restore(model, weights_only=True)
    assert model.evaluate(X[16:], Y[16:], verbose=0) == pytest.approx(best.value)


def test_a_search_that_has_ended_trains_nothing():
    first = tuned(trained)
    again = tuned(trained)
    assert again.table() == first.table()
    assert len(tuned(trained, n_trials=3).trials) == 3


def test_a_report_has_its_step_and_runs_of_one_trial_count_on():
    def objective(trial):
        train(trial)
        train(trial, epochs=1)

    (trial,) = tuned(objective, n_trials=1).study.trials
    assert list(trial.intermediate_values) == [2, 4, 6, 8]


def test_what_was_reported_before_a_kill_is_passed_over():
    def objective(trial):
        for step in range(3):
            trial.report(1.0 / (trial.number + step + 1), step)
            assert not trial.should_prune()
        return 0.0

    first = Once(kp.TuningError("as if killed"), objective)
    with pytest.raises(kp.TuningError, match="as if"):
        tuned(first)
    assert [len(one.intermediate_values) for one in tuned(first).study.trials] == [3, 3]


def net(body=None, trainable=True):
    body = body or keras.layers.Dense(3)
    body.trainable = trainable
    layers = [body, keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("put_back", "compiles", "kept"),
    [
        (False, False, "layers/0/bias"),
        (False, True, "layers/0/bias"),
        (True, False, "optimizer/iterations"),
        (True, True, None),
    ],
)
def test_a_trial_never_goes_on_with_the_model_of_another_one(put_back, compiles, kept):
    model = net()
    weights = model.get_weights()

    def objective(trial):
        if put_back:
            model.set_weights(weights)
        if compiles:
            model.compile("adam", "mse")
        trial.fit(model, X, Y, validation_split=0.5, epochs=1)
        # A second run of one trial may.
        trial.fit(model, X, Y, validation_split=0.5, epochs=1)

    if kept is None:
        one, other = tuned(objective).study.trials
        assert one.value != other.value
        return
    with pytest.raises(kp.TuningError, match=f"'{kept}' of '.*' is as the trial in .*00000.* has"):
        tuned(objective)


def test_trials_may_share_a_part_that_stays_as_it_is():
    body = keras.layers.Dense(3)

    def objective(trial, **how):
        trial.fit(net(body, **how), X, Y, validation_split=0.5, epochs=1)

    assert len(tuned(lambda trial: objective(trial, trainable=False)).trials) == 2
    with pytest.raises(kp.TuningError, match=r"'layers/0/bias' of '.*' is as the trial"):
        tuned(objective, "another")


def test_a_trial_is_a_function_of_the_seed_and_its_number():
    seeds = []

    def objective(trial):
        seeds.append(trial.seed)
        return float(keras.random.uniform(()))

    values = [[one.value for one in tuned(objective, name).trials] for name in "ab"]
    assert values[0] == values[1]
    keras.utils.set_random_seed(seeds[0])
    assert float(keras.random.uniform(())) == values[0][0]


def test_random_states_are_as_before_afterwards():
    keras.utils.set_random_seed(5)
    expected = np.random.random()
    keras.utils.set_random_seed(5)
    tuned(square)
    assert np.random.random() == expected
    assert kp.tune(square, "other", n_trials=1, verbose=0).trials[0].seed is not None


def test_a_seed_that_is_drawn_follows_from_python_s_random_state(monkeypatch):
    """`clear_session` has Keras forget the value of `set_random_seed`."""
    monkeypatch.setattr(_keras, "random_seed", lambda: None)

    def drawn(python_seed, folder):
        monkeypatch.setattr(randomness, "_NUMBERS", itertools.count())
        random.seed(python_seed)
        kp.tune(square, "first", n_trials=1, verbose=0)
        return kp.tune(square, folder, n_trials=1, verbose=0).best.params

    # The first search of the script is there already at the second time.
    assert drawn(5, "second") == drawn(5, "third") != drawn(6, "fourth")


def test_the_seed_is_drawn_said_and_kept(capsys, monkeypatch):
    monkeypatch.setattr(_keras, "random_seed", lambda: None)
    first = kp.tune(square, "drawn", n_trials=1, sampler=RandomSampler)
    seed = json.loads((first.directory / "study.json").read_text())["seed"]
    assert f"seed={seed} was drawn for the search" in capsys.readouterr().out
    again = kp.tune(square, "drawn", n_trials=2, sampler=RandomSampler)
    other = kp.tune(square, "other", n_trials=2, sampler=RandomSampler, seed=seed)
    assert [one.params for one in again.trials] == [one.params for one in other.trials]
    keras.utils.set_random_seed(5)
    monkeypatch.undo()
    assert (
        json.loads((tuned(square, "third", seed=None).directory / "study.json").read_text())["seed"]
        == 5
    )


def test_parameters_do_not_depend_on_those_that_were_asked_before():
    """As after a kill between two of them."""

    def backwards(trial):
        return trial.suggest_float("y", 0, 1) + trial.suggest_float("x", 0, 1)

    def forwards(trial):
        return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)

    first, second = (tuned(one, one.__name__).trials for one in (forwards, backwards))
    assert [one.params for one in first] == [one.params for one in second]


def test_the_table_has_the_best_first():
    result = tuned(square, n_trials=3, direction="maximize")
    lines = str(result).splitlines()
    assert lines[0].split() == ["trial", "value", "state", "steps", "x"]
    assert [line.split()[0] for line in lines[2:]] == [
        str(one.number) for one in sorted(result.trials, key=lambda one: -one.value)
    ]
    assert result._repr_html_().count("<tr>") == 4


def test_a_saved_search_is_in_the_report():
    result = tuned(square, n_trials=3)
    assert result.save() == result.directory / "search.json"
    found = read_folder_facts(str(result.directory)).search
    assert [(one.number, one.value, one.params) for one in found.trials] == [
        (one.number, one.value, one.params) for one in result.trials
    ]
    assert main(["report", str(result.directory)]) == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert f"{result.best.value:.5g}" in page
    # The search goes on in a folder with this file.
    assert len(tuned(square, n_trials=4).trials) == 4


def test_plots(monkeypatch):
    result = tuned(lambda trial: square(trial) + trial.suggest_float("y", 0, 1), n_trials=4)
    texts = [text.get_text() for text in result.plot().get_legend().get_texts()]
    assert texts == ["complete (4)", "best so far"]
    with warnings.catch_warnings():
        # Matplotlib's and Optuna's own.
        warnings.simplefilter("ignore")
        assert result.plot("importances").get_xlabel()
        assert result.plot("parallel") is not None
    with pytest.raises(ValueError, match="leave ax= out"):
        result.plot("parallel", ax=result.plot())
    with pytest.raises(ValueError, match="'history', 'importances', 'parallel'"):
        result.plot("pie")


class Holding(keras.callbacks.Callback):
    """A callback that holds its trial, as those of other libraries do."""

    def __init__(self, trial):
        super().__init__()
        self.trial = trial


@pytest.mark.filterwarnings("ignore:The state of Holding")
def test_nothing_of_the_study_is_state_of_the_run():
    """Through a callback a run is looked through for random states to carry; a study has some."""

    def objective(trial):
        train(trial, callbacks=[Holding(trial), Holding(trial.optuna)])

    best = tuned(objective, n_trials=1, storage="sqlite:///study.db").best
    _, record = best.store.read_record()
    assert not any(record.held.values())
    assert json.dumps(record.callbacks["Reporter"]) == json.dumps({"best": best.value})


# Pruning


class PruneAt(optuna.pruners.BasePruner):
    """Ends the second trial after so many steps."""

    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.number == 1 and trial.last_step >= self.step


def test_a_pruned_trial_is_left_with_its_state_saved():
    def objective(trial):
        train(trial, checkpoint={"every_steps": 1_000})
        seen.append(trial.number)

    seen = []
    first, second = tuned(objective, pruner=PruneAt(4)).trials
    assert (first.state, second.state) == ("complete", "pruned")
    assert (first.step, second.step, seen) == (6, 4, [0])
    assert second.history.history.keys() == {"loss", "val_loss"}
    # It was left, not ended: the same call would go on with it.
    assert second.history.events == []


def test_a_pruner_and_a_direction_that_do_not_belong_together():
    with pytest.raises(kp.TuningError, match=r"the pruner would go by 'val_loss'.*more of it"):
        tuned(trained, pruner=PruneAt(1), direction="maximize")


def test_a_pruner_needs_something_to_validate_on():
    def objective(trial):
        train(trial, validation_split=0.0)

    with pytest.raises(kp.TuningError, match="nothing to validate on"):
        tuned(objective, pruner=PruneAt(1))
    # The trial is kept, and a metric of the training mends it.
    result = tuned(objective, pruner=PruneAt(1), monitor="loss")
    assert [one.state for one in result.trials] == ["complete", "pruned"]


# Errors


def test_an_error_fails_its_trial_and_ends_the_search():
    objective = Once(KeyError("no such column"))
    with pytest.raises(KeyError, match="no such column"):
        tuned(objective)
    first, second = tuned(objective).trials
    assert (first.state, first.error) == ("failed", "KeyError: 'no such column'")
    assert second.state == "complete"


def test_an_error_that_is_caught_fails_its_trial_alone():
    assert [one.state for one in tuned(Once(ValueError()), catch=ValueError).trials] == [
        "failed",
        "complete",
    ]


@pytest.mark.parametrize(
    ("value", "direction", "error"),
    [
        (math.nan, "minimize", "its value is NaN"),
        (-math.inf, "minimize", "its value is -inf, better than any that could be"),
        (math.inf, "maximize", "its value is inf, better than any that could be"),
        (math.inf, "minimize", None),
        ("good", "minimize", "TypeError: kp.tune: the objective must return a number"),
    ],
)
def test_a_value_that_is_none(value, direction, error):
    def objective(trial):
        return value

    for one in tuned(objective, direction=direction, catch=TypeError).trials:
        assert one.state == ("failed" if error else "complete")
        assert (one.error or "").startswith(error or "")
    if value == "good":
        with pytest.raises(TypeError, match=r"must return a number.*'good'"):
            tuned(objective, "other")


def test_a_run_that_has_diverged_fails_its_trial_and_the_search_goes_on():
    def objective(trial):
        train(trial, rate=1e30 if trial.number == 0 else 0.1, epochs=1)

    first, second = tuned(objective).trials
    assert (first.state, first.error) == ("failed", "its value is NaN")
    assert second.state == "complete"


def test_a_metric_that_does_not_exist_keeps_the_trial():
    with pytest.raises(kp.TuningError, match=r"no metric monitor='val_accuracy'.*val_loss"):
        tuned(trained, monitor="val_accuracy")
    assert [one.state for one in tuned(trained).trials] == ["complete", "complete"]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy", "val_score"])
def test_a_returned_metric_that_is_better_in_the_other_direction_is_named(metric, direction):
    def objective(trial):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        name = metric.removeprefix("val_")
        metrics = [] if name == "loss" else [keras.metrics.MeanAbsoluteError(name=name)]
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=metrics)
        return trial.fit(model, X, Y, validation_split=0.5, epochs=1).history[metric][-1]

    wrong = {"val_loss": "maximize", "val_accuracy": "minimize"}.get(metric)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tuned(objective, n_trials=1, direction=direction)
    found = [str(one.message) for one in said if "has returned" in str(one.message)]
    assert len(found) == (direction == wrong)
    if found:
        right = {"minimize": "maximize", "maximize": "minimize"}[direction]
        assert f"has returned {metric!r} of its run" in found[0]
        assert f"Give direction={right!r}" in found[0]


def test_none_without_a_monitored_value():
    with pytest.raises(kp.TuningError, match=r"no kp.Trial.fit has had one"):
        tuned(lambda trial: None)


def test_another_objective_in_the_folder():
    tuned(square)
    with pytest.raises(kp.TuningError, match=r"objective is '.*trained', it was '.*square'"):
        tuned(trained)
    with pytest.raises(kp.TuningError, match="seed is 1, it was 0"):
        tuned(square, seed=1)
    with pytest.raises(kp.TuningError, match="direction is 'maximize', it was 'minimize'"):
        tuned(square, direction="maximize")
    with pytest.raises(kp.TuningError, match="monitor is 'loss', it was 'val_loss'"):
        tuned(square, monitor="loss")
    assert len(tuned(square, n_trials=3).trials) == 3


def objective_of(path, power):
    """The objective of a script."""
    path.write_text(
        f"def objective(trial):\n    return trial.suggest_float('x', 0, 1) ** {power}\n"
    )
    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.objective


def test_the_objective_of_another_script(tmp_path, capsys):
    """One that was edited goes on, one that was moved too, and one that is neither is refused."""
    first, second, third = (tmp_path / f"{name}.py" for name in ("first", "second", "third"))
    tuned(objective_of(first, 2))
    with pytest.raises(kp.TuningError, match=r"one, of .*second\.py; that of .*first\.py is still"):
        tuned(objective_of(second, 40))
    for path, power, moved_from, changes in [
        (first, 2, None, []),
        (first, 30, None, ["the text of script.objective is another than"]),
        (second, 30, first, [f"objective is that of {second}, it was that of {first}"]),
        (third, 4, second, [f"objective is that of {third}, it was", "the text of"]),
    ]:
        if moved_from:
            moved_from.unlink()
        capsys.readouterr()
        assert len(tuned(objective_of(path, power), verbose="auto").trials) == 2
        said = capsys.readouterr().out.splitlines()
        assert len(said) == len(changes)
        assert all(change in line for change, line in zip(changes, said, strict=True))
    # A copy that is the same, beside the one that it is a copy of.
    tuned(objective_of(first, 4), verbose="auto")
    assert f"that of {first}, it was that of {third}" in capsys.readouterr().out


def test_another_sampler_and_another_pruner_are_named(capsys):
    tuned(square)
    tuned(square, verbose="auto", sampler=optuna.samplers.TPESampler, pruner=PruneAt(1))
    assert "the sampler is TPESampler, it was RandomSampler." in (out := capsys.readouterr().out)
    assert "the pruner is PruneAt, it was none." in out


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(kp.TuningError, match=r"holds no study, but a\.txt"):
        tuned(square, tmp_path / "notes")
    with pytest.raises(kp.TuningError, match="is no folder"):
        tuned(square, tmp_path / "notes" / "a.txt")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_a_storage_that_has_lost_the_study(tmp_path):
    tuned(square)
    (tmp_path / "search" / "journal.log").unlink()
    with pytest.raises(kp.TuningError, match="has no such study"):
        tuned(square)


def test_a_storage_and_a_folder_that_tell_different_things(tmp_path):
    tuned(trained, n_trials=1)
    path = tmp_path / "search" / "trials" / "00000" / "trial.json"
    record = json.loads(path.read_text())
    other = tmp_path / "search" / "trials" / "00001"
    other.mkdir()
    (other / "trial.json").write_text(json.dumps(record))
    with pytest.raises(kp.TuningError, match="tell different things of trial 1"):
        tuned(trained)
    record = {**record, "number": 1, "params": {"rate": 0.5}}
    (other / "trial.json").write_text(json.dumps(record))
    with pytest.raises(kp.TuningError, match=r"rate is 0\.\d+ in the storage and 0\.5 in the fold"):
        tuned(trained)
    (other / "trial.json").unlink()
    assert tuned(trained).trials[1].state == "complete"


def test_a_study_record_that_is_damaged(tmp_path):
    tuned(square)
    (tmp_path / "search" / "study.json").write_text('{"name": "x"}')
    with pytest.raises(kp.TuningError, match="is damaged"):
        tuned(square)


class DownOnce(optuna.storages.JournalStorage):
    """A storage that is out of reach at one report."""

    is_down = False

    def set_trial_intermediate_value(self, *arguments):
        if DownOnce.is_down:
            DownOnce.is_down = False
            raise optuna.exceptions.StorageInternalError("no route to host")
        super().set_trial_intermediate_value(*arguments)


def test_a_storage_that_is_down_in_the_middle_keeps_the_trial():
    file = optuna.storages.journal.JournalFileBackend("elsewhere.log")
    DownOnce.is_down = True
    with pytest.raises(kp.TuningError, match=r"no route to host.*Every trial is kept"):
        tuned(trained, storage=DownOnce(file), n_trials=1)
    (trial,) = tuned(trained, storage=DownOnce(file), n_trials=1).trials
    (straight,) = tuned(trained, "straight", n_trials=1).trials
    assert trial.state == "complete"
    assert trial.history.history == straight.history.history


@pytest.mark.parametrize("call", ["set_user_attr", "should_prune"])
def test_a_storage_that_is_down_when_the_objective_asks_it_keeps_the_trial(call, monkeypatch):
    def down(*_):
        raise optuna.exceptions.StorageInternalError("no connection")

    def objective(trial):
        trial.report(1.0, 1)
        return float(getattr(trial, call)(*{"set_user_attr": ("a", 1)}.get(call, ())) or 0.0)

    with monkeypatch.context() as broken:
        broken.setattr(optuna.Trial, call, down)
        # It is no error of the objective.
        with pytest.raises(kp.TuningError, match=r"no connection\)\. Every trial is kept"):
            tuned(objective, n_trials=1, catch=Exception)
    assert [one.state for one in tuned(objective, n_trials=1).trials] == ["complete"]


@pytest.mark.parametrize(
    "otherwise",
    [
        lambda trial: trial.suggest_categorical("x", [1.0, 2.0]),
        lambda trial: trial.suggest_int("x", 1, 3),
        lambda trial: trial.suggest_float("x", 1.0, 3.0, log=True),
    ],
)
def test_a_parameter_that_is_asked_for_otherwise_keeps_the_trial(otherwise):
    asks = Once(kp.TuningError("as if killed"))
    with pytest.raises(kp.TuningError, match="as if"):
        tuned(lambda trial: asks(trial), n_trials=1)
    asks.objective = otherwise
    # In the trial that was killed.
    with pytest.raises(kp.TuningError, match=r"it was FloatDistribution\(.*\. Trial 0 is kept"):
        tuned(lambda trial: asks(trial), n_trials=1, catch=Exception)
    asks.objective = square
    assert tuned(lambda trial: asks(trial), n_trials=1).best.number == 0
    asks.objective = otherwise
    with pytest.raises(kp.TuningError, match=r"Put that back.* Trial 1 is kept"):
        tuned(lambda trial: asks(trial), n_trials=2, catch=Exception)


def test_a_range_that_is_none_is_an_error_of_the_objective():
    def objective(trial):
        return trial.suggest_float("x", -1, 1 if trial.number == 0 else -2)

    result = tuned(objective, catch=ValueError)
    assert [one.state for one in result.trials] == ["complete", "failed"]


def test_a_storage_that_cannot_be_opened():
    with pytest.raises(kp.TuningError, match=r"storage 'sqlite:////no/such/folder/a\.db' cannot"):
        tuned(square, storage="sqlite:////no/such/folder/a.db")
    with pytest.raises(kp.TuningError, match="storage '' cannot"):
        tuned(square, "third", storage="")


@pytest.mark.parametrize(
    "storage",
    [optuna.storages.InMemoryStorage(), "sqlite://", "sqlite:///:memory:"],
    ids=["optuna", "sqlite", "named"],
)
def test_a_storage_that_is_lost_with_its_process(storage):
    with pytest.raises(ValueError, match="a storage in memory is lost with its process"):
        tuned(square, storage=storage)


def test_a_line_of_the_journal_that_was_cut_short_is_dropped(tmp_path):
    """Else the journal could not be read once another line follows."""
    first = tuned(square).table()
    journal = tmp_path / "search" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(tuned(square, n_trials=3).trials) == 3
    assert tuned(square, n_trials=3).table() != first
    assert journal.read_bytes().startswith(whole)
    lock = JournalLock(journal)
    journal.write_bytes(b"{")
    lock.acquire()
    lock.release()
    assert journal.read_bytes() == b""


class Unseeded(optuna.samplers.BaseSampler):
    """Draws from the system."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return 0.5


def test_a_sampler_that_cannot_be_seeded():
    with pytest.raises(ValueError, match="cannot be seeded: Unseeded holds no random state"):
        tuned(square, sampler=Unseeded())
    with pytest.raises(ValueError, match=r"cannot be seeded: .* does not take seed="):
        tuned(square, "second", sampler=Unseeded)
    with pytest.raises(TypeError, match="must be an Optuna sampler"):
        tuned(square, "third", sampler=3)
    # A person may say that it needs none.
    assert tuned(square, sampler=lambda seed: Unseeded()).best.params == {"x": 0.5}


def test_workers_that_cannot_import_the_objective():
    with pytest.raises(ValueError, match="is made inside a function, or has no name"):
        tuned(lambda trial: 0.0, workers=2)
    with pytest.raises(ValueError, match="cannot import `sampler`"):
        tuned(square, workers=2, sampler=lambda seed: RandomSampler(seed=seed))
    with pytest.raises(ValueError, match="give its URL"):
        tuned(square, workers=2, storage=DownOnce)
    with pytest.raises(TypeError, match=r"to which `objective` cannot be sent .*cannot pickle"):
        tuned(Once(threading.Lock()), workers=2)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"n_trials": -1}, ValueError, "`n_trials` must be at least 1"),
        ({"n_trials": None}, ValueError, "the search has no end"),
        ({"timeout": 0}, ValueError, "`timeout` must be"),
        ({"workers": 0}, ValueError, "`workers` must be at least 1"),
        ({"direction": "down"}, ValueError, "`direction` must be one of"),
        ({"monitor": ""}, TypeError, "`monitor` must be the name"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"pruner": "median"}, TypeError, "`pruner` must be one of"),
        ({"catch": KeyboardInterrupt}, TypeError, "`catch` must be a class of Exception"),
        ({"catch": [ValueError]}, TypeError, "`catch` must be a class of Exception"),
        ({"directory": None}, TypeError, "A path must be a str"),
        ({"directory": "a" * 300}, kp.StoreError, "cannot look into the folder"),
        ({"objective": 3}, TypeError, "`objective` must be a function of a trial"),
        ({"objective": lambda: 0.0}, TypeError, "`objective` is called with a trial"),
    ],
)
def test_arguments_are_checked(how, error, said, tmp_path):
    with pytest.raises(error, match=said):
        kp.tune(**{"objective": square, "directory": "search", "n_trials": 2, **how})
    assert not (tmp_path / "search").exists()


def test_arguments_of_fit_are_checked():
    with pytest.raises(ValueError, match=r"there must be no kp.Checkpoint"):
        tuned(lambda trial: train(trial, callbacks=[kp.Checkpoint("mine")]))
    with pytest.raises(ValueError, match="the folder is the trial's own"):
        tuned(lambda trial: train(trial, checkpoint={"directory": "mine"}), "other")
    with pytest.raises(TypeError, match="`checkpoint` must be a dict"):
        tuned(lambda trial: train(trial, checkpoint=3), "third")


@pytest.mark.parametrize("choices", [[keras.layers.Dense], 3])
def test_choices_that_cannot_be_kept(choices):
    with pytest.raises(TypeError, match=r"the choices of 'k' are kept as JSON.*look them up in a"):
        tuned(lambda trial: trial.suggest_categorical("k", choices))


def test_a_seed_of_any_size_is_that_of_the_next_start():
    first = tuned(square, seed=2**70).best.params
    assert tuned(square, seed=2**70).best.params == first
