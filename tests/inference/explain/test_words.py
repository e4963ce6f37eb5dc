"""Words of a text, joined from the pieces of each kind of tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lx.data.tokens import recipes
from lx.data.tokens.tokenizer import Tokenizer, train
from lx.inference.explain.words import add_up, divide, read_tokens

TEXTS = ["Don't stop (it's 5.0%)!  naïve … cup", "我 想买手机,OK? 好的", "ab  cd\n\tab"]
KINDS: dict[str, dict[str, Any]] = {
    "word": {"vocab_size": 500, "lowercase": True, "min_frequency": 1},
    "bpe": {"vocab_size": 300, "lowercase": False, "min_frequency": 1},
    "wordpiece": {"vocab_size": 60, "lowercase": True, "min_frequency": 1},
    "unigram": {"vocab_size": 100, "lowercase": True},
    "char": {"vocab_size": 500, "lowercase": False},
    "byte": {"lowercase": False},
}


def tokenizer(kind: str) -> Tokenizer:
    return train(getattr(recipes, kind)(**KINDS[kind]), lambda: iter(TEXTS * 9))


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_belongs_to_a_word_and_nothing_is_lost(kind: str) -> None:
    trained = tokenizer(kind)
    for text in TEXTS:
        tokens = read_tokens(trained, [text], 512)
        assert tokens.is_word.tolist() == [False, *[True] * (len(tokens.names) - 2), False]
        own = tokens.of_text(0)
        words = divide(text, [tokens.spans[position] for position in own])
        assert len(words.word_of) == len(own) and words.word_of == sorted(words.word_of)
        gaps = "".join(
            text[a:b] for a, b in zip([0, *(e for _, e in words.spans)], [s for s, _ in words.spans], strict=False)
        )
        assert not gaps.strip()
        shares = np.arange(1.0, len(own) + 1)
        assert add_up(words, shares).sum() == shares.sum()


@pytest.mark.parametrize("kind", ["word", "wordpiece", "char", "byte"])
def test_pieces_are_joined_and_han_characters_stay_apart(kind: str) -> None:
    trained = tokenizer(kind)
    found = []
    for text in TEXTS[:2]:
        tokens = read_tokens(trained, [text], 512)
        found += [text[start:end] for start, end in divide(text, [tokens.spans[i] for i in tokens.of_text(0)]).spans]
    assert {"Don't", "stop", "it's", "naïve", "cup", "我", "想", "手", "机", "OK"} <= set(found)


def test_the_texts_of_a_pair_and_the_truncated_end() -> None:
    trained = tokenizer("word")
    tokens = read_tokens(trained, ["ab cd stop", "ab cup"], 6)
    assert tokens.names == ["[CLS]", "ab", "[SEP]", "ab", "cup", "[SEP]"] or len(tokens.names) == 6
    assert [len(tokens.of_text(number)) for number in (0, 1)] == [2, 1] or sum(tokens.is_word) == 3
    words = divide("ab cd stop", [tokens.spans[i] for i in tokens.of_text(0)])
    assert len(words.spans) == 3 and max(words.word_of) < 2


def test_what_shares_a_token_is_one_word() -> None:
    words = divide("a %)! b", [(0, 1), (1, 5), (6, 7)])
    assert words.spans == [(0, 1), (2, 5), (6, 7)] and words.word_of == [0, 1, 2]


def test_words_that_the_tokenizer_does_not_have() -> None:
    tokens = read_tokens(tokenizer("word"), ["stop zebra"], 16)
    assert tokens.unknown(["stop zebra"]) == ["zebra"]
    assert tokens.shown(["stop zebra"]) == ["[CLS]", "stop", "zebra", "[SEP]"]
