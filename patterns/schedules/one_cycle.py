"""The one-cycle policy (Smith & Topin 2018): the rate up and far down again, the momentum the other
way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from keras import ops

from .._util.arguments import check_choice, check_order
from .._util.deprecated import renamed_keywords
from .._util.registered import registered
from .._util.steps import whole_steps
from .base import Schedule, move, take_rate, take_steps

Anneal = Literal["cosine", "linear"]
Convention = Literal["whole_steps", "pytorch", "optax", "fastai"]


class _Defaults(NamedTuple):
    warmup_fraction: float
    final_div_factor: float


_DEFAULTS: dict[str, _Defaults] = {
    "whole_steps": _Defaults(0.3, 1e4),
    "pytorch": _Defaults(0.3, 1e4),
    "optax": _Defaults(0.3, 1e4),
    "fastai": _Defaults(0.25, 1e5),
}
# Of optax's linear cycle alone.
_RETURN_FRACTION = 0.85


@registered
@renamed_keywords(maximal_learning_rate="peak_learning_rate", pct_start="warmup_fraction")
@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle of the rate: from `peak_learning_rate / div_factor` up to the peak, then down to
    almost nothing.

    The libraries differ in where the phases end. `T` is `total_steps`, `p` is `warmup_fraction`,
    `m` is `peak_learning_rate`, `d` is `div_factor`, `f` is `final_div_factor`:

    | convention | the peak is at step | the final rate at step | the final rate | p |
    | --- | --- | --- | --- | --- |
    | `"whole_steps"` | round(pT) - 1 | T - 1, the last one | m / (d f) | 0.3 |
    | `"pytorch"` | pT - 1 | T - 1, the last one | m / (d f) | 0.3 |
    | `"optax"` | floor(pT) | T, after the last one | m / (d f) | 0.3 |
    | `"fastai"` | pT | T, after the last one | m / f | 0.25 |

    The default, `"whole_steps"`, is PyTorch's, with the peak moved to a whole step, so that one
    step trains at exactly the peak rate. With `three_phase=True` the rate comes down to the
    initial one in as many steps as it went up, then on to the final one. After the last step the
    final rate stays.

    `"pytorch"` gives, step by step, `torch.optim.lr_scheduler.OneCycleLR`; `"optax"` with
    `"cosine"` optax's `cosine_onecycle_schedule`; `"fastai"` with `"cosine"` the rates of fastai's
    `fit_one_cycle`. `"optax"` with `"linear"` gives optax's `linear_onecycle_schedule`, which
    always has three phases: the rate is back at the initial one at step floor(rT), where `r` is
    `return_fraction`. fastai has no linear cycle; here its phases are then straight lines.

    Args:
        peak_learning_rate: The rate at the peak.
        total_steps: Optimizer steps of the whole training.
        warmup_fraction: The fraction of the steps in which the rate rises. Defaults to None: the
            convention's.
        div_factor: The peak rate over the initial one. Defaults to 25.
        final_div_factor: The initial rate (with `"fastai"`, the peak one) over the final one.
            Defaults to None: 1e4, with `"fastai"` 1e5.
        anneal: `"cosine"` or `"linear"`. Defaults to `"cosine"`.
        three_phase: Whether the descent has two phases, as in the paper. Not with `"fastai"`, nor
            with `"optax"` and `"cosine"`. Defaults to None: True with `"optax"` and `"linear"`,
            else False. False with these two gives two phases, which optax has not; models that were
            saved when this was all there was keep them.
        convention: See the table. Defaults to `"whole_steps"`.
        return_fraction: The fraction of the steps after which the rate is back at the initial one;
            optax's `pct_final`, with its three phases alone. Defaults to None: 0.85.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, does not go with the others, or a phase has no step.

    Example:

    >>> import keras_patterns as kp
    >>> rate = kp.schedules.OneCycle(1.0, total_steps=10, anneal="linear")
    >>> [round(float(rate(step)), 2) for step in range(10)]
    [0.04, 0.52, 1.0, 0.86, 0.71, 0.57, 0.43, 0.29, 0.14, 0.0]
    >>> rate = kp.schedules.OneCycle(
    ...     1000, 10, div_factor=10, final_div_factor=100, return_fraction=0.7,
    ...     anneal="linear", convention="optax",
    ... )
    >>> [round(float(rate(step))) for step in range(10)]
    [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34]

    References:
        L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
            Learning Rates", 2018, arXiv:1708.07120.
    """

    peak_learning_rate: float
    total_steps: int
    warmup_fraction: float | None = None
    div_factor: float = 25.0
    final_div_factor: float | None = None
    anneal: Anneal = "cosine"
    three_phase: bool | None = None
    convention: Convention = "whole_steps"
    return_fraction: float | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        take_rate(self, "peak_learning_rate", above=0.0)
        _check(self)
        take_rate(self, "div_factor", least=1.0)
        if self.final_div_factor is not None:
            take_rate(self, "final_div_factor", least=1.0)

    @property
    def _final_div_factor(self) -> float:
        given = self.final_div_factor
        return _DEFAULTS[self.convention].final_div_factor if given is None else given

    @property
    def initial_learning_rate(self) -> float:
        """The rate of the first step."""
        return self.peak_learning_rate / self.div_factor

    @property
    def final_learning_rate(self) -> float:
        """The rate in the end."""
        above = (
            self.peak_learning_rate if self.convention == "fastai" else self.initial_learning_rate
        )
        return above / self._final_div_factor

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        initial, peak, final = (
            self.initial_learning_rate,
            self.peak_learning_rate,
            self.final_learning_rate,
        )
        return _through(
            self,
            step,
            [initial, peak, initial, final] if self.three_phase else [initial, peak, final],
        )


@registered
@renamed_keywords(pct_start="warmup_fraction")
@dataclass(frozen=True)
class OneCycleMomentum(Schedule):
    """The momentum of one cycle: down while the rate of a `OneCycle` with the same arguments rises,
    then up again.

    Args:
        total_steps: Optimizer steps of the whole training.
        lowest: The momentum at the peak of the rate. Defaults to 0.85.
        highest: The momentum at the start and in the end. Defaults to 0.95.
        warmup_fraction, anneal, three_phase, convention, return_fraction: As in `OneCycle`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, does not go with the others, or a phase has no step.

    Example:

    >>> import keras_patterns as kp
    >>> momentum = kp.schedules.OneCycleMomentum(total_steps=10, anneal="linear")
    >>> [round(float(momentum(step)), 3) for step in (0, 1, 2, 9)]
    [0.95, 0.9, 0.85, 0.95]

    References:
        L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
            Learning Rates", 2018, arXiv:1708.07120.
    """

    total_steps: int
    lowest: float = 0.85
    highest: float = 0.95
    warmup_fraction: float | None = None
    anneal: Anneal = "cosine"
    three_phase: bool | None = None
    convention: Convention = "whole_steps"
    return_fraction: float | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        where = type(self).__name__
        for name in ("lowest", "highest"):
            take_rate(self, name, below=1.0)
        check_order(where, "lowest", self.lowest, "highest", self.highest)
        _check(self)

    def __call__(self, step: Any) -> Any:
        """The momentum at a step."""
        return _through(
            self,
            step,
            [self.highest, self.lowest, self.highest] + [self.highest] * bool(self.three_phase),
        )


Cycle = OneCycle | OneCycleMomentum


def _check(cycle: Cycle) -> None:
    where = type(cycle).__name__
    take_steps(cycle, "total_steps")
    check_choice(where, "anneal", cycle.anneal, get_args(Anneal))
    check_choice(where, "convention", cycle.convention, get_args(Convention))
    if cycle.warmup_fraction is not None:
        take_rate(cycle, "warmup_fraction", below=1.0)
    _check_phases(where, cycle)
    ends = _ends(cycle)
    if any(stop <= start for start, stop in zip([0.0, *ends], ends, strict=False)):
        raise ValueError(
            f"{where}: each phase needs a step, but with total_steps={cycle.total_steps} and "
            f"warmup_fraction={_warmup_fraction(cycle)} they "
            f"end at the steps {', '.join(f'{end:g}' for end in ends)}. Give more steps, or "
            f"another warmup_fraction{' or return_fraction' if len(ends) == 3 else ''}."
        )


def _check_phases(where: str, cycle: Cycle) -> None:
    """Settles how many phases there are, and checks what says so."""
    optax_linear = cycle.convention == "optax" and cycle.anneal == "linear"
    if cycle.three_phase is None:
        # As a bool: a checkpoint of an older version has the default so.
        object.__setattr__(cycle, "three_phase", optax_linear)
    if cycle.three_phase and cycle.convention in ("optax", "fastai") and not optax_linear:
        raise ValueError(
            f"{where}: three_phase=True goes with the conventions 'whole_steps' and 'pytorch', and "
            f"with 'optax' where anneal='linear'. Received: {cycle.convention!r} and "
            f"anneal={cycle.anneal!r}."
        )
    if cycle.return_fraction is None:
        return
    take_rate(cycle, "return_fraction", below=1.0)
    if not (optax_linear and cycle.three_phase):
        raise ValueError(
            f"{where}: `return_fraction` goes with the three phases of convention='optax' and "
            f"anneal='linear'. Received: {cycle.return_fraction!r} with {cycle.convention!r}, "
            f"anneal={cycle.anneal!r}, three_phase={cycle.three_phase}."
        )


def _warmup_fraction(cycle: Cycle) -> float:
    return (
        _DEFAULTS[cycle.convention].warmup_fraction
        if cycle.warmup_fraction is None
        else cycle.warmup_fraction
    )


def _ends(cycle: Cycle) -> list[float]:
    """The step at which each phase ends; not always a whole one."""
    up = _warmup_fraction(cycle) * cycle.total_steps
    match cycle.convention:
        case "fastai":
            return [up, cycle.total_steps]
        case "optax" if cycle.three_phase:
            given = cycle.return_fraction
            back = (_RETURN_FRACTION if given is None else given) * cycle.total_steps
            return [math.floor(up), math.floor(back), cycle.total_steps]
        case "optax":
            return [math.floor(up), cycle.total_steps]
        case "pytorch":
            peak = up - 1
        case _:
            peak = round(up) - 1
    return (
        [peak, 2 * peak, cycle.total_steps - 1]
        if cycle.three_phase
        else [peak, cycle.total_steps - 1]
    )


def _through(cycle: Cycle, step: Any, values: list[float]) -> Any:
    """Goes through the phases, each from one of the values to the next."""
    step = whole_steps(step)
    ends = _ends(cycle)
    phases = [
        move(step, start, stop, first, last, cycle.anneal)
        for start, stop, first, last in zip(
            [0.0, *ends[:-1]], ends, values[:-1], values[1:], strict=True
        )
    ]
    result = phases[-1]
    for end, phase in zip(ends[-2::-1], phases[-2::-1], strict=True):
        result = ops.where(step < math.ceil(end), phase, result)
    return result
