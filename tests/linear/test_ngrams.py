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


def test_words_characters_and_the_texts_of_pairs_differ() -> None:
    bags = hashed_counts([["ab"], ["ab"]], (1, 1), (2, 2))
    assert len({*bags[0], *bags[1], *bags[2], *bags[3]}) == 4


def test_overlaps_of_pairs() -> None:
    """The share of the different n-grams of the second text that the first one has too, in the same row."""
    firsts, seconds = ["The cat sat", "dog", "a", ""], ["the CAT cat ran", "cat", "", "x y"]
    (chunk,) = count_ngrams([firsts, seconds], (1, 1), (2, 2))
    own, others = ({text[i : i + 2] for i in range(len(text) - 1)} for text in (firsts[0], seconds[0]))
    expected = [[2 / 3, len(own & others) / len(others)], [0, 0], [0, 0], [0, 0]]
    np.testing.assert_allclose(chunk.overlaps, expected, rtol=1e-12)
    (chunk,) = count_ngrams([firsts], (1, 1), (2, 2))
    assert chunk.overlaps.shape == (4, 0)


def test_nothing_depends_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    together = hashed_counts([TEXTS, TEXTS[::-1]], (1, 2), (2, 5))
    monkeypatch.setattr(ngrams, "_CHARACTERS_PER_CHUNK", 10)
    assert hashed_counts([TEXTS, TEXTS[::-1]], (1, 2), (2, 5)) == together


def test_many_rows() -> None:
    texts = [f"text {number}" for number in range(1000)]
    chunks = list(count_ngrams([texts], (1, 1), (0, 0)))
    assert sum(chunk.num_rows for chunk in chunks) == 1000 and len(chunks) > 1
    assert len(np.unique(np.concatenate([chunk.hashes for chunk in chunks]))) == 1001
