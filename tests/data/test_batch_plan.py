"""Which examples make which batch, on which rank."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

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


def test_the_share_of_padding_of_rounded_lengths() -> None:
    lengths = np.array([3, 5, 11], np.int32)
    batches = [np.array([0, 1]), np.array([2])]
    assert padding_share(lengths, batches, 8) == pytest.approx(1 - 19 / (2 * 8 + 11))
