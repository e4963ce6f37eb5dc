"""Linear maps.

Axis legend: K inputs, N outputs.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from lx.kernels import ops as native


class Linear(nn.Linear):
    """x Wᵀ + b, by a kernel of lx's own where there is one for this processor."""

    def forward(self, x: Float[Tensor, "*rows K"]) -> Float[Tensor, "*rows N"]:
        """Map the last axis."""
        if native.is_for(x, self.weight, self.bias):
            return native.linear(x, self.weight, self.bias)
        return super().forward(x)
