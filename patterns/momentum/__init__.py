"""Momentum that follows a schedule, as the rate can."""

from .scheduling import one_cycle, with_momentum_schedule

__all__ = ["one_cycle", "with_momentum_schedule"]
