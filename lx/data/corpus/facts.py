"""Facts about a corpus by which a recipe chooses settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from lx.data.corpus.corpus import Corpus

_SAMPLE = 20_000
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_CJK}]|[^\\W{_CJK}]+|[^\\w\\s]+")
_CJK_CHARACTER = re.compile(f"[{_CJK}]")


@dataclass(frozen=True)
class CorpusFacts:
    """What a recipe looks at, of the training split alone.

    Attributes:
        rows: number of texts.
        words: the 99th percentile of the number of words and punctuation marks of a text and its pair.
        characters: the same for characters.
        cjk_share: share of Han characters and kana among the characters.
        has_pairs: whether each text has another beside it.
    """

    rows: int
    words: int
    characters: int
    cjk_share: float
    has_pairs: bool = False


def corpus_facts(corpus: Corpus) -> CorpusFacts:
    """Measure a corpus, its lengths and script on some 20,000 texts from all over the training split at most."""
    train = corpus.splits["train"]
    sample = replace(train, rows=train.rows[:: -(-len(train) // _SAMPLE)])
    words, characters, num_cjk = [], [], 0
    for texts, pairs in sample.texts():
        for text, pair in zip(texts, pairs or [""] * len(texts), strict=True):
            both = f"{text}\n{pair}" if pair else text
            words.append(len(_WORD.findall(both)))
            characters.append(len(both))
            num_cjk += len(_CJK_CHARACTER.findall(both))
    return CorpusFacts(
        rows=len(train),
        words=round(np.percentile(words, 99)),
        characters=round(np.percentile(characters, 99)),
        cjk_share=num_cjk / sum(characters),
        has_pairs=train.has_pairs,
    )
