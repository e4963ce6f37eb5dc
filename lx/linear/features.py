"""TF-IDF of the n-grams that training knows.

Axis legend: F known n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lx.kernels import ngrams as kernels
from lx.kernels.ngrams import HASH_BITS
from lx.linear.ngrams import Bags, Hashes, Indices, Orders, count_ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ENTRIES_PER_MERGE = 1 << 23
_HAN = range(0x4E00, 0xA000)


@dataclass(frozen=True)
class Entries:
    """The non-zero features of some rows, ascending by row.

    Attributes:
        num_rows: Of them, from row 0.
        rows: Of each entry.
        columns: The known n-gram of each entry, in [0, F).
        values: TF-IDF, of unit length over the entries of a bag.
    """

    num_rows: int
    rows: Indices
    columns: Indices
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """The known n-grams of all bags together.

    Attributes:
        words: Lengths of the n-grams of words.
        characters: Lengths of the n-grams of characters.
        hashes: [F], ascending.
        idf: [F], the inverse document frequency of each.
    """

    words: Orders
    characters: Orders
    hashes: Hashes
    idf: NDArray[np.float32]

    def entries(self, columns: Sequence[Sequence[str]]) -> Iterator[Entries]:
        """Return the features of texts, or of pairs of texts, chunk by chunk.

        A value is (1 + ln count) * idf, over the length of the vector of its bag (Salton and Buckley 1988).
        """
        for bags in count_ngrams(columns, self.words, self.characters):
            indices = self._find(bags.hashes)
            known = indices >= 0
            indices, bag = indices[known], bags.bag[known]
            values = (1 + np.log(bags.counts[known])) * self.idf[indices]
            values /= np.sqrt(np.bincount(bag, values * values))[bag]
            rows = bag // bags.per_row
            yield Entries(bags.num_rows, rows, indices, values.astype(np.float32))

    def _find(self, hashes: Hashes) -> Indices:
        """Return the index in [0, F) of each hash, or -1."""
        if kernels.available():
            return self._table.find(hashes)
        indices = np.searchsorted(self.hashes, hashes)
        padded = np.append(self.hashes, np.uint64(1 << HASH_BITS))  # which is no hash
        return np.where(padded[indices] == hashes, indices, -1)

    @cached_property
    def _table(self) -> kernels.HashTable:
        return kernels.HashTable(self.hashes)

    def matrix(self, columns: Sequence[Sequence[str]]) -> csr_matrix:
        """Return the features [N, F] of texts."""
        from scipy.sparse import csr_matrix

        chunks = list(self.entries(columns))
        counts = [np.bincount(chunk.rows, minlength=chunk.num_rows) for chunk in chunks]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        values = np.concatenate([chunk.values for chunk in chunks])
        indices = np.concatenate([chunk.columns.astype(np.int32) for chunk in chunks])
        return csr_matrix((values, indices, starts), shape=(len(columns[0]), len(self.hashes)))


def learn_vocabulary(
    columns: Sequence[Sequence[str]], words: Orders, characters: Orders, min_count: int, max_ngrams: int
) -> Vocabulary:
    """Learn which n-grams to know: those of at least `min_count` rows, of more than `max_ngrams` the most frequent."""
    hashes, counts = _document_frequencies(count_ngrams(columns, words, characters), 4 * max_ngrams)
    frequent = counts >= min_count
    hashes, counts = _most_frequent(hashes[frequent], counts[frequent], max_ngrams)
    idf = np.log((1 + len(columns[0])) / (1 + counts)) + 1
    return Vocabulary(words, characters, hashes, idf.astype(np.float32))


def _document_frequencies(chunks: Iterable[Bags], most: int) -> tuple[Hashes, Indices]:
    """Count the rows of each n-gram; while there are more than `most` n-grams, the rarest are forgotten."""
    hashes, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    pending: list[Hashes] = []
    for bags in chunks:
        pending.append(bags.hashes)
        if sum(map(len, pending)) > _ENTRIES_PER_MERGE:
            hashes, counts = _most_frequent(*_merge(hashes, counts, pending), most)
            pending = []
    return _merge(hashes, counts, pending)


def _merge(hashes: Hashes, counts: Indices, pending: list[Hashes]) -> tuple[Hashes, Indices]:
    new, new_counts = np.unique(np.concatenate([*pending, np.empty(0, np.uint64)]), return_counts=True)
    merged = np.concatenate([hashes, new])
    order = np.argsort(merged, kind="stable")
    merged = merged[order]
    first = np.flatnonzero(np.diff(merged, prepend=~merged[:1]))
    sums = np.add.reduceat(np.concatenate([counts, new_counts])[order], first) if len(first) else counts
    return merged[first], sums


def _most_frequent(hashes: Hashes, counts: Indices, most: int) -> tuple[Hashes, Indices]:
    if len(hashes) <= most:
        return hashes, counts
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    return hashes[kept], counts[kept]


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether a quarter of the characters of texts are Chinese ones; of many texts 1,000 are looked at."""
    sample = "".join(texts[:: max(1, len(texts) // 1000)])
    return sum(ord(character) in _HAN for character in sample) * 4 > len(sample)
