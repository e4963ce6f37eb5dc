"""Time training: whole steps, and the phases of a step."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from torch import Tensor
from typing_extensions import override

from lx.system.hardware import Hardware
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import ProgressBar
from lx.training.module import TextClassifier

_PHASES = ("waiting for data", "logging", "forward", "backward", "optimizer")


class StepTimer(Callback):
    """Times the steps after the warmup, all together."""

    def __init__(self, hardware: Hardware, warmup: int) -> None:
        self.hardware = hardware
        self.warmup = warmup
        self.seconds = 0.0
        self.tokens = self.examples = 0
        self._steps = 0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        if self._steps > self.warmup:
            self.tokens += batch.num_tokens
            self.examples += batch.num_examples
        if self._steps == self.warmup:
            wait_for_device(self.hardware)
            self.seconds = -time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            wait_for_device(self.hardware)
            self.seconds += time.perf_counter()


class PhaseTimer(Callback):
    """Times the phases of a step."""

    def __init__(self, hardware: Hardware, warmup: int) -> None:
        self.hardware = hardware
        self.warmup = warmup
        self._open: dict[str, float] = {}
        self._spent: dict[str, float] = defaultdict(float)
        self._steps = 0
        self._began = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TextClassifier)
        self._hooks = [
            pl_module.net.register_forward_pre_hook(lambda *_: self.begin("forward")),
            pl_module.net.register_forward_hook(lambda *_: self.end("forward")),
            trainer.optimizers[0].register_step_pre_hook(lambda *_: self.begin("optimizer")),
            trainer.optimizers[0].register_step_post_hook(lambda *_: self.end("optimizer")),
        ]

    @override
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.begin("backward")

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end("backward")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        if self._steps == self.warmup:
            self._spent.clear()
            self._began = self._now()
        self._last = self._now()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for hook in self._hooks:
            hook.remove()

    def phases(self) -> dict[str, float]:
        """Return the seconds of a step by phase; ``everything else`` is what no phase accounts for."""
        steps = self._steps - self.warmup
        spent = {phase: self._spent[phase] / steps for phase in _PHASES}
        return {**spent, "everything else": (self._last - self._began) / steps - sum(spent.values())}

    def begin(self, phase: str) -> None:
        """Start the clock of a phase."""
        self._open[phase] = self._now()

    def end(self, phase: str) -> None:
        """Add the time since :meth:`begin` to the phase."""
        if phase in self._open:
            self._spent[phase] += self._now() - self._open.pop(phase)

    def _now(self) -> float:
        wait_for_device(self.hardware)
        return time.perf_counter()


class ProfilerBridge(Profiler):
    """Lightning profiler that forwards the actions of a training step to a PhaseTimer."""

    def __init__(self, timer: PhaseTimer) -> None:
        super().__init__()
        self.timer = timer

    @override
    def start(self, action_name: str) -> None:
        if phase := _phase_of(action_name):
            self.timer.begin(phase)

    @override
    def stop(self, action_name: str) -> None:
        if phase := _phase_of(action_name):
            self.timer.end(phase)


def _phase_of(action: str) -> str | None:
    if action.endswith("train_dataloader_next"):
        return "waiting for data"
    callback = action.startswith("[Callback]") and action.endswith("on_train_batch_end")
    return "logging" if callback and any(kind.__name__ in action for kind in (MetricLogger, ProgressBar)) else None


def wait_for_device(hardware: Hardware) -> None:
    """Wait until a GPU has finished its work; on a CPU, return at once."""
    if hardware.device.type == "cuda":
        torch.cuda.synchronize()
