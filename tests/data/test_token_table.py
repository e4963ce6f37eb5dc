from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded
from lx.errors import LxError
from lx.tasks.classification import Classification

Piece = tuple[Encoded, pa.Array]


def piece(rows: list[list[int]], labels: list[int], second: int = 0) -> Piece:
    flat = np.array([i for row in rows for i in row], np.int32)
    lengths = np.array([len(row) for row in rows], np.int32)
    encoded = Encoded(flat, lengths, np.full(len(rows), second, np.int32), lengths > 3)
    return encoded, pa.array(labels, pa.int32())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.arrow"


def test_round_trip_over_pieces(path: Path) -> None:
    write_tokens(
        path, iter([piece([[2, 5, 3], [2, 3]], [0, 1]), piece([], []), piece([[2, 7, 8, 9, 3]], [2])]), pa.int32()
    )
    table = TokenTable(path)
    assert len(table) == 3
    assert table.lengths.tolist() == [3, 2, 5]
    assert table.labels.to_pylist() == [0, 1, 2]
    assert table.num_truncated == 1
    assert not table.has_pairs
    out = np.zeros((2, 6), np.int64)
    table.gather(np.array([2, 1]), out)
    assert out.tolist() == [[2, 7, 8, 9, 3, 0], [2, 3, 0, 0, 0, 0]]


def test_pairs_are_noticed(path: Path) -> None:
    write_tokens(path, iter([piece([[2, 5, 3, 6, 3]], [0], second=2)]), pa.int32())
    assert TokenTable(path).has_pairs
    assert TokenTable(path).pair_lengths.tolist() == [2]


def test_a_failure_leaves_the_old_file(path: Path) -> None:
    def fails() -> Iterator[Piece]:
        yield piece([[2, 3]], [0])
        raise RuntimeError("the source broke")

    write_tokens(path, iter([piece([[2, 9, 3]], [1])]), pa.int32())
    with pytest.raises(RuntimeError, match="the source broke"):
        write_tokens(path, fails(), pa.int32())
    assert TokenTable(path).labels.to_pylist() == [1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


fit = Classification(["a", "b", "c"], [1, 1, 1]).fits


@pytest.mark.parametrize(
    ("rows", "labels", "fits"),
    [
        ([[2, 5, 3]], [0], True),
        ([[2, 6, 3]], [0], False),  # 6 tokens are known: 0 to 5
        ([[2, -1, 3]], [0], False),
        ([[2, 5, 3]], [3], False),  # 3 classes are known: 0 to 2
        ([[2, 5, 3]], [-1], False),
        ([[2, 5, 3], []], [0, 0], False),
        ([], [], False),
    ],
)
def test_check(path: Path, rows: list[list[int]], labels: list[int], fits: bool) -> None:
    write_tokens(path, iter([piece(rows, labels)]), pa.int32())
    if fits:
        TokenTable(path).check(vocab_size=6, labels_fit=fit)
        return
    with pytest.raises(LxError, match=r"test\.arrow is empty, damaged, or does not belong"):
        TokenTable(path).check(vocab_size=6, labels_fit=fit)


def test_other_columns_are_refused(path: Path) -> None:
    schema = pa.schema({"words": pa.string()})
    with pa.ipc.new_file(str(path), schema) as out:
        out.write_batch(pa.record_batch([pa.array(["a"])], schema=schema))
    with pytest.raises(LxError, match="its columns are words"):
        TokenTable(path)


def test_a_cut_file_is_refused(path: Path) -> None:
    write_tokens(path, iter([piece([[2, 5, 3]], [0])]), pa.int32())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LxError, match="not a whole Arrow file"):
        TokenTable(path)
