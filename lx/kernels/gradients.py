"""Memory for the gradients of weights.

A caller may offer memory of its own for the next gradient of a weight, which then needs no copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

_offers: dict[int, Tensor] = {}


def offer(weight: Tensor, memory: Tensor | None) -> None:
    """Have the next gradient of a weight written into memory of the caller's; later ones are added to it elsewhere.

    Args:
        weight: float32 and contiguous; it must not move while the offer stands.
        memory: Of the same shape; None withdraws the offer.
    """
    if memory is None:
        _offers.pop(weight.data_ptr(), None)
    else:
        _offers[weight.data_ptr()] = memory


def empty_gradient(weight: Tensor) -> Tensor:
    """Memory for a gradient, to be overwritten."""
    memory = _offers.pop(weight.data_ptr(), None)
    # Autograd keeps a tensor that nothing else refers to as the gradient, without a copy: hence a view.
    return torch.empty_like(weight) if memory is None else memory.view_as(weight)
