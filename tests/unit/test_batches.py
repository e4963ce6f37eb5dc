from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from lx.data.batches import (
    EVAL_TOKENS,
    TokenDataset,
    TrainDataset,
    TrainSampler,
    epoch_plan,
    eval_plan,
    padding_share,
)
from lx.data.tokenizer import Encoded
from lx.data.tokens import TokenTable, write_tokens

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


@pytest.mark.parametrize("micro_batch", [1, 4, 13, 50])
def test_micro_batches_do_not_change_the_sequence(micro_batch: int) -> None:
    def sequence(sampler: TrainSampler) -> list[list[int]]:
        sampler.set_epoch(7)
        return [list(chain.from_iterable(rows.tolist() for rows in parts)) for parts in sampler]

    whole = TrainSampler(LENGTHS, 13, 5, None, None)
    cut = TrainSampler(LENGTHS, 13, 5, micro_batch, None)
    assert sequence(cut) == sequence(whole) == plan(epoch=7)
    assert all(len(rows) <= micro_batch for parts in cut for rows in parts)


def test_limit_takes_the_first_batches() -> None:
    sampler = TrainSampler(LENGTHS, 13, 5, None, 4)
    assert [parts[0].tolist() for parts in sampler] == plan(epoch=0)[:4]
    assert len(sampler) == 4


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
                    second=np.array([second for _, second, _ in part], np.int32),
                    truncated=np.array([len(ids) > 9 for ids, _, _ in part]),
                ),
                np.array([label for _, _, label in part], np.int32),
            )

    write_tokens(path, pieces())  # type: ignore[arg-type]
    return TokenTable(path)


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("pad_id", [0, 42])
def test_batch_against_plain_python(tmp_path: Path, piece: int, pad_id: int) -> None:
    rows = examples(53)
    batch = TokenDataset(table(tmp_path / "t.arrow", rows, piece), pad_id, True)[np.array([52, 0, 7, 6, 29])]
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


def test_no_token_types_without_pairs(tmp_path: Path) -> None:
    assert TokenDataset(table(tmp_path / "t.arrow", examples(5), 5), 0, False)[np.array([1, 2])].token_types is None


def test_global_batch_counts_its_share(tmp_path: Path) -> None:
    dataset = TrainDataset(TokenDataset(table(tmp_path / "t.arrow", examples(11), 4), 0, False))
    batch = dataset[[np.array([3, 1]), np.array([9])]]
    assert (batch.size, batch.num_examples, len(batch.micro_batches)) == (3, 3, 2)
    assert batch.num_tokens == sum(len(examples(11)[i][0]) for i in (3, 1, 9))
    moved = batch.to(torch.device("cpu"))
    assert moved.micro_batches[1].token_ids.tolist() == batch.micro_batches[1].token_ids.tolist()


def test_dataset_is_cheap_to_send_to_a_worker(tmp_path: Path) -> None:
    rows = examples(500)
    dataset = TokenDataset(table(tmp_path / "t.arrow", rows, 100), 0, False)
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert pickle.loads(sent)[np.array([499])].token_ids.tolist() == [rows[499][0]]
