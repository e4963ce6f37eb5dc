from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

import lx
from lx.distributed.rank_info import RankInfo
from lx.run.directory import RunDirectory
from lx.system.hardware import resolve
from lx.system.signals import StopRequest
from lx.training.callbacks import progress_bar
from lx.training.callbacks.metric_logger import MetricLogger, Totals
from lx.training.callbacks.progress_bar import EvaluationBar, ProgressBar
from lx.training.callbacks.progress_view import LineView, LiveView, Status, view_for
from lx.training.run_length import RunLength
from lx.training.trainer import build_callbacks, build_trainer
from support.tiny_run import train_tiny

STEPS_PER_EPOCH = 5
LENGTH = RunLength(STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH)


@dataclass
class Batch:
    index: int
    num_examples: int = 7
    num_tokens: int = 11


class Tiny(pl.LightningModule):
    """Loss 0, 1, 2, ... by step within the epoch; three of seven examples right."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        optimizer = self.optimizers()
        optimizer.step()  # type: ignore[union-attr]
        optimizer.param_groups[0]["lr"] = 1.0 + self.global_step  # type: ignore[union-attr]
        loss = torch.tensor(float(batch.index))
        return {"loss": loss, "counts": {"accuracy": torch.tensor(3)}, "grad_norm": 2 * loss}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", 0.125 + self.current_epoch, logger=False, batch_size=7)
        self.log("hidden", 1.0, logger=False, batch_size=7)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        pass


class Rows(Logger):
    """Keeps what it is given."""

    name = version = None

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def loader() -> DataLoader[Batch]:
    return DataLoader([Batch(index) for index in range(STEPS_PER_EPOCH)], batch_size=None)  # type: ignore[arg-type]


def trainer(*callbacks: pl.Callback, logger: Logger | None = None, length: RunLength = LENGTH) -> pl.Trainer:
    """lx's own trainer, with a row every three steps."""
    cfg = lx.compose(["hardware=cpu", "trainer.log_every_n_steps=3"])
    loggers = [] if logger is None else [logger]
    return build_trainer(cfg, resolve("cpu", "32-true"), length, loggers, list(callbacks), RankInfo())


def bar() -> tuple[MetricLogger, ProgressBar]:
    """The callbacks that show progress, in the order of a run."""
    metric_logger = MetricLogger(LENGTH)
    return metric_logger, ProgressBar(metric_logger, LENGTH)


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]


def fit(*callbacks: pl.Callback, logger: Logger | None = None, length: RunLength = LENGTH) -> pl.Trainer:
    built = trainer(*callbacks, logger=logger, length=length)
    built.fit(Tiny(), loader(), loader())
    return built


def test_metric_rows() -> None:
    logger = Rows()
    built = fit(MetricLogger(LENGTH), logger=logger)
    built.validate(Tiny(), loader(), verbose=False)
    speeds = [row.pop("tokens_per_second") for _, row in logger.rows if "tokens_per_second" in row]
    assert logger.rows == [
        (3, {"epoch": 1, "train/loss": 1.0, "train/accuracy": 3 / 7, "lr": 3.0, "grad_norm": 4.0}),
        (5, {"epoch": 1, "val/loss": 0.125}),
        (6, {"epoch": 2, "train/loss": 7 / 3, "train/accuracy": 3 / 7, "lr": 6.0, "grad_norm": 0.0}),
        (9, {"epoch": 2, "train/loss": 2.0, "train/accuracy": 3 / 7, "lr": 9.0, "grad_norm": 6.0}),
        (10, {"epoch": 2, "train/loss": 4.0, "train/accuracy": 3 / 7, "lr": 10.0, "grad_norm": 8.0}),
        (10, {"epoch": 2, "val/loss": 1.125}),
        (10, {"epoch": 2, "val/loss": 2.125}),
    ]
    assert all(speed > 0 for speed in speeds)


def test_each_count_of_the_task_has_a_column() -> None:
    class OfNumbers(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            counts = {"squared_error": torch.tensor(14.0), "absolute_error": torch.tensor(7.0)}
            return {**super().training_step(batch, batch_idx), "counts": counts}

    logger = Rows()
    trainer(MetricLogger(LENGTH), logger=logger).fit(OfNumbers(), loader(), loader())
    assert [(row["train/squared_error"], row["train/absolute_error"]) for _, row in logger.rows if "lr" in row] == [
        (2.0, 1.0)
    ] * 4
    assert not any("train/accuracy" in row for _, row in logger.rows)


def test_steps_that_no_row_has_get_one_at_the_end() -> None:
    logger = Rows()
    early = RunLength(STEPS_PER_EPOCH, 100, STEPS_PER_EPOCH)  # training ends before the length that was planned

    class Ending(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 10

    fit(MetricLogger(early), Ending(), logger=logger, length=early)
    assert [(step, row["epoch"]) for step, row in logger.rows if "lr" in row] == [(3, 1), (6, 2), (9, 2), (10, 2)]
    assert logger.rows[-1][1]["train/loss"] == 4.0


def test_speed_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lx.training.callbacks.metric_logger.time.perf_counter", lambda: now[0])

    class Clocked(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            now[0] += 2.0
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            now[0] += 1000.0

    logger = Rows()
    trainer(MetricLogger(LENGTH), logger=logger).fit(Clocked(), loader(), loader())
    assert [row["tokens_per_second"] for _, row in logger.rows if "lr" in row] == [5.5] * 4


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


def test_steps_read_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two lines nothing waits for the device."""
    reads: list[int] = []
    original: Callable[..., float] = Tensor.__float__

    def counted(tensor: Tensor) -> float:
        reads.append(1)
        return original(tensor)

    monkeypatch.setattr(Tensor, "__float__", counted)
    totals = Totals()
    for index in range(100):
        totals.add({"loss": torch.tensor(float(index)), "counts": {"accuracy": torch.tensor(3)}}, Batch(index))
    assert reads == []
    assert totals.means() == {"loss": 49.5, "accuracy": pytest.approx(3 / 7)}
    assert len(reads) == 2


def test_running_averages_are_those_of_this_interval_and_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lx.training.callbacks.metric_logger.time.perf_counter", lambda: now[0])
    metric_logger, shown = MetricLogger(LENGTH), {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            shown[trainer.global_step] = metric_logger.running_averages()

    class Clocked(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            now[0] += 1.0 + batch.index
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            now[0] += 1000.0

    trainer(metric_logger, Watch()).fit(Clocked(), loader(), loader())
    accuracy = pytest.approx(3 / 7)
    assert shown == {  # losses 0 1 2 | 3 4 0 | 1 2 3 | 4, a row after each bar
        1: ({"loss": 0.0, "accuracy": accuracy}, 11 / 1),
        2: ({"loss": 0.5, "accuracy": accuracy}, 22 / 3),
        3: ({"loss": 1.0, "accuracy": accuracy}, 33 / 6),
        4: ({"loss": 6 / 4, "accuracy": accuracy}, 44 / 10),
        5: ({"loss": 10 / 5, "accuracy": accuracy}, 55 / 15),
        6: ({"loss": 7 / 3, "accuracy": accuracy}, 33 / 10),
        7: ({"loss": 8 / 4, "accuracy": accuracy}, 44 / 12),
        8: ({"loss": 10 / 5, "accuracy": accuracy}, 55 / 15),
        9: ({"loss": 6 / 3, "accuracy": accuracy}, 33 / 9),
        10: ({"loss": 4.0, "accuracy": accuracy}, 11 / 5),
    }


def test_totals_of_a_checkpoint_and_of_an_old_one() -> None:
    totals = Totals()
    for index in range(3):
        totals.add({"loss": torch.tensor(float(index)), "counts": {"accuracy": torch.tensor(2)}}, Batch(index))
    assert Totals.from_plain(vars(totals)).means() == totals.means()
    old = {"steps": 3, "num_examples": 21, "num_tokens": 33, "_loss": torch.tensor(3.0), "_correct": torch.tensor(6.0)}
    assert Totals.from_plain(old).means() == totals.means()
    assert Totals.from_plain(old).num_tokens == totals.num_tokens


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
