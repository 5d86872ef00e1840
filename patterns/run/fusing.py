"""The choice between steps one by one and blocks of steps that are one program."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras

from keras_patterns.backends import CannotFuseError, current

from .._util.arguments import Fuse as Fuse
from .._util.messages import say
from ..data.stacked import FEWEST_STEPS
from ..state.fused_evaluation import BlockTerms
from ..state.programs import has_program, own_method, pays
from .blocks import Blocks
from .comparing import Candidate, Trial
from .driver import Driver
from .segments import Segment

# Steps that are made one by one, and timed, before anything is chosen.
_TIMED = 10
# Seconds that are trained one step at a time before it is seen whether the program is compiled.
_LOOKS_EVERY = 0.1
# Seconds that a run waits for the program at once, where the choice is free.
_PATIENCE = 0.0
# The least part of a step that a block must be able to save.
_LEAST_SHARE = 0.02


class Fusing:
    """The way in which the steps of a run are made: one by one, or in blocks.

    A run begins one by one. Blocks follow if they can be had, if they are worth their compilation,
    and if a comparison of both ways shows no difference in any bit.

    Args:
        driver: Of the run.
        asked: `kp.fit`'s `fuse`.
        verbose: As in `model.fit`.
        each_log: Whether hooks are to have the logs of each step.

    Attributes:
        blocks: The blocks; None where steps are made one by one.
    """

    def __init__(self, driver: Driver, asked: Fuse, verbose: int | str, each_log: bool) -> None:
        self._driver = driver
        self._asked = asked
        self._verbose = verbose
        self._each_log = each_log
        self.blocks: Blocks | None = None
        self._is_decided = False
        self._marks: list[float] = []
        self._candidate: Candidate | None = None
        self._told: int | None = None
        self._stops = False
        self._boundaries = 0
        # Not held: what is compiled anew is to be the only one.
        self._made_for: Callable[[], Any] = lambda: None
        if asked is False:
            self._is_decided = True

    def cut(self, segment: Segment) -> Segment:
        """The steps of a segment, or the first ones, as long as nothing is decided."""
        most = _TIMED
        if self._candidate is not None:
            most = max(1, int(_LOOKS_EVERY / self._candidate.seconds))
        is_short = segment.steps * segment.epochs <= most
        if self._is_decided or is_short or segment.steps_per_execution > 1:
            return segment
        steps = min(most, segment.steps)
        return replace(
            segment, steps=steps, epochs=1, closes=segment.closes and steps == segment.steps
        )

    def note_step(self) -> None:
        """A step begins."""
        if not self._is_decided and self._candidate is None:
            self._marks.append(time.perf_counter())

    def decide(self) -> None:
        """Chooses: before the first step what is plain then, the rest once some have been made."""
        used = self._driver.model.train_function
        is_made = self.blocks is not None or self._candidate is not None
        if is_made and (used is None or self._made_for() is not used):
            self.forget()
        if self._is_decided or self._driver.signals.received is not None:
            return
        try:
            if self._candidate is None:
                self._look()
            if self._candidate is not None and self._is_compiled(self._candidate):
                self._begin(self._candidate)
        except CannotFuseError as error:
            self._stay(str(error))

    def _look(self) -> None:
        """Makes a candidate of a program, unless something speaks against it."""
        if not self._marks:
            reason = self._blocker() or self._no_gain(current().step_overhead, 0.0)
            if reason:
                self._stay(reason)
            return
        if len(self._marks) < _TIMED:
            return
        driver = self._driver
        name = driver.callbacks.of_ones_own
        if name and self._boundaries and not has_program(driver.model):
            # What a step does is read once, at the first: a block would be of what it does now.
            self._stay(f"{name} may have changed what a step does since the first one")
            return
        current().sync(driver.model)
        # The first ones compile.
        timed = self._marks[2:] or self._marks[-1:]
        seconds = (time.perf_counter() - timed[0]) / len(timed)
        reason = self._no_gain(seconds, self._marks[1] - self._marks[0])
        if reason:
            self._stay(reason)
            return
        trial = Trial.of(driver.data)
        most = trial.most_steps(seconds)
        if most < FEWEST_STEPS and (most == 1 or self._asked == "auto"):
            self._stay("a batch is so large, or a step so long, that a block would hold few")
            return
        self._made_for = weakref.ref(driver.model.train_function)
        self._candidate = Candidate(driver.model, trial, most, seconds, self._each_log)

    def _is_compiled(self, candidate: Candidate) -> bool:
        """Waits for it where blocks are asked for and no signal has come; steps go on meanwhile
        where they are not.
        """
        until = time.perf_counter() + (math.inf if self._asked is True else _PATIENCE)
        is_compiled = candidate.is_compiled()
        while not is_compiled and self._driver.signals.received is None:
            if time.perf_counter() >= until:
                break
            is_compiled = candidate.is_compiled(_LOOKS_EVERY)
        return is_compiled

    def gives_up(self) -> bool:
        """True if blocks turned out not to pay: steps are run one by one then."""
        if self._asked != "auto" or self.blocks is None or not self.blocks.drawback:
            return False
        self._stay(self.blocks.drawback)
        return True

    @contextmanager
    def running(self, blocks: Blocks | None) -> Iterator[None]:
        """Within it, `fit` runs blocks, if there are any."""
        if blocks is None:
            yield
            return
        model = self._driver.model
        stepwise, model.train_function = model.train_function, blocks.train_function
        try:
            yield
        finally:
            # Not where the model was compiled anew meanwhile.
            if model.train_function is blocks.train_function:
                model.train_function = stepwise

    @property
    def is_outdated(self) -> bool:
        """True if somebody has made another train function, which is to train the model now, or
        has given the model other variables.
        """
        if self.blocks is None:
            return False
        used = self._driver.model.train_function
        return self.blocks.is_outdated or used not in (None, self.blocks.train_function)

    def note_boundary(self) -> None:
        """Callbacks and hooks were asked."""
        self._boundaries += not self._is_decided

    def leave_blocks(self, step: int) -> None:
        """Another function trains than the one that the blocks were made for: chooses anew. Other
        variables are trained by the same function, to which its program is bound.
        """
        if self.blocks is not None and self.blocks.is_outdated:
            self._stay("somebody has given the model other variables")
        else:
            self.forget()
        self._told, self._stops = step, bool(self._driver.model.stop_training)

    def take_told(self, step: int) -> bool:
        """True, once, if the callbacks were told of the epoch that begins at a step."""
        told, self._told = self._told == step, None
        return told

    def take_stop(self) -> bool:
        """True, once, if a stop was asked for when the blocks were left."""
        stops, self._stops = self._stops, False
        return stops

    def forget(self) -> None:
        """Chooses anew: what is compiled in has changed."""
        self._drop()
        self._marks = []
        self._boundaries = 0
        self._is_decided = self._asked is False

    def _begin(self, candidate: Candidate) -> None:
        driver = self._driver
        program = candidate.compared()
        self.blocks = Blocks(
            driver.data, program, candidate.trial.batches[0], candidate.seconds, candidate.most
        )
        self._is_decided = True
        driver.validation.allow_blocks(
            BlockTerms(
                candidate.seconds,
                self._saves_in_validations,
                gives_up=self._asked == "auto",
                needs_new=bool(driver.callbacks.of_ones_own),
                note=lambda way, why: self._note(f"validation {way}", why),
            )
        )
        self._note("in blocks", f"each is one program ({program.kind})")
        say(
            f"from step {driver.cursor.step:,} on, steps are run in blocks ({program.kind}).",
            verbose=self._verbose,
        )

    def _no_gain(self, seconds: float, compilation: float) -> str:
        """Why blocks would not pay, where that is asked; empty if they would.

        Args:
            seconds: Of one step.
            compilation: Seconds that a program takes to compile at least.
        """
        if self._asked != "auto":
            return ""
        driver = self._driver
        step = driver.cursor.step
        saved = min(seconds, current().step_overhead)
        if saved < _LEAST_SHARE * seconds:
            return "a step takes so long that a block would save next to nothing"
        if driver.plan.steps_per_epoch < FEWEST_STEPS:
            return "an epoch has so few steps"
        is_long = pays(driver.plan.total_steps - step, seconds, compilation)
        if not (is_long or has_program(driver.model)):
            return "so few steps are left that a program of several would not pay"
        return ""

    def _saves_in_validations(self, calls: int) -> bool:
        """True if so many calls less in each validation to come are worth a program."""
        if self._asked != "auto":
            return True
        plan = self._driver.plan
        epochs = (plan.total_steps - self._driver.cursor.step) / plan.steps_per_epoch
        return pays(epochs * calls)

    def _blocker(self) -> str:
        """Why there can be no blocks; empty if there can."""
        driver = self._driver
        if driver.plan_is_open:
            return "the length of the data is not known"
        if not driver.data.source.may_be_collected:
            return "the code of the data may look at the model between two steps"
        if keras.distribution.distribution() is not None:
            return "the model or its batches are spread over devices"
        if driver.model.steps_per_execution != 1:
            return "steps_per_execution says how many steps run together"
        if name := driver.callbacks.hears_batches:
            return f"{name} hears of each batch"
        # Elsewhere the code of a step is read once, and compared: what changes it later has no
        # effect in either way.
        if current().runs_python and (name := driver.callbacks.of_ones_own):
            return f"{name} may change what the code of a step does"
        if current().runs_python and driver.callbacks.call_a_schedule:
            return "LearningRateScheduler's function may change what the code of a step does"
        if name := own_method(driver.model, "fit", "get_metrics_result", "reset_metrics"):
            return f"the model's own {name} would be called more often"
        has_own_test = type(driver.model).test_step is not keras.Model.test_step
        if current().runs_python and driver.validation.exists and has_own_test:
            return "the model's own test_step may change what the code of a step does"
        return ""

    def _drop(self) -> None:
        self.blocks = None
        self._candidate = None
        self._driver.validation.forbid_blocks()

    def _stay(self, reason: str) -> None:
        self._drop()
        self._is_decided = True
        if self._asked is not False:
            self._note("one by one", reason)
            say(f"steps are run one by one: {reason}.", verbose=self._verbose)

    def _note(self, way: str, why: str) -> None:
        driver = self._driver
        driver.callbacks.history.ways.append({"step": driver.cursor.step, "way": way, "why": why})
