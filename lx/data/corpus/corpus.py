"""From a source to a corpus: cleaned, labelled, split, memory-mapped, and built once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lx.data.corpus.builder import CODE_VERSION, CorpusBuilder
from lx.data.corpus.report import CorpusReport
from lx.data.corpus.storage import Split
from lx.data.sources.base import Source
from lx.errors import LxError
from lx.system.cache import build_once, digest

__all__ = ["Corpus", "CorpusReport", "Split", "load_corpus"]


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, ready to be tokenized.

    Attributes:
        splits: "train", "validation", and "test" if there is one; none of them empty.
        class_names: In class-id order.
        fingerprint: Changes with the data and with every option that changes the rows.
        report: What a person is told.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    fingerprint: str
    report: CorpusReport


def load_corpus(source: Source, *, validation_fraction: float, seed: int, on_empty: str, cache_dir: Path) -> Corpus:
    """Read a source once; every later call with the same content opens what was built.

    Texts and labels lie in Arrow files and are memory-mapped; of each row only a few numbers are ever
    held in memory. Surrounding white space of a text is removed.

    Args:
        source: Where the rows come from; it needs a train split.
        validation_fraction: Share of train that becomes validation where the source has no such split.
            It is never taken from test.
        seed: Chooses those rows, and nothing else.
        on_empty: What happens to a row whose text is null or blank: "drop" or "error".
        cache_dir: The cache folder; this uses its sub-folder ``corpus``.

    Returns:
        The corpus.

    Raises:
        LxError: For an option out of range, a split without rows, fewer than two classes, a label that is
            empty or that train never shows, an empty text under ``on_empty="error"``, a cache that cannot
            be written, and whatever the source itself refuses.
    """
    if not 0 < validation_fraction < 1:
        raise LxError(f"data.validation_fraction is {validation_fraction}: it must lie between 0 and 1")
    if on_empty not in ("drop", "error"):
        raise LxError(f"data.on_empty is {on_empty!r}: it must be 'drop' or 'error'")
    cut = None if "validation" in source.splits else (validation_fraction, seed)
    names = source.class_names
    fingerprint = digest(CODE_VERSION, source.fingerprint(), source.splits, names, cut, on_empty)
    folder = cache_dir / "corpus" / fingerprint
    builder = CorpusBuilder(source, drop_empty=on_empty == "drop", fraction=validation_fraction, seed=seed)
    build_once(folder, builder.build)
    state = json.loads((folder / "corpus.json").read_text("utf-8"))
    report = CorpusReport.from_dict(state["report"])
    splits = {
        name: Split(
            path=folder / file,
            rows=np.load(folder / f"{name}.rows.npy", mmap_mode="r"),
            labels=np.load(folder / f"{name}.labels.npy", mmap_mode="r"),
            has_pairs=state["has_pairs"],
        )
        for name, file in state["files"].items()
    }
    return Corpus(splits, report.class_names, fingerprint, report)
