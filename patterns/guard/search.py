"""Going back, training again to where something is not finite first, and going back once more
without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import keras

from .._util.messages import say
from ..run.hooks import DrivingRun
from ..state.randomness import set_random_state
from ..storage import Position
from .finding import Finding, NonFiniteError
from .forward import broken_rows, explain, wrong_in_batch
from .watch import Variables


class Search:
    """What was found in a run, and what is looked for.

    Args:
        rollback, rate_factor, max_rollbacks, skip_batch: As in `kp.NonFiniteGuard`.

    Attributes:
        findings: What was found.
        seeks: The step after which something was not finite, while it is trained again up to there.
        point: The checkpoint to go back to.
        variables: Those that are looked at.
        looked: The step at which they were.
        below_bar: Whether Keras shows a progress bar, which stands open inside an epoch.
    """

    variables: Variables
    _model: keras.Model
    _run: DrivingRun

    def __init__(
        self, rollback: bool, rate_factor: float, max_rollbacks: int, skip_batch: bool
    ) -> None:
        self.rollback, self.rate_factor = rollback, rate_factor
        self.max_rollbacks, self.skip_batch = max_rollbacks, skip_batch
        self.findings: list[Finding] = []
        self.seeks: int | None = None
        self.looked = 0
        self.below_bar = False
        self.point: Position | None = None
        self._preview: tuple[int, str] | None = None

    def open(self, model: keras.Model, run: DrivingRun) -> None:
        """Looks at a model that is built, before it is trained."""
        self._model, self._run, self.variables = model, run, Variables(model)

    def go_on(self) -> None:
        """The run is about to go on from where it stands."""
        if self.seeks == self._run.step + 1:
            set_random_state(self._run.random)
            self._look_ahead()

    def begin_if(self, wrong: list[str]) -> None:
        """Begins to look, if there are variables that are not finite now."""
        if wrong:
            self.begin(f"{wrong[0]} is not finite")

    def begin(self, what: str) -> NoReturn:
        """Something is wrong here; it began here or before."""
        step = self._run.step
        if not self.rollback:
            self._give_up(Finding(step, self._run.number_of_batch(step - 1), what, scaled=False))
        assert self.point
        self.seeks = step
        self._say(
            f"step {step:,}: {what}. Going back to step {self.point.step:,}, to train again to "
            "where it begins."
        )
        self._run.roll_back(self.point)

    def seek(self, in_loss: bool) -> None:
        """At each boundary, which is each step, while `seeks` is set; `in_loss` says whether the
        loss is not finite.
        """
        assert self.seeks is not None
        assert self.point
        step, wrong = self._run.step, self.variables.wrong()
        if step < self.seeks and (wrong or in_loss):
            # It is here that it begins. Once more, to see the state before it.
            self.seeks = step
            self._run.roll_back(self.point)
        if in_loss or wrong:
            self._conclude(in_loss, wrong)
        elif step >= self.seeks:
            self.seeks = self._preview = None
            self._say(
                f"step {step:,} was trained again, and all is finite: the fault is not in the data "
                "or the model. Going on."
            )
        elif step == self.seeks - 1:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Looks at the batch of the next step, before it is trained on."""
        number = self._run.number_of_batch(self._run.step)
        self._preview = (
            self._run.step + 1,
            explain(self._model, self._run.source.batch(number), self._examples(number)),
        )

    def _conclude(self, in_loss: bool, wrong: list[str]) -> NoReturn:
        assert self.point
        step = self._run.step
        number = self._run.number_of_batch(step - 1)
        examples = self._examples(number)
        seen = self._preview[1] if self._preview and self._preview[0] == step else ""
        batch = self._run.source.batch(number)
        seen = seen or wrong_in_batch(batch, examples)
        cause = (
            "the loss is not finite"
            if in_loss
            else "the loss is finite, and what the step made of the weights is not"
        )
        finding = Finding(step, number, seen or cause, wrong[0] if wrong else "", examples)
        if len(self.findings) >= self.max_rollbacks:
            self._give_up(finding)
        self.findings.append(finding)
        # Broken for good, they would come again in each pass.
        broken = [examples[row] for row in broken_rows(batch)] if examples else []
        if self.skip_batch:
            self._run.skipped.leave_out(number, broken)
        self.seeks = self._preview = None
        self._say(f"{finding}. {self._consequence(broken)}.")
        self._run.roll_back(self.point)

    def _say(self, text: str) -> None:
        say(text, self.below_bar)

    def _consequence(self, broken: Sequence[int]) -> str:
        assert self.point
        others = (
            f" and all others that hold {'these examples' if len(broken) > 1 else 'this example'}"
            if broken
            else ""
        )
        without = f", without the batch{others}" if self.skip_batch else ""
        rate = f", with the rate times {self.rate_factor:g}" if self.rate_factor < 1 else ""
        return (
            f"Going back to step {self.point.step:,}{without}{rate} (rollback {len(self.findings)} "
            f"of {self.max_rollbacks})"
        )

    def _give_up(self, finding: Finding) -> NoReturn:
        found = [*self.findings, finding]
        lines = "".join(f"\n  {number}. {one}" for number, one in enumerate(found, 1))
        after = f", after {len(self.findings)} rollbacks" if self.findings else ""
        sound = (
            f"\nThe last sound checkpoint is that of step {self.point.step:,}."
            if self.point
            else ""
        )
        raise NonFiniteError(
            f"Training is not finite{after}:{lines}{sound}\nLook at these examples and layers "
            "first. Then: a lower rate, or a "
            "longer warm-up; gradient clipping (clipnorm= of the optimizer); float32 in the layer "
            "that is named.",
            found,
        )

    def _examples(self, number: int) -> tuple[int, ...]:
        indices = getattr(self._run.source, "indices", None)
        return () if indices is None else tuple(int(index) for index in indices(number))
