"""Findings about a model that does not learn, and the list that shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from .._util.arguments import check_choice
from .._util.errors import KerasPatternsError
from .._util.table import format_table, html_table

Severity = Literal["error", "warning", "note"]
_SEVERITIES = get_args(Severity)

# Each kind, in the order in which causes are listed: the surest signs first.
KINDS = {
    "shapes": "the model cannot be called on the data",
    "non_finite": "something is NaN or infinite",
    "index_range": "token ids beyond the table of an Embedding",
    "label_range": "labels that the loss does not know",
    "output_width": "as many outputs as the targets do not have",
    "frozen": "nothing that matters is trained",
    "negated_loss": "training climbs the loss",
    "broadcast": "targets and predictions are paired all with all",
    "batch_leak": "an example's output depends on the others of its batch",
    "ignored_input": "inputs that no output depends on",
    "look_ahead": "an output that sees what it is to foretell",
    "logits": "probabilities where the loss expects logits",
    "output_activation": "the last activation does not suit the loss or the targets",
    "loss_mismatch": "the loss does not suit the targets",
    "symmetric_init": "units that start equal and stay equal",
    "constant_input": "inputs that are the same for all examples",
    "train_mode": "training and inference differ where they should not",
    "ordered_split": "the validation part holds other classes than the training part",
    "validation_leak": "examples are in both the training and the validation data",
    "input_scale": "inputs of an unsuitable scale",
    "target_scale": "targets of an unsuitable scale",
    "hidden_activation": "a softmax inside the net",
    "missing_nonlinearity": "layers without an activation between them",
    "exploding": "values grow from layer to layer",
    "vanishing": "values or gradients fade from layer to layer",
    "no_gradient": "weights that no gradient reaches",
    "over_regularised": "dropout, a penalty or a decay that leaves nothing to learn",
    "capacity": "a layer too narrow for the task",
    "lr_high": "too high a learning rate",
    "lr_low": "too low a learning rate",
    "imbalance": "a class with hardly any example",
    "dead_units": "units that are zero for all examples",
    "saturated": "units at the flat ends of their activation",
    "overfit": "training gains what validation loses",
    "label_noise": "labels that do not go with the inputs",
}
# Names of one fault: whoever finds the one has found the other.
EQUIVALENTS = {
    "logits": {"output_activation"},
    "output_activation": {"logits"},
    "output_width": {"label_range"},
    "label_range": {"output_width"},
    "negated_loss": {"lr_high"},
    "shapes": {"output_width"},
    "hidden_activation": {"output_activation", "vanishing", "saturated", "capacity"},
}
# Each symptom, and the causes under which it stands where they are found too.
CAUSES = {
    "no_gradient": {
        *("output_activation", "logits", "symmetric_init", "input_scale", "exploding"),
        *("constant_input", "vanishing", "frozen", "non_finite", "output_width"),
        *("dead_units", "saturated", "ignored_input"),
    },
    "ignored_input": {
        *("dead_units", "saturated", "constant_input", "symmetric_init", "output_activation"),
        *("exploding", "vanishing", "hidden_activation", "input_scale", "non_finite"),
    },
    "dead_units": {"input_scale", "exploding", "output_activation", "symmetric_init"},
    "saturated": {"input_scale", "exploding", "target_scale"},
    "exploding": {"input_scale", "target_scale"},
    "vanishing": {
        *("hidden_activation", "symmetric_init", "input_scale", "constant_input"),
        *("over_regularised", "saturated"),
    },
    "lr_high": {
        *("input_scale", "target_scale", "exploding", "negated_loss"),
        *("missing_nonlinearity", "output_activation", "logits", "broadcast", "batch_leak"),
        *("symmetric_init", "label_range", "output_width", "over_regularised"),
    },
    "lr_low": {
        *("output_activation", "logits", "frozen", "vanishing", "symmetric_init", "no_gradient"),
        *("target_scale", "input_scale", "constant_input", "negated_loss", "capacity"),
        *("dead_units", "saturated", "over_regularised", "broadcast", "label_range", "exploding"),
    },
    "capacity": {"symmetric_init", "hidden_activation"},
    "loss_mismatch": {"output_width"},
    "overfit": {"ordered_split", "label_noise", "train_mode", "label_range"},
    "label_noise": {"constant_input", "input_scale", "imbalance"},
    "non_finite": {
        *("label_range", "index_range", "input_scale", "target_scale", "output_activation"),
        *("exploding", "lr_high", "negated_loss", "missing_nonlinearity", "loss_mismatch"),
    },
}


class PreflightError(KerasPatternsError, ValueError):
    """`kp.preflight` found something that should be mended before training. Each finding has its
    remedy; `skip=` leaves out a kind that is meant to be.

    Attributes:
        findings: All that it found.
    """

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = list(findings)


@dataclass(frozen=True)
class Finding:
    """One thing that may keep a model from learning, as `kp.preflight` and `kp.debug` find it.

    Attributes:
        kind: A word for it, one of those in docs/debugging.md.
        severity: `"error"`, `"warning"` or `"note"`. A note asks for nothing.
        message: A sentence for people.
        evidence: The numbers that it rests on, by name.
        remedy: The thing to do.
        because_of: The kinds of other findings that explain it; empty for a cause.
    """

    kind: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
    because_of: tuple[str, ...] = ()

    def __str__(self) -> str:
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.severity}, {self.kind}: {self.message}{remedy}"


class Findings(list[Finding]):
    """A list of findings, the likeliest cause first, symptoms under what explains them.

    Example:

    >>> found = Findings([Finding("lr_high", "warning", "The loss explodes.")])
    >>> found.worst
    'warning'
    >>> found.raise_if("error")
    """

    @property
    def worst(self) -> Severity | None:
        """The gravest severity; None if there is no finding."""
        return min((one.severity for one in self), key=_SEVERITIES.index, default=None)

    def raise_if(self, severity: Severity = "error") -> None:
        """Raises if a finding is that grave, or graver.

        Args:
            severity: `"error"`, `"warning"` or `"note"`. Defaults to `"error"`.

        Raises:
            PreflightError: Its message has those findings, its `findings` all.
        """
        check_choice("raise_if", "severity", severity, _SEVERITIES)
        grave = _SEVERITIES[: _SEVERITIES.index(severity) + 1]
        found = [str(one) for one in self if one.severity in grave]
        if found:
            raise PreflightError("\n".join(["The model will not learn well:", *found]), self)

    def __repr__(self) -> str:
        if not self:
            return "Nothing was found that would keep the model from learning."
        lines = [format_table(_HEADER, self._rows)]
        lines += [f"{one.kind}: {one.message} {one.remedy}".rstrip() for one in self]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        header = [*_HEADER, "what was found", "what to do"]
        rows = [[*row, one.message, one.remedy] for row, one in zip(self._rows, self, strict=True)]
        return html_table(header, rows)

    @property
    def _rows(self) -> list[list[str]]:
        return [
            [one.kind, one.severity, ", ".join(one.because_of), shown(one.evidence)] for one in self
        ]


_HEADER = ["kind", "severity", "because of", "evidence"]


def ranked(found: Iterable[Finding]) -> Findings:
    """Findings with causes before symptoms; of one kind, only the gravest stays."""
    by_kind: dict[str, Finding] = {}
    for one in found:
        before = by_kind.get(one.kind)
        if before is None or _grade(one) < _grade(before):
            by_kind[one.kind] = one
    # A note explains nothing.
    grave = {kind for kind, one in by_kind.items() if one.severity != "note"}
    causes = {kind: tuple(sorted(CAUSES.get(kind, set()) & grave)) for kind in by_kind}
    explained = (replace(one, because_of=causes[kind]) for kind, one in by_kind.items())
    order = list(KINDS)
    return Findings(
        sorted(
            explained,
            key=lambda one: (
                one.severity == "note",
                bool(one.because_of),
                _grade(one),
                order.index(one.kind),
            ),
        )
    )


def check_kinds(caller: str, name: str, kinds: Any) -> set[str]:
    """Some kinds as a set, or an error that lists those there are."""
    if kinds is None:
        return set()
    if isinstance(kinds, str) or not isinstance(kinds, Collection):
        raise TypeError(f"{caller}: `{name}` must be a list of kinds. Received: {kinds!r}.")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(
            f"{caller}: `{name}` names {unknown[0]!r}, and there is no such kind. The kinds are "
            f"{', '.join(KINDS)}."
        )
    return set(kinds)


def shown(evidence: Mapping[str, Any]) -> str:
    """Numbers by name, in a line."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in evidence.items())


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _grade(one: Finding) -> int:
    return _SEVERITIES.index(one.severity)
