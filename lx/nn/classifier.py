"""The Transformer for texts: encoder, pooling, linear head.

Axis legend: B batch, T tokens, D model width, V vocabulary, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lx.errors import ArgumentError
from lx.nn.block import Block
from lx.nn.convolution import Convolution
from lx.nn.dropout import Dropout
from lx.nn.embedding import TokenEmbedding
from lx.nn.encoder import TransformerEncoder
from lx.nn.init import initialize
from lx.nn.pooling import NUM_COMPARED, Pooling, QueryPooling, compare, round_to
from lx.nn.position import Position
from lx.nn.vectors import check_freezing


class TransformerClassifier(nn.Module):
    """A Transformer encoder (Vaswani et al. 2017) that scores each text."""

    vectors_width_argument = "embedding_dim"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_outputs: int,
        num_token_types: int = 1,
        dim: int,
        num_layers: int,
        num_heads: int,
        hidden_multiple: int | float,
        dropout: int | float,
        embedding_dim: int | None,
        token_dropout: int | float,
        vectors: str | None,
        freeze_vectors: bool,
        position: Callable[..., Position],
        norm: Callable[..., nn.Module],
        feedforward: Callable[..., nn.Module],
        block: Callable[..., Block],
        pooling: Callable[..., Pooling],
        embedding_dropout: int | float | None = None,
        head_dropout: int | float | None = None,
        conv_width: int | None = None,
        embedding_std: float | None = None,
        compare_pairs: bool = False,
    ) -> None:
        """Build and initialise the model.

        Args:
            vocab_size: V.
            num_outputs: C.
            num_token_types: 2 if texts come in pairs.
            dim: D.
            num_layers: Number of blocks, at least 1.
            num_heads: Attention heads in each block.
            hidden_multiple: Width of the feed-forward networks in multiples of D.
            dropout: Probability of every dropout but that of words, where no other is given.
            embedding_dim: Width of the word table; None means D.
            token_dropout: Probability that a training word becomes [UNK].
            vectors: File of word vectors that training starts from. It is not read here, so that a trained model can be
                built without it: see `lx.nn.vectors.load_word_vectors`.
            freeze_vectors: Whether the word table keeps the vectors of that file.
            position: Called as `position(dim=D, num_heads=num_heads)`.
            norm: Called as `norm(D)`.
            feedforward: Called as `feedforward(D, hidden_dim)`.
            block: Called as `block(D, num_heads, hidden_dim, dropout, norm=norm, feedforward=feedforward)`.
            pooling: Called as `pooling(D)`.
            embedding_dropout: Probability of the dropout of embeddings; None means `dropout`.
            head_dropout: Probability of the dropout before the head; None means `dropout`.
            embedding_std: Initial standard deviation of the word table; None: 0.02, times sqrt(D) when it is looked up.
            conv_width: Tokens that a convolution before the blocks sees; None: there is none.
            compare_pairs: Whether the two texts of a pair are pooled apart, and the head reads what `compare` makes of
                them; they are encoded together all the same.

        Raises:
            ArgumentError: A size is out of range, sizes do not fit together, or the pooling reads a single vector for
                both texts of a pair that are to be compared.
        """
        super().__init__()
        if num_layers < 1:
            raise ArgumentError(f"num_layers={num_layers} must be at least 1")
        hidden_dim = round(dim * hidden_multiple)
        blocks = [
            block(dim, num_heads, hidden_dim, dropout, norm=norm, feedforward=feedforward) for _ in range(num_layers)
        ]
        self.encoder = TransformerEncoder(
            TokenEmbedding(vocab_size, dim, embedding_dim, num_token_types, token_dropout, embedding_std),
            position(dim=dim, num_heads=num_heads),
            blocks,
            norm(dim) if blocks[-1].needs_final_norm else nn.Identity(),
            dropout if embedding_dropout is None else embedding_dropout,
            None if conv_width is None else Convolution(dim, conv_width, dropout),
        )
        self.pooling = pooling(dim)
        self.compares_pairs = compare_pairs and num_token_types > 1
        if self.compares_pairs and isinstance(self.pooling, QueryPooling):
            raise ArgumentError("compare_pairs=true needs a pooling of all tokens: mean, max, mean_max or attention")
        pooled_dim = self.pooling.output_dim * (NUM_COMPARED if self.compares_pairs else 1)
        self.dropout = Dropout(dropout if head_dropout is None else head_dropout)
        self.head = nn.Linear(pooled_dim, num_outputs)
        initialize(self)
        check_freezing(vectors, freeze_vectors)
        self.word_embedding.weight.requires_grad_(not freeze_vectors)

    @property
    def word_embedding(self) -> nn.Embedding:
        """The word table, which word vectors can fill."""
        return self.encoder.embedding.word

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Compute logits.

        Args:
            token_ids: `[CLS] text [SEP]`, padded with zeros.
            mask: True for a real token.
            token_types: Segment of each token; None: the first segment throughout.
        """
        x = self.encoder(token_ids, mask, token_types, self.pooling.last_query)
        if self.compares_pairs:
            is_second = torch.zeros_like(mask) if token_types is None else token_types == 1
            pooled = compare(self.pooling(x, mask & ~is_second), self.pooling(x, mask & is_second))
        else:
            pooled = self.pooling(x, mask)
        logits: Tensor = self.head(round_to(self.dropout(pooled), self.head))
        return logits
