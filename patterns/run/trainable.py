"""The part of a model that is trained, where hooks change it during a run."""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_patterns.backends import current

from ..checkpoint import Cursor, Duty
from ..optimizers.rebuild import rebuild_optimizer
from .hooks import Hook
from .open_plan import Plan, known_steps
from .run_data import RunData


def sets_trainable(callback: keras.callbacks.Callback) -> bool:
    """True of a hook that says what is trained where a run stands."""
    return isinstance(callback, Hook) and (
        type(callback).restore_trainable is not Hook.restore_trainable
    )


class TrainedPart:
    """The part of a model that is trained.

    Args:
        model: In training.
        hooks: Of the run.
        data: The batches; one of them shows how to build the model.
        plan: Of the run.
    """

    def __init__(self, model: keras.Model, hooks: list[Hook], data: RunData, plan: Plan) -> None:
        self._model = model
        self._hooks = hooks
        self._data = data
        self._plan = plan
        self._setters = [one for one in hooks if sets_trainable(one)]

    @property
    def is_set_by_hooks(self) -> bool:
        """True if a hook has a say in it."""
        return bool(self._setters)

    def restore(self, cursor: Cursor) -> None:
        """Makes it what hooks say that it is where a run stands."""
        if not self._setters:
            return
        total = known_steps(self._plan)
        if total is None:
            raise ValueError(
                f"{type(self._setters[0]).__name__} needs the number of steps before the first "
                "one, and nobody knows how many batches a pass over these data has. Say "
                "total_steps=, or steps_per_epoch= beside epochs=."
            )
        self._build()
        # What hooks ask for at a boundary has not happened where that is left to do.
        step = cursor.step - bool({Duty.HOOKS, Duty.CLOSE_EPOCH} & {*cursor.todo})
        for hook in self._setters:
            hook.restore_trainable(self._model, step, total)
        rebuild_optimizer(self._model)

    def change(self, change: Callable[[keras.Model], None]) -> None:
        """Changes it between two steps."""
        self._build()
        change(self._model)
        rebuild_optimizer(self._model)

    def tell(self) -> None:
        """Tells the hooks that it may have changed, if any of them changes it."""
        for hook in self._hooks if self._setters else ():
            hook.on_trainable_changed()

    def _build(self) -> None:
        if not self._model.built:
            current().build(self._model, self._data.samples[0])
