"""Dropout (Srivastava et al. 2014)."""

from __future__ import annotations

from torch import nn

from lx.errors import ArgumentError


class Dropout(nn.Dropout):
    """Zero features with a probability in training and divide the others by what remains of one."""

    def __init__(self, p: int | float) -> None:
        """Raise ArgumentError unless the probability is in [0, 1)."""
        if not 0 <= p < 1:
            raise ArgumentError(f"dropout={p} must be at least 0 and below 1")
        super().__init__(p)
