from __future__ import annotations

import math

import torch

from lx.nn.embedding import TokenEmbedding, drop_words


def test_words_are_scaled_projected_and_joined_by_segments() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(17, 5, embedding_dim=3, num_token_types=2)
    token_ids, token_types = torch.tensor([[2, 16, 3, 0]]), torch.tensor([[0, 1, 1, 0]])
    x = embedding(token_ids, token_types)
    for t in range(4):
        word = math.sqrt(3) * embedding.word.weight[token_ids[0, t]]
        expected = embedding.projection.weight @ word + embedding.segment.weight[token_types[0, t]]
        torch.testing.assert_close(x[0, t], expected)


def test_padding_row_stays_zero() -> None:
    embedding = TokenEmbedding(17, 5)
    assert (embedding.word.weight[0] == 0).all() and embedding.word.weight[1:].abs().min() > 0
    embedding(torch.tensor([[0, 4]])).sum().backward()
    assert (embedding.word.weight.grad[0] == 0).all() and embedding.word.weight.grad[4].abs().min() > 0


def test_parts_that_are_not_needed_do_not_exist() -> None:
    assert [name for name, _ in TokenEmbedding(17, 5).named_parameters()] == ["word.weight"]
    assert [name for name, _ in TokenEmbedding(17, 5, embedding_dim=5).named_parameters()] == ["word.weight"]


def test_word_dropout_hits_words_at_its_rate_and_no_special_tokens() -> None:
    torch.manual_seed(0)
    token_ids = torch.arange(8).repeat(100, 100)
    dropped = drop_words(token_ids, 0.25)
    changed = dropped != token_ids
    assert not changed[token_ids < 4].any()
    assert (dropped[changed] == 1).all()
    assert abs(changed[token_ids >= 4].float().mean().item() - 0.25) < 0.01


def test_word_dropout_is_for_training() -> None:
    embedding = TokenEmbedding(17, 5, token_dropout=0.999)
    token_ids = torch.full((7, 11), 9)
    unknown = embedding.word.weight[1] * math.sqrt(5)
    assert (embedding(token_ids) == unknown).all(dim=-1).float().mean() > 0.9
    assert not (embedding.eval()(token_ids) == unknown).any()
