"""What a report reads of a run directory, which may be a stranger's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os.path import lexists
from typing import Any

from lx.data.tokens.table import TokenTable
from lx.errors import LxError
from lx.report.drawing import label
from lx.report.history import Series, read_history
from lx.run.directory import RunDirectory
from lx.run.mistakes import read_mistakes
from lx.run.predictions import Predictions, read_predictions
from lx.run.result import Result


@dataclass(frozen=True)
class RunRecord:
    """What a report reads of a run.

    Attributes:
        run: its directory.
        name: as it is called in the report.
        config: its configuration.
        environment: content of ``environment.json``.
        sizes: content of ``model.json``; empty before it is written.
        result: how it ended; None: it has not ended.
        history: its metrics against the step.
        predictions: of validation and test; None: there are none.
        test: token ids of the test split; None: there are none.
    """

    run: RunDirectory
    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    sizes: dict[str, Any]
    result: Result | None
    history: Mapping[str, Series]
    predictions: Predictions | None
    test: TokenTable | None

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in label order; none of a task without classes."""
        names = self.run.read_json(self.run.labels) if lexists(self.run.labels) else []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise LxError(f"{self.run.labels} does not hold the names of classes")
        return names

    @cached_property
    def mistakes(self) -> dict[str, list[dict[str, Any]]]:
        """The gravest mistakes of each split; see :func:`lx.run.mistakes.read_mistakes`."""
        return read_mistakes(self.run)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best validation and of the test, as far as they are numbers."""
        metrics = self.result.metrics if self.result is not None else {}
        return {str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def read_run(run: RunDirectory) -> RunRecord:
    """Read a run, perhaps a stranger's; it may still be under way.

    Raises:
        LxError: no run, or one whose files are damaged.
    """
    config = run.read_config()
    environment = run.read_json(run.environment) if lexists(run.environment) else {}
    if not isinstance(environment, dict):
        raise LxError(f"{run.environment} does not hold the environment of a run")
    return RunRecord(
        run=run,
        name=label(run.path.resolve().name, 60),
        config=config,
        environment=environment,
        sizes=run.read_sizes() if lexists(run.model) else {},
        result=run.read_result() if lexists(run.result) else None,
        history=read_history(run),
        predictions=read_predictions(run) if lexists(run.predictions) else None,
        test=TokenTable(run.trusted(run.test)) if lexists(run.test) else None,
    )
