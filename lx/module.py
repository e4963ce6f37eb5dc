"""The thin LightningModule: one optimizer step over a global batch, and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lx.data.batches import Batch, GlobalBatch
from lx.tasks.task import Summary, Task


class TextClassifier(LightningModule):
    """A network, the task that it is trained for, and how it is optimized.

    Optimization is manual, so that one Lightning batch is one global batch and one optimizer step, however many
    micro-batches hardware cuts it into: the loss of every example is divided by the size of the global batch.

    Args:
        net: token ids [B, T], mask [B, T], token types [B, T] or None -> logits [B, C].
        task: loss per example and metrics.
        optimizer: builds the optimizer of ``net``; None for evaluation alone.
        schedule: builds the learning-rate schedule, stepped once per optimizer step.
        gradient_clip_val: largest norm of the whole gradient (Pascanu et al. 2013); None: no clipping.

    Attributes:
        summaries: of the last evaluation on ``val`` and ``test``.
    """

    net: nn.Module
    task: Task

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        optimizer: Callable[[nn.Module], Optimizer] | None = None,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        gradient_clip_val: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.task = task
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.gradient_clip_val = gradient_clip_val
        self.evaluations = nn.ModuleDict({"val": task.metrics(), "test": task.metrics()})
        self.summaries: dict[str, Summary] = {}

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, C] in float32, whatever the precision of the network."""
        logits: Tensor = self.net(batch.token_ids, batch.mask, batch.token_types)
        return logits.float()

    def training_step(self, batch: GlobalBatch, batch_idx: int) -> dict[str, Tensor]:
        """One optimizer step.

        Returns:
            ``loss``, the mean over the global batch; ``correct``, how many examples of this rank's share were
            classified right; ``grad_norm`` where the gradient is clipped. All detached, all left on the device.
        """
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        optimizer.zero_grad()  # type: ignore[union-attr]
        losses, correct = [], []
        for micro_batch in batch.micro_batches:
            logits = self(micro_batch)
            loss = self.task.loss(logits, micro_batch.labels).sum() / batch.size
            self.manual_backward(loss)
            losses.append(loss.detach())
            correct.append((logits.detach().argmax(-1) == micro_batch.labels).sum())
        outputs = {"loss": torch.stack(losses).sum(), "correct": torch.stack(correct).sum()}
        if self.gradient_clip_val is not None:
            outputs["grad_norm"] = nn.utils.clip_grad_norm_(self.net.parameters(), self.gradient_clip_val)
        optimizer.step()  # type: ignore[union-attr]
        schedule.step()
        return outputs

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Compute the validation metrics and hand the scalars to the callbacks."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute the test metrics and hand the scalars to the callbacks."""
        self._finish("test")

    def configure_optimizers(self) -> Any:
        """The optimizer and its schedule, both made by the worker."""
        if self.build_optimizer is None or self.build_schedule is None:
            return None
        optimizer = self.build_optimizer(self.net)
        return {"optimizer": optimizer, "lr_scheduler": self.build_schedule(optimizer)}

    def scalars(self, split: str) -> dict[str, float]:
        """The last evaluation's metrics by name, ``test/accuracy`` and the like, in full precision."""
        return {f"{split}/{name}": value for name, value in self.summaries[split].scalars.items()}

    def _metrics(self, split: str) -> MetricCollection:
        metrics = self.evaluations[split]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _evaluate(self, split: str, batch: Batch) -> None:
        self._metrics(split).update(self(batch), batch.labels)

    def _finish(self, split: str) -> None:
        metrics = self._metrics(split)
        self.summaries[split] = self.task.summarise(metrics.compute())
        self.log_dict(self.scalars(split), logger=False)
        metrics.reset()
