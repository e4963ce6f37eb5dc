"""Padded batches of examples.

Axis legend: N examples, B examples of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lx.data.plan import RankBatch
from lx.data.tokens.table import TokenTable


class Batch:
    """Padded examples. No dataclass: Lightning would round the labels of those to the precision of ``bf16-true``.

    Attributes:
        token_ids: [B, T] padded with the tokenizer's padding id; [1, 1] of an empty batch, whose B is 0.
        mask: [B, T] True for a real token; [1, 1] of an empty batch.
        labels: [B, ...] as the task collates them.
        rows: [B] which examples of the split these are.
        token_types: [B, T] 1 for the tokens of the text pair; None without pairs.
        num_tokens: real tokens, counted on the CPU, so that reading it does not wait for a device.
        expert: [B, C] scores of an expert beside the network; None without one, and in training.
    """

    def __init__(
        self,
        token_ids: Tensor,
        mask: Tensor,
        labels: Tensor,
        rows: Tensor,
        token_types: Tensor | None,
        num_tokens: int,
        expert: Tensor | None = None,
    ) -> None:
        self.token_ids = token_ids
        self.mask = mask
        self.labels = labels
        self.rows = rows
        self.token_types = token_types
        self.num_tokens = num_tokens
        self.expert = expert

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory, for asynchronous copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        token_ids, mask, labels, rows = map(function, (self.token_ids, self.mask, self.labels, self.rows))
        token_types, expert = (
            None if tensor is None else function(tensor) for tensor in (self.token_types, self.expert)
        )
        return Batch(token_ids, mask, labels, rows, token_types, self.num_tokens, expert)


@dataclass
class GlobalBatch:
    """This rank's examples of one optimizer step, in micro-batches.

    Attributes:
        micro_batches: of one forward pass each; every rank has the same number.
        num_examples: of the whole global batch, over all ranks: the loss is normalised by it.
        num_tokens: real tokens of the whole global batch.
    """

    micro_batches: list[Batch]
    num_examples: int
    num_tokens: int

    def to(self, device: torch.device) -> GlobalBatch:
        """Copy the global batch to another device."""
        return replace(self, micro_batches=[batch.to(device) for batch in self.micro_batches])

    def pin_memory(self) -> GlobalBatch:
        """Copy the global batch to page-locked memory."""
        return replace(self, micro_batches=[batch.pin_memory() for batch in self.micro_batches])


class TokenRows(Protocol):
    """Tokens of N examples: of a split on disk, or of texts that were encoded just now."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """[N] tokens of each example."""

    @property
    def pair_lengths(self) -> NDArray[np.int32]:
        """[N] how many of an example's last tokens belong to its text pair."""

    def gather(self, rows: NDArray[np.int64], out: NDArray[np.int64]) -> None:
        """Copy the token ids of some examples into the rows of a padded matrix."""


class NetInputs(NamedTuple):
    """What a network takes: token ids [B, T], mask [B, T], and token types [B, T] or None."""

    token_ids: Tensor
    mask: Tensor
    token_types: Tensor | None


def pad(
    tokens: TokenRows, rows: NDArray[np.int64], pad_id: int, with_types: bool, multiple: int = 1, limit: int = 0
) -> NetInputs:
    """Pad the examples ``rows`` [B] to the longest of them; without any, the result shows one padding token.

    ``with_types`` marks the tokens of the second text of a pair with 1, those of the first with 0. T is rounded up to a
    ``multiple``, for fewer shapes, but not beyond ``limit``: a network may have no more positions.
    """
    if not len(rows):
        types = torch.zeros(1, 1, dtype=torch.int64) if with_types else None
        return NetInputs(torch.full((1, 1), pad_id), torch.ones(1, 1, dtype=torch.bool), types)
    lengths = tokens.lengths[rows]
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // multiple) * multiple, limit))
    token_ids = np.full((len(rows), width), pad_id, np.int64)
    tokens.gather(rows, token_ids)
    positions = np.arange(token_ids.shape[1])
    mask = positions < lengths[:, None]
    types = None
    if with_types:
        is_pair = mask & (positions >= (lengths - tokens.pair_lengths[rows])[:, None])
        types = torch.from_numpy(is_pair.astype(np.int64))
    return NetInputs(torch.from_numpy(token_ids), torch.from_numpy(mask), types)


class TokenDataset(Dataset[Batch]):
    """Assembles batches of a split: an index is the array of a batch's examples, perhaps none.

    ``collate_labels`` is the task's: it turns the labels of a batch from an Arrow array into a tensor. Lengths are
    rounded up to a multiple of ``pad_multiple``, but not beyond the longest example of the split. ``expert`` holds the
    scores [N, C] of an expert, if there is one.
    """

    def __init__(
        self,
        table: TokenTable,
        pad_id: int,
        with_types: bool,
        collate_labels: Callable[[pa.Array], Tensor],
        pad_multiple: int = 1,
        expert: NDArray[np.float32] | None = None,
    ) -> None:
        self.table = table
        self.pad_id = pad_id
        self.with_types = with_types
        self.collate_labels = collate_labels
        self.pad_multiple = pad_multiple
        self.expert = expert
        self._longest = int(table.lengths.max(initial=0))

    def __getitem__(self, rows: NDArray[np.int64]) -> Batch:
        inputs = pad(self.table, rows, self.pad_id, self.with_types, self.pad_multiple, self._longest)
        return Batch(
            token_ids=inputs.token_ids,
            mask=inputs.mask,
            labels=self.collate_labels(self.table.labels.take(pa.array(rows))),
            rows=torch.from_numpy(rows),
            token_types=inputs.token_types,
            num_tokens=int(self.table.lengths[rows].sum()),
            expert=None if self.expert is None else torch.from_numpy(self.expert[rows]),
        )


class TrainDataset(Dataset[GlobalBatch]):
    """Assembles this rank's part of global batches: an index is a :class:`lx.data.plan.RankBatch`."""

    def __init__(self, tokens: TokenDataset) -> None:
        self.tokens = tokens

    def __getitem__(self, index: RankBatch) -> GlobalBatch:
        return GlobalBatch([self.tokens[rows] for rows in index.micro_batches], index.num_examples, index.num_tokens)
