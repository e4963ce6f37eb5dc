"""``trainer.max_minutes``: how many steps fit into a time, so that the schedule ends when the time does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lx.data.plan import batches_per_epoch
from lx.distributed.process_group import all_reduce_min
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.system.hardware import Hardware
from lx.training.builders import BuiltRun, build_module
from lx.training.run_length import RunLength
from lx.training.trainer import build_trainer

log = logging.getLogger(__name__)
_UNTIMED = 5  # first steps of a trial: they allocate memory, and meet most shapes for the first time
_FIRST_STEPS = 15  # of the first trial, which says how many steps the second can take
_MOST_STEPS = 2000
_SHARE = 0.04  # of the time, for the second trial
_CLEARLY = 2.0  # a run that takes less than the time by this factor needs no second trial
_MARGIN = 0.01  # of the time, for the last checkpoint and the result
_NEVER = 10**9


class _StepClock(Callback):
    """Seconds and real tokens of the steps after the first few."""

    def __init__(self) -> None:
        self.seconds, self.tokens, self._started = 0.0, 0, 0.0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.global_step >= _UNTIMED:
            float(outputs["loss"])  # waits for an accelerator
        if trainer.global_step == _UNTIMED:
            self._started = time.perf_counter()
        elif trainer.global_step > _UNTIMED:
            self.seconds, self.tokens = time.perf_counter() - self._started, self.tokens + batch.num_tokens


def fit_into_time(built: BuiltRun, hardware: Hardware, rank_info: RankInfo, elapsed: Callable[[], float]) -> BuiltRun:
    """Shorten a run that would take longer than ``trainer.max_minutes``, unless its steps are given.

    Steps and a validation are timed, with weights that are thrown away. What follows is a run of a fixed number of
    steps, ``trainer.max_steps``, like any other: it can be interrupted and resumed.

    Args:
        built: the run, whose network has its initial weights.
        hardware: of this process.
        rank_info: of this process.
        elapsed: returns the seconds that the run has taken so far.

    Raises:
        LxError: the time is too short for a step, or weights are sharded.
    """
    cfg, module, length = built.cfg, built.module, built.run_length
    if not cfg.trainer.get("max_minutes") or cfg.trainer.max_steps or not length.total_steps:
        return built  # older runs have no such setting
    if cfg.hardware.strategy == "fsdp":
        raise LxError("trainer.max_minutes cannot time steps with hardware=fsdp: give trainer.max_steps")
    log.info("timing the first steps")
    weights = deepcopy(module.net.state_dict())
    limit = 60 * cfg.trainer.max_minutes * (1 - _MARGIN)
    trainer, step_s = _time_steps(built, hardware, rank_info, _FIRST_STEPS)
    spare_s = limit - elapsed() - _CLEARLY * step_s * length.total_steps
    if all_reduce_min(int(spare_s)) <= 0:  # the run may be too long: more steps are timed
        num_steps = all_reduce_min(min(int(_SHARE * limit / step_s), _MOST_STEPS))
        if num_steps > _FIRST_STEPS:
            trainer, step_s = _time_steps(built, hardware, rank_info, num_steps)
    validation_s, test_s = _time_evaluations(trainer, built)
    module.net.load_state_dict(weights)

    left_s = limit - elapsed() - test_s - validation_s  # the last validation: training may end within an interval
    fitting = all_reduce_min(int(left_s / (step_s + validation_s / float(length.validation_interval))))
    if fitting < 1:
        raise LxError(
            f"trainer.max_minutes={cfg.trainer.max_minutes}: reading the data, a validation and the test take longer"
        )
    total_steps = min(fitting, length.total_steps)
    module = build_module(cfg, module.net, module.task, total_steps)  # with metrics and a guard that start from 0
    if total_steps == length.total_steps:
        return replace(built, module=module)
    cfg = deepcopy(cfg)
    cfg.trainer.max_steps = total_steps
    reason = f"trainer.max_minutes={cfg.trainer.max_minutes:g}, at {step_s:.3g} s a step"
    return replace(
        built,
        cfg=cfg,
        reasons={**built.reasons, "trainer.max_steps": reason},
        module=module,
        run_length=replace(length, total_steps=total_steps),
    )


def _time_evaluations(trainer: Trainer, built: BuiltRun) -> tuple[float, float]:
    """Return the seconds of a validation, and an estimate of those of the test by its number of tokens."""
    begun = time.perf_counter()
    trainer.validate(built.module, datamodule=built.data, verbose=False)
    seconds = time.perf_counter() - begun
    num_tokens = {split: int(table.lengths.sum()) for split, table in built.data.tables.items()}
    return seconds, seconds * num_tokens.get("test", 0) / num_tokens["validation"]


def _time_steps(built: BuiltRun, hardware: Hardware, rank_info: RankInfo, num_steps: int) -> tuple[Trainer, float]:
    """Take steps that are thrown away; return their trainer, and the seconds of a step of average size."""
    clock, data = _StepClock(), built.data
    trial = RunLength(built.run_length.steps_per_epoch, _UNTIMED + num_steps, _NEVER)
    trainer = build_trainer(built.cfg, hardware, trial, [], [clock], rank_info)
    trainer.fit(built.module, datamodule=data)
    lengths = data.tables["train"].lengths
    tokens = int(lengths.sum()) / batches_per_epoch(len(lengths), data.options.batch_size)
    return trainer, clock.seconds / max(clock.tokens, 1) * tokens
