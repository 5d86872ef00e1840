"""Going back, training again to where something is not finite first, and going back once more
without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from .._util.messages import say
from ..data import NoBatchLeftError
from ..run.requests import Rewind, RunView
from ..storage import Position
from .finding import NonFiniteFinding, not_finite
from .forward import broken_rows, explain, wrong_in_batch
from .watch import Variables


class Search:
    """The findings in a run, and the replay that looks for the next one.

    Args:
        rollback, rate_factor, max_rollbacks, skip_batch: As in `kp.NonFiniteGuard`.

    Attributes:
        findings: The oldest first.
        replay_until: The step after which something was not finite, while it is trained again up to
            there.
        rollback_target: The checkpoint to go back to.
        variables: Those that are looked at.
        last_checked_step: The step at which they were.
    """

    variables: Variables
    _run: RunView

    def __init__(
        self, rollback: bool, rate_factor: float, max_rollbacks: int, skip_batch: bool
    ) -> None:
        self.rollback = rollback
        self.rate_factor = rate_factor
        self.max_rollbacks = max_rollbacks
        self.skip_batch = skip_batch
        self.findings: list[NonFiniteFinding] = []
        self.replay_until: int | None = None
        self.last_checked_step = 0
        self.rollback_target: Position | None = None
        self._preview: tuple[int, str] | None = None

    def open(self, run: RunView) -> None:
        """Looks at a model that is built, before it is trained."""
        self._run = run
        self.variables = Variables(run.model)

    def start(self) -> None:
        """The run is about to train from where it stands."""
        if self.replay_until == self._run.step + 1:
            self._look_ahead()

    def begin_if(self, wrong: list[str]) -> Rewind | None:
        """Begins to look, if there are variables that are not finite now."""
        return self.begin(f"{wrong[0]} is not finite") if wrong else None

    def begin(self, what: str) -> Rewind:
        """Something is wrong here; it began here or before."""
        step = self._run.step
        if not self.rollback:
            self._give_up(
                NonFiniteFinding(step, self._run.batch_number(step - 1), what, scaled=False)
            )
        assert self.rollback_target
        self.replay_until = step
        self._say(
            f"step {step:,}: {what}. Going back to step {self.rollback_target.step:,}, to train "
            "again to where it begins."
        )
        return Rewind(self.rollback_target)

    def replay(self, in_loss: bool) -> Rewind | None:
        """At each boundary, which is each step, while `replay_until` is set; `in_loss` says whether
        the loss is not finite.
        """
        assert self.replay_until is not None
        assert self.rollback_target
        step, wrong = self._run.step, self.variables.wrong()
        if step < self.replay_until and (wrong or in_loss):
            # It is here that it begins. Once more, to see the state before it.
            self.replay_until = step
            return Rewind(self.rollback_target)
        if in_loss or wrong:
            return self._conclude(in_loss, wrong)
        if step >= self.replay_until:
            self.replay_until = self._preview = None
            self._say(
                f"step {step:,} was trained again, and all is finite: the fault is not in the data "
                "or the model. Going on."
            )
        elif step == self.replay_until - 1:
            self._look_ahead()
        return None

    def _look_ahead(self) -> None:
        """Looks at the batch of the next step, before it is trained on."""
        run = self._run
        number = run.batch_number(run.step)
        seen = explain(run.model, run.batch(number), run.examples(number))
        self._preview = run.step + 1, seen

    def _conclude(self, in_loss: bool, wrong: list[str]) -> Rewind:
        assert self.rollback_target
        step = self._run.step
        number = self._run.batch_number(step - 1)
        examples = self._run.examples(number)
        seen = self._preview[1] if self._preview and self._preview[0] == step else ""
        batch = self._run.batch(number)
        seen = seen or wrong_in_batch(batch, examples)
        cause = (
            "the loss is not finite"
            if in_loss
            else "the loss is finite, and what the step made of the weights is not"
        )
        finding = NonFiniteFinding(step, number, seen or cause, wrong[0] if wrong else "", examples)
        if len(self.findings) >= self.max_rollbacks:
            self._give_up(finding)
        self.findings.append(finding)
        # Broken for good, they would come again in each pass.
        broken = [examples[row] for row in broken_rows(batch)] if examples else []
        if self.skip_batch:
            self._leave_out(number, broken, finding)
        self.replay_until = self._preview = None
        self._say(f"{finding}. {self._consequence(broken)}.")
        return Rewind(self.rollback_target)

    def _leave_out(self, number: int, broken: Sequence[int], finding: NonFiniteFinding) -> None:
        try:
            self._run.leave_out(number, broken)
        except NoBatchLeftError as error:
            raise not_finite(
                f"Training is not finite: {finding}. Without it, {error}",
                self.findings,
            ) from None

    def _say(self, text: str) -> None:
        say(text, self._run.has_open_bar)

    def _consequence(self, broken: Sequence[int]) -> str:
        assert self.rollback_target
        others = (
            f" and all others that hold {'these examples' if len(broken) > 1 else 'this example'}"
            if broken
            else ""
        )
        without = f", without the batch{others}" if self.skip_batch else ""
        rate = f", with the rate times {self.rate_factor:g}" if self.rate_factor < 1 else ""
        return (
            f"Going back to step {self.rollback_target.step:,}{without}{rate} (rollback "
            f"{len(self.findings)} of {self.max_rollbacks})"
        )

    def _give_up(self, finding: NonFiniteFinding) -> NoReturn:
        found = [*self.findings, finding]
        lines = "".join(f"\n  {number}. {one}" for number, one in enumerate(found, 1))
        after = f", after {len(self.findings)} rollbacks" if self.findings else ""
        sound = (
            f"\nThe last sound checkpoint is that of step {self.rollback_target.step:,}."
            if self.rollback_target
            else ""
        )
        raise not_finite(
            f"Training is not finite{after}:{lines}{sound}\nLook at these examples and layers "
            "first. Then: a lower rate, or a longer warm-up; gradient clipping (clipnorm= of the "
            "optimizer); float32 in the layer that is named.",
            found,
        )
