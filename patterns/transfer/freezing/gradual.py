"""`kp.GradualUnfreeze`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from ..._util.arguments import check_choice, whole_number
from ..._util.messages import say
from ..._util.schema import Count, checked
from ...optimizers.where import Where, describe, select
from ...run.history import add_event
from ...run.hooks import Hook
from ...run.requests import Boundary, RunView, SetTrainable
from .trained import Trained


class GradualUnfreeze(Hook):
    """Thaws parts of a model in stages, each at a step of `kp.fit`.

    The parts that it names are frozen when the run begins, and thawed at their steps; what it does
    not name stays as the script has it. The optimizer goes on with its counter, its rate and the
    slots of what is trained already; those of a thawed part begin fresh, and what corrects young
    moments, as in Adam, goes by the part's own steps. The step is compiled anew once for each
    stage. What is trained is a function of the step, so a run that is killed before, on or after a
    stage goes on exactly.

    Args:
        stages: For each step, at which that many steps are done, what to thaw then: `{200:
            "block5_*", 400: "block4_*"}`. See `kp.freeze` for what can stand there, and
            `kp.last_layers_first` and `kp.head_then_all` for ready plans.
        batch_norm: What the BatchNormalization layers of a part do until it is thawed: `"frozen"`,
            they run in inference mode; `"adapt"`, their statistics follow the data. Thawed, they
            train. Defaults to `"frozen"`.
        verbose: 0 is silent; 1 says what is thawed. Defaults to 1.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there are no stages, or a step is below 1; at the start of the run, if a
            stage selects nothing, two of them share a part, one comes after the last step, or
            nothing would be trained before the first.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
    ...     keras.layers.Dense(1, name="head")])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((32, 4)), np.ones((32, 1))
    >>> thaw = kp.GradualUnfreeze({4: "body"})
    >>> history = kp.fit(model, x, y, total_steps=8, epochs=2, seed=0, verbose=0, callbacks=[thaw])
    keras-patterns: step 4: 'body' is thawed.
    >>> history.events[0]["kind"], history.events[0]["step"]
    ('thawed', 4)

    References:
        J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
            2018, arXiv:1801.06146, section
            3.3.
    """

    def __init__(
        self, stages: Mapping[int, Where], batch_norm: str = "frozen", verbose: int = 1
    ) -> None:
        super().__init__()
        where = "GradualUnfreeze"
        check_choice(where, "batch_norm", batch_norm, ("frozen", "adapt"))
        if not isinstance(stages, Mapping) or not stages:
            raise ValueError(
                f"{where}: `stages` must be a dict from steps to what is thawed there. Received: "
                f"{stages!r}."
            )
        self.stages = {whole_number(where, "stages", step): stages[step] for step in sorted(stages)}
        self.batch_norm = batch_norm
        self.verbose = verbose
        self._done = 0
        self._trained_at = 0
        self._trained: dict[int, Trained] = {}

    def get_config(self) -> dict[str, Any]:
        """The stages in words, and how BatchNorm is treated."""
        return {
            "stages": {str(step): describe(where) for step, where in self.stages.items()},
            "batch_norm": self.batch_norm,
        }

    def get_state(self) -> dict[str, Any]:
        """The step up to which its stages are done."""
        return {"done": self._done}

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` gave."""
        self._done = checked(state["done"], Count, "done")

    def on_run_start(self, run: RunView) -> None:
        """Refuses plain `model.fit`; says what was thawed where the run is taken up."""
        if run.total_steps is None:
            raise ValueError(
                "GradualUnfreeze: what is trained cannot change inside model.fit. Train with "
                "kp.fit."
            )
        # A checkpoint of release 0.1 was made before the stage of its step.
        self._say_thawed(self._trained_at)

    def restore_trainable(self, model: keras.Model, step: int, total_steps: int) -> None:
        """Makes trainable what is trained after `step` steps."""
        self._plan(model, total_steps)
        self._trained_at = self._done = step
        self._stage_at(step).put_into(model)

    def next_boundary(self, step: int) -> int | None:
        """The step of the next stage."""
        return min((stage for stage in self.stages if stage > step), default=None)

    def on_boundary(self, boundary: Boundary) -> SetTrainable | None:
        """Thaws what is due."""
        self._trained_at = boundary.step
        thawed = self._say_thawed(boundary.step)
        return SetTrainable(self._stage_at(boundary.step).put_into) if thawed else None

    def _say_thawed(self, step: int) -> bool:
        """Says what is thawed at a step, and notes it; whether it is anything."""
        assert self.run
        due = [stage for stage in self.stages if self._done < stage <= step]
        self._done = step
        for stage in due:
            parts = self.stages[stage]
            several = isinstance(parts, list | tuple | set | frozenset) and len(parts) > 1
            text = f"{describe(parts)} {'are' if several else 'is'} thawed"
            add_event(self.run.history, "thawed", step, text)
            if self.verbose:
                say(f"step {step:,}: {text}.", below_bar=self.run.has_open_bar)
        return bool(due)

    def _stage_at(self, step: int) -> Trained:
        return self._trained[max(stage for stage in self._trained if stage <= step)]

    def _plan(self, model: keras.Model, total_steps: int) -> None:
        """Plans what is trained from each stage on."""
        where = "GradualUnfreeze"
        last = max(self.stages)
        if last >= total_steps:
            raise ValueError(
                f"{where}: the stage at step {last:,} would come after the last step of the run, "
                f"which has {total_steps:,}. "
                "Thaw earlier, or plan more steps."
            )
        selections = {step: select(where, model, part) for step, part in self.stages.items()}
        seen: dict[int, int] = {}
        for step, selection in selections.items():
            if not selection.weights:
                raise ValueError(
                    f"{where}: {describe(self.stages[step])}, of step {step:,}, has nothing that "
                    "could be trained."
                )
            twice = [seen[id(weight)] for weight in selection.weights if id(weight) in seen]
            if twice:
                raise ValueError(
                    f"{where}: the stages at steps {twice[0]:,} and {step:,} share a part, which "
                    "can be thawed but once."
                )
            seen |= {id(weight): step for weight in selection.weights}
        trained = Trained.of(model)
        for selection in selections.values():
            trained = trained.without(selection, adapt=self.batch_norm == "adapt")
        if not trained.variables:
            raise ValueError(
                f"{where}: nothing would be trained before step {min(self.stages):,}. Leave the "
                "head out of the stages."
            )
        self._trained = {0: trained}
        for step, selection in selections.items():
            self._trained[step] = trained = trained.and_also(selection)
