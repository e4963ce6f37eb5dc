"""Models of a user's own whose training fails."""

from __future__ import annotations

import os
import signal
from typing import Any

from torch import Tensor

from lx.nn.classifier import TransformerClassifier

_GOOD_STEPS = 3


class RaisingClassifier(TransformerClassifier):
    """Raises in its fourth training step."""

    steps = 0

    def forward(self, *inputs: Any) -> Tensor:
        self.steps += self.training
        if self.steps > _GOOD_STEPS:
            self.fail()
        return super().forward(*inputs)

    def fail(self) -> None:
        raise IndexError("no such row")


class KilledClassifier(RaisingClassifier):
    """Is killed in its fourth training step, as by a system out of memory."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class NotANumberClassifier(TransformerClassifier):
    """Computes no numbers."""

    def forward(self, *inputs: Any) -> Tensor:
        return super().forward(*inputs) * float("nan")
