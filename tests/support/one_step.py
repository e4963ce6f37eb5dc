"""A module that takes one optimizer step without Lightning's trainer."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from lx.data.batches import Batch
from lx.training.module import TextClassifier


class InFloat64(TextClassifier):
    """Logits stay in the precision of the network, so that tiny differences show."""

    def forward(self, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = self.net(batch.token_ids, batch.mask, batch.token_types)
        return logits[: len(batch.labels)]


class Constant(torch.optim.lr_scheduler.LRScheduler):
    """Counts its steps."""

    num_steps = 0

    def step(self, epoch: int | None = None) -> None:
        self.num_steps += 1

    def get_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


def with_a_trainer(module: TextClassifier) -> TextClassifier:
    """Let a module train by itself: SGD, and what it asks of Lightning's trainer."""
    optimizer = torch.optim.SGD(module.net.parameters(), 0.125)
    schedule = Constant(optimizer)
    module.optimizers = lambda: optimizer  # type: ignore[method-assign, assignment, return-value]
    module.lr_schedulers = lambda: schedule  # type: ignore[method-assign]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, misc]
    strategy = SimpleNamespace(model=None)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0, global_rank=0, world_size=1, strategy=strategy, optimizers=[optimizer]
    )
    return module
