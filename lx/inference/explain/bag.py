"""What each token adds to a score of a bag of words: exact, since the score is linear in the words and bigrams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lx.data.batches import NetInputs
from lx.inference.explain.gradients import TokenShares
from lx.nn.bag import BagClassifier, hash_bigrams
from lx.nn.embedding import FIRST_WORD, PAD


@torch.no_grad()
def bag_shares(nets: Sequence[BagClassifier], inputs: NetInputs, weights: Tensor) -> TokenShares:
    """Divide a score, the weighted sum of logits, among the tokens of a text; each of a bigram's words has half of it.

    Args:
        nets: In evaluation mode; of an ensemble the members, whose logits are averaged.
        inputs: One text, without padding.
        weights: [C] of the logits.
    """
    words = inputs.token_ids.masked_fill(inputs.token_ids < FIRST_WORD, PAD)
    shares = torch.zeros(words.shape[1], dtype=torch.float64)
    weights = weights / len(nets)
    for net in nets:
        bigrams = hash_bigrams(words, net.bigram_embedding.num_embeddings - 1)
        count = max(int((words != PAD).sum() + (bigrams != PAD).sum()), 1)
        direction = weights @ net.head.weight / count
        halves = (net.bigram_embedding(bigrams) @ direction)[0] / 2
        shares += (net.word_embedding(words) @ direction)[0]
        shares[:-1] += halves
        shares[1:] += halves
    baseline, score = (
        sum(float(logits @ weights) for logits in all_logits)
        for all_logits in ([net.head.bias for net in nets], [net(*inputs)[0] for net in nets])
    )
    return TokenShares(shares, baseline, score, steps=0)
