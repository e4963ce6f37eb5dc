"""N-grams of words and of characters, as hashes with their counts.

Each text has two bags of n-grams, one of words (runs of letters and digits, in lower case) and one of characters (as
they stand, across the ends of words). The n-gram of the units u1 ... un is hashed to the upper 56 bits of a mixed
polynomial in them, modulo 2^64: among some millions of n-grams two hardly ever share a hash. Those of the two texts of
a pair have different hashes, so that each has its own weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lx.kernels import ngrams as kernels
from lx.kernels.ngrams import HASH_BITS

BAGS_PER_TEXT = 2
LONGEST_NGRAM = 16
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
MIXER = np.uint64(0xD6E8FEB86659FD93)

_SECOND_TEXT = np.uint64(0xA5A5A5A5A5A5A5)  # makes other hashes of those of a pair's second text
_HASH_MASK = np.uint64((1 << HASH_BITS) - 1)
_BAGS_PER_CHUNK = 1 << (64 - HASH_BITS)
_CHARACTERS_PER_CHUNK = 1 << 15  # so that the arrays of a chunk stay in the processor's cache
_FIRST_UNASSIGNED = 0x40000  # no letter or digit from here on

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]
CodePoints = NDArray[np.uint32]
Orders = tuple[int, int]  # shortest and longest n-gram; (0, 0): none


def are_orders(orders: object) -> bool:
    """Whether these are the lengths of the shortest and the longest n-gram; 0 and 0 where there are none."""
    if not isinstance(orders, list | tuple) or len(orders) != 2 or not all(type(order) is int for order in orders):
        return False
    shortest, longest = orders
    return shortest == longest == 0 or bool(1 <= shortest <= longest <= LONGEST_NGRAM)


@dataclass(frozen=True)
class Bags:
    """The n-grams of the rows of a chunk.

    Attributes:
        num_rows: Of the chunk.
        per_row: Bags of a row: words, characters; of a pair then those of its second text.
        bag: The bag of each entry, ascending: row * per_row + bag of the row.
        hashes: All different within a bag.
        counts: How often the n-gram occurs in the bag.
        overlaps: [num_rows, BAGS_PER_TEXT] of pairs: the share of the different n-grams of the second text that the
            first one has too. Of texts [num_rows, 0].
    """

    num_rows: int
    per_row: int
    bag: Indices
    hashes: Hashes
    counts: Indices
    overlaps: NDArray[np.float64]


def count_ngrams(columns: Sequence[Sequence[str]], words: Orders, characters: Orders) -> Iterator[Bags]:
    """Count the n-grams of texts, chunk by chunk.

    Args:
        columns: The texts; of pairs the first texts and the second ones.
        words: Lengths of the n-grams of words.
        characters: Lengths of the n-grams of characters.
    """
    per_row = BAGS_PER_TEXT * len(columns)
    count = kernels.count_ngrams if kernels.available() else _count
    for start, end in _chunks(columns, _BAGS_PER_CHUNK // per_row):
        texts = list(chain.from_iterable(zip(*(column[start:end] for column in columns), strict=True)))
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        bag, hashes, counts = count(points, ends, word_characters(), words, characters)
        is_second = bag % per_row >= BAGS_PER_TEXT
        overlaps = _overlaps(bag, hashes, is_second, end - start) if len(columns) == 2 else np.empty((end - start, 0))
        yield Bags(end - start, per_row, bag, np.where(is_second, hashes ^ _SECOND_TEXT, hashes), counts, overlaps)


def _chunks(columns: Sequence[Sequence[str]], most_rows: int) -> Iterator[tuple[int, int]]:
    """Divide the rows so that no chunk has more than `most_rows`, or too many characters unless it is a single row."""
    start = characters = 0
    for row in range(len(columns[0])):
        length = sum(len(column[row]) for column in columns)
        if row > start and (row - start == most_rows or characters + length > _CHARACTERS_PER_CHUNK):
            yield start, row
            start, characters = row, 0
        characters += length
    if start < len(columns[0]):
        yield start, len(columns[0])


def _overlaps(bag: Indices, hashes: Hashes, is_second: NDArray[np.bool_], num_rows: int) -> NDArray[np.float64]:
    """Return the share of the n-grams of second texts that the first ones have too, of words and of characters."""
    row, kind = bag // (2 * BAGS_PER_TEXT), bag % BAGS_PER_TEXT
    row_and_kind = row * BAGS_PER_TEXT + kind
    keys = row_and_kind.astype(np.uint64) << np.uint64(HASH_BITS) | hashes
    shared = np.isin(keys[is_second], keys[~is_second], assume_unique=True)
    sizes = np.bincount(row_and_kind[is_second], minlength=num_rows * BAGS_PER_TEXT)
    shares = np.bincount(row_and_kind[is_second], shared, num_rows * BAGS_PER_TEXT) / np.maximum(sizes, 1)
    return shares.reshape(num_rows, BAGS_PER_TEXT)


def _count(
    points: CodePoints, ends: Indices, folding: CodePoints, words: Orders, characters: Orders
) -> tuple[Indices, Hashes, Indices]:
    """Count the n-grams of the texts of a chunk; see :func:`lx.kernels.ngrams.count_ngrams`."""
    text_of = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    word_units, text_of_word, _, _ = _words(points, text_of, folding)
    keys = [
        *_ngram_keys(word_units, text_of_word, words, 0),
        *_ngram_keys(points.astype(np.uint64) + np.uint64(1), text_of, characters, 1),
    ]
    joined = np.concatenate([*keys, np.empty(0, np.uint64)])
    joined.sort()
    first = first_of_equals(joined)
    distinct = joined[first]
    bag = (distinct >> np.uint64(HASH_BITS)).astype(np.int64)
    return bag, distinct & _HASH_MASK, np.diff(first, append=len(joined))


def first_of_equals(values: Hashes) -> Indices:
    """Return where in a sorted array each distinct value first stands."""
    return np.flatnonzero(np.diff(values, prepend=~values[:1]))  # the first one differs from its complement


@dataclass(frozen=True)
class Occurrences:
    """Where the n-grams of a bag stand in its text.

    Attributes:
        hashes: Of each occurrence, in the order of their lengths.
        starts: Its first character.
        ends: The character after its last one.
    """

    hashes: Hashes
    starts: Indices
    ends: Indices


def find_occurrences(text: str, is_second: bool, words: Orders, characters: Orders) -> Iterator[Occurrences]:
    """Find the n-grams of words, then those of characters, that :func:`count_ngrams` counts; `is_second` of a pair."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    positions = np.arange(len(points))
    word_units, _, word_starts, word_ends = _words(points, np.zeros_like(positions), word_characters())
    bags = (
        (word_units, word_starts, word_ends, words),
        (points.astype(np.uint64) + np.uint64(1), positions, positions + 1, characters),
    )
    for kind, (units, starts, ends, orders) in enumerate(bags):
        keys = list(_ngram_keys(units, np.zeros(len(units), np.int64), orders, kind))
        hashes = np.concatenate([*keys, np.empty(0, np.uint64)]) & _HASH_MASK
        yield Occurrences(
            hashes ^ _SECOND_TEXT if is_second else hashes,
            np.concatenate([starts[:0], *(starts[: len(part)] for part in keys)]),
            np.concatenate([ends[:0], *(ends[len(ends) - len(part) :] for part in keys)]),
        )


def _words(points: CodePoints, text_of: Indices, folding: CodePoints) -> tuple[Hashes, Indices, Indices, Indices]:
    """Hash the words of texts, given the text that each character is in.

    Returns:
        Of each word its unit, the text that it is in, its first character, and the character after it.
    """
    folded = folding[np.minimum(points, len(folding) - 1)].astype(np.uint64)
    inside = np.flatnonzero(folded)
    folded, text_of = folded[inside], text_of[inside]
    begins = (np.diff(inside, prepend=-2) > 1) | (np.diff(text_of, prepend=-1) > 0)
    starts = np.flatnonzero(begins)
    if not len(starts):
        return folded, text_of, inside, inside
    lengths = np.diff(starts, append=len(inside))
    exponents = np.arange(len(inside)) - np.repeat(starts, lengths)
    hashes = _mix(np.add.reduceat(folded * _powers(lengths.max())[exponents], starts))
    return hashes, text_of[starts], inside[starts], inside[starts] + lengths


def _ngram_keys(units: Hashes, text_of: Indices, orders: Orders, kind: int) -> Iterator[Hashes]:
    """Hash the n-grams of words (0) or of characters (1); the upper bits of a key are the number of its bag."""
    bag_bits = (text_of * BAGS_PER_TEXT + kind).astype(np.uint64) << np.uint64(HASH_BITS)
    polynomial = np.full(len(units), np.uint64(kind) * MIXER)  # so that a word and its characters differ
    shortest, longest = orders
    powers = _powers(longest)
    for order in range(1, min(longest, len(units)) + 1):
        starts = len(units) - order + 1
        polynomial = polynomial[:starts] + units[order - 1 :] * powers[order - 1]
        if order >= shortest:
            within = text_of[:starts] == text_of[order - 1 :]
            yield bag_bits[:starts][within] | _mix(polynomial[within]) >> np.uint64(64 - HASH_BITS)


def _powers(number: int) -> Hashes:
    """The powers 0, 1, ... of the multiplier."""
    factors = np.full(number, MULTIPLIER)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def _mix(values: Hashes) -> Hashes:
    """Spread each bit over all bits, one to one."""
    mixed = (values ^ (values >> np.uint64(32))) * MIXER
    return mixed ^ (mixed >> np.uint64(32))


@cache
def word_characters() -> CodePoints:
    """For each code point its lower-case letter or digit, 0 where it is neither; the last one stands for the rest."""
    characters = "".join(map(chr, range(_FIRST_UNASSIGNED + 1)))
    folded = re.sub(r"[\W_]", "\0", characters).replace("İ", "i").lower()  # İ has two characters in lower case
    return np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32)
