"""The data of a run: batches as a function of (seed, step)."""

from .arrays import ArraySource
from .generator import DataExhaustedError, GeneratorSource
from .order import BatchOrder, Permutation
from .pydataset import PyDatasetSource
from .skipping import NoBatchLeftError, Skipped
from .sources import BatchSource, make_source
from .split import (
    check_validation_data,
    evaluate_arguments,
    evaluated_sizes,
    split_validation,
)
from .streams import RandomStream

__all__ = [
    "ArraySource",
    "BatchOrder",
    "BatchSource",
    "DataExhaustedError",
    "GeneratorSource",
    "NoBatchLeftError",
    "Permutation",
    "PyDatasetSource",
    "RandomStream",
    "Skipped",
    "check_validation_data",
    "evaluate_arguments",
    "evaluated_sizes",
    "make_source",
    "split_validation",
]
