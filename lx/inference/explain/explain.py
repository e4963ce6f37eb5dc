"""Takes the scores of a prediction apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lx.data.corpus.clean import clean
from lx.errors import LxError, shorten
from lx.inference.explain.attention import attention_layers
from lx.inference.explain.gradients import GOOD_ERROR, TokenShares
from lx.inference.explain.network import NetworkReading, read
from lx.inference.explain.row import read_row
from lx.inference.explain.words import Words, add_up, divide
from lx.inference.load import LoadedRun, load_run
from lx.inference.stream import checked_texts
from lx.linear.contributions import Contributions, contributions
from lx.linear.expert import LinearExpert
from lx.nn.bag import BagClassifier
from lx.nn.convolution import Convolution
from lx.nn.ensemble import members_of
from lx.nn.expert_alone import ExpertAlone
from lx.report.explanation import Explanation, ScoreShares, ShownText
from lx.tasks.explained import ExplainedScore, describe_prediction, explained_scores

_SHOWN_NGRAMS = 12


def explain(
    run: str | Path,
    text: str | None = None,
    pair: str | None = None,
    *,
    row: int | None = None,
    label: str | None = None,
    trust: Sequence[str] = (),
) -> Explanation:
    """Explain a prediction of a run: what each word adds to it, and what the attention attends to.

    Args:
        run: The run directory.
        text: The text.
        pair: The second text, of a run on pairs.
        row: A row of the run's test split, counted from 0, in the place of a text.
        label: To explain in the place of what is predicted.
        trust: Packages of the user's own whose classes may be built from the run's configuration.

    Raises:
        LxError: Neither a text nor a row, or both; no complete run; see also :func:`explain_texts`.
    """
    if row is not None:
        if text is not None or pair is not None:
            raise LxError("a row (--row) brings its own text: leave --text and --pair out")
        return explain_row(load_run(run, trust), row, label)
    if text is None:
        raise LxError("give a text (--text), or a row of the run's test split (--row)")
    texts = checked_texts([text] if pair is None else [text, pair], "texts")
    return explain_texts(load_run(run, trust), texts, label)


def explain_texts(loaded: LoadedRun, texts: Sequence[str], label: str | None = None) -> Explanation:
    """Explain the prediction of a text, or of a pair of texts; on the CPU, in float32.

    Args:
        loaded: The run.
        texts: One text, or two.
        label: To explain in the place of what is predicted; None: that.

    Raises:
        LxError: An empty text, a pair where the run labels single texts or the other way round, an unknown label, a
            network whose word embeddings are not known, or captum is not installed.
    """
    loaded.require_pairs(len(texts) == 2)
    texts = [clean(text) for text in texts]
    if not all(texts):
        raise LxError("the text is empty: there is nothing to explain")
    reading = None if isinstance(loaded.net, ExpertAlone) else read(loaded, texts)
    outputs = [] if reading is None else [reading.logits]
    if loaded.expert is not None:
        pairs = [texts[1]] if loaded.has_pairs else None
        outputs.append(torch.from_numpy(loaded.expert.scores(texts[:1], pairs))[0])
    prediction = loaded.task.predictions(texts[:1], *(output[None] for output in outputs))[0]
    words = _divide(texts, reading)
    scores = [
        _take_apart(score, outputs, texts, words, reading, loaded.expert)
        for score in explained_scores(loaded.task, prediction, label)
    ]
    columns = [str(loaded.config["data"].get(name) or name) for name in ("text", "text_pair")]
    names = columns if loaded.has_pairs else [""]
    shown = [ShownText(text, part.spans, name) for text, part, name in zip(texts, words, names, strict=True)]
    explanation = Explanation(str(loaded.directory.path), shown, describe_prediction(prediction), scores)
    if reading is None:
        return replace(explanation, notes=["model=linear has no attention"])
    return _with_network(explanation, reading, loaded.expert is not None)


def explain_row(loaded: LoadedRun, number: int, label: str | None = None) -> Explanation:
    """Explain the prediction of a row of the run's test split, counted from 0; see :func:`explain_texts`."""
    row = read_row(loaded, number)
    explanation = explain_texts(loaded, row.texts, label)
    return replace(explanation, truth=row.truth, notes=[row.note, *explanation.notes])


def _divide(texts: Sequence[str], reading: NetworkReading | None) -> list[Words]:
    """Divide texts into words, along the tokens that a network reads."""
    if reading is None:
        return [divide(text, []) for text in texts]
    return [divide(text, [reading.tokens.spans[i] for i in reading.tokens.of_text(n)]) for n, text in enumerate(texts)]


def _take_apart(
    score: ExplainedScore,
    outputs: Sequence[Tensor],
    texts: Sequence[str],
    words: Sequence[Words],
    reading: NetworkReading | None,
    expert: LinearExpert | None,
) -> ScoreShares:
    """Divide a score among the words, for each part of the classifier: encoder, expert, or both."""
    start, facts = score.offset, []
    parts, rest = {}, {}
    ngrams: list[tuple[str, float]] = []
    coefficients = [score.weights, score.expert_weights][: len(outputs)]
    if reading is not None:
        shares = reading.shares(score.weights)
        start += shares.baseline
        facts.append(_describe_network(reading, shares))
        tokens = shares.shares.numpy()
        parts["encoder"] = [add_up(part, tokens[reading.tokens.of_text(n)]) for n, part in enumerate(words)]
    if expert is not None:
        exact = contributions(expert, texts, coefficients[-1].double().numpy())
        start += exact.start
        facts.append("expert: exact; the weight of each n-gram is divided equally among the letters that it covers")
        parts["expert"] = [_add_letters(part, exact, n) for n, part in enumerate(words)]
        rest, ngrams = exact.rest, exact.ngrams[:_SHOWN_NGRAMS]
    value = score.value(outputs)
    if not np.isfinite([value, start, *(shares.sum() for texts in parts.values() for shares in texts)]).all():
        raise LxError("the classifier answers with numbers that are not finite: there is nothing to explain")
    return ScoreShares(
        score.label, score.meaning, value, start=start, parts=parts, rest=rest, facts=facts, ngrams=ngrams
    )


def _add_letters(words: Words, exact: Contributions, number: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(exact.characters[number])])
    return np.array([sums[end] - sums[start] for start, end in words.spans])


def _describe_network(reading: NetworkReading, shares: TokenShares) -> str:
    if _is_bag(reading):
        return "encoder: exact, a bag of words is linear in its words and bigrams"
    quality = "" if shares.error < GOOD_ERROR else ", TOO LARGE: take the numbers as a hint"
    return (
        f"encoder: integrated gradients, {shares.steps:,} steps from a text of padding; "
        f"completeness error {shares.error:.2%}{quality}"
    )


def _with_network(explanation: Explanation, reading: NetworkReading, has_expert: bool) -> Explanation:
    """Add the attention, and what a reader should be aware of."""
    texts = [text.text for text in explanation.texts]
    names = reading.tokens.shown(texts)
    layers = attention_layers(reading.net, reading.inputs)
    num_shown = layers[-1].weights.shape[-1] if layers else 0
    notes = []
    if reading.truncated:
        whole = ", the expert all of it" if has_expert else ""
        notes.append(f"the encoder reads the first {len(names)} tokens, as in training{whole}")
    if unknown := reading.tokens.unknown(texts):
        notes.append(f"not in the vocabulary: {shorten(list(dict.fromkeys(unknown)), 10)}")
    if widths := [module.width for module in reading.net.modules() if isinstance(module, Convolution)]:
        mixing = "a convolution mixes each token with its neighbours"
        notes.append(f"before the first layer, {mixing}, {widths[0]} at a time")
    if not layers:
        kind = "model=bag has" if _is_bag(reading) else "this network shows"
        notes.append(f"{kind} no attention")
    elif num_shown < len(names):
        notes.append(f"attention is shown among the first {num_shown} of {len(names)} tokens")
    return replace(explanation, tokens=names[:num_shown], layers=layers, notes=notes)


def _is_bag(reading: NetworkReading) -> bool:
    return isinstance(members_of(reading.net)[0], BagClassifier)
