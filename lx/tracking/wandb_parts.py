"""The parts of a run's W&B record: a directory below ``RUN/wandb`` for each session of the run, online or offline."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lx.tracking.wandb_log import cut_to_whole_records, holds_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One part of a record.

    Attributes:
        path: its directory, ``[offline-]run-DATE_TIME-ID``.
    """

    path: Path

    @property
    def id(self) -> str:
        """The run that W&B adds it to."""
        return self.path.name.partition("run-")[2].split("-", 1)[1]

    @property
    def log(self) -> Path:
        """The file that everything is in."""
        return self.path / f"run-{self.id}.wandb"

    @property
    def is_unsent(self) -> bool:
        """Whether something of it is on this machine alone."""
        if self._synced.exists() or not self.log.exists():
            return False
        return self.path.name.startswith("offline-") or self._incomplete.exists()

    def make_ready(self) -> bool:
        """Make W&B take the part even if its client was killed; return whether there is anything to take."""
        cut_to_whole_records(self.log)
        if holds_run(self.log):
            return True
        log.warning("%s is left out: W&B's client was killed before it had written anything", self.path)
        self._synced.touch()
        return False

    def mark_incomplete(self) -> None:
        """Note that not all of a part that was recorded online has arrived at W&B."""
        self._incomplete.touch()

    @property
    def _incomplete(self) -> Path:
        return self.path / "incomplete"

    @property
    def _synced(self) -> Path:
        """What W&B's client marks a log with of which everything has arrived."""
        return self.log.with_suffix(".wandb.synced")

    def last_row(self) -> dict[str, float]:
        """Read the last row with wandb's own reader; empty without one. A killed client leaves the log cut off."""
        last: dict[str, float] = {}
        command = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", "--json", str(self.log)]
        environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as reader:
            assert reader.stdout is not None
            for line in reader.stdout:
                if b'"type":"history"' in line:
                    last = json.loads(line)["history"]["item"]
        return last


def parts_of(run_dir: Path) -> list[Part]:
    """Return the parts of a run's record in the order in which they were begun; their names begin with the time."""
    folders = [path for path in run_dir.glob("wandb/*run-*-*") if path.is_dir() and not path.is_symlink()]
    return sorted(map(Part, folders), key=lambda part: part.path.name.partition("run-")[2])


def last_row(parts: Sequence[Part]) -> dict[str, float]:
    """Return the last row that any part holds; empty if there is none."""
    return next((row for part in reversed(parts) if (row := part.last_row())), {})
