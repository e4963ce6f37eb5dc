"""Hashed n-grams against n-grams that are counted as strings."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from lx.linear import ngrams
from lx.linear.ngrams import Orders, count_ngrams

TEXTS = [
    "The cat sat on the mat, the CAT sat.",
    "",
    "x",
    "Größe_ÄPFEL 12a don't",
    "İstanbul ǅ Σίσυφος",
    "人工智能 is 人工",
    "🙂🙂 a\ud800b\0c",
    "..., !",
    "aaaaaaaaaaaaaaaa",
]


def hashed_counts(columns: list[list[str]], words: Orders, characters: Orders) -> list[dict[int, int]]:
    """The counts of every bag by hash."""
    bags: list[dict[int, int]] = []
    for chunk in count_ngrams(columns, words, characters):
        first = len(bags)
        bags += [{} for _ in range(chunk.num_rows * chunk.per_row)]
        for bag, ngram, count in zip(chunk.bag, chunk.hashes, chunk.counts, strict=True):
            bags[first + bag][int(ngram)] = int(count)
    return bags


def string_counts(units: list[str] | str, orders: Orders) -> Counter[tuple[str, ...]]:
    lengths = range(max(1, orders[0]), orders[1] + 1)
    return Counter(tuple(units[i : i + n]) for n in lengths for i in range(len(units) - n + 1))


def fold(word: str) -> str:
    """Lower case, character by character."""
    return "".join("i" if character == "İ" else character.lower() for character in word)


def hash_alone(ngram: tuple[str, ...], kind: int) -> int:
    """The hash of a text that is nothing but this n-gram."""
    orders = (len(ngram), len(ngram))
    text, words, characters = ("".join(ngram), (0, 0), orders) if kind else (" ".join(ngram), orders, (0, 0))
    (only,) = hashed_counts([[text]], words, characters)[kind]
    return only


@pytest.mark.parametrize(
    ("words", "characters"), [((1, 2), (2, 5)), ((0, 0), (1, 4)), ((2, 3), (0, 0)), ((1, 1), (1, 16))]
)
def test_counts_are_those_of_strings(words: Orders, characters: Orders) -> None:
    bags = hashed_counts([TEXTS], words, characters)
    assert len(bags) == 2 * len(TEXTS)
    for row, text in enumerate(TEXTS):
        folded = [fold(word) for word in re.findall(r"[^\W_]+", text)]
        for kind, strings in enumerate((string_counts(folded, words), string_counts(text, characters))):
            assert bags[2 * row + kind] == {hash_alone(ngram, kind): count for ngram, count in strings.items()}
            assert len(bags[2 * row + kind]) == len(strings)


PAIRS = [
    ("The cat sat; the cat", "the CAT cat ran"),  # shared the, cat; only first sat; only second ran
    ("dog", "cat"),
    ("a b a", "a b a"),
    ("a", ""),
    ("", "x y"),
    ("", ""),
]
FIRSTS, SECONDS = map(list, zip(*PAIRS, strict=True))


def counts_of_roles(pair: tuple[str, str], kind: int) -> list[dict[tuple[str, ...], int]]:
    """Words or pairs of characters of both texts, of the first alone and of the second alone, with their counts."""
    first, second = (
        string_counts(text, (2, 2)) if kind else string_counts(re.findall(r"\w+", text.lower()), (1, 1))
        for text in pair
    )
    shared = first & second
    return [shared, *({n: c for n, c in own.items() if n not in shared} for own in (first, second))]


def test_bags_of_a_pair_are_those_of_its_roles() -> None:
    assert counts_of_roles(PAIRS[0], 0) == [{("the",): 1, ("cat",): 2}, {("sat",): 1}, {("ran",): 1}]
    bags = hashed_counts([FIRSTS, SECONDS], (1, 1), (2, 2))
    assert len(bags) == 6 * len(PAIRS)
    for row, pair in enumerate(PAIRS):
        for kind in (0, 1):
            for role, expected in enumerate(counts_of_roles(pair, kind)):
                hashes = {hash_in_role(ngram, kind, role): count for ngram, count in expected.items()}
                assert bags[6 * row + 3 * kind + role] == hashes and len(hashes) == len(expected)


def hash_in_role(ngram: tuple[str, ...], kind: int, role: int) -> int:
    """The hash of an n-gram that is all that both texts, or one of them, have."""
    text = "".join(ngram)
    firsts, seconds = [[text, ""][role == 2]], [[text, ""][role == 1]]
    (only,) = hashed_counts([firsts, seconds], (1, 1), (2, 2))[3 * kind + role]
    return only


def test_words_characters_and_the_roles_of_pairs_differ() -> None:
    bags = hashed_counts([["ab", "ab", ""], ["ab", "", "ab"]], (1, 1), (2, 2))
    found = [ngram for bag in bags for ngram in bag]
    assert len(found) == len(set(found)) == 6


def test_swapped_texts_swap_the_roles() -> None:
    bags = hashed_counts([FIRSTS, SECONDS], (1, 2), (2, 5))
    swapped = hashed_counts([SECONDS, FIRSTS], (1, 2), (2, 5))
    assert bags[::3] == swapped[::3]
    for one, other in ((1, 2), (2, 1)):
        assert [sorted(bag.values()) for bag in bags[one::3]] == [sorted(bag.values()) for bag in swapped[other::3]]
    (chunk,), (other_chunk,) = (count_ngrams(texts, (1, 2), (2, 5)) for texts in ([FIRSTS, SECONDS], [SECONDS, FIRSTS]))
    np.testing.assert_array_equal(chunk.overlaps[:, [1, 0, 2, 4, 3, 5]], other_chunk.overlaps)


def test_overlaps_of_pairs() -> None:
    """The shares of the distinct n-grams of each text that the other one has too, and their Jaccard index."""
    (chunk,) = count_ngrams([FIRSTS, SECONDS], (1, 1), (2, 2))
    expected = []
    for pair in PAIRS:
        for kind in (0, 1):
            shared, first, second = map(len, counts_of_roles(pair, kind))
            sizes = (shared + first, shared + second, shared + first + second)
            expected += [shared / size if size else 0 for size in sizes]
    np.testing.assert_allclose(chunk.overlaps, np.reshape(expected, (len(PAIRS), 6)), rtol=1e-12)
    np.testing.assert_allclose(chunk.overlaps[0, :3], [2 / 3, 2 / 3, 2 / 4], rtol=1e-12)
    np.testing.assert_array_equal(chunk.overlaps[[1, 2, 3, 4, 5]], np.repeat([[0], [1], [0], [0], [0]], 6, 1))
    (chunk,) = count_ngrams([FIRSTS], (1, 1), (2, 2))
    assert chunk.overlaps.shape == (len(PAIRS), 0)


def test_identical_texts_share_all_ngrams() -> None:
    bags = hashed_counts([TEXTS, TEXTS], (1, 2), (2, 5))
    assert not any(bags[1::3]) and not any(bags[2::3])
    assert bags[::3] == hashed_counts([TEXTS], (1, 2), (2, 5))


def test_nothing_depends_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    together = hashed_counts([TEXTS, TEXTS[::-1]], (1, 2), (2, 5))
    monkeypatch.setattr(ngrams, "_CHARACTERS_PER_CHUNK", 10)
    assert hashed_counts([TEXTS, TEXTS[::-1]], (1, 2), (2, 5)) == together


def test_many_rows() -> None:
    texts = [f"text {number}" for number in range(1000)]
    chunks = list(count_ngrams([texts], (1, 1), (0, 0)))
    assert sum(chunk.num_rows for chunk in chunks) == 1000 and len(chunks) > 1
    assert len(np.unique(np.concatenate([chunk.hashes for chunk in chunks]))) == 1001
