"""An explanation as one page of HTML, which needs no network: words on a coloured ground, and every head of attention.

The page runs one script, this package's own, and says so in its content security policy: what comes from a text, a
label or a run is escaped, and could not run if it were not.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lx.report.explanation import AttentionLayer, Explanation, ScoreShares, Shares, ShownText
from lx.report.templates import render

_SHOWN_WORDS = 20
_STRONGEST = 70.0  # percent of colour
_LEVELS = 20  # of it; the lowest is none


@dataclass(frozen=True)
class _Piece:
    """A piece of a text, what it adds to the score, and how strong its colour is, in percent."""

    text: str
    share: float = 0.0
    strength: float = 0.0


@dataclass(frozen=True)
class _Table:
    """Names, and numbers of each; the first number is drawn as a bar too."""

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]

    @property
    def largest(self) -> float:
        """The length of the longest bar."""
        return max((abs(numbers[0]) for _, numbers in self.rows), default=0) or 1.0


def explanation_page(explanation: Explanation) -> str:
    """Draw an explanation."""
    script = Path(__file__).with_name("explanation.js").read_text("utf-8")
    attention = {"tokens": list(explanation.tokens), "layers": [_plain(layer) for layer in explanation.layers]}
    return render(
        "explanation.html",
        title=f"Why {explanation.prediction}?",
        lead=explanation.run,
        explanation=explanation,
        sections=[(score, _views(explanation, score), _tables(explanation, score)) for score in explanation.scores],
        attention=attention,
        script=Markup(script),
        digest=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _views(explanation: Explanation, score: ScoreShares) -> dict[str, list[list[_Piece]]]:
    """Cut the texts into pieces, coloured by what each part adds, and all together; by the name of the part."""
    views = {"together": score.totals(), **score.several_parts}
    largest = max(float(np.abs(shares).max(initial=0)) for texts in views.values() for shares in texts) or 1.0
    return {
        name: [_pieces(text, shares, largest) for text, shares in zip(explanation.texts, texts, strict=True)]
        for name, texts in views.items()
    }


def _pieces(text: ShownText, shares: Shares, largest: float) -> list[_Piece]:
    """Cut a text into words and what is between them."""
    pieces, end = [], 0
    for (start, stop), share in zip(text.words, shares, strict=True):
        strength = _STRONGEST * round(_LEVELS * abs(share) / largest) / _LEVELS
        pieces += [_Piece(text.text[end:start]), _Piece(text.text[start:stop], share, strength)]
        end = stop
    return [*pieces, _Piece(text.text[end:])]


def _tables(explanation: Explanation, score: ScoreShares) -> list[_Table]:
    """Return the sum, the strongest words, and the strongest n-grams if there is an expert."""
    parts = {
        f"words by the {name}": sum(float(shares.sum()) for shares in texts) for name, texts in score.parts.items()
    }
    terms = {"without words": score.start, **parts, **score.rest, "score": score.value}
    tables = [_Table("The sum", [], [(name, [value]) for name, value in terms.items()])]
    columns = {"adds": score.totals(), **score.several_parts}
    words = [
        (explanation.texts[text].word(word), [shares[text][word] for shares in columns.values()])
        for text, word in score.strongest(_SHOWN_WORDS)
    ]
    tables.append(_Table("Strongest words", list(columns), words))
    ngrams = [(ngram, [effect]) for ngram, effect in score.ngrams]
    return [*tables, _Table("Strongest n-grams of the expert", ["adds"], ngrams)] if ngrams else tables


def _plain(layer: AttentionLayer) -> dict[str, Any]:
    """Return a layer for the script: two bytes a weight, the lower one first."""
    weights = b64encode((layer.weights * 65535).round().astype("<u2").tobytes()).decode()
    return {"name": layer.name, "query": layer.query, "shape": layer.weights.shape, "weights": weights}
