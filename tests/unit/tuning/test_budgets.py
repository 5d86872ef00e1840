"""Successive halving, Hyperband, populations, and trials that are continued."""

import itertools
import math
from typing import ClassVar

import keras
import optuna
import pytest
from run_tuning import SendAfter, train

import keras_patterns as kp
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import flat_state
from keras_patterns.tuning.strategies import brackets_of


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Counted(keras.callbacks.Callback):
    """Counts the steps of all models, and the rates that they are trained with."""

    steps = 0
    rates: ClassVar[list[float]] = []

    def on_train_begin(self, logs=None):
        Counted.rates.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_begin(self, batch, logs=None):
        Counted.steps += 1

    get_config = get_state = lambda self: {}

    def set_state(self, state):
        pass


def budgeted(trial, **how):
    """The objective of tests/support/run_tuning.py, for as many steps as the search says."""
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    how = {"epochs": None, "total_steps": trial.total_steps, "steps_per_epoch": 8, **how}
    train(trial.fit, rate, how.pop("units", 4), callbacks=[Counted(), SendAfter()], **how)


def halved(folder="search", **how):
    Counted.steps, Counted.rates = 0, []
    how = {"n_trials": 8, "min_steps": 8, "max_steps": 64, "seed": 3, "verbose": 0, **how}
    return kp.successive_halving(how.pop("objective", budgeted), folder, **how)


def contents(store):
    """Weights, slots, seeds, random states and History of the newest checkpoint."""
    _, record = store.read_record()
    history = record.callbacks["RunHistory"]
    parts = {"history": history, "variables": record.values, "random": record.random}
    return dict(flat_state(parts, ""))


def straight_store(folder, trial, steps, **how):
    """The run of its own that a trial's parameters and seed make."""
    keras.utils.set_random_seed(trial.seed)
    how = {"epochs": None, "total_steps": steps, "steps_per_epoch": 8, **how}
    callbacks = [Counted(), SendAfter(), kp.Checkpoint(folder)]
    train(kp.fit, trial.params["rate"], 4, seed=trial.seed, callbacks=callbacks, **how)
    return kp.CheckpointStore(folder)


@pytest.mark.parametrize(
    ("trials", "steps", "resumes"),
    [
        (4, 4 * 8 + 2 * 8 + 1 * 16, [8, 16]),
        pytest.param(8, 8 * 8 + 4 * 8 + 2 * 16 + 1 * 32, [8, 16, 32], marks=pytest.mark.tuning),
    ],
)
def test_halving_trains_each_step_once_and_its_winner_is_a_straight_run(trials, steps, resumes):
    """64 steps in place of 96; and 160 in place of 256."""
    how = {"n_trials": trials, "max_steps": 8 * trials}
    result = halved(**how)
    assert Counted.steps == steps
    counts = [trials >> rung for rung in range(len(resumes) + 1)]
    assert [one.group["rung"] for one in result.trials] == [
        rung for rung, count in enumerate(counts) for _ in range(count)
    ]
    for rung, count in enumerate(counts[1:]):
        own = sorted(
            (one for one in result.trials if one.group["rung"] == rung), key=lambda one: one.value
        )
        parents = [one.parent for one in result.trials if one.group["rung"] == rung + 1]
        assert parents == [one.number for one in own[:count]]
    winner = result.trials[-1]
    assert winner.step == 8 * trials
    expected = straight_store("straight", winner, 8 * trials)
    assert_same_state(contents(expected), contents(winner.store))
    # It was left each time, and nothing of that is seen.
    assert winner.history.events == []
    assert winner.history.resumes == resumes
    Counted.steps = 0
    again = halved(**how)
    assert (again.table(), Counted.steps) == (result.table(), 0)


@pytest.mark.tuning
def test_halving_goes_on_where_an_error_has_ended_it():
    seen = []

    def objective(trial):
        seen.append(trial.number)
        budgeted(trial)
        if len(seen) == 5:
            raise kp.TuningError("as if the storage were down")

    how = {"objective": objective, "n_trials": 4, "max_steps": 16}
    with pytest.raises(kp.TuningError, match="as if"):
        halved(**how)
    result = halved(**how)
    assert seen == [0, 1, 2, 3, 4, 4, 5]
    assert [one.state for one in result.trials] == ["complete"] * 6


@pytest.mark.parametrize(
    ("objective", "steps", "said"),
    [
        (lambda trial: budgeted(trial, total_steps=32), 0, "for 64 steps, .* plans 32"),
        (lambda trial: [budgeted(trial), budgeted(trial)], 8, "planned all of them in a call"),
        (lambda trial: 0.0, 0, "trained nothing by trial.fit"),
    ],
)
def test_an_objective_of_a_budget_plans_all_steps_in_one_run(objective, steps, said):
    now = [objective]
    how = {"objective": lambda trial: now[0](trial), "n_trials": 1}
    with pytest.raises(kp.TuningError, match=said):
        halved(**how)
    assert Counted.steps == steps
    # The trial is kept.
    now[0] = budgeted
    assert [one.state for one in halved(**how).trials] == ["complete"] * 4


@pytest.mark.tuning
def test_a_place_inside_an_epoch_is_no_other_place():
    result = halved(n_trials=2, min_steps=12, max_steps=24)
    winner = result.trials[-1]
    expected = straight_store("straight", winner, 24)
    assert_same_state(contents(expected), contents(winner.store))


@pytest.mark.tuning
def test_hyperband_has_its_brackets():
    result = kp.hyperband(
        budgeted, "search", min_steps=8, max_steps=32, factor=2, seed=0, verbose=0
    )
    assert brackets_of(8, 32, 2) == ((4, 8), (3, 16), (3, 32))
    places = [(one.group["bracket"], one.group["rung"], one.step) for one in result.trials]
    assert places == (
        [(0, 0, 8)] * 4
        + [(0, 1, 16)] * 2
        + [(0, 2, 32)]
        + [(1, 0, 16)] * 3
        + [(1, 1, 32)]
        + [(2, 0, 32)] * 3
    )


class PruneSecond(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.number == 1 and trial.last_step >= 16


def objective(trial):
    budgeted(trial, total_steps=32)


@pytest.mark.parametrize(
    "total",
    [32, *(pytest.param(other, marks=pytest.mark.tuning) for other in (48, 24))],
)
def test_a_pruned_trial_that_is_continued_is_a_straight_run(total):
    """To the end of its plan, beyond it, and short of it."""
    how = {"n_trials": 2, "pruner": PruneSecond(), "sampler": optuna.samplers.RandomSampler}
    result = kp.tune(objective, "search", seed=0, verbose=0, **how)
    assert (result.trial(1).state, result.trial(1).step) == ("pruned", 16)
    longer = kp.continue_trial(result, 1, total)
    assert (longer.number, longer.parent, longer.step, longer.state) == (2, 1, total, "complete")
    expected = straight_store("straight", longer, total)
    assert_same_state(contents(expected), contents(longer.store))
    assert (result.trial(1).state, result.trial(1).step) == ("pruned", 16)
    Counted.steps = 0
    assert kp.continue_trial(result, 1, total) == longer
    # One that was continued is no new trial of the search.
    kp.tune(objective, "search", seed=0, verbose=0, **how)
    assert Counted.steps == 0
    with pytest.raises(kp.TuningError, match=r"has done 16 steps\. Ask for more"):
        kp.continue_trial(result, 1, 16)
    with pytest.raises(IndexError, match="there is no trial 9"):
        kp.continue_trial(result, 9, 99)


def test_a_trial_that_was_not_promoted_can_be_continued():
    result = halved(n_trials=2, max_steps=16)
    left = next(one for one in result.trials[:2] if one.number != result.trials[2].parent)
    longer = kp.continue_trial(result, left.number, 16)
    expected = straight_store("straight", longer, 16)
    assert_same_state(contents(expected), contents(longer.store))


def in_two_runs(trial):
    for _ in range(trial.number):
        train(trial.fit, 0.1, 4, epochs=1)
    return 0.0


def test_a_trial_that_cannot_be_continued():
    result = kp.tune(in_two_runs, "search", n_trials=3, seed=0, verbose=0)
    for number in (0, 2):
        with pytest.raises(kp.TuningError, match=f"trial {number} has {number} runs"):
            kp.continue_trial(result, number, 99)
    with pytest.raises(TypeError, match=r"`result` must be what kp\.tune"):
        kp.continue_trial(result.study, 0, 99)
    with pytest.raises(TypeError, match="`number` must be a whole number"):
        kp.continue_trial(result, "0", 99)


# Populations


def warmer(params, random):
    return {**params, "rate": params["rate"] * random.choice([0.8, 1.25])}


def populated(folder="search", **how):
    Counted.steps, Counted.rates = 0, []
    how = {"size": 4, "total_steps": 24, "exploit_every_steps": 8, "explore": warmer, **how}
    return kp.population(how.pop("objective", budgeted), folder, seed=1, verbose=0, **how)


@pytest.mark.tuning
def test_the_worst_of_a_population_goes_on_with_the_state_of_the_best():
    result = populated()
    assert Counted.steps == 4 * 24
    generations = [
        [one for one in result.trials if one.group["generation"] == number] for number in range(3)
    ]
    assert [len(one) for one in generations] == [4, 4, 4]
    for before, after in itertools.pairwise(generations):
        ranked = sorted(before, key=lambda one: one.history.history["val_loss"][-1])
        for one in after:
            own = next(o for o in before if o.group["member"] == one.group["member"])
            if own.number != ranked[-1].number:
                assert (one.parent, one.params) == (own.number, own.params)
                continue
            assert one.parent == ranked[0].number
            ratio = one.params["rate"] / ranked[0].params["rate"]
            assert ratio == pytest.approx(0.8) or ratio == pytest.approx(1.25)
            # The new rate is in force.
            assert Counted.rates[one.number] == pytest.approx(one.params["rate"])
            # Its History is that of the better one, and its own from there.
            shared = len(ranked[0].history.history["val_loss"])
            assert one.history.history["val_loss"][:shared] == ranked[0].history.history["val_loss"]
    assert populated().table() == result.table()
    assert Counted.steps == 0


def test_slots_are_carried_to_the_member_that_takes_over():
    result = populated(size=2, total_steps=16, explore=lambda params, random: params)
    (taken,) = [
        one
        for one in result.trials[2:]
        if one.group["member"] != result.trial(one.parent).group["member"]
    ]
    # With the same parameters as its parent, it is the run of the parent.
    twin = next(one for one in result.trials[2:] if one.parent == taken.parent and one != taken)
    assert_same_state(contents(twin.store), contents(taken.store))


def test_checkpoints_are_taken_over_by_hard_links():
    result = populated(size=2, total_steps=16)
    child = result.trials[-1]
    parent = result.trial(child.parent)
    own = {file.stat().st_ino for file in child.directory.rglob("*.safetensors")}
    assert own & {file.stat().st_ino for file in parent.directory.rglob("*.safetensors")}


@pytest.mark.tuning
@pytest.mark.parametrize(
    ("name", "error"),
    [("units", kp.StateMismatchError), ("batch_size", kp.ResumeRefusedError)],
)
def test_another_architecture_and_another_batch_size_are_refused(name, error):
    def objective(trial):
        budgeted(trial, **{name: trial.suggest_categorical(name, [4, 8])})

    def other(params, random):
        return {**params, name: 12 - params[name]}

    how = {"objective": objective, "size": 2, "total_steps": 16}
    with pytest.raises(error):
        populated(explore=other, **how)
    # What was asked of that trial can never be.
    states = [one.state for one in populated(explore=lambda params, random: params, **how).trials]
    assert sorted(states) == ["complete", "complete", "complete", "failed"]


@pytest.mark.tuning
def test_what_explore_returns_is_checked_and_put_into_the_ranges():
    for returned, said in [
        ({}, "must return a dict of the parameters"),
        ({"rate": math.nan}, "a finite number, which is put between 0.001 and 0.1. It returned: n"),
        ({"rate": "0.1"}, "must return for 'rate' a finite number"),
    ]:
        with pytest.raises(kp.TuningError, match=said):
            populated(explore=lambda params, random, returned=returned: returned, size=2)
    how = {"size": 2, "total_steps": 16}
    result = populated("wide", explore=lambda params, random: {"rate": 10.0}, **how)
    assert max(one.params["rate"] for one in result.trials) == 0.1


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: halved(min_steps=64), ValueError, "`min_steps` must be below `max_steps`"),
        (lambda: halved(factor=1), ValueError, "`factor` must be at least 2"),
        (lambda: halved(n_trials=0), ValueError, "`n_trials` must be at least 1"),
        (lambda: populated(size=1), ValueError, "`size` must be at least 2"),
        (lambda: halved(workers=0), ValueError, "`workers` must be at least 1"),
        (lambda: halved(engine="spark"), ValueError, "`engine` must be one of 'ray'"),
        (lambda: halved(resources_per_worker={}), ValueError, "kp.successive_halving: resources_"),
        (
            lambda: populated(engine="ray", storage="sqlite:///study.db", explore=warmer),
            ValueError,
            "SQLite is a file for the processes of one",
        ),
        (
            lambda: populated(workers=2, explore=lambda *_: {}),
            ValueError,
            "cannot import `explore`",
        ),
        (lambda: populated(explore=None), TypeError, "`explore` must be a function"),
        (
            lambda: populated(explore=lambda _: {}),
            TypeError,
            "called with parameters and a np.random",
        ),
        (lambda: populated(exploit_every_steps=24), ValueError, "must be below `total_steps`"),
        (
            lambda: kp.hyperband(budgeted, "search", min_steps=8, max_steps=16),
            ValueError,
            "one trial and nothing to choose. Received: min_steps=8, max_steps=16, factor=3",
        ),
    ],
)
def test_arguments_are_checked(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_another_budget_in_the_folder_is_refused():
    halved(n_trials=2, max_steps=16)
    with pytest.raises(kp.TuningError, match="max_steps is 32, it was 16"):
        halved(n_trials=2, max_steps=32)
    with pytest.raises(kp.TuningError, match=r"the search is 'kp\.tune', it was"):
        kp.tune(budgeted, "search", n_trials=2, verbose=0)
