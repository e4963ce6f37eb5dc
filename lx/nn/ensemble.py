"""Several networks as one.

Axis legend: B examples, M members, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks of one kind that start from other weights, trained side by side on the same batches.

    In training it returns the logits of every member, of which each has a loss of its own, so that they stay
    independent; in evaluation their mean, whose softmax is the geometric mean of the members' distributions (deep
    ensembles: Lakshminarayanan et al. 2017).

    Args:
        members: networks that take the same inputs.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Any) -> Float[Tensor, "B C"] | Float[Tensor, "B M C"]:
        """Compute logits: in training of every member, in evaluation their mean."""
        logits = torch.stack([member(*inputs) for member in self.members], dim=1)
        return logits if self.training else logits.mean(dim=1)


def members_of(net: nn.Module) -> list[nn.Module]:
    """Return the members of an ensemble; of any other network, itself."""
    return list(net.members) if isinstance(net, Ensemble) else [net]
