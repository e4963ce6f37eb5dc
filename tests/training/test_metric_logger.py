"""What is logged of a training, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from lx.training.callbacks.metric_logger import MetricLogger, Totals
from lx.training.run_length import RunLength
from support.counting import LENGTH, STEPS_PER_EPOCH, Batch, Rows, Tiny, fit, loader, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
]


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
    assert len(speeds) == 4 and min(speeds) > 0


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
