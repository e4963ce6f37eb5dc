"""The settings of the linear expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lx.errors import ArgumentError
from lx.linear.features import is_chinese
from lx.linear.ngrams import LONGEST_NGRAM, Orders, are_orders

if TYPE_CHECKING:
    from lx.linear.targets import Kind

C_OF_SVM = (0.01, 0.03, 0.1, 0.3)
C_OF_RIDGE = (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class ExpertSettings:
    """What ``conf/model/expert/linear.yaml`` says; see there."""

    words: Sequence[int] | str
    characters: Sequence[int] | str
    min_count: int
    max_ngrams: int
    C: float | str
    refit: bool = True

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: Names the first one that does not fit.
        """
        for name in ("words", "characters"):
            orders = getattr(self, name)
            if orders != "auto" and not are_orders(orders):
                raise ArgumentError(
                    f"{name}={orders} must be auto, or the lengths of the shortest and the longest n-gram, from 1 to "
                    f"{LONGEST_NGRAM} such as [1, 2]; [0, 0] for none"
                )
        if self.words == self.characters == [0, 0]:
            raise ArgumentError("words=[0, 0] and characters=[0, 0] leave no n-grams")
        for name in ("min_count", "max_ngrams"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} must be at least 1")
        if self.C != "auto" and not (isinstance(self.C, int | float) and 0 < self.C < float("inf")):
            raise ArgumentError(f"C={self.C} must be auto or a number above 0")

    def orders(self, texts: Sequence[str]) -> tuple[Orders, Orders]:
        """Return the lengths of the n-grams of words and of characters for such texts."""
        chinese = is_chinese(texts)  # which has no spaces between words
        words = ((0, 0) if chinese else (1, 2)) if isinstance(self.words, str) else self.words
        characters = ((1, 4) if chinese else (2, 5)) if isinstance(self.characters, str) else self.characters
        return (words[0], words[1]), (characters[0], characters[1])

    def candidates(self, kind: Kind) -> Sequence[float]:
        """Return the values that C is chosen from."""
        if isinstance(self.C, str):
            return C_OF_RIDGE if kind == "number" else C_OF_SVM
        return (self.C,)
