"""Where the time of training goes: as a whole, and by the parts of a step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from torch import Tensor

from lx.system.hardware import Hardware
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import ProgressBar
from lx.training.module import TextClassifier

_PARTS = ("waiting for data", "logging")


class Clock(Callback):
    """Times the steps after the warmup, as a whole."""

    def __init__(self, here: Hardware, warmup: int) -> None:
        self.here = here
        self.warmup = warmup
        self.seconds = 0.0
        self.tokens = self.examples = 0
        self._steps = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and read the clock where the timed steps begin and end."""
        self._steps += 1
        if self._steps > self.warmup:
            self.tokens += batch.num_tokens
            self.examples += batch.num_examples
        if self._steps == self.warmup:
            wait_for_device(self.here)
            self.seconds = -time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            wait_for_device(self.here)
            self.seconds += time.perf_counter()


class PartWatch(Callback):
    """Times the parts of a step."""

    def __init__(self, here: Hardware, warmup: int) -> None:
        self.here = here
        self.warmup = warmup
        self._open: dict[str, float] = {}
        self._spent: dict[str, float] = defaultdict(float)
        self._steps = 0
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the network and the optimizer."""
        assert isinstance(pl_module, TextClassifier)
        self._hooks = [
            pl_module.net.register_forward_pre_hook(lambda *_: self.begin("forward")),
            pl_module.net.register_forward_hook(lambda *_: self.end("forward")),
            trainer.optimizers[0].register_step_pre_hook(lambda *_: self.begin("optimizer")),
            trainer.optimizers[0].register_step_post_hook(lambda *_: self.end("optimizer")),
        ]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Called by ``manual_backward``."""
        self.begin("backward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Likewise."""
        self.end("backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Forget the warmup."""
        self._steps += 1
        if self._steps == self.warmup:
            self._spent.clear()
            self._began = self._now()
        self._last = self._now()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()

    def parts(self) -> dict[str, float]:
        """Seconds of a step, by part; ``everything else`` is what no part accounts for."""
        steps = self._steps - self.warmup
        spent = {part: self._spent[part] / steps for part in (*_PARTS, "forward", "backward", "optimizer")}
        return {**spent, "everything else": (self._last - self._began) / steps - sum(spent.values())}

    def begin(self, part: str) -> None:
        """A part begins."""
        self._open[part] = self._now()

    def end(self, part: str) -> None:
        """A part ends."""
        if part in self._open:
            self._spent[part] += self._now() - self._open.pop(part)

    def _now(self) -> float:
        wait_for_device(self.here)
        return time.perf_counter()


class Whispers(Profiler):
    """Hears from Lightning of everything that it calls, and tells the watch of what is a part of a step."""

    def __init__(self, watch: PartWatch) -> None:
        super().__init__()
        self.watch = watch

    def start(self, action_name: str) -> None:
        """Lightning begins something."""
        if part := _part_of(action_name):
            self.watch.begin(part)

    def stop(self, action_name: str) -> None:
        """Lightning has done it."""
        if part := _part_of(action_name):
            self.watch.end(part)


def _part_of(action: str) -> str | None:
    if action.endswith("train_dataloader_next"):
        return "waiting for data"
    callback = action.startswith("[Callback]") and action.endswith("on_train_batch_end")
    return "logging" if callback and any(kind.__name__ in action for kind in (MetricLogger, ProgressBar)) else None


def wait_for_device(here: Hardware) -> None:
    """Return when everything that was asked of a GPU is done."""
    if here.device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def timed(here: Hardware) -> Iterator[list[float]]:
    """Seconds that the block takes, the device waited for; the one entry of the list afterwards."""
    seconds: list[float] = []
    wait_for_device(here)
    start = time.perf_counter()
    yield seconds
    wait_for_device(here)
    seconds.append(time.perf_counter() - start)
