"""What every task offers.

A new task is a file beside this one, or a class of the user's own, and a file in ``conf/task`` that names it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import MetricCollection


@dataclass(frozen=True)
class ClassScore:
    """How well one class was told from the others.

    Attributes:
        name: of the class.
        support: examples of the class.
        precision: share of the examples given this label that are of the class; 0 if none was given it.
        recall: share of the examples of the class that were given its label; 0 if there are none.
        f1: harmonic mean of precision and recall; 0 if both are 0.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Summary:
    """A task's metrics as plain values, for tables and JSON.

    Attributes:
        scalars: by name.
        per_class: in label order; empty if the task has no classes.
        confusion: examples by true class (row) and predicted class (column); empty likewise.
    """

    scalars: dict[str, float]
    per_class: list[ClassScore]
    confusion: list[list[int]]

    def to_plain(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Summary:
        """What :meth:`to_plain` made."""
        return cls(**{**plain, "per_class": [ClassScore(**score) for score in plain["per_class"]]})


@runtime_checkable
class Task(Protocol):
    """A loss, metrics and the width of the output layer; in the formulas B is the batch and C the outputs.

    It is built as ``instantiate(cfg.task)(class_names=..., class_counts=...)``.
    """

    num_outputs: int

    def loss(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The loss of each example, at least in fp32.

        The caller divides the sum by the number of examples of the global batch, so that the result does not
        depend on how a batch is divided.
        """

    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with ``(logits, labels)``, that do not depend on the order of updates."""

    def summarise(self, computed: dict[str, Any]) -> Summary:
        """What the metrics computed, with or without a prefix such as ``val/``, as plain values."""
