"""What lx needs of a user's own network, checked before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lx.errors import LxError, shorten

_KNOWN_TO_FIT = ("lx.", "torch.", "transformers.")


def check_network(net: object, num_outputs: int, has_pairs: bool) -> None:
    """Call a network with layers of a user's own once, and refuse it if what it returns or keeps does not fit.

    What the call itself raises is left to training: its traceback shows where, and the network may need another device.

    Raises:
        LxError: no module, no logits, logits without a gradient, or a state that is not made of tensors.
    """
    name = type(net).__name__
    if not isinstance(net, nn.Module):
        raise LxError(f"model._target_ builds a {name}, which is no torch.nn.Module")
    if not has_own_layers(net):
        return
    try:
        logits = call_once(net, has_pairs)
    except Exception:
        return
    if not isinstance(logits, Tensor) or logits.shape != (2, num_outputs) or not logits.is_floating_point():
        is_tensor = isinstance(logits, Tensor)
        returned = f"{logits.dtype} {list(logits.shape)}" if is_tensor else f"a {type(logits).__name__}"
        expected = f"logits [B, C], here {[2, num_outputs]}"
        raise LxError(f"model: for 2 texts of 5 tokens {name} returns {returned}, not {expected}")
    if any(parameter.requires_grad for parameter in net.parameters()) and not logits.requires_grad:
        raise LxError(f"model: the logits of {name} have no gradient: is there a detach() or no_grad() in its forward?")
    if others := [key for key, value in net.state_dict().items() if not isinstance(value, Tensor)]:
        raise LxError(
            f"model: the state_dict of {name} holds {shorten(others)}, no tensor: a checkpoint holds tensors alone"
        )


def has_own_layers(net: nn.Module) -> bool:
    """Return whether a network has modules that are neither lx's nor a library's."""
    return not all(type(module).__module__.startswith(_KNOWN_TO_FIT) for module in net.modules())


def call_once(net: nn.Module, has_pairs: bool) -> Any:
    """Return the output of a network for two texts, in evaluation mode; its first call may build further layers."""
    token_ids = torch.ones(2, 5, dtype=torch.int64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    modes = [(module, module.training) for module in net.modules()]
    try:
        return net.eval()(token_ids, mask, torch.zeros_like(token_ids) if has_pairs else None)
    finally:
        for module, is_training in modes:
            module.training = is_training
