"""The Transformer encoder: embedding, positions, blocks and a final norm.

Axis legend: B batch, T tokens, Q queries (T, or 1), D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lx.nn.attention import attention_bias
from lx.nn.block import Block
from lx.nn.convolution import Convolution
from lx.nn.dropout import Dropout
from lx.nn.embedding import TokenEmbedding, compute_dtype
from lx.nn.position import Position

LastQuery = Callable[[Float[Tensor, "B T D"], Bool[Tensor, "B T"]], Float[Tensor, "B 1 D"] | None]
"""Maps the input of the last block and the mask to the vector that attends there."""


class TransformerEncoder(nn.Module):
    """A stack of blocks over embedded tokens."""

    def __init__(
        self,
        embedding: TokenEmbedding,
        position: Position,
        blocks: Sequence[Block],
        norm: nn.Module,
        dropout: int | float,
        convolution: Convolution | None = None,
    ) -> None:
        """Assemble the layers; all blocks share the position scheme.

        `norm` is that of the last block's output, `nn.Identity` for blocks that end with a norm; `dropout` that of the
        sum of embeddings and positions (Vaswani et al. 2017, section 5.4), which the convolution reads.
        """
        super().__init__()
        self.embedding = embedding
        self.position = position
        self.dropout = Dropout(dropout)
        self.convolution = convolution
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        token_types: Int[Tensor, "B T"] | None = None,
        last_query: LastQuery | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Encode each token in its context; the vectors of padding are meaningless.

        Args:
            token_ids: Padded with zeros.
            mask: True for a real token.
            token_types: Segment of each token.
            last_query: Gives the one vector per text that attends in the last block. None, or if it returns None:
                every token attends.
        """
        x = self.position.add(self.embedding(token_ids, token_types))
        x = self.dropout(x.to(compute_dtype(x)))  # the residual stream has the dtype of the products that feed it
        if self.convolution is not None:
            x = self.convolution(x, mask)
        bias = attention_bias(mask, self.position.bias(mask.shape[1]), x.dtype)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, bias, self.position)
        y: Tensor = self.norm(last(x, bias, self.position, None if last_query is None else last_query(x, mask)))
        return y
