"""A model of a user's own that takes its time, so that a run lasts long enough to be interrupted on any machine."""

from __future__ import annotations

import os
import time
from typing import Any

from torch import Tensor

from lx.nn.classifier import TransformerClassifier


class SlowClassifier(TransformerClassifier):
    """Sleeps for ``$SLOW`` seconds before every training step."""

    def forward(self, *inputs: Any) -> Tensor:
        if self.training:
            time.sleep(float(os.environ.get("SLOW", "0")))
        return super().forward(*inputs)
