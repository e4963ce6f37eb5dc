"""Token embeddings of words and segments, with word dropout.

Axis legend: B batch, T tokens, D model width, E embedding width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from lx.errors import ArgumentError

PAD, UNK = 0, 1
FIRST_WORD = 4
"""Ids below this one are the special tokens [PAD], [UNK], [CLS] and [SEP]."""


class ScaledEmbedding(nn.Embedding):
    """Look up the vector of each word and multiply it by sqrt(E) (Vaswani et al. 2017, section 3.4).

    The factor brings rows with a variance of 1 / E to the size of the position signals that are added to them. It also
    multiplies what a step of Adam does to a word's vector. Where the initial standard deviation is given there is no
    factor: words that occur a few times then change little from what they were, instead of being learned by heart.
    """

    def __init__(self, vocab_size: int, width: int, std: float | None = None) -> None:
        super().__init__(vocab_size, width, padding_idx=PAD)
        self.std = std
        self.scale = math.sqrt(width) if std is None else 1.0

    @override
    def forward(self, token_ids: Int[Tensor, "*tokens"]) -> Float[Tensor, "*tokens E"]:
        return super().forward(token_ids) * self.scale


class TokenEmbedding(nn.Module):
    """The sum of a word embedding and, for pairs of texts, a segment embedding."""

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        embedding_dim: int | None = None,
        num_token_types: int = 1,
        token_dropout: int | float = 0.0,
        std: float | None = None,
    ) -> None:
        """Build the tables.

        Args:
            vocab_size: V, number of token ids. Row 0 belongs to padding and stays zero.
            dim: D, width of the output vectors.
            embedding_dim: E, width of the word table; if it differs from D, a linear map leads from E to D
                (Lan et al. 2020, section 3.1). None means D.
            num_token_types: Number of segments; with one there is no segment table.
            token_dropout: Probability of replacing a word by [UNK] in training: word dropout (Iyyer et al. 2015,
                section 4), with [UNK] in the word's place as in Bowman et al. 2016.
            std: Initial standard deviation of the word table, without a factor; None: see `ScaledEmbedding`.

        Raises:
            ArgumentError: `token_dropout` is not in [0, 1).
        """
        super().__init__()
        if not 0 <= token_dropout < 1:
            raise ArgumentError(f"token_dropout={token_dropout} must be at least 0 and below 1")
        width = embedding_dim or dim
        self.token_dropout = token_dropout
        self.word = ScaledEmbedding(vocab_size, width, std)
        self.projection = nn.Linear(width, dim, bias=False) if width != dim else nn.Identity()
        self.segment = nn.Embedding(num_token_types, dim) if num_token_types > 1 else None

    def forward(
        self, token_ids: Int[Tensor, "B T"], token_types: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Embed ids in [0, V); without `token_types` the first segment is taken throughout."""
        if self.training and self.token_dropout > 0:
            token_ids = drop_words(token_ids, self.token_dropout)
        x: Tensor = self.projection(self.word(token_ids))
        if self.segment is not None:
            x = x + self.segment(torch.zeros_like(token_ids) if token_types is None else token_types)
        return x


def drop_words(token_ids: Int[Tensor, "B T"], probability: int | float) -> Int[Tensor, "B T"]:
    """Replace each word, but no special token, by [UNK] with a probability."""
    dropped = torch.rand(token_ids.shape, device=token_ids.device) < probability
    return token_ids.masked_fill(dropped & (token_ids >= FIRST_WORD), UNK)


def word_embedding_of(net: nn.Module) -> nn.Module | None:
    """Return the layer of a network, also of a user's own, that embeds words; None if there is no `word_embedding`."""
    layer = getattr(net, "word_embedding", None)
    return layer if isinstance(layer, nn.Module) else None


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of matrix products with `x`: autocast's if it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
