"""Predicts the labels of texts as they come, in constant memory, on one rank or several."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lx.data.sources.rows import kind_of
from lx.distributed.process_group import all_gather, scatter
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError, require_list
from lx.tasks.base import Prediction, Task

_CHUNK = 4096  # texts tokenized, sorted by length and predicted at a time, on each rank

_HALF_PAIR = re.compile("[\ud800-\udfff]")

TextRow = tuple[str, str | None]
"""A text, and the text paired with it or None."""

Scores = tuple[Tensor, ...]
"""Logits [texts, outputs] in float32, an expert's scores, or both: what a task's ``predictions`` takes."""


class Predictor(ABC):
    """Predicts labels of texts by the scores that a subclass computes.

    Args:
        task: turns scores into predictions.
        rank_info: of this process among those that share the texts.
        num_ahead: chunks of texts that are started before the scores of the first are there.
    """

    def __init__(self, task: Task, rank_info: RankInfo, num_ahead: int) -> None:
        self.task = task
        self.rank_info = rank_info
        self._num_ahead = num_ahead

    @abstractmethod
    def scores(self, rows: Sequence[TextRow]) -> Scores:
        """Start to compute the scores of some texts; on a GPU return before they are there."""

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[Any]:
        """Predict the labels of texts.

        Args:
            texts: what to label: a list, a generator, an array, the column of a table, ...
            pairs: the second text of each, for a run on pairs.

        Returns:
            A :class:`Prediction` of each, of the run's task: with ``label`` and ``probability``, ``labels``, or
            ``value``.

        Raises:
            LxError: pairs are missing, too few or too many, or given for a run on single texts; or one of the texts is
                no string.
        """
        firsts = checked_texts(texts, "texts")
        if pairs is None:
            return list(self.stream((text, None) for text in firsts))
        seconds = checked_texts(pairs, "pairs")
        if len(firsts) != len(seconds):
            raise LxError(f"texts has {len(firsts):,} strings, and pairs {len(seconds):,}: each text needs its second")
        return list(self.stream(zip(firsts, seconds, strict=True)))

    def stream(self, rows: Iterable[TextRow]) -> Iterator[Prediction]:
        """Predict the labels of texts as they come, in their order; only a few thousand are held at a time.

        Args:
            rows: each text and the text paired with it, or None. With several ranks those of the first are divided
                among all, and it alone yields.
        """
        started: deque[tuple[list[TextRow], Scores]] = deque()
        for chunk, own in self._chunks(iter(rows)):
            started.append((chunk, self.scores(own)))
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


def checked_texts(texts: Iterable[str], name: str) -> list[str]:
    """Return the texts, or raise LxError if they are no series of texts, or hold something that is no text."""
    require_list(name, texts)
    has_order = isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping | set | frozenset)
    if not has_order or getattr(texts, "ndim", 1) != 1:  # of a table, the names of its columns would be the texts
        raise LxError(f"{name} is {kind_of(texts)}, not a list of strings; of a table give one column")
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
