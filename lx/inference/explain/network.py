"""What a run's network reads of a text, and what each token adds to a score of it.

Axis legend: T tokens, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lx.data.batches import NetInputs, pad
from lx.errors import LxError
from lx.inference.explain.bag import bag_shares
from lx.inference.explain.gradients import TokenShares, integrated_gradients
from lx.inference.explain.words import TextTokens, read_tokens
from lx.inference.load import LoadedRun
from lx.nn.bag import BagClassifier
from lx.nn.embedding import word_embedding_of
from lx.nn.ensemble import members_of
from lx.nn.pretrained import PretrainedClassifier


@dataclass(frozen=True)
class NetworkReading:
    """A text, or a pair of texts, as a network reads it.

    Attributes:
        net: In evaluation mode and float32, without kernels.
        tokens: Of the text.
        inputs: The same as tensors [1, T].
        logits: [C].
        truncated: Whether the end of the text is not read.
        pad_id: Of the tokenizer.
    """

    net: nn.Module
    tokens: TextTokens
    inputs: NetInputs
    logits: Tensor
    truncated: bool
    pad_id: int

    def shares(self, weights: Tensor) -> TokenShares:
        """Divide the weighted sum of logits, whose weights [C] are given, among the tokens."""
        members = members_of(self.net)
        if bags := [member for member in members if isinstance(member, BagClassifier)]:
            return bag_shares(bags, self.inputs, weights)
        layers, is_word = [_embedding(member) for member in members], torch.from_numpy(self.tokens.is_word)
        return integrated_gradients(self.net, layers, self.inputs, is_word, self.pad_id, weights)


@torch.no_grad()
def read(loaded: LoadedRun, texts: Sequence[str]) -> NetworkReading:
    """Tokenize a text, or a pair of texts, as in training, and compute its logits."""
    net = loaded.net.float()
    pairs = [texts[1]] if loaded.has_pairs else None
    encoded = loaded.tokenizer.encode(texts[:1], pairs, loaded.max_length)
    inputs = pad(encoded, np.arange(1), loaded.tokenizer.pad_id, loaded.has_pairs)
    tokens = read_tokens(loaded.tokenizer, texts, loaded.max_length)
    if not tokens.names:
        raise LxError("the tokenizer of this run makes no token of the text: there is nothing to explain")
    return NetworkReading(net, tokens, inputs, net(*inputs)[0], bool(encoded.truncated[0]), loaded.tokenizer.pad_id)


def _embedding(net: nn.Module) -> nn.Module:
    """Return the layer that embeds words."""
    layer = net.encoder.get_input_embeddings() if isinstance(net, PretrainedClassifier) else word_embedding_of(net)
    if layer is None:
        raise LxError(f"{type(net).__name__} has no layer word_embedding, by which lx explain could vary its input")
    return layer
