"""Position-wise feed-forward networks.

Axis legend: B batch, T tokens, D model width. `hidden_dim` is the width between the two maps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override


class FeedForward(nn.Module, ABC):
    """Two linear maps with an activation between them, which a subclass defines.

    Every feed-forward network has the same factory signature and names its last map `output`: the initialiser scales
    it, because its values are added to the residual stream.
    """

    output: nn.Linear

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Apply the same network to every token."""
        y: Tensor = self.output(self.activation(self.input(x)))
        return y

    @abstractmethod
    def activation(self, hidden: Tensor) -> Tensor:
        """Apply the nonlinearity."""


class ReLUFeedForward(FeedForward):
    """max(0, x W1 + b1) W2 + b2 (Vaswani et al. 2017, equation 2)."""

    @override
    def activation(self, hidden: Tensor) -> Tensor:
        return F.relu(hidden)


class GELUFeedForward(FeedForward):
    """gelu(x W1 + b1) W2 + b2 with gelu(z) = z Φ(z), exact (Hendrycks & Gimpel 2016)."""

    @override
    def activation(self, hidden: Tensor) -> Tensor:
        return F.gelu(hidden)


class SwiGLUFeedForward(nn.Module):
    """(SiLU(x W) ⊙ x V) W2, without biases (Shazeer 2020, equation 6).

    The three matrices are two thirds as wide (section 3), which gives as many parameters as the plain networks have.
    Unless it is tiny, the width is rounded to a multiple of 8, which suits matrix units.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        """Build the maps; `hidden_dim` is the width of the plain network that this one stands in for."""
        super().__init__()
        width = swiglu_width(hidden_dim)
        self.gate_and_value = nn.Linear(dim, 2 * width, bias=False)
        self.output = nn.Linear(width, dim, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Apply the same network to every token."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        y: Tensor = self.output(F.silu(gate) * value)
        return y


def swiglu_width(hidden_dim: int) -> int:
    """Two thirds of the plain width, to the nearest multiple of 8."""
    width = 2 * hidden_dim / 3
    return 8 * round(width / 8) if width >= 64 else max(1, round(width))
