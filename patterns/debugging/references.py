"""`kp.baseline`: what models without depth reach, for a score to stand beside."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import check_choice, check_number
from .._util.table import format_table, html_table
from ..data import Permutation, data_parts, split_validation
from ..data.rows import as_rows, count_examples, is_rows, take

_CALLER = "kp.baseline"
TASKS = ("auto", "classes", "labels", "numbers")
_TRAIN_ROWS, _TEST_ROWS = 4000, 1000
# Of the table that the models are fitted on.
_MOST_VALUES = 2**23
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class BaselineRow:
    """A score to compare with.

    Attributes:
        name: Of the model, or of a known result.
        score: Accuracy, or R2.
        is_known: Whether it was given, not measured.
    """

    name: str
    score: float
    is_known: bool = False


@dataclass(frozen=True, repr=False)
class Baselines:
    """The outcome of `kp.baseline`: scores of simple models on data that they were not fitted on,
    and known results.

    Attributes:
        metric: `"accuracy"`, of classes; `"accuracy of labels"`, the mean over all labels of all
            examples; or `"R2"`, of numbers.
        rows: A row for each.
        examples: On how many examples each was scored.
        test: The `x` and `y` of these, for a score that is comparable.
        classes: The number of classes, of classes; else 0.
    """

    metric: str
    rows: tuple[BaselineRow, ...]
    examples: int
    test: tuple[Any, Any] = field(compare=False)
    classes: int = 0

    @property
    def chance(self) -> float:
        """The score of the model that does not look at the inputs."""
        return self.rows[0].score

    @property
    def best(self) -> BaselineRow:
        """The best of those that were measured."""
        return max((row for row in self.rows if not row.is_known), key=lambda row: row.score)

    @property
    def chance_level(self) -> float:
        """The score of guesses, the better of the most frequent class and a draw among all."""
        return max(self.chance, 1 / self.classes) if self.classes else self.chance

    @property
    def noise(self) -> float:
        """Three standard errors of a score by chance."""
        if self.metric == "R2":
            return 3 / math.sqrt(self.examples)
        level = self.chance_level
        return 3 * math.sqrt(max(level * (1 - level), 1e-4) / self.examples)

    def score(self, model: keras.Model, batch_size: int | None = None) -> float:
        """The score of a Keras model on the same examples.

        Args:
            model: It gives a score for each class, a probability or logit for each label, or
                numbers.
            batch_size: The examples of each call. Defaults to None: all at once.

        Raises:
            ValueError: If its outputs do not fit the targets.
        """
        x, y = self.test
        size = batch_size or len(y)
        found = []
        with _keras.quiet_arrays():
            for start in range(0, len(y), size):
                # The last call is filled up, since a model may fix their size.
                rows = np.arange(start, start + size) % len(y)
                outputs = model(_tensors(x, rows), training=False)
                if len(keras.tree.flatten(outputs)) != 1:
                    raise ValueError("score: the model must have one output.")
                found.append(keras.ops.convert_to_numpy(keras.tree.flatten(outputs)[0]))
        outputs = np.concatenate(found)[: len(y)].astype("float64")
        return _score(self.metric, np.asarray(y), outputs)

    def __repr__(self) -> str:
        head = f"{self.metric} on {self.examples:,} examples that were not fitted on:"
        return f"{head}\n{format_table(_HEADER, self._cells)}"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells)

    @property
    def _cells(self) -> list[list[str]]:
        return [
            [row.name, f"{row.score:.3f}", "known" if row.is_known else "measured"]
            for row in self.rows
        ]


_HEADER = ["model", "score", "from"]


@_keras.quiet_arrays()
def baseline(
    x: Any,
    y: Any,
    *,
    validation_data: Any = None,
    validation_split: float = 0.0,
    task: str = "auto",
    known: Mapping[str, float] | None = None,
) -> Baselines:
    """Fits the simplest models that there are, so that a score has something to stand beside.

    One that does not look at the inputs (the most frequent class, or the mean), a linear one and
    the nearest neighbours, of scikit-learn, on at most 4,000 examples. Inputs are flattened and
    standardised.

    Args:
        x: Arrays of shape `(examples, ...)` in any structure.
        y: Targets, one array: classes, one-hot rows, several labels of 0 and 1, or numbers.
        validation_data: `(x, y)` to score on. Defaults to None: a part of the examples.
        validation_split: As in `kp.fit`: the fraction at the end to score on. Defaults to 0: a
            fifth of the examples, drawn at random.
        task: `"classes"`, `"labels"`, `"numbers"` or `"auto"`, which goes by the values of `y`.
            Defaults to `"auto"`.
        known: Results of others to stand in the table, by name, in the same metric.

    Returns:
        The scores, as a table; `.score(model)` gives that of a Keras model.

    Raises:
        ImportError: If scikit-learn is missing.
        TypeError: If the data are no arrays.
        ValueError: If there are too few examples, or an argument is out of range.

    Example:

    >>> import numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(400, 3))
    >>> found = kp.baseline(x, x[:, 0] > 0, known={"the paper": 0.99})
    >>> [row.name for row in found.rows]
    ['most frequent class', 'logistic regression', 'nearest neighbours', 'the paper']
    >>> found.best.score > 0.9
    True
    """
    check_choice(_CALLER, "task", task, TASKS)
    given = {
        name: check_number(_CALLER, f"known[{name!r}]", value, least=-math.inf)
        for name, value in (known or {}).items()
    }
    train, test = _parts(x, y, validation_data, validation_split)
    task = _task(np.asarray(train[1])) if task == "auto" else task
    tables = [_table(part) for part in (train[0], test[0])]
    targets = [_targets(part, task) for part in (train[1], test[1])]
    metric = {"classes": "accuracy", "labels": "accuracy of labels", "numbers": "R2"}[task]
    rows = []
    for name, model in _models(task, len(train[1])).items():
        with warnings.catch_warnings():
            # A fit that has not converged is good enough here.
            warnings.simplefilter("ignore")
            found = _predicted(model, task, tables[0], targets[0], tables[1])
        rows.append(BaselineRow(name, _agreement(metric, targets[1], found)))
    rows += [BaselineRow(name, value, True) for name, value in given.items()]
    classes = len(np.unique(np.concatenate(targets))) if task == "classes" else 0
    return Baselines(metric, tuple(rows), len(test[1]), test, classes)


def _predicted(
    model: Any, task: str, table: np.ndarray, targets: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """The answers of a model for other inputs than those that it is fitted on."""
    if task == "labels":
        columns = [_predicted(model, "classes", table, one, others) for one in targets.T]
        return np.stack(columns, axis=1)
    if task == "classes" and len(np.unique(targets)) == 1:
        # The models of scikit-learn want two.
        return np.full(len(others), targets[0])
    return np.asarray(model.fit(table, targets).predict(others))


def _tensors(x: Any, rows: np.ndarray) -> Any:
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf[rows]), x)


def _models(task: str, examples: int) -> dict[str, Any]:
    try:
        from sklearn import dummy, linear_model, neighbors, pipeline, preprocessing
    except ImportError as error:
        raise ImportError(
            f"{_CALLER} fits models of scikit-learn, which is missing: pip install scikit-learn."
        ) from error

    def scaled(model: Any) -> Any:
        return pipeline.make_pipeline(preprocessing.StandardScaler(), model)

    near = min(5, examples)
    if task == "numbers":
        return {
            "mean": dummy.DummyRegressor(),
            "ridge regression": scaled(linear_model.Ridge()),
            "nearest neighbours": scaled(neighbors.KNeighborsRegressor(near)),
        }
    logistic = linear_model.LogisticRegression(max_iter=100)
    frequent = dummy.DummyClassifier(strategy="most_frequent")
    return {
        "most frequent class": frequent,
        "logistic regression": scaled(logistic),
        "nearest neighbours": scaled(neighbors.KNeighborsClassifier(near)),
    }


def _parts(x: Any, y: Any, validation_data: Any, split: float) -> tuple[Any, Any]:
    """The examples to fit on and those to score on, each `(x, y)`."""
    if not is_rows((x, y)) or len(keras.tree.flatten(y)) != 1:
        raise TypeError(f"{_CALLER}: `x` must be arrays, and `y` one array.")
    if validation_data is not None:
        test_x, test_y = (*data_parts("validation_data", validation_data), None)[:2]
        if test_y is None or not is_rows((test_x, test_y)):
            raise TypeError(f"{_CALLER}: `validation_data` must be arrays (x, y).")
        return _drawn(x, y, _TRAIN_ROWS), _drawn(test_x, test_y, _TEST_ROWS)
    if split:
        (x, y, _), (test_x, test_y, _) = split_validation(x, y, None, split)
        return _drawn(x, y, _TRAIN_ROWS), _drawn(test_x, test_y, _TEST_ROWS)
    x, y = _drawn(x, y, _TRAIN_ROWS + _TEST_ROWS)
    examples = len(y)
    if examples < 10:
        raise ValueError(f"{_CALLER}: {examples} examples are too few to score on some of them.")
    cut = examples - max(2, min(_TEST_ROWS, examples // 5))
    parts = [
        keras.tree.map_structure(lambda leaf, p=p: leaf[p], (x, y))
        for p in (slice(cut), slice(cut, None))
    ]
    return parts[0], parts[1]


def _drawn(x: Any, y: Any, most: int) -> tuple[Any, np.ndarray]:
    """Some examples at random places."""
    x, y = as_rows(x, "x", sparse=True), as_rows(y, "y")
    for name, part in (("x", x), ("y", y)):
        for leaf in keras.tree.flatten(part):
            if leaf.dtype.kind in "OSUMm":
                raise TypeError(
                    f"{_CALLER}: `{name}` must be numbers. Received an array of {leaf.dtype}. "
                    "Encode it; np.unique(y, return_inverse=True)[1] makes classes of names."
                )
    examples = count_examples(x=x, y=y)
    values = sum(int(np.prod(leaf.shape[1:])) for leaf in keras.tree.flatten(x))
    rows = min(examples, most, max(100, _MOST_VALUES // max(1, values)))
    places = Permutation(examples, seed=0)(np.arange(rows))
    taken = keras.tree.map_structure(lambda leaf: take(leaf, places), x)
    return taken, np.asarray(keras.tree.flatten(y)[0])[places]


def _table(x: Any) -> np.ndarray:
    leaves = [leaf.reshape(len(leaf), -1).astype("float64") for leaf in keras.tree.flatten(x)]
    return np.nan_to_num(np.concatenate(leaves, axis=1), posinf=0.0, neginf=0.0)


def _task(y: np.ndarray) -> str:
    flat = y.reshape(len(y), -1)
    is_binary = y.dtype.kind in "biuf" and bool(np.isin(y, (0, 1)).all())
    if flat.shape[1] > 1:
        if not is_binary:
            return "numbers"
        return "classes" if (flat.sum(axis=1) == 1).all() else "labels"
    whole = y.dtype.kind in "iub" or bool((y == np.round(y)).all())
    is_class = whole and flat.min() >= 0 and len(np.unique(flat)) <= min(50, len(y) // 5)
    return "classes" if is_binary or (is_class and y.dtype.kind in "iu") else "numbers"


def _targets(y: np.ndarray, task: str) -> np.ndarray:
    flat = np.asarray(y).reshape(len(y), -1)
    if task == "classes":
        return flat.argmax(axis=1) if flat.shape[1] > 1 else flat[:, 0].astype(int)
    if task == "labels":
        return flat.astype(int)
    return np.nan_to_num(flat.astype("float64"))


def _agreement(metric: str, y: np.ndarray, found: np.ndarray) -> float:
    if metric != "R2":
        return float((found.reshape(y.shape) == y).mean())
    left = ((y - found.reshape(y.shape)) ** 2).sum()
    size = ((y - y.mean(axis=0)) ** 2).sum()
    return float(1 - left / size) if size else 0.0


def _score(metric: str, y: np.ndarray, outputs: np.ndarray) -> float:
    """The score of the outputs of a net."""
    task = {"accuracy": "classes", "accuracy of labels": "labels", "R2": "numbers"}[metric]
    targets = _targets(y, task)
    wide = outputs.reshape(len(outputs), -1)
    if task == "numbers":
        if wide.size != targets.size:
            raise ValueError(f"score: outputs of shape {outputs.shape}, targets of {y.shape}.")
        return _agreement(metric, targets, wide)
    if task == "classes" and wide.shape[1] > 1:
        return _agreement(metric, targets, wide.argmax(axis=1))
    # Logits, where anything lies outside of 0 to 1.
    middle = 0.5 if wide.min() >= 0 and wide.max() <= 1 else 0.0
    if wide.size != targets.size:
        raise ValueError(f"score: outputs of shape {outputs.shape}, targets of {y.shape}.")
    return _agreement(metric, targets, (wide > middle).astype(int))
