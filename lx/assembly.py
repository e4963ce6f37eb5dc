"""From config nodes to the parts of a run: data, task, network, module, callbacks, trainer."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lx.callbacks.checkpoint import Checkpoint
from lx.callbacks.ema import WeightAverage
from lx.callbacks.metrics import MetricLogger
from lx.callbacks.progress import Progress
from lx.callbacks.stop import StopOnSignal
from lx.data.datamodule import LoaderOptions, TextDataModule
from lx.errors import LxError, did_you_mean
from lx.hardware import Hardware
from lx.module import TextClassifier
from lx.nn.vectors import load_word_vectors
from lx.optim.groups import parameter_groups
from lx.run import RunDirectory
from lx.schema import DataSettings
from lx.stop import StopRequest
from lx.targets import build
from lx.tasks.task import Task

log = logging.getLogger(__name__)


def build_data(cfg: DictConfig) -> TextDataModule:
    """The data module of ``cfg.data`` and ``cfg.tokenizer``; nothing is read yet."""
    flat = {name: cfg.data[name] for name in DataSettings.__dataclass_fields__}
    loaders = LoaderOptions(
        seed=cfg.seed,
        micro_batch=cfg.hardware.micro_batch,
        num_workers=cfg.hardware.num_workers,
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
    return net


def total_steps(cfg: DictConfig, data: TextDataModule) -> int:
    """Optimizer steps of the whole run, from the plan of its batches."""
    return int(cfg.trainer.max_steps or cfg.trainer.max_epochs * data.steps_per_epoch)


def build_module(cfg: DictConfig, data: TextDataModule, net: nn.Module, task: Task) -> TextClassifier:
    """The LightningModule with the optimizer of ``cfg.optimizer`` and the schedule of ``cfg.scheduler``."""
    _check_objective(cfg.objective.metric, task)

    def optimizer(net: nn.Module) -> Optimizer:
        groups = parameter_groups(net, cfg.optimizer.weight_decay)
        built: Optimizer = build(cfg.optimizer, "optimizer")(groups)
        return built

    def schedule(optimizer: Optimizer) -> LRScheduler:
        built: LRScheduler = build(cfg.scheduler, "scheduler")(optimizer, total_steps=total_steps(cfg, data))
        return built

    return TextClassifier(net, task, optimizer, schedule, cfg.trainer.gradient_clip_val)


def _check_objective(metric: str, task: Task) -> None:
    """Refuse an objective that no validation will measure, before training: one made-up example shows the names."""
    metrics = task.metrics()
    metrics.update(torch.zeros(1, task.num_outputs), torch.zeros(1, dtype=torch.long))
    known = sorted(f"val/{name}" for name in task.summarise(metrics.compute()).scalars)
    if metric not in known:
        hint = did_you_mean(metric, known)
        raise LxError(f"objective.metric={metric} is not measured{hint}; there are: {', '.join(known)}")


def build_callbacks(run: RunDirectory, cfg: DictConfig, stop: StopRequest) -> tuple[list[Callback], Checkpoint]:
    """The callbacks of every run, then those of ``cfg.callbacks``; the checkpoint callback also by itself."""
    checkpoint = Checkpoint(run, cfg.objective.metric, cfg.objective.mode)
    callbacks: list[Callback] = [Progress(), MetricLogger(), StopOnSignal(stop, checkpoint), checkpoint]
    if cfg.trainer.ema_decay is not None:
        callbacks.append(WeightAverage(cfg.trainer.ema_decay))  # after the checkpoint, which keeps the average
    if cfg.trainer.early_stopping_patience is not None:
        patience = cfg.trainer.early_stopping_patience
        callbacks.append(
            EarlyStopping(cfg.objective.metric, patience=patience, mode=cfg.objective.mode, check_finite=False)
        )
    for name, node in cfg.callbacks.items():
        if node is not None:
            callbacks.append(build(node, f"callbacks.{name}", _convert_="all"))
    return callbacks, checkpoint


def build_trainer(cfg: DictConfig, here: Hardware, loggers: list[Any], callbacks: list[Callback]) -> Trainer:
    """Lightning's Trainer, for training and testing."""
    by_steps = cfg.trainer.val_check_interval
    return Trainer(
        accelerator=here.accelerator,
        devices=cfg.hardware.devices,
        num_nodes=cfg.hardware.num_nodes,
        strategy=cfg.hardware.strategy,
        precision=here.precision,  # type: ignore[arg-type]
        max_epochs=-1 if cfg.trainer.max_steps else cfg.trainer.max_epochs,
        max_steps=cfg.trainer.max_steps or -1,
        check_val_every_n_epoch=None if by_steps else cfg.trainer.check_val_every_n_epoch,
        val_check_interval=by_steps,
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        deterministic=cfg.trainer.deterministic,
        logger=loggers or False,
        callbacks=callbacks,
        enable_checkpointing=False,  # lx writes its own
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # lx's samplers decide who gets which example
    )


def evaluation_trainer(here: Hardware) -> Trainer:
    """A Trainer that only evaluates, on one device."""
    return Trainer(
        accelerator=here.accelerator,
        devices=1,
        precision=here.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[Progress()],
        use_distributed_sampler=False,
    )
