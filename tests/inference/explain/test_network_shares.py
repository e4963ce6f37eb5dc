"""Integrated gradients and attention weights of networks of every kind, against what they must add up to."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx.data.batches import NetInputs
from lx.inference.explain.attention import attention_layers
from lx.inference.explain.bag import bag_shares
from lx.inference.explain.gradients import integrated_gradients
from lx.nn.attention import MultiHeadAttention
from lx.nn.bag import BagClassifier
from lx.nn.block import PostNormBlock, PreNormBlock
from lx.nn.classifier import TransformerClassifier
from lx.nn.ensemble import Ensemble
from lx.nn.feedforward import GELUFeedForward
from lx.nn.norm import LayerNorm
from lx.nn.pooling import AttentionPooling, CLSPooling, MaxPooling, MeanMaxPooling, MeanQueryPooling, Pooling
from lx.nn.position import ALiBiPosition, LearnedPosition, NoPosition, RotaryPosition, SinusoidalPosition

pytest.importorskip("captum")
TOKENS, HEADS, LAYERS = 7, 3, 2
POSITIONS = (NoPosition, SinusoidalPosition, partial(LearnedPosition, max_length=9), RotaryPosition, ALiBiPosition)
POOLINGS = (CLSPooling, MeanQueryPooling, MaxPooling, MeanMaxPooling, AttentionPooling)
WEIGHTS = torch.tensor([1.0, -0.5, -0.25, 0.0, -0.25])


def build(position: Any = NoPosition, pooling: type[Pooling] = MeanMaxPooling, **options: Any) -> TransformerClassifier:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"embedding_dim": None, "block": PreNormBlock, "num_layers": LAYERS}
    return TransformerClassifier(
        **{"vocab_size": 29, "num_outputs": 5, "num_token_types": 2, "dim": 12, "num_heads": HEADS},
        **{"hidden_multiple": 2, "dropout": 0.1, "token_dropout": 0.1, "vectors": None, "freeze_vectors": False},
        **{"position": position, "norm": LayerNorm, "feedforward": GELUFeedForward, "pooling": pooling},
        **{**defaults, **options},
    ).eval()


def text() -> tuple[NetInputs, Tensor]:
    ids = torch.tensor([[2, 9, 17, 1, 9, 23, 3]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
    return NetInputs(ids, torch.ones(1, TOKENS, dtype=torch.bool), types), (ids[0] != 2) & (ids[0] != 3)


@pytest.mark.parametrize(("position", "pooling"), [*zip(POSITIONS, POOLINGS, strict=True)])
def test_the_shares_of_words_add_up_to_the_score(position: Any, pooling: type[Pooling]) -> None:
    net = build(position, pooling, conv_width=3)
    inputs, is_word = text()
    found = integrated_gradients(net, [net.word_embedding], inputs, is_word, 0, WEIGHTS)
    blank = inputs._replace(token_ids=inputs.token_ids.masked_fill(is_word, 0))
    with torch.no_grad():
        assert found.score == pytest.approx((net(*inputs)[0] @ WEIGHTS).item(), abs=1e-5)
        assert found.baseline == pytest.approx((net(*blank)[0] @ WEIGHTS).item(), abs=1e-5)
    assert found.error < 0.01
    assert found.shares.sum().item() == pytest.approx(found.score - found.baseline, rel=0.01)
    assert (found.shares[~is_word] == 0).all() and (found.shares[is_word] != 0).all()


class Cubic(nn.Module):
    """A score whose integral is known: the cube of the sum of the word vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(29, 1, padding_idx=0)

    def forward(self, token_ids: Tensor, mask: Tensor, token_types: Tensor) -> Tensor:
        return self.word_embedding(token_ids).sum(1) ** 3


def test_integrated_gradients_of_a_cube() -> None:
    net = Cubic()
    inputs, is_word = text()
    with torch.no_grad():
        net.word_embedding.weight[2:4] = 0  # special tokens, which are no part of the path
    found = integrated_gradients(net, [net.word_embedding], inputs, is_word, 0, torch.ones(1))
    vectors = net.word_embedding(inputs.token_ids)[0, :, 0].double()
    torch.testing.assert_close(found.shares, (vectors * vectors.sum() ** 2).detach(), rtol=1e-4, atol=1e-5)
    assert found.steps == 32


class Steep(Cubic):
    """A score that changes at one point of the path alone, almost in a jump."""

    def forward(self, token_ids: Tensor, mask: Tensor, token_types: Tensor) -> Tensor:
        return torch.sigmoid(4000 * (self.word_embedding(token_ids).sum(1) - 0.3))


def test_steps_gather_where_the_score_jumps() -> None:
    net = Steep()
    with torch.no_grad():
        net.word_embedding.weight[1:] = 0.2
        net.word_embedding.weight[2:4] = 0
    inputs, is_word = text()
    found = integrated_gradients(net, [net.word_embedding], inputs, is_word, 0, torch.ones(1))
    assert found.error < 0.01
    assert 100 < found.steps < 1000
    torch.testing.assert_close(found.shares[is_word], torch.full((5,), 0.2).double(), rtol=0.02, atol=0)


def test_a_bag_is_divided_exactly() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 29, "num_outputs": 5, "dim": 6, "num_buckets": 50}
    net = BagClassifier(**sizes, dropout=0.1, vectors=None, freeze_vectors=False).eval()
    inputs, is_word = text()
    found = bag_shares([net], inputs, WEIGHTS)
    assert found.error < 1e-4
    assert found.score == pytest.approx((net(*inputs)[0] @ WEIGHTS).item())
    assert (found.shares[~is_word] == 0).all()
    assert attention_layers(net, inputs) == []


@pytest.mark.parametrize("block", [PreNormBlock, PostNormBlock])
@pytest.mark.parametrize(("position", "pooling"), [*product(POSITIONS, (MeanMaxPooling, CLSPooling, MeanQueryPooling))])
def test_the_recorded_weights_give_the_output_of_each_attention(
    position: Any, pooling: type[Pooling], block: Any
) -> None:
    net = build(position, pooling, block=block)
    inputs, _ = text()
    calls: list[tuple[MultiHeadAttention, tuple[Any, ...], Tensor]] = []
    for module in net.modules():
        if isinstance(module, MultiHeadAttention):
            module.register_forward_hook(lambda module, arguments, output: calls.append((module, arguments, output)))
    layers = attention_layers(net, inputs)
    assert [layer.name for layer in layers] == ["layer 1", "layer 2"]
    for layer, (attention, (x, bias, scheme, *query), output) in zip(layers, calls, strict=True):
        weights = torch.from_numpy(layer.weights)
        single = bool(query) and query[0] is not None
        assert weights.shape == (HEADS, 1 if single else TOKENS, TOKENS)
        assert (layer.query is not None) == single
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
        q, k, v = attention.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if single:
            q = attention.qkv(query[0]).unflatten(-1, (3, HEADS, -1))[:, :, 0].transpose(1, 2)
        expected = (scheme.rotate(q) @ scheme.rotate(k).mT / 2 + bias[:, :, : q.shape[2]]).softmax(-1)
        torch.testing.assert_close(weights, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            attention.output((weights @ v[0]).transpose(0, 1).flatten(1)), output[0], rtol=1e-4, atol=1e-5
        )


def test_attention_of_a_long_text_is_shown_among_its_first_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.inference.explain.attention._MOST_WEIGHTS", LAYERS * HEADS * 5 * 5)
    monkeypatch.setattr("lx.inference.explain.attention._FEWEST_TOKENS", 2)
    layers = attention_layers(build(), text()[0])
    assert [layer.weights.shape for layer in layers] == [(HEADS, 5, 5)] * LAYERS


def test_an_ensemble_is_explained_as_the_mean_of_its_members() -> None:
    members = [build(position=kind) for kind in (SinusoidalPosition, RotaryPosition)]
    net = Ensemble(members).eval()
    inputs, is_word = text()
    layers = [member.word_embedding for member in members]
    found = integrated_gradients(net, layers, inputs, is_word, 0, WEIGHTS)
    alone = [integrated_gradients(member, [member.word_embedding], inputs, is_word, 0, WEIGHTS) for member in members]
    assert found.error < 0.01
    assert found.score == pytest.approx(sum(part.score for part in alone) / 2, abs=1e-5)
    torch.testing.assert_close(found.shares, (alone[0].shares + alone[1].shares) / 2, rtol=0.1, atol=0.01)
    names = [layer.name for layer in attention_layers(net, inputs)]
    assert names == [f"network {member}, layer {layer}" for member in (1, 2) for layer in (1, 2)]
