"""Position schemes behind one protocol: add to embeddings, rotate queries and keys, bias the scores.

Axis legend: B batch, T tokens, D model width, H heads, K head width.

Tables are computed in float64, kept in float32 and cast to the dtype of the activations. They hold values in [-1, 1]
instead of angles, so that a model converted to bf16 still distinguishes positions.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from lx.errors import ArgumentError, LxError

INITIAL_TABLE_LENGTH = 512


class Position(nn.Module):
    """A scheme whose three hooks do nothing; every other scheme overrides one of them."""

    rotates: ClassVar[bool] = False
    """Whether the scheme overrides `rotate`."""

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
    """No positions: texts are unordered sets of words, to measure what order is worth."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()


class SinusoidalPosition(Position):
    """Sines and cosines of geometrically spaced wavelengths (Vaswani et al. 2017, section 3.5)."""

    table: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", sinusoid_table(INITIAL_TABLE_LENGTH, dim), persistent=False)

    @override
    def add(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        num_tokens = x.shape[1]
        if num_tokens > len(self.table):
            self.table = sinusoid_table(grown_length(num_tokens), self.dim).to(self.table)
        return x + self.table[:num_tokens].to(x.dtype)


class LearnedPosition(Position):
    """One trained vector per position (Gehring et al. 2017; Devlin et al. 2019)."""

    def __init__(self, dim: int, num_heads: int, *, max_length: int) -> None:
        super().__init__()
        # The same scale as that of the words: see ScaledEmbedding.
        self.scale = math.sqrt(dim)
        self.table = nn.Embedding(max_length, dim)

    @override
    def add(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Add the first T vectors; raise LxError if there are more tokens than positions."""
        num_tokens, max_length = x.shape[1], self.table.num_embeddings
        if num_tokens > max_length:
            raise LxError(
                f"a text has {num_tokens} tokens, but the model has learned positions for {max_length}: "
                f"truncate texts to {max_length} tokens, or train with a larger max_length of the positions"
            )
        return x + self.scale * self.table.weight[:num_tokens]


class RotaryPosition(Position):
    """Queries and keys rotated by angles proportional to the position (Su et al. 2021, equation 34).

    Feature i is paired with feature i + K / 2 instead of its neighbour. That only renames learned features, and keeps
    both halves contiguous.
    """

    rotates = True
    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        if self.head_dim % 2:
            raise ArgumentError(
                f"dim={dim} over num_heads={num_heads} leaves each head {self.head_dim} features, but rotary positions "
                "rotate pairs of them: choose an even quotient"
            )
        cos, sin = rotation_table(INITIAL_TABLE_LENGTH, self.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @override
    def rotate(self, x: Float[Tensor, "*batch T K"]) -> Float[Tensor, "*batch T K"]:
        """Rotate each pair of features at position t by t times the frequency of the pair."""
        num_tokens = x.shape[-2]
        if num_tokens > len(self.cos):
            cos, sin = rotation_table(grown_length(num_tokens), self.head_dim)
            self.cos, self.sin = cos.to(self.cos), sin.to(self.sin)
        return rotate_pairs(x, self.cos[:num_tokens].to(x.dtype), self.sin[:num_tokens].to(x.dtype))


class ALiBiPosition(Position):
    """Scores that decrease with distance (Press et al. 2022), in both directions since an encoder attends to both."""

    slopes: Tensor

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(num_heads), persistent=False)

    @override
    def bias(self, num_tokens: int) -> Float[Tensor, "H T T"]:
        """Return -slope * |i - j|."""
        positions = torch.arange(num_tokens, device=self.slopes.device)
        distance = (positions[:, None] - positions[None, :]).abs()
        return -self.slopes[:, None, None] * distance


def grown_length(num_tokens: int) -> int:
    """Round up to a power of two, so that tables are rebuilt rarely."""
    return 1 << (num_tokens - 1).bit_length()


def angles(num_positions: int, dim: int) -> Float[Tensor, "T pairs"]:
    """Multiply positions by frequencies 10000^(-2i / dim), in float64."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies


def sinusoid_table(num_positions: int, dim: int) -> Float[Tensor, "T D"]:
    """Build the table of sines in even columns and cosines in odd ones; an odd width ends with a sine."""
    angle = angles(num_positions, dim)
    table = torch.empty(num_positions, dim, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : dim // 2].cos()
    return table.float()


def rotation_table(num_positions: int, head_dim: int) -> tuple[Float[Tensor, "T pairs"], Float[Tensor, "T pairs"]]:
    """Build the tables of cosines and sines of the angles that pairs of features are rotated by."""
    angle = angles(num_positions, head_dim)
    return angle.cos().float(), angle.sin().float()


def rotate_pairs(
    x: Float[Tensor, "*batch T K"], cos: Float[Tensor, "T pairs"], sin: Float[Tensor, "T pairs"]
) -> Float[Tensor, "*batch T K"]:
    """Rotate each pair (first, second) by its angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def alibi_slopes(num_heads: int) -> Float[Tensor, " H"]:
    """Return the slopes of Press et al. 2022, section 3, and of its code where H is no power of two.

    For a power of two they are 2^(-8/H), 2^(-16/H), ..., 2^-8. Otherwise those of the power of two below are followed
    by every second one of the power of two above.
    """
    power = 1 << (num_heads.bit_length() - 1)
    exponents = [8 * (i + 1) / power for i in range(power)]
    exponents += [8 * (2 * i + 1) / (2 * power) for i in range(num_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])
