"""``trainer.max_minutes``: how many steps fit into a time, so that the schedule ends when the time does."""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lx.distributed.process_group import all_reduce_min
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.system.hardware import Hardware
from lx.training.builders import BuiltRun, build_module
from lx.training.run_length import RunLength
from lx.training.trainer import build_trainer

log = logging.getLogger(__name__)
_WARMUP, _STEPS = 10, 40
_MARGIN = 0.01  # of the time, for the last checkpoint and the result
_NEVER = 10**9


class _StepClock(Callback):
    """Seconds and real tokens of the steps after the first few, of this rank's share of the batches."""

    def __init__(self) -> None:
        self.seconds, self.tokens, self._started = 0.0, 0, 0.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.global_step == _WARMUP:
            self._started = time.perf_counter()
        elif trainer.global_step > _WARMUP:
            float(outputs["loss"])  # waits for an accelerator
            self.seconds, self.tokens = time.perf_counter() - self._started, self.tokens + batch.num_tokens


def fit_into_time(built: BuiltRun, hardware: Hardware, rank_info: RankInfo, elapsed: float) -> BuiltRun:
    """Shorten a run that would take longer than ``trainer.max_minutes``, unless its steps are given.

    The first steps and a validation are timed, with weights that are thrown away. What follows is a run of a fixed
    number of steps, ``trainer.max_steps``, like any other: it can be interrupted and resumed.

    Args:
        built: the run, whose network has its initial weights.
        hardware: of this process.
        rank_info: of this process.
        elapsed: seconds that the run has taken so far.

    Raises:
        LxError: the time is too short for a step, or weights are sharded.
    """
    cfg, data, module, length = built.cfg, built.data, built.module, built.run_length
    if not cfg.trainer.get("max_minutes") or cfg.trainer.max_steps or not length.total_steps:
        return built  # runs of before have no such setting
    if cfg.hardware.strategy == "fsdp":
        raise LxError("trainer.max_minutes cannot time steps with hardware=fsdp: give trainer.max_steps")
    log.info("timing the first steps")
    started, weights = time.perf_counter(), deepcopy(module.net.state_dict())
    clock = _StepClock()
    trial = RunLength(length.steps_per_epoch, _WARMUP + _STEPS, _NEVER)
    trainer = build_trainer(cfg, hardware, trial, [], [clock], rank_info)
    trainer.fit(module, datamodule=data)
    begun = time.perf_counter()
    trainer.validate(module, datamodule=data, verbose=False)
    validation = time.perf_counter() - begun
    module.net.load_state_dict(weights)

    lengths = data.tables["train"].lengths
    step = clock.seconds / max(clock.tokens, 1) * int(lengths.sum()) / length.steps_per_epoch
    test = validation * len(data.tables.get("test", ())) / len(data.tables["validation"])
    seconds = 60 * cfg.trainer.max_minutes * (1 - _MARGIN) - elapsed - (begun - started) - 2 * validation - test
    fitting = all_reduce_min(int(seconds / (step + validation / float(length.validation_interval))))
    if fitting < 1:
        raise LxError(
            f"trainer.max_minutes={cfg.trainer.max_minutes}: reading the data, a validation and the test take longer"
        )
    if fitting >= length.total_steps:
        return built
    cfg = deepcopy(cfg)
    cfg.trainer.max_steps = fitting
    module = build_module(cfg, module.net, module.task, fitting)
    reason = f"trainer.max_minutes={cfg.trainer.max_minutes:g}, at {step:.3g} s a step"
    return replace(
        built,
        cfg=cfg,
        reasons={**built.reasons, "trainer.max_steps": reason},
        module=module,
        run_length=replace(length, total_steps=fitting),
    )
