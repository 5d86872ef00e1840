"""Does `kp.debug` name the fault of a program that does not learn? Is it silent about sound ones?
What do `kp.preflight` and `kp.overfit_batch` cost, beside an epoch of `model.fit`?

Gallery: small programs with the faults of published ones, and of our own, each beside a healthy
twin, and healthy programs of other kinds (`model_faults/`), over several seeds. A fault is named if
one of its kinds, or an equivalent, stands first or second. An alarm is anything above a note that
is found in a healthy program. The confusion table says what was found first where each kind was
planted.

Costs: seconds of each call, over those of one epoch of `model.fit` on 20,000 examples, compiling
included on both sides.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from _measure import is_asked_for, rounds_asked, say_where, table
from model_faults import (
    eighth_set,
    fifth_set,
    fourth_set,
    healthy,
    met,
    own,
    published,
    second_set,
    seventh_set,
    sixth_set,
    third_set,
)

import keras_patterns as kp
from keras_patterns.debugging.finding import EQUIVALENTS

SEEDS = range(rounds_asked(3))
# Each registers its programs.
assert own
assert met
assert second_set
assert third_set
assert fourth_set
assert fifth_set
assert sixth_set
assert seventh_set
assert eighth_set


def programs(seed: int) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Name, planted kinds (none if it is healthy), and the program."""
    for name, case in published.REGISTRY.items():
        if is_asked_for(name):
            yield name, case.kinds, case.build(seed)
            yield f"{name}, healthy", (), case.healthy(seed)
    for name, make in healthy.HEALTHY.items():
        if is_asked_for(name):
            keras.utils.set_random_seed(seed)
            yield name, (), make()


def is_named(planted: tuple[str, ...], findings: list[kp.Finding]) -> bool:
    """True if a planted kind, or one that means the same, stands first or second."""
    wanted = {*planted, *(other for kind in planted for other in EQUIVALENTS.get(kind, ()))}
    return any(one.kind in wanted for one in findings[:2])


def alarms(findings: list[kp.Finding]) -> list[str]:
    """The kinds of what is found above a note."""
    return [one.kind for one in findings if one.severity != "note"]


def found_in(program: Any) -> list[kp.Finding]:
    model, x, y, fit = program
    return kp.debug(model, x, y, **fit).findings


def gallery() -> None:
    named, first, false, missed = Counter(), Counter(), [], []
    faulty = sound = 0
    for seed in SEEDS:
        for name, planted, program in programs(seed):
            findings = found_in(program)
            if not planted:
                sound += 1
                if alarms(findings):
                    false.append(f"{name} (seed {seed}): {', '.join(alarms(findings))}")
                continue
            faulty += 1
            hit = is_named(planted, findings)
            named[planted[0]] += hit
            first[planted[0], findings[0].kind if findings else "nothing"] += 1
            if not hit:
                kinds = ", ".join(one.kind for one in findings) or "nothing"
                missed.append(f"{name} (seed {seed}): planted {planted[0]}, found {kinds}")
    totals = Counter()
    for (kind, _), count in first.items():
        totals[kind] += count
    rows = [
        [
            kind,
            f"{named[kind]} of {totals[kind]}",
            ", ".join(f"{got} {n}" for (k, got), n in first.most_common() if k == kind),
        ]
        for kind in sorted(totals)
    ]
    table("Confusion", ["planted", "first or second", "found first"], rows)
    hits = sum(named.values())
    print(f"\nNamed: {hits} of {faulty} ({hits / max(1, faulty):.1%})")
    print(f"Alarms: {len(false)} of {sound} healthy programs ({len(false) / max(1, sound):.1%})")
    print(*[f"missed: {line}" for line in missed], *[f"alarm: {line}" for line in false], sep="\n")


def seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def costs() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20_000, 64)).astype("float32"), random.integers(0, 10, 20_000)

    def made() -> keras.Model:
        layers = [keras.layers.Dense(256, "relu"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential([keras.Input((64,)), *layers])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    sides = {
        "model.fit, one epoch": lambda model: model.fit(x, y, verbose=0),
        "kp.preflight": lambda model: kp.preflight(model, x, y),
        "kp.overfit_batch": lambda model: kp.overfit_batch(model, x, y),
        "kp.debug": lambda model: kp.debug(model, x, y),
    }
    times = {
        name: [seconds(functools.partial(w, made())) for _ in SEEDS] for name, w in sides.items()
    }
    epoch = np.median(times["model.fit, one epoch"])
    rows = [
        [name, f"{np.median(found):.2f}", f"{np.median(found) / epoch:.2f}"]
        for name, found in times.items()
    ]
    table("Costs", ["call", "seconds", "over one epoch"], rows)


if __name__ == "__main__":
    say_where()
    if is_asked_for("costs"):
        costs()
    gallery()
