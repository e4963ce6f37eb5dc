"""Lightning's Trainer for a run, with its callbacks; and one that only evaluates."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, Strategy
from omegaconf import DictConfig
from typing_extensions import override

from lx.config.instantiate import build
from lx.config.objective import checkpoint_metric
from lx.distributed.fsdp import ShardedStrategy
from lx.distributed.rank_info import RankInfo
from lx.run.directory import RunDirectory
from lx.system.hardware import Hardware
from lx.system.private_api import set_validation_steps, silence_device_lines, skip_sigterm_broadcast
from lx.system.signals import StopRequest
from lx.training.callbacks.checkpoint import Checkpoint
from lx.training.callbacks.ema import WeightAverage
from lx.training.callbacks.graceful_stop import GracefulStop
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import EvaluationBar, ProgressBar
from lx.training.callbacks.restore_loops import RestoreLoops
from lx.training.callbacks.verdict import AwaitVerdict
from lx.training.run_length import RunLength


def build_callbacks(
    run: RunDirectory, cfg: DictConfig, run_length: RunLength, step: int, stop: StopRequest, rank_info: RankInfo
) -> tuple[list[Callback], Checkpoint]:
    """The callbacks of every run, then those of ``cfg.callbacks``; the checkpoint callback also by itself.

    Args:
        run: where checkpoints go.
        cfg: the configuration.
        run_length: of the run.
        step: optimizer steps taken before, by a run that is resumed.
        stop: what the signal handler notes.
        rank_info: of this process.
    """
    trainer = cfg.trainer
    metric, mode = checkpoint_metric(cfg.objective)
    checkpoint = Checkpoint(
        run,
        objective=cfg.objective.metric,
        metric=metric,
        mode=mode,
        run_length=run_length,
        every_n_steps=trainer.save_every_n_steps,
        every_n_minutes=trainer.save_every_n_minutes,
        keep_best=trainer.keep_best,
    )
    metric_logger = MetricLogger(run_length)
    # A training state includes what the callbacks before the checkpoint have added up, this step included.
    callbacks: list[Callback] = [metric_logger]
    if rank_info.is_first:
        callbacks.append(ProgressBar(metric_logger, run_length))
    callbacks.append(checkpoint)
    if not run.resumption.exists() and run.verdict.exists():  # what lx resume goes on with is judged by no sweep
        callbacks.append(AwaitVerdict(run, cfg.objective.metric, run_length))
    callbacks.append(GracefulStop(stop, checkpoint))
    if trainer.ema_decay is not None:
        callbacks.append(WeightAverage(trainer.ema_decay))  # after the checkpoint, which keeps the average
    if (patience := trainer.early_stopping_patience) is not None:
        objective = cfg.objective
        callbacks.append(EarlyStopping(objective.metric, patience=patience, mode=objective.mode, check_finite=False))
    for name, node in cfg.callbacks.items():
        if node is not None:
            callbacks.append(build(node, f"callbacks.{name}", _convert_="all"))
    return [*callbacks, RestoreLoops(step, run_length)], checkpoint


def build_trainer(
    cfg: DictConfig,
    hardware: Hardware,
    run_length: RunLength,
    loggers: list[Any],
    callbacks: list[Callback],
    rank_info: RankInfo,
) -> Trainer:
    """Lightning's Trainer, for training and testing."""
    silence_device_lines()
    # Deterministic torch would fill memory that is written anyway.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    trainer = Trainer(
        accelerator=hardware.accelerator,
        devices=_devices(hardware),
        num_nodes=rank_info.world_size,  # see OneDeviceEnvironment
        strategy=_strategy(cfg, rank_info),
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        max_steps=run_length.total_steps,
        check_val_every_n_epoch=None,
        val_check_interval=max(run_length.total_steps, 1),  # run_length decides, below
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        deterministic=cfg.trainer.deterministic,
        logger=loggers or False,
        callbacks=callbacks,
        enable_checkpointing=False,  # lx writes its own
        enable_progress_bar=False,  # lx has its own
        enable_model_summary=False,
        default_root_dir=cfg.run_dir,  # where Lightning would look for checkpoints of its own, under Slurm
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # a loader serves one epoch, or what a resumed run has left of it
        use_distributed_sampler=False,  # lx's samplers decide which rank gets which example
        inference_mode=cfg.hardware.strategy != "fsdp",  # weights gathered in inference mode cannot be sharded again
        plugins=[OneDeviceEnvironment() if rank_info.world_size > 1 else LightningEnvironment()],
    )
    skip_sigterm_broadcast(trainer)
    set_validation_steps(trainer, run_length.validates_after)
    return trainer


def _strategy(cfg: DictConfig, rank_info: RankInfo) -> Strategy | str:
    if rank_info.world_size == 1:
        return "auto"
    if cfg.hardware.strategy == "fsdp":
        return ShardedStrategy(rank_info.world_size)
    # find_unused_parameters: torch then keeps its buckets, so that gradients are added up in the same order from the
    # first step on and after a resumption. broadcast_buffers: evaluations take unequal numbers of steps on the ranks.
    return DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False)


class OneDeviceEnvironment(TorchElasticEnvironment):
    """The ranks as Lightning sees them, each a machine with one device.

    lx chooses the device of a rank. Its number need not be the rank's on this machine: under srun a rank may see one
    GPU alone, which is then number 0.
    """

    @override
    def local_rank(self) -> int:
        return 0


def _devices(hardware: Hardware) -> list[int] | int:
    return 1 if hardware.index is None else [hardware.index]


def evaluation_trainer(hardware: Hardware, rank_info: RankInfo) -> Trainer:
    """A Trainer that only evaluates, on the one device of this process; metrics meet those of other ranks."""
    silence_device_lines()
    return Trainer(
        accelerator=hardware.accelerator,
        devices=_devices(hardware),
        precision=hardware.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,  # lx has its own
        enable_model_summary=False,
        callbacks=[EvaluationBar()] if rank_info.is_first else [],
        use_distributed_sampler=False,
        plugins=[LightningEnvironment()],
    )
