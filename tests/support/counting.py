"""A module whose losses count, lx's own Trainer for it, and a logger that keeps its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

import lx
from lx.distributed.rank_info import RankInfo
from lx.system.hardware import resolve
from lx.training.run_length import RunLength
from lx.training.trainer import build_trainer

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


def fit(*callbacks: pl.Callback, logger: Logger | None = None, length: RunLength = LENGTH) -> pl.Trainer:
    built = trainer(*callbacks, logger=logger, length=length)
    built.fit(Tiny(), loader(), loader())
    return built
