"""Replace the layers of a network by kernel-backed subclasses."""

from __future__ import annotations

import torch
from torch import nn

from lx.kernels import layers
from lx.kernels.binding import available
from lx.nn.attention import MultiHeadAttention
from lx.nn.block import Residual
from lx.nn.dropout import Dropout
from lx.nn.embedding import ScaledEmbedding
from lx.nn.feedforward import GELUFeedForward
from lx.nn.norm import LayerNorm

KERNEL_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: layers.KernelLinear,
    LayerNorm: layers.KernelLayerNorm,
    GELUFeedForward: layers.KernelGELUFeedForward,
    MultiHeadAttention: layers.KernelMultiHeadAttention,
    ScaledEmbedding: layers.KernelScaledEmbedding,
    Dropout: layers.KernelDropout,
    Residual: layers.KernelResidual,
}


def swap_in_kernels(net: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Make the layers of a network compute with kernels, in place, if there are any for activations of this `dtype`.

    Only the class of a module changes, to a subclass: parameters, hooks and state-dict keys stay. Subclasses written
    by users are left alone, since their `forward` may differ. Call it before the network is compiled or sharded.
    """
    if available(device, dtype):
        for module in net.modules():
            module.__class__ = KERNEL_LAYERS.get(type(module), type(module))


def uses_kernels(net: nn.Module) -> bool:
    """Whether any layer of a network is backed by kernels."""
    return any(isinstance(module, tuple(KERNEL_LAYERS.values())) for module in net.modules())


def describe_arithmetic(precision: str, net: nn.Module) -> str:
    """Name the precision of a network, and the kernels if it uses them, for tables."""
    return f"{precision}, lx's kernels" if uses_kernels(net) else precision
