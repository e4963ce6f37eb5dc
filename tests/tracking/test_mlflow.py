"""MLflow's store, read back with its own client."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lx.errors import LxError
from lx.tracking.context import RunContext, RunResults
from lx.tracking.csv import CsvLogger
from lx.tracking.mlflow import MlflowTracker, check_store
from support.waiting import wait_until
from tracking.test_tensorboard import TABLES

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("default")  # MLflow and SQLAlchemy are of different opinions


def tracker(path: Path, step: int = 0, **settings: Any) -> MlflowTracker:
    config = {"optimizer": {"lr": 0.25}, "weights": {"体育!": 2}}
    run = RunContext(path, "a run", config, ["model=tiny", "name=a run"], "abc-dirty", "cafe", step)
    uri = f"sqlite:///{path}/mlflow.db"
    return MlflowTracker(run, **{"tracking_uri": uri, "experiment": "books", "log_model": True, **settings})


def session_that_is_killed(path: Path) -> None:
    first, csv = tracker(path), CsvLogger(path / "metrics.csv")
    for step in (1, 2, 3):
        for logger in (first, csv):
            logger.log_metrics({"train/loss": step}, step)
    first.save()
    client = first.experiment
    assert client is not None
    wait_until(lambda: len(client.get_metric_history(first.version, "train/loss")) == 3, "MLflow's thread writes")
    csv.log_metrics({"train/loss": 4}, 4)  # goes down with this session
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_everything_is_read_back_and_nothing_twice(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    first = multiprocessing.get_context("spawn").Process(target=session_that_is_killed, args=(tmp_path,))
    first.start()
    first.join()
    assert first.exitcode == -signal.SIGKILL
    (tmp_path / "best.ckpt").write_text("weights")

    resumed = tracker(tmp_path, step=4)
    resumed.log_metrics({"train/loss": 5}, 5)
    resumed.record_best({"val/accuracy": 0.5})
    resumed.record_results(RunResults(5, {"test/accuracy": 0.75}, TABLES, checkpoint=tmp_path / "best.ckpt"))
    resumed.finish("pruned", 0)

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("books").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [(step, step) for step in range(1, 6)]
    assert (run.data.metrics["test/accuracy"], run.data.metrics["best/val/accuracy"]) == (0.75, 0.5)
    assert (run.info.run_name, run.info.status, run.data.tags["lx.status"]) == ("a run", "KILLED", "pruned")
    assert run.data.tags["lx.overrides"] == "model=tiny 'name=a run'"
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert (run.data.params["optimizer.lr"], run.data.params["weights.体育_"]) == ("0.25", "2")
    artifacts = tmp_path / "mlflow-artifacts" / run.info.run_id / "artifacts"
    files = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
    pictures = {"figures/confusion.png", "figures/reliability.png"}
    assert files == {f"tables/{name}.json" for name in TABLES} | pictures | {"checkpoints/best.ckpt"}
    table = json.loads((artifacts / "tables/classes.json").read_text(encoding="utf-8"))
    assert table == {"columns": ["class", "f1"], "data": [["<script>|体育", 0.5]]}


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_never_stops_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with caplog.at_level(logging.WARNING, logger="lx"):
        logger = tracker(tmp_path)
        logger.log_metrics({"train/loss": 0.5}, 1)
        logger.record_results(RunResults(1, {}, TABLES))
        logger.finish("finished", 0)
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("lx.")]
    assert warning.startswith("MLflow could not start at sqlite:///")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns"])
def test_a_store_of_files_is_refused(uri: str) -> None:
    with pytest.raises(LxError, match=r"try sqlite:///runs/mlflow\.db"):
        check_store(uri)


def test_missing_mlflow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.tracking.mlflow.find_spec", lambda name: None)
    with pytest.raises(LxError, match=r"pip install 'lx\[mlflow\]'"):
        check_store(None)
