from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lx.nn.attention import MultiHeadAttention
from lx.nn.bag import BagClassifier
from lx.nn.classifier import TransformerClassifier
from lx.nn.feedforward import SwiGLUFeedForward
from lx.nn.init import STD, fill_normal
from lx.nn.norm import RMSNorm
from lx.nn.position import LearnedPosition

TRUNCATED = 0.8796  # standard deviation of a standard normal distribution cut at two
NUM_LAYERS = 3


def check(weight: torch.Tensor, std: float) -> None:
    assert weight.std().item() == pytest.approx(TRUNCATED * std, rel=0.05)
    assert weight.mean().abs().item() < 0.1 * std
    assert weight.abs().max().item() <= 2 * std * (1 + 1e-6)


def test_every_layer_has_its_statistics(build: Callable[..., TransformerClassifier]) -> None:
    net = build(
        vocab_size=503,
        dim=48,
        embedding_dim=40,
        num_layers=NUM_LAYERS,
        position=lambda dim, num_heads: LearnedPosition(dim, num_heads, max_length=64),
        feedforward=SwiGLUFeedForward,
        norm=RMSNorm,
        num_outputs=64,
    )
    seen = 0
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            seen += 1
            residual = math.sqrt(2 * NUM_LAYERS) if name.endswith("output") else 1.0
            check(module.weight, STD / residual)
            assert module.bias is None or (module.bias == 0).all()
        elif isinstance(module, nn.Embedding):
            seen += 1
            if module.num_embeddings > 2:
                check(module.weight[1:], STD)
        elif isinstance(module, nn.RMSNorm):
            seen += 1
            assert (module.weight == 1).all()
    assert seen == NUM_LAYERS * (4 + 2) + 1 + 1 + 1 + 3  # blocks, final norm, projection, head, tables
    assert (net.word_embedding.weight[0] == 0).all()


def test_residual_outputs_shrink_with_depth(build: Callable[..., TransformerClassifier]) -> None:
    for num_layers in (1, 7):
        net = build(dim=48, num_layers=num_layers)
        for block in net.encoder.blocks:
            check(block.attention.output.weight, STD / math.sqrt(2 * num_layers))
            check(block.feedforward.output.weight, STD / math.sqrt(2 * num_layers))


def test_activations_keep_their_size_at_any_depth(build: Callable[..., TransformerClassifier]) -> None:
    token_ids = torch.randint(4, 503, (7, 31))
    sizes = []
    for num_layers in (1, 12):
        net = build(vocab_size=503, dim=96, num_layers=num_layers).eval()
        net.encoder.norm = nn.Identity()
        sizes.append(net.encoder(token_ids, token_ids > 0).square().mean().sqrt().item())
    assert 0.5 < sizes[0] < 1.0
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_words_have_the_deviation_that_is_given(build: Callable[..., TransformerClassifier]) -> None:
    net = build(vocab_size=503, dim=48, num_outputs=64, embedding_std=0.3)
    check(net.word_embedding.weight[1:], 0.3)
    check(net.head.weight, STD)
    assert (net.word_embedding.weight[0] == 0).all()
    torch.testing.assert_close(net.word_embedding(torch.tensor([7])), net.word_embedding.weight[7:8])


def test_the_global_generator_decides(build: Callable[..., TransformerClassifier]) -> None:
    one, other = build(), build()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    torch.manual_seed(5)
    attention = MultiHeadAttention(12, 3)
    fill_normal(attention.qkv.weight, 0.1)
    torch.manual_seed(6)
    before = attention.qkv.weight.clone()
    fill_normal(attention.qkv.weight, 0.1)
    assert not torch.equal(before, attention.qkv.weight)


def test_bag_uses_the_same_initialiser() -> None:
    net = BagClassifier(
        vocab_size=211,
        num_outputs=64,
        dim=31,
        num_buckets=97,
        dropout=0.0,
        vectors=None,
        freeze_vectors=False,
    )
    check(net.word_embedding.weight[1:], STD)
    check(net.bigram_embedding.weight[1:], STD)
    check(net.head.weight, STD)
    assert (net.word_embedding.weight[0] == 0).all() and (net.bigram_embedding.weight[0] == 0).all()
