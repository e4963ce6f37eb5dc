"""Word vectors from word2vec's and GloVe's text files.

Axis legend: V vocabulary, E embedding width.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lx.errors import LxError
from lx.nn.embedding import FIRST_WORD

MARKERS = ("Ġ", "▁", "##")
"""How byte-level, unigram and wordpiece tokenizers mark a word's beginning or its continuation."""


@dataclass(frozen=True)
class Coverage:
    """How many tokens of the vocabulary have a vector in the file, special tokens left out."""

    found: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.found / self.total if self.total else 0.0


@runtime_checkable
class HasWordEmbedding(Protocol):
    """A model whose word table can be filled."""

    vectors_width_key: str
    """The config key that sets E, for messages."""

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table [V, E]."""


def load_word_vectors(net: HasWordEmbedding, path: str | Path, tokens: Sequence[str]) -> Coverage:
    """Initialise a model's word embeddings from a file.

    A token is looked up as it stands, then without its tokenizer's markers, then also in lower case. Tokens
    without a vector keep their random one. Since files differ in scale, all vectors read are multiplied by
    one number that gives them the size of the random ones; directions and relative lengths stay.

    Args:
        net: The model.
        path: Text file, compressed if its name ends in .gz. Only the vocabulary's vectors stay in memory.
        tokens: The vocabulary, in the order of its ids.

    Returns:
        Coverage: How many words were found.

    Raises:
        LxError: A missing or malformed file, or one of another width, with the place and what to change.
    """
    table = net.word_embedding.weight
    path = Path(path)
    check_width(path, table.shape[1], net.vectors_width_key)
    rows, vectors = lookup(path, table.shape[1], tokens)
    with torch.no_grad():
        if len(rows):
            size = math.sqrt(vectors.square().mean().item()) or 1.0
            table[rows] = (vectors * (table[1:].square().mean().sqrt().item() / size)).to(table)
    return Coverage(found=len(rows), total=max(0, len(tokens) - FIRST_WORD))


def check_freezing(vectors: str | None, freeze: bool) -> None:
    """Refuse to freeze random embeddings.

    Raises:
        LxError: Freezing without a file.
    """
    if freeze and vectors is None:
        raise LxError("model.freeze_vectors=true, but there are no word vectors to freeze: set model.vectors=FILE")


def check_width(path: Path, width: int, key: str) -> None:
    """Refuse a file whose vectors do not fit the word table.

    Raises:
        LxError: Another width, with the override that makes it fit.
    """
    for _, fields in read_lines(path):
        found = len(fields) - 1
        if found != width:
            raise LxError(
                f"{path}: word vectors of {found} numbers do not fit embeddings of {width}: set {key}={found}"
            )
        return
    raise LxError(f"{path}: no word vectors: expected lines of a word and its numbers, as in GloVe's text files")


def lookup(path: Path, width: int, tokens: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Find the vocabulary's vectors in a file.

    Returns:
        tuple[Tensor, Tensor]: Ids of the tokens found [N] and their vectors [N, E].
    """
    wanted = spellings(tokens)
    best: dict[int, tuple[int, list[float]]] = {}
    for line_number, fields in read_lines(path):
        # From the right: some files have words with spaces in them.
        surplus = len(fields) - 1 - width
        if surplus < 0:
            raise LxError(f"{path}:{line_number}: {len(fields) - 1} numbers where {width} are expected")
        word = " ".join(fields[: surplus + 1])
        if word not in wanted:
            continue
        vector = parse(fields[surplus + 1 :], path, line_number)
        for token_id, rank in wanted[word]:
            if token_id not in best or rank < best[token_id][0]:
                best[token_id] = rank, vector
    ids = sorted(best)
    vectors = torch.tensor([best[token_id][1] for token_id in ids], dtype=torch.float32)
    return torch.tensor(ids, dtype=torch.long), vectors.reshape(len(ids), width)


def spellings(tokens: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Every spelling under which a token may stand in a file, with (token id, rank); rank 0 is the best."""
    wanted: dict[str, list[tuple[int, int]]] = {}
    for token_id, token in enumerate(tokens[FIRST_WORD:], start=FIRST_WORD):
        bare = token
        for marker in MARKERS:
            bare = bare.removeprefix(marker)
        for rank, spelling in enumerate(dict.fromkeys((token, bare, bare.lower()))):
            wanted.setdefault(spelling, []).append((token_id, rank))
    return wanted


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line with a vector; a word2vec header, "count width", is passed over.

    Raises:
        LxError: The file cannot be read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                # Bytes that are no UTF-8 stand in some published files; such a word matches nothing.
                fields = line.decode("utf-8", errors="replace").rstrip("\r\n ").split(" ")
                if line_number > 1 or len(fields) != 2 or not "".join(fields).isdecimal():
                    yield line_number, fields
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise LxError(f"{path}: the word vectors of model.vectors cannot be read: {reason}") from error


def parse(fields: Sequence[str], path: Path, line_number: int) -> list[float]:
    """The numbers of a vector.

    Raises:
        LxError: Something that is no finite number.
    """
    for field in fields:
        try:
            finite = math.isfinite(float(field))
        except ValueError:
            finite = False
        if not finite:
            raise LxError(f"{path}:{line_number}: {field!r} is not a number")
    return [float(field) for field in fields]
