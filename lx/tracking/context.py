"""The facts about a run for its trackers, and what a tracker may offer beyond Lightning's ``Logger``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lx.tasks.base import ResultTable


@dataclass(frozen=True)
class RunContext:
    """The facts about one run that belong in its record.

    Args:
        dir: The run directory; every tracker writes below it.
        name: The run's name, as a person sees it.
        config: The resolved config as plain containers.
        overrides: The command line's Hydra overrides, in order.
        revision: Git revision of the working directory (see :func:`lx.system.git.revision`).
        id: Identifies the run to trackers; the same when it is resumed.
        step: Optimizer steps taken before; what was recorded of later ones is void.
        agent: What the W&B agent that started the run has said of it (:func:`lx.tracking.wandb_agent.agent_run`).
    """

    dir: Path
    name: str
    config: dict[str, Any]
    overrides: list[str]
    revision: str | None
    id: str
    step: int = 0
    agent: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Tracker(Protocol):
    """A logger that also keeps a run's results and its end state."""

    def record_evaluation(self, metrics: Mapping[str, float], tables: Mapping[str, ResultTable]) -> None:
        """Write the metrics of the best weights: of validation after each, and at the end of the test, with tables."""

    def finish(self, status: str, exit_code: int) -> None:
        """Close the record with the run's end state."""
