from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision

from lx.data.batches import Batch, GlobalBatch, TokenDataset, TrainDataset, pad
from lx.data.plan import (
    EVAL_TOKENS,
    LoaderOptions,
    RankBatch,
    TrainSampler,
    epoch_plan,
    eval_plan,
    padding_share,
    rank_batches,
    shard_batch,
)
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Encoded

LENGTHS = np.random.default_rng(3).integers(3, 90, 1009).astype(np.int32)


def plan(seed: int = 5, epoch: int = 2, batch_size: int = 13) -> list[list[int]]:
    return [batch.tolist() for batch in epoch_plan(LENGTHS, batch_size, seed, epoch)]


def test_plan_is_a_function_of_lengths_seed_and_epoch() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = plan()
    torch.manual_seed(2)
    np.random.seed(2)
    assert plan() == first
    assert plan(seed=6) != first
    assert plan(epoch=3) != first


@pytest.mark.parametrize("batch_size", [1, 13, 1009, 5000])
def test_plan_has_every_example_once(batch_size: int) -> None:
    batches = plan(batch_size=batch_size)
    assert sorted(chain.from_iterable(batches)) == list(range(1009))
    assert len(batches) == -(-1009 // batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1


def test_plan_is_pinned() -> None:
    """A resumed run depends on it: another order would be another run."""
    batches = [batch.tolist() for batch in epoch_plan(np.array([3, 9, 4, 8, 5, 7, 6], np.int32), 3, 0, 0)]
    assert batches == [[1], [6, 5, 3], [0, 2, 4]]


def test_grouping_by_length_saves_padding() -> None:
    in_order = np.split(np.arange(1009), range(13, 1009, 13))
    assert padding_share(LENGTHS, epoch_plan(LENGTHS, 13, 0, 0)) < 0.1 < padding_share(LENGTHS, in_order)


def test_padding_share_by_hand() -> None:
    lengths = np.array([2, 3, 5], np.int32)
    assert padding_share(lengths, [np.array([0, 1]), np.array([2])]) == pytest.approx(1 / 11)


@pytest.mark.parametrize("limit", [None, 3])
def test_eval_plan(limit: int | None) -> None:
    batches = eval_plan(LENGTHS, limit)
    rows = list(chain.from_iterable(batch.tolist() for batch in batches))
    assert len(rows) == len(set(rows))
    assert len(rows) == 1009 if limit is None else len(batches) == limit
    assert all(len(batch) * LENGTHS[batch].max() <= EVAL_TOKENS for batch in batches)


def test_a_text_longer_than_a_batch_has_one_of_its_own() -> None:
    batches = eval_plan(np.array([3, EVAL_TOKENS + 1], np.int32))
    assert [batch.tolist() for batch in batches] == [[1], [0]]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 13, 60])
def test_ranks_get_even_parts(num_ranks: int, count: int) -> None:
    rows = np.argsort(LENGTHS, kind="stable")[11 : 11 + 17 * count : 17]
    parts = shard_batch(rows, num_ranks)
    assert sorted(chain.from_iterable(parts)) == sorted(rows)
    counts, tokens = [len(part) for part in parts], [int(LENGTHS[part].sum()) for part in parts]
    assert max(counts) - min(counts) <= 1
    assert max(tokens) - min(tokens) <= LENGTHS[rows].max()
    assert all(LENGTHS[part].tolist() == sorted(LENGTHS[part]) for part in parts)


def test_an_odd_example_goes_to_the_rank_with_fewer_tokens() -> None:
    assert [part.tolist() for part in shard_batch(np.array([7, 8, 9]), 2)] == [[9], [7, 8]]


def train_sampler(epoch: int = 0, skip: int = 0, **options: Any) -> TrainSampler:
    return TrainSampler(LENGTHS, 13, LoaderOptions(seed=5, **options), epoch, skip)


def all_ranks(world_size: int, **settings: Any) -> list[list[RankBatch]]:
    """The batches of every rank, in the order of the global batches."""
    samplers = [train_sampler(rank=rank, world_size=world_size, **settings) for rank in range(world_size)]
    return [list(together) for together in zip(*samplers, strict=True)]


@pytest.mark.parametrize("micro_batch", [None, 1, 4, 13, 50])
@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
def test_hardware_does_not_change_the_sequence(world_size: int, micro_batch: int | None) -> None:
    batches_of_ranks = all_ranks(world_size, micro_batch=micro_batch, epoch=7)
    batches = plan(epoch=7)
    for together, rows in zip(batches_of_ranks, batches, strict=True):
        assert len({len(share.micro_batches) for share in together}) == 1, "ranks step together"
        pieces = [piece for share in together for piece in share.micro_batches]
        assert sorted(chain.from_iterable(pieces)) == sorted(rows)
        assert micro_batch is None or max(map(len, pieces)) <= micro_batch
        assert {(share.num_examples, share.num_tokens) for share in together} == {(len(rows), LENGTHS[rows].sum())}
    if world_size == 1:
        assert [list(chain.from_iterable(share.micro_batches)) for (share,) in batches_of_ranks] == batches


def plain(sampler: TrainSampler) -> list[list[list[int]]]:
    return [[rows.tolist() for rows in share.micro_batches] for share in sampler]


@pytest.mark.parametrize("skip", [0, 1, 77, 78])
def test_a_skip_goes_on_with_the_sequence(skip: int) -> None:
    settings = {"epoch": 3, "micro_batch": 4, "rank": 1, "world_size": 2}
    sampler = train_sampler(skip=skip, **settings)
    assert plain(sampler) == plain(train_sampler(**settings))[skip:]
    assert len(sampler) == 78 - skip == len(plain(sampler))


def test_limit_takes_the_first_batches() -> None:
    sampler = train_sampler(limit_train_batches=4)
    assert [rows for (rows,) in plain(sampler)] == plan(epoch=0)[:4]
    assert len(sampler) == 4
    resumed = train_sampler(limit_train_batches=4, skip=3)
    assert [rows for (rows,) in plain(resumed)] == plan(epoch=0)[3:4]
    assert len(resumed) == 1
    assert len(train_sampler(limit_train_batches=1000)) == 78


@pytest.mark.parametrize("count", [0, 1, 7, 501])
def test_every_example_is_evaluated_on_one_rank(count: int) -> None:
    batches = eval_plan(100 * LENGTHS[:count])
    parts = [rank_batches(batches, rank, 4) for rank in range(4)]
    assert sorted(chain.from_iterable(chain.from_iterable(parts))) == list(range(count))
    assert {len(part) for part in parts} == {-(-len(batches) // 4)}


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


def test_the_share_of_padding_of_rounded_lengths() -> None:
    lengths = np.array([3, 5, 11], np.int32)
    batches = [np.array([0, 1]), np.array([2])]
    assert padding_share(lengths, batches, 8) == pytest.approx(1 - 19 / (2 * 8 + 11))


def test_the_log_probabilities_of_an_expert_go_with_the_rows(tmp_path: Path) -> None:
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
