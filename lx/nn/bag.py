"""The baseline: a bag of words and word pairs.

Axis legend: B batch, T tokens, D embedding width, C outputs.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lx.nn.dropout import Dropout
from lx.nn.embedding import FIRST_WORD, PAD
from lx.nn.init import initialize
from lx.nn.vectors import check_freezing

MULTIPLIER = 116_049_371


class BagClassifier(nn.Module):
    """A linear classifier of the average word and bigram embedding: fastText (Joulin et al. 2016, section 2).

    Bigrams share a table through hashing; special tokens belong to no bigram and are not counted.
    """

    vectors_width_argument = "dim"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_outputs: int,
        num_token_types: int = 1,
        dim: int,
        num_buckets: int,
        dropout: int | float,
        vectors: str | None,
        freeze_vectors: bool,
    ) -> None:
        """Build and initialise the model.

        Args:
            vocab_size: Number of token ids.
            num_outputs: C.
            num_token_types: Ignored: a bag has no segments, though no bigram spans two of them.
            dim: D.
            num_buckets: Rows of the table that bigrams share.
            dropout: Of the average.
            vectors: File of word vectors that training starts from; see `lx.nn.vectors.load_word_vectors`.
            freeze_vectors: Whether the word table keeps the vectors of that file.

        Raises:
            ArgumentError: Frozen without a file.
        """
        super().__init__()
        self.word_embedding = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.bigram_embedding = nn.Embedding(1 + num_buckets, dim, padding_idx=PAD)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(dim, num_outputs)
        initialize(self)
        check_freezing(vectors, freeze_vectors)
        self.word_embedding.weight.requires_grad_(not freeze_vectors)

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Compute logits as :meth:`lx.nn.classifier.TransformerClassifier.forward` does; token types are ignored."""
        is_word = mask & (token_ids >= FIRST_WORD)
        words = token_ids.masked_fill(~is_word, PAD)
        bigrams = hash_bigrams(words, self.bigram_embedding.num_embeddings - 1)
        total = sum_embeddings(words, self.word_embedding) + sum_embeddings(bigrams, self.bigram_embedding)
        count = (words != PAD).sum(dim=1, keepdim=True) + (bigrams != PAD).sum(dim=1, keepdim=True)
        logits: Tensor = self.head(self.dropout(total / count.clamp(min=1)))
        return logits


def hash_bigrams(words: Int[Tensor, "B T"], num_buckets: int) -> Int[Tensor, "B pairs"]:
    """Hash each pair of words to row 1 + (left * MULTIPLIER + right) mod num_buckets; other pairs to row 0."""
    left, right = words[:, :-1].long(), words[:, 1:].long()
    buckets = 1 + (left * MULTIPLIER + right) % num_buckets
    return buckets.masked_fill((left == PAD) | (right == PAD), PAD)


def sum_embeddings(ids: Int[Tensor, "B T"], table: nn.Embedding) -> Float[Tensor, "B D"]:
    """Sum the rows over T without a [B, T, D] tensor in between."""
    if ids.shape[1] == 0:
        ids = F.pad(ids, (0, 1), value=PAD)  # an empty sum, through which the table still gets a gradient
    return F.embedding_bag(ids, table.weight, mode="sum", padding_idx=table.padding_idx)
