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
        start: The score of a text without n-grams.
        characters: For each text, the contributions of its characters [number of characters]. The contribution of an
            n-gram is divided equally among its occurrences, in both texts of a pair, and that of an occurrence equally
            among its characters except white space.
        rest: Contributions that belong to no character, by name: overlaps of a pair, and n-grams of white space alone.
        ngrams: Each known n-gram and its contribution, the largest in size first; n-grams of characters as ‹...›.
    """

    start: float
    characters: list[Values]
    rest: dict[str, float]
    ngrams: list[tuple[str, float]]


def contributions(expert: LinearExpert, texts: Sequence[str], coefficients: Values) -> Contributions:
    """Take a score apart.

    Args:
        expert: The expert whose scores are added up.
        texts: One text, or the two of a pair.
        coefficients: [C], the factor of each of the expert's scores. Those of classes sum to zero, so that the
            normalizing constant of the softmax cancels.
    """
    # With two classes the expert has weights for the second one alone.
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
    hashes = np.concatenate([bag.hashes for bags in occurrences for bag in bags])
    indices = expert.vocabulary.find(hashes)
    # Over both texts of a pair: they share the contribution of an n-gram that both have.
    num_occurrences = np.bincount(indices[indices >= 0], minlength=expert.num_ngrams)
    characters: list[Values] = []
    names: dict[int, str] = {}
    in_spaces = 0.0
    for text, bags in zip(texts, occurrences, strict=True):
        sums = _CharacterSums(text)
        for bag, template in zip(bags, ("{}", "‹{}›"), strict=True):
            indices = expert.vocabulary.find(bag.hashes)
            known = np.flatnonzero(indices >= 0)
            indices, starts, ends = indices[known], bag.starts[known], bag.ends[known]
            in_spaces += sums.add(starts, ends, effect_of_ngram[indices] / num_occurrences[indices])
            distinct, first = np.unique(indices, return_index=True)
            for ngram, position in zip(distinct.tolist(), first, strict=True):
                names.setdefault(ngram, template.format(text[starts[position] : ends[position]]))
        characters.append(sums.characters())
    if in_spaces:
        rest[_SPACES] = in_spaces
    ngrams = [(name, float(effect_of_ngram[ngram])) for ngram, name in names.items()]
    ngrams.sort(key=lambda ngram: -abs(ngram[1]))
    return Contributions(float(expert.bias.numpy() @ coefficients), characters, rest, ngrams)


class _CharacterSums:
    """Divides values of spans of a text equally among the characters of each span, except white space."""

    def __init__(self, text: str) -> None:
        self._is_solid = np.array([not character.isspace() for character in text], bool)
        self._solid_before = np.concatenate([[0], np.cumsum(self._is_solid)])
        self._steps = np.zeros(len(text) + 1)  # difference of each character's sum from that of the one before

    def add(self, starts: Indices, ends: Indices, values: Values) -> float:
        """Add a value for each span, from start to before end; return the sum of those of white space alone."""
        covered = self._solid_before[ends] - self._solid_before[starts]
        each = np.where(covered > 0, values / np.maximum(covered, 1), 0.0)
        np.add.at(self._steps, starts, each)
        np.add.at(self._steps, ends, -each)
        return float(values[covered == 0].sum())

    def characters(self) -> Values:
        """Return the sum of each character [number of characters]; 0 for white space."""
        return np.where(self._is_solid, np.cumsum(self._steps)[:-1], 0.0)
