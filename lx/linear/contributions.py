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

_OVERLAPS = ("words that both texts have", "letters that both texts have")
_SPACES = "white space"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """A score of the expert taken apart: ``start``, all characters and the rest add up to it.

    Attributes:
        start: Of a text without n-grams.
        characters: Of each text, what its characters contribute: an n-gram's contribution is divided equally among
            those that it covers, except white space.
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
        expert: Whose log-probabilities are scored.
        texts: One text, or the two of a pair.
        coefficients: [C] of the log-probabilities. They sum to zero, so that what the softmax subtracts cancels.
    """
    # Of two classes there are the weights of the second alone.
    coefficients = coefficients[-expert.weights.shape[1] :]
    (entries,) = expert.vocabulary.entries([[text] for text in texts])
    effects = entries.values * (expert.weights.numpy()[entries.columns] @ coefficients)
    is_ngram = entries.columns < expert.num_ngrams
    rest = {name: float(effect) for name, effect in zip(_OVERLAPS, effects[~is_ngram], strict=False)}
    effect_of_ngram = np.zeros(expert.num_ngrams)
    effect_of_ngram[entries.columns[is_ngram]] = effects[is_ngram]
    characters: list[Values] = []
    ngrams: list[tuple[str, float]] = []
    in_spaces = 0.0
    for number, text in enumerate(texts):
        painter = _Painter(text)
        bags = find_occurrences(text, number == 1, expert.vocabulary.words, expert.vocabulary.characters)
        for occurrences, shown in zip(bags, ("{}", "‹{}›"), strict=True):
            indices = expert.vocabulary.find(occurrences.hashes)
            known = np.flatnonzero(indices >= 0)
            indices, starts, ends = indices[known], occurrences.starts[known], occurrences.ends[known]
            distinct, first, which, counts = np.unique(
                indices, return_index=True, return_inverse=True, return_counts=True
            )
            in_spaces += painter.add(starts, ends, effect_of_ngram[indices] / counts[which])
            pieces = [shown.format(text[starts[index] : ends[index]]) for index in first]
            ngrams += zip(pieces, effect_of_ngram[distinct].tolist(), strict=True)
        characters.append(painter.characters())
    if in_spaces:
        rest[_SPACES] = in_spaces
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
