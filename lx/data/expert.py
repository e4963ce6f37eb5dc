"""The linear expert of a corpus: fitted once, then read from the cache, with its scores of the splits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lx.data.corpus.corpus import Corpus
from lx.data.corpus.storage import SplitView
from lx.linear.expert import LinearExpert
from lx.linear.settings import ExpertSettings
from lx.linear.targets import Kind
from lx.system.cache import build_once, digest

_FORMAT = 5  # raise it when an expert of the same rows and settings becomes another

_HELD_OUT = "held_out.npz"


@dataclass(frozen=True)
class ExpertTarget:
    """What an expert learns.

    Attributes:
        kind: Of the labels.
        num_outputs: C.
        labels: Turns encoded labels into what ``LinearExpert.fit`` takes.
    """

    kind: Kind
    num_outputs: int
    labels: Callable[[pa.Array], NDArray[Any]]


@dataclass(frozen=True)
class FittedExpert:
    """What a run needs of its expert.

    Attributes:
        tensors: File of the expert that test and prediction use; see ``LinearExpert.state_dict``.
        scores: Files of its scores [N, C], by split: of the validation split those of an expert that has learned from
            the training split alone, and of the test split those of the expert in ``tensors``.
        facts: ``ngrams``, ``C``, ``refit`` (whether ``tensors`` has learned from the validation split too),
            ``held_out`` (how many rows :meth:`held_out` returns) and the ``seconds`` that fitting took.
    """

    tensors: Path
    scores: dict[str, Path]
    facts: dict[str, Any]

    def held_out(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return rows [K] of the training split, and scores [K, C] by fits that have not seen them."""
        with np.load(self.tensors.with_name(_HELD_OUT)) as arrays:
            return arrays["rows"], arrays["scores"]


def fit_expert(corpus: Corpus, settings: ExpertSettings, target: ExpertTarget, cache: Path) -> FittedExpert:
    """Fit an expert on the training split, or find the one that was fitted before.

    Args:
        corpus: Its splits.
        settings: Of the expert.
        target: What it learns.
        cache: Folder of everything that is built once.
    """
    folder = cache / "experts" / digest(corpus.fingerprint, settings, target.kind, target.num_outputs, _FORMAT)

    def fit(folder: Path) -> None:
        started = time.perf_counter()
        expert = final = _fit(corpus, ["train"], settings, target)
        validated = expert.validated
        assert validated is not None  # the expert was fitted just now
        if settings.refit:
            final = _fit(corpus, ["train", "validation"], replace(settings, C=validated.c), target)
        facts = {"ngrams": final.num_ngrams, "C": validated.c, "refit": settings.refit}
        facts["held_out"] = len(validated.rows)
        np.savez(folder / _HELD_OUT, rows=validated.rows, scores=validated.scores)
        for name in corpus.splits.keys() - {"train"}:
            path = folder / f"{name}.npy"
            _write_scores(path, expert if name == "validation" else final, corpus.splits[name])
        torch.save(final.state_dict(), folder / "expert.pt")
        facts["seconds"] = time.perf_counter() - started
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")

    build_once(folder, fit)
    files = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    return FittedExpert(folder / "expert.pt", files, json.loads((folder / "facts.json").read_text("utf-8")))


def _fit(corpus: Corpus, names: list[str], settings: ExpertSettings, target: ExpertTarget) -> LinearExpert:
    """Fit on the rows of some splits."""
    texts: list[str] = []
    pairs: list[str] = []
    for name in names:
        for chunk, second in corpus.splits[name].texts():
            texts += chunk
            pairs += second or []
    labels = np.concatenate([target.labels(corpus.splits[name].labels) for name in names])
    return LinearExpert.fit(texts, pairs or None, labels, target.kind, target.num_outputs, settings)


def _write_scores(path: Path, expert: LinearExpert, split: SplitView) -> None:
    values = np.lib.format.open_memmap(path, "w+", np.float32, (len(split), expert.num_outputs))
    start = 0
    for texts, pairs in split.texts():
        values[start : start + len(texts)] = expert.scores(texts, pairs)
        start += len(texts)
    values.flush()
