"""The text and label of a row of a run's test split, which the run keeps as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import lexists
from typing import Any

import numpy as np
import torch

from lx.data.tokens.table import TokenTable
from lx.data.tokens.tokenizer import Tokenizer
from lx.errors import LxError
from lx.inference.explain.words import UNKNOWN
from lx.inference.load import LoadedRun
from lx.run.mistakes import read_mistakes

_STANDS_FOR_UNKNOWN = "\ufffd"


@dataclass(frozen=True)
class TestRow:
    """A row of the test split.

    Attributes:
        texts: One text, or the two of a pair.
        truth: Its label, in words.
        note: How its text was found.
    """

    texts: list[str]
    truth: str
    note: str


def read_row(loaded: LoadedRun, number: int) -> TestRow:
    """Read a row, counted from 0: its text is in the list of mistakes, or decoded from its tokens.

    Raises:
        LxError: There is no such row, or the run has no test split.
    """
    run = loaded.directory
    if not lexists(run.test):
        raise LxError(f"{run.path} has no test split of its own ({run.test.name} is missing): give a text with --text")
    table = TokenTable(run.trusted(run.test))
    table.check(loaded.tokenizer.vocab_size, loaded.task.fits)
    if not 0 <= number < len(table):
        raise LxError(f"--row {number}: the test split has {len(table):,} rows, 0 to {len(table) - 1}")
    ids = np.zeros((1, int(table.lengths[number])), np.int64)
    table.gather(np.array([number]), ids)
    num_first = ids.shape[1] - int(table.pair_lengths[number])
    parts = [ids[0, :num_first], ids[0, num_first:]] if loaded.has_pairs else [ids[0]]
    truth = _name(loaded.task.describe(torch.zeros(1, loaded.task.num_outputs), table.labels.slice(number, 1))[0])
    if (texts := _mistake(loaded, number)) and _ids(loaded, texts) == ids[0].tolist():
        return TestRow(texts, truth, f"row {number} of the test split")
    candidates_of_parts = [_texts(loaded.tokenizer, part.tolist()) for part in parts]
    decoded = [list(texts) for texts in zip(*candidates_of_parts, strict=True)]
    exact = next((texts for texts in decoded if _ids(loaded, texts) == ids[0].tolist()), None)
    note = f"row {number} of the test split was decoded from its tokens: case and unknown words may be lost"
    return TestRow(exact or decoded[-1], truth, note)


def _name(described: dict[str, Any]) -> str:
    label = described["label"]
    return ", ".join(label) or "no label" if isinstance(label, list) else str(label)


def _mistake(loaded: LoadedRun, number: int) -> list[str] | None:
    """Return the text of a row, or the two of a pair, if the row is among the mistakes and their texts were kept."""
    rows = read_mistakes(loaded.directory).get("test", ())
    row = next((row for row in rows if row.get("row") == number), {})
    texts = [row.get(name) for name in ("text", "text_pair")[: 1 + loaded.has_pairs]]
    return [str(text) for text in texts] if all(isinstance(text, str) and text for text in texts) else None


def _texts(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[str]:
    """Yield candidates for the text of some tokens: with and without spaces between them, and decoded."""
    names = tokenizer.tokens()
    special = {index for index, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special}
    tokens = [
        _STANDS_FOR_UNKNOWN if names[index] in UNKNOWN else names[index]
        for index in ids
        if index not in special or names[index] in UNKNOWN
    ]
    decoder = tokenizer.backend.decoder
    yield " ".join(tokens)
    yield "".join(tokens)
    yield (decoder.decode(tokens) if decoder is not None else " ".join(tokens)).strip()


def _ids(loaded: LoadedRun, texts: Sequence[str]) -> list[int]:
    """Tokenize a text, or a pair of texts, anew."""
    pairs = [texts[1]] if loaded.has_pairs else None
    ids: list[int] = loaded.tokenizer.encode(texts[:1], pairs, loaded.max_length).token_ids.tolist()
    return ids
