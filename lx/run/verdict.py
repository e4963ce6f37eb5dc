"""How a trial and its sweep communicate: by two files in the run directory.

The run alone writes ``reports.json``, the objective of each validation so far; the sweep alone writes ``verdict.json``,
the last validation that it has judged, and whether the run goes on. A run without that file is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lx.run.directory import RunDirectory
from lx.system.files import atomic_write_json

GO_ON, PRUNE, PAUSE = "go_on", "prune", "pause"


@dataclass(frozen=True)
class Report:
    """A validation of a run.

    Attributes:
        validation: its number, from 1.
        step: optimizer steps before it.
        objective: what it measured.
        final: whether training ends here in any case, so that no verdict is asked for.
    """

    validation: int
    step: int
    objective: float
    final: bool


def read_reports(run: RunDirectory) -> list[Report]:
    """The reports of a run so far."""
    try:
        return [Report(**report) for report in json.loads(run.reports.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def write_reports(run: RunDirectory, reports: Sequence[Report]) -> None:
    """Replace the reports of a run."""
    atomic_write_json(run.reports, [asdict(report) for report in reports])


def read_verdict(run: RunDirectory) -> tuple[int, str]:
    """Return the number of the validation that was judged last, 0 before the first, and the verdict on it."""
    content = json.loads(run.verdict.read_text(encoding="utf-8"))
    return content["validation"], content["verdict"]


def write_verdict(run: RunDirectory, validation: int, verdict: str) -> None:
    """Replace the verdict on a run."""
    atomic_write_json(run.verdict, {"validation": validation, "verdict": verdict})
