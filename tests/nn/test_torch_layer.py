"""Blocks against torch's own encoder layer, by copied weights. Dimensions are distinct."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lx.nn.attention import attention_bias
from lx.nn.block import Block, PostNormBlock, PreNormBlock
from lx.nn.feedforward import GELUFeedForward, ReLUFeedForward
from lx.nn.norm import LayerNorm
from lx.nn.position import NoPosition

BATCH, TOKENS, HEADS, HEAD_DIM, HIDDEN = 3, 7, 5, 2, 13
DIM = HEADS * HEAD_DIM


def copy_weights(block: Block, layer: nn.TransformerEncoderLayer) -> None:
    pairs = {
        block.attention.qkv.weight: layer.self_attn.in_proj_weight,
        block.attention.qkv.bias: layer.self_attn.in_proj_bias,
        block.attention.output.weight: layer.self_attn.out_proj.weight,
        block.attention.output.bias: layer.self_attn.out_proj.bias,
        block.feedforward.input.weight: layer.linear1.weight,
        block.feedforward.input.bias: layer.linear1.bias,
        block.feedforward.output.weight: layer.linear2.weight,
        block.feedforward.output.bias: layer.linear2.bias,
        block.attention_norm.weight: layer.norm1.weight,
        block.attention_norm.bias: layer.norm1.bias,
        block.feedforward_norm.weight: layer.norm2.weight,
        block.feedforward_norm.bias: layer.norm2.bias,
    }
    assert len(pairs) == len(list(block.parameters())) == len(list(layer.parameters()))
    with torch.no_grad():
        for ours, theirs in pairs.items():
            ours.copy_(theirs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("block_class", [PreNormBlock, PostNormBlock])
def test_block_equals_torch_layer(
    block_class: type[Block], activation: str, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        DIM,
        HEADS,
        HIDDEN,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=block_class is PreNormBlock,
    ).to(dtype)
    for parameter in layer.parameters():  # torch's biases start at zero and its gains at one
        nn.init.normal_(parameter, std=0.5)
    feedforward = {"relu": ReLUFeedForward, "gelu": GELUFeedForward}[activation]
    block = block_class(DIM, HEADS, HIDDEN, 0.0, norm=LayerNorm, feedforward=feedforward).to(dtype)
    copy_weights(block, layer)

    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS], [4], [1]])
    ours = torch.randn(BATCH, TOKENS, DIM, dtype=dtype, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    expected = layer(theirs, src_key_padding_mask=~mask)
    actual = block(ours, attention_bias(mask, None, dtype), NoPosition(DIM, HEADS))
    torch.testing.assert_close(actual[mask], expected[mask], rtol=tolerance, atol=tolerance)

    direction = torch.randn(DIM, dtype=dtype)
    (actual[mask] @ direction).sum().backward()
    (expected[mask] @ direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(
        block.attention.qkv.weight.grad, layer.self_attn.in_proj_weight.grad, rtol=1e-5, atol=10 * tolerance
    )
