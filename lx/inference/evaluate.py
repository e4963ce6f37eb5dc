"""Computes a run's metrics again, on its own test split or on other data."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from lx.data.batches import TokenDataset
from lx.data.plan import eval_plan, rank_batches
from lx.data.tokens.table import TokenTable
from lx.distributed.process_group import process_group
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.inference.average import averaged_task, mean_outputs
from lx.inference.evaluation_rows import EvaluationRows, Experts
from lx.inference.load import LoadedRun
from lx.kernels.swap import swap_in_kernels
from lx.report.tables import result_table
from lx.run.result import Result
from lx.system import console
from lx.system.hardware import Hardware, resolve
from lx.system.logging import log_to
from lx.tasks.base import Evaluation, Task

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_ROWS = 4096  # whose labels and mean outputs are compared at a time


def evaluate(loaded: LoadedRun, overrides: Sequence[str] = ()) -> Result:
    """Evaluate a run's best weights.

    Args:
        loaded: the run.
        overrides: see :class:`lx.inference.evaluation_rows.EvaluationRows`. Without data the run's own test split is
            used, from its directory.

    Returns:
        Test metrics, and the details that the task adds.

    Raises:
        LxError: an override that makes no sense here, or data that does not fit the run.
    """
    chosen = EvaluationRows(loaded, overrides)
    own_rows = chosen.read(loaded, Path()) if chosen.is_own else None
    # This import is the slowest of all, and sets up its own logging: bad input is refused before it.
    from lx.training.trainer import evaluation_trainer

    rank_info = RankInfo.from_environment()
    hardware = _hardware(chosen, rank_info)
    swap_in_kernels(loaded.net, hardware.device, hardware.product_dtype)
    with ExitStack() as stack:
        stack.enter_context(process_group(rank_info, hardware.device, loaded.directory.path))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-eval-"))
        stack.enter_context(log_to(Path(scratch) / "log.txt", on_screen=rank_info.is_first))
        rows = own_rows or chosen.read(loaded, Path(scratch))
        trainer = evaluation_trainer(hardware, rank_info)
        result = _evaluate(loaded, *rows, trainer, rank_info, hardware.pad_multiple)
        result.details = {"data": {**chosen.describe(), "rows": len(rows[0])}, **result.details}
        return result


def evaluate_average(members: Sequence[LoadedRun], directory: Path, overrides: Sequence[str] = ()) -> Result:
    """Evaluate the average of several runs.

    Args:
        members: the runs.
        directory: the sweep, or the folder of runs, that they belong to.
        overrides: as for :func:`evaluate`.

    Raises:
        LxError: as there; the runs differ in task, classes or test split; or several ranks are asked for.
    """
    task, chosen, rank_info = averaged_task(members), EvaluationRows(members[0], overrides), RankInfo.from_environment()
    if rank_info.world_size > 1:
        raise LxError("an average is evaluated by one process: leave out hardware.devices")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lx-eval-") as folder, log_to(Path(folder) / "log.txt"):
        table, mean = mean_outputs(members, chosen, _hardware(chosen, rank_info), Path(folder))
        metrics = task.metrics(choose=False)
        for start in range(0, len(table), _ROWS):
            outputs = torch.from_numpy(mean[start : start + _ROWS])
            metrics.update(task.logits_of(outputs), task.collate(table.labels.slice(start, _ROWS)))
    evaluation = task.summarize(metrics.compute(), choose=False)
    return Result(
        "finished",
        str(directory),
        metrics={f"test/{name}": value for name, value in evaluation.scalars.items()},
        seconds=time.perf_counter() - started,
        details={
            "data": {**chosen.describe(), "rows": len(table)},
            "members": [str(member.directory.path) for member in members],
            **evaluation.details,
        },
    )


def _hardware(chosen: EvaluationRows, rank_info: RankInfo) -> Hardware:
    settings = chosen.cfg.hardware
    return resolve(
        settings.accelerator, settings.precision, settings.threads, rank_info.local_rank, rank_info.local_world_size
    )


def file_name(result: Result) -> str:
    """Return the name of an evaluation's file in the run directory, which is different for other data."""
    data = result.details["data"]
    if "fingerprint" not in data:
        return "eval.json"
    name = re.sub(r"\W+", "_", Path(data["source"]).stem).strip("_")[:40]
    return f"eval-{name}-{data['fingerprint'][:8]}.json"


def _evaluate(
    loaded: LoadedRun, table: TokenTable, expert: Experts, trainer: Trainer, rank_info: RankInfo, pad_multiple: int
) -> Result:
    from lx.training.module import TextClassifier

    started = time.perf_counter()
    pad_id, collate = loaded.tokenizer.pad_id, loaded.task.collate
    dataset = TokenDataset(table, pad_id, loaded.has_pairs, collate, pad_multiple, expert)
    batches = rank_batches(eval_plan(table.lengths), rank_info.rank, rank_info.world_size)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, sampler=batches)
    module = TextClassifier(loaded.net, loaded.task)
    trainer.test(module, dataloaders=loader, verbose=False)
    return Result(
        "finished",
        str(loaded.directory.path),
        metrics=module.scalars("test"),
        seconds=time.perf_counter() - started,
        details=module.evaluations["test"].details,
    )


def show(result: Result, task: Task) -> None:
    """Print the metrics and the task's tables."""
    tables = task.show(Evaluation(result.metrics, result.details))
    console.show(result_table(result.metrics, result.seconds), *tables)
