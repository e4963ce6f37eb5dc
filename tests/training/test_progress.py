"""What is shown of a training: lines in a pipe, a bar in a terminal."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lx
from lx.distributed.rank_info import RankInfo
from lx.run.directory import RunDirectory
from lx.system.signals import StopRequest
from lx.training.callbacks import progress_bar
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import EvaluationBar, ProgressBar
from lx.training.callbacks.progress_view import LineView, LiveView, Status, view_for
from lx.training.run_length import RunLength
from lx.training.trainer import build_callbacks
from support.counting import LENGTH, Batch, Tiny, fit, loader, trainer
from support.tiny_run import train_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]


def bar() -> tuple[MetricLogger, ProgressBar]:
    """The callbacks that show progress, in the order of a run."""
    metric_logger = MetricLogger(LENGTH)
    return metric_logger, ProgressBar(metric_logger, LENGTH)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Progress lines, with what the clock decides replaced."""
    said = [record.getMessage() for record in caplog.records if record.name == "lx.training.callbacks.progress_view"]
    said = [re.sub(r"[\d.]+[kM]? tokens/s", "N tokens/s", line) for line in said]
    return [re.sub(r"[\d.]+ s\b", "T s", line) for line in said]


def test_a_pipe_gets_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    monkeypatch.setattr("lx.training.callbacks.progress_view._LINE_S", 0.0)
    fit(*bar())
    assert lines(caplog) == [
        "epoch 1/2  step 3/10  loss 1.000  acc 0.429  N tokens/s  T s left",
        "epoch 1/2  step 5/10  validation  loss 0.1250  (T s)",
        "epoch 2/2  step 6/10  loss 2.333  acc 0.429  N tokens/s  T s left",
        "epoch 2/2  step 9/10  loss 2.000  acc 0.429  N tokens/s  T s left",
        "epoch 2/2  step 10/10  validation  loss 1.1250  (T s)",
        "epoch 2/2  step 10/10  loss 4.000  acc 0.429  N tokens/s",
    ]


def test_lines_are_ten_seconds_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    fit(*bar())
    shown = [line.split("  ")[1:3] for line in lines(caplog)]
    assert shown[:2] == [["step 5/10", "validation"], ["step 10/10", "validation"]]
    assert [step for step, _ in shown[2:]] == ["step 10/10"], "and one at the end"


def test_a_run_shows_its_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.training.callbacks.progress_view._LINE_S", 0.0)
    train_tiny(tmp_path, "trainer.log_every_n_steps=4")
    log = (tmp_path / "run" / "log.txt").read_text()
    shown = re.findall(r"(epoch \S+  step \S+)  (loss|validation)", log)
    assert shown == [
        ("epoch 1/2  step 4/12", "loss"),
        ("epoch 1/2  step 6/12", "validation"),
        ("epoch 2/2  step 8/12", "loss"),
        ("epoch 2/2  step 12/12", "loss"),
        ("epoch 2/2  step 12/12", "validation"),
        ("epoch 2/2  step 12/12", "loss"),
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_rank_shows_progress(rank: int, tmp_path: Path) -> None:
    rank_info = RankInfo(rank, 2, rank, 2)
    callbacks, _ = build_callbacks(RunDirectory(tmp_path), lx.compose([]), LENGTH, 0, StopRequest(), rank_info)
    assert any(isinstance(callback, EvaluationBar) for callback in callbacks) == (rank == 0)


def test_status_shows_what_is_known() -> None:
    length = RunLength(300, 1234, 300)
    assert Status(length, 0).position() == "epoch 1/5  step 0/1234"
    assert Status(length, 300).position() == "epoch 1/5  step 300/1234"
    assert Status(length, 301).position() == "epoch 2/5  step 301/1234"
    assert Status(length, 7).figures() == ""
    full = Status(length, 7, {"loss": 0.4567, "accuracy": 0.5, "squared_error": 2.0}, 98765.4, 61.0)
    assert full.figures() == "loss 0.457  acc 0.500  squared_error 2.000  98.8k tokens/s  1:01 left"


@pytest.mark.parametrize(("speed", "text"), [(950.4, "950"), (1000, "1.0k"), (2_345_678, "2.3M")])
def test_speed(speed: float, text: str) -> None:
    assert Status(LENGTH, 1, tokens_per_second=speed).figures() == f"{text} tokens/s"


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=100, color_system=None, _environ={}), file


def test_a_terminal_gets_a_bar(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    screen, file = terminal()
    monkeypatch.setattr(progress_bar, "console", lambda stderr: screen)
    monkeypatch.setattr("lx.training.callbacks.progress_view._REFRESH_S", 0.0)
    built = fit(*bar())
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    for piece in ("epoch 1/2  step 1/10", "epoch 2/2  step 10/10", "loss ", " tokens/s"):
        assert piece in shown
    assert re.search("validation +━", shown)
    assert [line.split("  ")[2] for line in lines(caplog)] == ["validation"] * 2
    assert shown.rstrip("\n").splitlines()[-1].startswith("epoch 2/2  step 10/10")
    file.truncate(0)
    built.test(Tiny(), loader(), verbose=False)
    assert "test ━" in file.getvalue()
    assert "step" not in file.getvalue()


def test_an_error_closes_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            if batch.index == 3:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    screen, file = terminal()
    monkeypatch.setattr(progress_bar, "console", lambda stderr: screen)
    monkeypatch.setattr("lx.training.callbacks.progress_view._REFRESH_S", 0.0)
    with pytest.raises(ZeroDivisionError):
        trainer(*bar()).fit(Failing(), loader(), loader())
    assert "\x1b[?25h" in file.getvalue(), "the cursor is visible again"


def test_views() -> None:
    screen, _ = terminal()
    assert type(view_for(screen)) is LiveView
    assert type(view_for(Console(file=io.StringIO()))) is LineView
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert type(view_for(dumb)) is LineView
