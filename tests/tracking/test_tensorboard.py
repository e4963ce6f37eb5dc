"""TensorBoard's event files, read back with its own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lx.tasks.base import ResultTable
from lx.tasks.tables import confusion_table, reliability_table
from lx.tracking.context import RunContext, RunResults
from lx.tracking.csv import CsvLogger
from lx.tracking.tensorboard import TensorBoardTracker

TABLES = {
    "classes": ResultTable(["class", "f1"], [["<script>|体育", 0.5]]),
    "confusion": confusion_table(["a", "b"], [(0, 0, 5), (0, 1, 2)]),
    "reliability": reliability_table({"scaled": {"count": [0, 3], "confidence": [0, 0.75], "accuracy": [0, 0.5]}}),
}


def context(path: Path, step: int = 0) -> RunContext:
    return RunContext(path, "a run", {"optimizer": {"lr": 0.25}}, ["model=tiny"], "abc", "cafe", step)


def events(path: Path) -> EventAccumulator:
    return EventAccumulator(str(path / "tensorboard")).Reload()


def test_scalars_texts_figures_and_hyperparameters(tmp_path: Path) -> None:
    logger = TensorBoardTracker(context(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, 3)
    logger.finalize("success")  # as Lightning does before the results are there
    logger.record_results(RunResults(7, {"test/accuracy": 0.75, "val/loss": 0.5}, TABLES))
    logger.finish("finished", 0)
    read = events(tmp_path)
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(3, 0.5)]
    assert [(event.step, event.value) for event in read.Scalars("test/accuracy")] == [(7, 0.75)]
    assert "val/loss" not in read.Tags()["scalars"]
    assert [event.value for event in read.Scalars("best/val/loss")] == [0.5]
    texts = {tag: read.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    assert "| optimizer.lr | 0.25 |" in texts["settings/text_summary"]
    assert "| &lt;script>\\|体育 | 0.5000 |" in texts["test/classes/text_summary"]
    assert texts["status/text_summary"] == "finished"
    assert sorted(read.Tags()["images"]) == ["test/confusion", "test/reliability"]
    hyperparameters = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.lr" in hyperparameters


@pytest.mark.parametrize("is_validated_again", [True, False])
def test_a_resumed_run_has_each_value_once(is_validated_again: bool, tmp_path: Path) -> None:
    first, csv = TensorBoardTracker(context(tmp_path)), CsvLogger(tmp_path / "metrics.csv")
    for step in (1, 2, 3, 4):
        for logger in (first, csv):
            logger.log_metrics({"epoch": 1, "train/loss": step}, step)
            logger.log_metrics({"epoch": 1, "val/loss": 10 * step}, step)
    first.experiment.close()
    resumed = TensorBoardTracker(context(tmp_path, step=2))
    if is_validated_again:
        resumed.log_metrics({"epoch": 1, "val/loss": 20}, 2)
    resumed.log_metrics({"epoch": 1, "train/loss": 30}, 3)
    resumed.finish("finished", 0)
    read = events(tmp_path)
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(1, 1), (2, 2), (3, 30)]
    assert [(event.step, event.value) for event in read.Scalars("val/loss")] == [(1, 10), (2, 20)]
