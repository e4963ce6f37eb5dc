"""What the letters of a text contribute to a score of the linear expert: exact, since the score is a sum over n-grams.

Axis legend: C classes, F known n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lx.linear.expert import LinearExpert
from lx.linear.ngrams import Indices, find_occurrences

_OVERLAPS = ("the share of words that both texts have", "the share of letters that both texts have")
_SPACES = "white space"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """A score of the expert taken apart: ``start``, all characters and the rest add up to it.

    Attributes:
        start: Of a text without n-grams.
        characters: Of each text, what its characters contribute: an n-gram's contribution is divided equally among
            those that it covers, except white space. One that occurs more than once, or in both texts of a pair, is
            first divided equally among its occurrences.
        rest: What belongs to no character, by name.
        ngrams: Each known n-gram with what it contributes, the strongest first; those of characters as ‹...›.
    """

    start: float
    characters: list[Values]
    rest: dict[str, float]
    ngrams: list[tuple[str, float]]


def contributions(expert: LinearExpert, texts: Sequence[str], coefficients: Values) -> Contributions:
    """Take a score apart.

    Args:
        expert: Whose scores make up the score.
        texts: One text, or the two of a pair.
        coefficients: [C] of the expert's scores. Those of classes sum to zero, so that what the softmax subtracts
            cancels.
    """
    # Of two classes there are the weights of the second alone.
    coefficients = coefficients[-expert.weights.shape[1] :]
    (entries,) = expert.vocabulary.entries([[text] for text in texts])
    effects = entries.values * (expert.weights.numpy()[entries.columns] @ coefficients)
    is_ngram = entries.columns < expert.num_ngrams
    rest: dict[str, float] = {}
    if len(texts) == 2:
        overlap_effects = effects[~is_ngram].reshape(len(_OVERLAPS), -1).sum(1)
        rest.update(zip(_OVERLAPS, overlap_effects.tolist(), strict=True))
    effect_of_ngram = np.zeros(expert.num_ngrams)
    effect_of_ngram[entries.columns[is_ngram]] = effects[is_ngram]
    occurrences = find_occurrences(texts, expert.vocabulary.words, expert.vocabulary.characters)
    hashes = np.concatenate([of_kind.hashes for of_text in occurrences for of_kind in of_text])
    indices = expert.vocabulary.find(hashes)
    # Over both texts of a pair: they share the contribution of an n-gram that both have.
    num_occurrences = np.bincount(indices[indices >= 0], minlength=expert.num_ngrams)
    characters: list[Values] = []
    names: dict[int, str] = {}
    in_spaces = 0.0
    for text, of_text in zip(texts, occurrences, strict=True):
        painter = _Painter(text)
        for of_kind, shown in zip(of_text, ("{}", "‹{}›"), strict=True):
            indices = expert.vocabulary.find(of_kind.hashes)
            known = np.flatnonzero(indices >= 0)
            indices, starts, ends = indices[known], of_kind.starts[known], of_kind.ends[known]
            in_spaces += painter.add(starts, ends, effect_of_ngram[indices] / num_occurrences[indices])
            distinct, first = np.unique(indices, return_index=True)
            for ngram, position in zip(distinct.tolist(), first, strict=True):
                names.setdefault(ngram, shown.format(text[starts[position] : ends[position]]))
        characters.append(painter.characters())
    if in_spaces:
        rest[_SPACES] = in_spaces
    ngrams = [(name, float(effect_of_ngram[ngram])) for ngram, name in names.items()]
    ngrams.sort(key=lambda ngram: -abs(ngram[1]))
    return Contributions(float(expert.bias.numpy() @ coefficients), characters, rest, ngrams)


class _Painter:
    """Divides values of spans of a text equally among their characters that are no white space."""

    def __init__(self, text: str) -> None:
        self._is_solid = np.array([not character.isspace() for character in text], bool)
        self._solid_before = np.concatenate([[0], np.cumsum(self._is_solid)])
        self._steps = np.zeros(len(text) + 1)  # from each character to the next

    def add(self, starts: Indices, ends: Indices, values: Values) -> float:
        """Add spans; return the sum of the values that no character can have."""
        covered = self._solid_before[ends] - self._solid_before[starts]
        each = np.where(covered > 0, values / np.maximum(covered, 1), 0.0)
        np.add.at(self._steps, starts, each)
        np.add.at(self._steps, ends, -each)
        return float(values[covered == 0].sum())

    def characters(self) -> Values:
        """Return the sums of all characters."""
        return np.where(self._is_solid, np.cumsum(self._steps)[:-1], 0.0)
