"""An explanation as one page of HTML, which needs no network: words on a coloured ground, and every head of attention.

The page runs one script, this package's own, and says so in its content security policy: what comes from a text, a
label or a run is escaped, and could not run if it were not.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from itertools import repeat
from pathlib import Path

import numpy as np

from lx.report.explanation import Explanation, ScoreShares, Shares, ShownText

_SHOWN_WORDS = 20
_LEVELS = 20  # of colour; the lowest is none


def page(explanation: Explanation) -> str:
    """Draw an explanation."""
    style, script = (Path(__file__).with_name(f"explanation.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    truth = "" if explanation.truth is None else f" <span>labelled <b>{escape(explanation.truth)}</b></span>"
    scores = "".join(_score(explanation, score, number) for number, score in enumerate(explanation.scores))
    notes = "".join(f"<li>{escape(note)}</li>" for note in explanation.notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Why {escape(explanation.prediction)}?</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Why {escape(explanation.prediction)}?{truth}</h1>
<p class="muted">{escape(explanation.run)}</p>
</header>
<main>
{scores}
{f"<ul class='notes'>{notes}</ul>" if notes else ""}
{_attention(explanation) if explanation.layers else ""}
</main>
<script>{script}</script>
</body>
</html>
"""


def _score(explanation: Explanation, score: ScoreShares, number: int) -> str:
    """Draw a section: the texts, coloured by all parts together and by each, the sum, and the strongest words."""
    views: dict[str, Sequence[Shares]] = {"together": score.totals()}
    if len(score.parts) > 1:
        views.update(score.parts)
    largest = max((float(np.abs(shares).max(initial=0)) for texts in views.values() for shares in texts), default=0)
    buttons = views if len(views) > 1 else ()
    choice = "".join(
        f'<input type="radio" name="view{number}" id="view{number}-{index}" {"checked" if index == 0 else ""}>'
        f'<label for="view{number}-{index}">{escape(name)}</label>'
        for index, name in enumerate(buttons)
    )
    texts = "".join(
        f'<div class="view">{"".join(map(_text, explanation.texts, view, repeat(largest or 1.0)))}</div>'
        for view in views.values()
    )
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in score.facts)
    return f"""<section>
<h2>{escape(score.meaning)}: {score.value:+.3f}</h2>
<div class="views">{choice}{texts}</div>
<p class="legend"><mark style="--strength:{_LEVELS // 2}">for</mark> <mark class="against"
style="--strength:{_LEVELS // 2}">against</mark> the stronger, the more a word adds or takes</p>
<div class="columns">
{_sum(score)}
{_words(explanation, score)}
{_ngrams(score)}
</div>
<ul class="notes">{facts}</ul>
</section>"""


def _text(text: ShownText, shares: Shares, largest: float) -> str:
    """Colour the words of a text; those that add next to nothing are left as they are."""
    pieces, end = [], 0
    for (start, stop), share in zip(text.words, shares, strict=True):
        strength = round(_LEVELS * abs(share) / largest)
        if strength:
            side = "" if share > 0 else ' class="against"'
            pieces.append(escape(text.text[end:start]))
            pieces.append(
                f'<mark{side} style="--strength:{strength}" title="{share:+.3f}">{escape(text.text[start:stop])}</mark>'
            )
            end = stop
    pieces.append(escape(text.text[end:]))
    name = f'<span class="muted">{escape(text.name)}</span> ' if text.name else ""
    return f'<p class="text" dir="auto">{name}{"".join(pieces)}</p>'


def _sum(score: ScoreShares) -> str:
    parts = {
        f"words by the {name}": sum(float(shares.sum()) for shares in texts) for name, texts in score.parts.items()
    }
    rows = {"without words": score.start, **parts, **score.rest, "score": score.value}
    return _table("The sum", [("", rows)], list(rows))


def _words(explanation: Explanation, score: ScoreShares) -> str:
    totals = score.totals()
    columns = {"adds": totals, **(score.parts if len(score.parts) > 1 else {})}
    places = score.strongest(_SHOWN_WORDS)
    names = [_name(explanation.texts[text], word) for text, word in places]
    rows = [
        (heading, {str(row): float(shares[text][word]) for row, (text, word) in enumerate(places)})
        for heading, shares in columns.items()
    ]
    return _table("Strongest words", rows, names)


def _ngrams(score: ScoreShares) -> str:
    if not score.ngrams:
        return ""
    effects = {str(row): effect for row, (_, effect) in enumerate(score.ngrams)}
    return _table("Strongest n-grams of the expert", [("adds", effects)], [ngram for ngram, _ in score.ngrams])


def _table(title: str, columns: list[tuple[str, dict[str, float]]], names: list[str]) -> str:
    """Draw a table of names and numbers, with a bar for the first column."""
    first = columns[0][1]
    largest = max((abs(value) for value in first.values()), default=0) or 1.0
    headings = "".join(f"<th>{escape(heading)}</th>" for heading, _ in columns)
    rows = []
    for index, name in enumerate(names):
        cells = [list(values.values())[index] for _, values in columns]
        side = "for" if cells[0] > 0 else "against"
        bar = f'<td class="bar"><i class="{side}" style="width:{100 * abs(cells[0]) / largest:.1f}%"></i></td>'
        numbers = "".join(f"<td>{value:+.3f}</td>" for value in cells)
        rows.append(f'<tr><th scope="row" dir="auto">{escape(name)}</th>{numbers}{bar}</tr>')
    head = f"<tr><th></th>{headings}<th></th></tr>" if any(heading for heading, _ in columns) else ""
    return f"<table><caption>{title}</caption>{head}{''.join(rows)}</table>"


def _name(text: ShownText, word: int) -> str:
    start, end = text.words[word]
    piece = text.text[start:end]
    return f"{piece if piece.strip() else repr(piece)}{f' ({text.name})' if text.name else ''}"


def _attention(explanation: Explanation) -> str:
    """Draw the frame that the script fills, and its data."""
    layers = [
        {
            "name": layer.name,
            "query": layer.query,
            "shape": layer.weights.shape,
            # Two bytes a weight, the lower one first.
            "weights": b64encode((layer.weights * 65535).round().astype("<u2").tobytes()).decode(),
        }
        for layer in explanation.layers
    ]
    data = json.dumps({"tokens": list(explanation.tokens), "layers": layers}).replace("<", "\\u003c")
    return f"""<section id="attention">
<h2>Attention</h2>
<p>Each head compares the query of every token (a row) with the keys of all tokens (the columns):
<b>softmax(QK<sup>T</sup>/√d)</b> turns the scores of a row into weights that sum to 1, and the head's output is the
average of the values with these weights. Choose a head, then a row.</p>
<noscript><p>The drawing needs JavaScript.</p></noscript>
<div id="heads" role="group" aria-label="heads"></div>
<h3 id="head-name" aria-live="polite"></h3>
<div class="columns">
<div class="scroll"><svg id="matrix" role="img"></svg></div>
<div class="row-of-head">
<p><label>query <select id="query"></select></label></p>
<p id="reading" class="text" dir="auto"></p>
<table id="softmax"></table>
</div>
</div>
<script type="application/json" id="attention-data">{data}</script>
</section>"""
