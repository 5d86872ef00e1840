"""The data of a run: batches as a function of (seed, step)."""

from .arrays import ArraySource
from .in_order import DataExhaustedError, IterableLoader, LoaderSource, warn_of_end
from .indexed import IndexedSource
from .order import BatchOrder, Permutation
from .owned import Owned
from .passes import Passes, check_pass_ends, one_pass
from .pydataset import PyDatasetSource
from .skipping import NoBatchLeftError, Skipped
from .sources import BatchSource, make_source, reads_in_order
from .split import (
    check_validation_data,
    data_parts,
    describe_evaluated,
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
    "IndexedSource",
    "IterableLoader",
    "LoaderSource",
    "NoBatchLeftError",
    "Owned",
    "Passes",
    "Permutation",
    "PyDatasetSource",
    "RandomStream",
    "Skipped",
    "check_pass_ends",
    "check_validation_data",
    "data_parts",
    "describe_evaluated",
    "evaluate_arguments",
    "evaluated_sizes",
    "make_source",
    "one_pass",
    "reads_in_order",
    "split_validation",
    "warn_of_end",
]
