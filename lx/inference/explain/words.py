"""The words of a text, and the tokens that each is made of.

Axis legend: T tokens, W words.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lx.data.tokens.tokenizer import UNK, Tokenizer
from lx.report.explanation import Span

# Each of these is written without spaces between words, so that a character is a word: Han, hiragana, katakana.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A run of letters that is longer than this may be a sentence of a script without spaces; its tokens stay apart.
_SEGMENT = re.compile(rf"\s+|[{_ALONE}]|(?:[^\W{_ALONE}]|(?<=\w)['’](?=\w)){{1,30}}|.", re.DOTALL)

UNKNOWN = (UNK, "<unk>")


@dataclass(frozen=True)
class TextTokens:
    """What a tokenizer makes of a text, or of a pair of texts.

    Attributes:
        names: [T] as the tokenizer shows them.
        is_word: [T] False of special tokens.
        spans: [T] the characters that each comes from, in its text.
        text_of: [T] 1 of the second text of a pair, else 0.
    """

    names: list[str]
    is_word: NDArray[np.bool_]
    spans: list[Span]
    text_of: NDArray[np.int64]

    def of_text(self, number: int) -> NDArray[np.int64]:
        """Return the positions of the words of a text in [0, T)."""
        return np.flatnonzero(self.is_word & (self.text_of == number))

    def shown(self, texts: Sequence[str]) -> list[str]:
        """Return what each token stands for, as it is written in the text; of special tokens the name."""
        return [
            texts[text][start:end].strip() or name if is_word else name
            for name, is_word, (start, end), text in zip(
                self.names, self.is_word, self.spans, self.text_of, strict=True
            )
        ]

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Return what the tokenizer has no token for."""
        shown = zip(self.names, self.is_word, self.shown(texts), strict=True)
        return [piece for name, is_word, piece in shown if is_word and name in UNKNOWN]


def read_tokens(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> TextTokens:
    """Tokenize a text, or a pair of texts, as in training, and keep what each token comes from."""
    tokenizer.backend.enable_truncation(max_length)
    encoding = tokenizer.backend.encode(texts[0], texts[1] if len(texts) == 2 else None)
    return TextTokens(
        encoding.tokens,
        np.array(encoding.special_tokens_mask) == 0,
        encoding.offsets,
        np.array([number or 0 for number in encoding.sequence_ids], np.int64),
    )


@dataclass(frozen=True)
class Words:
    """The words of a text.

    Attributes:
        spans: [W] characters of each.
        word_of: The word of each token of this text, in their order.
    """

    spans: list[Span]
    word_of: list[int] = field(default_factory=list)


def divide(text: str, token_spans: Sequence[Span]) -> Words:
    """Divide a text into words: pieces of a word are joined, and so are words that share a token.

    White space is a word only where a token stands for it alone, as among characters.
    """
    segments = [match.span() for match in _SEGMENT.finditer(text)]
    starts = [start for start, _ in segments]
    joined = np.zeros(len(segments), bool)  # with the segment before
    seen = np.zeros(len(segments), bool)  # by a token
    first_segments = []  # of each token
    for start, end in (_trim(text, span) for span in token_spans):
        first = bisect_right(starts, start) - 1
        last = max(first, bisect_right(starts, end - 1) - 1)
        joined[first + 1 : last + 1] = True
        seen[first : last + 1] = True
        first_segments.append(first)
    group_of = (np.cumsum(~joined) - 1).tolist()  # joined segments are a group
    spans: list[Span] = []
    word_of_group: dict[int, int] = {}
    for (start, end), group, is_joined, is_seen in zip(segments, group_of, joined, seen, strict=True):
        if is_joined and group in word_of_group:
            spans[-1] = (spans[-1][0], end)
        elif is_seen or not text[start:end].isspace():
            word_of_group[group] = len(spans)
            spans.append((start, end))
    return Words(spans, [word_of_group[group_of[first]] for first in first_segments])


def _trim(text: str, span: Span) -> Span:
    """Leave white space out at both ends, unless there is nothing else."""
    start, end = span
    piece = text[start:end]
    if not piece.strip():
        return span
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def add_up(words: Words, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add up the shares of the tokens of each word."""
    return np.bincount(words.word_of, shares, len(words.spans)).astype(np.float64)
