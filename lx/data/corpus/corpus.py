"""Loads a corpus: built once from its source, then memory-mapped from the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from lx.config.schema import DataSettings
from lx.data.corpus.builder import FILES_VERSION, ROWS_VERSION, CorpusBuilder
from lx.data.corpus.labels import LabelEncoder
from lx.data.corpus.report import CorpusReport
from lx.data.corpus.storage import SplitView
from lx.data.sources.base import Source
from lx.errors import LxError
from lx.system.cache import build_once, cache_home, digest


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, ready to be tokenized.

    Attributes:
        splits: "train", "validation", and "test" if there is one; none of them empty.
        label_set: What the task has to know of the training labels; its keyword arguments.
        fingerprint: Changes with the data and with every option that changes the rows.
        report: Facts for its user.
    """

    splits: dict[str, SplitView]
    label_set: dict[str, Any]
    fingerprint: str
    report: CorpusReport


def load_corpus(source: Source, encoder: LabelEncoder, options: DataSettings) -> Corpus:
    """Read a source once; every later call with the same content opens what was built.

    Texts and labels lie in Arrow files below the cache folder and are memory-mapped; of each row only a few numbers
    are ever held in memory. Surrounding white space of a text is removed.

    Args:
        source: Where the rows come from; it needs a train split. A missing validation split is never taken from test.
        encoder: Reads the labels; it has learned none yet.
        options: Those of the cut, of empty texts and of the cache count.

    Raises:
        LxError: For a split without rows, labels that the task refuses, an empty text under ``on_empty="error"``, a
            cache that cannot be written, and whatever the source itself refuses.
    """
    if "train" not in source.splits:
        raise LxError("data.train is not set: name your training file, such as data.train=train.csv")
    before = encoder.fingerprint()
    fingerprint = _fingerprint(source, before, options)
    folder = _folder(fingerprint, options)
    build_once(folder, CorpusBuilder(source, encoder, options).build)
    state = json.loads((folder / "corpus.json").read_text("utf-8"))
    if state["label_encoding"] != before:
        fingerprint = digest(fingerprint, state["label_encoding"])
    report = CorpusReport.from_dict(state["report"])
    splits = {
        name: SplitView(folder / file, np.load(folder / f"{name}.rows.npy", mmap_mode="r"), state["has_pairs"])
        for name, file in state["files"].items()
    }
    return Corpus(splits, state["label_set"], fingerprint, report)


def count_rows(
    source: Source, encoder: LabelEncoder, options: DataSettings, validation_fraction: Callable[[int], float]
) -> int:
    """Count the training rows of a source before validation is cut from them.

    Where the share of validation follows from their number, the corpus is built with that share while they are
    counted, so that the source is read once: :func:`load_corpus` with that share finds the corpus.

    Args:
        source: Where the rows come from.
        encoder: Reads the labels; it has learned none yet.
        options: Those of the cut, but for its share, of empty texts and of the cache count.
        validation_fraction: The share of validation, given the number of rows.
    """
    before = encoder.fingerprint()

    def build(folder: Path) -> None:
        corpus = folder / "corpus"
        corpus.mkdir()
        CorpusBuilder(source, encoder, options, validation_fraction).build(corpus)
        report = CorpusReport.from_dict(json.loads((corpus / "corpus.json").read_text("utf-8"))["report"])
        num_rows = report.splits["train"].rows
        if report.validation_was_split_off:
            num_rows += report.splits["validation"].rows
        counted = replace(options, validation_fraction=validation_fraction(num_rows))
        with suppress(OSError):  # there already
            corpus.rename(_folder(_fingerprint(source, before, counted), counted))
        rmtree(corpus, ignore_errors=True)
        (folder / "rows").write_text(str(num_rows), "utf-8")

    folder = _folder(_fingerprint(source, before, options), options).with_suffix(".counted")
    return int((build_once(folder, build) / "rows").read_text("utf-8"))


def _fingerprint(source: Source, label_encoding: str, options: DataSettings) -> str:
    """Return the fingerprint of a corpus, given that of its label encoder before it has learned anything."""
    validation = None if "validation" in source.splits else (options.validation_fraction, options.split_seed)
    labels = [label_encoding] if label_encoding else []
    names = source.class_names
    return digest(ROWS_VERSION, source.fingerprint(), source.splits, names, validation, options.on_empty, *labels)


def _folder(fingerprint: str, options: DataSettings) -> Path:
    return cache_home(options.cache_dir) / "corpus" / f"{fingerprint}-{FILES_VERSION}"
