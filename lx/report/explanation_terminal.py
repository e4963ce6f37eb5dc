"""An explanation in a terminal: words on a coloured ground, and tables that say the same without colours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lx.report.explanation import Explanation, ScoreShares

FOR, AGAINST = (0x4C, 0x9A, 0xE8), (0xF2, 0x8E, 0x2B)
"""Blue and orange, which the colour-blind tell apart."""

_SHOWN_WORDS, _SHOWN_HEADS, _SHOWN_NGRAMS = 12, 32, 6
_MOST_CHARACTERS = 3000
_BAR = 12


def draw(explanation: Explanation) -> Iterator[RenderableType]:
    """Yield what a terminal shows."""
    truth = "" if explanation.truth is None else f"   labelled: {explanation.truth}"
    yield Text(f"predicted: {explanation.prediction}{truth}", style="bold")
    for score in explanation.scores:
        yield ""
        yield Text(f"{score.meaning}: {score.value:+.3f}")
        yield from _texts(explanation, score)
        yield _words(explanation, score)
        if score.ngrams:
            shown = ", ".join(f"{ngram} {effect:+.2f}" for ngram, effect in score.ngrams[:_SHOWN_NGRAMS])
            yield Text(f"strongest n-grams of the expert: {shown}")
        yield Text(_sum(score))
        yield from (Text(fact, style="dim") for fact in score.facts)
    yield from (Text(note, style="dim") for note in explanation.notes)
    if explanation.layers:
        yield _attention(explanation)


def _texts(explanation: Explanation, score: ScoreShares) -> Iterator[Text]:
    """Colour the words of each text: blue for the label, orange against it, stronger the more a word adds."""
    totals = score.totals()
    largest = max((float(np.abs(shares).max(initial=0)) for shares in totals), default=0) or 1.0
    for text, shares in zip(explanation.texts, totals, strict=True):
        line = Text(f"{text.name}: " if text.name else "")
        end = 0
        for (start, stop), share in zip(text.words, shares, strict=True):
            if start > _MOST_CHARACTERS:
                break
            line.append(text.text[end:start])
            line.append(text.text[start:stop], _style(float(share) / largest))
            end = stop
        line.append(text.text[end:_MOST_CHARACTERS])
        if len(text.text) > _MOST_CHARACTERS:
            line.append(f" ... ({len(text.text):,} characters)")
        yield line


def _style(strength: float) -> Style | None:
    """Mix the colour with white, as far as the strength in [-1, 1] is from 1; next to nothing has no colour."""
    if abs(strength) < 0.05:
        return None
    color = FOR if strength > 0 else AGAINST
    red, green, blue = (round(255 - (255 - part) * abs(strength)) for part in color)
    return Style(color="#000000", bgcolor=f"#{red:02x}{green:02x}{blue:02x}")


def _words(explanation: Explanation, score: ScoreShares) -> Table:
    table = Table(title="strongest words", title_justify="left")
    table.add_column("word", overflow="fold")
    table.add_column("adds", justify="right")
    for part in score.several_parts:
        table.add_column(part, justify="right")
    table.add_column("█ for, ░ against")
    totals = score.totals()
    strongest = score.strongest(_SHOWN_WORDS)
    largest = max((abs(totals[text][word]) for text, word in strongest), default=0) or 1.0
    for text, word in strongest:
        share = totals[text][word]
        parts = [f"{shares[text][word]:+.3f}" for shares in score.several_parts.values()]
        bar = ("█" if share > 0 else "░") * round(_BAR * abs(share) / largest)
        table.add_row(explanation.texts[text].word(word), f"{share:+.3f}", *parts, bar)
    return table


def _sum(score: ScoreShares) -> str:
    """Write down that all shares add up to the score."""
    parts = [f"{name} {sum(float(shares.sum()) for shares in texts):+.3f}" for name, texts in score.parts.items()]
    rest = [f"{name} {value:+.3f}" for name, value in score.rest.items()]
    words = ", ".join(f"words by the {part}" for part in parts)
    return f"{score.value:+.3f} = without words {score.start:+.3f}, {', '.join([words, *rest])}"


def _attention(explanation: Explanation) -> Table:
    table = Table(title="attention: what each head reads most, on average over its queries", title_justify="left")
    for heading in ("layer", "head", "reads"):
        table.add_column(heading, overflow="fold")
    rows = [(layer, head) for layer in explanation.layers for head in range(len(layer.weights))]
    for layer, head in rows[:_SHOWN_HEADS]:
        mean = layer.weights[head].mean(axis=0)
        most = [f"{explanation.tokens[token]} {mean[token]:.0%}" for token in np.argsort(-mean)[:4]]
        table.add_row(layer.name, str(head + 1), ", ".join(most))
    if len(rows) > _SHOWN_HEADS:
        table.caption = f"and {len(rows) - _SHOWN_HEADS} more: --out explain.html draws all"
    return table
