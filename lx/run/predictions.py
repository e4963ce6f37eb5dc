"""The predictions of a run's best weights for each row of validation and test: ``predictions.arrow``.

An Arrow IPC file of plain record batches, a few thousand rows of one split each, validation before test, with the
columns

- ``split``: "validation" or "test"
- ``row``: int64, number of the row in the split, in input order, from 0; rows with empty texts are not counted
- ``label``: as the task encodes it: int32 class id, list<int32> of label ids, or float64
- ``scores``: fixed_size_list<float32>[C]: probabilities, or the predicted number; with an expert the combined ones
- ``loss``: float32
- ``metric``: float64, the row's term of the main metric's numerator
- ``weight``: float64, its term of the denominator: the main metric is sum(``metric``) / sum(``weight``)

The schema's metadata has, as JSON below the key ``lx``, the name of the main metric as ``metric`` and a digest of the
texts of each split as ``texts``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os.path import lexists
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lx.data.arrow import open_untrusted
from lx.errors import LxError, printable, shorten
from lx.run.directory import RunDirectory
from lx.system.files import atomic_write

SPLITS = ("validation", "test")
_LABEL_TYPES = (pa.int32(), pa.float64(), pa.list_(pa.int32()))
_MOST_SCORES = 1 << 16  # of a row
_MOST_BYTES = 1 << 32
_LONGEST = 200  # letters of a name or digest


def predictions_schema(label_type: pa.DataType, num_scores: int, metric: str, texts: Mapping[str, str]) -> pa.Schema:
    """Return the columns of the file.

    Args:
        label_type: of encoded labels.
        num_scores: C.
        metric: name of the task's main metric.
        texts: digest of the texts of each split.
    """
    metadata = {"lx": json.dumps({"metric": metric, "texts": dict(texts)})}
    return pa.schema(_columns(label_type, num_scores), metadata=metadata)


def _columns(label_type: pa.DataType, num_scores: int) -> dict[str, pa.DataType]:
    scores = pa.list_(pa.float32(), num_scores)
    numbers = {"loss": pa.float32(), "metric": pa.float64(), "weight": pa.float64()}
    return {"split": pa.string(), "row": pa.int64(), "label": label_type, "scores": scores, **numbers}


def write_predictions(run: RunDirectory, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write the file atomically, one record batch at a time."""
    with (
        atomic_write(run.predictions) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):
        for batch in batches:
            out.write_batch(batch)


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions of one split, in input order.

    Attributes:
        rows: [N] int64, ascending: 0 to N - 1 unless the evaluation was limited.
        labels: class ids [N] int32; whether a row has a label [N, C] bool; or numbers [N] float64.
        scores: [N, C] float32: probabilities, or the predicted number [N, 1].
        loss: [N] float32.
        metric: [N] float64, each row's term of the main metric's numerator.
        weight: [N] float64, its term of the denominator: the main metric is sum(``metric``) / sum(``weight``).
        texts: digest of the split's texts.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    scores: NDArray[np.float32]
    loss: NDArray[np.float32]
    metric: NDArray[np.float64]
    weight: NDArray[np.float64]
    texts: str

    def without_scores(self) -> SplitPredictions:
        """Return the same with scores [N, 0], to hold many runs in memory."""
        return replace(self, scores=self.scores[:, :0].copy())


@dataclass(frozen=True)
class Predictions:
    """The content of the file.

    Attributes:
        metric: name of the main metric.
        splits: "validation", and "test" if the run was tested.
    """

    metric: str
    splits: dict[str, SplitPredictions]


def read_predictions(run: RunDirectory) -> Predictions:
    """Read the predictions of a run, perhaps a stranger's.

    Raises:
        LxError: there are none, or the file is not what lx writes.
    """
    path = run.predictions
    if not lexists(path):
        raise LxError(
            f"{run.path} holds no predictions ({path.name} is missing): it has not ended, or lx was older then"
        )
    if run.trusted(path).stat().st_size > _MOST_BYTES:
        raise LxError(f"{path} has more than {_MOST_BYTES:,} bytes, and was not read")
    try:
        schema, read = open_untrusted(path)
        num_scores = _check_columns(schema, path)
        batches = list(read)
        for batch in batches:
            batch.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, StopIteration, ValueError, struct.error) as error:
        raise LxError(f"{path} is not a whole Arrow file of predictions: {printable(str(error))}") from error
    metric, texts = _read_metadata(schema, path)
    by_split: dict[str, list[pa.RecordBatch]] = {name: [] for name in SPLITS}
    for batch in batches:
        if not batch.num_rows or any(column.null_count for column in batch.columns):
            raise LxError(f"{path} is damaged: it has gaps")
        names = pc.unique(batch.column("split")).to_pylist()
        if len(names) > 1 or names[0] not in SPLITS:
            raise LxError(f"{path} is damaged: its splits are {shorten(names)}")
        by_split[names[0]].append(batch)
    splits = {
        name: _read_split(pa.Table.from_batches(parts).combine_chunks(), num_scores, texts.get(name, ""), path)
        for name, parts in by_split.items()
        if parts
    }
    return Predictions(metric, splits)


def _check_columns(schema: pa.Schema, path: Path) -> int:
    """Return the number of scores of a row; raise LxError if the columns are others than those that lx writes."""
    scores = schema.field("scores").type if "scores" in schema.names else pa.null()
    num_scores = scores.list_size if pa.types.is_fixed_size_list(scores) else 0
    expected = [pa.schema(_columns(label, num_scores)) for label in _LABEL_TYPES]
    expected += [columns.remove(len(columns) - 1) for columns in expected]  # older files have no weights
    if not 1 <= num_scores <= _MOST_SCORES or not any(schema.equals(columns) for columns in expected):
        raise LxError(f"{path} does not hold predictions: its columns are {shorten(schema.names)}")
    return int(num_scores)


def _read_metadata(schema: pa.Schema, path: Path) -> tuple[str, dict[str, str]]:
    """Return the name of the main metric, and the digest of the texts of each split."""
    try:
        content = json.loads((schema.metadata or {}).get(b"lx", b""))
        metric, texts = content["metric"], content["texts"]
        if all(type(text) is str and len(text) < _LONGEST for text in (metric, *texts, *texts.values())):
            return metric, texts
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise LxError(f"{path} does not say which metric it holds, and of which texts")


def _read_split(table: pa.Table, num_scores: int, texts: str, path: Path) -> SplitPredictions:
    """Check the values of one split, and return them as arrays."""
    rows, loss, metric = (_numpy(table[name]) for name in ("row", "loss", "metric"))
    weight = _numpy(table["weight"]) if "weight" in table.column_names else np.ones(len(rows))
    scores = _numpy(pc.list_flatten(table["scores"])).reshape(-1, num_scores)
    if len(scores) != len(rows) or rows[0] < 0 or (np.diff(rows) <= 0).any():
        raise LxError(f"{path} is damaged: its rows are not in order")
    if not all(np.isfinite(values).all() for values in (scores, loss, metric, weight)):
        raise LxError(f"{path} holds numbers that are not finite: the run, or the file, is damaged")
    labels = _read_labels(table["label"], num_scores, path)
    return SplitPredictions(rows, labels, scores, loss, metric, weight, texts)


def _read_labels(column: pa.ChunkedArray, num_scores: int, path: Path) -> NDArray[Any]:
    """Return labels as an array; raise LxError if they do not fit the number of scores."""
    if column.type == pa.float64():
        numbers: NDArray[np.float64] = _numpy(column)
        if np.isfinite(numbers).all():
            return numbers
        raise LxError(f"{path} is damaged: a label is not a finite number")
    ids: NDArray[np.int32] = _numpy(column if column.type == pa.int32() else pc.list_flatten(column))
    if len(ids) and not 0 <= ids.min() <= ids.max() < num_scores:
        raise LxError(f"{path} is damaged: it has labels beyond its {num_scores} scores")
    if column.type == pa.int32():
        return ids
    has_label = np.zeros((len(column), num_scores), np.bool_)
    has_label[np.repeat(np.arange(len(column)), _numpy(pc.list_value_length(column))), ids] = True
    return has_label


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return the values of a column; pyarrow's own ``to_numpy`` imports pandas, which takes long."""
    values: NDArray[Any] = np.from_dlpack(column.combine_chunks())  # flattened empty lists have no chunk
    return values
