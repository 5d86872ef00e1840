"""Overfitting on purpose: a model that memorises a whole table, and the table of a function."""

from .certificate import MemorizationReport, WorstExample
from .sampling import tabulate
from .training import memorize

__all__ = ["MemorizationReport", "WorstExample", "memorize", "tabulate"]
