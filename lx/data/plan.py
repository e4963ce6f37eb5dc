"""Which examples make which batch.

Axis legend: N examples, B examples of a batch.

The sequence of global batches is a function of (data, seed, epoch) alone: no rank, device or micro-batch size enters
it, so hardware cannot change results. Hardware decides only who computes what: :func:`shard_batch` divides the examples
of a global batch among the ranks, and each rank divides its own into micro-batches.

Ranks step together, so each gets the same number of micro-batches, and of evaluation batches. Where examples run out, a
rank gets an empty batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

WINDOW = 200  # batches in a shuffled window; larger: less padding, smaller: more mixing of lengths over an epoch
EVAL_TOKENS = 16_384  # tokens of an evaluation batch, padding included


def epoch_plan(lengths: NDArray[np.int32], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Plan the global batches of an epoch: every example once, grouped by length inside shuffled windows.

    The examples are shuffled, divided into windows of ``WINDOW`` batches, and sorted by length within each window, so
    that neighbours need little padding; the batches are then shuffled. The last batch may be smaller.

    Args:
        lengths: [N] tokens of each example.
        batch_size: examples of a global batch.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        The examples of each batch, the longest last.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    shuffled = random.permutation(len(lengths))
    window = np.arange(len(lengths)) // (WINDOW * batch_size)
    grouped = shuffled[np.lexsort((lengths[shuffled], window))]
    batches = np.split(grouped, np.arange(batch_size, len(grouped), batch_size))
    return [batches[i] for i in random.permutation(len(batches))]


def eval_plan(
    lengths: NDArray[np.int32], limit: int | None = None, max_tokens: int = EVAL_TOKENS
) -> list[NDArray[np.int64]]:
    """Plan evaluation batches: every example once, sorted by its length in tokens ``lengths`` [N].

    A batch has at most ``max_tokens``, padding included, or one example. A ``limit`` keeps that many batches, spread
    over all lengths.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches if limit is None else batches[:: max(1, len(batches) // limit)][:limit]


def padding_share(lengths: NDArray[np.int32], batches: list[NDArray[np.int64]], multiple: int = 1) -> float:
    """Return the share of padding, from 0 to 1, of batches whose lengths are rounded up to a multiple."""
    longest = int(lengths.max())
    padded = sum(len(rows) * min(-(-int(lengths[rows].max()) // multiple) * multiple, longest) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / padded


def shard_batch(rows: NDArray[np.int64], num_ranks: int) -> list[NDArray[np.int64]]:
    """Divide examples that are sorted by length among the ranks, each of which gets its own sorted by length.

    The longest goes to rank 0, the next to rank 1, and so on to the last rank and back again. Ranks differ by at most
    one example, and by no more tokens than the longest example has.
    """
    turns = np.arange(len(rows))[::-1] % (2 * num_ranks)
    rank = np.minimum(turns, 2 * num_ranks - 1 - turns)
    return [rows[rank == r] for r in range(num_ranks)]


@dataclass(frozen=True)
class RankBatch:
    """One rank's examples of each forward pass over a global batch; the counts are those of the whole global batch."""

    micro_batches: list[NDArray[np.int64]]
    num_examples: int
    num_tokens: int


@dataclass(frozen=True)
class LoaderOptions:
    """How batches reach the model; only ``seed`` and the limits change what is learned.

    Attributes:
        seed: of the order of the batches.
        micro_batch: examples per forward pass; None: all of the rank's examples of a global batch.
        num_workers: processes that assemble batches.
        rank: of this process: decides which examples of every batch are its own.
        world_size: number of ranks.
        limit_train_batches: global batches an epoch; None: all.
        limit_eval_batches: batches an evaluation; None: all.
        pad_multiple: the lengths of batches are rounded up to a multiple of it.
        pin_memory: whether batches are put into page-locked memory, for asynchronous copies to a GPU.
    """

    seed: int = 0
    micro_batch: int | None = None
    num_workers: int = 0
    rank: int = 0
    world_size: int = 1
    limit_train_batches: int | None = None
    limit_eval_batches: int | None = None
    pad_multiple: int = 1
    pin_memory: bool = False


class TrainSampler(Sampler[RankBatch]):
    """Yields one rank's examples of each global batch of an epoch.

    Args:
        lengths: [N] tokens of each example.
        batch_size: examples of a global batch, over all ranks.
        options: of the run and of this rank.
        epoch: counted from 0.
        skip: global batches of the epoch that have been trained on already.
    """

    def __init__(
        self, lengths: NDArray[np.int32], batch_size: int, options: LoaderOptions, epoch: int = 0, skip: int = 0
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.options = options
        self.epoch = epoch
        self.skip = skip
        self.stop = min(batches_per_epoch(len(lengths), batch_size), options.limit_train_batches or len(lengths))

    def __len__(self) -> int:
        return self.stop - self.skip

    def __iter__(self) -> Iterator[RankBatch]:
        options = self.options
        for rows in epoch_plan(self.lengths, self.batch_size, options.seed, self.epoch)[self.skip : self.stop]:
            largest = -(-len(rows) // options.world_size)
            num_micro_batches = -(-largest // (options.micro_batch or largest))
            rank_rows = shard_batch(rows, options.world_size)[options.rank]
            yield RankBatch(np.array_split(rank_rows, num_micro_batches), len(rows), int(self.lengths[rows].sum()))


def batches_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return the number of global batches of an epoch; the last may be smaller."""
    return -(-num_examples // batch_size)


def rank_batches(batches: list[NDArray[np.int64]], rank: int, world_size: int) -> list[NDArray[np.int64]]:
    """Return one rank's batches of an evaluation.

    Every example goes to exactly one rank; every rank gets the same number of batches, the last of which may be empty.
    """
    own = batches[rank::world_size]
    missing = -(-len(batches) // world_size) - len(own)
    return own + [np.zeros(0, np.int64)] * missing
