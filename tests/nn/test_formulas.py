"""Layers against their papers' formulas, written out element by element in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lx.nn.attention import MASKED, MultiHeadAttention, attention_bias, scaled_dot_product_attention
from lx.nn.convolution import Convolution
from lx.nn.feedforward import GELUFeedForward, ReLUFeedForward, SwiGLUFeedForward
from lx.nn.norm import LayerNorm, RMSNorm
from lx.nn.pooling import (
    AttentionPooling,
    CLSPooling,
    MaxPooling,
    MeanMaxPooling,
    MeanPooling,
    MeanQueryPooling,
    QueryPooling,
)
from lx.nn.position import (
    NoPosition,
)

BATCH, TOKENS, HEADS, HEAD_DIM = 2, 5, 3, 7


LENGTHS = (5, 3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def lengths_mask() -> Tensor:
    return torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None]


def test_attention_follows_equation_one() -> None:
    query, key, value = (double(BATCH, HEADS, TOKENS, HEAD_DIM) for _ in range(3))
    relative = double(HEADS, TOKENS, TOKENS)
    bias = attention_bias(lengths_mask(), relative, torch.float64)
    actual = scaled_dot_product_attention(torch.stack([query, key, value]), bias)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(TOKENS):
                scores = [
                    sum(query[b, h, i, k] * key[b, h, j, k] for k in range(HEAD_DIM)).item() / math.sqrt(HEAD_DIM)
                    + relative[h, i, j].item()
                    for j in range(LENGTHS[b])
                ]
                total = sum(math.exp(score) for score in scores)
                expected = sum(math.exp(score) / total * value[b, h, j] for j, score in enumerate(scores))
                torch.testing.assert_close(actual[b, h, i], expected, rtol=1e-12, atol=1e-12)


def test_padding_gets_no_weight_in_any_dtype() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        bias = attention_bias(lengths_mask(), None, dtype)
        assert bias.shape == (BATCH, 1, 1, TOKENS) and bias.isfinite().all()
        assert (bias.softmax(-1)[1, 0, 0, LENGTHS[1] :] == 0).all()
    assert math.exp(MASKED) == 0


def test_attention_dropout_acts_on_the_weights() -> None:
    query = key = torch.zeros(1, 1, 64, HEAD_DIM)
    value = torch.ones(1, 1, 64, HEAD_DIM)
    bias = torch.zeros(1, 1, 1, 64)
    sums = scaled_dot_product_attention(torch.stack([query, key, value]), bias, 0.5)[0, 0]
    # Each output is a sum of 64 weights of 1/64, each of them zero or doubled: the same for all K features.
    assert (sums == sums[:, :1]).all() and len(sums.unique()) > 10
    torch.testing.assert_close(sums * 32, (sums * 32).round())


def test_attention_dropout_acts_on_the_weights_of_a_query_too() -> None:
    attention = MultiHeadAttention(2 * HEAD_DIM, 2, dropout=0.5)
    nn.init.eye_(attention.output.weight)
    nn.init.zeros_(attention.output.bias)
    shift = attention.qkv.bias[4 * HEAD_DIM :]  # of the values, which are nothing else here
    x, bias = torch.zeros(100, 64, 2 * HEAD_DIM), torch.zeros(1, 1, 1, 64).expand(100, -1, -1, -1)
    sums = attention(x, bias, NoPosition(2 * HEAD_DIM, 2), query=x[:, :1])[:, 0] / shift
    heads = sums.unflatten(1, (2, HEAD_DIM))
    torch.testing.assert_close(heads, heads[:, :, :1].expand_as(heads))
    torch.testing.assert_close(sums * 32, (sums * 32).round(), rtol=0, atol=1e-4)
    assert sums.mean().item() == pytest.approx(1, abs=0.05) and sums.std() > 0.05


def test_the_query_of_the_last_block() -> None:
    x, mask = double(BATCH, TOKENS, HEAD_DIM), lengths_mask()
    assert all(pooling(HEAD_DIM).last_query(x, mask) is None for pooling in (MeanPooling, MaxPooling, AttentionPooling))
    for b, length in enumerate(LENGTHS):
        for pooling, vector in ((CLSPooling, x[b, 0]), (MeanQueryPooling, sum(x[b, :length]) / length)):
            query = pooling(HEAD_DIM).last_query(x, mask)
            assert query.shape == (BATCH, 1, HEAD_DIM) and issubclass(pooling, QueryPooling)
            torch.testing.assert_close(query[b, 0], vector, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(pooling(HEAD_DIM)(query, mask)[b], vector, rtol=1e-12, atol=1e-12)


def test_layer_norm() -> None:
    norm = LayerNorm(7, eps=0.03).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = double(2, 3, 7)
    centred = x - x.sum(-1, keepdim=True) / 7
    expected = centred / ((centred**2).sum(-1, keepdim=True) / 7 + 0.03).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)


def test_rms_norm() -> None:
    norm = RMSNorm(7, eps=0.03).double()
    torch.nn.init.normal_(norm.weight)
    x = double(2, 3, 7)
    expected = x / ((x**2).sum(-1, keepdim=True) / 7 + 0.03).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    assert RMSNorm(7)(x.bfloat16()).dtype == torch.bfloat16


def normal_cdf(x: Tensor) -> Tensor:
    values = [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).view_as(x)


@pytest.mark.parametrize(
    ("layer", "activation"),
    [(ReLUFeedForward, lambda h: h * (h > 0)), (GELUFeedForward, lambda h: h * normal_cdf(h))],
)
def test_plain_feed_forward(layer: type, activation: object) -> None:
    net = layer(5, 11).double()
    x = double(2, 3, 5)
    hidden = activation(x @ net.input.weight.T + net.input.bias)
    expected = hidden @ net.output.weight.T + net.output.bias
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


def test_convolution() -> None:
    layer = Convolution(HEAD_DIM, 3, dropout=0.0).double()
    x, mask = double(BATCH, TOKENS, HEAD_DIM), lengths_mask()
    y = layer(x, mask)
    for b, length in enumerate(LENGTHS):
        before_and_after = [torch.zeros(HEAD_DIM).double(), *x[b, :length], torch.zeros(HEAD_DIM).double()]
        for t in range(length):
            hidden = layer.linear.weight @ torch.cat(before_and_after[t : t + 3]) + layer.linear.bias
            torch.testing.assert_close(y[b, t], x[b, t] + hidden * normal_cdf(hidden), rtol=1e-12, atol=1e-12)


def test_swiglu() -> None:
    net = SwiGLUFeedForward(5, 11).double()
    assert net.output.weight.shape == (5, 7)
    x = double(2, 3, 5)
    gate, value = x @ net.gate_and_value.weight[:7].T, x @ net.gate_and_value.weight[7:].T
    expected = (gate / (1 + (-gate).exp()) * value) @ net.output.weight.T
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [128, 256, 512, 768])
def test_swiglu_has_as_many_parameters_as_the_plain_network(dim: int) -> None:
    def count(layer: type) -> int:
        return sum(parameter.numel() for parameter in layer(dim, 4 * dim).parameters())

    assert count(SwiGLUFeedForward) == pytest.approx(count(GELUFeedForward), rel=0.01)
    assert SwiGLUFeedForward(dim, 4 * dim).output.in_features % 8 == 0


def test_poolings() -> None:
    x, mask = double(BATCH, TOKENS, HEAD_DIM), lengths_mask()
    attention = AttentionPooling(HEAD_DIM).double()
    for b, length in enumerate(LENGTHS):
        tokens = x[b, :length]
        hidden = (tokens @ attention.hidden.weight.T + attention.hidden.bias).tanh()
        weights = (hidden @ attention.query.weight[0]).exp()
        expected = {
            CLSPooling: tokens[0],
            MeanPooling: sum(tokens) / length,
            MaxPooling: torch.stack([max(column) for column in tokens.T]),
            MeanMaxPooling: torch.cat([sum(tokens) / length, torch.stack([max(column) for column in tokens.T])]),
            AttentionPooling: sum(w / weights.sum() * token for w, token in zip(weights, tokens, strict=True)),
        }
        for pooling, vector in expected.items():
            layer = attention if pooling is AttentionPooling else pooling(HEAD_DIM)
            torch.testing.assert_close(layer(x, mask)[b], vector, rtol=1e-12, atol=1e-12)
