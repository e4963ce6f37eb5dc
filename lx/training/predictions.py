"""Turn the logits of whole splits into ``predictions.arrow`` and ``mistakes.json``, a few thousand rows at a time."""

from __future__ import annotations

import shlex
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from lx.data.corpus.storage import SplitView
from lx.data.datamodule import TextDataModule
from lx.data.expert import FittedExpert
from lx.errors import TrainingError
from lx.nn.expert_alone import ExpertAlone
from lx.run.directory import RunDirectory
from lx.run.predictions import predictions_schema, write_predictions
from lx.system.files import atomic_write_json
from lx.tasks.base import ScoredExamples, Task
from lx.training.module import TextClassifier

_ROWS = 8192  # of a record batch
_MOST_MISTAKES = 200


class LogitFile:
    """Logits of a split in input order, in an unnamed file that disappears with the process.

    Args:
        folder: where there is room for it.
        num_rows: N, of the split.
        num_outputs: C.

    Raises:
        TrainingError: there is no room.

    Attributes:
        logits: [N, C] float32, mapped into memory.
        seen: [N] which rows have any.
    """

    def __init__(self, folder: Path, num_rows: int, num_outputs: int) -> None:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for start in range(0, num_rows, _ROWS):  # a full disk is an error now, and a signal once it is mapped
                    file.write(bytes(4 * num_outputs * min(_ROWS, num_rows - start)))
                file.flush()
                self.logits = np.memmap(file, np.float32, "r+", shape=(num_rows, num_outputs))
        except OSError as error:
            raise TrainingError(
                f"cannot write the logits of an evaluation in {folder}: {error.strerror or error}; when there is room "
                f"again, go on with lx resume {shlex.quote(str(folder))}"
            ) from error
        self.seen = np.zeros(num_rows, np.bool_)

    def put(self, rows: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        """Keep the logits [B, C] of some rows [B]."""
        self.logits[rows] = logits
        self.seen[rows] = True


def write_files(
    run: RunDirectory, data: TextDataModule, module: TextClassifier, files: Mapping[str, LogitFile], keep_texts: bool
) -> None:
    """Write the predictions of every split with logits, and the gravest mistakes of each.

    If there is an expert, its mistakes on the training split are added, for rows that its cross-validation held out.
    The network's would say little: it remembers its training rows.

    Args:
        run: where to.
        data: labels, texts, and what an expert says.
        module: its task turns logits into predictions, with what it has chosen on the best validation.
        files: logits by split, in the order of the file.
        keep_texts: whether mistakes are written with their texts.
    """
    splits = [_split(name, data, module, file) for name, file in files.items()]
    task, digests = module.task, {name: data.corpus.splits[name].fingerprint() for name in files}
    schema = predictions_schema(data.tables["validation"].labels.type, task.num_outputs, task.main_metric, digests)
    write_predictions(run, schema, (batch for split in splits for batch in split.record_batches(schema)))
    if data.expert is not None:
        held_out = _held_out_split(data, data.expert, module)
        deque(held_out.score(), maxlen=0)  # only its mistakes are kept
        splits.append(held_out)
    atomic_write_json(run.mistakes, {split.name: split.mistakes(keep_texts) for split in splits})


def _split(name: str, data: TextDataModule, module: TextClassifier, file: LogitFile) -> _Split:
    expert = None if isinstance(module.net, ExpertAlone) else data.expert_scores(name)
    return _Split(
        name=name,
        examples=data.corpus.splits[name],
        labels=data.tables[name].labels,
        task=module.task,
        device=module.device,
        rows=np.arange(len(file.seen)),
        positions=np.flatnonzero(file.seen),
        logits=file.logits,
        expert=expert,
    )


def _held_out_split(data: TextDataModule, expert: FittedExpert, module: TextClassifier) -> _Split:
    rows, scores = expert.held_out()
    task = copy(module.task)
    task.choices = {}  # the scores are calibrated already
    return _Split(
        name="train",
        examples=data.corpus.splits["train"].select(rows),
        labels=data.tables["train"].labels.take(pa.array(rows)),
        task=task,
        device=module.device,
        rows=rows,
        positions=np.arange(len(rows)),
        logits=scores,
    )


@dataclass
class _Split:
    """N examples of a split, and what a run predicts for them.

    Attributes:
        name: of the split.
        examples: the texts.
        labels: [N] encoded.
        task: turns logits into predictions.
        device: where it computes.
        rows: [N] number of each example in the split.
        positions: [M] which of the N examples have logits, ascending.
        logits: [N, C].
        expert: [N, C] scores of an expert beside the network; None without one.
        gravest: [K] positions of the gravest mistakes found by :meth:`score` so far, the gravest first.
    """

    name: str
    examples: SplitView
    labels: pa.Array
    task: Task
    device: torch.device
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    logits: NDArray[np.float32]
    expert: NDArray[np.float32] | None = None
    gravest: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _gravities: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def record_batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Score all, and yield the columns of ``lx.run.predictions``."""
        for chunk, labels, scored in self.score():
            scores = pa.array(_numpy(scored.scores, np.float32).reshape(-1))
            weight = torch.ones_like(scored.metric) if scored.weight is None else scored.weight
            columns = [
                pa.array([self.name] * len(chunk)),
                pa.array(self.rows[chunk]),
                labels,
                pa.FixedSizeListArray.from_arrays(scores, self.task.num_outputs),
                pa.array(_numpy(scored.losses, np.float32)),
                pa.array(_numpy(scored.metric, np.float64)),
                pa.array(_numpy(weight, np.float64)),
            ]
            yield pa.record_batch(columns, schema=schema)

    def score(self) -> Iterator[tuple[NDArray[np.int64], pa.Array, ScoredExamples]]:
        """Yield positions, labels and scores of a few thousand examples at a time, and note the gravest mistakes."""
        for chunk in np.split(self.positions, np.arange(_ROWS, len(self.positions), _ROWS)):
            logits, labels, expert = self._inputs(chunk)
            scored = self.task.score(logits, self.task.collate(labels).to(self.device), **expert)
            self._note_mistakes(chunk, scored)
            yield chunk, labels, scored

    def mistakes(self, keep_texts: bool) -> list[dict[str, Any]]:
        """Return the gravest mistakes: row, text and its pair, label, prediction and probability."""
        if not len(self.gravest):
            return []
        logits, labels, expert = self._inputs(self.gravest)
        on_cpu = {name: tensor.cpu() for name, tensor in expert.items()}
        described = self.task.describe(logits.cpu(), labels, **on_cpu)
        texts = self._texts() if keep_texts else [{}] * len(described)
        rows = self.rows[self.gravest].tolist()
        return [{"row": row, **text, **names} for row, text, names in zip(rows, texts, described, strict=True)]

    def _inputs(self, positions: NDArray[np.int64]) -> tuple[Tensor, pa.Array, dict[str, Tensor]]:
        """Return the logits and labels of some examples, and as ``expert=`` what an expert says, if there is one."""
        logits = torch.from_numpy(self.logits[positions]).to(self.device)
        labels = self.labels.take(pa.array(positions))
        expert = {} if self.expert is None else {"expert": torch.from_numpy(self.expert[positions]).to(self.device)}
        return logits, labels, expert

    def _note_mistakes(self, positions: NDArray[np.int64], scored: ScoredExamples) -> None:
        gravities = np.concatenate([self._gravities, _numpy(scored.gravity, np.float64)])
        positions = np.concatenate([self.gravest, positions])
        order = np.lexsort((positions, -gravities))[:_MOST_MISTAKES]
        order = order[gravities[order] > 0]
        self.gravest, self._gravities = positions[order], gravities[order]

    def _texts(self) -> list[dict[str, str]]:
        """Return the texts of the gravest mistakes, and their pairs."""
        order = np.argsort(self.gravest)
        (texts, pairs), *_ = self.examples.select(self.gravest[order]).texts()
        columns = {"text": texts} if pairs is None else {"text": texts, "text_pair": pairs}
        return [{name: column[position] for name, column in columns.items()} for position in np.argsort(order).tolist()]


def _numpy(values: Tensor, dtype: type) -> NDArray[Any]:
    return values.detach().cpu().numpy().astype(dtype)
