from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lx.errors import LxError
from lx.nn.block import PostNormBlock, PreNormBlock
from lx.nn.classifier import TransformerClassifier
from lx.nn.dropout import Dropout
from lx.nn.feedforward import ReLUFeedForward, SwiGLUFeedForward
from lx.nn.norm import LayerNorm, RMSNorm
from lx.nn.pooling import AttentionPooling, CLSPooling, MaxPooling, MeanMaxPooling, MeanPooling, MeanQueryPooling
from lx.nn.position import ALiBiPosition, LearnedPosition, NoPosition, RotaryPosition, SinusoidalPosition

VOCAB, CLASSES = 29, 5
Build = Callable[..., TransformerClassifier]
POSITIONS = [
    SinusoidalPosition,
    partial(LearnedPosition, max_length=17),
    RotaryPosition,
    ALiBiPosition,
    NoPosition,
]
POOLINGS = [CLSPooling, MeanPooling, MeanQueryPooling, MaxPooling, MeanMaxPooling, AttentionPooling]
BLOCKS = [PreNormBlock, PostNormBlock]


def batch(num_tokens: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts of 11, 7 and 2 tokens, padded."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([[11], [7], [2]])
    mask = torch.arange(num_tokens) < lengths
    token_ids = torch.zeros(3, num_tokens, dtype=torch.long)
    token_types = torch.zeros(3, num_tokens, dtype=torch.long)
    token_ids[:, :11] = torch.randint(4, VOCAB, (3, 11), generator=generator)
    token_types[:, :11] = torch.randint(0, 2, (3, 11), generator=generator)
    return token_ids * mask, mask, token_types * mask


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("position", POSITIONS)
def test_padding_and_order_do_not_change_logits(build: Build, position: Any, pooling: Any, block: Any) -> None:
    net = build(position=position, pooling=pooling, block=block).double().eval()
    logits = net(*batch())
    assert logits.shape == (3, CLASSES) and logits.std(dim=0).min() > 1e-5

    torch.testing.assert_close(net(*batch(17)), logits, rtol=1e-12, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    permuted = net(*(tensor[order] for tensor in batch()))
    torch.testing.assert_close(permuted, logits[order], rtol=1e-12, atol=1e-12)
    alone = net(*(tensor[2:, :2] for tensor in batch()))
    torch.testing.assert_close(alone, logits[2:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("position", POSITIONS)
def test_rows_of_padding_give_finite_values_and_gradients(
    build: Build, position: Any, pooling: Any, block: Any
) -> None:
    net = build(position=position, pooling=pooling, block=block)
    token_ids, mask, token_types = batch()
    mask[1] = False
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = net(token_ids, mask, token_types)
        logits.float().square().sum().backward()
        assert logits.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("pooling", [MeanPooling, MaxPooling, MeanMaxPooling, AttentionPooling])
def test_the_texts_of_a_pair_are_encoded_together_and_pooled_apart(build: Build, pooling: Any) -> None:
    net = build(pooling=pooling, compare_pairs=True).double().eval()
    torch.testing.assert_close(net(*batch(17)), net(*batch()), rtol=1e-12, atol=1e-12)  # a first text is empty

    token_ids, mask, token_types = batch()
    token_types[2, 0] = 0
    pooled: list[torch.Tensor] = []
    net.head.register_forward_hook(lambda module, inputs, output: pooled.append(inputs[0]))
    net(token_ids, mask, token_types)
    x = net.encoder(token_ids, mask, token_types)
    for row in range(3):
        texts = [x[row : row + 1, mask[row] & (token_types[row] == text)] for text in (0, 1)]
        u, v = (net.pooling(text, torch.ones(text.shape[:2], dtype=torch.bool)) for text in texts)
        torch.testing.assert_close(pooled[0][row], torch.cat([u, v, (u - v).abs(), u * v], dim=1)[0])
    other = token_ids.clone()
    other[0, token_types[0] == 1] = 7
    changed = net.encoder(other, mask, token_types)[0] - x[0]
    assert changed[token_types[0] == 0].abs().max() > 1e-6, "the first text sees the second"


def test_single_texts_have_nothing_to_compare(build: Build) -> None:
    alike = [build(num_token_types=1, compare_pairs=compared).double().eval() for compared in (False, True)]
    logits = [net(*batch()[:2]) for net in alike]
    assert torch.equal(*logits)


@pytest.mark.parametrize("pooling", [CLSPooling, MeanQueryPooling])
def test_one_vector_for_both_texts_cannot_be_compared(build: Build, pooling: Any) -> None:
    with pytest.raises(LxError, match="compare_pairs=true needs a pooling of all tokens"):
        build(pooling=pooling, compare_pairs=True)


def first(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return x[:, :1]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_query_in_the_last_block_gets_what_the_first_token_gets(build: Build, position: Any, block: Any) -> None:
    """The vector and all gradients, while the feed-forward network there sees nothing else."""
    encoder = build(position=position, block=block, dropout=0.0).double().encoder
    for parameter in encoder.parameters():  # far from where training begins, that every part matters
        nn.init.normal_(parameter, std=0.3)
    found = []
    for last_query in (None, first):
        encoder.zero_grad()
        x = encoder(*batch(), last_query=last_query)[:, :1]
        x.sin().sum().backward()
        found.append([x.detach(), *(parameter.grad for parameter in encoder.parameters())])
    for alone, among_all in zip(*found, strict=True):
        torch.testing.assert_close(alone, among_all, rtol=1e-10, atol=1e-12)

    seen: list[torch.Size] = []
    encoder.blocks[-1].feedforward.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    assert encoder(*batch(), last_query=first).shape == (3, 1, 12)
    encoder(*batch())
    assert seen == [(3, 1, 12), (3, 11, 12)]


@pytest.mark.parametrize("position", POSITIONS)
def test_only_the_absence_of_positions_is_blind_to_order(build: Build, position: Any) -> None:
    net = build(position=position, num_token_types=1).double().eval()
    token_ids, mask, _ = batch()
    swapped = token_ids[:, [1, 0, *range(2, 11)]]
    same = torch.allclose(net(token_ids, mask)[0], net(swapped, mask)[0], rtol=1e-9, atol=1e-12)
    assert same == (position is NoPosition)


@pytest.mark.parametrize(
    "overrides",
    [
        {"position": partial(LearnedPosition, max_length=11), "pooling": AttentionPooling},
        {"norm": RMSNorm, "feedforward": SwiGLUFeedForward, "position": RotaryPosition},
        {"conv_width": 3, "pooling": MeanMaxPooling},
        {"feedforward": ReLUFeedForward, "embedding_dim": 7, "block": PostNormBlock, "pooling": MaxPooling},
    ],
)
def test_gradients_reach_every_parameter(build: Build, overrides: dict[str, Any]) -> None:
    net = build(**overrides)
    net(*batch()).square().sum().backward()
    for name, parameter in net.named_parameters():
        if not name.endswith("qkv.bias"):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
            continue
        # A bias shared by all keys moves all scores of a query alike: only queries and values have a gradient.
        query, _, value = parameter.grad.chunk(3)
        assert query.abs().sum() > 0 and value.abs().sum() > 0


@pytest.mark.parametrize(("width", "position"), [(3, NoPosition), (5, SinusoidalPosition)])
def test_a_convolution_sees_neighbours_and_no_padding(build: Build, width: int, position: Any) -> None:
    net = build(conv_width=width, position=position, num_token_types=1).double().eval()
    token_ids, mask, _ = batch()
    logits = net(token_ids, mask)
    wider_ids, wider_mask, _ = batch(17)
    torch.testing.assert_close(net(wider_ids, wider_mask), logits, rtol=1e-12, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(net(token_ids[order], mask[order]), logits[order], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(net(token_ids[:1, [1, 0, *range(2, 11)]], mask[:1]), logits[:1], rtol=1e-6)

    x = torch.zeros(1, 11, 12, dtype=torch.double)
    x[0, 5] = 1.0
    changed = (net.encoder.convolution(x, torch.ones(1, 11, dtype=torch.bool)) != 0).any(dim=-1)[0]
    assert changed.nonzero().flatten().tolist() == list(range(5 - width // 2, 5 + width // 2 + 1))


def test_final_norm_belongs_to_pre_norm_only(build: Build) -> None:
    assert isinstance(build(block=PreNormBlock, norm=RMSNorm).encoder.norm, RMSNorm)
    assert isinstance(build(block=PostNormBlock).encoder.norm, nn.Identity)


def test_layers_have_weights_of_their_own(build: Build) -> None:
    first, second = build().encoder.blocks
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.data_ptr() != other.data_ptr()
    assert not torch.equal(first.attention.qkv.weight, second.attention.qkv.weight)


def test_segments_matter_and_default_to_the_first(build: Build) -> None:
    net = build().eval()
    token_ids, mask, token_types = batch()
    torch.testing.assert_close(net(token_ids, mask), net(token_ids, mask, torch.zeros_like(token_ids)))
    assert not torch.allclose(net(token_ids, mask), net(token_ids, mask, token_types))


def test_dropout_acts_in_training_only_and_everywhere(build: Build) -> None:
    net = build(dropout=0.25)
    assert not torch.equal(net(*batch()), net(*batch()))
    net.eval()
    assert torch.equal(net(*batch()), net(*batch()))
    used: list[Dropout] = []
    for module in net.modules():
        if isinstance(module, Dropout):
            assert module.p == 0.25
            module.register_forward_hook(lambda module, inputs, output: used.append(module))
    net(*batch())
    # Embeddings, both sub-layers of each block, head.
    blocks = net.encoder.blocks
    expected = [(block.residual.dropout, block.residual.dropout) for block in blocks]
    assert used == [net.encoder.dropout, *itertools.chain(*expected), net.dropout]
    assert [block.attention.dropout for block in blocks] == [0.25] * 2


def test_dropout_of_embeddings_and_head_can_be_set_apart(build: Build) -> None:
    net = build(dropout=0.25, embedding_dropout=0.0, head_dropout=0.5, conv_width=3)
    assert (net.encoder.dropout.p, net.dropout.p) == (0.0, 0.5)
    assert net.encoder.convolution.residual.dropout.p == net.encoder.blocks[0].residual.dropout.p == 0.25


def test_state_dict_holds_parameters_only(build: Build) -> None:
    for position in POSITIONS:
        net = build(position=position)
        assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}


def test_bfloat16_autocast_stays_close_to_float32(build: Build) -> None:
    for position, norm, embedding_dim in itertools.product(POSITIONS, (LayerNorm, RMSNorm), (None, 7)):
        net = build(position=position, norm=norm, embedding_dim=embedding_dim).eval()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(*batch())
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(logits.float(), net(*batch()), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("compare_pairs", [False, True])
@pytest.mark.parametrize("pooling", [MeanPooling, MaxPooling, MeanMaxPooling, AttentionPooling])
def test_weights_in_bfloat16_stay_close_to_float32(build: Build, pooling: Any, compare_pairs: bool) -> None:
    net = build(pooling=pooling, compare_pairs=compare_pairs).eval()
    expected = net(*batch())
    logits = net.bfloat16()(*batch())
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_heads": 5}, r"^dim=12.*num_heads=5"),
        ({"num_layers": 0}, r"^num_layers=0"),
        ({"dropout": 1.0}, r"^dropout=1.0"),
        ({"token_dropout": -0.1}, r"^token_dropout=-0.1"),
        ({"head_dropout": 1}, r"^dropout=1"),
        ({"conv_width": 4}, r"^conv_width=4.*odd"),
        ({"freeze_vectors": True}, r"^vectors=null.*freeze_vectors"),
    ],
)
def test_impossible_sizes_are_refused(build: Build, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(LxError, match=message):
        build(**overrides)


def test_frozen_vectors_are_not_trained_and_need_no_file_to_rebuild(build: Build) -> None:
    net = build(vectors="no/such/file.txt", freeze_vectors=True)
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == [
        "encoder.embedding.word.weight"
    ]
