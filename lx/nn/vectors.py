"""Word vectors from text files in the formats of word2vec and GloVe.

Axis legend: V vocabulary, E embedding width.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lx.errors import ArgumentError, LxError
from lx.nn.embedding import FIRST_WORD

MARKERS = ("Ġ", "▁", "##")
"""Marks of a word's beginning or continuation in byte-level, unigram and wordpiece vocabularies."""


def load_word_vectors(embedding: nn.Embedding, path: str | Path, tokens: Sequence[str], width_argument: str) -> int:
    """Initialise word embeddings from a file, and return how many tokens have a vector in it.

    A token is looked up as it is, then without its tokenizer's markers, then also in lower case. Tokens without a
    vector keep their random one. Since files differ in scale, the vectors are multiplied by one number that gives them
    the size of the random ones; directions and relative lengths stay.

    Args:
        embedding: The word table [V, E].
        path: Text file, compressed if its name ends in .gz. Only vectors of the vocabulary are kept in memory.
        tokens: The vocabulary, in the order of its ids.
        width_argument: Name of the model's argument that sets E, for messages.

    Raises:
        ArgumentError: The file cannot be read, or its vectors have another width than the word table.
        LxError: The file is malformed; the message names the line.
    """
    table = embedding.weight
    path = Path(path)
    check_width(path, table.shape[1], width_argument)
    rows, vectors = lookup(path, table.shape[1], tokens)
    with torch.no_grad():
        if len(rows):
            size = math.sqrt(vectors.square().mean().item()) or 1.0
            table[rows] = (vectors * (table[1:].square().mean().sqrt().item() / size)).to(table)
    return len(rows)


def check_freezing(vectors: str | None, freeze: bool) -> None:
    """Raise ArgumentError if random embeddings would be frozen."""
    if freeze and vectors is None:
        raise ArgumentError("vectors=null leaves no word vectors to freeze: name a file, or set freeze_vectors=false")


def check_width(path: Path, width: int, argument: str) -> None:
    """Raise ArgumentError if vectors have another width than the word table, LxError if a file has none."""
    for _, fields in read_lines(path):
        file_width = len(fields) - 1
        if file_width != width:
            raise ArgumentError(
                f"{argument}={file_width} is needed for the word vectors of {path}, which have {file_width} numbers, "
                f"but the word embeddings have {width}"
            )
        return
    raise LxError(f"{path}: no word vectors: expected lines of a word and its numbers, as in GloVe's text files")


def lookup(path: Path, width: int, tokens: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Find the ids of the tokens with a vector in a file [N], and those vectors [N, E]."""
    tokens_of = spellings(tokens)
    best: dict[int, tuple[int, list[float]]] = {}
    for line_number, fields in read_lines(path):
        # Numbers are counted from the right: some files have words with spaces in them.
        surplus = len(fields) - 1 - width
        if surplus < 0:
            raise LxError(f"{path}:{line_number}: {len(fields) - 1} numbers where {width} are expected")
        word = " ".join(fields[: surplus + 1])
        if word not in tokens_of:
            continue
        vector = parse(fields[surplus + 1 :], path, line_number)
        for token_id, rank in tokens_of[word]:
            if token_id not in best or rank < best[token_id][0]:
                best[token_id] = rank, vector
    ids = sorted(best)
    vectors = torch.tensor([best[token_id][1] for token_id in ids], dtype=torch.float32)
    return torch.tensor(ids, dtype=torch.long), vectors.reshape(len(ids), width)


def spellings(tokens: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Map every spelling of a token in a file to (token id, rank); rank 0 is the best."""
    tokens_of: dict[str, list[tuple[int, int]]] = {}
    for token_id, token in enumerate(tokens[FIRST_WORD:], start=FIRST_WORD):
        bare = token
        for marker in MARKERS:
            bare = bare.removeprefix(marker)
        for rank, spelling in enumerate(dict.fromkeys((token, bare, bare.lower()))):
            tokens_of.setdefault(spelling, []).append((token_id, rank))
    return tokens_of


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each line but a word2vec header, "count width"; raise ArgumentError if unreadable."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                # Some published files have bytes that are not UTF-8; such a word matches nothing.
                fields = line.decode("utf-8", errors="replace").rstrip("\r\n ").split(" ")
                if line_number > 1 or len(fields) != 2 or not "".join(fields).isdecimal():
                    yield line_number, fields
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"vectors={path} cannot be read: {reason}") from error


def parse(fields: Sequence[str], path: Path, line_number: int) -> list[float]:
    """Parse the numbers of a vector; raise LxError for one that is not finite."""
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise LxError(f"{path}:{line_number}: {field!r} is not a number")
    return numbers
