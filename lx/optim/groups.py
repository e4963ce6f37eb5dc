"""Parameter groups: which parameters are decayed towards zero."""

from __future__ import annotations

from typing import Any

from torch import nn

from lx.errors import LxError

# Lookup tables and scales, not maps between spaces: there decay regularises nothing.
_UNDECAYED = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Divide the trainable parameters of a network into those with and those without weight decay.

    Matrices are decayed. Biases and other vectors, norms and embeddings are not, nor is a matrix tied to an embedding.
    Frozen parameters are in no group, and empty groups are left out.

    Returns:
        Parameter groups for any ``torch.optim.Optimizer``: ``name`` ("decay" or "no_decay"), ``params`` and
        ``param_names`` in the order of ``net.named_parameters()``, and ``weight_decay``. All but the parameters are
        plain values, so that an optimizer's state can be loaded with ``weights_only=True``.

    Raises:
        LxError: the network has no trainable parameter.
    """
    undecayed = {
        parameter
        for module in net.modules()
        if isinstance(module, _UNDECAYED)
        for parameter in module.parameters(recurse=False)
    }
    decay: dict[str, Any] = {"name": "decay", "params": [], "param_names": [], "weight_decay": weight_decay}
    no_decay: dict[str, Any] = {"name": "no_decay", "params": [], "param_names": [], "weight_decay": 0.0}
    for name, parameter in net.named_parameters():  # lists a tied parameter once
        if not parameter.requires_grad:
            continue
        group = no_decay if parameter.ndim < 2 or parameter in undecayed else decay
        group["params"].append(parameter)
        group["param_names"].append(name)
    groups = [group for group in (decay, no_decay) if group["params"]]
    if not groups:
        raise LxError("the model has no trainable parameter: every one is frozen; unfreeze some, or only evaluate")
    return groups
