"""Loads a corpus: built once from its source, then memory-mapped from the cache."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    validation = None if "validation" in source.splits else (options.validation_fraction, options.split_seed)
    before = encoder.fingerprint()
    labels = [before] if before else []
    names = source.class_names
    fingerprint = digest(
        ROWS_VERSION, source.fingerprint(), source.splits, names, validation, options.on_empty, *labels
    )
    folder = cache_home(options.cache_dir) / "corpus" / f"{fingerprint}-{FILES_VERSION}"
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
