"""The seam for tasks: what every task offers to data preparation, training, evaluation and prediction.

A new task is a file beside this one, or a class of the user's own, and a file in ``conf/task`` that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import pyarrow as pa
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor
from torchmetrics import MetricCollection

from lx.data.corpus.labels import LabelEncoder
from lx.errors import LxError
from lx.linear.targets import Kind


@dataclass(frozen=True)
class Evaluation:
    """A task's metrics as plain values.

    Attributes:
        scalars: By name, without the name of the split, in the order in which they are shown.
        details: What else belongs into ``result.json``, by key: ``per_class`` and ``confusion_matrix`` of a
            classification. Plain containers.
        choices: What was chosen on this split, such as thresholds; kept in ``best.ckpt``. Plain containers.
    """

    scalars: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Evaluation:
        """Rebuild an evaluation from :meth:`to_plain`, of this version or the one that had only classification."""
        if "confusion" in plain:
            details = {"per_class": plain["per_class"], "confusion_matrix": plain["confusion"]}
            return cls(plain["scalars"], details)
        return cls(**plain)


@dataclass(frozen=True)
class ResultTable:
    """A table of results for experiment trackers.

    Attributes:
        columns: Headings.
        rows: Plain values, one a column.
        chart: What draws the first three columns; ``confusion_matrix``: true class, predicted class, count; ``lines``:
            x, y, name of the line; None: shown as a table.
        title: Of the chart.
    """

    columns: list[str]
    rows: list[list[Any]]
    chart: Literal["confusion_matrix", "lines"] | None = None
    title: str = ""


@dataclass(frozen=True)
class ScoredExamples:
    """The outputs for some examples with known labels, as ``predictions.arrow`` keeps them.

    Attributes:
        scores: [B, C] probabilities, or predicted values.
        losses: [B].
        metric: [B] each example's term of the numerator of the task's main metric.
        gravity: [B] how grave a mistake each is, such as the probability of the wrong class; 0 if it is none.
        weight: [B] each example's term of the denominator: the main metric is sum(``metric``) / sum(``weight``), as an
            F1 is. None: all 1, so that it is the mean.
    """

    scores: Float[Tensor, "B C"]
    losses: Float[Tensor, " B"]
    metric: Float[Tensor, " B"]
    gravity: Float[Tensor, " B"]
    weight: Float[Tensor, " B"] | None = None


@runtime_checkable
class Prediction(Protocol):
    """What a task says of one text."""

    @property
    def text(self) -> str:
        """The text; of a pair, the first."""

    def to_json(self, probabilities: bool) -> dict[str, Any]:
        """Return the fields of a line of JSON; on request with the probability of every class, if there are classes."""

    def to_row(self, probabilities: bool) -> list[Any]:
        """Return the cells of a line of CSV, in the order of :meth:`Task.prediction_columns`."""


@runtime_checkable
class Task(Protocol):
    """What is learned: loss, metrics, predictions, and the width of the output layer.

    It is built as ``instantiate(cfg.task)(**label_set)``, where the label set is what the task's label encoder learned
    from the training split. In the formulas B is the batch and C the outputs.

    A classmethod ``label_encoder(class_names)`` returns an encoder that learns from the train split; ``class_names``
    are those that the source declares, or None.

    Attributes:
        num_outputs: C.
        metric_names: The scalars of an evaluation, in the order in which they are shown.
        main_metric: The one by which runs are compared: see :class:`ScoredExamples`.
        chance_loss: The mean loss of a model that has learned nothing; ``lx check`` compares the first loss with it.
        choices: What was chosen on the validation split, such as thresholds; ``{}`` if nothing is. Set before testing
            and predicting; a value from a stranger's run directory, so refuse what does not fit with LxError.
    """

    num_outputs: int
    metric_names: tuple[str, ...]
    main_metric: str
    chance_loss: float
    choices: dict[str, Any]

    def trained_encoder(self, class_names: Sequence[str] | None) -> LabelEncoder:
        """Return an encoder of this task's labels for other data, whose source declares ``class_names`` or None."""

    def fits(self, labels: pa.Array) -> bool:
        """Return whether an Arrow column, perhaps of a stranger's file, holds labels of this task and nothing else."""

    def collate(self, labels: pa.Array) -> Tensor:
        """Turn the encoded labels of a batch, perhaps of no examples, into the tensor that the loss takes."""

    def loss(self, logits: Float[Tensor, "B C"], labels: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
        """Compute the loss of each example, at least in float32.

        The caller divides the sum by the number of examples of the global batch, so that the result does not
        depend on how a batch is divided.
        """

    def step_counts(self, logits: Float[Tensor, "B C"], labels: Shaped[Tensor, "B ..."]) -> dict[str, Tensor]:
        """Sum figures of a training step over its examples, such as the correct ones.

        They are shown, divided by the number of examples, as ``train/NAME`` and by the progress bar. The names are the
        same in every call, the sums are scalars on the logits' device.
        """

    def metrics(self, choose: bool) -> MetricCollection:
        """Build metrics, updated with ``(logits, labels)``, that do not depend on the order of updates.

        ``choose`` is as in :meth:`summarize`.
        """

    def summarize(self, computed: dict[str, Any], choose: bool) -> Evaluation:
        """Turn what the collection of :meth:`metrics` computed into plain values.

        ``choose`` says that this is the validation split, on which a task may choose thresholds and the like; on any
        other split those in ``choices`` apply.
        """

    def show(self, evaluation: Evaluation) -> list[RenderableType]:
        """Return what a terminal shows beside the scalars, such as the worst classes."""

    def tables(self, evaluation: Evaluation) -> dict[str, ResultTable]:
        """Return the tables that trackers record, by name."""

    def predictions(self, texts: Sequence[str], logits: Float[Tensor, "B C"]) -> Sequence[Prediction]:
        """Turn the logits of some texts, float32 on the CPU, into predictions."""

    def score(self, logits: Float[Tensor, "B C"], labels: Shaped[Tensor, "B ..."]) -> ScoredExamples:
        """Turn the logits of some examples into what ``predictions.arrow`` and ``mistakes.json`` keep."""

    def describe(self, logits: Float[Tensor, "B C"], labels: pa.Array) -> list[dict[str, Any]]:
        """Return ``label``, ``prediction`` and, if it has one, its ``probability`` of each example, as plain values."""

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV; see :meth:`Prediction.to_row`."""


class ExpertTask(Task, Protocol):
    """A task that can have an expert: a linear model of the texts beside the network, with the same outputs.

    Where there is an expert, the metrics take its scores [B, C] as ``expert=``; see ``LinearExpert.scores``.

    Attributes:
        expert_kind: What the expert learns.
    """

    expert_kind: Kind

    def expert_labels(self, labels: pa.Array) -> NDArray[Any]:
        """Return encoded labels as ``LinearExpert.fit`` takes them."""

    def predictions(
        self, texts: Sequence[str], logits: Float[Tensor, "B C"], expert: Float[Tensor, "B C"] | None = None
    ) -> Sequence[Prediction]:
        """Turn logits and an expert's scores into predictions."""

    def score(
        self, logits: Float[Tensor, "B C"], labels: Shaped[Tensor, "B ..."], expert: Float[Tensor, "B C"] | None = None
    ) -> ScoredExamples:
        """Turn logits and an expert's scores into what is kept of them."""

    def describe(
        self, logits: Float[Tensor, "B C"], labels: pa.Array, expert: Float[Tensor, "B C"] | None = None
    ) -> list[dict[str, Any]]:
        """Return label and prediction, as :meth:`Task.describe` does."""


class AveragingTask(Task, Protocol):
    """A task that can predict by the mean of several networks, each with its own choices."""

    def outputs(self, logits: Float[Tensor, "B C"], expert: Float[Tensor, "B C"] | None = None) -> Float[Tensor, "B C"]:
        """Return the values that are averaged, float64: probabilities, or numbers in the labels' own unit."""

    def averaged(self, tasks: Sequence[AveragingTask]) -> AveragingTask:
        """Return a task for the mean over the runs of ``tasks``, of which this is one.

        Raises:
            LxError: The tasks have different classes.
        """

    def logits_of(self, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Return the logits, float32, that stand for a mean; called on what :meth:`averaged` returns."""


def can_be_averaged(task: Task) -> TypeGuard[AveragingTask]:
    """Return whether a task has the methods for the mean of several networks."""
    return hasattr(task, "averaged")


def takes_expert(task: Task) -> TypeGuard[ExpertTask]:
    """Return whether a task can have an expert.

    Not by ``isinstance``: since Python 3.12 it overlooks attributes that a class computes, as ``nn.Module`` does its
    submodules, and a task's loss may be one.
    """
    return hasattr(task, "expert_kind")


def encoder_factory(task: Callable[..., Task]) -> Callable[[Sequence[str] | None], LabelEncoder]:
    """Return the ``label_encoder`` of the task that a config node with ``_partial_: true`` builds, or raise LxError."""
    kind = task.func if isinstance(task, partial) else task
    if not hasattr(kind, "label_encoder"):
        raise LxError(f"task._target_ is {kind!r}, which has no label_encoder: see Task in lx/tasks/base.py")
    factory: Callable[[Sequence[str] | None], LabelEncoder] = kind.label_encoder
    return factory
