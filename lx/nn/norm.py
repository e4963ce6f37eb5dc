"""Normalisation layers as factories: `norm(dim)`.

They compute in the dtype of their input, with sums in float32. Under autocast torch would otherwise convert to float32
and back at each residual connection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class LayerNorm(nn.LayerNorm):
    """Zero mean and unit variance over the features, with gain and bias (Ba et al. 2016)."""

    def __init__(self, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__(dim, eps=eps)

    @override
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + eps), with gain (Zhang & Sennrich 2019, equation 4)."""

    def __init__(self, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__(dim, eps=eps)

    @override
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
