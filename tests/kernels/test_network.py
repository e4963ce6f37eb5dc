"""A whole network by kernels, in bf16, against the same network by torch, in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx.kernels import ops
from lx.kernels.build import library
from lx.nn.block import PostNormBlock, PreNormBlock
from lx.nn.classifier import TransformerClassifier
from lx.nn.feedforward import GELUFeedForward, SwiGLUFeedForward
from lx.nn.norm import LayerNorm, RMSNorm
from lx.nn.pooling import MeanPooling, MeanQueryPooling
from lx.nn.position import ALiBiPosition, RotaryPosition, SinusoidalPosition

pytestmark = pytest.mark.skipif(library() is None, reason="takes AVX512-BF16 and a C compiler")


def network(**parts: Any) -> TransformerClassifier:
    torch.manual_seed(0)
    usual: dict[str, Any] = {
        **{"position": SinusoidalPosition, "norm": LayerNorm, "feedforward": GELUFeedForward, "block": PreNormBlock},
        **{"pooling": MeanPooling, "embedding_dim": None, "vectors": None, "freeze_vectors": False},
    }
    sizes = {"vocab_size": 97, "num_outputs": 5, "dim": 64, "num_layers": 2, "num_heads": 2, "hidden_multiple": 4}
    net = TransformerClassifier(**sizes, dropout=0.0, token_dropout=0.0, **{**usual, **parts})
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
        ({"feedforward": partial(SwiGLUFeedForward)}, {"lx_linear": 4, "lx_feedforward": 0}),
    ],
)
def test_logits_and_gradients(
    parts: dict[str, Callable[..., nn.Module]], kernels: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(**parts)
    expected, expected_gradients = outcome(net, autocast=False)
    called: Counter[str] = Counter()
    call = ops._call
    monkeypatch.setattr(ops, "_call", lambda name, *arguments: (called.update([name]), call(name, *arguments)))
    logits, gradients = outcome(net, autocast=True)
    assert {name: called[name] for name in kernels} == kernels
    assert (logits - expected).norm() < 0.02 * expected.norm()
    assert gradients.keys() == expected_gradients.keys()
    # The bias of the keys moves all scores of a query alike: its gradient is rounding and nothing else.
    for name, gradient in gradients.items():
        error, size = (gradient - expected_gradients[name]).norm(), expected_gradients[name].norm()
        assert error < 0.05 * size + 1e-4, name
