from __future__ import annotations

import itertools

import torch

from lx.nn.bag import BagClassifier

VOCAB, DIM, BUCKETS, CLASSES = 23, 5, 13, 3


def build(dropout: float = 0.0) -> BagClassifier:
    torch.manual_seed(0)
    return BagClassifier(
        vocab_size=VOCAB,
        num_outputs=CLASSES,
        dim=DIM,
        num_buckets=BUCKETS,
        dropout=dropout,
        vectors=None,
        freeze_vectors=False,
    )


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """[CLS] and words, an unknown word among them; a pair; nothing but special tokens; nothing."""
    rows = [[2, 7, 9, 1, 22, 7, 9, 3], [2, 4, 3, 5, 6, 3], [2, 3], []]
    token_ids = torch.zeros(len(rows), 8, dtype=torch.long)
    for row, ids in zip(token_ids, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
    return token_ids, token_ids > 0


def test_bag_equals_a_plain_computation() -> None:
    net = build().double()
    token_ids, mask = texts()
    logits = net(token_ids, mask)
    for b, row in enumerate(token_ids.tolist()):
        vectors = [net.word_embedding.weight[i] for i in row if i >= 4]
        for left, right in itertools.pairwise(row):
            if left >= 4 and right >= 4:
                vectors.append(net.bigram_embedding.weight[1 + (left * 116_049_371 + right) % BUCKETS])
        average = sum(vectors) / len(vectors) if vectors else torch.zeros(DIM, dtype=torch.float64)
        expected = net.head.weight @ average + net.head.bias
        torch.testing.assert_close(logits[b], expected, rtol=1e-12, atol=1e-12)


def test_padding_order_and_mask() -> None:
    net = build()
    token_ids, mask = texts()
    logits = net(token_ids, mask)
    longer = torch.nn.functional.pad(token_ids, (0, 5))
    torch.testing.assert_close(net(longer, longer > 0), logits)
    order = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(net(token_ids[order], mask[order]), logits[order])
    # What is masked does not count, whatever id it has.
    token_ids = token_ids.clone()
    token_ids[~mask] = 11
    torch.testing.assert_close(net(token_ids, mask), logits)


def test_bigrams_know_the_order_of_words() -> None:
    net = build()
    forth, back = torch.tensor([[2, 7, 9, 3]]), torch.tensor([[2, 9, 7, 3]])
    assert not torch.allclose(net(forth, forth > 0), net(back, back > 0))


def test_gradients_reach_every_table_and_no_padding_row() -> None:
    net = build(dropout=0.5)
    net(*texts()).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())
    assert (net.word_embedding.weight.grad[0] == 0).all()
    assert (net.bigram_embedding.weight.grad[0] == 0).all()


def test_texts_of_one_token_and_int32_ids() -> None:
    net = build().eval()
    ids = torch.tensor([[7]], dtype=torch.int32)
    expected = net.head(net.word_embedding.weight[7])
    torch.testing.assert_close(net(ids, ids > 0)[0], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(*texts()).isfinite().all()
