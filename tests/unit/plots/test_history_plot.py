"""The picture of a run: what its lines, texts and axes say, of real runs and of made histories."""

import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from models import FEATURES, LABELS, TRAIN, VALIDATION, compiled, small

import keras_patterns as kp
from keras_patterns.run.history import add_event

pytestmark = pytest.mark.once

RUNNING, INSIDE, RATE = (
    "running mean of the epoch",
    "validation inside epochs",
    "learning rate at ends of epochs",
)
PLAIN = {"x": FEATURES[:32], "y": LABELS[:32], "batch_size": 8, "verbose": 0}


def train(**arguments):
    return kp.fit(
        compiled(small()),
        **{**TRAIN, "total_steps": 12, "epochs": 3, **arguments},
        seed=0,
        verbose=0,
    )


def picture(*arguments, **how):
    return kp.plot_history(*arguments, **how).figure


def drawn(figure):
    """The curves by their names, over both axes: lists of places and of values."""
    lines = {
        line.get_label(): line
        for axes in figure.axes
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    return {
        label: (list(line.get_xdata()), list(line.get_ydata())) for label, line in lines.items()
    }


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def named(figure):
    """What the legend has of curves."""
    known = {label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]}
    return [text for text in legend_of(figure.axes[0]) if text in known]


def told(figure):
    """What the legend has of events, in one line each."""
    curves = named(figure)
    return [" ".join(text.split()) for text in legend_of(figure.axes[0]) if text not in curves]


def verticals(figure):
    """Places and colours of the vertical lines."""
    lines = [
        line
        for line in figure.axes[0].lines
        if list(line.get_ydata()) == [0, 1] and len(set(line.get_xdata())) == 1
    ]
    return [(float(line.get_xdata()[0]), to_hex(line.get_color())) for line in lines]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def rendered(figure):
    """Draws it, so that warnings and errors of drawing come up."""
    figure.draw_without_rendering()
    return figure


# Runs.


def test_a_run_of_kp_fit_against_steps():
    history = train(**VALIDATION, log_every_steps=2, validate_every_steps=3)
    figure = rendered(picture(history))
    curves, lists = drawn(figure), history.history
    assert curves["training"] == ([4, 8, 12], lists["loss"])
    assert curves["validation"] == ([4, 8, 12], lists["val_loss"])
    assert curves[INSIDE] == (
        [3, 6, 9],
        [row["val_loss"] for row in history.validations if row["step"] % 4],
    )
    at_ends = dict(zip([4, 8, 12], lists["loss"], strict=True))
    running = {row["step"]: row["loss"] for row in history.step_logs} | at_ends
    assert curves[RUNNING] == (sorted(running), [running[step] for step in sorted(running)])
    assert curves[RATE] == ([4, 8, 12], history.learning_rates)
    assert [axes.get_xlabel() for axes in figure.axes] == ["optimizer step", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "learning rate"]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear"]
    gap = lists["val_loss"][-1] - lists["loss"][-1]
    shaded = f"generalization gap, {gap:.3g} at the end"
    assert named(figure) == [RUNNING, "training", "validation", INSIDE, shaded, RATE]
    values = dict(
        zip(
            [*curves["validation"][0], *curves[INSIDE][0]],
            [*curves["validation"][1], *curves[INSIDE][1]],
            strict=True,
        )
    )
    best = min(values, key=values.get)
    assert texts(figure) == [f"best val_loss {values[best]:.4g} at step {best:.0f}"]
    assert verticals(figure) == [(best, "#7f2704")]


def test_the_gap_lies_between_the_curves():
    figure = picture({"loss": [0.5, 0.3], "val_loss": [0.6, 0.7]})
    (gap,) = figure.axes[0].collections
    box = gap.get_datalim(figure.axes[0].transData)
    np.testing.assert_allclose(box.extents, [1, 0.3, 2, 0.7])


def test_a_maximised_metric():
    history = train(**VALIDATION)
    figure = picture(history, "val_accuracy")
    values = history.history["val_accuracy"]
    assert figure.axes[0].get_ylabel() == "accuracy"
    assert texts(figure) == [
        f"best val_accuracy {max(values):.4g} at step {4 * (1 + values.index(max(values)))}"
    ]
    gap = history.history["accuracy"][-1] - values[-1]
    assert f"generalization gap, {gap:.3g} at the end" in named(figure)


def test_without_validation_the_training_has_the_best():
    figure = picture(train())
    assert set(drawn(figure)) == {"training", RATE}
    assert texts(figure)[0].startswith("best loss ")


def test_validation_inside_epochs_alone():
    history = train(**VALIDATION, validate_every_steps=3, validation_freq=())
    # The step 12 is a multiple and the end of an epoch.
    curves = drawn(picture(history, validation_freq=[3]))
    assert curves["validation"] == ([12], history.history["val_loss"])
    assert curves[INSIDE][0] == [3, 6, 9]
    history = train(**VALIDATION, validate_every_steps=5, validation_freq=())
    figure = picture(history)
    assert drawn(figure)[INSIDE][0] == [5, 10]
    assert texts(figure)[0].startswith("best val_loss ")


def test_a_run_that_went_on_looks_like_one(tmp_path):
    def until(epochs):
        keras.utils.set_random_seed(1)
        checkpoint = kp.Checkpoint(tmp_path / "run", every_steps=2)
        return kp.fit(
            compiled(small()),
            **TRAIN | {"total_steps": 4 * epochs, "epochs": epochs},
            callbacks=[checkpoint],
            seed=0,
        )

    until(1)
    assert drawn(picture(until(3)))["training"][0] == [4, 8, 12]


def test_stop_rollbacks_and_resumes():
    history = train()
    add_event(
        history, "stopped", 12, "no better " + "for ever and ever " * 20 + "and it costs $1 to $2"
    )
    add_event(history, "rolled back", 5, "not finite")
    add_event(history, "thawed", 8, "all")
    history.resumes = [2, 7]
    figure = rendered(picture(history))
    best, others = texts(figure)[-1], texts(figure)[:-1]
    assert best.startswith("best loss")
    assert others == ["1", "2", "3"]
    words = told(figure)
    assert words[:2] == ["1 rolled back at step 5: not finite", "2 thawed at step 8: all"]
    assert words[2].startswith("3 stopped at step 12: no better for ever")
    assert words[2].endswith("and it costs $1 to $2")
    assert words[3] == "went on from steps 2, 7"
    assert all(len(line) <= 115 for text in legend_of(figure.axes[0]) for line in text.splitlines())
    assert [at for at, _ in verticals(figure)][:-1] == [2, 7, 5, 8, 12]
    assert len({color for _, color in verticals(figure)}) == 5
    assert {
        line.get_linestyle()
        for line in figure.axes[0].lines
        if list(line.get_xdata()) in ([2, 2], [7, 7])
    } == {"--"}


def test_a_run_of_model_fit_against_epochs():
    history = compiled(small()).fit(
        **PLAIN,
        epochs=3,
        validation_data=(FEATURES[32:], LABELS[32:]),
        callbacks=[keras.callbacks.LearningRateScheduler(decade)],
    )
    add_event(history, "stopped", 8, "enough")
    figure = rendered(picture(history))
    curves = drawn(figure)
    assert curves["training"] == ([1, 2, 3], history.history["loss"])
    assert curves["validation"] == ([1, 2, 3], history.history["val_loss"])
    assert curves[RATE] == ([1, 2, 3], history.history["learning_rate"])
    assert figure.axes[0].get_xlabel() == "epoch"
    # After 4 of its 4 steps an epoch is over.
    assert verticals(figure)[0] == (2, "#cb181d")
    assert texts(figure)[-1].endswith(tuple(f"at epoch {epoch}" for epoch in (1, 2, 3)))


def decade(epoch, rate):
    return 10.0 ** -(epoch + 1)


def test_rates_over_more_than_two_decades_are_logarithmic():
    history = compiled(small()).fit(
        **PLAIN, epochs=4, callbacks=[keras.callbacks.LearningRateScheduler(decade)]
    )
    assert picture(history).axes[1].get_yscale() == "log"
    assert picture({"loss": [1, 1], "learning_rate": [0.1, 0.0]}).axes[1].get_yscale() == "linear"


def test_a_model_without_one_rate_has_no_second_axis():
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {".*kernel": keras.optimizers.SGD()})
    )
    history = kp.fit(compiled(small(), optimizer), **TRAIN, seed=0, verbose=0)
    assert history.learning_rates == [None] * len(history.epoch_end_steps)
    assert len(picture(history).axes) == 1


def test_epochs_that_begin_late():
    history = compiled(small()).fit(**PLAIN, initial_epoch=5, epochs=7)
    add_event(history, "stopped", 4, "enough")
    figure = picture(history)
    assert drawn(figure)["training"][0] == [6, 7]
    assert verticals(figure)[0][0] == 6


def test_an_event_without_a_place_is_told_all_the_same():
    history = keras.callbacks.History()
    history.history, history.epoch, history.params = {"loss": [2.0, 1.0]}, [0, 1], {"steps": None}
    add_event(history, "stopped", 7, "enough")
    figure = rendered(picture(history))
    assert told(figure) == ["1 stopped at step 7: enough"]
    assert [at for at, _ in verticals(figure)] == [2]


@pytest.mark.parametrize(
    "fit", [lambda: train(total_steps=3, epochs=1), lambda: compiled(small()).fit(**PLAIN)]
)
def test_a_single_epoch(fit):
    figure = rendered(picture(fit()))
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "training"]
    assert len(line.get_xdata()) == 1
    assert line.get_marker() == "o"


def test_a_run_that_is_not_finite():
    history = train(total_steps=6, epochs=2, sample_weight=np.full(len(FEATURES), np.nan))
    figure = rendered(picture(history))
    assert drawn(figure)["not finite"][0] == [3, 6]
    assert texts(figure) == []


# Made histories.


def test_gaps_and_points_that_stand_alone():
    values = [1.0] * 30 + [np.nan, 0.5, np.inf] + [0.4] * 30
    figure = rendered(picture({"loss": values}))
    assert drawn(figure)["not finite"][0] == [31, 33]
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "training"]
    assert line.get_markevery() == [31]
    assert np.isnan(line.get_ydata()[[30, 32]]).all()
    assert texts(figure) == ["best loss 0.4 at epoch 34"]


def test_a_loss_that_explodes_is_logarithmic():
    assert picture({"loss": [1.0, 2.0, 1e6]}).axes[0].get_yscale() == "log"
    assert picture({"loss": [1.0, 0.1, 1e-6]}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("count", "frequency", "epochs", "label"),
    [
        (6, None, [1, 2, 3, 4, 5, 6], "validation"),
        (3, None, [2, 4, 6], "validation (taken to be every 2 epochs)"),
        (3, 2, [2, 4, 6], "validation"),
        (3, (1, 2, 5), [1, 2, 5], "validation"),
    ],
)
def test_epochs_of_the_validation(count, frequency, epochs, label):
    history = {"loss": [0.0] * 6, "val_loss": [1.0] * count}
    assert drawn(picture(history, validation_freq=frequency))[label][0] == epochs


def test_the_epochs_of_a_validation_by_frequency_are_found():
    history = compiled(small()).fit(
        **PLAIN, epochs=5, validation_freq=2, validation_data=(FEATURES[32:], LABELS[32:])
    )
    assert drawn(picture(history))["validation (taken to be every 2 epochs)"][0] == [2, 4]


def test_a_direction_that_nobody_knows():
    history = {"score": [1.0, 3.0, 2.0]}
    figure = picture(history, "score")
    assert texts(figure) == []
    assert 'no best: say mode="min" or "max"' in named(figure)
    assert texts(picture(history, "score", mode="max")) == ["best score 3 at epoch 2"]


def test_many_events_are_listed_in_part_and_numbered_in_groups():
    history = train()
    for step in [1] * 9 + [11]:
        add_event(history, "rolled back", step, "not finite")
    figure = rendered(picture(history))
    assert texts(figure)[:2] == ["1-9", "10"]
    assert told(figure)[-2:] == ["... 3 more ...", "10 rolled back at step 11: not finite"]
    assert len(told(figure)) == 8


def test_nothing_lies_over_anything():
    history = train(**VALIDATION, log_every_steps=1, validate_every_steps=3)
    add_event(history, "stopped", 12, "no better " * 40)
    history.resumes = [3]
    figure = rendered(picture(history))
    axes = figure.axes[0]
    boxes = [
        axes.get_window_extent(),
        axes.xaxis.label.get_window_extent(),
        axes.get_legend().get_window_extent(),
    ]
    boxes += [text.get_window_extent() for text in axes.texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_it_draws_in_the_axes_that_are_given():
    figure, (left, right) = plt.subplots(1, 2)
    history = train(**VALIDATION)
    add_event(history, "stopped", 12, "enough")
    size = tuple(figure.get_size_inches())
    assert kp.plot_history(history, ax=right) is right
    assert not left.has_data()
    assert {"training", "validation"} <= {line.get_label() for line in right.lines}
    assert legend_of(right)[-1] == "1  stopped at step 12: enough"
    assert tuple(figure.get_size_inches()) == size


# Errors.

VECTOR = {"loss": [1.0, 2.0], "per_class": [[1.0, 2.0], [1.0, 3.0]], "learning_rate": [0.1, 0.1]}


@pytest.mark.parametrize(
    ("history", "how", "error", "message"),
    [
        (
            VECTOR,
            {"metric": "accuracy"},
            ValueError,
            "the history has no metric 'accuracy'. It has 'loss'.",
        ),
        (
            VECTOR,
            {"metric": "per_class"},
            ValueError,
            "'per_class' is no number, but of shape \\(2,\\) at each epoch. It has 'loss'.",
        ),
        (VECTOR, {"metric": 3}, TypeError, "`metric` must be the name of one metric. Received: 3."),
        (
            VECTOR,
            {"mode": "best"},
            ValueError,
            "`mode` must be one of 'auto', 'min', 'max'. Received: 'best'.",
        ),
        (
            {},
            {},
            ValueError,
            "the history has no metric 'loss'. It has no metric of one number; was anything "
            "trained",
        ),
        (keras.callbacks.History(), {}, ValueError, "was anything trained"),
        (
            [1.0, 2.0],
            {},
            TypeError,
            "`history` must be a History, or its dict of lists. Received: \\[1.0, 2.0\\]",
        ),
        ({"loss": 1.0}, {}, TypeError, "or its dict of lists. Received: {'loss': 1.0}"),
        (
            {"loss": [1.0], "a": [1.0, 2.0]},
            {},
            ValueError,
            "'loss' has 1 values in 2 epochs; at which ones does not show",
        ),
        (
            {"loss": [0.0] * 5, "val_loss": [0.0]},
            {},
            ValueError,
            "'val_loss' has 1 values in 5 epochs. Say in which ones",
        ),
        (
            {"loss": [0.0] * 5, "val_loss": [0.0] * 4},
            {},
            ValueError,
            "counted from 1. Received: None",
        ),
        ({"loss": [0.0] * 5, "val_loss": [0.0]}, {"validation_freq": 2}, ValueError, "Received: 2"),
        (
            {"loss": [0.0] * 5, "val_loss": [0.0]},
            {"validation_freq": 0},
            ValueError,
            "`validation_freq` must be at least 1",
        ),
    ],
)
def test_arguments_are_checked(history, how, error, message):
    with pytest.raises(error, match=f"^kp.plot_history: .*{message}"):
        kp.plot_history(history, **how)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError, match="draws with matplotlib, which is missing: pip install matplotlib"
    ):
        kp.plot_history({"loss": [1.0]})
