"""`kp.SwitchAugmentation`: layers that augment, turned off or given other settings at a step."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.messages import say
from .._util.schema import Count, checked
from ..optimizers.where import Where, describe, nodes_of, select
from ..run.history import add_event
from ..run.hooks import Hook
from ..run.plain import PlainRun
from ..run.requests import Boundary, RunView, SetTrainable

_CALLER = "SwitchAugmentation"
# Keras's layers that draw how to change an example; `Resizing` and its like are not among them.
_AUGMENTING = tuple(
    layer
    for name, layer in vars(keras.layers).items()
    if name.startswith("Random") or name in ("AugMix", "CutMix", "MixUp", "RandAugment")
)

Setting: TypeAlias = Literal["on", "off"] | Mapping[str, Any]


class SwitchAugmentation(Hook):
    """Turns the augmentation inside a model off, or gives it other settings, from steps on: such as
    the last epochs without any.

    A layer that is off does in training what it does in inference. One with other settings draws
    from its own generator still. What a layer does is a function of the step, so a run that is
    killed before, on or after a switch goes on exactly. The step is compiled anew once for each
    switch. When the run ends, the layers are as they were.

    In plain `model.fit` a switch is made at the first epoch that begins at its step or later. A
    loop of one's own sees it if its step is not compiled. Layers in a data pipeline cannot be
    switched, since batches are made ahead of their step: put them into the model.

    Args:
        stages: For each step, at which that many steps are done, what holds from then on: `"off"`,
            `"on"`, as the layer was made, or a dict of arguments of the layer that change, such as
            `{"factor": 0.05}`.
        where: The layers, as everywhere: those without weights that it selects and whose `call`
            takes `training`. Defaults to None: all of Keras's layers that augment, such as
            `RandomFlip`, `RandAugment` and `MixUp`.
        verbose: 0 is silent; 1 says what is switched. Defaults to 1.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there are no stages, or a step is below 1; at the start of the run, if
            `where` selects no such layer, a layer has no such argument or has parts that draw by
            themselves, or a stage comes after the last step.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> layers = [keras.layers.RandomFlip(seed=1), keras.layers.Flatten(), keras.layers.Dense(1)]
    >>> model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((32, 4, 4, 3), "float32"), np.ones((32, 1))
    >>> history = kp.fit(model, x, y, total_steps=8, epochs=4, seed=0, verbose=0,
    ...     callbacks=[kp.SwitchAugmentation({6: "off"})])
    keras-patterns: step 6: augmentation is off.
    >>> history.events[0]["kind"], history.events[0]["step"]
    ('augmentation', 6)

    References:
        Z. Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430, section 2.1: the
            last 15 epochs without Mosaic and MixUp.
        H. Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019,
            arXiv:1906.06423.
    """

    def __init__(
        self, stages: Mapping[int, Setting], where: Where | None = None, verbose: int = 1
    ) -> None:
        super().__init__()
        if not isinstance(stages, Mapping) or not stages:
            raise ValueError(
                f"{_CALLER}: `stages` must be a dict from steps to what holds from there. "
                f"Received: {stages!r}."
            )
        self.stages = {
            whole_number(_CALLER, "stages", step): _setting(stages[step]) for step in sorted(stages)
        }
        self.where = where
        self.verbose = verbose
        self._done = 0
        self._in_force: int | None = None
        self._calls: dict[int, list[tuple[keras.Layer, Callable[..., Any]]]] = {}
        self._restore: list[Callable[[], None]] = []

    def get_config(self) -> dict[str, Any]:
        """The stages, and the layers in words."""
        return {
            "stages": {str(step): setting for step, setting in self.stages.items()},
            "where": None if self.where is None else describe(self.where),
        }

    def get_state(self) -> dict[str, Any]:
        """The step up to which its stages are done."""
        return {"done": self._done}

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` gave."""
        self._done = checked(state["done"], Count, "done")

    def on_run_start(self, run: RunView) -> None:
        """Finds the layers, and brings them to what holds where the run is taken up."""
        total = run.total_steps
        if total is not None and max(self.stages) >= total:
            raise ValueError(
                f"{_CALLER}: the stage at step {max(self.stages):,} would come after the last step "
                f"of the run, which has {total:,}. Switch earlier, or plan more steps."
            )
        self._put_back()
        self._calls = self._plan(run.model)
        if isinstance(run, PlainRun):
            # The first epoch tells where it begins.
            self._done = 0
        elif self._switch(run.step):
            run.recompile_step()
        self._tell(run.step)

    def next_boundary(self, step: int) -> int | None:
        """The step of the next stage."""
        return min((stage for stage in self.stages if stage > step), default=None)

    def on_boundary(self, boundary: Boundary) -> SetTrainable | None:
        """Switches what is due."""
        if isinstance(self.run, PlainRun):
            return None
        self._tell(boundary.step)
        if self._stage_at(boundary.step) == self._in_force:
            return None
        # The layers are outside of a step there.
        return SetTrainable(lambda model: self._switch_to(self._stage_at(boundary.step)))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Switches what is due, in plain `model.fit`."""
        super().on_epoch_begin(epoch, logs)
        if isinstance(self.run, PlainRun):
            # A fit that goes on from a checkpoint begins at a later epoch.
            length = (self.params or {}).get("steps")
            step = epoch * length if length else self.run.step
            if self._switch(step):
                self.run.recompile_step()
            self._tell(step)

    def on_run_end(self) -> None:
        """Leaves the layers as they were."""
        if self._put_back():
            assert self.run
            self.run.recompile_step()
        self._calls = {}

    def _tell(self, step: int) -> None:
        assert self.run
        due = [stage for stage in self.stages if self._done < stage <= step]
        self._done = step
        for stage in due:
            setting = self.stages[stage]
            shown = setting if isinstance(setting, str) else f"set to {dict(setting)}"
            text = f"{'augmentation' if self.where is None else describe(self.where)} is {shown}"
            add_event(self.run.history, "augmentation", step, text)
            if self.verbose:
                say(f"step {step:,}: {text}.", below_bar=self.run.has_open_bar)

    def _stage_at(self, step: int) -> int | None:
        return max((stage for stage in self.stages if stage <= step), default=None)

    def _switch(self, step: int) -> bool:
        """Brings the layers to what holds after a step; true if that is something else."""
        stage = self._stage_at(step)
        changes = stage != self._in_force
        if changes:
            self._switch_to(stage)
        return changes

    def _switch_to(self, stage: int | None) -> None:
        self._put_back()
        for layer, call in self._calls[stage] if stage else ():
            if call != layer.call:
                self._restore.append(_keras.replace_attribute(layer, "call", call))
        self._in_force = stage

    def _put_back(self) -> bool:
        """Puts back what the layers do by themselves; true if they did something else."""
        changes = bool(self._restore)
        while self._restore:
            self._restore.pop()()
        self._in_force = None
        return changes

    def _plan(self, model: keras.Model) -> dict[int, list[tuple[keras.Layer, Callable[..., Any]]]]:
        """The calls of the layers, by the stage from which they hold."""
        layers = _augmenting(model, self.where)
        return {
            step: [(layer, _call_with(layer, setting)) for layer in layers]
            for step, setting in self.stages.items()
        }


def _setting(value: Any) -> Setting:
    if value in ("on", "off") or (isinstance(value, Mapping) and value):
        return value
    raise ValueError(
        f'{_CALLER}: `stages` must hold "off", "on" or a dict of arguments of the layer. Received: '
        f"{value!r}."
    )


def _augmenting(model: keras.Model, where: Where | None) -> list[keras.Layer]:
    """The layers that can be switched."""
    if where is None:
        found = [node.layer for node in nodes_of(model) if isinstance(node.layer, _AUGMENTING)]
        # One inside another is called by that one.
        inside = {id(one) for layer in found for one in _keras.sublayers(layer)}
        found = [layer for layer in found if id(layer) not in inside]
    else:
        nodes = select(_CALLER, model, where).nodes
        found = [node.layer for node in nodes if _is_switchable(node.layer)]
    if not found:
        what = "no layer of Keras that augments" if where is None else f"{where!r} selects none"
        raise ValueError(
            f"{_CALLER}: there is nothing to switch in {model.name!r}: {what}. Expected layers "
            "inside the model that have no weights and whose call takes `training`; those of a "
            "data pipeline make batches ahead of their step, and cannot be switched."
        )
    return found


def _is_switchable(layer: keras.Layer) -> bool:
    return not layer.weights and "training" in inspect.signature(type(layer).call).parameters


def _call_with(layer: keras.Layer, setting: Setting) -> Callable[..., Any]:
    """The call of a layer with a setting."""
    if setting == "on":
        return layer.call
    if isinstance(setting, Mapping):
        return _stand_in(layer, setting).call
    call, signature = layer.call, inspect.signature(layer.call)

    def call_off(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named)
        given.arguments["training"] = False
        return call(*given.args, **given.kwargs)

    return call_off


def _stand_in(layer: keras.Layer, changes: Mapping[str, Any]) -> keras.Layer:
    """A layer with other settings that draws from the generators of the first."""
    config = layer.get_config()
    unknown = [name for name in changes if name not in config]
    if unknown:
        raise ValueError(
            f"{_CALLER}: {layer.name!r} has no argument {unknown[0]!r}. It has "
            f"{', '.join(sorted(config))}. Give `where=`, if the others have."
        )
    # A seed that Keras chooses moves Python's random state.
    before = random.getstate()
    other = type(layer).from_config({**config, **changes})
    random.setstate(before)
    for name, value in vars(layer).items():
        if isinstance(value, keras.random.SeedGenerator):
            setattr(other, name, value)
    if any(one.variables for one in _keras.sublayers(other)):
        raise ValueError(
            f"{_CALLER}: {layer.name!r} has layers inside it that draw by themselves, so that its "
            'settings cannot change during a run. Expected "off" or "on".'
        )
    return other
