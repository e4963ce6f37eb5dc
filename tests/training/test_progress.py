from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from lx.training.callbacks import progress_bar
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import Averages, Meter, Progress, max_steps
from lx.training.callbacks.progress_view import LineView, LiveView, Status, view_for

STEPS_PER_EPOCH = 5


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

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        optimizer = self.optimizers()
        optimizer.step()  # type: ignore[union-attr]
        optimizer.param_groups[0]["lr"] = 1.0 + self.global_step  # type: ignore[union-attr]
        loss = torch.tensor(float(batch.index))
        return {"loss": loss, "correct": torch.tensor(3), "grad_norm": 2 * loss}

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


def trainer(callback: pl.Callback, logger: Logger | bool = False, **settings: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 3, "enable_progress_bar": True}
    return pl.Trainer(
        accelerator="cpu",
        logger=logger,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        **{**defaults, **settings},
    )


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]


def fit(callback: pl.Callback, logger: Logger | bool = False, **settings: Any) -> pl.Trainer:
    built = trainer(callback, logger, **settings)
    built.fit(Tiny(), loader(), loader())
    return built


def test_metric_rows() -> None:
    logger = Rows()
    built = fit(MetricLogger(), logger, enable_progress_bar=False, max_epochs=-1, max_steps=10)
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


def test_steps_that_no_row_has_get_one_at_the_end() -> None:
    logger = Rows()
    fit(MetricLogger(), logger, enable_progress_bar=False)
    assert [(step, row["epoch"]) for step, row in logger.rows if "lr" in row] == [(3, 1), (6, 2), (9, 2), (10, 2)]
    assert logger.rows[-1][1]["train/loss"] == 4.0


def test_speed_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lx.training.callbacks.metric_logger.time.perf_counter", lambda: now[0])

    class Clocked(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
            now[0] += 2.0
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            now[0] += 1000.0

    logger = Rows()
    trainer(MetricLogger(), logger, enable_progress_bar=False).fit(Clocked(), loader(), loader())
    assert [row["tokens_per_second"] for _, row in logger.rows if "lr" in row] == [5.5] * 4


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Progress lines, with what the clock decides replaced."""
    said = [record.getMessage() for record in caplog.records if record.name == "lx.training.callbacks.progress_view"]
    said = [re.sub(r"[\d.]+[kM]? tokens/s", "N tokens/s", line) for line in said]
    return [re.sub(r"[\d.]+ s\b", "T s", line) for line in said]


def test_a_pipe_gets_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    monkeypatch.setattr("lx.training.callbacks.progress_view._LINE_S", 0.0)
    monkeypatch.setattr(progress_bar, "_SMOOTHING_S", 1e-9)  # the mean since the last line
    fit(Progress())
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
    fit(Progress())
    shown = [line.split("  ")[1:3] for line in lines(caplog)]
    assert shown[:2] == [["step 5/10", "validation"], ["step 10/10", "validation"]]
    assert [step for step, _ in shown[2:]] == ["step 10/10"], "and one at the end"


def test_other_ranks_are_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    bar = Progress()
    bar.enable()
    bar.disable()
    fit(bar)
    assert lines(caplog) == []


def test_steps_read_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two lines nothing waits for the device."""
    reads: list[int] = []
    original: Callable[..., float] = Tensor.__float__

    def counted(tensor: Tensor) -> float:
        reads.append(1)
        return original(tensor)

    monkeypatch.setattr(Tensor, "__float__", counted)
    meter = Meter()
    for index in range(100):
        meter.add({"loss": torch.tensor(float(index)), "correct": torch.tensor(3)}, Batch(index))
    assert reads == []
    averages = meter.read()
    assert len(reads) == 2
    assert averages is not None
    assert (averages.loss, averages.accuracy) == (49.5, pytest.approx(3 / 7))


def test_meter_smooths_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lx.training.callbacks.progress_bar.time.monotonic", lambda: now[0])
    meter = Meter()
    assert meter.read() is None

    def after(seconds: float, loss: float, correct: int) -> Averages | None:
        meter.add({"loss": torch.tensor(loss), "correct": torch.tensor(correct)}, Batch(0))
        now[0] += seconds
        return meter.read()

    assert after(2.0, 8.0, 7) == Averages(8.0, 1.0, 5.5)
    now[0] += 50.0
    meter.skip(50.0)
    weight = 1 - 2.718281828459045 ** (-5.0 / 5.0)
    smoothed = after(5.0, 4.0, 0)
    assert smoothed is not None
    assert smoothed.loss == pytest.approx(8.0 - 4.0 * weight)
    assert smoothed.accuracy == pytest.approx(1.0 - weight)
    assert smoothed.tokens_per_second == pytest.approx(5.5 + weight * (11 / 5 - 5.5))
    assert meter.read() == smoothed, "without new steps nothing changes"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_epochs": 2}, 10),
        ({"max_epochs": 2, "max_steps": 7}, 7),
        ({"max_epochs": 1, "max_steps": 7}, 5),
        ({"max_epochs": -1, "max_steps": 7}, 7),
    ],
)
def test_max_steps(settings: dict[str, int], expected: int) -> None:
    assert max_steps(fit(Progress(), **settings)) == expected


def test_status_shows_what_is_known() -> None:
    assert Status(1, None, 1234, None).place() == "epoch 1  step 1234"
    assert Status(1, None, 1234, None).figures() == ""
    full = Status(3, 5, 7, 1234, 0.4567, 0.5, 98765.4, 61.0)
    assert full.place() == "epoch 3/5  step 7/1234"
    assert full.figures() == "loss 0.457  acc 0.500  98.8k tokens/s  1:01 left"


@pytest.mark.parametrize(("speed", "text"), [(950.4, "950"), (1000, "1.0k"), (2_345_678, "2.3M")])
def test_speed(speed: float, text: str) -> None:
    assert Status(1, 1, 1, 1, tokens_per_second=speed).figures() == f"{text} tokens/s"


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=100, color_system=None, _environ={}), file


def test_a_terminal_gets_a_bar(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, logger="lx")
    screen, file = terminal()
    monkeypatch.setattr(progress_bar, "console", lambda stderr: screen)
    monkeypatch.setattr("lx.training.callbacks.progress_view._REFRESH_S", 0.0)
    bar = Progress()
    built = fit(bar)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    for piece in ("epoch 1/2  step 1/10", "epoch 2/2  step 10/10", "loss ", " tokens/s", "validation ━"):
        assert piece in shown
    assert [line.split("  ")[2] for line in lines(caplog)] == ["validation"] * 2
    assert shown.rstrip("\n").splitlines()[-1].startswith("epoch 2/2  step 10/10")
    file.truncate(0)
    built.test(Tiny(), loader(), verbose=False)
    assert "test ━" in file.getvalue()
    assert "step" not in file.getvalue()


def test_an_error_closes_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Tiny):
        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
            if batch.index == 3:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    screen, file = terminal()
    monkeypatch.setattr(progress_bar, "console", lambda stderr: screen)
    monkeypatch.setattr("lx.training.callbacks.progress_view._REFRESH_S", 0.0)
    with pytest.raises(ZeroDivisionError):
        trainer(Progress()).fit(Failing(), loader(), loader())
    assert "\x1b[?25h" in file.getvalue(), "the cursor is visible again"


def test_views() -> None:
    screen, _ = terminal()
    assert type(view_for(screen)) is LiveView
    assert type(view_for(Console(file=io.StringIO()))) is LineView
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert type(view_for(dumb)) is LineView
