"""Position schemes behind one protocol: add to embeddings, rotate queries and keys, bias the scores.

Axis legend: B batch, T tokens, D model width, H heads, K head width.

Tables are computed in float64, kept in float32 and cast to the activations' dtype. They hold values in
[-1, 1] and not angles, so that a model converted to a short dtype can still tell positions apart.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lx.errors import LxError

INITIAL_TABLE_LENGTH = 512


class Position(nn.Module):
    """A scheme that does nothing; each of the others overrides one of the three hooks."""

    rotates: ClassVar[bool] = False
    """Whether it overrides `rotate`."""

    def add(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Mark positions in the embeddings."""
        return x

    def rotate(self, x: Float[Tensor, "*batch T K"]) -> Float[Tensor, "*batch T K"]:
        """Mark positions in the queries and keys of every layer."""
        return x

    def bias(self, num_tokens: int) -> Float[Tensor, "H T T"] | None:
        """Mark distances in the attention scores of every layer, by a term added to them."""
        return None


class NoPosition(Position):
    """Words as an unordered set: the ablation that shows what order is worth."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()


class SinusoidalPosition(Position):
    """Sines and cosines of geometrically spaced wavelengths (Vaswani et al. 2017, section 3.5)."""

    table: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", sinusoid_table(INITIAL_TABLE_LENGTH, dim), persistent=False)

    def add(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Add the table's first T rows."""
        num_tokens = x.shape[1]
        if num_tokens > len(self.table):
            self.table = sinusoid_table(grown(num_tokens), self.dim).to(self.table)
        return x + self.table[:num_tokens].to(x.dtype)


class LearnedPosition(Position):
    """One trained vector per position (Gehring et al. 2017; Devlin et al. 2019)."""

    def __init__(self, dim: int, num_heads: int, *, max_length: int) -> None:
        super().__init__()
        # The same scale as the words: see ScaledEmbedding.
        self.scale = math.sqrt(dim)
        self.table = nn.Embedding(max_length, dim)

    def add(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Add the first T vectors.

        Raises:
            LxError: The text has more tokens than there are positions.
        """
        num_tokens, max_length = x.shape[1], self.table.num_embeddings
        if num_tokens > max_length:
            raise LxError(
                f"a text has {num_tokens} tokens, but the model has learned positions for {max_length}: "
                f"lower data.max_length to {max_length}, raise model.position.max_length, "
                "or choose model/position=sinusoidal"
            )
        return x + self.scale * self.table.weight[:num_tokens]


class RotaryPosition(Position):
    """Queries and keys turned by angles proportional to the position (Su et al. 2021, equation 34).

    Feature i is paired with feature i + K / 2 instead of with its neighbour. That only renames features that
    are learned anyway, and keeps both halves contiguous.
    """

    rotates = True
    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        if self.head_dim % 2:
            raise LxError(
                f"model/position=rotary turns pairs of features, but model.dim={dim} over "
                f"model.num_heads={num_heads} leaves each head {self.head_dim}: choose an even quotient"
            )
        cos, sin = rotation_table(INITIAL_TABLE_LENGTH, self.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def rotate(self, x: Float[Tensor, "*batch T K"]) -> Float[Tensor, "*batch T K"]:
        """Rotate the vectors at position t by t times their pair's frequency."""
        num_tokens = x.shape[-2]
        if num_tokens > len(self.cos):
            cos, sin = rotation_table(grown(num_tokens), self.head_dim)
            self.cos, self.sin = cos.to(self.cos), sin.to(self.sin)
        return rotate_pairs(x, self.cos[:num_tokens].to(x.dtype), self.sin[:num_tokens].to(x.dtype))


class ALiBiPosition(Position):
    """Scores that fall with the distance (Press et al. 2022), symmetric since an encoder looks both ways."""

    slopes: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(num_heads), persistent=False)

    def bias(self, num_tokens: int) -> Float[Tensor, "H T T"]:
        """Minus slope times |i - j|."""
        positions = torch.arange(num_tokens, device=self.slopes.device)
        distance = (positions[:, None] - positions[None, :]).abs()
        return -self.slopes[:, None, None] * distance


def grown(num_tokens: int) -> int:
    """The next power of two: tables are rebuilt rarely."""
    return 1 << (num_tokens - 1).bit_length()


def angles(num_positions: int, dim: int) -> Float[Tensor, "T pairs"]:
    """Position times frequency, in float64; frequency i is 10000^(-2i / dim)."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies


def sinusoid_table(num_positions: int, dim: int) -> Float[Tensor, "T D"]:
    """Sines in the even columns, cosines in the odd ones; an odd width ends with a sine."""
    angle = angles(num_positions, dim)
    table = torch.empty(num_positions, dim, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : dim // 2].cos()
    return table.float()


def rotation_table(num_positions: int, head_dim: int) -> tuple[Float[Tensor, "T pairs"], Float[Tensor, "T pairs"]]:
    """Cosines and sines of the angles by which each pair of features turns."""
    angle = angles(num_positions, head_dim)
    return angle.cos().float(), angle.sin().float()


def rotate_pairs(
    x: Float[Tensor, "*batch T K"], cos: Float[Tensor, "T pairs"], sin: Float[Tensor, "T pairs"]
) -> Float[Tensor, "*batch T K"]:
    """Turn each pair (first, second) by its angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def alibi_slopes(num_heads: int) -> Float[Tensor, " H"]:
    """Slopes of Press et al. 2022, section 3; for numbers of heads other than powers of two, of its code.

    For a power of two they are 2^(-8/H), 2^(-16/H), ..., 2^-8. Otherwise those of the power of two below are
    followed by every second one of the power of two above.
    """
    power = 1 << (num_heads.bit_length() - 1)
    exponents = [8 * (i + 1) / power for i in range(power)]
    exponents += [8 * (2 * i + 1) / (2 * power) for i in range(num_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])
