"""The attention weights of a network for one text, read where the network computes them.

Axis legend: H heads, Q queries (T, or 1), T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from lx.data.batches import NetInputs
from lx.nn.attention import MultiHeadAttention
from lx.nn.classifier import TransformerClassifier
from lx.nn.ensemble import members_of
from lx.nn.pooling import CLSPooling
from lx.nn.pretrained import PretrainedClassifier
from lx.report.explanation import AttentionLayer

_MOST_WEIGHTS = 500_000  # of all layers and heads together
_FEWEST_TOKENS = 8


@torch.no_grad()
def attention_layers(net: nn.Module, inputs: NetInputs) -> list[AttentionLayer]:
    """Return the weights of each layer for one text; none of a network that has none, or does not show them.

    Of a long text and a large network they are those among the first tokens.
    """
    members = members_of(net)
    recorded = [_record(member, inputs) for member in members]
    num_heads = sum(len(weights) for layers in recorded for weights in layers)
    limit = max(_FEWEST_TOKENS, isqrt(_MOST_WEIGHTS // max(1, num_heads)))
    num_tokens = inputs.token_ids.shape[1]
    return [
        AttentionLayer(
            f"layer {number}" if len(members) == 1 else f"network {member_number}, layer {number}",
            weights[:, :limit, :limit].float().numpy(),
            _single_query(member) if weights.shape[1] < num_tokens else None,
        )
        for member_number, (member, layers) in enumerate(zip(members, recorded, strict=True), start=1)
        for number, weights in enumerate(layers, start=1)
    ]


def _record(net: nn.Module, inputs: NetInputs) -> list[Tensor]:
    """Return the weights [H, Q, T] of each layer of a network."""
    layers: list[Tensor] = []
    is_pretrained = isinstance(net, PretrainedClassifier)
    with _recording_encoder(net, layers.append) if is_pretrained else _recording_modules(net, layers.append):
        net(*inputs)
    return layers


def _single_query(net: nn.Module) -> str:
    """Say which vector attends in a layer where one does."""
    is_first = isinstance(net, TransformerClassifier) and isinstance(net.pooling, CLSPooling)
    return "the first token" if is_first else "the average of all tokens"


@contextmanager
def _recording_modules(net: nn.Module, record: Callable[[Tensor], None]) -> Iterator[None]:
    """Hook the module in each of lx's attentions that computes the softmax."""
    attentions = [module for module in net.modules() if isinstance(module, MultiHeadAttention)]

    def hook(num_heads: int, module: nn.Module, arguments: Any, weights: Tensor) -> None:
        record(weights.reshape(num_heads, -1, weights.shape[-1]))  # of one text, its heads are the first axis

    handles = [attention.weigh.register_forward_hook(partial(hook, attention.num_heads)) for attention in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recording_encoder(net: Any, record: Callable[[Tensor], None]) -> Iterator[None]:
    """Ask an encoder of transformers for the weights, which it has where it computes them by the formula."""
    config = net.encoder.config
    implementation = config._attn_implementation
    try:
        net.encoder.set_attn_implementation("eager")
    except (AttributeError, ValueError):  # an encoder with an attention of its own
        yield
        return

    def hook(module: nn.Module, arguments: Any, output: Any) -> None:
        for weights in getattr(output, "attentions", None) or ():
            record(weights[0])

    handle = net.encoder.register_forward_hook(hook)
    config.output_attentions = True
    try:
        yield
    finally:
        handle.remove()
        config.output_attentions = False
        net.encoder.set_attn_implementation(implementation)
