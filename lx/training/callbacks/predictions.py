"""Keep the logits of the best validation and of the test."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lx.data.batches import Batch
from lx.data.datamodule import TextDataModule
from lx.distributed.process_group import all_gather
from lx.run.directory import RunDirectory
from lx.training.callbacks.checkpoint import Checkpoint
from lx.training.module import TextClassifier
from lx.training.predictions import LogitFile, write_files

_BATCHES = 16  # of each rank, between two exchanges


class RecordPredictions(Callback):
    """Keeps the logits of each validation, if it is the best so far, and of the test, on the first rank.

    Those of the validation split come from the pass that found the best weights. A process that resumes a run after its
    best validation has none of that pass: :meth:`repeat_validation` repeats it.

    Args:
        run: its directory.
        data: its splits.
        checkpoint: says which validation is the best; it comes before this callback.
    """

    def __init__(self, run: RunDirectory, data: TextDataModule, checkpoint: Checkpoint) -> None:
        self.run = run
        self.data = data
        self.checkpoint = checkpoint
        self.has_validation = False
        self._kept: dict[str, LogitFile] = {}
        self._tested_split = "test"
        self._file: LogitFile | None = None
        self._pending: list[tuple[Tensor, Tensor]] = []

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, "validation")

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, self._tested_split)

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self._add(batch, outputs)

    @override
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self._add(batch, outputs)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TextClassifier)
        self._exchange()
        if self.checkpoint.best_evaluation is pl_module.evaluations["val"]:
            self._keep("validation")

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._exchange()
        self._keep(self._tested_split)

    def repeat_validation(self, trainer: Trainer, module: TextClassifier) -> None:
        """Keep what the module, which holds the best weights, says of the validation split."""
        self._tested_split = "validation"
        trainer.test(module, dataloaders=self.data.eval_dataloader("validation"), verbose=False)
        self._tested_split = "test"

    def write(self, module: TextClassifier, keep_texts: bool) -> None:
        """Write predictions and mistakes, on the first rank; the task has its choices of the best validation."""
        write_files(self.run, self.data, module, self._kept, keep_texts)

    def _begin(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        assert isinstance(pl_module, TextClassifier)
        self._pending, self._file = [], None
        if trainer.is_global_zero:
            self._file = LogitFile(self.run.path, len(self.data.tables[split]), pl_module.task.num_outputs)

    def _add(self, batch: Batch, logits: Tensor) -> None:
        self._pending.append((batch.rows, logits))
        if len(self._pending) == _BATCHES:
            self._exchange()

    def _exchange(self) -> None:
        """Send the logits since the last exchange to the first rank; all ranks have the same number of batches."""
        if not self._pending:
            return
        rows, logits = (torch.cat(tensors).cpu() for tensors in zip(*self._pending, strict=True))
        self._pending = []
        for of_rank in all_gather((rows.numpy(), logits.float().numpy())):
            if self._file is not None:
                self._file.put(*of_rank)

    def _keep(self, split: str) -> None:
        if split == "validation":
            self.has_validation = True
        if self._file is not None:
            self._kept[split] = self._file
        self._file = None
