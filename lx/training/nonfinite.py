"""Stop a run, or skip the update, when the loss or the gradient is not finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lx.data.batches import GlobalBatch
from lx.distributed.process_group import all_gather
from lx.errors import TrainingError

log = logging.getLogger(__name__)
_SHOWN = 10  # examples named in a message


@dataclass(frozen=True)
class _Step:
    """The facts about a step that an error message needs.

    Attributes:
        finite: on the CPU, once ``copied`` has come.
        copied: the end of the copy from a GPU; None: ``finite`` was computed on the CPU.
    """

    finite: Tensor
    copied: torch.cuda.Event | None
    outputs: Mapping[str, Tensor]
    rows: list[Tensor]
    losses: Sequence[Tensor]
    step: int
    lr: float


class NonFiniteGuard:
    """Checks loss and gradient norm. All ranks have the same numbers, so all come to the same decision.

    Args:
        on_nan: ``stop`` raises; ``skip`` leaves the update out and counts it. On a GPU ``skip`` waits for the device at
            every step, while ``stop`` looks one step later, and waits for the step before alone: the device has the
            next one to compute meanwhile.

    Attributes:
        skipped: updates left out.
    """

    def __init__(self, on_nan: str) -> None:
        self.on_nan = on_nan
        self.skipped = 0
        self._pending: _Step | None = None

    def check(self, outputs: dict[str, Tensor], batch: GlobalBatch, losses: Sequence[Tensor], trainer: Trainer) -> bool:
        """Return whether to make the update of a step.

        Args:
            outputs: ``loss`` and, where it is known, ``grad_norm`` of the step; ``skipped_updates`` is added.
            batch: of the step.
            losses: of this rank's examples, by micro-batch.
            trainer: of the run, for step and learning rate.

        Raises:
            TrainingError: loss or gradient is not finite, and ``on_nan`` is ``stop``.
        """
        self.flush()
        finite = torch.isfinite(torch.stack([outputs[name] for name in ("loss", "grad_norm") if name in outputs])).all()
        rows = [micro_batch.rows for micro_batch in batch.micro_batches]
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        if self.on_nan == "skip":
            if not finite:
                self.skipped += 1
                log.warning(
                    "step %d: the loss is not finite: update skipped, %d so far", trainer.global_step, self.skipped
                )
            outputs["skipped_updates"] = torch.tensor(self.skipped)
            return bool(finite)
        finite, copied = _copy_to_cpu(finite)
        self._pending = _Step(finite, copied, outputs, rows, losses, trainer.global_step, float(lr))
        if copied is None:
            self.flush()
        return True

    def flush(self) -> None:
        """Check the last step, before anything of it is saved.

        Raises:
            TrainingError: it was not finite.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.copied is not None:
            pending.copied.synchronize()
        if not pending.finite:
            raise TrainingError(_explain(pending))


def _copy_to_cpu(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start to copy a tensor to the CPU, into page-locked memory, and record the copy's end."""
    if not value.is_cuda:
        return value.cpu(), None
    copy = value.to("cpu", non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return copy, copied


def _explain(step: _Step) -> str:
    norm = f", gradient norm {float(step.outputs['grad_norm']):g}" if "grad_norm" in step.outputs else ""
    bad = [rows[~loss.isfinite()] for rows, loss in zip(step.rows, step.losses, strict=True)]
    ids = _of_all_ranks(bad)
    which = "examples of that loss" if ids else "the loss of each example is finite; examples of the batch"
    ids = ids or _of_all_ranks(step.rows)
    shown = ", ".join(map(str, ids[:_SHOWN])) + (f", ... ({len(ids)} in all)" if len(ids) > _SHOWN else "")
    return (
        f"step {step.step}: loss {float(step.outputs['loss']):g}{norm}, at learning rate {step.lr:g}; {which} (rows of "
        f"the training split, from 0): {shown}. The last checkpoint is from before. Lower optimizer.lr, try "
        "hardware.precision=32-true, or leave such updates out with trainer.on_nan=skip"
    )


def _of_all_ranks(rows: Sequence[Tensor]) -> list[int]:
    return sorted(chain.from_iterable(all_gather(torch.cat(list(rows)).tolist())))
