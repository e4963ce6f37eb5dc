from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision

from lx.data.batches import Batch, GlobalBatch, TokenDataset, TrainDataset, pad
from lx.data.plan import (
    RankBatch,
)
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded


def collate(labels: pa.Array) -> torch.Tensor:
    return torch.from_numpy(labels.to_numpy().astype(np.int64))


def examples(count: int) -> list[tuple[list[int], int, int]]:
    """Token ids, how many of them belong to the pair, label."""
    random = np.random.default_rng(7)
    return [(random.integers(4, 99, 2 + i % 11).tolist(), i % 3, i % 5) for i in range(count)]


def table(path: Path, rows: list[tuple[list[int], int, int]], piece: int) -> TokenTable:
    def pieces() -> object:
        for start in range(0, len(rows), piece):
            part = rows[start : start + piece]
            yield (
                Encoded(
                    token_ids=np.array([i for ids, _, _ in part for i in ids], np.int32),
                    lengths=np.array([len(ids) for ids, _, _ in part], np.int32),
                    pair_lengths=np.array([second for _, second, _ in part], np.int32),
                    truncated=np.array([len(ids) > 9 for ids, _, _ in part]),
                ),
                pa.array([label for _, _, label in part], pa.int32()),
            )

    write_tokens(path, pieces(), pa.int32())  # type: ignore[arg-type]
    return TokenTable(path)


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("pad_id", [0, 42])
def test_batch_against_plain_python(tmp_path: Path, piece: int, pad_id: int) -> None:
    rows = examples(53)
    batch = TokenDataset(table(tmp_path / "t.arrow", rows, piece), pad_id, True, collate)[np.array([52, 0, 7, 6, 29])]
    wanted = [rows[i] for i in (52, 0, 7, 6, 29)]
    width = max(len(ids) for ids, _, _ in wanted)
    assert batch.token_ids.tolist() == [ids + [pad_id] * (width - len(ids)) for ids, _, _ in wanted]
    assert batch.mask.tolist() == [[t < len(ids) for t in range(width)] for ids, _, _ in wanted]
    assert batch.token_types is not None
    assert batch.token_types.tolist() == [
        [int(len(ids) - second <= t < len(ids)) for t in range(width)] for ids, second, _ in wanted
    ]
    assert batch.labels.tolist() == [label for _, _, label in wanted]
    assert batch.rows.tolist() == [52, 0, 7, 6, 29]
    assert batch.num_tokens == sum(len(ids) for ids, _, _ in wanted)


def test_texts_encoded_just_now_are_padded_as_those_on_disk(tmp_path: Path) -> None:
    rows = examples(29)
    encoded = Encoded(
        token_ids=np.array([i for ids, _, _ in rows for i in ids], np.int32),
        lengths=np.array([len(ids) for ids, _, _ in rows], np.int32),
        pair_lengths=np.array([second for _, second, _ in rows], np.int32),
        truncated=np.zeros(29, np.bool_),
    )
    chosen = np.array([28, 3, 0, 17])
    for ours, theirs in zip(
        pad(encoded, chosen, 42, True), pad(table(tmp_path / "t.arrow", rows, 5), chosen, 42, True), strict=True
    ):
        assert ours is not None and theirs is not None and torch.equal(ours, theirs)


@pytest.mark.parametrize(("rows", "width"), [([1], 8), ([1, 9], 16), ([20], 24), ([28], 29), ([], 1)])
def test_lengths_are_rounded_up_but_not_beyond_the_longest(rows: list[int], width: int, tmp_path: Path) -> None:
    """Example i has i + 1 tokens; a network may have no more positions than the longest."""
    tokens = [([7] * (i + 1), 0, 0) for i in range(29)]
    dataset = TokenDataset(table(tmp_path / "t.arrow", tokens, 5), 0, False, collate, pad_multiple=8)
    batch = dataset[np.array(rows, np.int64)]
    assert batch.token_ids.shape[1] == batch.mask.shape[1] == width
    assert int(batch.mask.sum()) == max(batch.num_tokens, 1) == max(sum(row + 1 for row in rows), 1)


def test_the_scores_of_an_expert_go_with_the_rows(tmp_path: Path) -> None:
    said = np.arange(33, dtype=np.float32).reshape(11, 3)
    tokens = table(tmp_path / "t.arrow", examples(11), 4)
    batch = TokenDataset(tokens, 0, False, collate, expert=said)[np.array([9, 0])].to(torch.device("cpu"))
    assert batch.expert is not None and batch.expert.tolist() == [[27, 28, 29], [0, 1, 2]]
    assert TokenDataset(tokens, 0, False, collate)[np.array([9, 0])].to(torch.device("cpu")).expert is None


def test_no_token_types_without_pairs(tmp_path: Path) -> None:
    assert (
        TokenDataset(table(tmp_path / "t.arrow", examples(5), 5), 0, False, collate)[np.array([1, 2])].token_types
        is None
    )


def test_global_batch_holds_the_examples_of_a_rank(tmp_path: Path) -> None:
    dataset = TrainDataset(TokenDataset(table(tmp_path / "t.arrow", examples(11), 4), 0, False, collate))
    batch = dataset[RankBatch([np.array([3, 1]), np.array([9]), np.zeros(0, np.int64)], 17, 131)]
    assert (batch.num_examples, batch.num_tokens) == (17, 131), "of the whole, not of the rank"
    assert [part.rows.tolist() for part in batch.micro_batches] == [[3, 1], [9], []]
    assert [part.num_tokens for part in batch.micro_batches] == [2 + 3 + 2 + 1, 2 + 9, 0]
    moved = batch.to(torch.device("cpu"))
    assert moved.micro_batches[1].token_ids.tolist() == batch.micro_batches[1].token_ids.tolist()


@pytest.mark.parametrize("with_types", [False, True])
def test_an_empty_batch_shows_one_padding_token_and_counts_for_nothing(tmp_path: Path, with_types: bool) -> None:
    dataset = TokenDataset(table(tmp_path / "t.arrow", examples(5), 5), 42, with_types, collate)
    batch = dataset[np.zeros(0, np.int64)]
    assert (batch.token_ids.tolist(), batch.mask.tolist()) == ([[42]], [[True]])
    assert (len(batch.labels), len(batch.rows), batch.num_tokens) == (0, 0, 0)
    real = dataset[np.array([1, 2])]
    for name in ("token_ids", "mask", "labels", "rows", "token_types"):
        ours, theirs = getattr(batch, name), getattr(real, name)
        assert (ours is None) == (theirs is None) and (ours is None or ours.dtype == theirs.dtype), name
    assert batch.token_types is None or batch.token_types.tolist() == [[0]]


def test_dataset_is_cheap_to_send_to_a_worker(tmp_path: Path) -> None:
    rows = examples(500)
    dataset = TokenDataset(table(tmp_path / "t.arrow", rows, 100), 0, False, collate)
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert pickle.loads(sent)[np.array([499])].token_ids.tolist() == [rows[499][0]]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_lightning_leaves_the_labels_of_a_batch_as_they_are(precision: str) -> None:
    labels = torch.tensor([0.123456789])
    batch = Batch(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), labels, torch.zeros(1), None, 1)
    plugin = DoublePrecision() if precision == "64-true" else HalfPrecision("bf16-true")
    (converted,) = plugin.convert_input(GlobalBatch([batch], 1, 1)).micro_batches
    assert torch.equal(converted.labels, labels) and converted.labels.dtype == torch.float32
