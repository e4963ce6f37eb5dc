"""From config nodes to the parts of a run: data, task, network, module, callbacks, trainer."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import Strategy
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lx.config.instantiate import build
from lx.config.schema import DataSettings
from lx.data.datamodule import LoaderOptions, TextDataModule
from lx.distributed.exchange import ReplicatedStrategy
from lx.distributed.fsdp import ShardedStrategy
from lx.distributed.process_group import Place
from lx.errors import LxError, did_you_mean
from lx.nn.vectors import load_word_vectors
from lx.optim.groups import parameter_groups
from lx.run.directory import RunDirectory
from lx.system.hardware import Hardware
from lx.system.signals import StopRequest
from lx.tasks.base import Task
from lx.training.callbacks.checkpoint import Checkpoint
from lx.training.callbacks.ema import WeightAverage
from lx.training.callbacks.graceful_stop import StopOnSignal
from lx.training.callbacks.metric_logger import MetricLogger
from lx.training.callbacks.progress_bar import Progress
from lx.training.callbacks.restore_loops import Resume
from lx.training.module import TextClassifier
from lx.training.nonfinite import FiniteGuard
from lx.training.run_length import Timetable

log = logging.getLogger(__name__)


def build_data(cfg: DictConfig, place: Place) -> TextDataModule:
    """The data module of ``cfg.data`` and ``cfg.tokenizer``; nothing is read yet."""
    flat = {name: cfg.data[name] for name in DataSettings.__dataclass_fields__}
    loaders = LoaderOptions(
        seed=cfg.seed,
        micro_batch=None if cfg.hardware.micro_batch == "auto" else cfg.hardware.micro_batch,
        num_workers=cfg.hardware.num_workers,
        place=place,
        limit_train_batches=cfg.trainer.limit_train_batches,
        limit_eval_batches=cfg.trainer.limit_eval_batches,
    )
    source = build(cfg.data.source, "data.source", _convert_="all")
    return TextDataModule(source, build(cfg.tokenizer, "tokenizer"), DataSettings(**flat), loaders)


def build_task(cfg: DictConfig, data: TextDataModule) -> Task:
    """The task of ``cfg.task`` for the classes of the data."""
    task: Task = build(cfg.task, "task")(class_names=list(data.corpus.class_names), class_counts=data.class_counts)
    return task


def build_net(cfg: DictConfig, data: TextDataModule, task: Task) -> nn.Module:
    """The network of ``cfg.model``, its word embeddings filled from a file if one is named."""
    net: nn.Module = build(
        cfg.model,
        "model",
        vocab_size=data.tokenizer.vocab_size,
        num_outputs=task.num_outputs,
        num_token_types=data.num_token_types,
    )
    longest = getattr(net, "max_length", None)
    if longest is not None and cfg.data.max_length > longest:
        raise LxError(f"data.max_length={cfg.data.max_length} goes beyond the {longest} positions of {cfg.model.path}")
    if path := cfg.model.get("vectors"):
        coverage = load_word_vectors(net, path, data.tokenizer.tokens())  # type: ignore[arg-type]
        log.info(
            "word vectors from %s: %d of %d tokens found (%.1f%%)",
            path,
            coverage.found,
            coverage.total,
            100 * coverage.share,
        )
    if cfg.hardware.compile:
        net.compile(dynamic=True)  # one program for batches of all lengths
    return net


def timetable(cfg: DictConfig, data: TextDataModule) -> Timetable:
    """The length of the run and of its parts, from the plan of its batches."""
    per_epoch = data.steps_per_epoch
    return Timetable(
        steps_per_epoch=per_epoch,
        total_steps=cfg.trainer.max_steps or cfg.trainer.max_epochs * per_epoch,
        validation_interval=cfg.trainer.val_check_interval or cfg.trainer.check_val_every_n_epoch * per_epoch,
    )


def build_module(cfg: DictConfig, data: TextDataModule, net: nn.Module, task: Task) -> TextClassifier:
    """The LightningModule with the optimizer of ``cfg.optimizer`` and the schedule of ``cfg.scheduler``."""
    _check_objective(cfg.objective.metric, task)

    def optimizer(net: nn.Module) -> Optimizer:
        groups = parameter_groups(net, cfg.optimizer.weight_decay)
        built: Optimizer = build(cfg.optimizer, "optimizer")(groups)
        return built

    def schedule(optimizer: Optimizer) -> LRScheduler:
        total_steps = timetable(cfg, data).total_steps
        built: LRScheduler = build(cfg.scheduler, "scheduler")(optimizer, total_steps=total_steps)
        return built

    guard = FiniteGuard(cfg.trainer.on_nan)
    return TextClassifier(net, task, optimizer, schedule, cfg.trainer.gradient_clip_val, guard, cfg.seed)


def _check_objective(metric: str, task: Task) -> None:
    """Refuse an objective that no validation will measure, before training: one made-up example shows the names."""
    metrics = task.metrics()
    metrics.update(torch.zeros(1, task.num_outputs), torch.zeros(1, dtype=torch.long))
    known = sorted(f"val/{name}" for name in task.summarise(metrics.compute()).scalars)
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise LxError(f"objective.metric={metric} is not measured{hint}; there are: {', '.join(known)}")


def build_callbacks(
    run: RunDirectory, cfg: DictConfig, times: Timetable, step: int, stop: StopRequest, place: Place
) -> tuple[list[Callback], Checkpoint]:
    """The callbacks of every run, then those of ``cfg.callbacks``; the checkpoint callback also by itself.

    Args:
        run: where checkpoints go.
        cfg: the configuration.
        times: of the run.
        step: optimizer steps taken before, by a run that is resumed.
        stop: what the signal handler notes.
        place: of this process.
    """
    trainer = cfg.trainer
    checkpoint = Checkpoint(
        run,
        cfg.objective.metric,
        cfg.objective.mode,
        times,
        trainer.save_every_n_steps,
        trainer.save_every_n_minutes,
        trainer.keep_best,
    )
    callbacks: list[Callback] = [Progress()] if place.is_first else []
    # A training state holds what the callbacks before the checkpoint made of the step.
    callbacks += [MetricLogger(), checkpoint, StopOnSignal(stop, checkpoint)]
    if trainer.ema_decay is not None:
        callbacks.append(WeightAverage(trainer.ema_decay))  # after the checkpoint, which keeps the average
    if trainer.early_stopping_patience is not None:
        patience = trainer.early_stopping_patience
        callbacks.append(
            EarlyStopping(cfg.objective.metric, patience=patience, mode=cfg.objective.mode, check_finite=False)
        )
    for name, node in cfg.callbacks.items():
        if node is not None:
            callbacks.append(build(node, f"callbacks.{name}", _convert_="all"))
    return [*callbacks, Resume(step, times)], checkpoint


def build_trainer(
    cfg: DictConfig, here: Hardware, times: Timetable, loggers: list[Any], callbacks: list[Callback], place: Place
) -> Trainer:
    """Lightning's Trainer, for training and testing."""
    trainer = Trainer(
        accelerator=here.accelerator,
        devices=place.local_world_size,
        num_nodes=place.num_nodes,
        strategy=_strategy(cfg, place),
        precision=here.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        max_steps=times.total_steps,
        check_val_every_n_epoch=None,
        val_check_interval=times.validation_interval,
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        deterministic=cfg.trainer.deterministic,
        logger=loggers or False,
        callbacks=callbacks,
        enable_checkpointing=False,  # lx writes its own
        enable_progress_bar=place.is_first,
        enable_model_summary=False,
        default_root_dir=cfg.run_dir,  # where Lightning would look for checkpoints of its own, under Slurm
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # a loader serves one epoch, or what a resumed run has left of it
        use_distributed_sampler=False,  # lx's samplers decide who gets which example
        plugins=[_environment(place)],
    )
    # Lightning asks all ranks at every step whether one was told to stop, and waits for the answer of the device; lx
    # asks in passing.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


def _strategy(cfg: DictConfig, place: Place) -> Strategy | str:
    if cfg.hardware.strategy == "fsdp":
        return ShardedStrategy(place.world_size)
    if place.world_size == 1:
        return "auto"
    # Those of lx and torch move each parameter by itself; another may look at all of them.
    return ReplicatedStrategy(place, divides_steps=cfg.optimizer._target_.startswith(("lx.", "torch.")))


def _environment(place: Place) -> ClusterEnvironment:
    """What Lightning believes of its surroundings: what lx found out, whatever else it might find."""
    return TorchElasticEnvironment() if place.world_size > 1 else LightningEnvironment()


def evaluation_trainer(here: Hardware, place: Place) -> Trainer:
    """A Trainer that only evaluates, on the one device of this process; metrics meet those of other ranks."""
    return Trainer(
        accelerator=here.accelerator,
        devices=1 if here.index is None else [here.index],
        precision=here.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=place.is_first,
        enable_model_summary=False,
        callbacks=[Progress()] if place.is_first else [],
        use_distributed_sampler=False,
        plugins=[LightningEnvironment()],
    )
