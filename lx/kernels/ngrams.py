"""N-grams of texts, counted, and hashes, found in a table: on any CPU with a C compiler. In C: `portable/ngrams.c`.

Without one `lx.linear` computes the same with numpy.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lx.kernels import binding
from lx.kernels.build import portable_library

HASH_BITS = 56

Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def available() -> bool:
    """Whether there are such kernels; the first call compiles them."""
    return portable_library() is not None


def count_ngrams(
    points: NDArray[np.uint32],
    ends: Indices,
    word_characters: NDArray[np.uint32],
    words: tuple[int, int],
    characters: tuple[int, int],
) -> tuple[Indices, Hashes, Indices]:
    """Count the n-grams of texts, each of which has two bags: of words and of characters.

    Args:
        points: Code points of all texts.
        ends: Of each text in them.
        word_characters: Letters and digits in lower case by code point, else 0; the last one is that of all beyond.
        words: Shortest and longest n-gram of words; 0, 0: none.
        characters: Shortest and longest n-gram of characters; 0, 0: none.

    Returns:
        The bag (ascending), the hash and the count of each entry.
    """
    lengths = np.diff(ends, prepend=0)
    longest = int(lengths.max(initial=0))
    in_words, in_characters = words[1] - words[0] + 1, characters[1] - characters[0] + 1
    room = (lengths + 1) // 2 * in_words + lengths * in_characters
    starts = np.cumsum(room) - room
    hashes, counts = np.empty(room.sum(), np.uint64), np.empty(room.sum(), np.int64)
    sizes = np.empty(2 * len(ends), np.int64)
    threads = torch.get_num_threads()
    units = np.empty((threads, longest), np.uint64)
    slots = np.empty((threads, 4 * (longest + 1) * max(in_words, in_characters)), np.uint32)
    binding.call(
        "lx_count_ngrams",
        *(points, ends, len(ends), word_characters, len(word_characters) - 1),
        *(np.array([*words, *characters]), starts, hashes, counts, sizes),
        *(threads, units, units.shape[1], slots, slots.shape[1]),
        library=portable_library,
    )
    # Of each text the entries of both bags stand at its start, one after the other; what is behind them is empty.
    bag = np.repeat(np.arange(len(sizes)), sizes)
    packed_starts = (np.cumsum(sizes) - sizes)[::2]
    filled = np.arange(len(bag)) + (starts - packed_starts)[bag // 2]
    return bag, hashes[filled], counts[filled]


class HashTable:
    """A sorted table of different hashes, to find others in."""

    def __init__(self, table: Hashes) -> None:
        """Index a table by the upper bits of its hashes, as many that about one hash has the same ones."""
        bits = max(1, len(table).bit_length())
        self.table, self.shift = np.ascontiguousarray(table), HASH_BITS - bits
        self.buckets = np.searchsorted(table >> np.uint64(self.shift), np.arange((1 << bits) + 1)).astype(np.int32)

    def find(self, hashes: Hashes) -> Indices:
        """Return the index of each hash in the table, or -1."""
        indices = np.empty(len(hashes), np.int64)
        arguments = (np.ascontiguousarray(hashes), len(hashes), self.table, self.buckets, self.shift, indices)
        binding.call("lx_find_hashes", *arguments, library=portable_library)
        return indices
