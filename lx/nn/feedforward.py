"""Position-wise feed-forward networks.

Axis legend: B batch, T tokens, D model width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lx.kernels import ops as native
from lx.nn.linear import Linear


class FeedForward(nn.Module, ABC):
    """Two linear maps with an activation between them; a subclass says which.

    Every feed-forward network has the same factory signature and calls its last map `output`: the initialiser
    scales it, because its values are added to the residual stream.
    """

    output: nn.Linear

    def __init__(self, dim: int, hidden_dim: int) -> None:
        """Build the maps.

        Args:
            dim: D.
            hidden_dim: Width between the two maps.
        """
        super().__init__()
        self.input = Linear(dim, hidden_dim)
        self.output = Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Apply the same network to every token."""
        y: Tensor = self.output(self.activation(self.input(x)))
        return y

    @abstractmethod
    def activation(self, hidden: Tensor) -> Tensor:
        """The nonlinearity."""


class ReLUFeedForward(FeedForward):
    """max(0, x W1 + b1) W2 + b2 (Vaswani et al. 2017, equation 2)."""

    def activation(self, hidden: Tensor) -> Tensor:
        """Rectified linear unit."""
        return F.relu(hidden)


class GELUFeedForward(FeedForward):
    """The same with x Φ(x) in the place of max(0, x) (Hendrycks & Gimpel 2016)."""

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Apply the same network to every token."""
        if native.is_for(x, self.input.weight, self.input.bias):
            weights = (self.input.weight, self.input.bias, self.output.weight, self.output.bias)
            return native.gelu_feedforward(x, *weights)
        return super().forward(x)

    def activation(self, hidden: Tensor) -> Tensor:
        """Gaussian error linear unit, exact."""
        return F.gelu(hidden)


class SwiGLUFeedForward(nn.Module):
    """(SiLU(x W) ⊙ x V) W2, without biases (Shazeer 2020, equation 6).

    Its three matrices are two thirds as wide (section 3), so that it has as many parameters as the plain
    networks; the width is rounded to a multiple of 8, which matrix units like, unless it is tiny.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        """Build the maps.

        Args:
            dim: D.
            hidden_dim: Width of the plain network that this one stands in for.
        """
        super().__init__()
        width = swiglu_width(hidden_dim)
        self.gate_and_value = Linear(dim, 2 * width, bias=False)
        self.output = Linear(width, dim, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Apply the same network to every token."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        y: Tensor = self.output(F.silu(gate) * value)
        return y


def swiglu_width(hidden_dim: int) -> int:
    """Two thirds of the plain width, to the nearest multiple of 8."""
    width = 2 * hidden_dim / 3
    return 8 * round(width / 8) if width >= 64 else max(1, round(width))
