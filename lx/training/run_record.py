"""What a run writes into its directory, beside configuration, checkpoints and metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lx.config.compose import resolved
from lx.data.datamodule import TextDataModule
from lx.nn.ensemble import members_of
from lx.nn.pretrained import PretrainedClassifier
from lx.run.directory import RunDirectory
from lx.run.ending import begin, record_end
from lx.run.mistakes import read_mistakes
from lx.run.result import Result
from lx.system.files import atomic_write, atomic_write_json, link_or_copy
from lx.system.signals import Stopped
from lx.tasks.base import ResultTable
from lx.tracking.context import RunContext, RunResults
from lx.tracking.wandb_agent import end_of_stopped
from lx.training.builders import BuiltRun
from lx.training.callbacks.checkpoint import Checkpoint
from lx.training.callbacks.stopwatch import Stopwatch
from lx.training.module import TextClassifier

log = logging.getLogger(__name__)


class Session:
    """One process's time with a run, from its start to how it ends.

    Nothing of a run that is resumed is changed before :meth:`begin`.

    Args:
        run: its directory.
        is_first: whether this is the first rank, which writes.
        seconds_before: that the start of its process has taken so far.
    """

    def __init__(self, run: RunDirectory, is_first: bool, seconds_before: float = 0.0) -> None:
        self.run = run
        self.is_first = is_first
        self.is_resumed = run.model.exists() or run.resumption.exists()
        self._checkpoint: Checkpoint | None = None
        self.stopwatch = Stopwatch(seconds_before)

    @property
    def has_begun(self) -> bool:
        """Whether the start has worked."""
        return self._checkpoint is not None

    def begin(self, checkpoint: Checkpoint) -> None:
        """Note that the start has worked; the checkpoint callback says from now on how far the run has come."""
        self._checkpoint = checkpoint
        if self.is_first:
            begin(self.run)

    def record_end(self, error: BaseException) -> None:
        """Write a result for a run that did not finish."""
        log.debug("the run ended", exc_info=error)
        if not self.is_first or (self.is_resumed and not self.has_begun):
            return
        status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        if isinstance(error, Stopped):
            status, _ = end_of_stopped(error.exit_code)
        reached = None if self._checkpoint is None else self._checkpoint.reached
        record_end(self.run, status, str(error) or type(error).__name__, reached, self.stopwatch.seconds)


def save_recipe(run: RunDirectory, built: BuiltRun) -> None:
    """Write the values that the data has chosen into the run's configuration, and their reasons beside it.

    From now on the run is this one, whatever a later lx would choose.
    """
    if built.reasons:
        atomic_write_json(run.recipe, built.reasons)
        run.write_config(resolved(built.cfg))


def save_model_inputs(run: RunDirectory, data: TextDataModule, module: TextClassifier) -> None:
    """Write what evaluation and prediction need besides configuration and weights.

    These are the tokenizer, the labels, the sizes of the network, the tokens of the test split, and the linear expert.
    """
    first = members_of(module.net)[0]
    with atomic_write(run.tokenizer) as temporary:
        temporary.write_text(data.tokenizer.to_json(), encoding="utf-8")
    label_set = dict(data.corpus.label_set)
    if "class_names" in label_set:  # in a file of its own, for other programs
        atomic_write_json(run.labels, label_set.pop("class_names"))
    sizes = {
        "vocab_size": data.tokenizer.vocab_size,
        "num_outputs": module.task.num_outputs,
        "num_token_types": data.num_token_types,
        "has_pairs": data.has_pairs,
        "label_set": label_set,
        "architecture": first.architecture() if isinstance(first, PretrainedClassifier) else None,
        "data": data.fingerprint,
    }
    atomic_write_json(run.model, sizes)
    if "test" in data.tables:
        link_or_copy(data.tables["test"].path, run.test)
    if data.expert is not None:
        link_or_copy(data.expert.tensors, run.linear)
        if "test" in data.expert.scores:
            link_or_copy(data.expert.scores["test"], run.linear_test)


def run_context(run: RunDirectory, config: dict[str, Any], step: int, data: TextDataModule) -> RunContext:
    """The facts about a run that its loggers record.

    Args:
        run: its directory.
        config: its resolved configuration.
        step: optimizer steps taken before, by a run that is resumed.
        data: that it trains on.
    """
    environment = run.read_json(run.environment)
    report = data.corpus.report
    return RunContext(
        dir=run.path,
        name=config["name"],
        config=config,
        overrides=environment["overrides"],
        revision=environment["revision"],
        id=environment["run_id"],
        step=step,
        agent=environment.get("wandb", {}),  # runs of lx 0.1 have none
        corpus={
            "fingerprint": data.fingerprint,
            "labels": report.labels,
            **{f"{split}.rows": facts.rows for split, facts in report.splits.items()},
            **{f"{split}.repeats": facts.repeats for split, facts in report.splits.items()},
        },
    )


def run_results(run: RunDirectory, result: Result, tables: Mapping[str, ResultTable]) -> RunResults:
    """What its loggers record of what came out of a run: the task's tables, and that of the gravest mistakes."""
    by_split = read_mistakes(run)
    if mistakes := by_split.get("test", by_split.get("validation")):
        columns = list(mistakes[0])
        rows = [[_cell(mistake.get(column)) for column in columns] for mistake in mistakes]
        tables = {**tables, "mistakes": ResultTable(columns, rows)}
    checkpoint = run.best if run.best.exists() else None
    return RunResults(result.steps, result.metrics, tables, result.details, checkpoint)


def _cell(value: Any) -> Any:
    """A set of labels, or their probabilities, are one cell of text: W&B wants one type a column."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {probability:.3f}" for name, probability in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value
