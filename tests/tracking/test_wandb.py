"""The real wandb client, offline, read back with wandb's own reader (``wandb leet inspect``)."""

from __future__ import annotations

import json
import logging
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lx.tasks.base import ResultTable
from lx.tasks.tables import confusion_table
from lx.tracking.context import RunContext, RunResults
from lx.tracking.loggers import finish, record_best, record_results
from lx.tracking.wandb import WandbTracker
from lx.tracking.wandb_parts import parts_of
from support import wandb_records

METRICS = {"test/accuracy": 0.75, "val/accuracy": 0.875}
TABLES = {
    "classes": ResultTable(
        ["class", "precision", "recall", "f1", "support", "confused_with"],
        [["体育", 1.0, 5 / 7, 10 / 12, 7, "tech"], ["tech", 0.6, 1.0, 0.75, 3, None]],
    ),
    "confusion": confusion_table(["体育", "tech"], [(0, 0, 5), (0, 1, 2), (1, 1, 3)]),
}
PATCH = b"--- a\n+++ b\n"
RESULTS = RunResults(17, METRICS, TABLES)


@pytest.fixture(autouse=True)
def fresh_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A wandb client without credentials or memory of another test, which cannot leave this machine."""
    for name in ("API_KEY", "PROJECT", "ENTITY", "RUN_GROUP", "TAGS", "SWEEP_ID", "DATA_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


def context(run_dir: Path) -> RunContext:
    return RunContext(
        dir=run_dir,
        name="first try",
        config={"optimizer": {"lr": 3e-4}, "tags": [2, 3], "name": "first try"},
        overrides=["optimizer.lr=3e-4", "model=tiny", "experiment=trec"],
        revision="0123abc-dirty",
        id="0123cafe",
        corpus={"fingerprint": "f00d", "train.rows": 29},
    )


def tracker(run_dir: Path, **settings: Any) -> WandbTracker:
    defaults: dict[str, Any] = {
        "project": None,
        "entity": None,
        "group": None,
        "tags": [],
        "notes": None,
        "mode": "auto",
        "init_timeout": 1,
        "finish_timeout": 5,
    }
    return WandbTracker(context(run_dir), **{**defaults, **settings})


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of lx's own lines."""
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("lx.")]


def inspect(run_dir: Path, *options: str) -> str:
    (part,) = run_dir.glob("wandb/offline-run-*")
    return wandb_records.inspect(part, *options)


def test_the_offline_record_has_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lx.tracking.wandb_media.diff", lambda: PATCH)
    caplog.set_level(logging.INFO, logger="lx")
    run_dir = tmp_path / "a run"
    logger = tracker(run_dir, project="shelf", group="five", tags=["seven"], notes="eleven")
    logger.log_metrics({"epoch": 1, "train/loss": 0.5}, step=13)
    logger.log_metrics({"epoch": 1, "val/loss": 0.75}, step=13)
    logger.log_metrics({"epoch": 2, "train/loss": 0.25}, step=17)
    record_best([logger], {"val/accuracy": 0.5})
    record_results([logger], RESULTS)
    finish([logger], "stopped", 143)
    finish([logger], "failed", 1)  # only the first end counts

    summary = json.loads(inspect(run_dir, "--summary"))
    assert (summary["name"], summary["project"], summary["notes"]) == ("first try", "shelf", "eleven")
    assert summary["tags"] == ["seven"]
    assert (summary["state"], summary["exit_code"]) == ("failed", 143)
    assert summary["config"] == {
        "optimizer.lr": 3e-4,
        "tags": [2, 3],
        "name": "first try",
        "corpus.fingerprint": "f00d",
        "corpus.train.rows": 29,
        "overrides": ["optimizer.lr=3e-4", "model=tiny", "experiment=trec"],
        "revision": "0123abc-dirty",
    }
    expected = {"test/accuracy": 0.75, "val/accuracy": 0.875, "train/loss": 0.25, "status": "stopped"}
    assert {name: summary["summary"][name] for name in expected} == expected

    records = [json.loads(line) for line in inspect(run_dir).splitlines()]
    (of_run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (of_run["run_id"], of_run["run_group"], of_run["job_type"]) == ("0123cafe", "five", "train")
    assert any(record["type"] == "stats" for record in records), "system metrics"
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    rows = [{name: value for name, value in item.items() if not name.startswith("_")} for item in items]
    assert rows[:3] == [
        {"trainer/global_step": 13, "epoch": 1, "train/loss": 0.5},
        {"trainer/global_step": 13, "epoch": 1, "val/loss": 0.75},
        {"trainer/global_step": 17, "epoch": 2, "train/loss": 0.25},
    ]
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert "trainer/global_step" in [metric.get("step_metric") for metric in metrics]

    (sync_dir,) = run_dir.glob("wandb/offline-run-*")
    assert (sync_dir / "files" / "diff.patch").read_bytes() == PATCH
    command = f"lx sync {shlex.quote(str(run_dir))}"
    assert logger.sync_command == command
    assert said(caplog) == [("INFO", f"W&B records offline (WANDB_MODE=offline). To upload: {command}")]

    tables = {
        path.name.split("_")[0]: json.loads(path.read_text(encoding="utf-8"))["data"]
        for path in sync_dir.glob("files/media/table/**/*.table.json")
    }
    assert tables == {
        "classes": [["体育", 1.0, 5 / 7, 10 / 12, 7, "tech"], ["tech", 0.6, 1.0, 0.75, 3, None]],
        "confusion": [["体育", "体育", 5], ["体育", "tech", 2], ["tech", "tech", 3]],
    }
    assert not (tmp_path / "home" / ".local").exists(), "a moved run directory could not be synced"


def test_unreachable_server_means_an_offline_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.delenv("WANDB_MODE")
        logger = tracker(tmp_path)
        logger.log_metrics({"train/loss": 0.5}, step=13)
        finish([logger], "finished", 0)
    summary = json.loads(inspect(tmp_path, "--summary"))
    assert (summary["exit_code"], summary["summary"]["train/loss"], summary["project"]) == (0, 0.5, "lx")
    (level, warning), (_, line) = said(caplog)
    assert level == "WARNING"
    assert warning.startswith("W&B could not start this run online: ")
    assert line == f"W&B records offline (not reachable). To upload: lx sync {tmp_path}"
    assert [part.id for part in parts_of(tmp_path)] == ["0123cafe", "0123cafe"], "the run that W&B will show"


def test_a_dead_client_ends_the_record_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = tracker(tmp_path)
    run = logger.experiment

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ConnectionResetError("service died")

    monkeypatch.setattr(run, "log", broken)
    for step in (2, 3, 5):
        logger.log_metrics({"train/loss": 0.5}, step=step)
    record_results([logger], RESULTS)
    finish([logger], "finished", 0)
    run.finish()
    ((level, message),) = said(caplog)
    assert level == "WARNING"
    assert message.startswith("W&B could not write metrics: service died. Training goes on; ")
    assert message.endswith(f"lx sync {tmp_path}")


@pytest.mark.parametrize(
    ("folders", "unsent"),
    [
        (["offline-run-20260102_000000-a", "offline-run-20260101_000000-b"], [1, 0]),
        (["offline-run-20260102_000000-a", "run-20260103_000000-a", "offline-run-20260101_000000-b"], [2, 0]),
        (["run-20260103_000000-a/incomplete", "offline-run-20260104_000000-a"], [0, 1]),
        (["offline-run-20260101_000000-a/run-a.wandb.synced", "offline-run-20260102_000000-a"], [1]),
        (["run-20260101_000000-a/incomplete", "run-20260101_000000-a/run-a.wandb.synced"], []),
    ],
)
def test_parts_that_are_on_this_machine_alone_in_order(tmp_path: Path, folders: list[str], unsent: list[int]) -> None:
    for folder in folders:
        name, _, marker = folder.partition("/")
        (tmp_path / "wandb" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "wandb" / name / f"run-{name[-1]}.wandb").touch()
        if marker:
            (tmp_path / "wandb" / folder).touch()
    names = [part.path.name for part in parts_of(tmp_path) if part.is_unsent]
    assert names == [folders[number].partition("/")[0] for number in unsent]


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    logger = tracker(tmp_path / "run", mode="disabled")
    logger.log_metrics({"train/loss": 0.5}, step=2)
    logger.log_hyperparams({"a": 1})
    record_results([logger], RESULTS)
    finish([logger], "finished", 0)
    assert logger.sync_command is None
    assert list(tmp_path.iterdir()) == []
