"""Initial values of all weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lx.nn.block import Block
from lx.nn.embedding import ScaledEmbedding

STD = 0.02


@torch.no_grad()
def initialize(net: nn.Module) -> None:
    """Initialise every layer of a model, in place, from torch's global generator.

    Weights are drawn from a normal distribution truncated at two standard deviations:

    - Linear maps and embeddings have a standard deviation of 0.02 (Devlin et al. 2019; Radford et al. 2019); biases and
      the padding row are zero. This is small: at first a block adds little to the residual stream, and the model is
      close to one of averaged words. On a few thousand texts it generalises better than unit-variance maps. A word
      table has the standard deviation that it was given, if any.
    - Maps whose output is added to the residual stream are divided by sqrt(2 L), so that the sum over L blocks of two
      sub-layers each has the same size at any depth (Radford et al. 2019, section 2.3).

    Norms keep a gain of one and a bias of zero.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear):
            fill_normal(module.weight, STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            std = module.std if isinstance(module, ScaledEmbedding) else None
            fill_normal(module.weight, std or STD)
            if module.padding_idx is not None:
                module.weight[module.padding_idx] = 0.0
    blocks = [module for module in net.modules() if isinstance(module, Block)]
    for block in blocks:
        for name, weight in block.named_parameters():
            if name.endswith("output.weight"):
                weight.div_(math.sqrt(2 * len(blocks)))


def fill_normal(weight: Tensor, std: float) -> None:
    """Fill with normal values truncated at two standard deviations; `std` is that before truncation."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
