"""Adversarial training: a second pass on word embeddings that are moved to where the loss grows most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lx.errors import LxError
from lx.nn.embedding import word_embedding_of
from lx.nn.ensemble import members_of


class AdversarialEmbeddings:
    """Moves the word embeddings that a network looks up to where its loss grows (Miyato et al. 2017, section 3).

    The embeddings s [T, E] of an example, of whose loss g is the gradient by them, become s + r::

        r = strength * |s| * g / |g|

    Miyato et al. normalise the word table and choose |r|; as a share of |s| it goes with a table of any scale.

    Args:
        net: a network with a layer ``word_embedding``, or an ensemble of such networks.
        strength: |r| as a share of |s|.

    Raises:
        LxError: the network has no such layer.
    """

    def __init__(self, net: nn.Module, strength: float) -> None:
        self.strength = strength
        self._layers = [_word_embedding(member) for member in members_of(net)]
        self._looked_up: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the embeddings [B, T, E] that a forward pass in this block looks up, and then their gradients."""

        def keep(layer: nn.Module, inputs: Any, embeddings: Tensor) -> None:
            if not embeddings.requires_grad:  # of a table that is frozen
                embeddings.requires_grad_()
            embeddings.retain_grad()
            self._looked_up.append(embeddings)

        self._looked_up.clear()
        with self._hooks(keep):
            yield

    @contextmanager
    def moving(self, mask: Tensor) -> Iterator[None]:
        """Move the embeddings in a forward pass in this block, on the same batch as the recorded one.

        Args:
            mask: [B, T] of the batch, True for a real token.

        Raises:
            LxError: the recorded pass has not called the layer.
        """
        if not self._looked_up:
            raise LxError("model.adversarial: the network reads its word embeddings without calling word_embedding")
        moves = iter([adversarial_move(embeddings, mask, self.strength) for embeddings in self._looked_up])
        self._looked_up.clear()
        with self._hooks(lambda layer, inputs, embeddings: embeddings + next(moves)):
            yield

    @contextmanager
    def _hooks(self, hook: Callable[[nn.Module, Any, Tensor], Tensor | None]) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in self._layers:
                stack.callback(layer.register_forward_hook(hook).remove)
            yield


def adversarial_move(embeddings: Tensor, mask: Tensor, strength: float) -> Tensor:
    """Compute r of each example; it is zero where the gradient is.

    Args:
        embeddings: s [B, T, E], with the gradient in ``grad``.
        mask: [B, T], True for a real token.
        strength: |r| as a share of |s|.
    """
    gradient = embeddings.grad
    assert gradient is not None
    length = (embeddings.detach() * mask[:, :, None]).flatten(1).norm(dim=1)
    largest = gradient.abs().amax(dim=(1, 2), keepdim=True)
    direction = torch.where(largest > 0, gradient / largest, 0.0)  # squares of the gradient itself could vanish
    scale: Tensor = strength * length / direction.flatten(1).norm(dim=1).clamp(min=1)
    return direction * scale[:, None, None]


def _word_embedding(net: nn.Module) -> nn.Module:
    layer = word_embedding_of(net)
    if layer is None:
        raise LxError(f"model.adversarial: {type(net).__name__} has no layer word_embedding")
    return layer
