"""Predicts labels for texts with the network of a run, and its expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from lx.data.batches import TokenRows, pad
from lx.data.corpus.clean import clean
from lx.data.plan import EVAL_TOKENS, eval_plan
from lx.distributed.rank_info import RankInfo
from lx.inference.load import LoadedRun
from lx.inference.stream import Predictor, Scores, TextRow
from lx.kernels.swap import swap_in_kernels, uses_kernels
from lx.nn.expert_alone import ExpertAlone
from lx.system.hardware import Hardware

_CORE_TOKENS = 4096  # of a batch that one core computes: its activations stay in the core's cache


class Classifier(Predictor):
    """A run's trained network and its expert, ready to predict labels of texts."""

    def __init__(self, loaded: LoadedRun, hardware: Hardware, rank_info: RankInfo | None = None) -> None:
        # While a GPU computes a chunk of texts, the next is read and tokenized here.
        super().__init__(loaded.task, rank_info or RankInfo(), num_ahead=0 if hardware.device.type == "cpu" else 1)
        self.loaded = loaded
        self.hardware = hardware
        dtype = torch.float32 if hardware.autocast_dtype else hardware.product_dtype
        self.net = loaded.net.to(hardware.device, dtype)
        swap_in_kernels(self.net, hardware.device, hardware.product_dtype)
        if hardware.autocast_dtype and not uses_kernels(self.net):
            for module in self.net.modules():  # once, where autocast would do it for every batch
                if isinstance(module, nn.Linear):
                    module.to(hardware.autocast_dtype)

    @override
    def scores(self, rows: Sequence[TextRow]) -> Scores:
        for _, second in rows:
            self.loaded.require_pairs(second is not None)
        texts = [clean(text) for text, _ in rows]
        pairs = [clean(second) for _, second in rows] if self.loaded.has_pairs else None
        if self.loaded.expert is None:
            return (self._logits(texts, pairs),)
        with ThreadPoolExecutor(1) as beside:
            expert = beside.submit(self.loaded.expert.scores, texts, pairs)
            network = () if isinstance(self.net, ExpertAlone) else (self._logits(texts, pairs),)
            return (*network, torch.from_numpy(expert.result()))

    def _logits(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Tensor:
        """Start to compute the logits [texts, outputs]."""
        if not texts:  # there are fewer texts than ranks
            return torch.empty(0, self.task.num_outputs)
        encoded = self.loaded.tokenizer.encode(texts, pairs, self.loaded.max_length)
        batches, logits = zip(*self._batches(encoded), strict=True)
        order = torch.from_numpy(np.argsort(np.concatenate(batches)))
        return torch.cat(logits)[self._to_device(order)]

    def _batches(self, tokens: TokenRows) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield all rows in batches: which rows [B] they are, and their logits [B, C], on the device."""
        on_cpu = self.hardware.device.type == "cpu"
        batches = eval_plan(tokens.lengths, max_tokens=_CORE_TOKENS if on_cpu else EVAL_TOKENS)
        threads = self.hardware.threads if on_cpu and len(batches) >= self.hardware.threads else 1
        with _one_item_per_core(threads) as map_batches:
            yield from zip(batches, map_batches(partial(self._forward, tokens), batches), strict=True)

    def scores_of_rows(
        self, tokens: TokenRows, expert: NDArray[np.float32] | None
    ) -> Iterator[tuple[NDArray[np.int64], Scores]]:
        """Yield all rows in batches: which they are, and their scores, on the CPU.

        Args:
            tokens: of N texts.
            expert: the scores [N, C] of the run's expert; None: it has none.
        """
        if isinstance(self.net, ExpertAlone):
            assert expert is not None
            yield np.arange(len(expert)), (torch.from_numpy(expert),)
            return
        for rows, logits in self._batches(tokens):
            yield rows, (logits.cpu(), *(() if expert is None else (torch.from_numpy(expert[rows]),)))

    @torch.inference_mode()
    def _forward(self, tokens: TokenRows, rows: NDArray[np.int64]) -> Tensor:
        """Compute the logits of a batch, on the device."""
        pad_id, multiple, limit = self.loaded.tokenizer.pad_id, self.hardware.pad_multiple, self.loaded.max_length
        inputs = pad(tokens, rows, pad_id, self.loaded.has_pairs, multiple, limit)
        with self.hardware.autocast():
            logits: Tensor = self.net(*(None if part is None else self._to_device(part) for part in inputs))
        return logits.float()

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; to a GPU without waiting for it."""
        if self.hardware.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.hardware.device, non_blocking=True)


@contextmanager
def _one_item_per_core(threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a ``map`` that computes each item on one core.

    Cores that share every operation wait for one another after each; with an item of its own, none waits.
    """
    if threads == 1:
        yield map
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)  # torch passes the last number that was set on to later threads
