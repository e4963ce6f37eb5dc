"""Dropout (Srivastava et al. 2014) that is fast on the CPU too."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lx.errors import LxError
from lx.kernels import ops as native

LEVELS = 1 << 16
TABLE = 1 << 24
"""Random numbers in each of two tables: 32 MiB."""
STRETCH = 1 << 23
"""The most numbers taken from a table in a row."""


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


class Residual(nn.Module):
    """The residual stream plus what a sub-layer adds to it, after dropout (Vaswani et al. 2017, section 5.4)."""

    def __init__(self, dropout: int | float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """The sum x + dropout(added)."""
        if native.is_for(added) and x.dtype == added.dtype:
            return native.add_dropped(x, added, self.dropout.probability if self.training else 0.0)
        y: Tensor = x + self.dropout(added)
        return y


def dropout(x: Tensor, probability: int | float) -> Tensor:
    """Zero each element with a probability in [0, 1) and divide the others by what remains of one.

    On a CPU torch draws the numbers of all elements one after another in a single thread, which costs as much as the
    rest of a small Transformer. There, 16 random bits decide about an element instead. The probability is rounded to
    a multiple of 2^-16, and the scale follows the rounded one, so that the expectation is exact.
    """
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    threshold = round(probability * LEVELS)
    if threshold == 0:
        return x
    if native.is_for(x):
        return native.add_dropped(None, x, probability)
    keep = random_int16(x.numel()).ge_(threshold - LEVELS // 2)  # in place: a new result would be booleans, and slower
    return x * _scaled(keep, LEVELS / (LEVELS - threshold), x.dtype).view(x.shape)


def random_int16(count: int) -> Tensor:
    """Uniform 16-bit integers on the CPU.

    Tabulation hashing (Carter & Wegman 1979, section 3): the exclusive or of a stretch of one table of random numbers
    with a stretch of another. Where the stretches begin is drawn from torch's global generator. Numbers of one stretch
    are independent, and so are any two stretches, unless they begin at the same distance from each other in both
    tables. It runs at the speed of memory, in all threads.
    """
    first, second = _tables()
    numbers = torch.empty(count, dtype=torch.int16)
    for part in torch.split(numbers, STRETCH):
        i, j = torch.randint(TABLE - STRETCH + 1, (2,)).tolist()
        torch.bitwise_xor(first[i : i + len(part)], second[j : j + len(part)], out=part)
    return numbers


@cache
def _tables() -> tuple[Tensor, Tensor]:
    generator = np.random.Generator(np.random.SFC64(0))
    words = generator.integers(np.iinfo(np.uint64).max, size=(2, TABLE // 4), dtype=np.uint64, endpoint=True)
    first, second = torch.from_numpy(words.view(np.int16))
    return first, second


def _scaled(ones: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """16-bit zeros and ones as floats, the ones multiplied."""
    if dtype.itemsize != ones.itemsize:
        return ones.to(dtype).mul_(scale)
    # The integer product of a one and the bits of a float are the bits of that float: nothing is converted.
    bits = int(torch.tensor(scale, dtype=dtype).view(torch.int16))
    return ones.mul_(bits).view(dtype)
