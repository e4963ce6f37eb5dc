"""What ``lx explain`` shows, as plain values: the words of a text, what each adds to a score, the attention.

Axis legend: W words of a text, H heads, Q queries (T, or 1), T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""First character of a text, and the one after the last."""

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class ShownText:
    """A text, or one of a pair.

    Attributes:
        text: As it was given.
        words: [W] spans of its words.
        name: Of the column; empty of a single text.
    """

    text: str
    words: Sequence[Span]
    name: str = ""

    def word(self, number: int) -> str:
        """Return a word as a table shows it."""
        start, end = self.words[number]
        piece = self.text[start:end]
        shown = piece if piece.strip() else repr(piece)
        return f"{shown} ({self.name})" if self.name else shown


@dataclass(frozen=True)
class ScoreShares:
    """A score taken apart: ``value = start + all shares of words + rest``.

    Attributes:
        label: That it speaks for; empty where there are no labels.
        meaning: Its unit, in words.
        value: Of the text.
        start: Of a text without words.
        parts: By the name of a part of the classifier, for each text, what its words [W] add.
        rest: What belongs to no word, by name.
        facts: How sure the numbers are: a line for each part.
        ngrams: The strongest n-grams of the linear expert, with what each adds.
    """

    label: str
    meaning: str
    value: float
    start: float
    parts: Mapping[str, Sequence[Shares]]
    rest: Mapping[str, float] = field(default_factory=dict)
    facts: Sequence[str] = ()
    ngrams: Sequence[tuple[str, float]] = ()

    @property
    def several_parts(self) -> Mapping[str, Sequence[Shares]]:
        """The parts, if there are several; with one alone the totals say the same."""
        return self.parts if len(self.parts) > 1 else {}

    def totals(self) -> list[Shares]:
        """For each text, what its words add in all parts together."""
        return [np.sum(shares, axis=0) for shares in zip(*self.parts.values(), strict=True)]

    def strongest(self, count: int) -> list[tuple[int, int]]:
        """Return text and word of those words that add or take the most."""
        totals = self.totals()
        words = [(text, word) for text, shares in enumerate(totals) for word in range(len(shares))]
        return sorted(words, key=lambda pair: -abs(totals[pair[0]][pair[1]]))[:count]


@dataclass(frozen=True)
class AttentionLayer:
    """The weights [H, Q, T] of a layer; of a single query, ``query`` says what it is."""

    name: str
    weights: NDArray[np.float32]
    query: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a run says what it says of a text.

    Attributes:
        run: Its directory.
        texts: One, or the two of a pair.
        prediction: In words.
        scores: Each label that is explained.
        tokens: [T] that the attention is over.
        layers: Of attention.
        notes: What a reader should be aware of.
        truth: The label of a row of the test split, in words; None of any other text.
    """

    run: str
    texts: Sequence[ShownText]
    prediction: str
    scores: Sequence[ScoreShares]
    tokens: Sequence[str] = ()
    layers: Sequence[AttentionLayer] = ()
    notes: Sequence[str] = ()
    truth: str | None = None
