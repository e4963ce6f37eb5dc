"""The thin LightningModule: one optimizer step over a global batch, and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lx.data.batches import Batch, GlobalBatch
from lx.distributed.fsdp import shard
from lx.distributed.gradient_sync import GradientSync, gradient_sync
from lx.distributed.process_group import all_reduce_sum
from lx.nn.expert_alone import ExpertAlone
from lx.tasks.base import Evaluation, Task
from lx.training.adversarial import AdversarialEmbeddings
from lx.training.nonfinite import NonFiniteGuard
from lx.training.seeding import seed_step


class TextClassifier(LightningModule):
    """A network, the task that it is trained for, and how it is optimized.

    Optimization is manual, so that one Lightning batch is one global batch and one optimizer step, however many ranks
    and micro-batches it is divided into: the loss of every example is divided by the size of the global batch, and
    gradients are added up. A step is a function of the weights, the optimizer's state, the batch, and the random
    numbers that follow from seed, step and rank.

    Args:
        net: token ids [B, T], mask [B, T], token types [B, T] or None -> logits [B, C].
        task: loss of each example, counts and metrics.
        optimizer: builds the optimizer of ``net``; None for evaluation alone.
        schedule: builds the learning-rate schedule, stepped once per optimizer step.
        gradient_clip_val: largest norm of the whole gradient (Pascanu et al. 2013); None: no clipping.
        guard: decides what happens when the loss or the gradient is not finite.
        seed: of the run.
        adversarial: moves the word embeddings of ``net`` for a second pass, which has half of the loss; None: there is
            none.

    Attributes:
        evaluations: the last one on ``val`` and on ``test``.
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
        guard: NonFiniteGuard | None = None,
        seed: int = 0,
        adversarial: AdversarialEmbeddings | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.task = task
        self.build_optimizer = optimizer
        self.build_schedule = schedule
        self.gradient_clip_val = gradient_clip_val
        self.guard = guard or NonFiniteGuard("stop")
        self.seed = seed
        self.adversarial = adversarial
        self.gradient_sync = GradientSync()
        self.split_metrics = nn.ModuleDict({"val": task.metrics(choose=True), "test": task.metrics(choose=False)})
        self.evaluations: dict[str, Evaluation] = {}

    def forward(self, batch: Batch) -> Tensor:
        """Compute logits [B, C], at least in float32 whatever the precision of the network; B may be 0.

        Those of an ensemble in training are [B, M, C].
        """
        logits: Tensor = self.net(batch.token_ids, batch.mask, batch.token_types)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))[: len(batch.labels)]

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Compute logits [B, C], and return an expert's scores [B, C]; alone they stand for the logits."""
        if isinstance(self.net, ExpertAlone):
            assert batch.expert is not None
            return batch.expert, None
        return self(batch), batch.expert

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the loss of each example [B], and logits [B, C], detached; of an ensemble the means over members."""
        logits = self(batch)
        if logits.ndim == 2:
            return self.task.loss(logits, batch.labels), logits.detach()
        members = [self.task.loss(member, batch.labels) for member in logits.unbind(dim=1)]
        return torch.stack(members).mean(dim=0), logits.detach().mean(dim=1)

    def configure_model(self) -> None:
        """Shard the weights over the ranks, where the strategy asks for it."""
        if self.device_mesh is not None:
            shard(self.net, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Choose how ranks combine gradients, now that the strategy has wrapped the module."""
        self.gradient_sync = gradient_sync(self.trainer.strategy.model, self.net, self.trainer.world_size)

    def training_step(self, batch: GlobalBatch, batch_idx: int) -> dict[str, Any]:
        """Take one optimizer step.

        Returns:
            Of the whole global batch: ``loss``, the mean; ``counts``, the task's sums over the examples by name;
            ``grad_norm`` where the gradient is clipped. All detached, all left on the device.

        Raises:
            TrainingError: loss or gradient is not finite, and the guard stops training.
        """
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        seed_step(self.seed, self.trainer.global_step, self.trainer.global_rank, self.device)
        optimizer.zero_grad()  # type: ignore[union-attr]
        losses, counts = self.backward_all(batch)
        loss_sum = torch.cat(losses).sum()
        sums = torch.stack([loss_sum, *(count.to(loss_sum.dtype) for count in counts.values())])
        loss, *totals = all_reduce_sum(sums).unbind()
        outputs: dict[str, Any] = {
            "loss": loss / batch.num_examples,
            "counts": dict(zip(counts, totals, strict=True)),
        }
        if self.gradient_clip_val is not None:
            norm = self.gradient_sync.grad_norm(self.net)
            nn.utils.clip_grads_with_norm_(self.net.parameters(), self.gradient_clip_val, norm)
            outputs["grad_norm"] = norm
        if not self.guard.check(outputs, batch, losses, self.trainer):
            # Without gradients the step below changes no weight, yet the step counter advances.
            optimizer.zero_grad()  # type: ignore[union-attr]
        optimizer.step()  # type: ignore[union-attr]
        schedule.step()
        return outputs

    def backward_all(self, batch: GlobalBatch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Run forward and backward over every micro-batch; ranks add up their gradients after the last.

        Returns:
            The losses [B] of each micro-batch, and the task's counts of this rank's examples. Of two passes they are
            those of the first, but where the second one's loss is not finite.
        """
        losses: list[Tensor] = []
        counts: list[dict[str, Tensor]] = []
        num_examples = batch.num_examples
        for micro_batch in batch.micro_batches:
            is_last = micro_batch is batch.micro_batches[-1]
            if self.adversarial is None:
                loss, logits = self._backward(micro_batch, num_examples, sync=is_last)
            else:
                with self.adversarial.recording():
                    loss, logits = self._backward(micro_batch, 2 * num_examples, sync=False)
                with self.adversarial.moving(micro_batch.mask):
                    moved, _ = self._backward(micro_batch, 2 * num_examples, sync=is_last)
                loss = torch.where(moved.isfinite(), loss, moved)  # the guard has to see it
            losses.append(loss)
            counts.append(self.task.step_counts(logits, micro_batch.labels))
        return losses, {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}

    def _backward(self, micro_batch: Batch, divisor: int, *, sync: bool) -> tuple[Tensor, Tensor]:
        """Run forward and backward of the loss over a divisor.

        Returns:
            The loss of each example [B] and logits [B, C], both detached.
        """
        loss, logits = self.losses(micro_batch)
        with nullcontext() if sync else self.gradient_sync.no_sync():
            self.manual_backward(loss.sum() * self.gradient_sync.loss_scale / divisor)
        return loss.detach(), logits

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add a batch to the validation metrics; return its logits [B, C], for callbacks."""
        return self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add a batch to the test metrics; return its logits [B, C], for callbacks."""
        return self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Compute the validation metrics and log them for the callbacks."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute the test metrics and log them for the callbacks."""
        self._finish("test")

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule, by the functions that the builders gave."""
        if self.build_optimizer is None or self.build_schedule is None:
            return None
        optimizer = self.build_optimizer(self.net)
        return {"optimizer": optimizer, "lr_scheduler": self.build_schedule(optimizer)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the number of skipped updates."""
        checkpoint["skipped_updates"] = self.guard.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of skipped updates."""
        self.guard.skipped = checkpoint["skipped_updates"]

    def scalars(self, split: str) -> dict[str, float]:
        """Return the last evaluation's metrics by name, such as ``test/loss``, in full precision."""
        return {f"{split}/{name}": value for name, value in self.evaluations[split].scalars.items()}

    def _metrics(self, split: str) -> MetricCollection:
        metrics = self.split_metrics[split]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _evaluate(self, split: str, batch: Batch) -> Tensor:
        logits, expert = self.scores(batch)
        self._metrics(split).update(logits, batch.labels, **({} if expert is None else {"expert": expert}))
        return logits

    def _finish(self, split: str) -> None:
        metrics = self._metrics(split)
        self.evaluations[split] = self.task.summarize(metrics.compute(), choose=split == "val")
        self.log_dict(self.scalars(split), logger=False)
        metrics.reset()
