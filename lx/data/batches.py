"""Which examples make which batch, and how a batch is assembled.

Axis legend: N examples, B examples of a batch, T tokens.

The sequence of global batches is a function of (data, seed, epoch) alone: no rank, device or micro-batch size enters
it, so hardware cannot change results. Hardware decides only who computes what: :func:`deal` hands the examples of a
global batch to the ranks, and each rank cuts its hand into micro-batches.

Ranks step together, so each gets the same number of micro-batches, and of evaluation batches. Where examples run out, a
rank gets a stand-in: a batch of no examples, whose forward pass sees one padding token and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lx.data.tokens.table import TokenTable

WINDOW = 200  # batches in a shuffled window; larger: less padding, smaller: more mixing of lengths over an epoch
EVAL_TOKENS = 16_384  # tokens of an evaluation batch, padding included


@dataclass  # not frozen: Lightning rebuilds batches field by field for 64-true and bf16-true
class Batch:
    """Padded examples.

    Attributes:
        token_ids: [B, T] padded with the tokenizer's padding id; [1, 1] of a stand-in, whose B is 0.
        mask: [B, T] True for a real token; likewise.
        labels: [B] label ids.
        rows: [B] which examples of the split these are.
        token_types: [B, T] 1 for the tokens of the text pair; None without pairs.
        num_tokens: real tokens, counted on the CPU so that nobody waits for a device.
    """

    token_ids: Tensor
    mask: Tensor
    labels: Tensor
    rows: Tensor
    token_types: Tensor | None
    num_tokens: int

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            token_ids=self.token_ids.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            rows=self.rows.to(device, non_blocking=True),
            token_types=None if self.token_types is None else self.token_types.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        return replace(
            self,
            token_ids=self.token_ids.pin_memory(),
            mask=self.mask.pin_memory(),
            labels=self.labels.pin_memory(),
            rows=self.rows.pin_memory(),
            token_types=None if self.token_types is None else self.token_types.pin_memory(),
        )


@dataclass
class GlobalBatch:
    """One optimizer step's examples (this rank's share of them), cut into micro-batches.

    Attributes:
        micro_batches: what one forward pass takes at a time; as many on every rank.
        num_examples: of the whole global batch, over all ranks: the loss is normalised by it.
        num_tokens: real tokens of the whole global batch.
    """

    micro_batches: list[Batch]
    num_examples: int
    num_tokens: int

    def to(self, device: torch.device) -> GlobalBatch:
        """The same global batch on another device."""
        return replace(self, micro_batches=[batch.to(device) for batch in self.micro_batches])

    def pin_memory(self) -> GlobalBatch:
        """The same global batch in page-locked memory."""
        return replace(self, micro_batches=[batch.pin_memory() for batch in self.micro_batches])


def epoch_plan(lengths: NDArray[np.int32], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The global batches of an epoch: every example once, grouped by length inside shuffled windows.

    The examples are shuffled, cut into windows of ``WINDOW`` batches, and sorted by length within each window, so that
    neighbours need little padding; the batches are then shuffled. The last batch may be smaller.

    Args:
        lengths: [N] tokens of each example.
        batch_size: examples of a global batch.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        The examples of each batch, longest last.
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
    """Evaluation batches: every example once, sorted by length.

    Args:
        lengths: [N] tokens of each example.
        limit: keep this many batches, spread over all lengths.
        max_tokens: of a batch, padding included; a longer example is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches if limit is None else batches[:: max(1, len(batches) // limit)][:limit]


def padding_share(lengths: NDArray[np.int32], batches: list[NDArray[np.int64]]) -> float:
    """Share of the padded tokens that are padding, from 0 to 1."""
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / padded


def mask_and_types(lengths: NDArray[np.int32], second: NDArray[np.int32] | None) -> tuple[Tensor, Tensor | None]:
    """What goes with the padded token ids of a batch.

    Args:
        lengths: [B] tokens of each example.
        second: [B] how many of its last tokens belong to its text pair; None where segments are not told apart.

    Returns:
        The mask [B, T], True for a real token, and the token types [B, T], 1 for those of the pair, or None.
    """
    places = np.arange(int(lengths.max()))
    mask = places < lengths[:, None]
    if second is None:
        return torch.from_numpy(mask), None
    types = mask & (places >= (lengths - second)[:, None])
    return torch.from_numpy(mask), torch.from_numpy(types.astype(np.int64))


def deal(rows: NDArray[np.int64], num_ranks: int) -> list[NDArray[np.int64]]:
    """Hand examples that are sorted by length to the ranks, the longest first, there and back like cards in a game.

    Hands differ by at most one example, and by no more tokens than the longest example has.

    Args:
        rows: examples sorted by length.
        num_ranks: how many hands.

    Returns:
        The hand of each rank, sorted by length.
    """
    places = np.arange(len(rows))[::-1] % (2 * num_ranks)
    rank = np.minimum(places, 2 * num_ranks - 1 - places)
    return [rows[rank == r] for r in range(num_ranks)]


@dataclass(frozen=True)
class Share:
    """What one rank has to do with a global batch: the examples of its micro-batches, and the size of the whole."""

    micro_batches: list[NDArray[np.int64]]
    num_examples: int
    num_tokens: int


class TrainSampler(Sampler[Share]):
    """Yields this rank's share of each global batch of an epoch.

    Args:
        lengths: [N] tokens of each example.
        batch_size: examples of a global batch, over all ranks.
        seed: of the run.
        epoch: counted from 0.
        skip: global batches of the epoch that have been trained on already.
        limit: global batches of an epoch; None: all.
        micro_batch: examples of a forward pass; None: the rank's whole share.
        rank: which share.
        world_size: how many shares there are.
    """

    def __init__(
        self,
        lengths: NDArray[np.int32],
        batch_size: int,
        seed: int,
        epoch: int = 0,
        skip: int = 0,
        limit: int | None = None,
        micro_batch: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.skip = skip
        self.stop = min(batches_per_epoch(len(lengths), batch_size), limit or len(lengths))
        self.micro_batch = micro_batch
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.stop - self.skip

    def __iter__(self) -> Iterator[Share]:
        for rows in epoch_plan(self.lengths, self.batch_size, self.seed, self.epoch)[self.skip : self.stop]:
            largest = -(-len(rows) // self.world_size)
            num_micro_batches = -(-largest // (self.micro_batch or largest))
            hand = deal(rows, self.world_size)[self.rank]
            yield Share(np.array_split(hand, num_micro_batches), len(rows), int(self.lengths[rows].sum()))


def batches_per_epoch(num_examples: int, batch_size: int) -> int:
    """Global batches of an epoch; the last may be smaller."""
    return -(-num_examples // batch_size)


def share_of_evaluation(batches: list[NDArray[np.int64]], rank: int, world_size: int) -> list[NDArray[np.int64]]:
    """This rank's batches of an evaluation: every example goes to exactly one rank, every rank gets as many batches."""
    mine = batches[rank::world_size]
    missing = -(-len(batches) // world_size) - len(mine)
    return mine + [np.zeros(0, np.int64)] * missing


class TokenDataset(Dataset[Batch]):
    """Assembles batches of a split: an index is the array of a batch's examples; of none, for a stand-in."""

    def __init__(self, table: TokenTable, pad_id: int, with_types: bool) -> None:
        self.table = table
        self.pad_id = pad_id
        self.with_types = with_types

    def __getitem__(self, rows: NDArray[np.int64]) -> Batch:
        if not len(rows):
            return self._stand_in()
        lengths = self.table.lengths[rows]
        token_ids = np.full((len(rows), int(lengths.max())), self.pad_id, np.int64)
        self.table.gather(rows, token_ids)
        mask, token_types = mask_and_types(lengths, self.table.second[rows] if self.with_types else None)
        return Batch(
            token_ids=torch.from_numpy(token_ids),
            mask=mask,
            labels=torch.from_numpy(self.table.labels[rows].astype(np.int64)),
            rows=torch.from_numpy(rows),
            token_types=token_types,
            num_tokens=int(lengths.sum()),
        )

    def _stand_in(self) -> Batch:
        none = torch.zeros(0, dtype=torch.int64)
        return Batch(
            token_ids=torch.full((1, 1), self.pad_id),
            mask=torch.ones(1, 1, dtype=torch.bool),
            labels=none,
            rows=none,
            token_types=torch.zeros(1, 1, dtype=torch.int64) if self.with_types else None,
            num_tokens=0,
        )


class TrainDataset(Dataset[GlobalBatch]):
    """Assembles this rank's part of global batches: an index is its share."""

    def __init__(self, tokens: TokenDataset) -> None:
        self.tokens = tokens

    def __getitem__(self, share: Share) -> GlobalBatch:
        return GlobalBatch([self.tokens[rows] for rows in share.micro_batches], share.num_examples, share.num_tokens)
