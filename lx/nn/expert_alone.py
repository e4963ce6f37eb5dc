"""No network: ``model=linear``."""

from __future__ import annotations

from torch import nn


class ExpertAlone(nn.Module):
    """Takes the place of a network where the linear expert has none beside it: no weights, no optimizer steps."""

    def __init__(self, vocab_size: int, num_outputs: int, num_token_types: int) -> None:
        """Take the sizes that every model takes; they are not needed here."""
        super().__init__()
