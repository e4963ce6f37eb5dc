"""Dropout (Srivastava et al. 2014) that is fast on the CPU too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lx.errors import LxError

LEVELS = 1 << 16


class Dropout(nn.Module):
    """Zero features with a probability in training and scale up the others."""

    def __init__(self, probability: int | float) -> None:
        """Remember the probability.

        Raises:
            LxError: It is not in [0, 1).
        """
        super().__init__()
        if not 0 <= probability < 1:
            raise LxError(f"dropout={probability}: set model.dropout to a probability, at least 0 and below 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training, do nothing in evaluation."""
        return dropout(x, self.probability) if self.training else x


def dropout(x: Tensor, probability: int | float) -> Tensor:
    """Zero each element with a probability in [0, 1) and divide the others by what remains of one.

    torch draws a number for each element, one after another, which on a CPU costs as much as the rest of a
    small Transformer. There, 16 random bits decide about an element instead. The probability is rounded to a
    multiple of 2^-16, and the scale follows the rounded one, so that the expectation is exact.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, probability)
    threshold = round(probability * LEVELS)
    if threshold == 0:
        return x
    keep = random_int16(x.numel()).view(x.shape) >= threshold - LEVELS // 2
    return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - threshold))


def random_int16(count: int) -> Tensor:
    """Uniform 16-bit integers on the CPU from torch's global generator, four to each number that it draws."""
    words = torch.empty((count + 3) // 4, dtype=torch.int64)
    # Without these bounds the sign bits would stay zero.
    words.random_(torch.iinfo(torch.int64).min, None)
    return words.view(torch.int16)[:count]
