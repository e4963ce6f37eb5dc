"""The compiled kernels against torch in float64, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lx.kernels.attention import attention
from lx.kernels.binding import supports, supports_lookup
from lx.kernels.build import library
from lx.kernels.linear import gelu_feedforward, linear
from lx.kernels.rows import add_dropped, embedding, layer_norm

pytestmark = pytest.mark.skipif(library() is None, reason="takes AVX512-BF16 and a C compiler")

BF16 = 0.005  # rounding to 8 bits, once or twice
SUMS = 1e-6  # sums of exact products in float32


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def activations(*shape: int) -> Tensor:
    return torch.randn(*shape).bfloat16().requires_grad_()


def weights(*shape: int) -> Tensor:
    return (torch.randn(*shape) / shape[-1] ** 0.5).requires_grad_()


def doubles(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().double().requires_grad_() for tensor in tensors)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape and actual.isfinite().all()
    assert ((actual.double() - expected).norm() / expected.norm()).item() < tolerance


def assert_close(actual: Tensor, inputs: tuple[Tensor, ...], expected: Tensor, doubled: tuple[Tensor, ...]) -> None:
    """Outputs and the gradients of all inputs."""
    assert_near(actual, expected, BF16)
    gradient = torch.randn_like(actual)
    gradients = torch.autograd.grad(actual, inputs, gradient)
    expected_gradients = torch.autograd.grad(expected, doubled, gradient.double())
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert_near(one, other, BF16)


@pytest.mark.parametrize("width", [32, 96])
def test_embedding(width: int) -> None:
    """Ids that come often, once and never; padding learns nothing."""
    table = weights(50, width)
    (doubled,) = doubles((table,))
    ids = torch.randint(0, 40, (7, 33))
    ids[0, 0] = 49
    expected = 3.0 * F.embedding(ids, doubled, padding_idx=0)
    assert_close(embedding(ids, table, 3.0, 0), (table,), expected, (doubled,))
    (gradient,) = torch.autograd.grad(embedding(ids, table, 3.0, 0).sum(), table)
    assert not gradient[0].any() and not gradient[40:49].any() and (gradient[49] == 3.0).all()
    assert torch.equal(gradient[1], torch.full((width,), 3.0 * (ids == 1).sum()))


@pytest.mark.parametrize("wrong", [-1, 50])
def test_an_id_that_is_in_no_table_is_refused(wrong: int) -> None:
    with pytest.raises(IndexError, match=r"not in \[0, 50\)"):
        embedding(torch.tensor([[1, wrong]]), weights(50, 32), 1.0, 0)


# Rows, inputs and outputs with a remainder for each size of tile, panel and chunk.
@pytest.mark.parametrize("rows", [1, 5, 143, 1025])
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 32), (96, 160), (256, 224)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear(rows: int, inputs: int, outputs: int, with_bias: bool) -> None:
    tensors = (activations(3, rows, inputs), weights(outputs, inputs), *([weights(outputs)] if with_bias else []))
    doubled = doubles(tensors)
    assert supports(*tensors)
    actual = linear(*tensors, *([] if with_bias else [None]))
    assert_close(actual, tensors, F.linear(*doubled), doubled)


def test_gradients_of_weights_are_sums_in_float32() -> None:
    tensors = (activations(1500, 64), weights(96, 64), weights(96))
    doubled = doubles(tensors)
    gradient = torch.randn(1500, 96).bfloat16()
    ours = torch.autograd.grad(linear(*tensors), tensors[1:], gradient)
    theirs = torch.autograd.grad(F.linear(*doubled), doubled[1:], gradient.double())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert_near(one, other, SUMS)


@pytest.mark.parametrize("rows", [1, 143, 1030])
def test_gelu_feedforward(rows: int) -> None:
    tensors = (activations(rows, 64), weights(160, 64), weights(160), weights(64, 160), weights(64))
    doubled = doubles(tensors)
    x, weight1, bias1, weight2, bias2 = doubled
    expected = F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)
    assert_close(gelu_feedforward(*tensors), tensors, expected, doubled)


def test_gelu_from_end_to_end_of_its_range() -> None:
    """Through maps that change nothing: a weight of one, and no bias."""
    one, none = torch.eye(32), torch.zeros(32)
    x = torch.linspace(-12, 12, 32 * 1001).view(1001, 32).bfloat16().requires_grad_()
    y = gelu_feedforward(x, one, none, one, none)
    expected = F.gelu(x.detach().double())
    assert ((y.double() - expected).abs() <= 0.004 * expected.abs() + 2e-7).all()
    (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))
    doubled = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(F.gelu(doubled).sum(), doubled)
    assert ((slope.double() - expected).abs() <= 0.004 * expected.abs() + 2e-6).all()


@pytest.mark.parametrize(("rows", "dim"), [(1, 32), (300, 96), (129, 256)])
def test_layer_norm(rows: int, dim: int) -> None:
    tensors = (activations(rows, dim), weights(dim), weights(dim))
    doubled = doubles(tensors)
    expected = F.layer_norm(doubled[0], (dim,), *doubled[1:], eps=1e-3)
    assert_close(layer_norm(*tensors, 1e-3), tensors, expected, doubled)


@pytest.mark.parametrize("num_tokens", [1, 2, 16, 31, 33, 54, 64, 130])
@pytest.mark.parametrize(("num_heads", "width"), [(3, 32), (2, 64), (1, 96)])
@pytest.mark.parametrize("relative", [True, False])
def test_attention(num_tokens: int, num_heads: int, width: int, relative: bool) -> None:
    x = activations(4, num_tokens, 3 * num_heads * width)
    (doubled,) = doubles((x,))
    mask = torch.arange(num_tokens) < torch.tensor([1, num_tokens, (num_tokens + 1) // 2, 0])[:, None]
    bias = torch.where(mask, 0.0, -1e4)[:, None, None, :]
    if relative:
        bias = bias + torch.randn(num_heads, num_tokens, num_tokens)
    bias = bias.bfloat16()
    qkv, (query, key, value) = heads_of(x, num_heads), heads_of(doubled, num_heads)
    assert supports(qkv)
    weight = (query @ key.transpose(-2, -1) / width**0.5 + bias.double()).softmax(-1)
    assert_close(attention(qkv, bias, 0.0), (x,), weight @ value, (doubled,))


def test_attention_where_everything_is_bf16() -> None:
    """With ``bf16-true`` new tensors are bf16 by default, and sums in float32 would not fit into one."""
    qkv, bias = activations(3, 2, 4, 130, 32), torch.zeros(1, 1, 1, 130).bfloat16()
    expected = torch.autograd.grad(attention(qkv, bias, 0.0).sum(), qkv)
    torch.set_default_dtype(torch.bfloat16)
    try:
        actual = torch.autograd.grad(attention(qkv, bias, 0.0).sum(), qkv)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(actual[0], expected[0])


def heads_of(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)


def test_attention_drops_weights_and_their_gradients() -> None:
    """Values that are a unit matrix show which weights are kept; the same seed keeps the same ones."""
    shape = (3, 2, 3, 64, 64)
    seen, qkv = torch.randn(*shape).bfloat16(), activations(*shape)
    seen[2] = torch.eye(64)
    bias = torch.zeros(1, 1, 1, 64).bfloat16()
    torch.manual_seed(1)
    kept = (attention(seen, bias, 0.25) != 0).double()
    assert kept.mean().item() == pytest.approx(0.75, abs=0.01)
    torch.manual_seed(1)
    actual = attention(qkv, bias, 0.25)
    (doubled,) = doubles((qkv,))
    query, key, value = doubled
    expected = ((query @ key.transpose(-2, -1) / 8).softmax(-1) * kept / 0.75) @ value
    assert_close(actual, (qkv,), expected, (doubled,))


def test_add_dropped_scales_what_it_keeps_and_passes_gradients() -> None:
    x, y = activations(5, 7, 96), torch.ones(5, 7, 96).bfloat16().requires_grad_()
    assert torch.equal(add_dropped(x, y, 0.0), x + y)
    out = add_dropped(x, y, 0.25)
    kept = (out != x).double()
    assert kept.mean().item() == pytest.approx(0.75, abs=0.03)
    assert_near(out, x.detach().double() + kept * y.detach().double() / 0.75, BF16)
    gradient = torch.randn_like(out)
    dx, dy = torch.autograd.grad(out, (x, y), gradient)
    assert torch.equal(dx, gradient)
    assert_near(dy, kept * gradient.double() / 0.75, BF16)


def dropout_mask(count: int) -> Tensor:
    """Elements kept by a dropout of one half."""
    size = -(-count // 32) * 32
    return (add_dropped(None, torch.ones(size).bfloat16(), 0.5) != 0)[:count].float()


def test_elements_are_dropped_independently() -> None:
    kept = dropout_mask(100_003) - 0.5
    for shift in (1, 2, 3, 4, 8, 16, 32, 64):
        assert abs((kept[:-shift] * kept[shift:]).mean().item() * 4) < 0.02, shift


def test_dropout_masks_are_independent() -> None:
    masks = torch.stack([dropout_mask(100_003) * 2 - 1 for _ in range(12)])
    products = masks @ masks.T / masks.shape[1]
    assert (products - torch.eye(12)).abs().max() < 5 / 100_003**0.5
    triples = torch.einsum("an,bn,cn->abc", masks[:4], masks[4:8], masks[8:]) / masks.shape[1]
    assert triples.abs().max() < 5 / 100_003**0.5


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(probability: float) -> None:
    y = add_dropped(None, torch.ones(1009, 96).bfloat16(), probability)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.005)
    (value,) = y[kept].unique()
    assert value.item() == pytest.approx(1 / (1 - probability), rel=0.005)


def test_number_of_threads_changes_nothing() -> None:
    """To the last bit: random numbers and the order of all sums depend on the shapes alone."""

    def everything() -> list[Tensor]:
        torch.manual_seed(2)
        table, weight, bias = weights(300, 64), weights(192, 64), weights(192)
        x = embedding(torch.randint(0, 300, (40, 61)), table, 8.0, 0)
        maps = (weights(96, 64), weights(96), weights(64, 96), weights(64), weights(64), weights(64))
        heads = attention(heads_of(linear(x, weight, bias), 2), torch.zeros(1, 1, 1, 61).bfloat16(), 0.1)
        y = add_dropped(x, heads.transpose(1, 2).flatten(2), 0.1)
        out = layer_norm(gelu_feedforward(y, *maps[:4]), *maps[4:], 1e-5)
        return [out, *torch.autograd.grad(out, (table, weight, bias, *maps), torch.randn_like(out))]

    torch.set_num_threads(1)
    alone = everything()
    torch.set_num_threads(3)
    assert all(torch.equal(one, other) for one, other in zip(alone, everything(), strict=True))


def test_supported_inputs() -> None:
    x, weight = activations(3, 64), weights(32, 64)
    assert supports(x, weight, None)
    assert not supports(x.float(), weight)
    assert not supports(x, weight.bfloat16())
    assert not supports(x, weights(33, 64))
    assert not supports(activations(3, 48))
    assert not supports(activations(0, 64), weight)
    assert not supports(x.to("meta"), weight)
    assert supports_lookup(weight, torch.bfloat16)
    assert not supports_lookup(weight, torch.float32)
    assert not supports_lookup(weight.bfloat16(), torch.bfloat16)
    assert not supports_lookup(weights(32, 48), torch.bfloat16)
    assert not supports_lookup(weight.to("meta"), torch.bfloat16)
