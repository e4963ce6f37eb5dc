"""The facts about a run for its trackers, and what a tracker may offer beyond Lightning's ``Logger``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lx.config.flatten import flatten
from lx.errors import first_line
from lx.tasks.base import ResultTable

log = logging.getLogger(__name__)


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
        corpus: The data's fingerprint and counts, by dotted key.
    """

    dir: Path
    name: str
    config: dict[str, Any]
    overrides: list[str]
    revision: str | None
    id: str
    step: int = 0
    agent: Mapping[str, str] = field(default_factory=dict)
    corpus: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The config by dotted key, and what else says what the run is."""
        corpus = {f"corpus.{key}": value for key, value in self.corpus.items()}
        return {**flatten(self.config), **corpus, "overrides": self.overrides, "revision": self.revision}


@dataclass(frozen=True)
class RunResults:
    """What came out of a run.

    Args:
        step: Optimizer steps taken.
        metrics: Of the best weights, by name.
        tables: Of the task, by name.
        details: What else ``result.json`` holds of the task.
        checkpoint: The best weights; None: there are none.
    """

    step: int
    metrics: Mapping[str, float]
    tables: Mapping[str, ResultTable]
    details: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None

    @property
    def split(self) -> str:
        """What the tables are of: ``test``, or ``val`` where there is no test split."""
        return "test" if any(key.startswith("test/") for key in self.metrics) else "val"


@runtime_checkable
class Tracker(Protocol):
    """A logger that also keeps a run's results and its end state."""

    def record_best(self, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the best validation so far, after each."""

    def record_results(self, results: RunResults) -> None:
        """Write what came out of the run."""

    def finish(self, status: str, exit_code: int) -> None:
        """Close the record with the run's end state."""


@runtime_checkable
class ReportTracker(Protocol):
    """A logger that can show the run's report.

    Attributes:
        wants_report: Whether it does.
    """

    wants_report: bool

    def record_report(self, path: Path) -> None:
        """Show an HTML file."""


@contextmanager
def never_raising(service: str, action: str, give_up: Callable[[], str]) -> Iterator[None]:
    """Give a tracker up, with one warning, on whatever goes wrong inside: network, database, disk.

    Args:
        service: Its name, for the warning.
        action: What the block does, for the warning.
        give_up: Switches the tracker off, and returns how the warning ends: what a person can do.
    """
    try:
        yield
    except Exception as error:
        log.warning("%s could not %s: %s. Training goes on%s", service, action, first_line(error), give_up())
