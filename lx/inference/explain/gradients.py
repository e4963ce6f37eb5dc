"""Integrated gradients (Sundararajan et al. 2017), by captum: what each token adds to a score of the network.

Axis legend: T tokens, E embedding width, C outputs, S points on the path from the baseline to the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lx.data.batches import NetInputs
from lx.errors import LxError

GOOD_ERROR = 0.01
"""Completeness error below which no more steps are taken."""

_FIRST_PIECES = 4
_STEPS_PER_PIECE = 8
_MOST_STEPS = 4096
_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenShares:
    """What tokens add to a score, beside the baseline in which every word is padding.

    Attributes:
        shares: [T] float64; those of special tokens, which the baseline has too, are zero.
        baseline: The score of the baseline.
        score: The score of the text.
        steps: Gradients that were computed.
    """

    shares: Tensor
    baseline: float
    score: float
    steps: int

    @property
    def error(self) -> float:
        """How far the shares are from the score minus that of the baseline, as a part of it (completeness)."""
        difference = self.score - self.baseline
        return abs(float(self.shares.sum()) - difference) / max(abs(difference), 1e-6)


@dataclass(frozen=True, eq=False)  # no comparison of tensors
class _Piece:
    """The integral over a piece of the path, from `start` to `end` in [0, 1]."""

    start: float
    end: float
    start_score: float
    end_score: float
    shares: Tensor

    @property
    def error(self) -> float:
        return abs(float(self.shares.sum()) - (self.end_score - self.start_score))


def integrated_gradients(
    net: nn.Module, layers: Sequence[nn.Module], inputs: NetInputs, is_word: Tensor, pad_id: int, weights: Tensor
) -> TokenShares:
    """Divide a score among the words of a text, with a completeness error below 1% if 4,096 steps are enough for it.

    The path from the baseline to the text is integrated in pieces. How wrong a piece is, the scores at its ends say:
    the worst one is halved until all together are right. Where a score changes in a jump, steps gather.

    Args:
        net: In evaluation mode and float32, without kernels.
        layers: Each embeds token ids, by themselves, as vectors [1, T, E]; of an ensemble one of each member.
        inputs: One text, without padding.
        is_word: [T] whether the baseline has padding in the place of the token.
        pad_id: Of that padding.
        weights: [C] of the logits; their weighted sum is the score.

    Raises:
        LxError: captum is not installed.
    """
    method = _import_captum()
    with torch.no_grad():
        blank_ids = inputs.token_ids.masked_fill(is_word, pad_id)
        vectors, blank = (
            torch.cat([layer(token_ids) for layer in layers], -1) for token_ids in (inputs.token_ids, blank_ids)
        )

    def score(points: Tensor) -> Tensor:
        """Compute the scores [S] of embedded texts, whose vectors of all layers are joined: [S, T, layers * E]."""
        repeated = (None if part is None else part.expand(len(points), -1) for part in inputs)
        with ExitStack() as stack:
            for layer, output in zip(layers, points.chunk(len(layers), -1), strict=True):
                stack.enter_context(_output_replaced(layer, output))
            logits: Tensor = net(*repeated)
        return logits.double() @ weights.double()

    def integrate(start: float, end: float) -> _Piece:
        ends = [blank + position * (vectors - blank) for position in (start, end)]
        with torch.no_grad():
            start_score, end_score = (score(point).item() for point in ends)
        gradients = method(score).attribute(
            ends[1],
            ends[0],
            n_steps=_STEPS_PER_PIECE,
            internal_batch_size=max(1, _TOKENS_AT_ONCE // inputs.token_ids.shape[1]),
        )
        return _Piece(start, end, start_score, end_score, gradients[0].detach().double().sum(-1))

    pieces = [integrate(i / _FIRST_PIECES, (i + 1) / _FIRST_PIECES) for i in range(_FIRST_PIECES)]
    baseline_score, text_score = pieces[0].start_score, pieces[-1].end_score
    for steps in range(_FIRST_PIECES * _STEPS_PER_PIECE, _MOST_STEPS + 1, 2 * _STEPS_PER_PIECE):
        shares = torch.stack([piece.shares for piece in pieces]).sum(0)
        estimate = TokenShares(shares, baseline_score, text_score, steps)
        if estimate.error < GOOD_ERROR:
            break
        worst = max(pieces, key=lambda piece: piece.error)
        pieces.remove(worst)
        middle = (worst.start + worst.end) / 2
        pieces += [integrate(worst.start, middle), integrate(middle, worst.end)]
    return estimate


@contextmanager
def _output_replaced(layer: nn.Module, output: Tensor) -> Iterator[None]:
    """Let a layer return this output, whatever its input."""
    handle = layer.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _import_captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise LxError("the explanation of a network needs captum: pip install 'lx[explain]'") from error
    return attr.IntegratedGradients
