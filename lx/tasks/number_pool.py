"""How the number of an encoder, and that of an expert beside it, become one.

Axis legend: N examples, B examples of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lx.errors import LxError
from lx.tasks.calibration import PRICE, sort_examples


@dataclass(frozen=True)
class NumberPool:
    """A weighted mean of two predictions (Bates and Granger 1969).

    Attributes:
        encoder_share: Weight of the encoder's, from 0 to 1; the expert's has the rest.
    """

    encoder_share: float = 1.0

    def combine(self, numbers: Float[Tensor, "B 1"], expert: Float[Tensor, "B 1"] | None) -> Float[Tensor, "B 1"]:
        """Compute the mean of each example."""
        return numbers if expert is None else self.encoder_share * numbers + (1 - self.encoder_share) * expert

    @classmethod
    def fit(cls, scores: NDArray[np.float32], labels: NDArray[np.float32]) -> NumberPool:
        """Fit the share with the least squared errors.

        As with classes (:func:`lx.tasks.calibration.fit_weights`) the encoder's share has a price: a share of 1 must
        save four times the expert's mean squared error.

        Args:
            scores: [N, 2, 1]; an example with a number that is not finite is left out.
            labels: [N].
        """
        finite = np.isfinite(scores).all(axis=(1, 2))
        scores, labels = scores[finite], labels[finite]
        order = sort_examples(scores, labels)
        encoder, expert = scores[order, :, 0].astype(np.float64).T
        errors, difference = labels[order] - expert, encoder - expert
        price = PRICE * np.square(errors).sum() / max(len(errors), 1)
        # The cost of a share s, |errors - s * difference|^2 + price * s, is quadratic: least at gain / size.
        gain, size = float((errors * difference).sum()) - price / 2, float(np.square(difference).sum())
        return cls(float(min(max(gain / size, 0.0), 1.0)) if size else 0.0)

    @classmethod
    def from_choices(cls, choices: Any) -> NumberPool:
        """Read the share that a run directory, perhaps a stranger's, holds by name; 1 if there is none.

        Raises:
            LxError: Anything but a number from 0 to 1.
        """
        if not isinstance(choices, dict) or not all(
            name == "encoder_share" and isinstance(value, float) and 0 <= value <= 1 for name, value in choices.items()
        ):
            raise LxError(f"the share chosen for the encoder is damaged: {str(choices)[:80]}")
        return cls(**choices)
