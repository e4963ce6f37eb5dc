"""Turn the logits of whole splits into ``predictions.arrow`` and ``mistakes.json``, a few thousand rows at a time."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from lx.data.datamodule import TextDataModule
from lx.errors import TrainingError
from lx.nn.expert_alone import ExpertAlone
from lx.run.directory import RunDirectory
from lx.run.predictions import predictions_schema, write_predictions
from lx.system.files import atomic_write_json
from lx.tasks.base import ScoredExamples
from lx.training.module import TextClassifier

_ROWS = 8192  # of a record batch
_MOST_MISTAKES = 200


class LogitFile:
    """Logits of a split in input order, in a file without a name, of which nothing is left when the process ends.

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
    run: RunDirectory,
    data: TextDataModule,
    module: TextClassifier,
    files: Mapping[str, LogitFile],
    keep_texts: bool,
) -> None:
    """Write predictions of every split that there are logits of, and the gravest mistakes of the last one.

    Args:
        run: where to.
        data: labels, texts, and what an expert says.
        module: its task turns logits into predictions, with what it has chosen on the best validation.
        files: logits by split, in the order of the file.
        keep_texts: whether mistakes are written with their texts.
    """
    splits = [_Split(name, data, module, file) for name, file in files.items()]
    task, digests = module.task, {name: data.corpus.splits[name].fingerprint() for name in files}
    schema = predictions_schema(data.tables["validation"].labels.type, task.num_outputs, task.main_metric, digests)
    write_predictions(run, schema, (batch for split in splits for batch in split.record_batches(schema)))
    atomic_write_json(run.mistakes, {"split": splits[-1].name, "mistakes": splits[-1].mistakes(keep_texts)})


class _Split:
    """The logits of a split, and what becomes of them.

    Attributes:
        gravest: rows [K] of the gravest mistakes among those that were turned into record batches, the gravest first.
    """

    def __init__(self, name: str, data: TextDataModule, module: TextClassifier, file: LogitFile) -> None:
        self.name = name
        self.data = data
        self.task = module.task
        self.device = module.device
        self.file = file
        self.expert = None if isinstance(module.net, ExpertAlone) else data.said_by_expert(name)
        self.gravest = np.zeros(0, np.int64)
        self._gravities = np.zeros(0)

    def record_batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the columns of ``lx.run.predictions``, and note the gravest mistakes."""
        rows = np.flatnonzero(self.file.seen)
        for chunk in np.split(rows, np.arange(_ROWS, len(rows), _ROWS)):
            logits, labels, expert = self._inputs(chunk)
            scored = self.task.score(logits, self.task.collate(labels).to(self.device), **expert)
            self._note_mistakes(chunk, scored)
            scores = pa.array(_numpy(scored.scores, np.float32).reshape(-1))
            columns = [
                pa.array([self.name] * len(chunk)),
                pa.array(chunk),
                labels,
                pa.FixedSizeListArray.from_arrays(scores, self.task.num_outputs),
                pa.array(_numpy(scored.losses, np.float32)),
                pa.array(_numpy(scored.metric, np.float64)),
            ]
            yield pa.record_batch(columns, schema=schema)

    def mistakes(self, keep_texts: bool) -> list[dict[str, Any]]:
        """Return the gravest mistakes: row, text and its pair, label, prediction and probability."""
        if not len(self.gravest):
            return []
        logits, labels, expert = self._inputs(self.gravest)
        on_cpu = {name: tensor.cpu() for name, tensor in expert.items()}
        described = self.task.describe(logits.cpu(), labels, **on_cpu)
        texts = self._texts() if keep_texts else [{}] * len(described)
        rows = self.gravest.tolist()
        return [{"row": row, **text, **names} for row, text, names in zip(rows, texts, described, strict=True)]

    def _inputs(self, rows: NDArray[np.int64]) -> tuple[Tensor, pa.Array, dict[str, Tensor]]:
        """Return the logits and labels of some rows, and as ``expert=`` what an expert says, if there is one."""
        logits = torch.from_numpy(self.file.logits[rows]).to(self.device)
        labels = self.data.tables[self.name].labels.take(pa.array(rows))
        expert = {} if self.expert is None else {"expert": torch.from_numpy(self.expert[rows]).to(self.device)}
        return logits, labels, expert

    def _note_mistakes(self, rows: NDArray[np.int64], scored: ScoredExamples) -> None:
        gravities = np.concatenate([self._gravities, _numpy(scored.gravity, np.float64)])
        rows = np.concatenate([self.gravest, rows])
        order = np.lexsort((rows, -gravities))[:_MOST_MISTAKES]
        order = order[gravities[order] > 0]
        self.gravest, self._gravities = rows[order], gravities[order]

    def _texts(self) -> list[dict[str, str]]:
        """Return the texts of the gravest mistakes, and their pairs."""
        order = np.argsort(self.gravest)
        (texts, pairs), *_ = self.data.corpus.splits[self.name].select(self.gravest[order]).texts()
        columns = {"text": texts} if pairs is None else {"text": texts, "text_pair": pairs}
        return [{name: column[place] for name, column in columns.items()} for place in np.argsort(order).tolist()]


def _numpy(values: Tensor, dtype: type) -> NDArray[Any]:
    return values.detach().cpu().numpy().astype(dtype)
