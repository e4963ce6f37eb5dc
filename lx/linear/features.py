"""TF-IDF of the n-grams that training knows.

Axis legend: F known n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lx.kernels import ngrams as kernels
from lx.kernels.ngrams import HASH_BITS
from lx.linear.ngrams import OVERLAPS_PER_PAIR, Bags, Hashes, Indices, Orders, count_ngrams, first_of_equals

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ENTRIES_PER_MERGE = 1 << 23
_HAN = range(0x4E00, 0xA000)


@dataclass(frozen=True)
class Entries:
    """The non-zero features of N rows.

    Attributes:
        starts: [N], the first entry of each row.
        columns: [entries], from 0 to F - 1 the index of a known n-gram; from F on, in pairs, the overlaps of the texts.
        values: [entries], TF-IDF, whose Euclidean norm over a bag is 1; or an overlap, from 0 to 1.
    """

    starts: Indices
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

    def entries(self, texts: Sequence[Sequence[str]]) -> Iterator[Entries]:
        """Return the features of texts, or of pairs of texts, chunk by chunk.

        A value is (1 + ln count) * idf, divided by the Euclidean norm of its bag (Salton and Buckley 1988).
        """
        for bags in count_ngrams(texts, self.words, self.characters):
            indices = self.find(bags.hashes)
            known = np.flatnonzero(indices >= 0)
            bag, columns = bags.bag[known], indices[known]
            values = (1 + np.log(bags.counts[known])) * self.idf[columns]
            values /= np.sqrt(np.bincount(bag, values * values))[bag]
            rows = bag // bags.per_row
            if bags.overlaps.size:
                rows, columns, values = self._with_overlaps(rows, columns, values, bags.overlaps)
            starts = np.searchsorted(rows, np.arange(bags.num_rows))
            yield Entries(starts, columns, values.astype(np.float32))

    def _with_overlaps(
        self, rows: Indices, columns: Indices, values: NDArray[Any], overlaps: NDArray[np.float64]
    ) -> tuple[Indices, Indices, NDArray[Any]]:
        """Append to the entries of each row its overlaps, given as [num_rows, OVERLAPS_PER_PAIR]."""
        num_rows, num_overlaps = overlaps.shape
        rows = np.concatenate([rows, np.repeat(np.arange(num_rows), num_overlaps)])
        columns = np.concatenate([columns, np.tile(np.arange(num_overlaps) + len(self.hashes), num_rows)])
        order = np.argsort(rows, kind="stable")
        return rows[order], columns[order], np.concatenate([values, overlaps.ravel()])[order]

    def num_features(self, texts_per_row: int) -> int:
        """Return F, plus the number of overlaps for pairs."""
        return len(self.hashes) + (OVERLAPS_PER_PAIR if texts_per_row == 2 else 0)

    def find(self, hashes: Hashes) -> Indices:
        """Return the index in [0, F) of each hash, or -1."""
        if kernels.available():
            return self._table.find(hashes)
        indices = np.searchsorted(self.hashes, hashes)
        padded = np.append(self.hashes, np.uint64(1 << HASH_BITS))  # larger than any hash
        return np.where(padded[indices] == hashes, indices, -1)

    @cached_property
    def _table(self) -> kernels.HashTable:
        return kernels.HashTable(self.hashes)

    def matrix(self, texts: Sequence[Sequence[str]]) -> csr_matrix:
        """Return the features [N, num_features] of texts, or of pairs of texts."""
        from scipy.sparse import csr_matrix

        starts, columns, values = [], [], []
        num_entries = 0
        for entries in self.entries(texts):
            starts.append(entries.starts + num_entries)
            columns.append(entries.columns.astype(np.int32))
            values.append(entries.values)
            num_entries += len(entries.columns)
        parts = (np.concatenate(values), np.concatenate(columns), np.append(np.concatenate(starts), num_entries))
        return csr_matrix(parts, shape=(len(texts[0]), self.num_features(len(texts))))


def learn_vocabulary(
    texts: Sequence[Sequence[str]], words: Orders, characters: Orders, min_count: int, max_ngrams: int
) -> Vocabulary:
    """Learn which n-grams to know: those of at least `min_count` rows, of more than `max_ngrams` the most frequent."""
    hashes, counts = _document_frequencies(count_ngrams(texts, words, characters), 4 * max_ngrams)
    frequent = counts >= min_count
    hashes, counts = _most_frequent(hashes[frequent], counts[frequent], max_ngrams)
    idf = np.log((1 + len(texts[0])) / (1 + counts)) + 1
    return Vocabulary(words, characters, hashes, idf.astype(np.float32))


def _document_frequencies(chunks: Iterable[Bags], most: int) -> tuple[Hashes, Indices]:
    """Return the n-grams and how many rows have each; forget the rarest when a merge on the way leaves over `most`."""
    hashes, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    pending: list[Hashes] = []
    num_pending = 0
    for bags in chunks:
        pending.append(bags.hashes)
        num_pending += len(bags.hashes)
        if num_pending > _ENTRIES_PER_MERGE:
            hashes, counts = _most_frequent(*_merge(hashes, counts, pending), most)
            pending, num_pending = [], 0
    return _merge(hashes, counts, pending)


def _merge(hashes: Hashes, counts: Indices, pending: list[Hashes]) -> tuple[Hashes, Indices]:
    """Count each of the `pending` hashes as one more row with its n-gram; return all n-grams, ascending, and counts."""
    new, new_counts = np.unique(np.concatenate([*pending, np.empty(0, np.uint64)]), return_counts=True)
    merged = np.concatenate([hashes, new])
    order = np.argsort(merged, kind="stable")
    merged = merged[order]
    first = first_of_equals(merged)
    sums = np.add.reduceat(np.concatenate([counts, new_counts])[order], first) if len(first) else counts
    return merged[first], sums


def _most_frequent(hashes: Hashes, counts: Indices, most: int) -> tuple[Hashes, Indices]:
    if len(hashes) <= most:
        return hashes, counts
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    return hashes[kept], counts[kept]


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether over a quarter of the characters of texts are Chinese; of many texts, at least 1,000 are read."""
    sample = "".join(texts[:: max(1, len(texts) // 1000)])
    return sum(ord(character) in _HAN for character in sample) * 4 > len(sample)
