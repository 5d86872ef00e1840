"""How sure the rules are of their rates: planted curves, real sweeps, and what is said of them."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from places import oracle
from sweeps import descent, made, noise, sweep_of

import keras_patterns as kp
from keras_patterns.cli.demo import training
from keras_patterns.finder.confidence import read
from keras_patterns.finder.rules import RULES

RATES = np.geomspace(1e-6, 1.0, 200)
DECADES = np.log10(RATES)
# Real sweeps of the benchmark's nets and of the demo's.
SWEEPS = oracle("sweeps.json")


def of(losses, smoothing=0.9):
    return made(np.asarray(losses, float), smoothing=smoothing)


def dip(place, depth):
    return -depth * np.exp(-((DECADES - place) ** 2) / 0.1)


# Where there is noise.


@pytest.mark.once
@pytest.mark.parametrize("rule", ["valley", "steep", "slide", "gradient"])
def test_no_rule_of_slopes_is_sure_of_pure_noise(rule):
    usable = slice(20, 195)
    for seed in range(20):
        assert read(RATES, noise(seed, 200), usable, 200, 0.9)[rule].doubt


@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("deviation", [0.1, 0.3])
def test_no_rule_points_at_noise_on_a_flat_start(seed, deviation):
    falls = 2.3 - 0.9 * np.clip(DECADES + 3, 0, None)
    found = of(falls + noise(seed, 200, deviation)).suggestions()
    assert "minimum" in found
    # The lines that count are a tenth of the steps long.
    assert min(found.values()) > 1e-3 / 4


@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.1])
def test_a_fall_of_one_step_is_found(seed, deviation):
    losses = np.where(np.arange(200) < 120, 2.3, 0.5) + noise(seed, 200, deviation)
    found = of(losses).suggestions()
    for rule in ("steep", "gradient"):
        assert found[rule] == pytest.approx(RATES[119], rel=0.2)
    assert found.spread < 30


@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
def test_a_straight_fall_to_the_last_rate_has_no_steepest_place(seed):
    found = of(2.3 - 0.3 * (DECADES + 6) + noise(seed, 200)).suggestions()
    assert found["minimum"] == pytest.approx(RATES[-6] / 10, rel=0.7)
    for rule in ("steep", "gradient"):
        assert found.unsure[rule].startswith("the loss falls as steeply from ")


@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
def test_of_two_dips_the_deeper_one_counts(seed):
    found = of(dip(-4.5, 1.0) + dip(-1.5, 1.6) + noise(seed, 200)).suggestions()
    assert {"steep", "minimum", "gradient"} <= set(found)
    # Where the second one falls; and a tenth of its floor.
    assert all(3e-3 < found[rule] < 4e-2 for rule in ("steep", "gradient"))
    assert found["minimum"] == pytest.approx(10**-2.5, rel=0.7)


@pytest.mark.once
@pytest.mark.parametrize("seed", range(5))
def test_of_two_equal_dips_minimum_cannot_tell(seed):
    found = of(dip(-4.5, 1.5) + dip(-1.5, 1.5) + noise(seed, 200)).suggestions()
    assert found.unsure["minimum"].startswith("noise moves it from ")


@pytest.mark.once
@pytest.mark.parametrize("made_steps", [12, 24])
def test_a_sweep_that_ends_at_once_is_an_error(made_steps):
    curve = {"rates": RATES[:made_steps], "losses": np.geomspace(2, 9, made_steps), "steps": 200}
    for ask in (sweep_of(curve).suggest, sweep_of(curve).suggestions):
        with pytest.raises(ValueError, match=rf"^Only {made_steps} of 200 steps were made"):
            ask()


@pytest.mark.once
def test_what_falls_after_a_divergence_is_no_descent():
    losses = descent(0, 200, 0.05)
    losses[170:] = np.linspace(9, 3, 30)
    found = of(losses).suggestions()
    assert all(rate < 0.1 for rate in found.values())
    assert found["steep"] < 0.02


@pytest.mark.once
def test_more_noise_makes_fewer_rules_sure_and_none_wrong():
    counts = []
    for deviation in (0.0, 0.1, 0.5, 1.0):
        found = [of(descent(seed, 200, deviation)).suggestions() for seed in range(5)]
        counts.append(sum(map(len, found)))
        assert all(2e-4 < rate < 3e-2 for one in found for rate in one.values())
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] > 0


@pytest.mark.once
def test_noise_at_a_flat_start_does_not_open_the_range():
    lows = [of(descent(seed, 200, 0.5)).range()[0] for seed in range(20)]
    assert min(lows) > 2e-5


# Where there is none.


@pytest.mark.once
@pytest.mark.parametrize("smoothing", [0.9, 0.98])
@pytest.mark.parametrize("points", [85, 200])
@pytest.mark.parametrize("curve", ["falls and diverges", "falls for ever", "a parabola"])
def test_without_noise_every_rule_is_sure_and_reads_what_it_always_does(curve, points, smoothing):
    rows = oracle("rules.json")["rows"]
    row = next(row for row in rows if row["curve"] == f"{curve}, {points}")
    sweep = sweep_of(row, smoothing)
    usable = slice(points // 10, -5)
    rates, smoothed = sweep.rates[usable], sweep.smoothed[usable]
    assert dict(sweep.suggestions()) == {rule: RULES[rule](rates, smoothed) for rule in RULES}


@pytest.mark.once
def test_loss_times_a_factor_and_plus_a_constant_give_the_same_rates():
    losses = descent(1, 200)
    found, other = of(losses).suggestions(), of(100 * losses - 7).suggestions()
    # The threshold of "slide" is in units of the loss.
    for rule in set(RULES) - {"slide"}:
        assert found.get(rule) == other.get(rule)


@pytest.mark.once
def test_the_same_sweep_is_read_alike_and_draws_nothing_from_numpy():
    np.random.seed(3)
    first, second = (of(descent(2)).suggestions() for _ in range(2))
    drawn = np.random.rand()
    np.random.seed(3)
    assert drawn == np.random.rand()
    assert (dict(first), first.intervals, first.unsure) == (
        dict(second),
        second.intervals,
        second.unsure,
    )


# On real nets.


@pytest.mark.once
@pytest.mark.parametrize("name", SWEEPS)
def test_rules_that_are_sure_lie_within_a_factor_of_thirty(name):
    row = SWEEPS[name]
    rates = np.geomspace(*row["rates"], len(row["losses"]))
    found = sweep_of({**row, "rates": rates}, 0.9).suggestions()
    assert found.spread < 30
    assert "minimum" in found


def test_rules_agree_on_a_sweep_of_the_demo():
    (x, y), _, _ = training.load_digits()
    sweep = kp.find_learning_rate(
        training.make_model(), x, y, batch_size=training.BATCH_SIZE, seed=8, verbose=0
    )
    found = sweep.suggestions()
    assert {"valley", "minimum"} <= set(found)
    assert found.spread < 30


# Saying so.


def noisy():
    return of(descent(0, 200, 0.5))


@pytest.mark.once
def test_a_rule_that_is_not_sure_raises_and_names_those_that_are():
    with pytest.raises(
        ValueError,
        match=r"^suggest: the rule 'slide' is not sure of a rate: .* lies where the loss does not "
        r"fall\. Sure are: .*minimum \(\d.*\)\. Look at the curve \(\.plot\(\)\), or sweep in more",
    ):
        noisy().suggest("slide")


@pytest.mark.once
def test_every_rule_is_either_sure_or_says_why_not():
    found = noisy().suggestions()
    assert set(found) | set(found.unsure) == set(RULES)
    assert not set(found) & set(found.unsure)
    assert all(found.unsure.values())


@pytest.mark.once
def test_a_sure_rate_lies_within_its_interval_of_a_decade_at_most():
    for seed in range(5):
        found = of(descent(seed, 200)).suggestions()
        for rule, (low, high) in found.intervals.items():
            assert low <= found[rule] <= high <= 10 * low


@pytest.mark.once
def test_the_table_leaves_out_what_is_not_sure_and_says_why():
    text = repr(noisy())
    assert "\nminimum  " in text
    assert "\nslide  " not in text
    assert "\nNot sure: slide: " in text
    assert "For a cycle: from " in text


@pytest.mark.once
def test_the_picture_leaves_out_what_is_not_sure_and_says_why():
    sweep = noisy()
    axes = sweep.plot()
    marked = {line.get_label().split()[0] for line in axes.lines if line.get_marker() == "o"}
    assert marked == set(sweep.suggestions())
    said = [text.get_text().replace("\n", " ") for text in axes.get_legend().get_texts()]
    assert any(one.startswith("slide not sure: ") for one in said)
    plt.close(axes.figure)


@pytest.mark.once
def test_no_rule_sure_is_said_in_table_and_picture():
    sweep = of(dip(-4.5, 1.5) + dip(-1.5, 1.5) + noise(0, 200))
    assert not sweep.suggestions()
    assert sweep.suggestions().spread == 1
    assert sweep.plot().get_title() == "No rule is sure of a rate"
    assert repr(sweep).count("Not sure: ") == len(RULES)
    with pytest.raises(ValueError, match=r"No rule is sure\. Look at the curve"):
        sweep.suggest()


@pytest.mark.once
def test_a_rate_that_is_not_sure_is_not_applied():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    with pytest.raises(ValueError, match="the rule 'slide' is not sure of a rate"):
        noisy().apply(model, "slide")
    assert float(model.optimizer.learning_rate.numpy()) == 0.25
