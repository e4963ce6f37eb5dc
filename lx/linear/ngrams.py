"""N-grams of words and of characters, as hashes with their counts.

Each text has two bags of n-grams, one of words (runs of letters and digits, in lower case) and one of characters (as
they stand, across the ends of words). The n-gram of the units u1 ... un is hashed to the upper 56 bits of a mixed
polynomial in them, modulo 2^64: among some millions of n-grams two hardly ever share a hash.

A pair of texts has three bags of each kind: the n-grams that both texts have, those of the first text alone and those
of the second text alone. These are the roles of an n-gram; in each it has another hash, and so a weight of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lx.kernels import ngrams as kernels
from lx.kernels.ngrams import HASH_BITS

BAGS_PER_TEXT = 2
BAGS_PER_PAIR = 6
OVERLAPS_PER_PAIR = 6
LONGEST_NGRAM = 16
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
MIXER = np.uint64(0xD6E8FEB86659FD93)

_SHARED, _ONLY_FIRST, _ONLY_SECOND = range(3)  # the roles of the n-grams of a pair
_ROLE_MASKS = np.array([0, 0xA5A5A5A5A5A5A5, 0x5A5A5A5A5A5A5A], np.uint64)  # makes another hash for each role
_HASH_MASK = np.uint64((1 << HASH_BITS) - 1)
_BAGS_PER_CHUNK = 1 << (64 - HASH_BITS)  # a 64-bit key holds the number of a bag above the hash
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
        per_row: Bags of a row. Of a text: words, characters. Of a pair, for words and then for characters: shared, only
            in the first text, only in the second.
        bag: [entries], row * per_row + the number of the bag in its row; the rows ascend.
        hashes: [entries], all different within a row.
        counts: How often the n-gram occurs in the bag; of a shared one the smaller of its counts in the two texts.
        overlaps: [num_rows, OVERLAPS_PER_PAIR] of pairs, for words and then for characters: the share of the distinct
            n-grams of the first text that the second one has too, the share of those of the second that the first has,
            and their Jaccard index. For single texts [num_rows, 0].
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
    count = kernels.count_ngrams if kernels.available() else _count
    for start, end in _chunks(columns, _BAGS_PER_CHUNK // (BAGS_PER_TEXT * len(columns))):
        texts = list(chain.from_iterable(zip(*(column[start:end] for column in columns), strict=True)))
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        counted = count(points, ends, word_characters(), words, characters)
        if len(columns) == 2:
            yield _compare_pairs(*counted, end - start)
        else:
            yield Bags(end - start, BAGS_PER_TEXT, *counted, np.empty((end - start, 0)))


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


def _compare_pairs(bag: Indices, hashes: Hashes, counts: Indices, num_rows: int) -> Bags:
    """Divide the n-grams of pairs by their roles.

    Args:
        bag: Of each entry. A row has four: words and characters of the first text, then those of the second.
        hashes: All different within a bag.
        counts: How often the n-gram occurs in the bag.
        num_rows: Pairs.
    """
    row, text, kind = np.indices((num_rows, 2, BAGS_PER_TEXT)).reshape(3, -1)  # of each bag
    row_and_kind = row * BAGS_PER_TEXT + kind
    keys = (row_and_kind.astype(np.uint64) << np.uint64(HASH_BITS))[bag] | hashes
    order = np.argsort(keys)  # the n-grams that both texts have stand side by side
    keys, bag, counts = keys[order], bag[order], counts[order]
    shared = np.flatnonzero(keys[1:] == keys[:-1])
    repeats = shared + 1  # the second of two equal keys is dropped: the first stands for both
    roles = np.where(text, _ONLY_SECOND, _ONLY_FIRST)[bag]
    roles[shared] = _SHARED
    counts[shared] = np.minimum(counts[shared], counts[repeats])
    hashes = keys & _HASH_MASK ^ _ROLE_MASKS[roles]
    bag = np.delete(row_and_kind[bag] * len(_ROLE_MASKS) + roles, repeats)
    sizes = np.bincount(bag, minlength=num_rows * BAGS_PER_PAIR).reshape(num_rows, BAGS_PER_TEXT, len(_ROLE_MASKS))
    hashes, counts = np.delete(hashes, repeats), np.delete(counts, repeats)
    return Bags(num_rows, BAGS_PER_PAIR, bag, hashes, counts, _overlaps(sizes))


def _overlaps(sizes: Indices) -> NDArray[np.float64]:
    """Return the overlaps [num_rows, OVERLAPS_PER_PAIR], given the sizes [num_rows, BAGS_PER_TEXT, roles] of bags."""
    shared = sizes[:, :, _SHARED]
    first, second = shared + sizes[:, :, _ONLY_FIRST], shared + sizes[:, :, _ONLY_SECOND]
    totals = np.stack([first, second, sizes.sum(2)], 2)
    overlaps: NDArray[np.float64] = shared[:, :, None] / np.maximum(totals, 1)
    return overlaps.reshape(len(sizes), OVERLAPS_PER_PAIR)


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
    return np.flatnonzero(np.diff(values, prepend=~values[:1]))  # the first value differs from its complement


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


def find_occurrences(texts: Sequence[str], words: Orders, characters: Orders) -> list[list[Occurrences]]:
    """Find the n-grams that :func:`count_ngrams` counts.

    Args:
        texts: One text, or the two of a pair.
        words: Lengths of the n-grams of words.
        characters: Lengths of the n-grams of characters.

    Returns:
        For each text its n-grams of words and those of characters. The hashes are those of their roles; a shared n-gram
        has the same hash in both texts.
    """
    occurrences = [list(_find_in_text(text, words, characters)) for text in texts]
    if len(texts) == 1:
        return occurrences
    first, second = occurrences
    return [
        [_with_roles(own, other, _ONLY_FIRST) for own, other in zip(first, second, strict=True)],
        [_with_roles(own, other, _ONLY_SECOND) for own, other in zip(second, first, strict=True)],
    ]


def _with_roles(own: Occurrences, other: Occurrences, role_alone: int) -> Occurrences:
    """Return the n-grams of a text with the hashes of their roles, given those of the other text of its pair."""
    roles = np.where(np.isin(own.hashes, other.hashes), _SHARED, role_alone)
    return replace(own, hashes=own.hashes ^ _ROLE_MASKS[roles])


def _find_in_text(text: str, words: Orders, characters: Orders) -> Iterator[Occurrences]:
    """Find the n-grams of words, then those of characters, of a single text."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    positions = np.arange(len(points))
    word_units, _, word_starts, word_ends = _words(points, np.zeros_like(positions), word_characters())
    bags = (
        (word_units, word_starts, word_ends, words),
        (points.astype(np.uint64) + np.uint64(1), positions, positions + 1, characters),
    )
    for kind, (units, starts, ends, orders) in enumerate(bags):
        keys = list(_ngram_keys(units, np.zeros(len(units), np.int64), orders, kind))
        yield Occurrences(
            np.concatenate([*keys, np.empty(0, np.uint64)]) & _HASH_MASK,
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
        num_starts = len(units) - order + 1
        polynomial = polynomial[:num_starts] + units[order - 1 :] * powers[order - 1]
        if order >= shortest:
            within = text_of[:num_starts] == text_of[order - 1 :]
            yield bag_bits[:num_starts][within] | _mix(polynomial[within]) >> np.uint64(64 - HASH_BITS)


def _powers(number: int) -> Hashes:
    """Return the powers of the multiplier [number], from exponent 0 on, modulo 2^64."""
    factors = np.full(number, MULTIPLIER)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def _mix(values: Hashes) -> Hashes:
    """Spread each bit over all bits, one to one."""
    mixed = (values ^ (values >> np.uint64(32))) * MIXER
    return mixed ^ (mixed >> np.uint64(32))


@cache
def word_characters() -> CodePoints:
    """Return for each code point its letter or digit in lower case, else 0; the last entry is for the rest."""
    characters = "".join(map(chr, range(_FIRST_UNASSIGNED + 1)))
    folded = re.sub(r"[\W_]", "\0", characters).replace("İ", "i").lower()  # İ has two characters in lower case
    return np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32)
