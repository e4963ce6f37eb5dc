"""How long a run has taken, over all of its sessions."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback
from typing_extensions import override


class Stopwatch(Callback):
    """Counts from ``seconds_before`` its creation; a resumed run adds the seconds of the training state it starts from.

    Work that an interruption has lost does not count: an interrupted run takes as long as an undisturbed one, and
    longer only by starting again.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._started = time.perf_counter() - seconds_before

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._started -= state_dict["seconds"]
