"""The token ids, batches and clock that other programs are given, so that they train on what lx trains on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lx.bench.timers import wait_for_device
from lx.data.datamodule import TextDataModule
from lx.system.hardware import Hardware


class Examples(Dataset[dict[str, Any]]):
    """Token ids and labels of the training split, one at a time, as these programs are used to."""

    def __init__(self, data: TextDataModule, count: int | None = None) -> None:
        table = data.tables["train"]
        rows = np.arange(len(table) if count is None else min(count, len(table)))
        self.pad_id = data.tokenizer.pad_id
        self.lengths = table.lengths[rows].tolist()
        self.items: list[dict[str, Any]] = []
        for start in range(0, len(rows), 1000):
            part = rows[start : start + 1000]
            ids = np.full((len(part), int(table.lengths[part].max())), self.pad_id, np.int64)
            table.gather(part, ids)
            for row, tokens in zip(part.tolist(), ids, strict=True):
                self.items.append(
                    {"input_ids": tokens[: table.lengths[row]].tolist(), "labels": table.labels[row].as_py()}
                )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


class Collate:
    """Pads a batch, to its longest example or to a fixed length.

    Attributes:
        num_tokens: real ones of each batch so far; counted here, where no program has to ask a device.
    """

    def __init__(self, pad_id: int, length: int | None = None) -> None:
        self.pad_id = pad_id
        self.length = length
        self.num_tokens: list[int] = []

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        self.num_tokens.append(sum(len(item["input_ids"]) for item in items))
        length = self.length or max(len(item["input_ids"]) for item in items)
        ids = torch.full((len(items), length), self.pad_id)
        mask = torch.zeros(len(items), length, dtype=torch.int64)
        for row, item in enumerate(items):
            ids[row, : len(item["input_ids"])] = torch.tensor(item["input_ids"])
            mask[row, : len(item["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([item["labels"] for item in items])}


class Clock:
    """Takes the time of the steps behind the warmup.

    Attributes:
        seconds: what they took.
    """

    def __init__(self, hardware: Hardware, warmup: int, steps: int) -> None:
        self.hardware, self.warmup, self.steps = hardware, warmup, steps
        self.seconds = 0.0

    def step_ended(self, count: int) -> None:
        """Start or stop after the step of this number, from 1."""
        if count in (self.warmup, self.warmup + self.steps):
            wait_for_device(self.hardware)
            self.seconds = time.perf_counter() - self.seconds
