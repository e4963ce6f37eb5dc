"""Predicts labels for texts with a finished run."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lx.data.batches import pad
from lx.data.corpus.clean import clean
from lx.data.plan import EVAL_TOKENS, eval_plan
from lx.data.sources.rows import kind_of
from lx.data.tokens.tokenizer import Encoded
from lx.distributed.process_group import all_gather, scatter
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.inference.load import LoadedRun, load_run
from lx.kernels.swap import swap_in_kernels, uses_kernels
from lx.nn.expert_alone import ExpertAlone
from lx.system.hardware import Hardware, resolve
from lx.tasks.base import Prediction

_CHUNK = 4096  # texts tokenized, sorted by length and predicted at a time, on each rank
_CORE_TOKENS = 4096  # of a batch that one core computes: its activations stay in the core's cache

_HALF_PAIR = re.compile("[\ud800-\udfff]")

TextRow = tuple[str, str | None]
"""A text, and the text paired with it or None."""

Scores = tuple[Tensor, ...]
"""Logits [texts, outputs] in float32, an expert's log-probabilities, or both: what a task's ``predictions`` takes."""


class Classifier:
    """A trained network, ready to predict labels of texts.

    Args:
        loaded: from a run directory.
        hardware: where to compute.
        rank_info: of this process among those that share the texts.
    """

    def __init__(self, loaded: LoadedRun, hardware: Hardware, rank_info: RankInfo | None = None) -> None:
        self.loaded = loaded
        self.task = loaded.task
        self.rank_info = rank_info or RankInfo()
        self.hardware = hardware
        # While a GPU computes a chunk of texts, the next is read and tokenized here.
        self._num_ahead = 0 if hardware.device.type == "cpu" else 1
        dtype = torch.float32 if hardware.autocast_dtype else hardware.product_dtype
        self.net = loaded.net.to(hardware.device, dtype)
        swap_in_kernels(self.net, hardware.device, hardware.product_dtype)
        if hardware.autocast_dtype and not uses_kernels(self.net):
            for module in self.net.modules():  # once, where autocast would do it for every batch
                if isinstance(module, nn.Linear):
                    module.to(hardware.autocast_dtype)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """Predict the labels of texts.

        Args:
            texts: what to label.
            pairs: the second text of each, for a run on pairs.

        Raises:
            LxError: pairs are missing, or given for a run on single texts; or one of the texts is no string.
        """
        firsts = _checked(texts, "texts")
        if pairs is None:
            return list(self.stream((text, None) for text in firsts))
        return list(self.stream(zip(firsts, _checked(pairs, "pairs"), strict=True)))

    def stream(self, rows: Iterable[TextRow]) -> Iterator[Prediction]:
        """Predict the labels of texts as they come, in their order; only a few thousand are held at a time.

        Args:
            rows: each text and the text paired with it, or None. With several ranks those of the first are divided
                among all, and it alone yields.
        """
        started: deque[tuple[list[TextRow], Scores]] = deque()
        for chunk, own in self._chunks(iter(rows)):
            started.append((chunk, self._start(own)))
            if len(started) > self._num_ahead:
                yield from self._finish(*started.popleft())
        for chunk, scores in started:
            yield from self._finish(chunk, scores)

    def _chunks(self, rows: Iterator[TextRow]) -> Iterator[tuple[list[TextRow], list[TextRow]]]:
        """Yield the next texts, which the first rank alone sees, and this rank's part of them."""
        world_size = self.rank_info.world_size
        while True:
            chunk = list(islice(rows, _CHUNK * world_size)) if self.rank_info.is_first else []
            own = scatter(_divide(chunk, world_size) if self.rank_info.is_first else [])
            if own is None:
                return
            yield chunk, own

    def _finish(self, chunk: list[TextRow], scores: Scores) -> Iterator[Prediction]:
        """Wait for the scores of a chunk on all ranks; the first yields its predictions."""
        parts = all_gather([score.cpu().numpy() for score in scores])
        if self.rank_info.is_first:
            joined = (torch.cat([torch.from_numpy(part) for part in column]) for column in zip(*parts, strict=True))
            yield from self.task.predictions([text for text, _ in chunk], *joined)

    def _start(self, rows: Sequence[TextRow]) -> Scores:
        """Start to compute the scores of some texts; on a GPU return before they are there."""
        for _, second in rows:
            self.loaded.require_pairs(second is not None)
        texts = [clean(text) for text, _ in rows]
        pairs = [clean(second) for _, second in rows] if self.loaded.has_pairs else None
        if self.loaded.expert is None:
            return (self._logits(texts, pairs),)
        with ThreadPoolExecutor(1) as beside:
            expert = beside.submit(self.loaded.expert.log_probabilities, texts, pairs)
            network = () if isinstance(self.net, ExpertAlone) else (self._logits(texts, pairs),)
            return (*network, torch.from_numpy(expert.result()))

    def _logits(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Tensor:
        """Start to compute logits [texts, outputs]."""
        if not texts:  # there are fewer texts than ranks
            return torch.empty(0, self.task.num_outputs)
        encoded = self.loaded.tokenizer.encode(texts, pairs, self.loaded.max_length)
        on_cpu = self.hardware.device.type == "cpu"
        batches = eval_plan(encoded.lengths, max_tokens=_CORE_TOKENS if on_cpu else EVAL_TOKENS)
        threads = self.hardware.threads if on_cpu and len(batches) >= self.hardware.threads else 1
        with _one_item_per_core(threads) as map_batches:
            logits = torch.cat(list(map_batches(partial(self._forward, encoded), batches)))
        order = torch.from_numpy(np.argsort(np.concatenate(batches)))
        return logits[self._to_device(order)]

    @torch.inference_mode()
    def _forward(self, encoded: Encoded, rows: NDArray[Any]) -> Tensor:
        """Compute the logits of a batch, on the device."""
        pad_id, multiple, limit = self.loaded.tokenizer.pad_id, self.hardware.pad_multiple, self.loaded.max_length
        inputs = pad(encoded, rows, pad_id, self.loaded.has_pairs, multiple, limit)
        with self._autocast():
            logits: Tensor = self.net(*(None if part is None else self._to_device(part) for part in inputs))
        return logits.float()

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; to a GPU without waiting for it."""
        if self.hardware.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.hardware.device, non_blocking=True)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.hardware.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.hardware.device.type, self.hardware.autocast_dtype)


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


def _checked(texts: Sequence[str], name: str) -> list[str]:
    """Return the texts, or raise LxError if they are a single string or hold something that is no text."""
    if isinstance(texts, str):
        raise LxError(f"{name} is a single string, and each of its characters would be a text: give a list, [text]")
    checked = list(texts)
    for index, text in enumerate(checked):
        if not isinstance(text, str):
            raise LxError(f"{name}[{index}] is {kind_of(text)}, not a string")
        if not text.isascii() and _HALF_PAIR.search(text):
            raise LxError(f"{name}[{index}] holds half of a surrogate pair, which is no character")
    return checked


def _divide(chunk: list[TextRow], count: int) -> list[list[TextRow] | None]:
    """Divide rows into neighbouring parts of equal size; None for each if there are no rows."""
    return [chunk[i * len(chunk) // count : (i + 1) * len(chunk) // count] if chunk else None for i in range(count)]


def load(
    run_dir: str | Path,
    accelerator: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    trust: Sequence[str] = (),
) -> Classifier:
    """Load a finished run for prediction.

    Args:
        run_dir: the run directory.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: Lightning's name, or ``auto``; None: as the run was configured.
        threads: CPU threads; None: torch's default.
        trust: packages whose classes may be built from the run's configuration.

    Raises:
        LxError: not a complete run, one that was refused, or hardware that is not available.
    """
    loaded = load_run(run_dir, trust)
    return Classifier(loaded, resolve(accelerator, precision or str(loaded.config["hardware"]["precision"]), threads))
