"""A whole network by kernels, in bf16, against the same network by torch, in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx.kernels import binding
from lx.kernels.build import library
from lx.kernels.swap import describe_arithmetic, swap_in_kernels, uses_kernels
from lx.nn.block import PostNormBlock, PreNormBlock
from lx.nn.classifier import TransformerClassifier
from lx.nn.feedforward import GELUFeedForward, SwiGLUFeedForward
from lx.nn.norm import LayerNorm, RMSNorm
from lx.nn.pooling import AttentionPooling, MeanMaxPooling, MeanPooling, MeanQueryPooling
from lx.nn.position import ALiBiPosition, RotaryPosition, SinusoidalPosition

pytestmark = pytest.mark.skipif(library() is None, reason="takes AVX512-BF16 and a C compiler")


CPU = torch.device("cpu")


def network(**parts: Any) -> TransformerClassifier:
    torch.manual_seed(0)
    usual: dict[str, Any] = {
        **{"position": SinusoidalPosition, "norm": LayerNorm, "feedforward": GELUFeedForward, "block": PreNormBlock},
        **{"pooling": MeanPooling, "embedding_dim": None, "vectors": None, "freeze_vectors": False},
    }
    sizes: dict[str, Any] = {
        "vocab_size": 97,
        "num_outputs": 5,
        "dim": 64,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_multiple": 4,
    }
    net = TransformerClassifier(**{**sizes, **usual, "dropout": 0.0, "token_dropout": 0.0, **parts})
    for parameter in net.parameters():  # far enough from where training begins that every part matters
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.1)
    return net


def outcome(net: nn.Module, autocast: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients for texts of 1, 20 and 37 tokens."""
    torch.manual_seed(1)
    token_ids = torch.randint(4, 97, (3, 37))
    mask = torch.arange(37) < torch.tensor([1, 20, 37])[:, None]
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = net(token_ids, mask).float()
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 2])).backward()
    return logits.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("parts", "kernels"),
    [
        ({}, {"lx_linear": 4, "lx_attention": 2, "lx_feedforward": 2, "lx_layer_norm": 5, "lx_add_dropped": 4}),
        ({"block": PostNormBlock, "position": ALiBiPosition}, {"lx_attention": 2, "lx_layer_norm": 4}),
        ({"position": RotaryPosition, "norm": RMSNorm}, {"lx_linear": 4, "lx_attention": 2, "lx_layer_norm": 0}),
        ({"pooling": MeanQueryPooling}, {"lx_linear": 3, "lx_attention": 1, "lx_feedforward": 2, "lx_layer_norm": 6}),
        ({"conv_width": 3}, {"lx_linear": 5, "lx_attention": 2, "lx_add_dropped": 5}),
        ({"feedforward": partial(SwiGLUFeedForward)}, {"lx_linear": 4, "lx_feedforward": 0}),
    ],
)
def test_logits_and_gradients(
    parts: dict[str, Callable[..., nn.Module]], kernels: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(**parts)
    expected, expected_gradients = outcome(net, autocast=False)
    called: Counter[str] = Counter()
    call = binding.call
    monkeypatch.setattr(binding, "call", lambda name, *arguments: (called.update([name]), call(name, *arguments)))
    outcome(net, autocast=True)
    assert not called
    swap_in_kernels(net, CPU, torch.bfloat16)
    logits, gradients = outcome(net, autocast=True)
    assert {name: called[name] for name in kernels} == kernels
    assert (logits - expected).norm() < 0.02 * expected.norm()
    assert gradients.keys() == expected_gradients.keys()
    # The bias of the keys moves all scores of a query alike: its gradient is rounding and nothing else.
    for name, gradient in gradients.items():
        error, size = (gradient - expected_gradients[name]).norm(), expected_gradients[name].norm()
        assert error < 0.05 * size + 1e-4, name


def test_logits_of_a_maximum() -> None:
    """Without its gradient: rounding moves that from one token to another."""
    net = network(pooling=MeanMaxPooling)
    expected, _ = outcome(net, autocast=False)
    swap_in_kernels(net, CPU, torch.bfloat16)
    assert (outcome(net, autocast=True)[0] - expected).norm() < 0.02 * expected.norm()


def test_only_classes_change() -> None:
    net = network(pooling=AttentionPooling)
    names, modules, weights = list(net.state_dict()), list(net.modules()), list(net.parameters())
    assert not uses_kernels(net)
    for _ in range(2):  # once more changes nothing
        swap_in_kernels(net, CPU, torch.bfloat16)
        assert uses_kernels(net)
        assert list(net.state_dict()) == names
        assert all(one is other for one, other in zip(net.modules(), modules, strict=True))
        assert all(one is other for one, other in zip(net.parameters(), weights, strict=True))
    assert describe_arithmetic("bf16-mixed", net) == "bf16-mixed, lx's kernels"


def test_nothing_changes_without_kernels_for_the_activations() -> None:
    net = network()
    swap_in_kernels(net, CPU, torch.float32)
    swap_in_kernels(net, torch.device("meta"), torch.bfloat16)
    assert not uses_kernels(net)
    assert describe_arithmetic("32-true", net) == "32-true"


def test_a_users_subclass_keeps_its_forward() -> None:
    class DoubledNorm(LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    net = network(norm=DoubledNorm)
    swap_in_kernels(net, CPU, torch.bfloat16)
    assert type(net.encoder.norm) is DoubledNorm


def test_unsupported_inputs_give_what_the_plain_layers_give() -> None:
    """In float32, and in bf16 with widths that are no multiples of 32: to the last bit, the same random numbers."""
    for sizes, autocast in (({}, False), ({"dim": 48, "num_heads": 2}, True)):
        net = network(dropout=0.1, **sizes)
        torch.manual_seed(5)
        expected, expected_gradients = outcome(net, autocast)
        swap_in_kernels(net, CPU, torch.bfloat16)
        torch.manual_seed(5)
        logits, gradients = outcome(net, autocast)
        assert torch.equal(logits, expected)
        assert all(torch.equal(gradient, expected_gradients[name]) for name, gradient in gradients.items())


def test_dropout_acts_in_training_only() -> None:
    net = network(dropout=0.25)
    swap_in_kernels(net, CPU, torch.bfloat16)
    token_ids, mask = torch.randint(4, 97, (3, 37)), torch.ones(3, 37, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(net(token_ids, mask), net(token_ids, mask))
        net.eval()
        assert torch.equal(net(token_ids, mask), net(token_ids, mask))
